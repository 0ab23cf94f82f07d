//! Attention against a plain f64 version: encoders with several sequences; the decoder with groups, caches, chunks and segments.

use super::{KvRows, attention_cached, attention_f32};
use crate::Isa;
use crate::testing::{Random, assert_close, assert_same_bits};

/// One query over some rows of keys and values.
fn naive(query: &[f32], rows: &[(Vec<f64>, Vec<f64>)]) -> Vec<f64> {
    let scale = 1.0 / (query.len() as f64).sqrt();
    let score = |key: &[f64]| query.iter().zip(key).map(|(&q, &k)| f64::from(q) * k).sum::<f64>() * scale;
    let scores: Vec<f64> = rows.iter().map(|(key, _)| score(key)).collect();
    let largest = scores.iter().copied().fold(f64::MIN, f64::max);
    let weights: Vec<f64> = scores.iter().map(|score| (score - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    let value =
        |dimension: usize| rows.iter().zip(&weights).map(|((_, value), weight)| value[dimension] * weight / sum).sum();
    (0..query.len()).map(value).collect()
}

#[test]
fn tokens_of_a_sequence_see_each_other_and_no_others() {
    let mut random = Random::new(1);
    // Around a block of 32 queries; heads of a length that is no vector.
    for (num_heads, head_dim, lengths) in
        [(1, 5, vec![1]), (2, 8, vec![31, 32, 33]), (3, 20, vec![0, 70, 2]), (2, 4, vec![])]
    {
        let tokens: usize = lengths.iter().sum();
        let width = num_heads * head_dim;
        let [q, k, v] = [(); 3].map(|()| random.vec(tokens * width));
        let mut expected = vec![0.0; tokens * width];
        let mut first = 0;
        for &len in &lengths {
            for head in 0..num_heads {
                let row = |x: &[f32], token: usize| x[token * width + head * head_dim..][..head_dim].to_vec();
                let wide = |x: Vec<f32>| x.into_iter().map(f64::from).collect::<Vec<f64>>();
                let rows: Vec<_> =
                    (first..first + len).map(|token| (wide(row(&k, token)), wide(row(&v, token)))).collect();
                for token in first..first + len {
                    let result = naive(&row(&q, token), &rows);
                    expected[token * width + head * head_dim..][..head_dim].copy_from_slice(&result);
                }
            }
            first += len;
        }
        for isa in Isa::available() {
            let mut out = vec![f32::NAN; tokens * width];
            attention_f32(isa, &q, &k, &v, num_heads, head_dim, &lengths, &mut out);
            assert_close(&out, &expected, 2e-6, &format!("{}, {num_heads} heads, {lengths:?}", isa.name()));
        }
    }
}

/// A cache of one layer, of each kind.
struct Cache {
    f32: Vec<Vec<f32>>,
    codes: Vec<Vec<i8>>,
    scales: Vec<Vec<f32>>,
    head_dim: usize,
}

impl Cache {
    fn new(random: &mut Random, num_kv_heads: usize, tokens: usize, head_dim: usize) -> Cache {
        let mut heads = |count: usize| (0..2 * num_kv_heads).map(|_| random.vec(count)).collect::<Vec<_>>();
        let f32 = heads(tokens * head_dim);
        let scales: Vec<Vec<f32>> =
            heads(tokens).into_iter().map(|scales| scales.iter().map(|s| (s.abs() + 0.1) / 128.0).collect()).collect();
        // All codes from -128 to 127: a static scale uses the whole range.
        let codes = f32.iter().map(|head| head.iter().map(|x| (x * 128.0).floor() as i8).collect()).collect();
        Cache { f32, codes, scales, head_dim }
    }

    fn rows(&self, kind: usize, index: usize) -> KvRows<'_> {
        match kind {
            0 => KvRows::F32(&self.f32[index]),
            1 => KvRows::I8 { codes: &self.codes[index], scales: &self.scales[index] },
            _ => KvRows::I8Static { codes: &self.codes[index], scale: 0.01 },
        }
    }

    fn heads(&self, kind: usize) -> Vec<(KvRows<'_>, KvRows<'_>)> {
        (0..self.f32.len() / 2).map(|head| (self.rows(kind, 2 * head), self.rows(kind, 2 * head + 1))).collect()
    }

    fn row(&self, kind: usize, index: usize, token: usize) -> Vec<f64> {
        let range = token * self.head_dim..(token + 1) * self.head_dim;
        match kind {
            0 => self.f32[index][range].iter().map(|&x| f64::from(x)).collect(),
            1 => {
                self.codes[index][range].iter().map(|&q| f64::from(f32::from(q) * self.scales[index][token])).collect()
            }
            _ => self.codes[index][range].iter().map(|&q| f64::from(f32::from(q) * 0.01)).collect(),
        }
    }
}

#[test]
fn queries_see_the_cache_up_to_their_own_position_and_share_their_group_of_heads() {
    let mut random = Random::new(2);
    // Around a panel of 32 rows and a tile of 128; one token (decoding) and many (prefill).
    for (num_heads, num_kv_heads, head_dim, first_position, tokens) in [
        (1, 1, 6, 0, 1),
        (4, 2, 32, 0, 65),
        (4, 2, 32, 63, 1),
        (4, 2, 32, 31, 2),
        (6, 2, 20, 64, 40),
        (2, 2, 128, 126, 4),
    ] {
        let cache = Cache::new(&mut random, num_kv_heads, first_position + tokens + 2, head_dim);
        let width = num_heads * head_dim;
        let queries = random.vec(tokens * width);
        let ids: Vec<i64> = (0..first_position + tokens + 2).map(|token| (token % 3) as i64).collect();
        for kind in 0..3 {
            for segment_ids in [None, Some(&ids[..])] {
                let mut expected = Vec::new();
                for token in 0..tokens {
                    for head in 0..num_heads {
                        let kv_head = head / (num_heads / num_kv_heads);
                        let position = first_position + token;
                        let visible =
                            (0..=position).filter(|&row| segment_ids.is_none_or(|ids| ids[row] == ids[position]));
                        let rows: Vec<_> = visible
                            .map(|row| (cache.row(kind, 2 * kv_head, row), cache.row(kind, 2 * kv_head + 1, row)))
                            .collect();
                        expected.extend(naive(&queries[token * width + head * head_dim..][..head_dim], &rows));
                    }
                }
                let run = |isa: Isa, tokens: std::ops::Range<usize>| {
                    let queries = &queries[tokens.start * width..tokens.end * width];
                    let mut out = vec![f32::NAN; queries.len()];
                    let first = first_position + tokens.start;
                    attention_cached(
                        isa,
                        queries,
                        first,
                        &cache.heads(kind),
                        num_heads,
                        head_dim,
                        segment_ids,
                        &mut out,
                    );
                    out
                };
                let portable = run(Isa::PORTABLE, 0..tokens);
                let what = format!("{num_heads} heads, {tokens} tokens from {first_position}, kind {kind}");
                // Where each token has its scale, queries and shares have 16 bits.
                assert_close(&portable, &expected, if kind == 1 { 2e-5 } else { 3e-6 }, &what);
                for isa in Isa::available() {
                    assert_same_bits(&run(isa, 0..tokens), &portable, &format!("{}, {what}", isa.name()));
                    let chunks = [run(isa, 0..tokens / 2), run(isa, tokens / 2..tokens)].concat();
                    assert_same_bits(&chunks, &portable, &format!("{} in two chunks, {what}", isa.name()));
                }
            }
        }
    }
}

#[test]
#[should_panic(expected = "the cache holds 3 tokens, expected at least 4")]
fn a_cache_without_the_new_tokens_is_refused() {
    let rows = [0.0; 6];
    let heads = [(KvRows::F32(&rows), KvRows::F32(&rows))];
    attention_cached(Isa::PORTABLE, &[0.0; 2], 3, &heads, 1, 2, None, &mut [0.0; 2]);
}

//! Attention of the decoder: causal, grouped queries, over the rows of a key-value cache.

use crate::Isa;
use crate::isa::for_each_isa;
use crate::lanes;
use crate::parallel::map;
use crate::softmax::exponentials;

/// Keys or values of one head, one row of `head_dim` for each cached token.
#[derive(Debug, Clone, Copy)]
pub enum KvRows<'a> {
    /// As they were computed: `[tokens, head_dim]`.
    F32(&'a [f32]),
    /// 8-bit codes `[tokens, head_dim]` with a scale for each token, `[tokens]`.
    I8 {
        /// `[tokens, head_dim]`.
        codes: &'a [i8],
        /// `[tokens]`.
        scales: &'a [f32],
    },
    /// 8-bit codes `[tokens, head_dim]` with one scale for all.
    I8Static {
        /// `[tokens, head_dim]`.
        codes: &'a [i8],
        /// The scale of every code.
        scale: f32,
    },
}

impl KvRows<'_> {
    /// The number of cached tokens.
    fn num_tokens(&self, head_dim: usize) -> usize {
        match self {
            KvRows::F32(rows) => rows.len() / head_dim,
            KvRows::I8 { codes, scales } => scales.len().min(codes.len() / head_dim),
            KvRows::I8Static { codes, .. } => codes.len() / head_dim,
        }
    }
}

/// Cached rows that are turned into f32 at a time, for all queries of a block: 64 rows of 128 are 32 kB.
const ROW_TILE: usize = 64;

/// Columns of the result that are summed up together: 4 vectors of 8.
const COLUMN_BLOCK: usize = 32;

/// Scores that are alive at once in a job: 256 kB.
const MAX_SCORES: usize = 1 << 16;

/// Work below this many products runs on the calling thread.
const PARALLEL_PRODUCTS: usize = 200_000;

/// Attention of new tokens over a cache that already holds them. `queries` and `out` are `[tokens, num_heads * head_dim]`; query i has
/// position `first_position + i` and sees the rows `0..=first_position + i` of the cache; `kv_heads` holds keys and values of each
/// key-value head, and query head h reads head `h / (num_heads / num_kv_heads)`. With `segment_ids` (one for each cached token) a query sees
/// only tokens of its own segment.
///
/// Codes are turned into f32 (code times scale) and everything is computed in f32, in an order that is the same on every instruction
/// set, for any number of threads and of tokens in the call.
///
/// # Panics
/// If the lengths do not fit, or the cache has fewer than `first_position + tokens` rows.
pub fn attention_cached(
    isa: Isa,
    queries: &[f32],
    first_position: usize,
    kv_heads: &[(KvRows<'_>, KvRows<'_>)],
    num_heads: usize,
    head_dim: usize,
    segment_ids: Option<&[i64]>,
    out: &mut [f32],
) {
    assert_eq!(queries.len(), out.len(), "queries have {} elements, the result {}", queries.len(), out.len());
    if queries.is_empty() {
        return;
    }
    let width = num_heads * head_dim;
    let tokens = queries.len() / width;
    assert_eq!(queries.len(), tokens * width, "queries have {} elements, not a multiple of {width}", queries.len());
    assert!(num_heads.is_multiple_of(kv_heads.len()), "{num_heads} heads over {} key-value heads", kv_heads.len());
    let num_rows = first_position + tokens;
    for (keys, values) in kv_heads {
        let cached = keys.num_tokens(head_dim).min(values.num_tokens(head_dim));
        assert!(cached >= num_rows, "the cache holds {cached} tokens, expected at least {num_rows}");
    }
    if let Some(ids) = segment_ids {
        assert!(ids.len() >= num_rows, "there are {} segment ids, expected at least {num_rows}", ids.len());
    }
    let group = num_heads / kv_heads.len();
    // A job is some tokens of one key-value head: all query heads of that head share the rows that are turned into f32.
    let tokens_per_job = (MAX_SCORES / (group * num_rows)).clamp(1, 16);
    let starts = (0..tokens).step_by(tokens_per_job);
    let jobs: Vec<(usize, usize)> =
        starts.flat_map(|first| (0..kv_heads.len()).map(move |kv_head| (first, kv_head))).collect();
    let run = |(first, kv_head): (usize, usize)| {
        let count = tokens_per_job.min(tokens - first);
        let columns = kv_head * group * head_dim..(kv_head + 1) * group * head_dim;
        let rows = queries[first * width..(first + count) * width].chunks_exact(width);
        let scale = 1.0 / (head_dim as f32).sqrt();
        let block: Vec<f32> = rows.flat_map(|row| &row[columns.clone()]).map(|query| query * scale).collect();
        let (keys, values) = kv_heads[kv_head];
        let mut result = vec![0.0; block.len()];
        let mut scores = vec![0.0; count * group * (first_position + first + count)];
        let job = Job { first_position: first_position + first, group, head_dim, keys, values, segment_ids };
        attend(isa, job, &block, &mut scores, &mut result);
        result
    };
    let products = queries.len().saturating_mul(num_rows);
    let results: Vec<Vec<f32>> = if products < PARALLEL_PRODUCTS {
        jobs.iter().copied().map(run).collect()
    } else {
        map(jobs.clone(), run)
    };
    for ((first, kv_head), result) in jobs.into_iter().zip(results) {
        let columns = kv_head * group * head_dim..(kv_head + 1) * group * head_dim;
        let rows = out[first * width..].chunks_exact_mut(width);
        for (row, result) in rows.zip(result.chunks_exact(group * head_dim)) {
            row[columns.clone()].copy_from_slice(result);
        }
    }
}

/// Some tokens of one key-value head.
#[derive(Clone, Copy)]
struct Job<'a> {
    first_position: usize,
    group: usize,
    head_dim: usize,
    keys: KvRows<'a>,
    values: KvRows<'a>,
    segment_ids: Option<&'a [i64]>,
}

impl Job<'_> {
    /// Whether the token at `position` sees the row of the cache.
    #[inline(always)]
    fn sees(&self, position: usize, row: usize) -> bool {
        row <= position && self.segment_ids.is_none_or(|ids| ids[row] == ids[position])
    }
}

for_each_isa! {
    /// `queries` and `out` are `[tokens, group, head_dim]`, `scores` `[tokens * group, rows of the last token]`.
    fn attend(job: Job<'_>, queries: &[f32], scores: &mut [f32], out: &mut [f32]) {
        let Job { first_position, group, head_dim, .. } = job;
        let num_queries = queries.len() / head_dim;
        let num_rows = scores.len() / num_queries;
        let mut tile = vec![0.0; ROW_TILE.min(num_rows) * head_dim];
        for first_row in (0..num_rows).step_by(ROW_TILE) {
            let count = ROW_TILE.min(num_rows - first_row);
            let tile = to_f32(job.keys, first_row, count, head_dim, &mut tile);
            for (query, (scores, values)) in scores.chunks_exact_mut(num_rows).zip(queries.chunks_exact(head_dim)).enumerate() {
                let position = first_position + query / group;
                for (index, key) in tile.chunks_exact(head_dim).enumerate() {
                    let row = first_row + index;
                    scores[row] = if job.sees(position, row) { lanes::dot(values, key) } else { f32::NEG_INFINITY };
                }
            }
        }
        let mut sums = vec![0.0; num_queries];
        for (query, (scores, sum)) in scores.chunks_exact_mut(num_rows).zip(&mut sums).enumerate() {
            // Rows after the token's own are left out, so that the sum does not depend on the tokens beside it.
            *sum = exponentials(&mut scores[..=first_position + query / group], f32::NEG_INFINITY).1;
        }
        for first_row in (0..num_rows).step_by(ROW_TILE) {
            let count = ROW_TILE.min(num_rows - first_row);
            let tile = to_f32(job.values, first_row, count, head_dim, &mut tile);
            for (query, (scores, out)) in scores.chunks_exact(num_rows).zip(out.chunks_exact_mut(head_dim)).enumerate() {
                let visible = (first_position + query / group + 1).saturating_sub(first_row).min(count);
                let scores = &scores[first_row..first_row + visible];
                let (blocks, rest) = out.as_chunks_mut::<COLUMN_BLOCK>();
                let num_blocks = blocks.len();
                for (block, out) in blocks.iter_mut().enumerate() {
                    // In registers for all rows of the tile.
                    let mut sums = *out;
                    for (&score, value) in scores.iter().zip(tile.chunks_exact(head_dim)) {
                        let value = &value[block * COLUMN_BLOCK..(block + 1) * COLUMN_BLOCK];
                        sums.iter_mut().zip(value).for_each(|(sum, value)| *sum += score * value);
                    }
                    *out = sums;
                }
                for (&score, value) in scores.iter().zip(tile.chunks_exact(head_dim)) {
                    let value = &value[num_blocks * COLUMN_BLOCK..];
                    rest.iter_mut().zip(value).for_each(|(out, value)| *out += score * value);
                }
            }
        }
        for (out, sum) in out.chunks_exact_mut(head_dim).zip(&sums) {
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|value| *value *= inverse);
        }
    }
}

/// Some rows as f32: in place for f32, otherwise in `buffer`.
#[inline(always)]
fn to_f32<'a>(rows: KvRows<'a>, first: usize, count: usize, head_dim: usize, buffer: &'a mut [f32]) -> &'a [f32] {
    let range = first * head_dim..(first + count) * head_dim;
    let buffer = match rows {
        KvRows::F32(rows) => return &rows[range],
        KvRows::I8 { codes, scales } => {
            let rows = codes[range].chunks_exact(head_dim).zip(&scales[first..]);
            for (out, (codes, scale)) in buffer.chunks_exact_mut(head_dim).zip(rows) {
                out.iter_mut().zip(codes).for_each(|(out, &code)| *out = f32::from(code) * scale);
            }
            buffer
        }
        KvRows::I8Static { codes, scale } => {
            buffer.iter_mut().zip(&codes[range]).for_each(|(out, &code)| *out = f32::from(code) * scale);
            buffer
        }
    };
    &buffer[..count * head_dim]
}

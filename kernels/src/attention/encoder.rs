//! Attention of encoders: every token of a sequence sees every token of it, and no other sequence.
//!
//! ```text
//! for each sequence and head:       keys transposed, values: [head_dim, tokens], [tokens, head_dim]
//! for each block of queries, head:  for each block of keys:
//!                                       s = q k^T                     [queries, keys of the block]
//!                                       m' = max(m, max s)            the largest score so far
//!                                       p = e^(s - m')
//!                                       l, o = l e^(m - m') + sum p,  o e^(m - m') + p v
//!                                   out = o / l
//! ```
//!
//! The softmax streams (Milakov and Gimelshein, arXiv 1805.02867; FlashAttention, arXiv 2205.14135): there is no matrix of all scores.

use std::ops::Range;

use super::product::{COLUMNS, ROWS, add_product};
use crate::Isa;
use crate::aligned::AlignedVec;
use crate::isa::for_each_isa;
use crate::parallel::{for_each, map, piece_len};
use crate::softmax::exponentials;

/// Queries of a block: a multiple of [`ROWS`].
const QUERY_BLOCK: usize = 32;

/// Keys of a block at most: with a block of queries, 40 kB of scores. A window of 16 x 16 patches and its registers is one block.
const KEY_BLOCK: usize = 320;

/// Multi-head attention without a mask. `queries`, `keys`, `values` and `out` are `[tokens, num_heads * head_dim]`; the first
/// `sequence_lengths[0]` tokens are one sequence, the next `sequence_lengths[1]` another.
///
/// The same bits on every instruction set and for any number of threads.
///
/// # Panics
/// If the slices have different lengths, or the sequences are not all tokens.
pub fn attention_f32(
    isa: Isa,
    queries: &[f32],
    keys: &[f32],
    values: &[f32],
    num_heads: usize,
    head_dim: usize,
    sequence_lengths: &[usize],
    out: &mut [f32],
) {
    let width = num_heads * head_dim;
    let tokens: usize = sequence_lengths.iter().sum();
    for (what, len) in [("queries", queries.len()), ("keys", keys.len()), ("values", values.len()), ("out", out.len())]
    {
        assert_eq!(len, tokens * width, "{what} has {len} elements, expected [{tokens}, {width}]");
    }
    if out.is_empty() {
        return;
    }
    let mut first = 0;
    let sequences: Vec<Range<usize>> = sequence_lengths
        .iter()
        .map(|len| {
            first += len;
            first - len..first
        })
        .filter(|range| !range.is_empty())
        .collect();

    let pairs: Vec<(&Range<usize>, usize)> =
        sequences.iter().flat_map(|range| (0..num_heads).map(move |head| (range, head))).collect();
    let heads = map(pairs, |(range, head)| {
        let part = |x| part(x, range.clone(), head, width, head_dim);
        KeysAndValues::new(part(keys), part(values), range.len(), head_dim)
    });

    // Blocks of queries of one sequence: their rows of `out` lie together.
    let mut jobs = Vec::new();
    let mut rest = out;
    for (range, heads) in sequences.iter().zip(heads.chunks(num_heads)) {
        let (rows, after) = rest.split_at_mut(range.len() * width);
        rest = after;
        let block = piece_len(range.len(), QUERY_BLOCK).next_multiple_of(ROWS);
        for (index, rows) in rows.chunks_mut(block * width).enumerate() {
            let first = range.start + index * block;
            jobs.push((first..first + rows.len() / width, heads, rows));
        }
    }
    for_each(jobs, |(range, heads, out): (Range<usize>, &[KeysAndValues], &mut [f32])| {
        let mut scratch = Scratch::new(range.len(), heads[0].num_keys, head_dim);
        for (head, keys_and_values) in heads.iter().enumerate() {
            scratch.set_queries(part(queries, range.clone(), head, width, head_dim), head_dim);
            attend(isa, keys_and_values, &mut scratch);
            for (row, out) in out.chunks_exact_mut(width).enumerate() {
                out[head * head_dim..(head + 1) * head_dim].copy_from_slice(scratch.result(row, head_dim));
            }
        }
    });
}

/// The rows of one head of some tokens of `x`, `[tokens, width]`.
fn part(
    x: &[f32],
    tokens: Range<usize>,
    head: usize,
    width: usize,
    head_dim: usize,
) -> impl Iterator<Item = &[f32]> + Clone {
    x[tokens.start * width..tokens.end * width]
        .chunks_exact(width)
        .map(move |row| &row[head * head_dim..(head + 1) * head_dim])
}

/// One head of one sequence, in the layout of the products; what fills the last strips is 0.
struct KeysAndValues {
    num_keys: usize,
    /// Strips of 16 keys, `[head_dim][16]` each.
    keys: Vec<[f32; COLUMNS]>,
    /// Strips of 16 dimensions, `[num_keys][16]` each.
    values: Vec<[f32; COLUMNS]>,
}

impl KeysAndValues {
    fn new<'a>(
        keys: impl Iterator<Item = &'a [f32]>,
        values: impl Iterator<Item = &'a [f32]>,
        num_keys: usize,
        head_dim: usize,
    ) -> KeysAndValues {
        let mut key_strips = vec![[0.0; COLUMNS]; num_keys.div_ceil(COLUMNS) * head_dim];
        for (token, key) in keys.enumerate() {
            let strip = &mut key_strips[token / COLUMNS * head_dim..][..head_dim];
            strip.iter_mut().zip(key).for_each(|(strip, key)| strip[token % COLUMNS] = *key);
        }
        let mut value_strips = vec![[0.0; COLUMNS]; head_dim.div_ceil(COLUMNS) * num_keys];
        for (token, value) in values.enumerate() {
            for (strip, value) in value.chunks(COLUMNS).enumerate() {
                value_strips[strip * num_keys + token][..value.len()].copy_from_slice(value);
            }
        }
        KeysAndValues { num_keys, keys: key_strips, values: value_strips }
    }
}

/// Buffers for a block of queries; `rows` is the number of queries, up to a whole tile.
struct Scratch {
    rows: usize,
    key_block: usize,
    /// `[rows, head_dim]`.
    queries: Vec<f32>,
    /// `[rows, key_block]`, as far as the block goes.
    scores: AlignedVec<f32>,
    /// `[rows, value_stride]`.
    out: AlignedVec<f32>,
    value_stride: usize,
    /// Of each row: the largest score so far, and the sum of the exponentials.
    softmax: Vec<(f32, f32)>,
}

impl Scratch {
    fn new(num_queries: usize, num_keys: usize, head_dim: usize) -> Scratch {
        let (rows, value_stride) = (num_queries.next_multiple_of(ROWS), head_dim.next_multiple_of(COLUMNS));
        // Blocks of about the same length, and whole strips.
        let key_block = num_keys.div_ceil(num_keys.div_ceil(KEY_BLOCK)).next_multiple_of(COLUMNS);
        Scratch {
            rows,
            key_block,
            queries: Vec::new(),
            scores: AlignedVec::zeros(rows * key_block),
            out: AlignedVec::zeros(rows * value_stride),
            value_stride,
            softmax: vec![(0.0, 0.0); rows],
        }
    }

    /// Scales the queries by `1 / sqrt(head_dim)`, and forgets the result of the last head.
    fn set_queries<'a>(&mut self, queries: impl Iterator<Item = &'a [f32]>, head_dim: usize) {
        let scale = 1.0 / (head_dim as f32).sqrt();
        self.queries.clear();
        self.queries.extend(queries.flatten().map(|query| query * scale));
        self.queries.resize(self.rows * head_dim, 0.0);
        self.out.fill(0.0);
        self.softmax.fill((f32::NEG_INFINITY, 0.0));
    }

    fn result(&self, row: usize, head_dim: usize) -> &[f32] {
        &self.out[row * self.value_stride..][..head_dim]
    }
}

for_each_isa! {
    /// `scratch.out = softmax(queries keys^T) values` of one head.
    fn attend(head: &KeysAndValues, scratch: &mut Scratch) {
        let &mut Scratch { rows, key_block, ref queries, ref mut scores, ref mut out, value_stride, ref mut softmax } = scratch;
        let head_dim = queries.len() / rows;
        for first in (0..head.num_keys).step_by(key_block) {
            let count = key_block.min(head.num_keys - first);
            let stride = count.next_multiple_of(COLUMNS);
            let scores = &mut scores[..rows * stride];
            scores.fill(0.0);
            let keys = head.keys[first / COLUMNS * head_dim..].chunks_exact(head_dim);
            add_product(queries, head_dim, keys, scores, stride);
            for ((scores, out), (largest, sum)) in
                scores.chunks_exact_mut(stride).zip(out.chunks_exact_mut(value_stride)).zip(&mut *softmax)
            {
                let (scores, padding) = scores.split_at_mut(count);
                let (block_largest, block_sum) = exponentials(scores, *largest);
                padding.fill(0.0);
                if block_largest > *largest && first > 0 {
                    let factor = crate::activation::exp(*largest - block_largest);
                    *sum *= factor;
                    out.iter_mut().for_each(|out| *out *= factor);
                }
                *largest = block_largest;
                *sum += block_sum;
            }
            let values = head.values.chunks_exact(head.num_keys).map(|strip| &strip[first..first + count]);
            add_product(scores, stride, values, out, value_stride);
        }
        for (out, (_, sum)) in out.chunks_exact_mut(value_stride).zip(&*softmax) {
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|out| *out *= inverse);
        }
    }
}

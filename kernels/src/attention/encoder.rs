//! Attention of encoders: every token of a sequence sees every token of it, and no other sequence.

use std::ops::Range;

use rayon::prelude::*;

use crate::Isa;
use crate::matmul::matmul_f32;
use crate::softmax::softmax;

/// Queries whose scores are alive at once: 32 rows of 2304 keys (a grid of 48 x 48) are 288 kB, inside an L2 cache.
const QUERY_BLOCK: usize = 32;

/// Multi-head attention without a mask. `queries`, `keys`, `values` and `out` are `[tokens, num_heads * head_dim]`; the first
/// `sequence_lengths[0]` tokens are one sequence, the next `sequence_lengths[1]` another.
///
/// Equal between instruction sets up to the rounding of [`matmul_f32`]; the same bits for any number of threads.
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
        .collect();
    let jobs: Vec<(Range<usize>, usize)> =
        sequences.into_iter().flat_map(|range| (0..num_heads).map(move |head| (range.clone(), head))).collect();
    let results: Vec<Vec<f32>> = jobs
        .par_iter()
        .map(|(range, head)| {
            let part = |x: &[f32]| gather(x, range.clone(), *head, num_heads, head_dim);
            one_head(isa, &part(queries), &part(keys), &part(values), head_dim)
        })
        .collect();
    for ((range, head), result) in jobs.into_iter().zip(results) {
        let rows = out[range.start * width..range.end * width].chunks_exact_mut(width);
        for (row, result) in rows.zip(result.chunks_exact(head_dim)) {
            row[head * head_dim..(head + 1) * head_dim].copy_from_slice(result);
        }
    }
}

/// One head of the tokens of a range: `[range.len(), head_dim]`.
fn gather(x: &[f32], range: Range<usize>, head: usize, num_heads: usize, head_dim: usize) -> Vec<f32> {
    let width = num_heads * head_dim;
    let rows = x[range.start * width..range.end * width].chunks_exact(width);
    rows.flat_map(|row| &row[head * head_dim..(head + 1) * head_dim]).copied().collect()
}

/// One head of one sequence; all matrices are `[tokens, head_dim]`.
fn one_head(isa: Isa, queries: &[f32], keys: &[f32], values: &[f32], head_dim: usize) -> Vec<f32> {
    let tokens = queries.len() / head_dim;
    let mut values_transposed = vec![0.0; values.len()]; // [head_dim, tokens]
    for (token, value) in values.chunks_exact(head_dim).enumerate() {
        for (dimension, &value) in value.iter().enumerate() {
            values_transposed[dimension * tokens + token] = value;
        }
    }
    let scale = 1.0 / (head_dim as f32).sqrt();
    let mut out = vec![0.0; queries.len()];
    let blocks = queries.par_chunks(QUERY_BLOCK * head_dim).zip(out.par_chunks_mut(QUERY_BLOCK * head_dim));
    blocks.for_each(|(queries, out)| {
        let queries: Vec<f32> = queries.iter().map(|query| query * scale).collect();
        let mut scores = vec![0.0; queries.len() / head_dim * tokens]; // [queries, tokens]
        matmul_f32(isa, &queries, keys, head_dim, None, &mut scores);
        softmax(isa, &mut scores, tokens);
        matmul_f32(isa, &scores, &values_transposed, tokens, None, out);
    });
    out
}

//! Matrix products `x [tokens, columns] * w [rows, columns]^T + bias [rows] -> [tokens, rows]`.
//!
//! Weights are packed, and meet activations of 8 bits ([`matmul_packed`]) or of f32 ([`matmul_unpacked`]), or f32 ([`matmul_f32`]).
//! Neither the number of threads nor the number of tokens in a call changes any element of the result: a prompt in pieces gives the
//! bits of a prompt at once.

mod f32;
mod groups;
mod packed;
pub(crate) mod panel;
mod rows;
#[cfg(test)]
mod tests;
mod unpacked;
#[cfg(target_arch = "x86_64")]
mod x86;

pub use self::f32::matmul_f32;
pub use self::packed::matmul_packed;
pub use self::unpacked::matmul_unpacked;

use std::ops::Range;

use crate::parallel::{for_each, map, num_threads};

/// Products below this number of multiplications run on the calling thread: starting and joining costs some microseconds, which is the
/// time of about this much work.
const PARALLEL_PRODUCTS: usize = 200_000;

/// Rows and tokens are cut at multiples of this, so that only the last piece has tiles that are not full.
const PIECE: usize = 12;

/// Pieces of rows for each thread: one that is held up by something else leaves its last pieces to the others.
const PIECES_PER_THREAD: usize = 2;

/// Calls `job(tokens, rows, out)` for pieces of the result that together make `out`, `[tokens, rows]`, on all threads of the current
/// pool if the work is worth it. The `out` of a job is `[its tokens, its rows]`.
fn for_each_piece<J>(tokens: usize, rows: usize, columns: usize, out: &mut [f32], job: J)
where
    J: Fn(Range<usize>, Range<usize>, &mut [f32]) + Sync,
{
    if tokens == 0 || rows == 0 {
        return;
    }
    let threads = num_threads();
    if threads == 1 || tokens.saturating_mul(rows).saturating_mul(columns) < PARALLEL_PRODUCTS {
        return job(0..tokens, 0..rows, out);
    }
    let piece = tokens.div_ceil(threads).next_multiple_of(PIECE);
    let is_even = (piece * threads - tokens) * 32 <= tokens;
    if is_even || (tokens >= PIECE * threads && rows < 4 * PIECE * threads) {
        for_each(out.chunks_mut(piece * rows).enumerate().collect(), |(index, out)| {
            let first = index * piece;
            job(first..first + out.len() / rows, 0..rows, out);
        });
        return;
    }
    let piece = rows.div_ceil(threads * PIECES_PER_THREAD).next_multiple_of(PIECE);
    if tokens == 1 {
        for_each(out.chunks_mut(piece).enumerate().collect(), |(index, out)| {
            let first = index * piece;
            job(0..1, first..first + out.len(), out);
        });
        return;
    }
    // The pieces are not contiguous in `out`.
    let ranges = (0..rows).step_by(piece).map(|first| first..rows.min(first + piece)).collect();
    let parts = map(ranges, |range: Range<usize>| {
        let mut part = vec![0.0; tokens * range.len()];
        job(0..tokens, range.clone(), &mut part);
        (range, part)
    });
    for (range, part) in &parts {
        for (out, part) in out.chunks_exact_mut(rows).zip(part.chunks_exact(range.len())) {
            out[range.clone()].copy_from_slice(part);
        }
    }
}

/// Fills `out`, `[tokens, rows]`, with the bias: the product over no columns.
fn fill_bias(out: &mut [f32], rows: usize, bias: Option<&[f32]>) {
    match bias {
        Some(bias) if rows > 0 => out.chunks_exact_mut(rows).for_each(|out| out.copy_from_slice(bias)),
        _ => out.fill(0.0),
    }
}

/// Adds the bias of these rows to each token of `out`, `[tokens, rows]`.
fn add_bias(out: &mut [f32], rows: Range<usize>, bias: Option<&[f32]>) {
    if let Some(bias) = bias {
        for out in out.chunks_exact_mut(rows.len()) {
            out.iter_mut().zip(&bias[rows.clone()]).for_each(|(out, bias)| *out += bias);
        }
    }
}

/// Checks the lengths of a product; the number of tokens.
fn check_lengths(x: &[f32], rows: usize, columns: usize, bias: Option<&[f32]>, out: &[f32]) -> usize {
    let tokens = out.len().checked_div(rows).or(x.len().checked_div(columns)).unwrap_or(0);
    assert_eq!(out.len(), tokens * rows, "the result has {} elements, not a multiple of {rows} rows", out.len());
    assert_eq!(x.len(), tokens * columns, "x has {} elements, expected [{tokens}, {columns}]", x.len());
    if let Some(bias) = bias {
        assert_eq!(bias.len(), rows, "the bias has {} elements, expected {rows}", bias.len());
    }
    tokens
}

//! Products of f32 matrices, for checkpoints that are not packed.
//!
//! An element is a sum over columns in lanes (8 on the portable and AVX2 paths, 16 on AVX-512), added by a fixed tree at the end. One
//! path always gives the same bits, whatever the threads and the tokens around. Paths differ by rounding, since the portable one
//! has no fused multiply-add (it would be a library call): `|difference| <= columns * 2^-24 * sum |x w|` holds for each.

mod portable;

use std::ops::Range;

use super::{check_lengths, fill_bias, for_each_piece};
use crate::Isa;
use crate::isa::Kind;

/// `x * w^T + bias`: `x` is `[tokens, columns]`, `w` `[rows, columns]`, `bias` `[rows]`, `out` `[tokens, rows]`.
///
/// # Panics
/// If the lengths do not fit each other, or `w` has not `rows * columns` elements, where `rows = w.len() / columns`.
pub fn matmul_f32(isa: Isa, x: &[f32], w: &[f32], columns: usize, bias: Option<&[f32]>, out: &mut [f32]) {
    if columns == 0 {
        assert!(x.is_empty() && w.is_empty(), "x or w has elements, but no columns");
        return fill_bias(out, bias.map_or(0, <[f32]>::len), bias);
    }
    let rows = w.len() / columns;
    assert_eq!(w.len(), rows * columns, "w has {} elements, not a multiple of {columns} columns", w.len());
    let tokens = check_lengths(x, rows, columns, bias, out);
    for_each_piece(tokens, rows, columns, out, |tokens, rows, out| {
        piece(isa, &x[tokens.start * columns..tokens.end * columns], w, columns, bias, rows, out);
    });
}

/// One piece of the result on one thread: `x` is `[tokens, columns]`, `out` `[tokens, rows]` of that range.
fn piece(isa: Isa, x: &[f32], w: &[f32], columns: usize, bias: Option<&[f32]>, rows: Range<usize>, out: &mut [f32]) {
    let w = &w[rows.start * columns..rows.end * columns];
    match isa.0 {
        _ => portable::matmul(x, w, columns, out),
    }
    if let Some(bias) = bias {
        for out in out.chunks_exact_mut(rows.len()) {
            out.iter_mut().zip(&bias[rows.clone()]).for_each(|(out, bias)| *out += bias);
        }
    }
}

//! Products of f32 activations with packed weights that are unpacked on the way: no rounding of activations, and no integers.
//!
//! Some rows at a time become f32, in a buffer that stays in the cache, and meet all tokens there. An element has the bits that
//! [`super::matmul_f32`] gives for the dequantized matrix.

use super::f32::tiles;
use super::{add_bias, check_lengths, fill_bias, for_each_piece};
use crate::Isa;
use crate::packed::PackedMatrix;

/// Bytes of unpacked rows: a part of a usual L2 cache, beside the tokens.
const UNPACKED_BYTES: usize = 1 << 16;

/// `x * w^T + bias`: `x` is `[tokens, columns]`, `w` `[rows, columns]`, `bias` `[rows]`, `out` `[tokens, rows]`.
///
/// The weight-only form of [`super::matmul_packed`]: for small models, where 8-bit activations change words and save
/// little time.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn matmul_unpacked(isa: Isa, x: &[f32], w: &PackedMatrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
    let (rows, columns) = (w.shape().rows(), w.shape().columns());
    let tokens = check_lengths(x, rows, columns, bias, out);
    if columns == 0 {
        return fill_bias(out, rows, bias);
    }
    let block = (UNPACKED_BYTES / size_of::<f32>() / columns).max(1).next_multiple_of(4);
    for_each_piece(tokens, rows, columns, out, |tokens, rows, out| {
        let x = &x[tokens.start * columns..tokens.end * columns];
        let mut unpacked = vec![0.0; block.min(rows.len()) * columns];
        for first in rows.clone().step_by(block) {
            let block = first..rows.end.min(first + block);
            let unpacked = &mut unpacked[..block.len() * columns];
            w.unpack_rows(isa, block.clone(), unpacked);
            tiles(isa, x, unpacked, columns, &mut out[first - rows.start..], rows.len());
        }
        add_bias(out, rows, bias);
    });
}

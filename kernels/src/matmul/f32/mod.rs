//! Products of f32 matrices, for checkpoints that are not packed.
//!
//! An element is a sum over columns in lanes (8 on the portable and AVX2 paths, 16 on AVX-512), added by a fixed tree at the end. One
//! path always gives the same bits, whatever the threads and the tokens around. Paths differ by rounding, since the portable one
//! has no fused multiply-add (it would be a library call): `|difference| <= columns * 2^-24 * sum |x w|` holds for each.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use super::{add_bias, check_lengths, fill_bias, for_each_piece};
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
        let (x, w) = (&x[tokens.start * columns..tokens.end * columns], &w[rows.start * columns..rows.end * columns]);
        tiles(isa, x, w, columns, out, rows.len());
        add_bias(out, rows, bias);
    });
}

/// The product of some rows on one thread: `x` is `[tokens, columns]`, `w` `[rows, columns]`, both with at least one, and `out` the elements
/// from the first token and row on of a result with `stride` elements a token.
pub(super) fn tiles(isa: Isa, x: &[f32], w: &[f32], columns: usize, out: &mut [f32], stride: usize) {
    match isa.0 {
        Kind::Portable => portable::matmul(x, w, columns, out, stride),
        // SAFETY: this kind of `Isa` is made by `Isa::available` alone, where the CPU has these features.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 | Kind::AvxVnni => unsafe { avx2::matmul(x, w, columns, out, stride) },
        // SAFETY: as above.
        #[cfg(target_arch = "x86_64")]
        Kind::Avx512Vnni => unsafe { avx512::matmul(x, w, columns, out, stride) },
    }
}

/// Tokens of a tile; its rows are [`TILE_ROWS`] or 1.
#[cfg(target_arch = "x86_64")]
const TILE_TOKENS: usize = 3;

/// Rows of a tile.
#[cfg(target_arch = "x86_64")]
const TILE_ROWS: usize = 4;

/// Bytes of `x` that one pass over the rows uses again and again: half of a usual L2 cache.
#[cfg(target_arch = "x86_64")]
const TOKEN_BLOCK_BYTES: usize = 1 << 17;

/// Calls `tile(x of the tile, w of the tile, out from its first element)` for all tiles of the product; see [`tiles`].
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn for_each_tile(
    x: &[f32],
    w: &[f32],
    columns: usize,
    out: &mut [f32],
    stride: usize,
    tile: impl Fn(&[f32], &[f32], &mut [f32]),
) {
    let rows = w.len() / columns;
    let block = (TOKEN_BLOCK_BYTES / size_of::<f32>() / columns).max(1).next_multiple_of(TILE_TOKENS);
    for (x, out) in x.chunks(block * columns).zip(out.chunks_mut(block * stride)) {
        let mut row = 0;
        while row < rows {
            let tile_rows = if row + TILE_ROWS <= rows { TILE_ROWS } else { 1 };
            let w = &w[row * columns..(row + tile_rows) * columns];
            for (x, out) in x.chunks(TILE_TOKENS * columns).zip(out.chunks_mut(TILE_TOKENS * stride)) {
                tile(x, w, &mut out[row..]);
            }
            row += tile_rows;
        }
    }
}

/// The first `N` rows of a matrix.
#[cfg(target_arch = "x86_64")]
#[inline(always)]
fn rows_of<const N: usize>(matrix: &[f32], columns: usize) -> [&[f32]; N] {
    std::array::from_fn(|row| &matrix[row * columns..(row + 1) * columns])
}

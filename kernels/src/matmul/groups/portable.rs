//! `portable-matmul-groups`: rows are unpacked to 16-bit integers.

#![allow(clippy::needless_range_loop, reason = "a lane indexes several arrays")]

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use super::{LANES, Tokens};
use crate::Isa;
use crate::matmul::panel::unpack_words;
use crate::packed::PackedMatrix;

/// See [`super::multiply`]; `out` begins at the first of these rows, and has `stride` elements a token.
pub(super) fn multiply(
    w: &PackedMatrix<'_>,
    rows: Range<usize>,
    x: &Tokens<'_>,
    tokens: Range<usize>,
    out: &mut [f32],
    stride: usize,
) {
    let shape = w.shape();
    let (width, num_groups) = (shape.padded_columns(), shape.num_groups());
    let mut token_words = vec![0_i16; tokens.len() * width];
    for (token, words) in tokens.clone().zip(token_words.chunks_exact_mut(width)) {
        words.iter_mut().zip(x.codes_of(token)).for_each(|(word, &code)| *word = code.into());
    }
    let mut row_words = vec![0_i16; width];
    let mut row_scales = vec![[0.0_f32; LANES]; num_groups.div_ceil(LANES)];
    for (place, row) in rows.enumerate() {
        unpack_words(Isa::PORTABLE, shape.bits(), w.codes_of(row..row + 1), &mut row_words);
        w.scales_of(row..row + 1).convert_to_f32_slice(&mut row_scales.as_flattened_mut()[..num_groups]);
        for (index, (token, words)) in tokens.clone().zip(token_words.chunks_exact(width)).enumerate() {
            let (scales, offsets) = (x.scales.of(token), x.offsets.of(token));
            // A copy for each size, so that the loops over a group have a known length.
            out[index * stride + place] = match shape.group_size() {
                Some(32) => row_and_token::<1>(&row_words, words, &row_scales, scales, offsets),
                Some(64) => row_and_token::<2>(&row_words, words, &row_scales, scales, offsets),
                _ => row_and_token::<4>(&row_words, words, &row_scales, scales, offsets),
            };
        }
    }
}

/// The product of a row and a token; a group has `CHUNKS` chunks of 32 columns.
fn row_and_token<const CHUNKS: usize>(
    row: &[i16],
    token: &[i16],
    row_scales: &[[f32; LANES]],
    scales: &[[f32; LANES]],
    offsets: &[[f32; LANES]],
) -> f32 {
    let (row, token) = (row.as_chunks::<32>().0, token.as_chunks::<32>().0);
    let segments = row.chunks(LANES * CHUNKS).zip(token.chunks(LANES * CHUNKS));
    let mut totals = [0.0; LANES];
    for ((row, token), ((row_scales, scales), offsets)) in segments.zip(row_scales.iter().zip(scales).zip(offsets)) {
        let mut sums = [0; LANES];
        for (sum, (row, token)) in sums.iter_mut().zip(row.chunks(CHUNKS).zip(token.chunks(CHUNKS))) {
            *sum = dot(row, token);
        }
        for lane in 0..LANES {
            totals[lane] += row_scales[lane] * scales[lane] * (sums[lane] as f32 - offsets[lane]);
        }
    }
    let [a, b, c, d, e, f, g, h] = totals;
    ((a + b) + (c + d)) + ((e + f) + (g + h))
}

/// The sum of the products, in eight lanes, of which the compiler makes vectors (16 GOP/s for groups of 32 on SSE2, where one sum gives 9).
#[inline(always)]
fn dot(row: &[[i16; 32]], token: &[[i16; 32]]) -> i32 {
    let mut sums = [0; 8];
    for (row, token) in row.iter().zip(token) {
        for (row, token) in row.as_chunks::<8>().0.iter().zip(token.as_chunks::<8>().0) {
            for lane in 0..8 {
                sums[lane] += i32::from(row[lane]) * i32::from(token[lane]);
            }
        }
    }
    sums.iter().sum()
}

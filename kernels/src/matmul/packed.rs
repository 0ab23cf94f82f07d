//! Products with packed weights: w2a8, w4a8 and w8a8.
//!
//! Activations `a` become 8-bit codes with a scale for each token and group ([`crate::quantize`]); codes of weights and activations are
//! multiplied and summed as integers, exactly; scales meet the sums in f32:
//!
//! ```text
//! y = 0
//! for group in 0..num_groups:                                   (ascending)
//!     n = sum over the group of q_w * q_a                       (i32; for 2 bits 2 q - 3, for 4 bits 2 q - 15 in place of q)
//!     y = y + (s_w * s_a) * f32(n)                              (three roundings, no fused multiply-add; s_w is halved for 2, 4 bits)
//! y = y + bias
//! ```
//!
//! This order is the same on every instruction set, so that results are equal to the bit.

use std::ops::Range;

use super::{balanced, check_lengths, fill_bias, for_each_piece, w8a8};
use crate::Isa;
use crate::isa::for_each_isa;
use crate::packed::{Bits, PackedMatrix};
use crate::quantize::{LANES, QuantizedActivations};

/// Bytes of activation codes that one pass over the rows uses again and again: half of a usual L2 cache.
const TOKEN_BLOCK_BYTES: usize = 1 << 17;

/// `x * w^T + bias`: `x` is `[tokens, columns]`, `w` `[rows, columns]`, `bias` `[rows]`, `out` `[tokens, rows]`.
///
/// The result is the same to the bit on every instruction set, for any number of threads, and for a token alone or among others.
///
/// # Panics
/// If the lengths do not fit each other.
pub fn matmul_packed(isa: Isa, x: &[f32], w: &PackedMatrix<'_>, bias: Option<&[f32]>, out: &mut [f32]) {
    let shape = w.shape();
    let (rows, columns) = (shape.rows(), shape.columns());
    let tokens = check_lengths(x, rows, columns, bias, out);
    if columns == 0 {
        return fill_bias(out, rows, bias);
    }
    let x = QuantizedActivations::new(isa, x, shape);
    for_each_piece(tokens, rows, columns, out, |tokens, rows, out| piece(isa, &x, w, bias, tokens, rows, out));
}

/// One piece of the result on one thread: `out` is `[tokens, rows]` of the ranges.
fn piece(
    isa: Isa,
    x: &QuantizedActivations,
    w: &PackedMatrix<'_>,
    bias: Option<&[f32]>,
    tokens: Range<usize>,
    rows: Range<usize>,
    out: &mut [f32],
) {
    let num_groups = w.shape().num_groups();
    let block = (TOKEN_BLOCK_BYTES / w.shape().padded_columns()).max(LANES) / LANES * LANES;
    let width = rows.len();
    let mut sums = vec![[0; LANES]; w.shape().padded_columns() / 32];
    let mut row_scales: [Vec<f32>; LANES] = std::array::from_fn(|_| vec![0.0; num_groups]);
    let mut weight_scales = vec![[0.0; LANES]; num_groups];
    let mut tile_scales = Vec::with_capacity(num_groups);
    let mut tile_sums = Vec::with_capacity(num_groups);
    let mut lanes = |kind: Tile<'_>, weight_scales: &[[f32; LANES]], tokens: [usize; LANES]| {
        x.lanes(tokens, &mut tile_scales, &mut tile_sums);
        integer_sums(isa, w, kind, &mut sums);
        let mut result = [0.0; LANES];
        combine(isa, levels(w.shape().bits()), &sums, weight_scales, &tile_scales, &tile_sums, &mut result);
        result
    };
    let mut first_token = tokens.start;
    while first_token < tokens.end {
        let end_token = tokens.end.min(first_token + block);
        for first_row in rows.clone().step_by(LANES) {
            // The last tile repeats its last row, and leaves out the repetitions when it writes.
            let tile_rows: [usize; LANES] = std::array::from_fn(|lane| (first_row + lane).min(rows.end - 1));
            for (scales, &row) in row_scales.iter_mut().zip(&tile_rows) {
                w.scales_to_f32(row, levels(w.shape().bits()).factor, scales);
            }
            let num_rows = LANES.min(rows.end - first_row);
            let mut token = first_token;
            if token + LANES <= end_token {
                for lane in 0..num_rows {
                    for (weight, &scale) in weight_scales.iter_mut().zip(&row_scales[lane]) {
                        *weight = [scale; LANES];
                    }
                    let row = tile_rows[lane];
                    let bias = bias.map_or(0.0, |bias| bias[row]);
                    token = first_token;
                    while token + LANES <= end_token {
                        let tile_tokens: [usize; LANES] = std::array::from_fn(|lane| token + lane);
                        let codes = tile_tokens.map(|token| x.token_codes(token));
                        let result = lanes(Tile::Tokens(w.row_codes(row), codes), &weight_scales, tile_tokens);
                        for (token, value) in tile_tokens.into_iter().zip(result) {
                            out[(token - tokens.start) * width + row - rows.start] = value + bias;
                        }
                        token += LANES;
                    }
                }
            }
            if token < end_token {
                for (group, weight) in weight_scales.iter_mut().enumerate() {
                    *weight = std::array::from_fn(|lane| row_scales[lane][group]);
                }
            }
            for token in token..end_token {
                let codes = tile_rows.map(|row| w.row_codes(row));
                let result = lanes(Tile::Rows(codes, x.token_codes(token)), &weight_scales, [token; LANES]);
                let first = (token - tokens.start) * width + first_row - rows.start;
                for (lane, value) in result.into_iter().enumerate().take(num_rows) {
                    out[first + lane] = value + bias.map_or(0.0, |bias| bias[first_row + lane]);
                }
            }
        }
        first_token = end_token;
    }
}

/// What the four lanes of a tile are.
#[derive(Clone, Copy)]
pub(super) enum Tile<'a> {
    /// One row of weights with four tokens.
    Tokens(&'a [u8], [&'a [i8]; LANES]),
    /// Four rows of weights with one token.
    Rows([&'a [u8]; LANES], &'a [i8]),
}

/// `sums[group][lane]`, the sum of code times code over a group. Groups beyond the last column may follow.
fn integer_sums(isa: Isa, w: &PackedMatrix<'_>, tile: Tile<'_>, sums: &mut [[i32; LANES]]) {
    let group_size = w.shape().group_size();
    match w.shape().bits() {
        Bits::Two => balanced::dot::<2>(isa, tile, group_size, sums),
        Bits::Four => balanced::dot::<4>(isa, tile, group_size, sums),
        Bits::Eight => w8a8::dot(isa, tile, group_size, sums),
    }
}

/// How a sum over codes becomes a sum over levels: `multiplier * sum(q_w q_a) - zero * sum(q_a)`, times a scale times `factor`.
#[derive(Clone, Copy)]
struct Levels {
    multiplier: i32,
    zero: i32,
    factor: f32,
}

/// 2 bits: `s * (q - 1.5) = s / 2 * (2 q - 3)`; 4 bits: `s / 2 * (2 q - 15)`.
fn levels(bits: Bits) -> Levels {
    match bits {
        Bits::Two => Levels { multiplier: 2, zero: 3, factor: 0.5 },
        Bits::Four => Levels { multiplier: 2, zero: 15, factor: 0.5 },
        Bits::Eight => Levels { multiplier: 1, zero: 0, factor: 1.0 },
    }
}

for_each_isa! {
    /// The f32 part of the product, in the order that the head of this file states. All slices: `[num_groups][LANES]`.
    fn combine(
        levels: Levels,
        sums: &[[i32; LANES]],
        weight_scales: &[[f32; LANES]],
        activation_scales: &[[f32; LANES]],
        activation_sums: &[[i32; LANES]],
        result: &mut [f32; LANES],
    ) {
        let groups = weight_scales.iter().zip(activation_scales).zip(activation_sums).zip(sums);
        let mut total = [0.0_f32; LANES];
        for (((weight_scale, activation_scale), activation_sum), sum) in groups {
            for lane in 0..LANES {
                let exact = levels.multiplier * sum[lane] - levels.zero * activation_sum[lane];
                total[lane] += (weight_scale[lane] * activation_scale[lane]) * exact as f32;
            }
        }
        *result = total;
    }
}

/// Calls `body(lane, codes of the row, codes of the token)` for each lane: what a kernel without vectors does.
pub(super) fn for_each_lane<'a>(tile: Tile<'a>, mut body: impl FnMut(usize, &'a [u8], &'a [i8])) {
    match tile {
        Tile::Tokens(row, tokens) => (0..LANES).for_each(|lane| body(lane, row, tokens[lane])),
        Tile::Rows(rows, token) => (0..LANES).for_each(|lane| body(lane, rows[lane], token)),
    }
}

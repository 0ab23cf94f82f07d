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

use half::slice::HalfFloatSliceExt;

use super::panel::{self, PANEL_ROWS};
use super::strip::{Block, LANES, Strip};
use super::{add_bias, balanced, check_lengths, fill_bias, for_each_piece, rows, w8a8};
use crate::Isa;
use crate::isa::for_each_isa;
use crate::packed::{Bits, PackedMatrix};
use crate::quantize::QuantizedActivations;

/// Bytes of activation codes that one pass over the rows uses again and again: half of a usual L2 cache.
const TOKEN_BLOCK_BYTES: usize = 1 << 17;

/// The most tokens of such a block.
const MAX_TOKENS: usize = 128;

/// Rows whose results are collected before they are written: a cache line of `out` for each token.
const OUT_ROWS: usize = 16;

/// Rows that meet one token after the other: 64 kB of weights at 2048 columns of 2 bits.
const ROW_BLOCK: usize = 128;

/// Scales of weights that are turned into f32 at a time: 16 kB.
const SCALE_BLOCK: usize = 1 << 12;

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
    for_each_piece(tokens, rows, columns, out, |tokens, rows, out| {
        let piece = Piece { isa, x: &x, w, tokens, rows: rows.clone() };
        match (piece.tokens.len(), w.shape().group_size()) {
            (..LANES, None) => piece.few_tokens(out),
            (_, None) => piece.many_tokens(out),
            (..LANES, _) => piece.few_tokens_in_groups(out),
            _ => piece.many_tokens_in_groups(out),
        }
        add_bias(out, rows, bias);
    });
}

/// A part of the result, made by one thread: `[tokens, rows]`.
struct Piece<'a> {
    isa: Isa,
    x: &'a QuantizedActivations,
    w: &'a PackedMatrix<'a>,
    tokens: Range<usize>,
    rows: Range<usize>,
}

impl Piece<'_> {
    /// Rows with one scale each, as they come from memory.
    fn few_tokens(&self, out: &mut [f32]) {
        let (shape, num_rows) = (self.w.shape(), self.rows.len());
        let (width, levels) = (shape.padded_columns(), levels(shape.bits()));
        let mut products = [0; ROW_BLOCK];
        let mut scales = [0.0; ROW_BLOCK];
        for first in self.rows.clone().step_by(ROW_BLOCK) {
            let rows = first..self.rows.end.min(first + ROW_BLOCK);
            let (products, scales) = (&mut products[..rows.len()], &mut scales[..rows.len()]);
            self.w.scales_of(rows.clone()).convert_to_f32_slice(scales);
            scales.iter_mut().for_each(|scale| *scale *= levels.factor);
            for (token, out) in self.tokens.clone().zip(out.chunks_exact_mut(num_rows)) {
                let activations = &self.x.codes[token * width..(token + 1) * width];
                let codes = self.w.codes_of(rows.clone());
                rows::sums_of_rows(self.isa, shape.bits(), codes, shape.row_bytes(), activations, products);
                let out = &mut out[rows.start - self.rows.start..rows.end - self.rows.start];
                combine(self.isa, levels, 0, products, scales, self.x.scales[token], self.x.sums[token], out);
            }
        }
    }

    /// One token at a time with four rows in the lanes.
    fn few_tokens_in_groups(&self, out: &mut [f32]) {
        let (padded_columns, num_groups) = (self.w.shape().padded_columns(), self.w.shape().num_groups());
        let mut scratch = Scratch::new(self.w);
        let mut lane_scales = Vec::new();
        self.for_each_row_block(|rows, scales| {
            into_lanes(scales, num_groups, &mut lane_scales);
            for (token, out) in self.tokens.clone().zip(out.chunks_exact_mut(self.rows.len())) {
                let groups = token * num_groups..(token + 1) * num_groups;
                let rows_codes = Block { values: self.w.codes_of(rows.clone()), width: self.w.shape().row_bytes() };
                let codes = &self.x.codes[token * padded_columns..(token + 1) * padded_columns];
                let Scratch { sums, results, .. } = scratch.integer_sums(self.isa, Strip::Rows(rows_codes, codes));
                let token_scales = &self.x.scales[groups.clone()];
                let levels = levels(self.w.shape().bits());
                combine_rows(self.isa, levels, sums, &lane_scales, token_scales, &self.x.sums[groups], results);
                let first = rows.start - self.rows.start;
                out[first..first + rows.len()].copy_from_slice(&results.as_flattened()[..rows.len()]);
            }
        });
    }

    /// Rows with one scale each, unpacked once for many tokens.
    fn many_tokens(&self, out: &mut [f32]) {
        let (width, num_rows) = (self.w.shape().padded_columns(), self.rows.len());
        let levels = levels(self.w.shape().bits());
        let codes = &self.x.codes[self.tokens.start * width..self.tokens.end * width];
        let (scales, sums) = (&self.x.scales[self.tokens.clone()], &self.x.sums[self.tokens.clone()]);
        let mut row_scales = vec![0.0; num_rows];
        self.w.scales_of(self.rows.clone()).convert_to_f32_slice(&mut row_scales);
        row_scales.iter_mut().for_each(|scale| *scale *= levels.factor);
        let offset = panel::code_offset(self.isa, self.w.shape().bits());
        panel::for_each_panel(self.isa, self.w, self.rows.clone(), codes, |token, row, products| {
            let end = num_rows.min(row + PANEL_ROWS);
            let out = &mut out[token * num_rows + row..token * num_rows + end];
            combine(self.isa, levels, offset, products, &row_scales[row..end], scales[token], sums[token], out);
        });
    }

    /// One row at a time with four tokens in the lanes.
    fn many_tokens_in_groups(&self, out: &mut [f32]) {
        let (padded_columns, num_groups) = (self.w.shape().padded_columns(), self.w.shape().num_groups());
        let block = (TOKEN_BLOCK_BYTES / padded_columns).clamp(LANES, MAX_TOKENS) / LANES * LANES;
        let mut collected = vec![[0.0; OUT_ROWS]; block.min(self.tokens.len())];
        let mut scratch = Scratch::new(self.w);
        let (mut lane_scales, mut lane_sums) = (Vec::new(), Vec::new());
        let width = self.rows.len();
        for first in self.tokens.clone().step_by(block) {
            let tokens = first..self.tokens.end.min(first + block);
            let groups = tokens.start * num_groups..tokens.end * num_groups;
            into_lanes(&self.x.scales[groups.clone()], num_groups, &mut lane_scales);
            into_lanes(&self.x.sums[groups], num_groups, &mut lane_sums);
            let codes = &self.x.codes[tokens.start * padded_columns..tokens.end * padded_columns];
            let codes = Block { values: codes, width: padded_columns };
            let out = &mut out[(tokens.start - self.tokens.start) * width..(tokens.end - self.tokens.start) * width];
            self.for_each_row_block(|rows, scales| {
                for (index, (row, scales)) in rows.clone().zip(scales.chunks_exact(num_groups)).enumerate() {
                    let strip = Strip::Tokens(self.w.codes_of(row..row + 1), codes);
                    let Scratch { sums, results, .. } = scratch.integer_sums(self.isa, strip);
                    let levels = levels(self.w.shape().bits());
                    combine_tokens(self.isa, levels, sums, scales, &lane_scales, &lane_sums, results);
                    let place = index % OUT_ROWS;
                    for (collected, &result) in collected.iter_mut().zip(results.as_flattened()) {
                        collected[place] = result;
                    }
                    if place + 1 == OUT_ROWS || row + 1 == rows.end {
                        let first = row - place - self.rows.start;
                        for (out, collected) in out.chunks_exact_mut(width).zip(&collected) {
                            out[first..=first + place].copy_from_slice(&collected[..=place]);
                        }
                    }
                }
            });
        }
    }

    /// Calls `body(rows, scales)` for blocks of rows, a whole number of lanes each but the last. `scales` `[rows, num_groups]` are those of the
    /// rows as f32, times the factor of the levels.
    fn for_each_row_block(&self, mut body: impl FnMut(Range<usize>, &[f32])) {
        let num_groups = self.w.shape().num_groups();
        let factor = levels(self.w.shape().bits()).factor;
        let block = (SCALE_BLOCK / num_groups).max(1).next_multiple_of(LANES);
        let mut scales = vec![0.0; block.min(self.rows.len()) * num_groups];
        for first in self.rows.clone().step_by(block) {
            let rows = first..self.rows.end.min(first + block);
            let scales = &mut scales[..rows.len() * num_groups];
            self.w.scales_of(rows.clone()).convert_to_f32_slice(scales);
            scales.iter_mut().for_each(|scale| *scale *= factor);
            body(rows, scales);
        }
    }
}

/// Buffers for the sums and results of a strip.
struct Scratch<'a> {
    w: &'a PackedMatrix<'a>,
    /// `[num_tiles, num_groups][LANES]`.
    sums: Vec<[i32; LANES]>,
    /// `[num_tiles][LANES]`.
    results: Vec<[f32; LANES]>,
}

impl<'a> Scratch<'a> {
    fn new(w: &'a PackedMatrix<'a>) -> Scratch<'a> {
        Scratch { w, sums: Vec::new(), results: Vec::new() }
    }

    /// Fills `sums` with the sums of code times code over each group.
    fn integer_sums(&mut self, isa: Isa, strip: Strip<'_>) -> &mut Scratch<'a> {
        let shape = self.w.shape();
        self.sums.resize(strip.num_tiles() * shape.num_groups(), [0; LANES]);
        self.results.resize(strip.num_tiles(), [0.0; LANES]);
        match shape.group_size() {
            Some(32) => dot::<1>(isa, shape.bits(), strip, &mut self.sums),
            Some(64) => dot::<2>(isa, shape.bits(), strip, &mut self.sums),
            _ => dot::<4>(isa, shape.bits(), strip, &mut self.sums),
        }
        self
    }
}

/// Sums over groups of `CHUNKS` times 32 weights.
pub(super) fn dot<const CHUNKS: usize>(isa: Isa, bits: Bits, strip: Strip<'_>, sums: &mut [[i32; LANES]]) {
    match bits {
        Bits::Two => balanced::dot::<2, CHUNKS>(isa, strip, sums),
        Bits::Four => balanced::dot::<4, CHUNKS>(isa, strip, sums),
        Bits::Eight => w8a8::dot::<CHUNKS>(isa, strip, sums),
    }
}

/// `[items, num_groups]` to `[num_tiles, num_groups][LANES]`; the last items are repeated to fill their tile.
fn into_lanes<T: Copy>(values: &[T], num_groups: usize, lanes: &mut Vec<[T; LANES]>) {
    lanes.clear();
    let items = values.len() / num_groups;
    for tile in 0..items.div_ceil(LANES) {
        let item: [usize; LANES] = std::array::from_fn(|lane| (tile * LANES + lane).min(items - 1));
        lanes.extend((0..num_groups).map(|group| item.map(|item| values[item * num_groups + group])));
    }
}

/// How a sum over codes becomes a sum over levels: `multiplier * sum(q_w q_a) - zero * sum(q_a)`, times a scale times `factor`.
#[derive(Clone, Copy)]
struct Levels {
    multiplier: i32,
    zero: i32,
    factor: f32,
}

impl Levels {
    /// The sum over levels, exact up to the conversion.
    #[inline(always)]
    fn sum(self, products: i32, activations: i32) -> f32 {
        (self.multiplier * products - self.zero * activations) as f32
    }
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
    /// The f32 part of one token with rows that have one scale each: `products` have `offset` times `sum` more than the sums of code times code.
    fn combine(
        levels: Levels,
        offset: i32,
        products: &[i32],
        row_scales: &[f32],
        scale: f32,
        sum: i32,
        out: &mut [f32],
    ) {
        let excess = offset.wrapping_mul(sum);
        for (out, (products, row_scale)) in out.iter_mut().zip(products.iter().zip(row_scales)) {
            // Added to 0, as where there are groups: that makes 0 of -0.
            *out = 0.0 + row_scale * scale * levels.sum(products.wrapping_sub(excess), sum);
        }
    }
}

for_each_isa! {
    /// The f32 part of one row with tokens in the lanes, in the order that the head of this file states. `row_scales` is `[num_groups]`, the
    /// other inputs `[num_tiles, num_groups][LANES]`.
    fn combine_tokens(
        levels: Levels,
        sums: &[[i32; LANES]],
        row_scales: &[f32],
        token_scales: &[[f32; LANES]],
        token_sums: &[[i32; LANES]],
        results: &mut [[f32; LANES]],
    ) {
        let num_groups = row_scales.len();
        for (tile, result) in results.iter_mut().enumerate() {
            let tile = tile * num_groups..(tile + 1) * num_groups;
            let (sums, token_scales) = (&sums[tile.clone()], &token_scales[tile.clone()]);
            let token_sums = &token_sums[tile];
            let mut total = [0.0; LANES];
            for group in 0..num_groups {
                for lane in 0..LANES {
                    let scale = row_scales[group] * token_scales[group][lane];
                    total[lane] += scale * levels.sum(sums[group][lane], token_sums[group][lane]);
                }
            }
            *result = total;
        }
    }
}

for_each_isa! {
    /// The f32 part of one token with rows in the lanes, in the order that the head of this file states. `token_scales` and `token_sums` are
    /// `[num_groups]`, the other inputs `[num_tiles, num_groups][LANES]`.
    fn combine_rows(
        levels: Levels,
        sums: &[[i32; LANES]],
        row_scales: &[[f32; LANES]],
        token_scales: &[f32],
        token_sums: &[i32],
        results: &mut [[f32; LANES]],
    ) {
        let num_groups = token_scales.len();
        let token_sums = &token_sums[..num_groups];
        for (tile, result) in results.iter_mut().enumerate() {
            let tile = tile * num_groups..(tile + 1) * num_groups;
            let (sums, row_scales) = (&sums[tile.clone()], &row_scales[tile]);
            let mut total = [0.0; LANES];
            for group in 0..num_groups {
                for lane in 0..LANES {
                    let scale = row_scales[group][lane] * token_scales[group];
                    total[lane] += scale * levels.sum(sums[group][lane], token_sums[group]);
                }
            }
            *result = total;
        }
    }
}

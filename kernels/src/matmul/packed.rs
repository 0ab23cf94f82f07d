//! Products with packed weights: w2a8, w4a8 and w8a8.
//!
//! Activations `a` become 8-bit codes with a scale for each token and group ([`crate::quantize`]); codes of weights and activations are
//! multiplied and summed as integers, exactly; scales meet the sums in f32:
//!
//! ```text
//! n[g] = sum over group g of (q_w - zero) * q_a                       (exact; zero is 1.5 for 2 bits, 7.5 for 4 bits or the zero point, 0 for 8 bits)
//!
//! one scale a row:
//!     y = 0 + (s_w * s_a) * n[0]
//!
//! a scale for each group of 32, 64 or 128:
//!     t[8] = 0
//!     for g in 0..num_groups:                                          (ascending)
//!         t[g % 8] = t[g % 8] + (s_w[g] * s_a[g]) * n[g]
//!     y = ((t[0] + t[1]) + (t[2] + t[3])) + ((t[4] + t[5]) + (t[6] + t[7]))
//!
//! y = y + bias
//! ```
//!
//! Each operation in f32 is rounded, none is fused. The zero is exact: integers are summed over codes, and `zero * sum of q_a` is subtracted in f32,
//! which holds both and the difference, or (one scale a row, where sums may be longer) twice that is subtracted as an integer, and `s_w` halved.
//! This order is the same on every instruction set, so that results are equal to the bit.

use std::ops::Range;

use half::slice::HalfFloatSliceExt;

use super::panel::{self, PANEL_ROWS};
use super::{add_bias, check_lengths, fill_bias, for_each_piece, groups, rows};
use crate::Isa;
use crate::isa::{Kind, for_each_isa};
use crate::packed::{Bits, PackedMatrix, PackedShape};
use crate::quantize::QuantizedActivations;

/// Rows that meet a few tokens after the others: 64 kB of weights at 2048 columns of 2 bits.
const ROW_BLOCK: usize = 128;

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
    if shape.group_size().is_some() {
        let x = groups::Tokens::new(&x, shape);
        return for_each_piece(tokens, rows, columns, out, |tokens, rows, out| {
            groups::multiply(isa, w, rows.clone(), &x, tokens, out);
            add_bias(out, rows, bias);
        });
    }
    for_each_piece(tokens, rows, columns, out, |tokens, rows, out| {
        let piece = Piece { isa, x: &x, w, tokens, rows: rows.clone() };
        match piece.tokens.len() {
            tokens if tokens < many_tokens(isa) => piece.few_tokens(out),
            _ => piece.many_tokens(out),
        }
        add_bias(out, rows, bias);
    });
}

/// Tokens from which on rows with one scale each are unpacked to panels.
///
/// Measured on AVX2 (Zen 3) with up to 6656 columns, in time of panels over time of rows: 1.5 to 2.3 with 4 tokens, 1.2 to 1.6 with 8, 1.1 to 1.2
/// with 24. Rows of 11008 columns and more, of which an L1 cache does not hold four tokens, break even between 12 and 64 tokens. Portable code takes
/// about the same time from 12 tokens on. Where one instruction multiplies bytes and adds the products up, panels need half the operations.
fn many_tokens(isa: Isa) -> usize {
    match isa.0 {
        Kind::Portable => 32,
        #[cfg(target_arch = "x86_64")]
        Kind::Avx2 => 32,
        #[cfg(target_arch = "x86_64")]
        Kind::AvxVnni | Kind::Avx512Vnni => 4,
    }
}

/// A part of a result whose rows have one scale each, made by one thread: `[tokens, rows]`.
struct Piece<'a> {
    isa: Isa,
    x: &'a QuantizedActivations,
    w: &'a PackedMatrix<'a>,
    tokens: Range<usize>,
    rows: Range<usize>,
}

impl Piece<'_> {
    /// Rows as they come from memory.
    fn few_tokens(&self, out: &mut [f32]) {
        let (shape, num_rows) = (self.w.shape(), self.rows.len());
        let (width, levels) = (shape.padded_columns(), levels(shape));
        let activations = &self.x.codes[self.tokens.start * width..self.tokens.end * width];
        let mut products = vec![0; self.tokens.len() * num_rows.min(ROW_BLOCK)];
        let mut scales = [0.0; ROW_BLOCK];
        for first in self.rows.clone().step_by(ROW_BLOCK) {
            let rows = first..self.rows.end.min(first + ROW_BLOCK);
            let products = &mut products[..self.tokens.len() * rows.len()];
            let scales = &mut scales[..rows.len()];
            self.w.scales_of(rows.clone()).convert_to_f32_slice(scales);
            scales.iter_mut().for_each(|scale| *scale *= levels.factor);
            let codes = self.w.codes_of(rows.clone());
            rows::sums_of_rows(self.isa, shape.bits(), codes, shape.row_bytes(), activations, products);
            let outs = out.chunks_exact_mut(num_rows).zip(products.chunks_exact(rows.len()));
            for (token, (out, products)) in self.tokens.clone().zip(outs) {
                let out = &mut out[rows.start - self.rows.start..rows.end - self.rows.start];
                combine(self.isa, levels, 0, products, scales, self.x.scales[token], self.x.sums[token], out);
            }
        }
    }

    /// Rows that are unpacked once for many tokens.
    fn many_tokens(&self, out: &mut [f32]) {
        let (width, num_rows) = (self.w.shape().padded_columns(), self.rows.len());
        let levels = levels(self.w.shape());
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

/// 2 bits: `s * (q - 1.5) = s / 2 * (2 q - 3)`; 4 bits: `s / 2 * (2 q - 15)`, or `s * (q - 8)`.
fn levels(shape: PackedShape) -> Levels {
    match (shape.bits(), shape.zero_point()) {
        (Bits::Two, _) => Levels { multiplier: 2, zero: 3, factor: 0.5 },
        (Bits::Four, None) => Levels { multiplier: 2, zero: 15, factor: 0.5 },
        (Bits::Four, Some(zero)) => Levels { multiplier: 1, zero: zero.into(), factor: 1.0 },
        (Bits::Eight, _) => Levels { multiplier: 1, zero: 0, factor: 1.0 },
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

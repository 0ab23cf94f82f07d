//! Rows with a scale for each group of 32, 64 or 128 weights: the sums of eight groups are the lanes of a vector, so that scales are used as they
//! lie in memory and no f32 goes across lanes but at the end of a row. The order of the f32 part is that of the head of `matmul/packed.rs`.

#[cfg(target_arch = "x86_64")]
mod avx2;
mod portable;

use std::ops::Range;

use crate::Isa;
use crate::isa::Kind;
use crate::packed::{PackedMatrix, PackedShape};
use crate::quantize::QuantizedActivations;

/// Groups whose sums are the lanes of a vector.
const LANES: usize = 8;

/// Bytes of rows that meet a few tokens after the others: a part of a usual L2 cache.
const ROW_BLOCK_BYTES: usize = 1 << 16;

/// A value for each group of some tokens: `[tokens, num_groups]`, with zeros up to a whole number of lanes.
struct Groups {
    values: Vec<[f32; LANES]>,
    /// [`LANES`] groups each.
    segments: usize,
}

impl Groups {
    /// `value(index)` for each index into `[tokens, num_groups]`.
    fn new(tokens: usize, num_groups: usize, value: impl Fn(usize) -> f32) -> Groups {
        let segments = num_groups.div_ceil(LANES);
        let mut values = vec![[0.0; LANES]; tokens * segments];
        for (token, out) in values.chunks_exact_mut(segments).enumerate() {
            for (group, out) in out.as_flattened_mut()[..num_groups].iter_mut().enumerate() {
                *out = value(token * num_groups + group);
            }
        }
        Groups { values, segments }
    }

    /// `[segments]` of one token.
    #[inline(always)]
    fn of(&self, token: usize) -> &[[f32; LANES]] {
        &self.values[token * self.segments..(token + 1) * self.segments]
    }
}

/// Activations of some tokens for rows with groups.
pub(super) struct Tokens<'a> {
    shape: PackedShape,
    codes: &'a [i8],
    scales: Groups,
    /// The zero of the levels times the sum of the codes of the group; exact, as it is half an integer below 2^18.
    offsets: Groups,
}

impl<'a> Tokens<'a> {
    pub fn new(x: &'a QuantizedActivations, shape: PackedShape) -> Tokens<'a> {
        let (num_groups, zero) = (shape.num_groups(), shape.zero());
        let tokens = x.scales.len() / num_groups;
        Tokens {
            shape,
            codes: &x.codes,
            scales: Groups::new(tokens, num_groups, |group| x.scales[group]),
            offsets: Groups::new(tokens, num_groups, |group| zero * x.sums[group] as f32),
        }
    }

    /// The codes of one token, `[padded_columns]`.
    #[inline(always)]
    fn codes_of(&self, token: usize) -> &'a [i8] {
        let width = self.shape.padded_columns();
        &self.codes[token * width..(token + 1) * width]
    }
}

/// The product of some tokens with some rows of `w`, on one thread: `out` is `[tokens, rows]`.
pub(super) fn multiply(
    isa: Isa,
    w: &PackedMatrix<'_>,
    rows: Range<usize>,
    x: &Tokens<'_>,
    tokens: Range<usize>,
    out: &mut [f32],
) {
    let block = (ROW_BLOCK_BYTES / w.shape().row_bytes()).max(1).next_multiple_of(4);
    for first in rows.clone().step_by(block) {
        let block = first..rows.end.min(first + block);
        let out = &mut out[first - rows.start..];
        match isa.0 {
            Kind::Portable => portable::multiply(w, block, x, tokens.clone(), out, rows.len()),
            // SAFETY: these kinds of `Isa` are made by `Isa::available` alone, where the CPU has these features.
            #[cfg(target_arch = "x86_64")]
            Kind::Avx2 | Kind::AvxVnni | Kind::Avx512Vnni => unsafe {
                avx2::multiply(w, block, x, tokens.clone(), out, rows.len())
            },
        }
    }
}

//! Packing f32 weights: codes and the scale that makes the squared error smallest.

use half::f16;

use crate::isa::for_each_isa;
use crate::lanes;
use crate::packed::{BLOCK_BYTES, Bits, PackedShape};
use crate::{Error, Isa};

/// Rounds of assignment and scale; the error falls in each and is stable to three digits after a few.
const ROUNDS: usize = 8;

/// Clipping values that refining starts from, as shares of the largest weight. Refining ends in a local minimum: the starts go from the
/// whole range down to the middle of a set with outliers.
const STARTS: [f32; 8] = [1.0, 0.9, 0.8, 0.7, 0.55, 0.4, 0.2, 0.1];

/// The same where there is a zero point: scales, as shares of the one that gives the weight of the largest magnitude the level -8. The negative
/// ones have it on the other side, where the last level is 7.
const SIGNED_STARTS: [f32; 16] =
    [1.0, 0.95, 0.9, 0.8, 0.7, 0.55, 0.4, 0.2, -8.0 / 7.0, -1.05, -0.95, -0.85, -0.75, -0.6, -0.4, -0.1];

/// Packs `weights`, `[rows, columns]`, and returns codes `[rows, row_bytes]` and scales `[rows, num_groups]`.
///
/// For 2 and 4 bits the scale is the least-squares one: codes are assigned to the nearest level, then `s = sum(w * l) / sum(l^2)` over
/// the levels `l`, in turns, from several starts; with a zero point, from starts of both signs. For 8 bits it is `max|w| / 127`. Codes are
/// assigned with the scale as it is stored, in f16.
///
/// Rows do not depend on each other: the bytes of some rows are those that a matrix of these rows alone has, so that several threads may
/// pack a matrix in pieces, each with a shape of its own rows. The bytes are the same on every instruction set.
///
/// # Errors
/// [`Error::Weight`] for a weight that is not finite or whose scale f16 cannot hold; [`Error::Length`] for another number of weights.
pub fn pack_matrix(shape: PackedShape, weights: &[f32]) -> Result<(Vec<u8>, Vec<f16>), Error> {
    let (rows, columns) = (shape.rows(), shape.columns());
    if weights.len() != rows * columns {
        let (expected, found) = (rows * columns, weights.len());
        return Err(Error::Length { what: "weights", rows, columns, expected, found });
    }
    if let Some(index) = weights.iter().position(|weight| !weight.is_finite() || weight.abs() > F16_MAX) {
        return Err(Error::Weight { row: index / columns, column: index % columns, found: weights[index] });
    }
    let (mut codes, mut scales) = (vec![0; shape.codes_len()], vec![f16::ZERO; shape.scales_len()]);
    if columns > 0 {
        pack_rows(Isa::active(), shape, weights, &mut codes, &mut scales);
    }
    Ok((codes, scales))
}

/// The largest f16.
const F16_MAX: f32 = 65504.0;

for_each_isa! {
    /// Packs `[rows, columns]` weights, with columns above 0, into zeroed `codes`, `[rows, row_bytes]`, and `scales`, `[rows, num_groups]`.
    fn pack_rows(shape: PackedShape, weights: &[f32], codes: &mut [u8], scales: &mut [f16]) {
        // Three copies, so that levels and shifts are constants.
        match shape.bits() {
            Bits::Two => pack_rows_of(Bits::Two, shape, weights, codes, scales),
            Bits::Four => pack_rows_of(Bits::Four, shape, weights, codes, scales),
            Bits::Eight => pack_rows_of(Bits::Eight, shape, weights, codes, scales),
        }
    }
}

#[inline(always)]
fn pack_rows_of(bits: Bits, shape: PackedShape, weights: &[f32], codes: &mut [u8], scales: &mut [f16]) {
    let columns = shape.columns();
    let group_size = shape.group_size().unwrap_or(columns);
    let mut row_codes = vec![0; columns];
    let rows = codes.chunks_exact_mut(shape.row_bytes()).zip(scales.chunks_exact_mut(shape.num_groups()));
    for (weights, (packed, scales)) in weights.chunks_exact(columns).zip(rows) {
        let groups = weights.chunks(group_size).zip(row_codes.chunks_mut(group_size));
        for ((weights, codes), scale) in groups.zip(scales) {
            *scale = f16::from_f32(best_scale(bits, shape, weights).clamp(-F16_MAX, F16_MAX));
            assign_codes(bits, shape.zero(), weights, scale.to_f32(), codes);
        }
        for (block, run) in packed.chunks_exact_mut(BLOCK_BYTES).zip(row_codes.chunks(bits.weights_per_block())) {
            for (plane, codes) in run.chunks(BLOCK_BYTES).enumerate() {
                let shift = plane as u32 * bits.count();
                block.iter_mut().zip(codes).for_each(|(byte, code)| *byte |= code << shift);
            }
        }
    }
}

/// The codes whose values are nearest to `weights`, one a byte; 0 if the scale is 0.
#[inline(always)]
fn assign_codes(bits: Bits, zero: f32, weights: &[f32], scale: f32, codes: &mut [u8]) {
    if scale == 0.0 {
        return codes.fill(0);
    }
    for (code, &weight) in codes.iter_mut().zip(weights) {
        let ratio = weight / scale;
        let place = match bits {
            Bits::Two | Bits::Four => (ratio + zero).clamp(0.0, largest_code(bits)),
            Bits::Eight => ratio.clamp(-127.0, 127.0),
        };
        *code = (place + ROUNDING).to_bits() as u8;
    }
}

/// Added to a number below 2^22, it leaves no bits for a fraction: the sum is rounded half to even, and its lowest bits are the integer in
/// two's complement.
const ROUNDING: f32 = 12_582_912.0;

/// The largest code of 2 or 4 bits: 3 or 15.
#[inline(always)]
fn largest_code(bits: Bits) -> f32 {
    ((1_u32 << bits.count()) - 1) as f32
}

/// The scale of a group of weights; `bits` are those of `shape`, as a constant.
#[inline(always)]
fn best_scale(bits: Bits, shape: PackedShape, weights: &[f32]) -> f32 {
    let largest = lanes::largest_magnitude(weights);
    if bits == Bits::Eight {
        return largest / 127.0;
    }
    // A scale is below twice the largest weight, as no level but 0 is nearer to 0 than 1/2: this one is 0 in f16.
    if largest < 2.0_f32.powi(-26) {
        return 0.0;
    }
    let zero = shape.zero();
    if shape.zero_point().is_none() {
        return refine(bits, zero, STARTS.map(|share| share * largest / zero), weights);
    }
    let extreme = if weights.contains(&largest) { largest } else { -largest };
    refine(bits, zero, SIGNED_STARTS.map(|share| share * extreme / -zero), weights)
}

/// The best of the scales that alternating assignment and least squares gives from these, for levels `-zero, 1 - zero, ..`.
#[inline(always)]
fn refine<const N: usize>(bits: Bits, zero: f32, mut scales: [f32; N], weights: &[f32]) -> f32 {
    /// Weights whose sums are kept in f32.
    const CHUNK: usize = 256;

    let mut gains = [0.0_f64; N];
    for _ in 0..ROUNDS {
        let inverses = scales.map(|scale| 1.0 / scale);
        let (mut products, mut squares) = ([0.0_f64; N], [0.0_f64; N]);
        for weights in weights.chunks(CHUNK) {
            let (mut product, mut square) = ([0.0_f32; N], [0.0_f32; N]);
            for &weight in weights {
                for lane in 0..N {
                    let place = (weight * inverses[lane] + zero).clamp(0.0, largest_code(bits));
                    let level = (place + ROUNDING) - ROUNDING - zero;
                    product[lane] += weight * level;
                    square[lane] += level * level;
                }
            }
            for lane in 0..N {
                products[lane] += f64::from(product[lane]);
                squares[lane] += f64::from(square[lane]);
            }
        }
        let before = scales;
        for lane in 0..N {
            scales[lane] = (products[lane] / squares[lane]) as f32;
            // The squared error with this scale is sum(w^2) less this.
            gains[lane] = products[lane] * products[lane] / squares[lane];
        }
        if scales == before {
            break;
        }
    }
    let mut best = 0;
    for lane in 1..N {
        if gains[lane] > gains[best] {
            best = lane;
        }
    }
    scales[best]
}

#[cfg(test)]
mod tests;

//! Packing f32 weights: codes and the scale that makes the squared error smallest.

use half::f16;

use crate::Error;
use crate::packed::{BLOCK_BYTES, Bits, PackedShape};

/// Rounds of assignment and scale; the error falls in each and is stable to three digits after a few.
const ROUNDS: usize = 8;

/// Packs `weights`, `[rows, columns]`, and returns codes `[rows, row_bytes]` and scales `[rows, num_groups]`.
///
/// For 2 and 4 bits the scale is the least-squares one: codes are assigned to the nearest level, then `s = sum(w * l) / sum(l^2)` over
/// the levels `l`, in turns, from several starts. For 8 bits it is `max|w| / 127`. Codes are assigned with the scale as it is
/// stored, in f16.
///
/// # Errors
/// [`Error::Weight`] for a weight that is not finite or whose scale f16 cannot hold; [`Error::Length`] for another number of weights.
pub fn pack_matrix(shape: PackedShape, weights: &[f32]) -> Result<(Vec<u8>, Vec<f16>), Error> {
    let (rows, columns) = (shape.rows(), shape.columns());
    if weights.len() != rows * columns {
        let (expected, found) = (rows * columns, weights.len());
        return Err(Error::Length { what: "weights", rows, columns, expected, found });
    }
    // 65504 is the largest f16; the scale of 8 bits is a 127th of the largest weight, of 4 bits a seventh or less.
    if let Some(index) = weights.iter().position(|weight| !weight.is_finite() || weight.abs() > 65504.0) {
        return Err(Error::Weight { row: index / columns, column: index % columns, found: weights[index] });
    }
    let bits = shape.bits();
    let mut codes = vec![0_u8; shape.codes_len()];
    let mut scales = Vec::with_capacity(shape.scales_len());
    let group_size = shape.group_size().unwrap_or(columns).max(1);
    for row in 0..rows {
        let weights = &weights[row * columns..(row + 1) * columns];
        let codes = &mut codes[row * shape.row_bytes()..(row + 1) * shape.row_bytes()];
        if columns == 0 {
            scales.extend(std::iter::repeat_n(f16::ZERO, shape.num_groups()));
        }
        for (group, weights) in weights.chunks(group_size).enumerate() {
            let scale = f16::from_f32(best_scale(bits, weights));
            scales.push(scale);
            for (index, &weight) in weights.iter().enumerate() {
                let column = group * group_size + index;
                let (block, place) = (column / bits.weights_per_block(), column % bits.weights_per_block());
                let shift = (place / BLOCK_BYTES) as u32 * bits.count();
                codes[block * BLOCK_BYTES + place % BLOCK_BYTES] |= nearest_code(bits, weight, scale.to_f32()) << shift;
            }
        }
    }
    Ok((codes, scales))
}

/// Clipping values that refining starts from, as shares of the largest weight.
const STARTS: [f32; 8] = [1.0, 0.9, 0.8, 0.7, 0.55, 0.4, 0.2, 0.1];

/// The code whose value is nearest to `weight`; 0 if the scale is 0.
fn nearest_code(bits: Bits, weight: f32, scale: f32) -> u8 {
    if scale == 0.0 {
        return 0;
    }
    let ratio = weight / scale;
    match bits {
        Bits::Two => (ratio + 1.5).round_ties_even().clamp(0.0, 3.0) as u8,
        Bits::Four => (ratio + 7.5).round_ties_even().clamp(0.0, 15.0) as u8,
        Bits::Eight => ratio.round_ties_even().clamp(-127.0, 127.0) as i8 as u8,
    }
}

/// The scale of a group of weights.
fn best_scale(bits: Bits, weights: &[f32]) -> f32 {
    let largest = weights.iter().fold(0.0_f32, |largest, weight| largest.max(weight.abs()));
    if largest == 0.0 || bits == Bits::Eight {
        return largest / 127.0;
    }
    let top = bits.level((1 << bits.count()) - 1);
    // Refining ends in a local minimum: starts from the whole range down to the middle of a set with outliers.
    let candidates = STARTS.map(|share| refine_scale(bits, weights, share * largest / top));
    let mut best = candidates[0];
    for candidate in candidates {
        if candidate.1 < best.1 {
            best = candidate;
        }
    }
    best.0
}

/// Alternates assignment and scale from `scale`; the scale and its squared error.
fn refine_scale(bits: Bits, weights: &[f32], mut scale: f32) -> (f32, f64) {
    for _ in 0..ROUNDS {
        let (mut product, mut square) = (0.0_f64, 0.0_f64);
        for &weight in weights {
            let level = f64::from(bits.level(nearest_code(bits, weight, scale)));
            product += f64::from(weight) * level;
            square += level * level;
        }
        scale = (product / square) as f32;
    }
    let error = weights.iter().map(|&weight| {
        let value = scale * bits.level(nearest_code(bits, weight, scale));
        f64::from(weight - value).powi(2)
    });
    (scale, error.sum())
}

#[cfg(test)]
mod tests;

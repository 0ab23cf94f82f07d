//! Activations as 8-bit integers, for each token and each group of the weights.
//!
//! `scale = max|a| / 127`, `q = round half to even(a / scale)`;
//! a group of zeros has scale 0 and codes 0. From `docs/format.md`.

use crate::Isa;
use crate::aligned::AlignedVec;
use crate::isa::for_each_isa;
use crate::lanes;
use crate::packed::PackedShape;
use crate::parallel::for_each;

/// Quantized activations of some tokens, laid out for one [`PackedShape`].
#[derive(Debug)]
pub(crate) struct QuantizedActivations {
    /// `[tokens, padded_columns]`; 0 in the padding.
    pub codes: AlignedVec<i8>,
    /// `[tokens, num_groups]`.
    pub scales: Vec<f32>,
    /// Sum of the codes of each group, `[tokens, num_groups]`.
    pub sums: Vec<i32>,
}

impl QuantizedActivations {
    /// Quantizes `activations`, `[tokens, columns]`, with `columns` above 0.
    pub fn new(isa: Isa, activations: &[f32], shape: PackedShape) -> QuantizedActivations {
        let (columns, padded_columns, num_groups) = (shape.columns(), shape.padded_columns(), shape.num_groups());
        let tokens = activations.len() / columns;
        let mut codes = AlignedVec::zeros(tokens * padded_columns);
        let mut scales = vec![0.0; tokens * num_groups];
        let mut sums = vec![0; tokens * num_groups];
        // A decoding step is one job, which no other thread has to be asked for.
        let per_job = PARALLEL_VALUES.div_ceil(columns);
        let jobs = activations.chunks(per_job * columns).zip(codes.chunks_mut(per_job * padded_columns));
        let jobs = jobs.zip(scales.chunks_mut(per_job * num_groups).zip(sums.chunks_mut(per_job * num_groups)));
        for_each(jobs.collect(), |((activations, codes), (scales, sums))| {
            quantize_tokens(isa, activations, shape, codes, scales, sums);
        });
        QuantizedActivations { codes, scales, sums }
    }
}

/// Quantizes some tokens: the lengths are those of [`QuantizedActivations`].
fn quantize_tokens(
    isa: Isa,
    activations: &[f32],
    shape: PackedShape,
    codes: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i32],
) {
    let (columns, num_groups) = (shape.columns(), shape.num_groups());
    let tokens = activations.chunks_exact(columns).zip(codes.chunks_exact_mut(shape.padded_columns()));
    let results = scales.chunks_exact_mut(num_groups).zip(sums.chunks_exact_mut(num_groups));
    let group_size = shape.group_size().unwrap_or(columns);
    for ((activations, codes), (scales, sums)) in tokens.zip(results) {
        quantize_groups(isa, activations, group_size, &mut codes[..columns], scales, sums);
    }
}

/// Activations that are quantized by one thread at a time.
const PARALLEL_VALUES: usize = 1 << 16;

for_each_isa! {
    /// Quantizes one token: groups of `group_size` values, the last may be shorter.
    fn quantize_groups(activations: &[f32], group_size: usize, codes: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
        for (group, (values, codes)) in activations.chunks(group_size).zip(codes.chunks_mut(group_size)).enumerate() {
            let scale = lanes::largest_magnitude(values) / 127.0;
            scales[group] = scale;
            // A scale that underflows to 0 is a group of zeros. Values that are not finite give codes without meaning, as the
            // products would be.
            let divisor = if scale == 0.0 { f32::INFINITY } else { scale };
            let mut sum = 0;
            for (code, &value) in codes.iter_mut().zip(values) {
                *code = round_to_i32(value / divisor, 127.0) as i8;
                sum += i32::from(*code);
            }
            sums[group] = sum;
        }
    }
}

/// Rounds half to even and saturates to `-largest..=largest`, which is below 2^22.
///
/// Adding 1.5 * 2^23 leaves the integer in the low bits of the mantissa, rounded to even by the addition itself; valid as the
/// argument is clamped first. NaN becomes some number in that range or near it.
#[inline(always)]
pub(crate) fn round_to_i32(value: f32, largest: f32) -> i32 {
    const MAGIC: f32 = 12_582_912.0;
    let clamped = value.clamp(-largest, largest);
    ((clamped + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Bits;
    use crate::testing::Random;

    #[test]
    fn codes_are_rounded_half_to_even_with_the_largest_at_127() {
        for isa in Isa::available() {
            let shape = PackedShape::new(Bits::Two, 1, 40, Some(32)).unwrap();
            let mut values = vec![0.0; 40];
            values[..6].copy_from_slice(&[127.0, 0.5, 1.5, -2.5, -126.5, 0.49]);
            values[39] = -2.0;
            let quantized = QuantizedActivations::new(isa, &values, shape);
            assert_eq!(quantized.codes.len(), 256, "padded to a block");
            assert_eq!(quantized.codes[..6], [127, 0, 2, -2, -126, 0]);
            assert_eq!(quantized.codes[39], -127);
            assert_eq!(quantized.scales, [1.0, 2.0 / 127.0]);
            assert_eq!(quantized.sums, [1, -127]);
        }
    }

    #[test]
    fn zeros_tiny_values_and_values_that_are_not_finite_do_no_harm() {
        let shape = PackedShape::new(Bits::Eight, 1, 3, None).unwrap();
        for isa in Isa::available() {
            for values in
                [[0.0; 3], [1e-45, 0.0, -1e-45], [f32::NAN, 1.0, -1.0], [f32::INFINITY, 1.0, f32::NEG_INFINITY]]
            {
                let quantized = QuantizedActivations::new(isa, &values, shape);
                assert!(quantized.codes.iter().all(|&code| code != -128), "{values:?}: {:?}", quantized.codes);
            }
        }
    }

    #[test]
    fn many_tokens_are_quantized_as_each_alone() {
        let shape = PackedShape::new(Bits::Four, 1, 200, Some(64)).unwrap();
        let values = Random::new(3).vec(200 * 1000);
        for isa in Isa::available() {
            let all = QuantizedActivations::new(isa, &values, shape);
            for token in [0, 1, 327, 328, 999] {
                let alone = QuantizedActivations::new(isa, &values[token * 200..(token + 1) * 200], shape);
                assert_eq!(alone.codes[..], all.codes[token * 256..(token + 1) * 256]);
                assert_eq!(alone.scales, all.scales[token * 4..(token + 1) * 4]);
                assert_eq!(alone.sums, all.sums[token * 4..(token + 1) * 4]);
            }
        }
    }
}

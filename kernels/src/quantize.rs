//! Activations as 8-bit integers, for each token and each group of the weights.
//!
//! `scale = max|a| / 127`, `q = round half to even(a / scale)`;
//! a group of zeros has scale 0 and codes 0. From `docs/format.md`.

use rayon::prelude::*;

use crate::Isa;
use crate::isa::for_each_isa;
use crate::packed::PackedShape;

/// Quantized activations of some tokens, laid out for one [`PackedShape`].
#[derive(Debug)]
pub(crate) struct QuantizedActivations {
    /// `[tokens, padded_columns]`; 0 in the padding.
    pub codes: Vec<i8>,
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
        let mut codes = vec![0; tokens * padded_columns];
        let mut scales = vec![0.0; tokens * num_groups];
        let mut sums = vec![0; tokens * num_groups];
        let group_size = shape.group_size().unwrap_or(columns);
        // At most as many pieces as pay for a thread's start; a decoding step is one piece.
        let tokens_per_job = PARALLEL_VALUES.div_ceil(columns);
        let jobs = activations.par_chunks(tokens_per_job * columns);
        let jobs = jobs.zip(codes.par_chunks_mut(tokens_per_job * padded_columns));
        let jobs = jobs.zip(scales.par_chunks_mut(tokens_per_job * num_groups));
        let jobs = jobs.zip(sums.par_chunks_mut(tokens_per_job * num_groups));
        let quantize = |(((activations, codes), scales), sums): (((&[f32], &mut [i8]), &mut [f32]), &mut [i32])| {
            let tokens = activations.chunks_exact(columns).zip(codes.chunks_exact_mut(padded_columns));
            let results = scales.chunks_exact_mut(num_groups).zip(sums.chunks_exact_mut(num_groups));
            for ((activations, codes), (scales, sums)) in tokens.zip(results) {
                quantize_groups(isa, activations, group_size, &mut codes[..columns], scales, sums);
            }
        };
        if tokens <= tokens_per_job {
            quantize((((activations, &mut codes), &mut scales), &mut sums));
        } else {
            jobs.for_each(quantize);
        }
        QuantizedActivations { codes, scales, sums }
    }
}

/// Activations that are quantized by one thread at a time.
const PARALLEL_VALUES: usize = 1 << 16;

for_each_isa! {
    /// Quantizes one token: groups of `group_size` values, the last may be shorter.
    fn quantize_groups(activations: &[f32], group_size: usize, codes: &mut [i8], scales: &mut [f32], sums: &mut [i32]) {
        for (group, (values, codes)) in activations.chunks(group_size).zip(codes.chunks_mut(group_size)).enumerate() {
            let scale = largest_magnitude(values) / 127.0;
            scales[group] = scale;
            // A scale that underflows to 0 is a group of zeros. Values that are not finite give codes without meaning, as the
            // products would be.
            let divisor = if scale == 0.0 { f32::INFINITY } else { scale };
            let mut sum = 0;
            for (code, &value) in codes.iter_mut().zip(values) {
                *code = round_to_i8(value / divisor);
                sum += i32::from(*code);
            }
            sums[group] = sum;
        }
    }
}

/// `max|v|`, in sixteen lanes; 0 for no values.
#[inline(always)]
fn largest_magnitude(values: &[f32]) -> f32 {
    let mut lanes = [0.0_f32; 16];
    let (chunks, rest) = values.as_chunks::<16>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane = if value.abs() > *lane { value.abs() } else { *lane };
        }
    }
    rest.iter().chain(&lanes).fold(0.0, |largest, value| if value.abs() > largest { value.abs() } else { largest })
}

/// Rounds half to even and saturates to -127..=127.
///
/// Adding 1.5 * 2^23 leaves the integer in the low bits of the mantissa, rounded to even by the addition itself; valid as the
/// argument is clamped first. NaN becomes some code.
#[inline(always)]
fn round_to_i8(value: f32) -> i8 {
    const MAGIC: f32 = 12_582_912.0;
    let clamped = value.clamp(-127.0, 127.0);
    ((clamped + MAGIC).to_bits() as i32).wrapping_sub(MAGIC.to_bits() as i32) as i8
}

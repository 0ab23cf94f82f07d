//! LayerNorm and RMSNorm over the last dimension, the same to the bit on every instruction set.

use crate::isa::for_each_isa;
use crate::lanes;

for_each_isa! {
    /// `(x - mean) / sqrt(variance + eps) * weight + bias` for each row of `x`, `[rows, weight.len()]`, in place; the variance is that of the
    /// population, as in `torch.nn.LayerNorm`. `bias` is empty or as long as `weight`.
    pub fn layer_norm(x: &mut [f32], weight: &[f32], bias: &[f32], eps: f32) {
        let columns = check(x, weight);
        assert!(bias.is_empty() || bias.len() == weight.len(), "weight has {} elements, bias {}", weight.len(), bias.len());
        for row in x.chunks_exact_mut(columns) {
            let mean = lanes::sum(row) / columns as f32;
            let variance = lanes::sum_squares(row, mean) / columns as f32;
            let inverse = 1.0 / (variance + eps).sqrt();
            for (value, weight) in row.iter_mut().zip(weight) {
                *value = (*value - mean) * inverse * weight;
            }
            for (value, bias) in row.iter_mut().zip(bias) {
                *value += bias;
            }
        }
    }
}

for_each_isa! {
    /// `x / sqrt(mean(x^2) + eps) * weight` for each row of `x`, `[rows, weight.len()]`, in place.
    ///
    /// Source: tamm 0.2.0, `layers/norm.py`; the weight multiplies directly, it is not `1 + w`.
    pub fn rms_norm(x: &mut [f32], weight: &[f32], eps: f32) {
        let columns = check(x, weight);
        for row in x.chunks_exact_mut(columns) {
            let mean_square = lanes::sum_squares(row, 0.0) / columns as f32;
            let inverse = 1.0 / (mean_square + eps).sqrt();
            for (value, weight) in row.iter_mut().zip(weight) {
                *value = *value * inverse * weight;
            }
        }
    }
}

/// The number of columns, 1 for an empty weight and no values.
#[inline(always)]
fn check(x: &[f32], weight: &[f32]) -> usize {
    let columns = weight.len().max(1);
    assert!(
        x.len().is_multiple_of(columns) && (!weight.is_empty() || x.is_empty()),
        "{} values in rows of {}",
        x.len(),
        weight.len()
    );
    columns
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::testing::{Random, assert_close, assert_same_bits};

    /// One below, at and above the sixteen lanes of the sums.
    const COLUMNS: [usize; 6] = [1, 15, 16, 17, 192, 1000];

    #[test]
    fn layer_norm_is_that_of_f64_on_every_instruction_set() {
        for columns in COLUMNS {
            let mut random = Random::new(2);
            // An offset a hundred times the spread: a one-pass variance would lose it.
            let x: Vec<f32> = random.vec(3 * columns).iter().map(|x| x + 100.0).collect();
            let (weight, bias) = (random.vec(columns), random.vec(columns));
            let mut expected = Vec::new();
            for row in x.chunks(columns) {
                let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / columns as f64;
                let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / columns as f64;
                let inverse = 1.0 / (variance + 1e-6).sqrt();
                let terms = row.iter().zip(weight.iter().zip(&bias));
                expected
                    .extend(terms.map(|(&x, (&w, &b))| (f64::from(x) - mean) * inverse * f64::from(w) + f64::from(b)));
            }
            let mut portable = x.clone();
            layer_norm(Isa::PORTABLE, &mut portable, &weight, &bias, 1e-6);
            // The mean of numbers near 100 is rounded to 8e-6.
            assert_close(&portable, &expected, 3e-5, &format!("{columns} columns"));
            for isa in Isa::available() {
                let mut found = x.clone();
                layer_norm(isa, &mut found, &weight, &bias, 1e-6);
                assert_same_bits(&found, &portable, isa.name());
            }
        }
    }

    #[test]
    fn rms_norm_is_that_of_f64_on_every_instruction_set() {
        for columns in COLUMNS {
            let mut random = Random::new(3);
            let (x, weight) = (random.vec(3 * columns), random.vec(columns));
            let mut expected = Vec::new();
            for row in x.chunks(columns) {
                let mean_square = row.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / columns as f64;
                let root = (mean_square + 1e-5).sqrt();
                expected.extend(row.iter().zip(&weight).map(|(&x, &w)| f64::from(x) / root * f64::from(w)));
            }
            let mut portable = x.clone();
            rms_norm(Isa::PORTABLE, &mut portable, &weight, 1e-5);
            assert_close(&portable, &expected, 1e-6, &format!("{columns} columns"));
            for isa in Isa::available() {
                let mut found = x.clone();
                rms_norm(isa, &mut found, &weight, 1e-5);
                assert_same_bits(&found, &portable, isa.name());
            }
        }
    }

    #[test]
    fn rows_of_zeros_stay_finite() {
        for isa in Isa::available() {
            let (mut x, mut y) = ([0.0; 6], [0.0; 6]);
            layer_norm(isa, &mut x, &[1.0; 3], &[0.5; 3], 1e-6);
            rms_norm(isa, &mut y, &[1.0; 3], 1e-6);
            assert_eq!((x, y), ([0.5; 6], [0.0; 6]));
        }
    }
}

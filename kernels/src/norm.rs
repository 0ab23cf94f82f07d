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
        x.len() % columns == 0 && (!weight.is_empty() || x.is_empty()),
        "{} values in rows of {}",
        x.len(),
        weight.len()
    );
    columns
}

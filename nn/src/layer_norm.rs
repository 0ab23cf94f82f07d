//! LayerNorm with its weights.

use ndarray::{Array2, ArrayView2};
use ocelli_kernels::{Isa, layer_norm};

use crate::{Error, Weights};

/// `(x - mean) / sqrt(variance + eps) * weight + bias` over the last dimension, as `torch.nn.LayerNorm`.
#[derive(Debug, Clone)]
pub struct LayerNorm {
    weight: Vec<f32>,
    bias: Vec<f32>,
    eps: f32,
}

impl LayerNorm {
    /// Reads `weight` and `bias`, both `[dim]`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`], [`Error::Dtype`].
    pub fn load(weights: &Weights, dim: usize, eps: f32) -> Result<LayerNorm, Error> {
        let (weight, bias) = (weights.tensor("weight", &[dim])?, weights.tensor("bias", &[dim])?);
        Ok(LayerNorm { weight, bias, eps })
    }

    /// Normalizes each row of `x`, `[rows, dim]`.
    ///
    /// # Panics
    /// If `x` has another number of columns.
    pub fn forward(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut out = x.as_standard_layout().into_owned();
        self.forward_in_place(&mut out);
        out
    }

    /// Normalizes each row of `x`, `[rows, dim]`, in place.
    ///
    /// # Panics
    /// If `x` has another number of columns.
    pub fn forward_in_place(&self, x: &mut Array2<f32>) {
        assert_eq!(x.ncols(), self.weight.len(), "x has {} columns, expected {}", x.ncols(), self.weight.len());
        crate::with_rows(x, |x| layer_norm(Isa::active(), x, &self.weight, &self.bias, self.eps));
    }
}

//! RMSNorm with its weight.

use ndarray::{Array2, ArrayView2};
use ocelli_kernels::{Isa, rms_norm};

use crate::{Error, Weights};

/// `x / sqrt(mean(x^2) + eps) * weight` over the last dimension (tamm 0.2.0, `layers/norm.py`).
#[derive(Debug, Clone)]
pub struct RmsNorm {
    weight: Vec<f32>,
    eps: f32,
}

impl RmsNorm {
    /// Reads `weight`, `[dim]`.
    ///
    /// # Errors
    /// [`Error::MissingTensor`], [`Error::Shape`], [`Error::Dtype`].
    pub fn load(weights: &Weights, dim: usize, eps: f32) -> Result<RmsNorm, Error> {
        Ok(RmsNorm { weight: weights.tensor("weight", &[dim])?, eps })
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
        crate::with_rows(x, |x| self.forward_slice(x));
    }

    /// Normalizes each run of `dim` values of `x` in place: the heads of queries or keys, for example.
    ///
    /// # Panics
    /// If `x` is not a whole number of runs.
    pub fn forward_slice(&self, x: &mut [f32]) {
        rms_norm(Isa::active(), x, &self.weight, self.eps);
    }
}

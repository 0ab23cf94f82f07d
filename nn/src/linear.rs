//! A linear layer with weights of any kind.

use std::sync::Arc;

use ndarray::{Array2, ArrayView2};

use crate::matrix::Matrix;
use crate::{Error, Weights};

/// `y = x W^T + bias`, with `W` `[out_features, in_features]` packed or f32, and optionally a low-rank addition. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Linear {
    matrix: Matrix,
    bias: Option<Arc<[f32]>>,
    low_rank: Vec<LowRank>,
}

/// `y[first..first + b.rows] += scale * (x a) b` for some of the outputs.
#[derive(Debug, Clone)]
struct LowRank {
    /// `[rank, in_features]`.
    a: Matrix,
    /// `[outputs, rank]`.
    b: Matrix,
    first_output: usize,
    scale: f32,
}

impl Linear {
    /// Reads `weight` and, if `bias`, `bias` of `weights`; see [`Weights::linear`].
    ///
    /// # Errors
    /// Those of [`Weights::linear`].
    pub fn load(weights: &Weights, in_features: usize, out_features: usize, bias: bool) -> Result<Linear, Error> {
        let matrix = Matrix::load(weights, out_features, in_features)?;
        let bias = if bias { Some(weights.tensor("bias", &[out_features])?.into()) } else { None };
        Ok(Linear { matrix, bias, low_rank: Vec::new() })
    }

    /// A layer of f32 weights, `[out_features, in_features]`, and an optional bias, `[out_features]`.
    ///
    /// # Panics
    /// If the lengths do not fit.
    pub fn from_f32(weights: Vec<f32>, out_features: usize, in_features: usize, bias: Option<Vec<f32>>) -> Linear {
        if let Some(bias) = &bias {
            assert_eq!(bias.len(), out_features, "the bias has {} elements, expected {out_features}", bias.len());
        }
        let matrix = Matrix::from_f32(weights, out_features, in_features);
        Linear { matrix, bias: bias.map(Into::into), low_rank: Vec::new() }
    }

    pub(crate) fn from_matrix(matrix: Matrix) -> Linear {
        Linear { matrix, bias: None, low_rank: Vec::new() }
    }

    /// This layer with `y[first_output..][..outputs] += scale * ((x @ a) @ b)`: a LoRA adapter that is kept apart from the weights. `a` is
    /// `[in_features, rank]` and `b` `[rank, outputs]`, as tamm stores them (`a_transpose`, `b_transpose`). A fused layer takes one for each
    /// of its parts.
    ///
    /// # Panics
    /// If the lengths do not fit.
    #[must_use]
    pub fn with_low_rank(mut self, a: &[f32], b: &[f32], rank: usize, first_output: usize, scale: f32) -> Linear {
        let outputs = b.len() / rank.max(1);
        let end = first_output.checked_add(outputs);
        assert!(end.is_some_and(|end| end <= self.out_features()), "outputs {first_output} and {outputs} more");
        let a = Matrix::from_f32(transpose(a, self.in_features(), rank), rank, self.in_features());
        let b = Matrix::from_f32(transpose(b, rank, outputs), outputs, rank);
        self.low_rank.push(LowRank { a, b, first_output, scale });
        self
    }

    /// `x` is `[tokens, in_features]`; the result `[tokens, out_features]`.
    ///
    /// # Panics
    /// If `x` has another number of columns.
    pub fn forward(&self, x: ArrayView2<'_, f32>) -> Array2<f32> {
        let mut out = Array2::zeros((x.nrows(), self.out_features()));
        self.forward_into(x, out.as_slice_mut().expect("standard layout"));
        out
    }

    /// [`Linear::forward`] into `out`, `[tokens, out_features]`.
    ///
    /// # Panics
    /// If `x` has another number of columns, or `out` another length.
    pub fn forward_into(&self, x: ArrayView2<'_, f32>, out: &mut [f32]) {
        assert_eq!(x.ncols(), self.in_features(), "x has {} columns, expected {}", x.ncols(), self.in_features());
        assert_eq!(out.len(), x.nrows() * self.out_features(), "out is not {} rows", x.nrows());
        let tokens = x.nrows();
        let x = x.as_standard_layout();
        let x = x.as_slice().expect("standard layout");
        self.matrix.matmul(x, self.bias.as_deref(), out);
        for LowRank { a, b, first_output, scale } in &self.low_rank {
            let [mut inner, mut addition] = [a.rows(), b.rows()].map(|width| vec![0.0; tokens * width]);
            a.matmul(x, None, &mut inner);
            b.matmul(&inner, None, &mut addition);
            for (out, addition) in out.chunks_exact_mut(self.out_features()).zip(addition.chunks_exact(b.rows())) {
                out[*first_output..].iter_mut().zip(addition).for_each(|(out, addition)| *out += scale * addition);
            }
        }
    }

    /// Columns of the weights.
    pub fn in_features(&self) -> usize {
        self.matrix.columns()
    }

    /// Rows of the weights.
    pub fn out_features(&self) -> usize {
        self.matrix.rows()
    }

    /// Bits of a weight as it is held: 2, 4, 8 or 32 (bf16 and f16 are held as f32).
    pub fn bits(&self) -> u32 {
        self.matrix.bits()
    }

    /// Bytes of weights, scales and bias as they are held.
    pub fn num_bytes(&self) -> usize {
        self.matrix.num_bytes() + self.bias.as_ref().map_or(0, |bias| size_of_val::<[f32]>(bias))
    }

    /// The number of weights and biases.
    pub fn num_parameters(&self) -> usize {
        self.in_features() * self.out_features() + self.bias.as_ref().map_or(0, |bias| bias.len())
    }
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    assert_eq!(values.len(), rows * columns, "{} values are not [{rows}, {columns}]", values.len());
    (0..columns).flat_map(|column| (0..rows).map(move |row| values[row * columns + column])).collect()
}

#[cfg(test)]
mod tests;

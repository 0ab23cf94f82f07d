//! An embedding: rows of a matrix by number, and the same matrix as the head of a language model.

use ndarray::Array2;

use crate::matrix::Matrix;
use crate::{Error, Linear, Weights};

/// `[num_embeddings, dim]`, packed or f32. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Embedding {
    matrix: Matrix,
    name: String,
}

impl Embedding {
    /// Reads `weight` of `weights`; see [`Weights::embedding`].
    ///
    /// # Errors
    /// Those of [`Weights::linear`].
    pub fn load(weights: &Weights, num_embeddings: usize, dim: usize) -> Result<Embedding, Error> {
        Ok(Embedding { matrix: Matrix::load(weights, num_embeddings, dim)?, name: weights.full_name("weight") })
    }

    /// The rows of `ids`, `[ids.len(), dim]`.
    ///
    /// # Errors
    /// [`Error::Row`] for an id that is not below `num_embeddings`.
    pub fn forward(&self, ids: &[u32]) -> Result<Array2<f32>, Error> {
        let num_embeddings = self.num_embeddings();
        if let Some(&id) = ids.iter().find(|&&id| id as usize >= num_embeddings) {
            return Err(Error::Row { tensor: self.name.clone(), id, num_embeddings });
        }
        let mut rows = Array2::zeros((ids.len(), self.dim()));
        for (mut row, &id) in rows.rows_mut().into_iter().zip(ids) {
            self.matrix.row(id as usize, row.as_slice_mut().expect("standard layout"));
        }
        Ok(rows)
    }

    /// The same matrix, in the same memory, as a linear layer from `dim` to `num_embeddings`: a tied head.
    pub fn as_linear(&self) -> Linear {
        Linear::from_matrix(self.matrix.clone())
    }

    /// Rows.
    pub fn num_embeddings(&self) -> usize {
        self.matrix.rows()
    }

    /// Columns.
    pub fn dim(&self) -> usize {
        self.matrix.columns()
    }

    /// Bits of a weight as it is held: 2, 4, 8 or 32.
    pub fn bits(&self) -> u32 {
        self.matrix.bits()
    }

    /// Bytes of weights and scales as they are held.
    pub fn num_bytes(&self) -> usize {
        self.matrix.num_bytes()
    }
}

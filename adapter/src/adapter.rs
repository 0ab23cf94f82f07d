//! Features of a view to image tokens.
//!
//! ```text
//! features -> transformer layer -> proj (Cv -> hidden_size) -> 3 x 3 convolution -> average pooling -> + positions
//! ```

use ndarray::{Array2, Array3, ArrayView2};
use ocelli_nn::{EncoderLayer, Linear, Weights, on_pool};

use crate::config::AdapterConfig;
use crate::conv_pool::{PoolAxis, pool_shifted};
use crate::error::{Error, Result};
use crate::position_embed::{POSITIONS, block_means};

/// The adapter between encoder and decoder.
#[derive(Debug)]
pub struct Adapter {
    layer: EncoderLayer,
    proj: Linear,
    conv: Linear,
    /// `[12, 12, hidden_size]`.
    position_embedding: Option<Array3<f32>>,
}

impl Adapter {
    /// Reads the adapter under the prefix of `weights` (`adapter` in a model directory).
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] when a field makes no sense, [`crate::ErrorKind::Weights`] when a tensor is missing
    /// or has another shape.
    pub fn load(
        weights: &Weights,
        config: &AdapterConfig,
        vision_hidden_size: usize,
        text_hidden_size: usize,
    ) -> Result<Self> {
        config.validate(vision_hidden_size)?;
        let position_embedding = if config.position_embedding {
            let shape = [POSITIONS, POSITIONS, text_hidden_size];
            let values = weights.tensor("position_embedding", &shape)?;
            Some(Array3::from_shape_vec(shape, values).expect("the tensor has the shape that was asked for"))
        } else {
            None
        };
        Ok(Self {
            layer: EncoderLayer::load(&weights.pp("layer"), &config.layer(vision_hidden_size))?,
            proj: weights.linear("proj", vision_hidden_size, text_hidden_size, true)?,
            conv: weights.linear("conv", 9 * text_hidden_size, text_hidden_size, true)?,
            position_embedding,
        })
    }

    /// The image tokens of one view, `[pooled rows * columns, hidden_size]`.
    ///
    /// `features`: `[rows * columns, vision hidden_size]` on a `grid` of (rows, columns) patches; `pooled`: rows and
    /// columns of image tokens.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] when the features do not fit the grid, when the grid is smaller than the pooled one,
    /// or when the pooled grid does not divide the position embedding.
    pub fn adapt(
        &self,
        features: ArrayView2<f32>,
        grid: (usize, usize),
        pooled: (usize, usize),
    ) -> Result<Array2<f32>> {
        let expected = [grid.0 * grid.1, self.proj.in_features()];
        if features.shape() != expected {
            return Err(Error::Features { found: [features.nrows(), features.ncols()], expected });
        }
        let (rows, columns) = PoolAxis::new(grid.0, pooled.0)
            .zip(PoolAxis::new(grid.1, pooled.1))
            .ok_or(Error::Pooled { grid, pooled })?;
        let positions = match &self.position_embedding {
            Some(table) => Some(block_means(table, pooled).ok_or(Error::Positions { pooled })?),
            None => None,
        };
        Ok(on_pool(|| {
            let mut tokens = features.to_owned();
            let num_patches = tokens.nrows();
            self.layer.forward(&mut tokens, &[num_patches]);
            let projected = self.proj.forward(tokens.view()); // [rows * columns, hidden_size]
            let mut image_tokens = self.conv.forward(pool_shifted(projected.view(), rows, columns).view());
            if let Some(positions) = positions {
                image_tokens += &positions;
            }
            image_tokens
        }))
    }
}

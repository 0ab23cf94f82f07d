//! Features of a view to image tokens, by an adapter of any kind.

use ndarray::{Array2, ArrayView2};
use ocelli_nn::Weights;

use crate::config::AdapterConfig;
use crate::conv_pool::ConvPool;
use crate::error::{Error, Result};
use crate::mlp::Mlp;
use crate::pixel_shuffle::PixelShuffle;

/// The adapter between encoder and decoder.
#[derive(Debug)]
pub struct Adapter {
    vision_hidden_size: usize,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    ConvPool(Box<ConvPool>),
    PixelShuffle(PixelShuffle),
    Mlp(Mlp),
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
        let (vision, text) = (vision_hidden_size, text_hidden_size);
        let kind = match config {
            AdapterConfig::ConvPool(config) => Kind::ConvPool(Box::new(ConvPool::load(weights, config, vision, text)?)),
            AdapterConfig::PixelShuffle(config) => {
                Kind::PixelShuffle(PixelShuffle::load(weights, config, vision, text)?)
            }
            AdapterConfig::Mlp(config) => Kind::Mlp(Mlp::load(weights, config, vision, text)?),
        };
        Ok(Self { vision_hidden_size, kind })
    }

    /// The image tokens of one view, `[pooled rows * columns, hidden_size]`.
    ///
    /// `features`: `[rows * columns, vision hidden_size]` on a `grid` of (rows, columns) patches; `pooled`: rows and
    /// columns of image tokens.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] when the features do not fit the grid, or when this adapter cannot make the pooled grid of it: one larger than
    /// the grid, or that does not divide the position embedding (`conv_pool`); another than that of the squares of `scale_factor`
    /// (`pixel_shuffle`); another than the grid itself (`mlp`).
    pub fn adapt(
        &self,
        features: ArrayView2<f32>,
        grid: (usize, usize),
        pooled: (usize, usize),
    ) -> Result<Array2<f32>> {
        let expected = [grid.0 * grid.1, self.vision_hidden_size];
        if features.shape() != expected {
            return Err(Error::Features { found: [features.nrows(), features.ncols()], expected });
        }
        match &self.kind {
            Kind::ConvPool(adapter) => adapter.adapt(features, grid, pooled),
            Kind::PixelShuffle(adapter) => adapter.adapt(features, grid, pooled),
            Kind::Mlp(adapter) => adapter.adapt(features, grid, pooled),
        }
    }
}

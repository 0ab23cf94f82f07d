//! A vision encoder of either architecture, as config.json names it.

use ndarray::{Array2, ArrayView2, ArrayView4, Axis, Slice};
use ocelli_nn::{Weights, on_pool};

use crate::config::VisionConfig;
use crate::error::{Error, Result};
use crate::rw_vitdet::RwVitDet;
use crate::vit::Vit;

/// What an encoder makes of views.
#[derive(Clone, Debug)]
pub struct Features {
    /// Rows and columns of patches of each view.
    pub grid: (usize, usize),
    /// `[num_views * rows * columns, hidden_size]`, view by view, row by row, after the final layer norm.
    pub tokens: Array2<f32>,
    /// `[num_views, hidden_size]`: one vector for each view; the registers' mean (RW-ViTDet), the class token or the
    /// patches' mean (ViT).
    pub pooled: Array2<f32>,
}

impl Features {
    /// The number of views.
    pub fn num_views(&self) -> usize {
        self.pooled.nrows()
    }

    /// The features of one view, `[rows * columns, hidden_size]`.
    ///
    /// # Panics
    /// When there is no such view.
    pub fn view(&self, index: usize) -> ArrayView2<'_, f32> {
        let length = self.grid.0 * self.grid.1;
        self.tokens.slice_axis(Axis(0), Slice::from(index * length..(index + 1) * length))
    }
}

/// A vision encoder: normalised pixel values to features.
#[derive(Debug)]
pub struct Encoder {
    config: VisionConfig,
    architecture: Architecture,
}

#[derive(Debug)]
enum Architecture {
    RwVitDet(RwVitDet),
    Vit(Vit),
}

impl Encoder {
    /// Reads the encoder under the prefix of `weights` (`vision` in a model directory).
    ///
    /// `grids`: rows and columns of patches of the views to come; their position embeddings are resampled here, once.
    /// Other grids work and are resampled for every view.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] when a field makes no sense, [`crate::ErrorKind::Weights`] when a tensor is
    /// missing or has another shape.
    pub fn load(weights: &Weights, config: &VisionConfig, grids: &[(usize, usize)]) -> Result<Self> {
        config.validate()?;
        let architecture = match config {
            VisionConfig::RwVitDet(config) => Architecture::RwVitDet(RwVitDet::load(weights, config, grids)?),
            VisionConfig::Vit(config) => Architecture::Vit(Vit::load(weights, config, grids)?),
        };
        Ok(Self { config: config.clone(), architecture })
    }

    /// The configuration.
    pub fn config(&self) -> &VisionConfig {
        &self.config
    }

    /// Views `[num_views, 3, height, width]` to features, one view after the other.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Shape`] when there are not three channels or the patches do not divide the views.
    pub fn encode(&self, pixel_values: ArrayView4<f32>) -> Result<Features> {
        let (num_views, channels, height, width) = pixel_values.dim();
        if channels != self.config.encoder().num_channels {
            return Err(Error::Shape {
                what: "pixel_values",
                found: pixel_values.shape().to_vec(),
                expected: format!("[num_views, {}, height, width]", self.config.encoder().num_channels),
            });
        }
        let grid = self.config.patch_grid(height, width)?;
        let (length, hidden_size) = (grid.0 * grid.1, self.config.hidden_size());
        let mut tokens = Array2::zeros((num_views * length, hidden_size));
        let mut pooled = Array2::zeros((num_views, hidden_size));
        for (index, view) in pixel_values.axis_iter(Axis(0)).enumerate() {
            let (features, summary) = on_pool(|| match &self.architecture {
                Architecture::RwVitDet(encoder) => encoder.encode(view, grid),
                Architecture::Vit(encoder) => encoder.encode(view, grid),
            });
            tokens.slice_axis_mut(Axis(0), Slice::from(index * length..(index + 1) * length)).assign(&features);
            pooled.row_mut(index).assign(&summary);
        }
        Ok(Features { grid, tokens, pooled })
    }
}

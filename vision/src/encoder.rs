//! A vision encoder of either architecture, as config.json names it.

use ndarray::{Array1, Array2, ArrayView2, ArrayView4, Axis, Slice};
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
    /// `[num_views * rows * columns, hidden_size]`, view by view, row by row; after the final layer norm, unless
    /// [`crate::PostLayernorm`] says that it is not for them.
    pub tokens: Array2<f32>,
    /// `[num_views * num_prefix_tokens, hidden_size]`: class token and registers of a `vit`, view by view, normed as `tokens` are; none for
    /// `rw_vitdet`, whose registers are in `pooled`.
    pub prefix_tokens: Array2<f32>,
    /// `[num_views, pooled_size]`: one vector for each view; the registers' mean (RW-ViTDet), or what [`crate::Pooling`]
    /// names (ViT), after the projection if there is one. The width is [`VisionConfig::pooled_size`].
    pub pooled: Array2<f32>,
}

/// What an encoder makes of one view.
pub(crate) struct ViewFeatures {
    /// `[rows * columns, hidden_size]`.
    pub(crate) tokens: Array2<f32>,
    /// `[num_prefix_tokens, hidden_size]`.
    pub(crate) prefix_tokens: Array2<f32>,
    /// `[pooled_size]`.
    pub(crate) pooled: Array1<f32>,
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

/// What an encoder shows the tokens of a view to, `[tokens, hidden_size]`.
pub(crate) type Observe<'a> = dyn FnMut(ArrayView2<f32>) + Send + 'a;
/// The same for several views: the number of the view comes first.
type ObserveViews<'a> = dyn FnMut(usize, ArrayView2<f32>) + Send + 'a;

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
        self.run(pixel_values, None)
    }

    /// [`Encoder::encode`], with a look at what is between the layers: `observe(view, tokens)` is called before the first
    /// layer and after each, `num_hidden_layers + 1` times for every view, and always before the final layer norm.
    ///
    /// `tokens` is `[tokens, hidden_size]`: for `vit` the whole sequence with class token and registers, after
    /// `pre_layernorm` (`hidden_states` of Hugging Face transformers); for `rw_vitdet` the patches row by row, without
    /// registers. `observe` runs on a thread of the rayon pool.
    ///
    /// # Errors
    /// As [`Encoder::encode`].
    pub fn encode_observed(
        &self,
        pixel_values: ArrayView4<f32>,
        observe: &mut (dyn FnMut(usize, ArrayView2<f32>) + Send),
    ) -> Result<Features> {
        self.run(pixel_values, Some(observe))
    }

    fn run(&self, pixel_values: ArrayView4<f32>, mut observe: Option<&mut ObserveViews>) -> Result<Features> {
        let (num_views, channels, height, width) = pixel_values.dim();
        if channels != self.config.encoder().num_channels {
            return Err(Error::Shape {
                what: "pixel_values",
                found: pixel_values.shape().to_vec(),
                expected: format!("[num_views, {}, height, width]", self.config.encoder().num_channels),
            });
        }
        let grid = self.config.patch_grid(height, width)?;
        let length = grid.0 * grid.1;
        let hidden_size = self.config.hidden_size();
        let mut tokens = Array2::zeros((num_views * length, hidden_size));
        let mut prefix_tokens = Array2::zeros((0, hidden_size));
        let mut pooled = Array2::zeros((num_views, self.config.pooled_size()));
        for (index, view) in pixel_values.axis_iter(Axis(0)).enumerate() {
            let mut of_view = observe.as_mut().map(|observe| |tokens: ArrayView2<f32>| observe(index, tokens));
            let of_view = of_view.as_mut().map(|observe| observe as &mut Observe);
            let features = on_pool(|| match &self.architecture {
                Architecture::RwVitDet(encoder) => encoder.encode(view, grid, of_view),
                Architecture::Vit(encoder) => encoder.encode(view, grid, of_view),
            });
            tokens.slice_axis_mut(Axis(0), Slice::from(index * length..(index + 1) * length)).assign(&features.tokens);
            prefix_tokens.append(Axis(0), features.prefix_tokens.view()).expect("all views have tokens of one width");
            pooled.row_mut(index).assign(&features.pooled);
        }
        Ok(Features { grid, tokens, prefix_tokens, pooled })
    }
}

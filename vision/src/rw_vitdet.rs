//! ViTDet with register windows: attention stays inside windows of patches, registers carry the rest.
//!
//! ```text
//! windowed layer, each window w:  [r_w ; x_w] <- layer([r_w ; x_w])
//! global layer:                   r <- mean over w of r_w;  [r ; x] <- layer([r ; x]);  r_w <- r for every w
//! ```
//!
//! A register gathers its window before it takes part in the global exchange, and carries the global summary back.
//!
//! Source: our reading of the AFM 2025 report (arXiv 2507.13575), defined in `docs/architecture.md`.

use ndarray::{Array1, Array2, ArrayView3, Axis, Slice};
use ocelli_nn::{EncoderLayer, LayerNorm, Weights};

use crate::config::{PositionResampling, RwVitDetConfig, VisionConfig};
use crate::encoder::{Observe, ViewFeatures};
use crate::error::Result;
use crate::patch_embed::PatchEmbed;
use crate::position_embed::PositionEmbedding;
use crate::window::{Windows, prepend};

/// The encoder of the on-device model.
#[derive(Debug)]
pub(crate) struct RwVitDet {
    patch_embed: PatchEmbed,
    position_embedding: PositionEmbedding,
    /// `[num_register_tokens, hidden_size]`.
    register_tokens: Array2<f32>,
    layers: Vec<EncoderLayer>,
    /// For each layer: does it attend over the whole grid?
    is_global: Vec<bool>,
    post_layernorm: LayerNorm,
    window_size: usize,
}

impl RwVitDet {
    /// Reads the encoder under the prefix of `weights`, for views of `grids` patches.
    pub(crate) fn load(weights: &Weights, config: &RwVitDetConfig, grids: &[(usize, usize)]) -> Result<Self> {
        let encoder = &config.encoder;
        let hidden_size = encoder.hidden_size;
        let layer_config = VisionConfig::RwVitDet(config.clone()).layer();
        let layers = (0..encoder.num_hidden_layers)
            .map(|layer| Ok(EncoderLayer::load(&weights.pp(format!("layers.{layer}")), &layer_config)?))
            .collect::<Result<_>>()?;
        let (position_size, resampling) = (config.position_embedding_size, PositionResampling::Bicubic);
        Ok(Self {
            patch_embed: PatchEmbed::load(weights, encoder)?,
            position_embedding: PositionEmbedding::load(weights, position_size, hidden_size, resampling, grids)?,
            register_tokens: load_tokens(weights, "register_tokens", config.num_register_tokens, hidden_size)?,
            layers,
            is_global: (0..encoder.num_hidden_layers).map(|layer| config.global_layers.contains(&layer)).collect(),
            post_layernorm: LayerNorm::load(&weights.pp("post_layernorm"), hidden_size, encoder.layer_norm_eps)?,
            window_size: config.window_size,
        })
    }

    /// One view `[num_channels, height, width]` of `grid` patches to features `[rows * columns, hidden_size]` and the
    /// mean of the registers `[hidden_size]` (the class embedding of contrastive training). `observe` is called with the
    /// patches row by row, `[rows * columns, hidden_size]`, before the first layer and after each.
    pub(crate) fn encode(
        &self,
        view: ArrayView3<f32>,
        grid: (usize, usize),
        mut observe: Option<&mut Observe>,
    ) -> ViewFeatures {
        let mut patches = self.patch_embed.forward(view);
        self.position_embedding.add_to(&mut patches, grid);
        let num_registers = self.register_tokens.nrows();
        let windows = Windows::new(grid, self.window_size, num_registers);
        let sequence_lengths = windows.sequence_lengths();
        let mut seen = |tokens: &Array2<f32>| {
            if let Some(observe) = &mut observe {
                let merged = windows.merge(tokens.view());
                observe(merged.slice_axis(Axis(0), Slice::from(num_registers..)));
            }
        };

        // [num_windows * num_registers + rows * columns, hidden_size]
        let mut tokens = windows.partition(prepend(self.register_tokens.view(), patches.view()).view());
        seen(&tokens);
        for (layer, &is_global) in self.layers.iter().zip(&self.is_global) {
            if is_global {
                let mut merged = windows.merge(tokens.view());
                let length = merged.nrows();
                layer.forward(&mut merged, &[length]);
                tokens = windows.partition(merged.view());
            } else {
                layer.forward(&mut tokens, &sequence_lengths);
            }
            seen(&tokens);
        }
        let merged = self.post_layernorm.forward(windows.merge(tokens.view()).view());
        let (registers, features) = merged.view().split_at(Axis(0), num_registers);
        let pooled = registers.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(merged.ncols()));
        let prefix_tokens = Array2::zeros((0, merged.ncols()));
        ViewFeatures { tokens: features.to_owned(), prefix_tokens, pooled }
    }
}

/// `name` as `[num_tokens, hidden_size]`; without tokens there is no tensor.
pub(crate) fn load_tokens(weights: &Weights, name: &str, num_tokens: usize, hidden_size: usize) -> Result<Array2<f32>> {
    if num_tokens == 0 {
        return Ok(Array2::zeros((0, hidden_size)));
    }
    let shape = [num_tokens, hidden_size];
    let values = weights.tensor(name, &shape)?;
    Ok(Array2::from_shape_vec(shape, values).expect("the tensor has the shape that was asked for"))
}

//! The plain vision transformer: every layer attends over the whole view.
//!
//! ```text
//! [class token ; registers ; patches + positions] -> pre_layernorm? -> layers -> post_layernorm
//! ```
//!
//! CLIP (pre_layernorm, class token, quick GELU), SigLIP (none of them), DINOv2 (class token, layer_scale, registers)
//! and open_clip encoders are configurations. The class token's own position embedding is added to it in the file.
//!
//! Source: "An Image is Worth 16x16 Words" (arXiv 2010.11929); registers: arXiv 2309.16588; layer_scale: 2103.17239.

use ndarray::{Array1, Array2, ArrayView2, ArrayView3, Axis};
use ocelli_nn::{EncoderLayer, LayerNorm, Weights};

use crate::config::{VisionConfig, VitConfig};
use crate::error::Result;
use crate::patch_embed::PatchEmbed;
use crate::position_embed::PositionEmbedding;
use crate::rw_vitdet::load_tokens;
use crate::window::prepend;

/// The plain encoder.
#[derive(Debug)]
pub(crate) struct Vit {
    patch_embed: PatchEmbed,
    position_embedding: PositionEmbedding,
    /// Class token, then registers: `[num_prefix_tokens, hidden_size]`.
    prefix_tokens: Array2<f32>,
    has_class_token: bool,
    pre_layernorm: Option<LayerNorm>,
    layers: Vec<EncoderLayer>,
    post_layernorm: LayerNorm,
}

impl Vit {
    /// Reads the encoder under the prefix of `weights`, for views of `grids` patches.
    pub(crate) fn load(weights: &Weights, config: &VitConfig, grids: &[(usize, usize)]) -> Result<Self> {
        let encoder = &config.encoder;
        let hidden_size = encoder.hidden_size;
        let whole = VisionConfig::Vit(config.clone());
        let layer_config = whole.layer();
        let layers = (0..encoder.num_hidden_layers)
            .map(|layer| Ok(EncoderLayer::load(&weights.pp(format!("layers.{layer}")), &layer_config)?))
            .collect::<Result<_>>()?;
        let norm = |name: &str| LayerNorm::load(&weights.pp(name), hidden_size, encoder.layer_norm_eps);
        let class_token = if config.class_token { weights.tensor("class_token", &[hidden_size])? } else { Vec::new() };
        let class_token = ArrayView2::from_shape((usize::from(config.class_token), hidden_size), &class_token)
            .expect("the tensor has the shape that was asked for");
        let registers = load_tokens(weights, "register_tokens", config.num_register_tokens, hidden_size)?;
        Ok(Self {
            patch_embed: PatchEmbed::load(weights, encoder)?,
            position_embedding: PositionEmbedding::load(weights, whole.position_embedding_size(), hidden_size, grids)?,
            prefix_tokens: prepend(class_token, registers.view()),
            has_class_token: config.class_token,
            pre_layernorm: config.pre_layernorm.then(|| norm("pre_layernorm")).transpose()?,
            layers,
            post_layernorm: norm("post_layernorm")?,
        })
    }

    /// One view `[num_channels, height, width]` of `grid` patches to features `[rows * columns, hidden_size]` and one
    /// vector for the whole view `[hidden_size]`: the class token, or the mean of the patches.
    pub(crate) fn encode(&self, view: ArrayView3<f32>, grid: (usize, usize)) -> (Array2<f32>, Array1<f32>) {
        let mut patches = self.patch_embed.forward(view);
        self.position_embedding.add_to(&mut patches, grid);
        let mut tokens = prepend(self.prefix_tokens.view(), patches.view());
        if let Some(norm) = &self.pre_layernorm {
            tokens = norm.forward(tokens.view());
        }
        let length = tokens.nrows();
        for layer in &self.layers {
            layer.forward(&mut tokens, &[length]);
        }
        let tokens = self.post_layernorm.forward(tokens.view());
        let (prefix, features) = tokens.view().split_at(Axis(0), self.prefix_tokens.nrows());
        let pooled = if self.has_class_token {
            prefix.row(0).to_owned()
        } else {
            features.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(tokens.ncols()))
        };
        (features.to_owned(), pooled)
    }
}

//! The plain vision transformer: every layer attends over the whole view.
//!
//! ```text
//! [class token ; registers ; patches + positions] -> pre_layernorm? -> layers -> post_layernorm? -> features
//! class token, mean of the patches or attention pooling -> projection? -> the vector of the view
//! ```
//!
//! CLIP (pre_layernorm, class token, quick GELU, post_layernorm of the pooled vector, projection), SigLIP (attention pooling), Idefics3
//! (nearest positions), DINOv2 (class token, layer_scale, registers, gated MLP) and open_clip encoders are configurations. The class
//! token's own position embedding is added to it in the file.
//!
//! Source: "An Image is Worth 16x16 Words" (arXiv 2010.11929); registers: arXiv 2309.16588; layer_scale: 2103.17239.

use ndarray::{Array1, Array2, ArrayView2, ArrayView3, Axis, Slice};
use ocelli_nn::{EncoderLayer, LayerNorm, Linear, Weights};

use crate::attention_pool::AttentionPool;
use crate::config::{Pooling, PostLayernorm, VisionConfig, VitConfig};
use crate::encoder::{Observe, ViewFeatures};
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
    pre_layernorm: Option<LayerNorm>,
    layers: Vec<EncoderLayer>,
    post_layernorm: Option<LayerNorm>,
    /// Does `post_layernorm` act on every token, or on the pooled vector alone?
    norms_tokens: bool,
    pooler: Pooler,
    /// `[projection_dim, hidden_size]`.
    projection: Option<Linear>,
}

/// How the tokens become one vector.
#[derive(Debug)]
enum Pooler {
    ClassToken,
    Mean,
    Attention(Box<AttentionPool>),
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
        let position_size = whole.position_embedding_size();
        let resampling = config.position_resampling;
        let has_post_layernorm = config.post_layernorm != PostLayernorm::None;
        let projection = |dim| weights.linear("projection", hidden_size, dim, false);
        Ok(Self {
            patch_embed: PatchEmbed::load(weights, encoder)?,
            position_embedding: PositionEmbedding::load(weights, position_size, hidden_size, resampling, grids)?,
            prefix_tokens: prepend(class_token, registers.view()),
            pre_layernorm: config.pre_layernorm.then(|| norm("pre_layernorm")).transpose()?,
            layers,
            post_layernorm: has_post_layernorm.then(|| norm("post_layernorm")).transpose()?,
            norms_tokens: config.post_layernorm == PostLayernorm::Tokens,
            pooler: match config.pooling() {
                Pooling::ClassToken => Pooler::ClassToken,
                Pooling::Mean => Pooler::Mean,
                Pooling::Attention => Pooler::Attention(Box::new(AttentionPool::load(&weights.pp("pooler"), encoder)?)),
            },
            projection: config.projection_dim.map(projection).transpose()?,
        })
    }

    /// One view `[num_channels, height, width]` of `grid` patches to features `[rows * columns, hidden_size]` and one
    /// vector for the whole view, `[hidden_size]` or `[projection_dim]`. `observe` is called with all tokens,
    /// `[num_prefix_tokens + rows * columns, hidden_size]`, before the first layer and after each.
    pub(crate) fn encode(
        &self,
        view: ArrayView3<f32>,
        grid: (usize, usize),
        mut observe: Option<&mut Observe>,
    ) -> ViewFeatures {
        let mut patches = self.patch_embed.forward(view);
        self.position_embedding.add_to(&mut patches, grid);
        let mut tokens = prepend(self.prefix_tokens.view(), patches.view());
        if let Some(norm) = &self.pre_layernorm {
            tokens = norm.forward(tokens.view());
        }
        let mut seen = |tokens: &Array2<f32>| {
            if let Some(observe) = &mut observe {
                observe(tokens.view());
            }
        };
        seen(&tokens);
        let length = tokens.nrows();
        for layer in &self.layers {
            layer.forward(&mut tokens, &[length]);
            seen(&tokens);
        }
        if let (Some(norm), true) = (&self.post_layernorm, self.norms_tokens) {
            norm.forward_in_place(&mut tokens);
        }
        let prefix_tokens = tokens.slice_axis(Axis(0), Slice::from(..self.prefix_tokens.nrows()));
        let features = tokens.slice_axis(Axis(0), Slice::from(self.prefix_tokens.nrows()..));
        let mut pooled = match &self.pooler {
            Pooler::ClassToken => tokens.row(0).to_owned(),
            Pooler::Mean => features.mean_axis(Axis(0)).unwrap_or_else(|| Array1::zeros(tokens.ncols())),
            Pooler::Attention(pooler) => pooler.forward(tokens.view()),
        }
        .insert_axis(Axis(0));
        if let (Some(norm), false) = (&self.post_layernorm, self.norms_tokens) {
            norm.forward_in_place(&mut pooled);
        }
        if let Some(projection) = &self.projection {
            pooled = projection.forward(pooled.view());
        }
        ViewFeatures {
            tokens: features.to_owned(),
            prefix_tokens: prefix_tokens.to_owned(),
            pooled: pooled.index_axis_move(Axis(0), 0),
        }
    }
}

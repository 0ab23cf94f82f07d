//! `"model_type": "conv_pool"`: the adapter of the on-device model.
//!
//! ```text
//! features -> transformer layer -> proj (Cv -> hidden_size) -> 3 x 3 convolution -> average pooling -> + positions
//! ```

use ndarray::{Array2, Array3, ArrayView2};
use ocelli_nn::{Activation, EncoderLayer, EncoderLayerConfig, Linear, Weights, on_pool};
use serde::{Deserialize, Serialize};

use crate::config::gelu;
use crate::error::{Error, Result};
use crate::pooled_conv::{PoolAxis, pool_shifted};
use crate::position_embed::{POSITIONS, block_means};

/// `"model_type": "conv_pool"`: transformer layer, linear layer, 3 x 3 convolution, average pooling.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ConvPoolConfig {
    /// Attention heads of the transformer layer; they divide the encoder's `hidden_size`.
    pub num_attention_heads: usize,
    /// Features inside its MLP.
    pub intermediate_size: usize,
    /// Activation of its MLP. Default: `gelu`.
    #[serde(default = "gelu")]
    pub hidden_act: Activation,
    /// Epsilon of its layer norms. Default: 1e-6.
    #[serde(default = "default_eps")]
    pub layer_norm_eps: f32,
    /// Whether a learned position embedding is added to the image tokens. Default: false.
    #[serde(default)]
    pub position_embedding: bool,
}

fn default_eps() -> f32 {
    1e-6
}

impl ConvPoolConfig {
    pub(crate) fn validate(&self, vision_hidden_size: usize) -> Result<()> {
        let heads = self.num_attention_heads;
        if heads == 0 || !vision_hidden_size.is_multiple_of(heads) {
            return Err(Error::Config {
                field: "num_attention_heads",
                found: heads.to_string(),
                expected: format!("a divisor of vision_config.hidden_size {vision_hidden_size}"),
            });
        }
        if !(1..=1 << 16).contains(&self.intermediate_size) {
            return Err(Error::Config {
                field: "intermediate_size",
                found: self.intermediate_size.to_string(),
                expected: format!("1 to {}", 1 << 16),
            });
        }
        if !(self.layer_norm_eps > 0.0 && self.layer_norm_eps < 1.0) {
            return Err(Error::Config {
                field: "layer_norm_eps",
                found: self.layer_norm_eps.to_string(),
                expected: "a number between 0 and 1".to_owned(),
            });
        }
        Ok(())
    }

    pub(crate) fn num_parameters(&self, vision_hidden_size: usize, text_hidden_size: usize) -> usize {
        let proj = text_hidden_size * (vision_hidden_size + 1);
        let conv = text_hidden_size * (9 * text_hidden_size + 1);
        let positions = if self.position_embedding { POSITIONS * POSITIONS * text_hidden_size } else { 0 };
        self.layer(vision_hidden_size).num_parameters() + proj + conv + positions
    }

    pub(crate) fn num_operations(
        &self,
        vision_hidden_size: usize,
        text_hidden_size: usize,
        num_patches: usize,
        num_tokens: usize,
    ) -> u64 {
        let proj = 2 * (num_patches * vision_hidden_size * text_hidden_size) as u64;
        let conv = 2 * (num_tokens * 9 * text_hidden_size * text_hidden_size) as u64;
        self.layer(vision_hidden_size).num_operations(&[num_patches]) + proj + conv
    }

    /// The configuration of the transformer layer.
    fn layer(&self, vision_hidden_size: usize) -> EncoderLayerConfig {
        EncoderLayerConfig {
            hidden_size: vision_hidden_size,
            intermediate_size: self.intermediate_size,
            num_attention_heads: self.num_attention_heads,
            hidden_act: self.hidden_act,
            layer_norm_eps: self.layer_norm_eps,
            qkv_bias: true,
            layer_scale: false,
            gated_mlp: false,
        }
    }
}

#[derive(Debug)]
pub(crate) struct ConvPool {
    layer: EncoderLayer,
    proj: Linear,
    conv: Linear,
    /// `[12, 12, hidden_size]`.
    position_embedding: Option<Array3<f32>>,
}

impl ConvPool {
    pub(crate) fn load(
        weights: &Weights,
        config: &ConvPoolConfig,
        vision_hidden_size: usize,
        text_hidden_size: usize,
    ) -> Result<Self> {
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

    /// `features`: `[rows * columns of the grid, vision hidden_size]`.
    pub(crate) fn adapt(
        &self,
        features: ArrayView2<f32>,
        grid: (usize, usize),
        pooled: (usize, usize),
    ) -> Result<Array2<f32>> {
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

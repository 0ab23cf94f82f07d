//! `adapter_config` of config.json.

use ocelli_nn::{Activation, EncoderLayerConfig};
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::position_embed::POSITIONS;

/// The kind of adapter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AdapterKind {
    /// Transformer layer, linear layer, 3 x 3 convolution, average pooling.
    #[default]
    ConvPool,
}

/// `adapter_config` of config.json.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    /// The kind. Default: `conv_pool`.
    #[serde(default)]
    pub model_type: AdapterKind,
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

fn gelu() -> Activation {
    Activation::Gelu
}

fn default_eps() -> f32 {
    1e-6
}

impl AdapterConfig {
    /// Checks that every field makes sense beside an encoder of `vision_hidden_size` features.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] names the field.
    pub fn validate(&self, vision_hidden_size: usize) -> Result<()> {
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

    /// The number of learned numbers, without building the adapter.
    pub fn num_parameters(&self, vision_hidden_size: usize, text_hidden_size: usize) -> usize {
        let proj = text_hidden_size * (vision_hidden_size + 1);
        let conv = text_hidden_size * (9 * text_hidden_size + 1);
        let positions = if self.position_embedding { POSITIONS * POSITIONS * text_hidden_size } else { 0 };
        self.layer(vision_hidden_size).num_parameters() + proj + conv + positions
    }

    /// Multiplications and additions of the matrix products that make `num_tokens` image tokens of `num_patches` patches.
    pub fn num_operations(
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
    pub(crate) fn layer(&self, vision_hidden_size: usize) -> EncoderLayerConfig {
        EncoderLayerConfig {
            hidden_size: vision_hidden_size,
            intermediate_size: self.intermediate_size,
            num_attention_heads: self.num_attention_heads,
            hidden_act: self.hidden_act,
            layer_norm_eps: self.layer_norm_eps,
            qkv_bias: true,
            layer_scale: false,
        }
    }
}

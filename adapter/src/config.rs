//! `adapter_config` of config.json: which adapter, and its sizes.

use ocelli_nn::Activation;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use crate::conv_pool::ConvPoolConfig;
use crate::error::Result;
use crate::mlp::MlpConfig;
use crate::pixel_shuffle::PixelShuffleConfig;

/// An adapter by its `model_type`. Without that key it is `conv_pool`.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "model_type", rename_all = "snake_case")]
pub enum AdapterConfig {
    /// Transformer layer, linear layer, 3 x 3 convolution, average pooling.
    ConvPool(ConvPoolConfig),
    /// Squares of patches side by side, linear layer: Idefics3 and SmolVLM.
    PixelShuffle(PixelShuffleConfig),
    /// Linear layer, activation, linear layer: LLaVA.
    Mlp(MlpConfig),
}

/// `model_type`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    #[default]
    ConvPool,
    PixelShuffle,
    Mlp,
}

impl<'de> Deserialize<'de> for AdapterConfig {
    /// By hand, as serde knows no default for a tag. The fields are read as those of a plain struct, so that messages are as good as there.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        let fields = Map::deserialize(deserializer)?;
        let kind = fields.get("model_type").map(Kind::deserialize).transpose().map_err(D::Error::custom)?;
        let fields = Value::Object(fields);
        let config = match kind.unwrap_or_default() {
            Kind::ConvPool => ConvPoolConfig::deserialize(fields).map(AdapterConfig::ConvPool),
            Kind::PixelShuffle => PixelShuffleConfig::deserialize(fields).map(AdapterConfig::PixelShuffle),
            Kind::Mlp => MlpConfig::deserialize(fields).map(AdapterConfig::Mlp),
        };
        config.map_err(D::Error::custom)
    }
}

pub(crate) fn gelu() -> Activation {
    Activation::Gelu
}

impl AdapterConfig {
    /// The name of the kind, as config.json has it.
    pub fn model_type(&self) -> &'static str {
        match self {
            Self::ConvPool(_) => "conv_pool",
            Self::PixelShuffle(_) => "pixel_shuffle",
            Self::Mlp(_) => "mlp",
        }
    }

    /// Checks that every field makes sense beside an encoder of `vision_hidden_size` features.
    ///
    /// # Errors
    /// [`crate::ErrorKind::Config`] names the field.
    pub fn validate(&self, vision_hidden_size: usize) -> Result<()> {
        match self {
            Self::ConvPool(config) => config.validate(vision_hidden_size),
            Self::PixelShuffle(config) => config.validate(),
            // An activation and a switch: every value makes sense.
            Self::Mlp(_) => Ok(()),
        }
    }

    /// The number of learned numbers, without building the adapter.
    pub fn num_parameters(&self, vision_hidden_size: usize, text_hidden_size: usize) -> usize {
        match self {
            Self::ConvPool(config) => config.num_parameters(vision_hidden_size, text_hidden_size),
            Self::PixelShuffle(config) => config.num_parameters(vision_hidden_size, text_hidden_size),
            Self::Mlp(config) => config.num_parameters(vision_hidden_size, text_hidden_size),
        }
    }

    /// Multiplications and additions of the matrix products that make `num_tokens` image tokens of `num_patches` patches.
    pub fn num_operations(
        &self,
        vision_hidden_size: usize,
        text_hidden_size: usize,
        num_patches: usize,
        num_tokens: usize,
    ) -> u64 {
        let (vision, text) = (vision_hidden_size, text_hidden_size);
        match self {
            Self::ConvPool(config) => config.num_operations(vision, text, num_patches, num_tokens),
            Self::PixelShuffle(config) => config.num_operations(vision, text, num_tokens),
            Self::Mlp(config) => config.num_operations(vision, text, num_tokens),
        }
    }
}

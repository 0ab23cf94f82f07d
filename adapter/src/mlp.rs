//! `"model_type": "mlp"`: the projector of LLaVA. Every patch is an image token.
//!
//! ```text
//! features -> linear_1 (Cv -> hidden_size) -> activation -> linear_2 (hidden_size -> hidden_size)
//! ```
//!
//! Source: `LlavaMultiModalProjector` of `modeling_llava.py` (transformers 5.23).

use ndarray::{Array2, ArrayView2};
use ocelli_nn::{Activation, Linear, Weights, on_pool};
use serde::{Deserialize, Serialize};

use crate::config::gelu;
use crate::error::{Error, Result};

/// `"model_type": "mlp"`: two linear layers with an activation between them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MlpConfig {
    /// The activation (`projector_hidden_act` of LLaVA). Default: `gelu`.
    #[serde(default = "gelu")]
    pub hidden_act: Activation,
    /// Whether the linear layers have biases (`multimodal_projector_bias` of LLaVA). Default: true.
    #[serde(default = "yes")]
    pub bias: bool,
}

fn yes() -> bool {
    true
}

impl MlpConfig {
    pub(crate) fn num_parameters(&self, vision_hidden_size: usize, text_hidden_size: usize) -> usize {
        let biases = if self.bias { 2 * text_hidden_size } else { 0 };
        text_hidden_size * (vision_hidden_size + text_hidden_size) + biases
    }

    pub(crate) fn num_operations(&self, vision_hidden_size: usize, text_hidden_size: usize, num_tokens: usize) -> u64 {
        2 * (num_tokens * text_hidden_size * (vision_hidden_size + text_hidden_size)) as u64
    }
}

#[derive(Debug)]
pub(crate) struct Mlp {
    linear_1: Linear,
    hidden_act: Activation,
    linear_2: Linear,
}

impl Mlp {
    pub(crate) fn load(
        weights: &Weights,
        config: &MlpConfig,
        vision_hidden_size: usize,
        text_hidden_size: usize,
    ) -> Result<Self> {
        Ok(Self {
            linear_1: weights.linear("linear_1", vision_hidden_size, text_hidden_size, config.bias)?,
            hidden_act: config.hidden_act,
            linear_2: weights.linear("linear_2", text_hidden_size, text_hidden_size, config.bias)?,
        })
    }

    /// `features`: `[rows * columns of the grid, vision hidden_size]`.
    pub(crate) fn adapt(
        &self,
        features: ArrayView2<f32>,
        grid: (usize, usize),
        pooled: (usize, usize),
    ) -> Result<Array2<f32>> {
        if pooled != grid {
            return Err(Error::Grid { grid, pooled, scale_factor: 1 });
        }
        Ok(on_pool(|| {
            let mut hidden = self.linear_1.forward(features);
            self.hidden_act.forward_in_place(&mut hidden);
            self.linear_2.forward(hidden.view())
        }))
    }
}

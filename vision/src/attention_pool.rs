//! Attention pooling: a learned query attends to all tokens and becomes the vector of the view.
//!
//! ```text
//! x = out_proj(attention(q_proj(probe), k_proj(tokens), v_proj(tokens)))
//! x = x + fc2(act(fc1(layernorm(x))))
//! ```
//!
//! Source: the head of SigLIP (arXiv 2303.15343), `SiglipMultiheadAttentionPoolingHead` of Hugging Face transformers; first in "Scaling
//! Vision Transformers" (arXiv 2106.04560).

use ndarray::{Array1, Array2, ArrayView2, Axis};
use ocelli_nn::{Activation, LayerNorm, Linear, Weights};

use crate::config::EncoderConfig;
use crate::error::Result;

/// The head.
#[derive(Debug)]
pub(crate) struct AttentionPool {
    /// `q_proj(probe)`, which is the same for every view: `[1, hidden_size]`.
    query: Array2<f32>,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layernorm: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    hidden_act: Activation,
    num_attention_heads: usize,
}

impl AttentionPool {
    /// Reads `probe`, `attention`, `layernorm` and `mlp` under the prefix of `weights`.
    pub(crate) fn load(weights: &Weights, config: &EncoderConfig) -> Result<Self> {
        let EncoderConfig { hidden_size, intermediate_size, num_attention_heads, .. } = *config;
        let projection = |name: &str| weights.pp("attention").linear(name, hidden_size, hidden_size, true);
        let probe = weights.tensor("probe", &[hidden_size])?;
        let probe =
            ArrayView2::from_shape((1, hidden_size), &probe).expect("the tensor has the shape that was asked for");
        Ok(Self {
            query: projection("q_proj")?.forward(probe),
            k_proj: projection("k_proj")?,
            v_proj: projection("v_proj")?,
            out_proj: projection("out_proj")?,
            layernorm: LayerNorm::load(&weights.pp("layernorm"), hidden_size, config.layer_norm_eps)?,
            fc1: weights.linear("mlp.fc1", hidden_size, intermediate_size, true)?,
            fc2: weights.linear("mlp.fc2", intermediate_size, hidden_size, true)?,
            hidden_act: config.hidden_act,
            num_attention_heads,
        })
    }

    /// All tokens of a view `[length, hidden_size]` to one vector `[hidden_size]`.
    pub(crate) fn forward(&self, tokens: ArrayView2<f32>) -> Array1<f32> {
        let (keys, values) = (self.k_proj.forward(tokens), self.v_proj.forward(tokens));
        let head_dim = tokens.ncols() / self.num_attention_heads;
        let mut attended = Array2::zeros(self.query.dim());
        let heads = self.query.axis_chunks_iter(Axis(1), head_dim).zip(keys.axis_chunks_iter(Axis(1), head_dim));
        let outputs = values.axis_chunks_iter(Axis(1), head_dim).zip(attended.axis_chunks_iter_mut(Axis(1), head_dim));
        for ((query, keys), (values, mut output)) in heads.zip(outputs) {
            let mut shares = query.dot(&keys.t()) / (head_dim as f32).sqrt();
            let largest = shares.fold(f32::NEG_INFINITY, |largest, &score| largest.max(score));
            shares.mapv_inplace(|score| (score - largest).exp());
            shares /= shares.sum();
            output.assign(&shares.dot(&values));
        }
        let attended = self.out_proj.forward(attended.view());
        let mut inner = self.fc1.forward(self.layernorm.forward(attended.view()).view());
        self.hidden_act.forward_in_place(&mut inner);
        (attended + self.fc2.forward(inner.view())).index_axis_move(Axis(0), 0)
    }
}

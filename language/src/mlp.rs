//! The gated feed-forward layer (SwiGLU): `x + (silu(n W0^T) * (n W1^T)) W2^T` with `n = rms(x, norm)`.
//!
//! Source: tamm 0.2.0, `layers/feed_forward.py`; `linear_0` is the gate.

use ndarray::{Array2, ArrayView2};
use ocelli_kernels::activation::silu_mul;
use ocelli_kernels::{Isa, for_each, piece_len};
use ocelli_nn::{Linear, RmsNorm};

use crate::error::Result;
use crate::loader::Loader;

/// Tokens of a piece at most.
const MAX_PIECE: usize = 160;

/// Fewer tokens a thread are not worth that each thread unpacks all weights: then the rows of the weights are cut instead.
const MIN_PIECE: usize = 32;

/// The feed-forward layer with its norm and its residual connection.
#[derive(Debug)]
pub(crate) struct Mlp {
    norm: RmsNorm,
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

impl Mlp {
    pub(crate) fn load(loader: &Loader<'_>, name: &str) -> Result<Self> {
        let (hidden_size, intermediate_size) = (loader.config.hidden_size, loader.config.intermediate_size);
        let name = format!("{name}.feed_forward");
        let linear = |module: &str, in_features, out_features| {
            loader.linear(&format!("{name}.{module}"), in_features, out_features, loader.config.mlp_bias)
        };
        Ok(Self {
            norm: RmsNorm::load(&loader.weights.pp(format!("{name}.norm")), hidden_size, loader.config.rms_norm_eps)?,
            gate_proj: linear("hidden_transform.linear_0", hidden_size, intermediate_size)?,
            up_proj: linear("hidden_transform.linear_1", hidden_size, intermediate_size)?,
            down_proj: linear("output_transform", intermediate_size, hidden_size)?,
        })
    }

    /// Adds to `hidden`, `[tokens, hidden_size]`. Tokens do not meet here: many of them go through the whole layer piece by piece, each on one thread,
    /// and what is between its steps stays in the caches.
    pub(crate) fn forward(&self, hidden: &mut Array2<f32>) {
        let (num_tokens, width) = hidden.dim();
        let piece = piece_len(num_tokens, MAX_PIECE);
        let hidden = hidden.as_slice_mut().expect("standard layout");
        if piece < MIN_PIECE {
            return self.forward_piece(hidden, width);
        }
        for_each(hidden.chunks_mut(piece * width).collect(), |hidden| self.forward_piece(hidden, width));
    }

    /// `hidden` has rows of `width`.
    fn forward_piece(&self, hidden: &mut [f32], width: usize) {
        let view = ArrayView2::from_shape((hidden.len() / width, width), &*hidden).expect("a whole number of rows");
        let normed = self.norm.forward(view);
        let mut gate = self.gate_proj.forward(normed.view());
        let up = self.up_proj.forward(normed.view());
        if let (Some(gate), Some(up)) = (gate.as_slice_mut(), up.as_slice()) {
            silu_mul(Isa::active(), gate, up);
        }
        let out = self.down_proj.forward(gate.view());
        hidden.iter_mut().zip(&out).for_each(|(hidden, out)| *hidden += out);
    }
}

//! One layer of the decoder: attention, then the feed-forward layer.

use ndarray::Array2;
use ocelli_kernels::RotaryCoefficients;

use crate::attention::{Attention, Sequence};
use crate::error::Result;
use crate::loader::Loader;
use crate::mlp::Mlp;

/// A layer, which makes keys and values or reuses those of another.
#[derive(Debug)]
pub(crate) struct DecoderLayer {
    attention: Attention,
    mlp: Mlp,
}

impl DecoderLayer {
    pub(crate) fn load(loader: &Loader<'_>, layer: usize) -> Result<Self> {
        let name = loader.layer_name(layer);
        let reuses_kv = layer >= loader.config.num_kv_layers();
        Ok(Self { attention: Attention::load(loader, &name, reuses_kv)?, mlp: Mlp::load(loader, &name)? })
    }

    /// `hidden`: `[tokens, hidden_size]`, the rows of `sequences` one after the other, changed in place.
    pub(crate) fn forward(
        &self,
        hidden: &mut Array2<f32>,
        sequences: &mut [Sequence<'_>],
        cache_layer: usize,
        rotary: &RotaryCoefficients,
    ) {
        self.attention.forward(hidden, sequences, cache_layer, rotary);
        self.mlp.forward(hidden);
    }
}

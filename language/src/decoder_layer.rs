//! One layer of the decoder: attention, then the feed-forward layer.

use ndarray::Array2;

use crate::attention::{Attention, Tokens};
use crate::error::Result;
use crate::kv_cache::KvCache;
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

    /// `hidden`: `[tokens, hidden_size]`, changed in place.
    pub(crate) fn forward(
        &self,
        hidden: &mut Array2<f32>,
        cache: &mut KvCache,
        cache_layer: usize,
        tokens: &Tokens<'_>,
    ) {
        self.attention.forward(hidden, cache, cache_layer, tokens);
        self.mlp.forward(hidden);
    }
}

//! The decoder's parts out of a weights file, by `tamm`'s names.
//!
//! | part | names |
//! | --- | --- |
//! | layers, none reusing | `layers.layer_{i}` |
//! | layers, some reusing | `layers.segment_0.layer_{i}`, then `layers.segment_1.layer_{j}` from 0 again |
//! | queries, keys, values | `attention.qkv_transform.fused_linear`, or unfused `attention.qkv_transform.linear_{0,1,2}` |
//! | queries of a reuse layer | `attention.q_transform` |
//!
//! A model prepared for adapters has `.wrapped` after the name of every adapted module; both forms are read.

use ocelli_nn::{Linear, Weights};

use crate::config::TextConfig;
use crate::error::Result;
use crate::lora::{LoraOutputs, LoraWeights};
use crate::projection::Projection;

/// Where a decoder is loaded from.
pub(crate) struct Loader<'a> {
    pub(crate) weights: &'a Weights,
    pub(crate) config: &'a TextConfig,
    pub(crate) lora: Option<LoraWeights<'a>>,
}

impl Loader<'_> {
    /// The name of a layer, counted over all of them.
    pub(crate) fn layer_name(&self, layer: usize) -> String {
        let num_kv_layers = self.config.num_kv_layers();
        match layer.checked_sub(num_kv_layers) {
            _ if self.config.num_kv_reuse_layers == 0 => format!("layers.layer_{layer}"),
            None => format!("layers.segment_0.layer_{layer}"),
            Some(reuse_layer) => format!("layers.segment_1.layer_{reuse_layer}"),
        }
    }

    /// A linear layer.
    pub(crate) fn linear(&self, module: &str, in_features: usize, out_features: usize, bias: bool) -> Result<Linear> {
        let linear = self.plain_linear(module, "", in_features, out_features, bias)?;
        self.adapt(linear, module, "", LoraOutputs { first: 0, count: out_features })
    }

    /// Queries, keys and values side by side, `[q_dim + 2 * kv_dim]`.
    pub(crate) fn qkv_projection(&self, module: &str) -> Result<Projection> {
        let (hidden_size, bias) = (self.config.hidden_size, self.config.qkv_bias);
        let counts = [self.config.q_dim(), self.config.kv_dim(), self.config.kv_dim()];
        let part_name = |part: usize| format!("lora_{part}.");
        if self.is_matrix(&self.matrix_name(module, ".linear_0")) {
            let part = |part: usize| {
                let linear = self.plain_linear(module, &format!(".linear_{part}"), hidden_size, counts[part], bias)?;
                self.adapt(linear, module, &part_name(part), LoraOutputs { first: 0, count: counts[part] })
            };
            return Ok(Projection { first: part(0)?, others: vec![part(1)?, part(2)?] });
        }
        let mut linear = self.plain_linear(module, ".fused_linear", hidden_size, counts.iter().sum(), bias)?;
        let mut first = 0;
        for (part, count) in counts.into_iter().enumerate() {
            linear = self.adapt(linear, module, &part_name(part), LoraOutputs { first, count })?;
            first += count;
        }
        Ok(Projection { first: linear, others: Vec::new() })
    }

    fn plain_linear(
        &self,
        module: &str,
        inner: &str,
        in_features: usize,
        out_features: usize,
        bias: bool,
    ) -> Result<Linear> {
        Ok(self.weights.linear(&self.matrix_name(module, inner), in_features, out_features, bias)?)
    }

    fn adapt(&self, linear: Linear, module: &str, part: &str, outputs: LoraOutputs) -> Result<Linear> {
        match &self.lora {
            Some(lora) => lora.adapt(linear, module, part, outputs),
            None => Ok(linear),
        }
    }

    /// `module` + `inner`, or with `.wrapped` between them if the file has that.
    fn matrix_name(&self, module: &str, inner: &str) -> String {
        let wrapped = format!("{module}.wrapped{inner}");
        if self.is_matrix(&wrapped) { wrapped } else { format!("{module}{inner}") }
    }

    fn is_matrix(&self, name: &str) -> bool {
        ["weight", "weight_codes"].iter().any(|kind| self.weights.contains(&format!("{name}.{kind}")))
    }
}

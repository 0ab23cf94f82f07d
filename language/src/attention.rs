//! Attention of the decoder: grouped queries, rotation and norm of each head, keys and values from the cache.
//!
//! ```text
//! n = rms(x, norm)
//! q, k, v = split(n Wqkv^T)                        a reuse layer: q = n Wq^T, and no k, v of its own
//! q, k = rms(rope(q), query_norm), rms(rope(k), key_norm)        or the norm first (Qwen3), or no norm (Llama, Qwen2)
//! cache k, v
//! x = x + softmax(q k^T / sqrt(head_dim)) v Wo^T   a reuse layer: k, v of the last layer that has them
//! ```
//!
//! Source: tamm 0.2.0, `layers/attention.py` and `layers/transformer/layer_sequence/kv_reuse.py`; transformers, `modeling_llama.py`,
//! `modeling_qwen2.py` and `modeling_qwen3.py`.

use ndarray::{Array2, ArrayView2, Axis, Slice};
use ocelli_kernels::{Isa, RotaryCoefficients, attention_cached, for_each, rope_halves, rope_interleaved};
use ocelli_nn::{Linear, RmsNorm, Weights};

use crate::config::{QkNorm, RopePairing, TextConfig};
use crate::error::{Error, Result};
use crate::kv_cache::{KvCache, StaticScales, static_scale};
use crate::loader::Loader;
use crate::projection::Projection;

/// Attention with its norm and its residual connection.
#[derive(Debug)]
pub(crate) struct Attention {
    norm: RmsNorm,
    projection: Projection,
    /// Over `head_dim`, shared by all heads.
    query_norm: Option<RmsNorm>,
    key_norm: Option<RmsNorm>,
    o_proj: Linear,
    /// Not in a layer that reuses those of another.
    makes_kv: bool,
    qk_norm: QkNorm,
    rope_pairing: RopePairing,
    sizes: Sizes,
}

#[derive(Debug, Clone, Copy)]
struct Sizes {
    num_heads: usize,
    head_dim: usize,
    q_dim: usize,
    kv_dim: usize,
}

/// Some tokens of one sequence, which are rows of a pass; its next positions.
pub(crate) struct Sequence<'a> {
    pub(crate) cache: &'a mut KvCache,
    /// The position of the first.
    pub(crate) first_position: usize,
    pub(crate) num_tokens: usize,
}

impl<'a> Sequence<'a> {
    /// The next `num_tokens` tokens after those in `cache`.
    pub(crate) fn next(cache: &'a mut KvCache, num_tokens: usize) -> Self {
        Self { first_position: cache.len(), cache, num_tokens }
    }
}

impl Attention {
    /// The attention of layer `name`, which makes keys and values or reuses them.
    pub(crate) fn load(loader: &Loader<'_>, name: &str, reuses_kv: bool) -> Result<Self> {
        let TextConfig { hidden_size, head_dim, rms_norm_eps, qk_norm, rope_pairing, qkv_bias, o_bias, .. } =
            *loader.config;
        let (q_dim, kv_dim) = (loader.config.q_dim(), loader.config.kv_dim());
        let weights = loader.weights.pp(format!("{name}.attention"));
        let head_norm = |name: &str| -> Result<Option<RmsNorm>> {
            let load = || RmsNorm::load(&weights.pp(name), head_dim, rms_norm_eps);
            Ok((qk_norm != QkNorm::None).then(load).transpose()?)
        };
        let (projection, query_norm, key_norm) = if reuses_kv {
            let first = loader.linear(&format!("{name}.attention.q_transform"), hidden_size, q_dim, qkv_bias)?;
            (Projection { first, others: Vec::new() }, head_norm("q_norm.query_norm")?, None)
        } else {
            let projection = loader.qkv_projection(&format!("{name}.attention.qkv_transform"))?;
            (projection, head_norm("qk_norm.query_norm")?, head_norm("qk_norm.key_norm")?)
        };
        Ok(Self {
            norm: RmsNorm::load(&weights.pp("norm"), hidden_size, rms_norm_eps)?,
            projection,
            query_norm,
            key_norm,
            o_proj: loader.linear(&format!("{name}.attention.output_transform"), q_dim, hidden_size, o_bias)?,
            makes_kv: !reuses_kv,
            qk_norm,
            rope_pairing,
            sizes: Sizes { num_heads: loader.config.num_attention_heads, head_dim, q_dim, kv_dim },
        })
    }

    /// Adds the attention of some tokens to `hidden`, `[tokens, hidden_size]`: the rows of `sequences`, one after the other, rotated by `rotary`. The
    /// tokens of each attend over the keys and values of `cache_layer` of its cache. A layer that makes them writes them there first.
    pub(crate) fn forward(
        &self,
        hidden: &mut Array2<f32>,
        sequences: &mut [Sequence<'_>],
        cache_layer: usize,
        rotary: &RotaryCoefficients,
    ) {
        let Sizes { num_heads, head_dim, q_dim, kv_dim, .. } = self.sizes;
        let qkv = self.projection.forward(self.norm.forward(hidden.view()).view());
        let mut queries = columns(qkv.view(), 0, q_dim);
        self.place(&mut queries, self.query_norm.as_ref(), rotary);
        if self.makes_kv {
            let mut keys = columns(qkv.view(), q_dim, kv_dim);
            self.place(&mut keys, self.key_norm.as_ref(), rotary);
            let values = columns(qkv.view(), q_dim + kv_dim, kv_dim);
            let mut first = 0;
            for sequence in &mut *sequences {
                let rows = first * kv_dim..(first + sequence.num_tokens) * kv_dim;
                sequence.cache.write(cache_layer, &keys[rows.clone()], &values[rows]);
                first += sequence.num_tokens;
            }
        }
        let mut attended = Array2::zeros((hidden.nrows(), q_dim));
        let mut out = attended.as_slice_mut().expect("standard layout");
        let mut jobs = Vec::with_capacity(sequences.len());
        for sequence in &*sequences {
            let (of_sequence, rest) = out.split_at_mut(sequence.num_tokens * q_dim);
            let first = queries.len() - rest.len() - of_sequence.len();
            jobs.push((sequence, &queries[first..first + of_sequence.len()], of_sequence));
            out = rest;
        }
        // Sequences go side by side; one alone has all threads for its heads.
        for_each(jobs, |(sequence, queries, out)| {
            let heads = sequence.cache.heads(cache_layer);
            attention_cached(Isa::active(), queries, sequence.first_position, &heads, num_heads, head_dim, None, out);
        });
        *hidden += &self.o_proj.forward(attended.view());
    }

    /// Rotation and norm of queries or keys, `[tokens, heads * head_dim]`, in the order of the model.
    fn place(&self, heads: &mut [f32], norm: Option<&RmsNorm>, rotary: &RotaryCoefficients) {
        let norm_at = |order: QkNorm| norm.filter(|_| self.qk_norm == order);
        if let Some(norm) = norm_at(QkNorm::BeforeRotation) {
            norm.forward_slice(heads);
        }
        match self.rope_pairing {
            RopePairing::Interleaved => rope_interleaved(heads, rotary),
            RopePairing::Halves => rope_halves(heads, rotary),
        }
        if let Some(norm) = norm_at(QkNorm::AfterRotation) {
            norm.forward_slice(heads);
        }
    }
}

/// Some columns, row after row.
fn columns(matrix: ArrayView2<'_, f32>, first: usize, count: usize) -> Vec<f32> {
    matrix.slice_axis(Axis(1), Slice::from(first..first + count)).iter().copied().collect()
}

/// The static ranges of the keys and values of layer `name`, if the checkpoint has them.
pub(crate) fn load_static_scales(weights: &Weights, name: &str) -> Result<Option<StaticScales>> {
    let range_name =
        |what: &str| format!("{name}.attention.kv_quantizer.{what}_quantizer.activation_post_process.range");
    if !weights.contains(&range_name("key")) {
        return Ok(None);
    }
    let scale = |what: &str| -> Result<f32> {
        let tensor = range_name(what);
        let range = weights.tensor(&tensor, &[2])?;
        let scale = static_scale([range[0], range[1]]);
        if range.iter().all(|bound| bound.is_finite()) && scale > 0.0 {
            return Ok(scale);
        }
        Err(Error::Tensor {
            file: weights.label().to_owned(),
            tensor,
            found: format!("{range:?}"),
            expected: "a finite range [low, high] around 0".into(),
        })
    };
    Ok(Some(StaticScales { keys: scale("key")?, values: scale("value")? }))
}

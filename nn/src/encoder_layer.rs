//! The transformer layer of the vision encoders and the adapter.
//!
//! ```text
//! x = x + layer_scale1 * out_proj(attention(q_proj(n), k_proj(n), v_proj(n)))    n = layer_norm1(x)
//! x = x + layer_scale2 * fc2(act(fc1(n)))                                        n = layer_norm2(x)
//!
//! with a gated MLP:      fc2(act(gate) * up)                                     [gate | up] = fc1(n)
//! ```
//!
//! The pre-norm layer of ViT (arXiv 2010.11929) with the names of Hugging Face's CLIP and SigLIP; `layer_scale` is that of CaiT (arXiv
//! 2103.17239), used by DINOv2; the gated MLP is that of GLU variants (arXiv 2002.05202), used by DINOv2 giant (SwiGLU).

use ndarray::{Array2, ArrayView2, Axis};
use ocelli_kernels::{Isa, attention_f32, for_each, piece_len};

use crate::{Activation, Error, LayerNorm, Linear, Weights};

/// Tokens that go through a part of the layer together, at most: what is between its steps stays in the caches.
const PIECE_TOKENS: usize = 160;

/// Sizes of an [`EncoderLayer`].
#[derive(Debug, Clone, PartialEq)]
pub struct EncoderLayerConfig {
    /// Columns of the tokens.
    pub hidden_size: usize,
    /// Columns inside the MLP, those that fc2 reads.
    pub intermediate_size: usize,
    /// Heads, which divide `hidden_size`.
    pub num_attention_heads: usize,
    /// The function inside the MLP.
    pub hidden_act: Activation,
    /// `eps` of both norms.
    pub layer_norm_eps: f32,
    /// Whether q, k and v have a bias (out_proj always has).
    pub qkv_bias: bool,
    /// Whether `layer_scale1` and `layer_scale2` multiply what is added.
    pub layer_scale: bool,
    /// Whether the MLP is gated: fc1 has `2 * intermediate_size` rows, first those of the gate.
    pub gated_mlp: bool,
}

impl EncoderLayerConfig {
    /// Rows of fc1.
    fn fc1_size(&self) -> usize {
        self.intermediate_size * if self.gated_mlp { 2 } else { 1 }
    }

    /// The number of learned numbers of a layer, without building it.
    pub fn num_parameters(&self) -> usize {
        let EncoderLayerConfig { hidden_size, intermediate_size, .. } = *self;
        let attention = 4 * hidden_size * hidden_size + hidden_size * if self.qkv_bias { 4 } else { 1 };
        let mlp = self.fc1_size() * (hidden_size + 1) + (intermediate_size + 1) * hidden_size;
        let norms_and_scales = hidden_size * if self.layer_scale { 6 } else { 4 };
        attention + mlp + norms_and_scales
    }

    /// Multiplications and additions of the matrix products of a layer over sequences of these lengths: two for each weight and token, and
    /// for each query, key and feature of scores and of their sums over values.
    pub fn num_operations(&self, sequence_lengths: &[usize]) -> u64 {
        let (hidden_size, inner) = (self.hidden_size as u64, (self.fc1_size() + self.intermediate_size) as u64);
        let weights = 4 * hidden_size * hidden_size + hidden_size * inner;
        let of_sequence = |&len: &usize| len as u64 * (2 * weights + 4 * len as u64 * hidden_size);
        sequence_lengths.iter().map(of_sequence).sum()
    }
}

/// A pre-norm transformer layer without a mask.
#[derive(Debug, Clone)]
pub struct EncoderLayer {
    layer_norm1: LayerNorm,
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    out_proj: Linear,
    layer_scale1: Option<Vec<f32>>,
    layer_norm2: LayerNorm,
    fc1: Linear,
    fc2: Linear,
    layer_scale2: Option<Vec<f32>>,
    hidden_act: Activation,
    gated_mlp: bool,
    num_attention_heads: usize,
}

impl EncoderLayer {
    /// Reads the layer under the prefix of `weights`.
    ///
    /// # Errors
    /// [`Error::Config`] if the heads do not divide `hidden_size`; those of [`Weights::linear`].
    pub fn load(weights: &Weights, config: &EncoderLayerConfig) -> Result<EncoderLayer, Error> {
        let EncoderLayerConfig { hidden_size, intermediate_size, num_attention_heads, qkv_bias, .. } = *config;
        if num_attention_heads == 0 || hidden_size == 0 || hidden_size % num_attention_heads != 0 {
            return Err(Error::Config {
                field: "num_attention_heads".into(),
                expected: format!("a divisor of hidden_size {hidden_size}, both above 0"),
                found: num_attention_heads.to_string(),
            });
        }
        let norm = |name: &str| LayerNorm::load(&weights.pp(name), hidden_size, config.layer_norm_eps);
        let projection = |name: &str, bias| weights.pp("self_attn").linear(name, hidden_size, hidden_size, bias);
        let layer_scale = |name: &str| config.layer_scale.then(|| weights.tensor(name, &[hidden_size])).transpose();
        Ok(EncoderLayer {
            layer_norm1: norm("layer_norm1")?,
            q_proj: projection("q_proj", qkv_bias)?,
            k_proj: projection("k_proj", qkv_bias)?,
            v_proj: projection("v_proj", qkv_bias)?,
            out_proj: projection("out_proj", true)?,
            layer_scale1: layer_scale("layer_scale1")?,
            layer_norm2: norm("layer_norm2")?,
            fc1: weights.linear("mlp.fc1", hidden_size, config.fc1_size(), true)?,
            fc2: weights.linear("mlp.fc2", intermediate_size, hidden_size, true)?,
            layer_scale2: layer_scale("layer_scale2")?,
            hidden_act: config.hidden_act,
            gated_mlp: config.gated_mlp,
            num_attention_heads,
        })
    }

    /// `tokens`: `[sum of sequence_lengths, hidden_size]`, changed in place. The tokens of a sequence attend to each other; sequences, which lie
    /// one after the other, do not see each other.
    ///
    /// # Panics
    /// If `tokens` has another shape.
    pub fn forward(&self, tokens: &mut Array2<f32>, sequence_lengths: &[usize]) {
        let (num_tokens, width) = tokens.dim();
        let head_dim = width / self.num_attention_heads;
        crate::with_rows(tokens, |tokens| {
            // Tokens meet in the attention alone: what is before and after it is done piece by piece, each by one thread.
            let piece = piece_len(num_tokens, PIECE_TOKENS) * width;
            let [mut q, mut k, mut v, mut attended] = [(); 4].map(|()| vec![0.0; tokens.len()]);
            let qkv = q.chunks_mut(piece).zip(k.chunks_mut(piece)).zip(v.chunks_mut(piece));
            for_each(qkv.zip(tokens.chunks(piece)).collect(), |(((q, k), v), tokens)| {
                self.project(rows(tokens, width), [q, k, v]);
            });
            attention_f32(
                Isa::active(),
                &q,
                &k,
                &v,
                self.num_attention_heads,
                head_dim,
                sequence_lengths,
                &mut attended,
            );
            for_each(tokens.chunks_mut(piece).zip(attended.chunks(piece)).collect(), |(tokens, attended)| {
                self.finish(tokens, rows(attended, width));
            });
        });
    }

    /// q, k and v of some tokens, `[tokens, hidden_size]`.
    fn project(&self, tokens: ArrayView2<'_, f32>, qkv: [&mut [f32]; 3]) {
        let normed = self.layer_norm1.forward(tokens);
        for (linear, out) in [&self.q_proj, &self.k_proj, &self.v_proj].into_iter().zip(qkv) {
            linear.forward_into(normed.view(), out);
        }
    }

    /// The rest of the layer, for some tokens and what they attended to.
    fn finish(&self, tokens: &mut [f32], attended: ArrayView2<'_, f32>) {
        add(tokens, self.out_proj.forward(attended), self.layer_scale1.as_deref());
        let normed = self.layer_norm2.forward(rows(tokens, attended.ncols()));
        let mut inner = self.fc1.forward(normed.view()); // [tokens, intermediate_size], gated: twice as wide
        if self.gated_mlp {
            let (gate, up) = inner.view().split_at(Axis(1), self.fc2.in_features());
            let mut gate = gate.as_standard_layout().into_owned();
            self.hidden_act.forward_in_place(&mut gate);
            gate *= &up;
            inner = gate;
        } else {
            self.hidden_act.forward_in_place(&mut inner);
        }
        add(tokens, self.fc2.forward(inner.view()), self.layer_scale2.as_deref());
    }

    /// The linear layers by name, for reports of sizes.
    pub fn linears(&self) -> [(&'static str, &Linear); 6] {
        [
            ("self_attn.q_proj", &self.q_proj),
            ("self_attn.k_proj", &self.k_proj),
            ("self_attn.v_proj", &self.v_proj),
            ("self_attn.out_proj", &self.out_proj),
            ("mlp.fc1", &self.fc1),
            ("mlp.fc2", &self.fc2),
        ]
    }
}

/// `[tokens, width]`.
fn rows(values: &[f32], width: usize) -> ArrayView2<'_, f32> {
    ArrayView2::from_shape((values.len() / width, width), values).expect("a whole number of rows")
}

/// `tokens += scale * addition`, with `scale` `[hidden_size]`.
fn add(tokens: &mut [f32], mut addition: Array2<f32>, scale: Option<&[f32]>) {
    if let Some(scale) = scale {
        addition *= &ndarray::ArrayView1::from(scale);
    }
    let addition = addition.as_slice().expect("standard layout");
    tokens.iter_mut().zip(addition).for_each(|(token, addition)| *token += addition);
}

#[cfg(test)]
mod tests;

//! The decoder, `AFMTextV7`: embeddings to logits, with keys and values reused by the last layers.
//!
//! ```text
//! x = embeddings of tokens, or image tokens                     no scaling
//! for each regular layer:  x = layer(x), keys and values into the cache
//! for each reuse layer:    x = layer(x) over the keys and values of the last regular layer
//! logits = rms(x, output_norm) embedding^T
//! ```
//!
//! Nothing reads what a reuse layer computes for an earlier position, so the reuse layers run for the positions whose logits are wanted and
//! for no others. That is exact, and at 21 of 56 layers it saves 37.5% of a prompt's work.
//!
//! Source: tamm 0.2.0, `models/afm_text/afm_text_v7.py`.

use ndarray::{Array2, ArrayView2, Axis, Slice};
use ocelli_kernels::{RotaryCoefficients, RotaryEmbedding};
use ocelli_nn::{Embedding, Linear, RmsNorm, Weights, on_pool};

use crate::attention::{Sequence, load_static_scales};
use crate::config::TextConfig;
use crate::decoder_layer::DecoderLayer;
use crate::error::{Error, Result};
use crate::kv_cache::{KvCache, KvKind, StaticScales};
use crate::loader::Loader;
use crate::lora::LoraWeights;

/// Tokens of a prompt that go through the layers together. It bounds the memory of a long prompt; the result does not depend on it.
const PREFILL_CHUNK: usize = 256;

/// The positions whose logits a caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// None: the keys and values are enough.
    None,
    /// The last.
    Last,
    /// All of them.
    All,
}

/// A decoder with its weights. It is not changed by use; the state of a sequence is its [`KvCache`].
#[derive(Debug)]
pub struct Decoder {
    config: TextConfig,
    embedding: Embedding,
    /// None if the embedding is the output layer.
    lm_head: Option<Linear>,
    layers: Vec<DecoderLayer>,
    output_norm: RmsNorm,
    rotary: RotaryEmbedding,
    /// Of each layer with keys and values; empty if the checkpoint has none.
    static_scales: Vec<StaticScales>,
}

impl Decoder {
    /// Loads a decoder.
    ///
    /// # Errors
    /// [`ErrorKind::Weights`](crate::ErrorKind::Weights) naming the tensor that is missing or does not fit `config`.
    pub fn load(weights: &Weights, config: &TextConfig) -> Result<Self> {
        Self::from_loader(&Loader { weights, config, lora: None })
    }

    /// Loads a decoder with the LoRA adapter of another file, `tamm`'s adapter.safetensors.
    ///
    /// # Errors
    /// As [`Decoder::load`]; also when the adapter has a tensor for a layer that the model does not have.
    pub fn load_with_adapter(weights: &Weights, config: &TextConfig, adapter: &Weights) -> Result<Self> {
        let loader = Loader { weights, config, lora: Some(LoraWeights::new(adapter, config.lora_alpha)?) };
        let decoder = Self::from_loader(&loader)?;
        if let Some(lora) = &loader.lora {
            lora.check_all_used()?;
        }
        Ok(decoder)
    }

    fn from_loader(loader: &Loader<'_>) -> Result<Self> {
        let Loader { weights, config, .. } = *loader;
        let (vocab_size, hidden_size) = (config.vocab_size, config.hidden_size);
        let lm_head = match config.tie_word_embeddings {
            true => None, // a file may have `output_transform.weight` as a second name of the embedding: not read
            false => Some(weights.linear("output_transform", hidden_size, vocab_size, false)?),
        };
        let scales = (0..config.num_kv_layers()).map(|layer| load_static_scales(weights, &loader.layer_name(layer)));
        let scales = scales.collect::<Result<Vec<_>>>()?;
        Ok(Self {
            embedding: weights.embedding("embedding", vocab_size, hidden_size)?,
            lm_head,
            layers: (0..config.num_hidden_layers)
                .map(|layer| DecoderLayer::load(loader, layer))
                .collect::<Result<_>>()?,
            output_norm: RmsNorm::load(&weights.pp("output_norm"), hidden_size, config.rms_norm_eps)?,
            rotary: config.rotary_embedding(),
            static_scales: scales.into_iter().collect::<Option<_>>().unwrap_or_default(),
            config: config.clone(),
        })
    }

    /// The decoder's sizes.
    pub fn config(&self) -> &TextConfig {
        &self.config
    }

    /// Whether the checkpoint has the ranges that [`KvKind::Int8Static`] needs.
    pub fn has_static_kv_ranges(&self) -> bool {
        !self.static_scales.is_empty()
    }

    /// An empty cache for up to `capacity` tokens.
    ///
    /// # Errors
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for [`KvKind::Int8Static`] when the checkpoint has no ranges.
    pub fn new_cache(&self, capacity: usize, kind: KvKind) -> Result<KvCache> {
        if kind == KvKind::Int8Static && !self.has_static_kv_ranges() {
            return Err(Error::Unsupported {
                what: "a cache with static ranges".into(),
                hint: "the weights have no `kv_quantizer` ranges; use 8 bits with dynamic scales",
            });
        }
        Ok(KvCache::new(&self.config, capacity, kind, &self.static_scales))
    }

    /// The embeddings of tokens, `[tokens, hidden_size]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when an id is outside the vocabulary.
    pub fn embed(&self, token_ids: &[u32]) -> Result<Array2<f32>> {
        let vocab_size = self.config.vocab_size;
        if let Some(position) = token_ids.iter().position(|&id| id as usize >= vocab_size) {
            return Err(Error::TokenId { id: token_ids[position], position, vocab_size });
        }
        Ok(self.embedding.forward(token_ids)?)
    }

    /// Runs `embeddings`, `[tokens, hidden_size]`, after what `cache` holds, and adds their keys and values to it. The result is the wanted
    /// logits, `[0, 1 or tokens, vocab_size]`. A prompt may come in pieces of any size.
    ///
    /// # Errors
    /// [`ErrorKind::ContextFull`](crate::ErrorKind::ContextFull) when the tokens do not fit, [`ErrorKind::Shape`](crate::ErrorKind::Shape)
    /// when the embeddings have another width, or the cache is another decoder's. The cache is then unchanged.
    pub fn prefill(&self, embeddings: ArrayView2<'_, f32>, cache: &mut KvCache, wanted: Wanted) -> Result<Array2<f32>> {
        on_pool(|| self.prefill_observed(embeddings, cache, wanted, &mut |_| ()))
    }

    /// Runs one token, and gives the logits of the next, `[vocab_size]`.
    ///
    /// # Errors
    /// As [`Decoder::embed`] and [`Decoder::prefill`].
    pub fn decode(&self, token_id: u32, cache: &mut KvCache) -> Result<Vec<f32>> {
        let logits = self.prefill(self.embed(&[token_id])?.view(), cache, Wanted::Last)?;
        Ok(logits.into_raw_vec_and_offset().0)
    }

    /// Runs one token of each of several sequences, in one pass over the weights, and gives the logits of their next tokens, `[sequences, vocab_size]`.
    /// The logits are those of [`Decoder::decode`] with each alone, to the bit. `token_ids` and `caches` are of one length.
    ///
    /// # Errors
    /// As [`Decoder::decode`]; the caches are then unchanged.
    pub fn decode_batch(&self, token_ids: &[u32], caches: &mut [&mut KvCache]) -> Result<Array2<f32>> {
        if token_ids.len() != caches.len() {
            return Err(Error::Shape {
                what: "the list of caches",
                found: format!("{} long", caches.len()),
                expected: format!("{}, one for each token", token_ids.len()),
            });
        }
        for cache in &*caches {
            cache.check(&self.config, 1)?;
        }
        let embeddings = self.embed(token_ids)?;
        let mut sequences: Vec<_> = caches.iter_mut().map(|cache| Sequence::next(cache, 1)).collect();
        let logits = on_pool(|| self.forward(embeddings.view(), &mut sequences, Wanted::Last, &mut |_| ()));
        Ok(logits.unwrap_or_else(|| Array2::zeros((0, self.config.vocab_size))))
    }

    /// [`Decoder::prefill`], which shows the residual stream to `observe`: at first the embeddings, then the output of each layer, and at last
    /// that of the output norm. Layers that reuse keys and values show the wanted positions only.
    pub(crate) fn prefill_observed(
        &self,
        embeddings: ArrayView2<'_, f32>,
        cache: &mut KvCache,
        wanted: Wanted,
        observe: &mut dyn FnMut(&Array2<f32>),
    ) -> Result<Array2<f32>> {
        let num_tokens = embeddings.nrows();
        if embeddings.ncols() != self.config.hidden_size {
            return Err(Error::Shape {
                what: "the array of embeddings",
                found: format!("{:?}", embeddings.shape()),
                expected: format!("[tokens, {}] (hidden_size in config.json)", self.config.hidden_size),
            });
        }
        cache.check(&self.config, num_tokens)?;
        let mut logits = Array2::zeros((0, self.config.vocab_size));
        for first in (0..num_tokens).step_by(PREFILL_CHUNK) {
            let end = num_tokens.min(first + PREFILL_CHUNK);
            let chunk = embeddings.slice_axis(Axis(0), Slice::from(first..end));
            let chunk_wanted = if wanted == Wanted::Last && end < num_tokens { Wanted::None } else { wanted };
            let sequence = Sequence::next(cache, chunk.nrows());
            if let Some(chunk_logits) = self.forward(chunk, &mut [sequence], chunk_wanted, observe) {
                logits.append(Axis(0), chunk_logits.view()).expect("every chunk has vocab_size columns");
            }
        }
        Ok(logits)
    }

    /// One pass: `embeddings` are the rows of `sequences`, one after the other. The result has the logits of the wanted rows of each.
    fn forward(
        &self,
        embeddings: ArrayView2<'_, f32>,
        sequences: &mut [Sequence<'_>],
        wanted: Wanted,
        observe: &mut dyn FnMut(&Array2<f32>),
    ) -> Option<Array2<f32>> {
        let (regular, reuse) = self.layers.split_at(self.config.num_kv_layers());
        let mut hidden = embeddings.as_standard_layout().into_owned();
        observe(&hidden);
        let rotary = self.coefficients(sequences);
        for (layer, module) in regular.iter().enumerate() {
            module.forward(&mut hidden, sequences, layer, &rotary);
            observe(&hidden);
        }
        let mut wanted_rows = Vec::new();
        let mut first_row = 0;
        for sequence in &mut *sequences {
            sequence.cache.advance(sequence.num_tokens);
            let num_wanted = match wanted {
                Wanted::None => 0,
                Wanted::Last => sequence.num_tokens.min(1),
                Wanted::All => sequence.num_tokens,
            };
            let num_skipped = sequence.num_tokens - num_wanted;
            wanted_rows.extend(first_row + num_skipped..first_row + sequence.num_tokens);
            first_row += sequence.num_tokens;
            sequence.first_position += num_skipped;
            sequence.num_tokens = num_wanted;
        }
        if wanted_rows.is_empty() {
            return None;
        }
        if wanted_rows.len() < hidden.nrows() {
            hidden = hidden.select(Axis(0), &wanted_rows);
        }
        let rotary = self.coefficients(sequences);
        for module in reuse {
            module.forward(&mut hidden, sequences, regular.len() - 1, &rotary);
            observe(&hidden);
        }
        let hidden = self.output_norm.forward(hidden.view());
        observe(&hidden);
        Some(match &self.lm_head {
            Some(lm_head) => lm_head.forward(hidden.view()),
            None => self.embedding.as_linear().forward(hidden.view()),
        })
    }

    /// The rotation of queries and keys.
    pub(crate) fn rotary(&self) -> &RotaryEmbedding {
        &self.rotary
    }

    fn coefficients(&self, sequences: &[Sequence<'_>]) -> RotaryCoefficients {
        let positions = sequences.iter().flat_map(|sequence| (sequence.first_position..).take(sequence.num_tokens));
        self.rotary.coefficients(&positions.map(|position| position as u32).collect::<Vec<_>>())
    }
}

#[cfg(test)]
mod tests;

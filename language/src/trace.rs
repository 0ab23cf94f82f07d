//! What happens inside a decoder on given inputs, for comparison with another framework: the decoder's part of `ocelli trace`.
//!
//! Inputs and outputs are safetensors files; only `token_ids` has to be there.
//!
//! | input | shape | |
//! | --- | --- | --- |
//! | `token_ids` | `[S]` | i64, as all but the embeddings; where pictures are traced too, those of image tokens hold their place |
//! | `embeddings_in` | `[S, hidden_size]` | f32 embeddings in place of tokens |
//! | `chunks` | `[n]` | sizes of the pieces of a prefill; they sum to S |
//! | `packed.segment_ids` | `[S]` | sequences packed into one: tokens see their own segment, positions count in it |
//! | `rope.positions` | `[p]` | positions whose rotation is wanted |
//! | `greedy.num_tokens` | `[1]` | tokens of the continuation; 16 if it is not given |
//!
//! | output | shape | |
//! | --- | --- | --- |
//! | `logits` | `[S, vocab_size]` | of one pass |
//! | `hidden_states` | `[layers + 1, S, hidden_size]` | the embeddings, then the output of each layer |
//! | `last_hidden_state` | `[S, hidden_size]` | after the output norm |
//! | `embeddings_in.logits`, `packed.logits` | `[S, vocab_size]` | |
//! | `cache.keys`, `cache.values` | `[layers with keys and values, S, kv_dim]` | after the prefill in chunks, as attention reads them |
//! | `chunked.last_logits` | `[vocab_size]` | of the last position of that prefill |
//! | `greedy.tokens`, `greedy.logits` | `[n]`, `[n, vocab_size]` | the continuation; row 0 is `chunked.last_logits` |
//! | `sampling.{settings}` | `[vocab_size]` | probabilities from `chunked.last_logits` |
//! | `rope.cos`, `rope.sin` | `[p, head_dim / 2]` | |
//! | `without_adapter.logits` | `[S, vocab_size]` | with an adapter beside the model: the model alone |
//!
//! `hidden_states` is left out where only the last layer is wanted. The cache is f32, or has the checkpoint's static 8-bit ranges where it has some, as `tamm` computes. An adapter.safetensors beside the
//! model is active.

use ndarray::{Array2, ArrayView2, Axis};
use ocelli_nn::{Weights, WeightsWriter};

use crate::config::TextConfig;
use crate::decoder::{Decoder, Wanted};
use crate::error::{Error, Result};
use crate::kv_cache::{KvCache, KvKind};
use crate::sampler::{Sampler, SamplingOptions, argmax};
use crate::trace_inputs::TraceInputs;

/// The sampling settings whose probabilities are traced: name, temperature, `top_k`, `top_p`.
const SAMPLING: [(&str, f32, Option<usize>, Option<f32>); 4] = [
    ("t0.7", 0.7, None, None),
    ("t1.3_k7", 1.3, Some(7), None),
    ("t0.9_p0.8", 0.9, None, Some(0.8)),
    ("t1.0_k12_p0.6", 1.0, Some(12), Some(0.6)),
];

/// Which hidden states are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TracedLayers {
    /// Those of every layer.
    All,
    /// The last alone.
    Last,
}

/// The image tokens of a trace.
#[derive(Debug, Clone, Copy)]
pub struct TracedImages<'a> {
    /// The id that holds the place of an image token in `token_ids`.
    pub image_token_id: u32,
    /// `[image tokens, hidden_size]`, as many as there are such ids.
    pub tokens: ArrayView2<'a, f32>,
}

/// Runs the decoder of `weights` on `inputs`, and collects the outputs in `outputs`; [`WeightsWriter::write`] writes them. With a low-rank
/// adapter `lora`, it is active.
///
/// # Errors
/// An error naming the field or tensor that is missing, broken or does not fit.
pub fn trace(
    weights: &Weights,
    config: &TextConfig,
    lora: Option<&Weights>,
    inputs: &TraceInputs,
    images: Option<TracedImages<'_>>,
    layers: TracedLayers,
    outputs: &mut WeightsWriter,
) -> Result<()> {
    let Some(lora) = lora else { return run(&Decoder::load(weights, config)?, inputs, images, layers, outputs) };
    run(&Decoder::load_with_adapter(weights, config, lora)?, inputs, images, layers, outputs)?;
    let base = Decoder::load(weights, config)?;
    let logits = all_logits(&base, embeddings(&base, inputs, images)?.view())?;
    write_matrix(outputs, "without_adapter.logits", &logits)
}

/// The embeddings of the tokens, with image tokens in their places.
fn embeddings(decoder: &Decoder, inputs: &TraceInputs, images: Option<TracedImages<'_>>) -> Result<Array2<f32>> {
    let mut embeddings = decoder.embed(&inputs.token_ids)?;
    let Some(TracedImages { image_token_id, tokens }) = images else { return Ok(embeddings) };
    let ids = inputs.token_ids.iter().zip(embeddings.rows_mut());
    let places: Vec<_> = ids.filter(|(id, _)| **id == image_token_id).map(|(_, row)| row).collect();
    if places.len() != tokens.nrows() {
        return Err(Error::Shape {
            what: "the array of image tokens",
            found: format!("{:?}", tokens.shape()),
            expected: format!("{} tokens: token_ids has id {image_token_id} so often", places.len()),
        });
    }
    places.into_iter().zip(tokens.rows()).for_each(|(mut place, token)| place.assign(&token));
    Ok(embeddings)
}

fn run(
    decoder: &Decoder,
    inputs: &TraceInputs,
    images: Option<TracedImages<'_>>,
    layers: TracedLayers,
    outputs: &mut WeightsWriter,
) -> Result<()> {
    let embeddings = embeddings(decoder, inputs, images)?;
    trace_one_pass(decoder, embeddings.view(), layers, outputs)?;
    if let Some(embeddings_in) = &inputs.embeddings_in {
        write_matrix(outputs, "embeddings_in.logits", &all_logits(decoder, embeddings_in.view())?)?;
    }
    if let Some(segment_ids) = &inputs.segment_ids {
        write_matrix(outputs, "packed.logits", &packed_logits(decoder, embeddings.view(), segment_ids)?)?;
    }
    trace_chunks(decoder, embeddings.view(), inputs, outputs)?;
    if let Some(positions) = &inputs.rope_positions {
        let shape = [positions.len(), decoder.config().head_dim / 2];
        let rotary = decoder.rotary().coefficients(positions);
        outputs.f32("rope.cos", &shape, &rotary.cos)?.f32("rope.sin", &shape, &rotary.sin)?;
    }
    Ok(())
}

fn trace_one_pass(
    decoder: &Decoder,
    embeddings: ArrayView2<'_, f32>,
    layers: TracedLayers,
    outputs: &mut WeightsWriter,
) -> Result<()> {
    let config = decoder.config();
    let num_tokens = embeddings.nrows();
    let mut states: Vec<Vec<f32>> = vec![Vec::new(); config.num_hidden_layers + 2];
    let mut state = 0;
    let mut cache = new_cache(decoder, num_tokens)?;
    // A long sequence comes in chunks, each from its embeddings to the output norm.
    let logits = decoder.prefill_observed(embeddings, &mut cache, Wanted::All, &mut |hidden| {
        states[state].extend(hidden.iter());
        state = (state + 1) % (config.num_hidden_layers + 2);
    })?;
    write_matrix(outputs, "logits", &logits)?;
    let last = states.pop().unwrap_or_default();
    outputs.f32("last_hidden_state", &[num_tokens, config.hidden_size], &last)?;
    if layers == TracedLayers::All {
        let shape = [config.num_hidden_layers + 1, num_tokens, config.hidden_size];
        outputs.f32("hidden_states", &shape, &states.concat())?;
    }
    Ok(())
}

/// Each segment is a sequence by itself: its tokens see each other and no others, and its positions begin at 0.
fn packed_logits(decoder: &Decoder, embeddings: ArrayView2<'_, f32>, segment_ids: &[i64]) -> Result<Array2<f32>> {
    let mut logits = Array2::zeros((embeddings.nrows(), decoder.config().vocab_size));
    let mut segments = segment_ids.to_vec();
    segments.sort_unstable();
    segments.dedup();
    for segment in segments {
        let tokens: Vec<usize> = (0..segment_ids.len()).filter(|&token| segment_ids[token] == segment).collect();
        let segment_logits = all_logits(decoder, embeddings.select(Axis(0), &tokens).view())?;
        for (&token, row) in tokens.iter().zip(segment_logits.rows()) {
            logits.row_mut(token).assign(&row);
        }
    }
    Ok(logits)
}

fn trace_chunks(
    decoder: &Decoder,
    embeddings: ArrayView2<'_, f32>,
    inputs: &TraceInputs,
    outputs: &mut WeightsWriter,
) -> Result<()> {
    let config = decoder.config();
    let (num_tokens, vocab_size, num_greedy_tokens) = (embeddings.nrows(), config.vocab_size, inputs.num_greedy_tokens);
    let mut cache = new_cache(decoder, num_tokens + num_greedy_tokens)?;
    let mut rest = embeddings;
    let mut logits = Vec::new();
    for &chunk in &inputs.chunks {
        let (head, tail) = rest.split_at(Axis(0), chunk);
        logits = decoder.prefill(head, &mut cache, Wanted::Last)?.into_raw_vec_and_offset().0;
        rest = tail;
    }
    outputs.f32("chunked.last_logits", &[vocab_size], &logits)?;

    let (keys, values): (Vec<_>, Vec<_>) =
        (0..config.num_kv_layers()).map(|layer| cache.keys_and_values(layer)).unzip();
    let shape = [config.num_kv_layers(), num_tokens, config.kv_dim()];
    outputs.f32("cache.keys", &shape, &keys.concat())?.f32("cache.values", &shape, &values.concat())?;

    for (name, temperature, top_k, top_p) in SAMPLING {
        let options = SamplingOptions { temperature, top_k, top_p, ..SamplingOptions::default() };
        let probabilities = Sampler::new(options)?.probabilities(&logits, &[])?;
        outputs.f32(&format!("sampling.{name}"), &[vocab_size], &probabilities)?;
    }

    let mut greedy_tokens = vec![argmax(&logits) as u32];
    let mut greedy_logits = logits;
    while let Some(&token) = greedy_tokens.last().filter(|_| greedy_tokens.len() < num_greedy_tokens) {
        let logits = decoder.decode(token, &mut cache)?;
        greedy_tokens.push(argmax(&logits) as u32);
        greedy_logits.extend(logits);
    }
    let greedy_tokens: Vec<i64> = greedy_tokens.into_iter().map(i64::from).collect();
    outputs.i64("greedy.tokens", &[num_greedy_tokens], &greedy_tokens)?;
    outputs.f32("greedy.logits", &[num_greedy_tokens, vocab_size], &greedy_logits)?;
    Ok(())
}

fn all_logits(decoder: &Decoder, embeddings: ArrayView2<'_, f32>) -> Result<Array2<f32>> {
    decoder.prefill(embeddings, &mut new_cache(decoder, embeddings.nrows())?, Wanted::All)
}

fn new_cache(decoder: &Decoder, capacity: usize) -> Result<KvCache> {
    let kind = if decoder.has_static_kv_ranges() { KvKind::Int8Static } else { KvKind::F32 };
    decoder.new_cache(capacity, kind)
}

fn write_matrix(outputs: &mut WeightsWriter, name: &str, matrix: &Array2<f32>) -> Result<()> {
    let values: Vec<f32> = matrix.iter().copied().collect();
    outputs.f32(name, matrix.shape(), &values)?;
    Ok(())
}

#[cfg(test)]
mod tests;

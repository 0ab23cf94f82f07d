//! A model on given tensors, for people who compare with another framework: `ocelli trace`.
//!
//! Inputs and outputs are safetensors files. With `token_ids` among the inputs the decoder runs, as [`ocelli_language::trace`](mod@ocelli_language::trace)
//! tells; with `pixel_values` the encoder and the adapter do:
//!
//! | input | shape | |
//! | --- | --- | --- |
//! | `pixel_values` | `[views, 3, height, width]` | f32, normalized |
//!
//! | output | shape | |
//! | --- | --- | --- |
//! | `vision_hidden_states` | `[layers + 1, views, tokens, hidden_size]` | before the first layer and after each; class token and registers of a `vit` included |
//! | `vision_last_hidden_state` | `[views, tokens, hidden_size]` | what the encoder gives to the adapter; of an encoder alone with class token and registers |
//! | `pooled` | `[views, width]` | one vector a view |
//! | `image_tokens` | `[views * tokens, text hidden_size]` | with an adapter |
//!
//! With both, the image tokens stand in the places of the image token's id in `token_ids`, and `logits` are those of the whole.

use std::path::Path;

use ndarray::{Array4, ArrayView2, Axis, Slice};
use ocelli_adapter::{Adapter, AdapterConfig};
use ocelli_language::{TextConfig, TraceInputs, TracedImages, TracedLayers};
use ocelli_nn::{Weights, WeightsWriter};
use ocelli_vision::{Encoder, PreprocessorConfig, VisionConfig};

use crate::error::{Cause, Result};
use crate::model_dir::{CONFIG, Files, LORA, PREPROCESSOR, Sources};

const PIXEL_VALUES: &str = "pixel_values";
const TOKEN_IDS: &str = "token_ids";

/// Runs the model directory or Hugging Face checkpoint `model` on the tensors of the safetensors file `inputs`, and writes what happened inside to the
/// safetensors file `outputs`.
///
/// # Errors
/// Names the file, and the field or tensor, that is missing, broken or does not fit.
pub fn trace(
    model: impl AsRef<Path>,
    inputs: impl AsRef<Path>,
    outputs: impl AsRef<Path>,
    layers: TracedLayers,
) -> Result<()> {
    let (model, inputs) = (model.as_ref(), inputs.as_ref());
    let files = Files::Folder(model);
    let sources = Sources::open(&files, || Weights::open(model))?;
    let (config, weights) = (&sources.config, sources.quantized_weights(&files)?);
    let tensors = Weights::open(inputs)?;
    let text = match config.get("text_config") {
        Some(text) => Some(TextConfig::from_json(text).map_err(|error| crate::Error::from(error).at(model.display()))?),
        None => None,
    };
    let tracer = Tracer { files: &files, sources: &sources, weights: &weights, layers };
    let mut writer = WeightsWriter::new();
    let image_tokens = match tensors.contains(PIXEL_VALUES) {
        true => tracer.trace_vision(&tensors, text.as_ref(), &mut writer)?,
        false => None,
    };
    if tensors.contains(TOKEN_IDS) || !tensors.contains(PIXEL_VALUES) {
        let Some(text) = &text else { return Err(tracer.no_part("decoder", "give it pixel_values alone")) };
        let inputs = TraceInputs::read(inputs, text)?;
        let lora = if files.has(LORA) { Some(Weights::open(model.join(LORA))?) } else { None };
        let images = match &image_tokens {
            None => None,
            Some(tokens) => Some(TracedImages {
                image_token_id: files.section(CONFIG, config, Some("image_token_id"))?,
                tokens: tokens.view(),
            }),
        };
        ocelli_language::trace(&weights, text, lora.as_ref(), &inputs, images, layers, &mut writer)?;
    }
    Ok(writer.write(outputs)?)
}

/// The model that is traced.
struct Tracer<'a> {
    files: &'a Files<'a>,
    sources: &'a Sources,
    weights: &'a Weights,
    layers: TracedLayers,
}

impl Tracer<'_> {
    /// Encoder and adapter; the image tokens, if there is an adapter.
    fn trace_vision(
        &self,
        inputs: &Weights,
        text: Option<&TextConfig>,
        outputs: &mut WeightsWriter,
    ) -> Result<Option<ndarray::Array2<f32>>> {
        let config = &self.sources.config;
        if config.get("vision_config").is_none() {
            return Err(self.no_part("vision encoder", "give it token_ids alone"));
        }
        let vision: VisionConfig = self.files.section(CONFIG, config, Some("vision_config"))?;
        let shape = inputs.shape(PIXEL_VALUES).unwrap_or_default().to_vec();
        let &[views, channels, height, width] = &shape[..] else {
            let (tensor, file) = (PIXEL_VALUES.to_owned(), inputs.label().to_owned());
            return Err(ocelli_nn::Error::Shape { tensor, file, expected: vec![1, 3, 224, 224], found: shape }.into());
        };
        let values = inputs.tensor(PIXEL_VALUES, &shape)?;
        let pixel_values = Array4::from_shape_vec((views, channels, height, width), values)
            .expect("the tensor has the shape that was asked for");
        let grid = vision.patch_grid(height, width)?;
        let encoder = Encoder::load(&self.weights.pp("vision"), &vision, &[grid])?;

        // State after state for each view; they are written layer by layer.
        let mut states: Vec<Vec<Vec<f32>>> = vec![Vec::new(); views];
        let mut last = (0, 0);
        let features = encoder.encode_observed(pixel_values.view(), &mut |view, tokens: ArrayView2<'_, f32>| {
            last = tokens.dim();
            states[view].push(tokens.iter().copied().collect());
        })?;
        let (num_tokens, hidden_size) = last;
        if self.layers == TracedLayers::All {
            let num_states = states.first().map_or(0, Vec::len);
            let by_layer = (0..num_states).flat_map(|layer| states.iter().flat_map(move |view| view[layer].iter()));
            let values: Vec<f32> = by_layer.copied().collect();
            outputs.f32("vision_hidden_states", &[num_states, views, num_tokens, hidden_size], &values)?;
        }
        let contiguous = |matrix: &ndarray::Array2<f32>| matrix.iter().copied().collect::<Vec<f32>>();
        // What an adapter gets are the patches; of an encoder alone all tokens are wanted.
        let has_adapter = self.sources.config.get("adapter_config").is_some();
        let prefixes =
            if has_adapter { ndarray::Array2::zeros((0, hidden_size)) } else { features.prefix_tokens.clone() };
        let (prefix_len, length) = (prefixes.nrows() / views.max(1), features.grid.0 * features.grid.1);
        let prefix =
            |view: usize| prefixes.slice_axis(Axis(0), Slice::from(view * prefix_len..(view + 1) * prefix_len));
        let of_views = (0..views).map(|view| ndarray::concatenate![Axis(0), prefix(view), features.view(view)]);
        let last_states: Vec<f32> = of_views.flat_map(|tokens| tokens.into_raw_vec_and_offset().0).collect();
        let shape = [views, prefix_len + length, hidden_size];
        outputs.f32("vision_last_hidden_state", &shape, &last_states)?;
        outputs.f32("pooled", features.pooled.shape(), &contiguous(&features.pooled))?;
        let (Some(text), true) = (text, has_adapter) else { return Ok(None) };

        let adapter_config: AdapterConfig = self.files.section(CONFIG, config, Some("adapter_config"))?;
        let weights = self.weights.pp("adapter");
        let adapter = Adapter::load(&weights, &adapter_config, vision.hidden_size(), text.hidden_size)?;
        let pooled = self.pooled(&adapter_config, features.grid, height)?;
        let mut image_tokens = ndarray::Array2::zeros((0, text.hidden_size));
        for view in 0..views {
            let tokens = adapter.adapt(features.view(view), features.grid, pooled)?;
            image_tokens.append(Axis(0), tokens.view()).expect("all views have tokens of one width");
        }
        outputs.f32("image_tokens", image_tokens.shape(), &contiguous(&image_tokens))?;
        Ok(Some(image_tokens))
    }

    /// Rows and columns of image tokens of a view: what the adapter makes of the grid, or what the mode of this size says.
    fn pooled(&self, adapter: &AdapterConfig, (rows, columns): (usize, usize), size: usize) -> Result<(usize, usize)> {
        match adapter {
            AdapterConfig::PixelShuffle(config) => Ok((rows / config.scale_factor, columns / config.scale_factor)),
            AdapterConfig::Mlp(_) => Ok((rows, columns)),
            _ => {
                let preprocessor = match &self.sources.preprocessor {
                    Some(preprocessor) => preprocessor,
                    None => &self.files.json(PREPROCESSOR)?,
                };
                let preprocessor: PreprocessorConfig = self.files.section(PREPROCESSOR, preprocessor, None)?;
                let mode = preprocessor.modes.values().find(|mode| mode.size == size);
                mode.map(|mode| (mode.pooled[0], mode.pooled[1])).ok_or_else(|| {
                    let sizes: Vec<_> = preprocessor.modes.values().map(|mode| mode.size).collect();
                    crate::Error::options(
                        "the height of pixel_values",
                        size,
                        format!("that of a mode, one of {sizes:?}"),
                    )
                })
            }
        }
    }

    fn no_part(&self, part: &'static str, hint: &'static str) -> crate::Error {
        Cause::NoSuchPart { model: self.files.path("").display().to_string(), part, hint }.into()
    }
}

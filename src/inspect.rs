//! What a model consists of, and what preprocessing does to a picture: figures for people and programs.

use ocelli_adapter::AdapterConfig;
use ocelli_language::{KvKind, TextConfig};
use ocelli_nn::Weights;
use ocelli_vision::{Aspect, ImageProcessor, ModeDescription, Picture, VisionConfig};
use serde::Serialize;

use crate::error::Result;

/// What a model consists of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelReport {
    /// The name of its directory.
    pub name: String,
    /// The vision encoder in words.
    pub vision: String,
    /// The adapter in words.
    pub adapter: String,
    /// The decoder in words.
    pub text: String,
    /// Tokens of context.
    pub max_position_embeddings: usize,
    /// Keys and values.
    pub kv_cache: KvReport,
    /// Parameters and bytes of vision, adapter, embedding and decoder.
    pub parts: Vec<PartReport>,
    /// All parts together.
    pub total: PartReport,
    /// What preprocessing makes of a picture in each mode.
    pub modes: Vec<ModeDescription>,
}

/// What the keys and values of a conversation take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct KvReport {
    /// Bits of a key or value.
    pub bits: u32,
    /// Bytes of one token in all layers, scales included.
    pub bytes_per_token: u64,
    /// Bytes when the context is full.
    pub bytes_at_full_context: u64,
}

/// Parameters and bytes of a part of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct PartReport {
    /// `vision`, `adapter`, `embedding`, `decoder` or `total`.
    pub name: String,
    /// Parameters.
    pub parameters: u64,
    /// Bytes of its tensors in the weights file.
    pub bytes: u64,
    /// Bits a parameter: scales, padding and unpacked tensors included.
    pub bits_per_parameter: f64,
}

impl PartReport {
    fn new(name: &str, parameters: u64, bytes: u64) -> Self {
        let bits_per_parameter = if parameters == 0 { 0.0 } else { bytes as f64 * 8.0 / parameters as f64 };
        Self { name: name.to_owned(), parameters, bytes, bits_per_parameter }
    }
}

impl ModelReport {
    pub(crate) fn new(
        name: &str,
        vision: &VisionConfig,
        adapter: &AdapterConfig,
        text: &TextConfig,
        processor: &ImageProcessor,
        weights: &Weights,
    ) -> Result<Self> {
        let modes: Result<Vec<_>, _> =
            processor.config().modes.keys().map(|mode| processor.describe(*mode, vision)).collect();
        let bytes_of = |part: &str| -> u64 {
            let names = weights.names().into_iter().filter(|name| part_of(name) == part);
            names.filter_map(|name| weights.num_bytes(name)).map(|bytes| bytes as u64).sum()
        };
        let embedding = text.vocab_size as u64 * text.hidden_size as u64;
        let adapter_parameters = adapter.num_parameters(vision.hidden_size(), text.hidden_size) as u64;
        let parts: Vec<PartReport> = [
            ("vision", vision.num_parameters() as u64),
            ("adapter", adapter_parameters),
            ("embedding", embedding),
            ("decoder", text.num_parameters() - embedding),
        ]
        .into_iter()
        .map(|(name, parameters)| PartReport::new(name, parameters, bytes_of(name)))
        .collect();
        let sum = |count: fn(&PartReport) -> u64| parts.iter().map(count).sum();
        let total = PartReport::new("total", sum(|part| part.parameters), sum(|part| part.bytes));
        let bytes_per_token = KvKind::default().bytes_per_token(text) as u64;
        Ok(Self {
            name: name.to_owned(),
            vision: describe_vision(vision),
            adapter: format!("conv_pool, {} -> {}", vision.hidden_size(), text.hidden_size),
            text: format!(
                "afm_text_v7, {} layers of which {} reuse keys and values, hidden size {}, {} heads on {} KV heads, vocabulary {}",
                text.num_hidden_layers,
                text.num_kv_reuse_layers,
                text.hidden_size,
                text.num_attention_heads,
                text.num_key_value_heads,
                text.vocab_size
            ),
            max_position_embeddings: text.max_position_embeddings,
            kv_cache: KvReport {
                bits: 8,
                bytes_per_token,
                bytes_at_full_context: bytes_per_token * text.max_position_embeddings as u64,
            },
            parts,
            total,
            modes: modes?,
        })
    }
}

/// The part that a tensor belongs to.
fn part_of(tensor: &str) -> &'static str {
    match tensor.split('.').next() {
        Some("vision") => "vision",
        Some("adapter") => "adapter",
        Some("embedding") => "embedding",
        _ => "decoder",
    }
}

fn describe_vision(config: &VisionConfig) -> String {
    let encoder = config.encoder();
    let sizes = format!(
        "{} layers, hidden size {}, {} heads, patches of {}",
        encoder.num_hidden_layers, encoder.hidden_size, encoder.num_attention_heads, encoder.patch_size
    );
    match config {
        VisionConfig::RwVitDet(config) => format!(
            "rw_vitdet, {sizes}, windows of {0} x {0}, {1} registers, global layers {2:?}",
            config.window_size, config.num_register_tokens, config.global_layers
        ),
        VisionConfig::Vit(_) => format!("vit, {sizes}"),
    }
}

/// What preprocessing does to a picture.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct PictureReport {
    /// The format of the file (`JPEG`), if the picture came from one.
    pub format: Option<&'static str>,
    /// Width in pixels, upright.
    pub width: u32,
    /// Height in pixels, upright.
    pub height: u32,
    /// Width and height as stored, before it was turned upright.
    pub stored_size: [u32; 2],
    /// The EXIF orientation, 1 (upright) to 8.
    pub orientation: u8,
    /// `stretch` or `pad`: what becomes of a picture that is not square.
    pub aspect: &'static str,
    /// What each mode makes of it.
    pub modes: Vec<ModeDescription>,
}

impl PictureReport {
    pub(crate) fn new(picture: &Picture, processor: &ImageProcessor, encoder: &VisionConfig) -> Result<Self> {
        let config = processor.config();
        let modes: Result<Vec<_>, _> = config.modes.keys().map(|mode| processor.describe(*mode, encoder)).collect();
        Ok(Self {
            format: picture.format(),
            width: picture.width(),
            height: picture.height(),
            stored_size: picture.stored_size().into(),
            orientation: picture.orientation(),
            aspect: match config.aspect {
                Aspect::Stretch => "stretch",
                Aspect::Pad => "pad",
            },
            modes: modes?,
        })
    }
}

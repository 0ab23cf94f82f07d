//! What a model consists of, and what preprocessing does to a picture: figures for people and programs.

use std::path::Path;

use ocelli_language::{KvKind, TextConfig};
use ocelli_vision::{Aspect, ImageProcessor, ModeDescription, Picture, VisionConfig};
use serde::Serialize;

use crate::embed::PictureEncoder;
use crate::error::Result;
use crate::model::Model;
use crate::model_dir::{ModelDir, VisionDir};

/// What a model consists of.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct ModelReport {
    /// The name of its directory.
    pub name: String,
    /// The vision encoder in words; none in a decoder alone.
    pub vision: Option<String>,
    /// The adapter in words; none in a decoder alone.
    pub adapter: Option<String>,
    /// The decoder in words; none in an encoder alone.
    pub text: Option<String>,
    /// Tokens of context; none without a decoder.
    pub max_position_embeddings: Option<usize>,
    /// Keys and values; none without a decoder.
    pub kv_cache: Option<KvReport>,
    /// Parameters and bytes of vision, adapter, embedding and decoder.
    pub parts: Vec<PartReport>,
    /// All parts together.
    pub total: PartReport,
    /// What preprocessing makes of a picture of 4 x 3 in each mode.
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

/// Width and height of a usual picture, for modes whose tiles follow the picture.
const USUAL_PICTURE: (u32, u32) = (1600, 1200);

impl ModelReport {
    /// The report of a model directory, which is loaded to see whether its files fit each other, or of a checkpoint as it lies on the Hugging Face hub,
    /// of which the shapes of all tensors are checked, and no weights are read.
    ///
    /// # Errors
    /// Names the file, and the field or tensor, that is missing, broken or does not fit the others.
    pub fn read(folder: impl AsRef<Path>) -> Result<Self> {
        let dir = ModelDir::open(folder.as_ref())?;
        let report = Self::new(&dir)?;
        match (dir.is_checkpoint, dir.text.is_some()) {
            (true, _) => {}
            (false, true) => drop(Model::load(folder)?),
            (false, false) => drop(PictureEncoder::load(folder)?),
        }
        Ok(report)
    }

    pub(crate) fn new(dir: &ModelDir) -> Result<Self> {
        let bytes_of = |part: &str| -> u64 {
            let names = dir.weights.names().into_iter().filter(|name| part_of(name) == part);
            names.filter_map(|name| dir.weights.num_bytes(name)).map(|bytes| bytes as u64).sum()
        };
        let text = dir.text.as_ref().map(|text| &text.config);
        let mut parameters = Vec::new();
        let mut modes = Vec::new();
        if let Some(VisionDir { config, preprocessor }) = &dir.vision {
            parameters.push(("vision", config.num_parameters() as u64));
            let processor = ImageProcessor::new(preprocessor.clone())?;
            for mode in preprocessor.modes.keys() {
                modes.push(processor.describe(*mode, config, USUAL_PICTURE)?);
            }
        }
        let mut adapter_text = None;
        if let (Some(vision), Some(adapter), Some(text)) = (&dir.vision, &dir.adapter, text) {
            let (from, to) = (vision.config.hidden_size(), text.hidden_size);
            parameters.push(("adapter", adapter.num_parameters(from, to) as u64));
            adapter_text = Some(format!("{}, {from} -> {to}", adapter.model_type()));
        }
        if let Some(text) = text {
            let embedding = text.vocab_size as u64 * text.hidden_size as u64;
            parameters.extend([("embedding", embedding), ("decoder", text.num_parameters() - embedding)]);
        }
        let parts: Vec<PartReport> = parameters
            .into_iter()
            .map(|(name, parameters)| PartReport::new(name, parameters, bytes_of(name)))
            .collect();
        let sum = |count: fn(&PartReport) -> u64| parts.iter().map(count).sum();
        let total = PartReport::new("total", sum(|part| part.parameters), sum(|part| part.bytes));
        Ok(Self {
            name: dir.name.clone(),
            vision: dir.vision.as_ref().map(|vision| describe_vision(&vision.config)),
            adapter: adapter_text,
            text: text.map(describe_text),
            max_position_embeddings: text.map(|text| text.max_position_embeddings),
            kv_cache: text.map(|text| {
                let bytes_per_token = KvKind::default().bytes_per_token(text) as u64;
                let bytes_at_full_context = bytes_per_token * text.max_position_embeddings as u64;
                KvReport { bits: 8, bytes_per_token, bytes_at_full_context }
            }),
            parts,
            total,
            modes,
        })
    }
}

fn describe_text(text: &TextConfig) -> String {
    let reuse = match text.num_kv_reuse_layers {
        0 => String::new(),
        layers => format!(" of which {layers} reuse keys and values"),
    };
    format!(
        "{}, {} layers{reuse}, hidden size {}, {} heads on {} KV heads, vocabulary {}",
        text.model_type.name(),
        text.num_hidden_layers,
        text.hidden_size,
        text.num_attention_heads,
        text.num_key_value_heads,
        text.vocab_size
    )
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
    /// `stretch`, `pad` or `crop`: what becomes of a picture that is not square.
    pub aspect: &'static str,
    /// What each mode makes of it.
    pub modes: Vec<ModeDescription>,
}

impl PictureReport {
    pub(crate) fn new(picture: &Picture, processor: &ImageProcessor, encoder: &VisionConfig) -> Result<Self> {
        let config = processor.config();
        let size = (picture.width(), picture.height());
        let modes: Result<Vec<_>, _> =
            config.modes.keys().map(|mode| processor.describe(*mode, encoder, size)).collect();
        Ok(Self {
            format: picture.format(),
            width: picture.width(),
            height: picture.height(),
            stored_size: picture.stored_size().into(),
            orientation: picture.orientation(),
            aspect: match config.aspect {
                Aspect::Stretch => "stretch",
                Aspect::Pad => "pad",
                Aspect::Crop => "crop",
            },
            modes: modes?,
        })
    }
}

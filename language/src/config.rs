//! What a decoder looks like: `text_config` of config.json, or a whole config.json of a decoder alone, in the words of Hugging Face or of `tamm`.
//!
//! Names are those of Hugging Face; `tamm`'s (`hidden_dim`, `num_layers`, `num_kv_heads`, ...) are aliases, here and nowhere
//! else. Such files name only what differs from the defaults of their family (`Family`).

use ocelli_kernels::RotaryEmbedding;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::json_fields::{JsonFields, value_text};
use crate::rope_scaling::RopeScaling;

mod family;

use family::{DefaultSizes, Family};

const FILE: &str = "config.json";

/// Bounds that no decoder in sight comes near: they turn nonsense into a message before anything is multiplied or allocated.
mod limits {
    pub(super) const VOCABULARY: usize = 1 << 24;
    pub(super) const WIDTH: usize = 1 << 20;
    pub(super) const LAYERS: usize = 1024;
    pub(super) const HEADS: usize = 4096;
    pub(super) const POSITIONS: usize = 1 << 24;
}

/// The families of decoders. A family is no more than the defaults of the other fields: the layers do not know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TextModelType {
    /// Apple's on-device decoder of 2025 (`AFMTextV7` in `tamm`).
    #[serde(rename = "afm_text_v7")]
    AfmTextV7,
    /// Llama 2 and 3, and what has their architecture.
    Llama,
    /// Qwen2 and Qwen2.5.
    Qwen2,
    /// Qwen3.
    Qwen3,
}

impl TextModelType {
    /// The name in config.json.
    pub fn name(self) -> &'static str {
        match self {
            Self::AfmTextV7 => "afm_text_v7",
            Self::Llama => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
        }
    }
}

/// Which two dimensions of a head turn together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RopePairing {
    /// `2i` and `2i + 1`.
    Interleaved,
    /// `i` and `i + head_dim / 2`.
    Halves,
}

/// Where the queries and keys of each head are normalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum QkNorm {
    /// Nowhere.
    None,
    /// Before the rotation.
    BeforeRotation,
    /// After the rotation.
    AfterRotation,
}

/// The sizes of a decoder.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
#[non_exhaustive]
pub struct TextConfig {
    /// The family.
    pub model_type: TextModelType,
    /// Rows of the embedding.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward layers.
    pub intermediate_size: usize,
    /// All layers, those that reuse keys and values included.
    pub num_hidden_layers: usize,
    /// How many of the last layers read the keys and values of the last layer before them.
    pub num_kv_reuse_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; each serves `num_attention_heads / num_key_value_heads` query heads.
    pub num_key_value_heads: usize,
    /// Width of a head.
    pub head_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// What is done to those frequencies.
    pub rope_scaling: Option<RopeScaling>,
    /// Which two dimensions of a head turn together.
    pub rope_pairing: RopePairing,
    /// Where the queries and keys of each head are normalized.
    pub qk_norm: QkNorm,
    /// Whether queries, keys and values have a bias.
    pub qkv_bias: bool,
    /// Whether the output projection of the attention has a bias.
    pub o_bias: bool,
    /// Whether the feed-forward layers have biases.
    pub mlp_bias: bool,
    /// Added to the mean square in every RMSNorm.
    pub rms_norm_eps: f32,
    /// Tokens of context.
    pub max_position_embeddings: usize,
    /// Whether the embedding is the output layer as well.
    pub tie_word_embeddings: bool,
    /// The `alpha` of a LoRA adapter beside the model; without it the scale of the adapter is 1.
    pub lora_alpha: Option<f32>,
}

impl TextConfig {
    /// Reads `text_config` of config.json, or a config.json of `tamm`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when a field is missing, of the wrong type or out of range;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for another family of models.
    pub fn from_json(value: &Value) -> Result<Self> {
        let fields = JsonFields::new(FILE, value)?;
        let model_type = read_model_type(&fields)?;
        let family = Family::of(model_type);
        let sizes = match model_type {
            // A file of ours says all; one of `tamm` or Hugging Face only what differs from its defaults.
            TextModelType::AfmTextV7 if fields.find(&["__tamm_type__"]).is_none() => None,
            _ => Some(&family.sizes),
        };
        let required = |names: &[&'static str], max: usize, default: fn(&DefaultSizes) -> usize| -> Result<usize> {
            match (fields.integer(names, 1, max)?, sizes) {
                (Some(number), _) => Ok(number),
                (None, Some(sizes)) => Ok(default(sizes)),
                (None, None) => Err(fields.missing(names[0], format!("a whole number from 1 to {max}"))),
            }
        };
        let flag =
            |name: &'static str, default: bool| -> Result<bool> { Ok(fields.boolean(&[name])?.unwrap_or(default)) };
        let vocab_size = required(&["vocab_size"], limits::VOCABULARY, |sizes| sizes.vocab_size)?;
        let hidden_size = required(&["hidden_size", "hidden_dim"], limits::WIDTH, |sizes| sizes.hidden_size)?;
        let num_hidden_layers =
            required(&["num_hidden_layers", "num_layers"], limits::LAYERS, |sizes| sizes.num_hidden_layers)?;
        let num_attention_heads =
            required(&["num_attention_heads", "num_heads"], limits::HEADS, |sizes| sizes.num_attention_heads)?;
        let num_kv_reuse_layers = fields.integer(&["num_kv_reuse_layers"], 0, limits::LAYERS)?;
        // One word for both in Llama and Qwen3, and none in Qwen2.
        let attention_bias = fields.boolean(&["attention_bias"])?;
        check_supported(&fields)?;
        let config = Self {
            model_type,
            vocab_size,
            hidden_size,
            intermediate_size: read_intermediate_size(&fields, hidden_size, sizes)?,
            num_hidden_layers,
            num_kv_reuse_layers: num_kv_reuse_layers.or(sizes.map(|sizes| sizes.num_kv_reuse_layers)).unwrap_or(0),
            num_attention_heads,
            num_key_value_heads: read_num_key_value_heads(&fields, value, num_attention_heads, sizes)?,
            head_dim: read_head_dim(&fields, hidden_size, num_attention_heads, family.head_dim)?,
            rope_theta: read_rope_theta(&fields)?.unwrap_or(family.rope_theta),
            rope_scaling: read_rope_scaling(&fields)?,
            rope_pairing: match fields.string(&["rope_pairing"])? {
                None => family.rope_pairing,
                Some("interleaved") => RopePairing::Interleaved,
                Some("halves") => RopePairing::Halves,
                Some(other) => return Err(fields.error("rope_pairing", other, "interleaved or halves")),
            },
            qk_norm: match fields.string(&["qk_norm"])? {
                None => family.qk_norm,
                Some("none") => QkNorm::None,
                Some("before_rotation") => QkNorm::BeforeRotation,
                Some("after_rotation") => QkNorm::AfterRotation,
                Some(other) => {
                    return Err(fields.error("qk_norm", other, "none, before_rotation or after_rotation"));
                }
            },
            qkv_bias: flag("qkv_bias", attention_bias.unwrap_or(family.qkv_bias))?,
            o_bias: flag("o_bias", attention_bias.unwrap_or(false))?,
            mlp_bias: flag("mlp_bias", false)?,
            rms_norm_eps: fields.number(&["rms_norm_eps", "norm_eps"], 0.0, 1.0)?.unwrap_or(family.rms_norm_eps) as f32,
            max_position_embeddings: fields
                .integer(&["max_position_embeddings"], 1, limits::POSITIONS)?
                .unwrap_or(family.max_position_embeddings),
            tie_word_embeddings: flag("tie_word_embeddings", family.tie_word_embeddings)?,
            lora_alpha: read_lora_alpha(&fields)?,
        };
        config.check(&fields)?;
        Ok(config)
    }

    /// Reads the decoder's part of a whole config.json: its `text_config`, or itself when it has none.
    ///
    /// # Errors
    /// As [`TextConfig::from_json`].
    pub fn from_config_json(value: &Value) -> Result<Self> {
        Self::from_json(value.get("text_config").unwrap_or(value))
    }

    /// The rotation of queries and keys.
    pub(crate) fn rotary_embedding(&self) -> RotaryEmbedding {
        let rotary = RotaryEmbedding::new(self.head_dim, self.rope_theta);
        match self.rope_scaling {
            None => rotary,
            Some(scaling) => rotary.scaled(|frequency| scaling.scale(frequency)),
        }
    }

    /// Layers with keys and values of their own.
    pub fn num_kv_layers(&self) -> usize {
        self.num_hidden_layers - self.num_kv_reuse_layers
    }

    /// Width of the keys (and of the values) of one token in one layer.
    pub fn kv_dim(&self) -> usize {
        self.num_key_value_heads * self.head_dim
    }

    /// Width of the queries of one token in one layer.
    pub fn q_dim(&self) -> usize {
        self.num_attention_heads * self.head_dim
    }

    /// Parameters of the decoder, without an adapter.
    pub fn num_parameters(&self) -> u64 {
        let (hidden, q, kv) = (self.hidden_size as u64, self.q_dim() as u64, self.kv_dim() as u64);
        let feed_forward = 3 * hidden * self.intermediate_size as u64;
        let [o_bias, mlp_bias, qkv_bias, norms] =
            [self.o_bias, self.mlp_bias, self.qkv_bias, self.qk_norm != QkNorm::None].map(u64::from);
        let biases = o_bias * hidden + mlp_bias * (hidden + 2 * self.intermediate_size as u64);
        let shared = hidden * q + feed_forward + 2 * hidden + biases; // output projection, feed-forward, two norms
        let regular = shared + (hidden + qkv_bias) * (q + 2 * kv) + norms * 2 * self.head_dim as u64;
        let reuse = shared + (hidden + qkv_bias) * q + norms * self.head_dim as u64;
        let embedding = self.vocab_size as u64 * hidden;
        let head = if self.tie_word_embeddings { 0 } else { embedding };
        embedding + head + hidden + regular * self.num_kv_layers() as u64 + reuse * self.num_kv_reuse_layers as u64
    }

    /// Multiplications and additions of the matrix products for `num_tokens` tokens after `num_cached` others, the logits of the last of
    /// them being wanted: the layers that reuse keys and values run for that one alone.
    pub fn num_operations(&self, num_cached: usize, num_tokens: usize) -> u64 {
        let (hidden, q, kv) = (self.hidden_size as u64, self.q_dim() as u64, self.kv_dim() as u64);
        let (cached, tokens) = (num_cached as u64, num_tokens as u64);
        let shared = 2 * hidden * q + 3 * hidden * self.intermediate_size as u64;
        let regular = 2 * (shared + 2 * hidden * kv) * tokens + 4 * q * (cached * tokens + tokens * (tokens + 1) / 2);
        let reuse = 2 * shared + 4 * q * (cached + tokens);
        let head = 2 * self.vocab_size as u64 * hidden;
        regular * self.num_kv_layers() as u64 + reuse * self.num_kv_reuse_layers as u64 + head
    }

    fn check(&self, fields: &JsonFields<'_>) -> Result<()> {
        if self.num_kv_reuse_layers >= self.num_hidden_layers {
            return Err(fields.error(
                "num_kv_reuse_layers",
                self.num_kv_reuse_layers,
                format!(
                    "fewer than the {} layers in all: one layer at least has to make keys and values",
                    self.num_hidden_layers
                ),
            ));
        }
        if !self.num_attention_heads.is_multiple_of(self.num_key_value_heads) {
            return Err(fields.error(
                "num_key_value_heads",
                self.num_key_value_heads,
                format!("a divisor of num_attention_heads ({})", self.num_attention_heads),
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(fields.error("head_dim", self.head_dim, "an even number (rotary pairs)"));
        }
        Ok(())
    }
}

impl TryFrom<Value> for TextConfig {
    type Error = Error;

    fn try_from(value: Value) -> Result<Self> {
        Self::from_json(&value)
    }
}

fn read_model_type(fields: &JsonFields<'_>) -> Result<TextModelType> {
    const HINT: &str = "this decoder reads `afm_text_v7`, `llama`, `qwen2` and `qwen3` models";
    const NAMES: [&str; 3] = ["model_type", "family", "__tamm_type__"];
    let Some(name) = fields.string(&NAMES)? else {
        return Err(fields.missing("model_type", "\"afm_text_v7\", \"llama\", \"qwen2\" or \"qwen3\""));
    };
    match name {
        "afm_text_v7" => Ok(TextModelType::AfmTextV7),
        name if name.ends_with("AFMTextV7Config") => Ok(TextModelType::AfmTextV7),
        "llama" => Ok(TextModelType::Llama),
        "qwen2" => Ok(TextModelType::Qwen2),
        "qwen3" => Ok(TextModelType::Qwen3),
        name => Err(Error::Unsupported {
            what: format!("a text model of type {}", value_text(&Value::from(name))),
            hint: HINT,
        }),
    }
}

/// Refuses what these decoders do not compute.
fn check_supported(fields: &JsonFields<'_>) -> Result<()> {
    let unsupported = |what: String, hint| Err(Error::Unsupported { what, hint });
    if let Some(activation) = fields.string(&["hidden_act"])?
        && !["silu", "swish"].contains(&activation)
    {
        let what = format!("`hidden_act` {} in the decoder of {FILE}", value_text(&Value::from(activation)));
        return unsupported(what, "the decoder's feed-forward layers compute `silu`");
    }
    let layer_types = fields.find(&["layer_types"]).and_then(|(_, value)| value.as_array());
    let slides = layer_types.is_some_and(|types| types.iter().any(|kind| kind != "full_attention"));
    if fields.boolean(&["use_sliding_window"])? == Some(true) || slides {
        let what =
            format!("attention other than over the whole context (`use_sliding_window`, `layer_types` in {FILE})");
        return unsupported(what, "every layer here attends over the whole context");
    }
    if fields.number(&["partial_rotary_factor"], 0.0, 1.0)?.is_some_and(|factor| factor < 1.0) {
        let what = format!("`partial_rotary_factor` below 1 in {FILE}");
        return unsupported(what, "every dimension of a head is rotated");
    }
    Ok(())
}

/// `rope_theta`, which newer files have inside `rope_parameters`.
fn read_rope_theta(fields: &JsonFields<'_>) -> Result<Option<f64>> {
    let theta = fields.number(&["rope_theta"], 1.0, 1e12)?;
    match fields.object("rope_parameters")? {
        Some(parameters) => Ok(parameters.number(&["rope_theta"], 1.0, 1e12)?.or(theta)),
        None => Ok(theta),
    }
}

fn read_rope_scaling(fields: &JsonFields<'_>) -> Result<Option<RopeScaling>> {
    let scaling = match fields.object("rope_scaling")? {
        Some(scaling) => scaling,
        None => match fields.object("rope_parameters")? {
            Some(parameters) => parameters,
            None => return Ok(None),
        },
    };
    let number = |name: &'static str, max: f64| -> Result<f32> {
        match scaling.number(&[name], 1e-3, max)? {
            Some(number) => Ok(number as f32),
            None => Err(scaling.missing(&format!("rope_scaling.{name}"), "a number")),
        }
    };
    match scaling.string(&["rope_type", "type"])?.unwrap_or("default") {
        "default" => Ok(None),
        "linear" => Ok(Some(RopeScaling::Linear { factor: number("factor", 1e6)? })),
        "llama3" => {
            const ORIGINAL: &str = "original_max_position_embeddings";
            let (low_freq_factor, high_freq_factor) =
                (number("low_freq_factor", 1e6)?, number("high_freq_factor", 1e6)?);
            if low_freq_factor >= high_freq_factor {
                let expected = format!("less than high_freq_factor ({high_freq_factor})");
                return Err(scaling.error("rope_scaling.low_freq_factor", low_freq_factor, expected));
            }
            let Some(original) = scaling.integer(&[ORIGINAL], 1, limits::POSITIONS)? else {
                return Err(scaling.missing(&format!("rope_scaling.{ORIGINAL}"), "a whole number"));
            };
            Ok(Some(RopeScaling::Llama3 {
                factor: number("factor", 1e6)?,
                low_freq_factor,
                high_freq_factor,
                original_max_position_embeddings: original,
            }))
        }
        other => Err(Error::Unsupported {
            what: format!("`rope_type` {} in {FILE}", value_text(&Value::from(other))),
            hint: "this decoder computes `default`, `linear` and `llama3`",
        }),
    }
}

fn read_intermediate_size(fields: &JsonFields<'_>, hidden_size: usize, sizes: Option<&DefaultSizes>) -> Result<usize> {
    const FACTOR: &str = "hidden_dim_scale_factor";
    if let Some(size) = fields.integer(&["intermediate_size", "feed_forward_dim"], 1, limits::WIDTH)? {
        return Ok(size);
    }
    let factor = match (fields.number(&[FACTOR], 0.0, 1024.0)?, sizes) {
        (Some(factor), _) => factor,
        // tamm's default is a factor, 3.25; those of the other families are sizes.
        (None, Some(sizes)) if sizes.num_kv_reuse_layers > 0 => 3.25,
        (None, Some(sizes)) => return Ok(sizes.intermediate_size),
        (None, None) => {
            return Err(fields.missing("intermediate_size", format!("a whole number from 1 to {}", limits::WIDTH)));
        }
    };
    // Python's `round`: halves go to the even neighbour.
    let size = (hidden_size as f64 * factor).round_ties_even() as usize;
    if size == 0 || size > limits::WIDTH {
        let expected = format!("a factor that gives an intermediate size from 1 to {}", limits::WIDTH);
        return Err(fields.error(FACTOR, factor, expected));
    }
    Ok(size)
}

/// A null `num_kv_heads` means as many as there are query heads; one that is not there is the default of the family.
fn read_num_key_value_heads(
    fields: &JsonFields<'_>,
    value: &Value,
    num_attention_heads: usize,
    sizes: Option<&DefaultSizes>,
) -> Result<usize> {
    const NAMES: [&str; 2] = ["num_key_value_heads", "num_kv_heads"];
    let is_null = NAMES.iter().any(|name| value.get(name).is_some_and(Value::is_null));
    let default = sizes.filter(|_| !is_null).and_then(|sizes| sizes.num_key_value_heads);
    Ok(fields.integer(&NAMES, 1, limits::HEADS)?.or(default).unwrap_or(num_attention_heads))
}

fn read_head_dim(
    fields: &JsonFields<'_>,
    hidden_size: usize,
    num_attention_heads: usize,
    default: Option<usize>,
) -> Result<usize> {
    if let Some(head_dim) = fields.integer(&["head_dim"], 1, limits::WIDTH / num_attention_heads)?.or(default) {
        return Ok(head_dim);
    }
    if !hidden_size.is_multiple_of(num_attention_heads) {
        return Err(fields.error(
            "num_attention_heads",
            num_attention_heads,
            format!("a divisor of the hidden size ({hidden_size}), or a head_dim"),
        ));
    }
    Ok(hidden_size / num_attention_heads)
}

fn read_lora_alpha(fields: &JsonFields<'_>) -> Result<Option<f32>> {
    match fields.object("lora")? {
        Some(lora) => Ok(lora.number(&["alpha"], -1e6, 1e6)?.map(|alpha| alpha as f32)),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests;

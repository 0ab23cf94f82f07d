//! What a decoder looks like: `text_config` of config.json, or a whole config.json in the words of `tamm`.
//!
//! Names are those of Hugging Face; `tamm`'s (`hidden_dim`, `num_layers`, `num_kv_heads`, ...) are aliases, here and nowhere
//! else. A file of `tamm` with `__tamm_type__` names only what differs from the defaults of `AFMTextV7Config`.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::json_fields::{JsonFields, value_text};

const FILE: &str = "config.json";

/// Bounds that no decoder in sight comes near: they turn nonsense into a message before anything is multiplied or allocated.
mod limits {
    pub(super) const VOCABULARY: usize = 1 << 24;
    pub(super) const WIDTH: usize = 1 << 20;
    pub(super) const LAYERS: usize = 1024;
    pub(super) const HEADS: usize = 4096;
    pub(super) const POSITIONS: usize = 1 << 24;
}

/// The families of decoders.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum TextModelType {
    /// Apple's on-device decoder of 2025 (`AFMTextV7` in `tamm`).
    #[serde(rename = "afm_text_v7")]
    AfmTextV7,
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
        let defaults = fields.find(&["__tamm_type__"]).is_some();
        let required = |names: &[&'static str], max: usize, default: usize| match fields.integer(names, 1, max)? {
            Some(number) => Ok(number),
            None if defaults => Ok(default),
            None => Err(fields.missing(names[0], format!("a whole number from 1 to {max}"))),
        };
        let vocab_size = required(&["vocab_size"], limits::VOCABULARY, 153_600)?;
        let hidden_size = required(&["hidden_size", "hidden_dim"], limits::WIDTH, 2048)?;
        let num_hidden_layers = required(&["num_hidden_layers", "num_layers"], limits::LAYERS, 56)?;
        let num_attention_heads = required(&["num_attention_heads", "num_heads"], limits::HEADS, 16)?;
        let num_kv_reuse_layers =
            fields.integer(&["num_kv_reuse_layers"], 0, limits::LAYERS)?.unwrap_or(if defaults { 21 } else { 0 });
        let config = Self {
            model_type,
            vocab_size,
            hidden_size,
            intermediate_size: read_intermediate_size(&fields, hidden_size, defaults)?,
            num_hidden_layers,
            num_kv_reuse_layers,
            num_attention_heads,
            num_key_value_heads: read_num_key_value_heads(&fields, value, num_attention_heads, defaults)?,
            head_dim: read_head_dim(&fields, hidden_size, num_attention_heads)?,
            rope_theta: fields.number(&["rope_theta"], 1.0, 1e12)?.unwrap_or(500_000.0),
            rms_norm_eps: fields.number(&["rms_norm_eps", "norm_eps"], 0.0, 1.0)?.unwrap_or(1e-5) as f32,
            max_position_embeddings: fields
                .integer(&["max_position_embeddings"], 1, limits::POSITIONS)?
                .unwrap_or(4096),
            tie_word_embeddings: fields.boolean(&["tie_word_embeddings"])?.unwrap_or(true),
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
        let shared = hidden * q + feed_forward + 2 * hidden; // output projection, feed-forward, two norms
        let regular = shared + hidden * (q + 2 * kv) + 2 * self.head_dim as u64;
        let reuse = shared + hidden * q + self.head_dim as u64;
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
    const HINT: &str = "this decoder reads `afm_text_v7` models";
    const NAMES: [&str; 3] = ["model_type", "family", "__tamm_type__"];
    let Some(name) = fields.string(&NAMES)? else {
        return Err(fields.missing("model_type", "\"afm_text_v7\""));
    };
    match name {
        "afm_text_v7" => Ok(TextModelType::AfmTextV7),
        name if name.ends_with("AFMTextV7Config") => Ok(TextModelType::AfmTextV7),
        name => Err(Error::Unsupported {
            what: format!("a text model of type {}", value_text(&Value::from(name))),
            hint: HINT,
        }),
    }
}

fn read_intermediate_size(fields: &JsonFields<'_>, hidden_size: usize, defaults: bool) -> Result<usize> {
    const FACTOR: &str = "hidden_dim_scale_factor";
    if let Some(size) = fields.integer(&["intermediate_size", "feed_forward_dim"], 1, limits::WIDTH)? {
        return Ok(size);
    }
    let factor = match fields.number(&[FACTOR], 0.0, 1024.0)? {
        Some(factor) => factor,
        None if defaults => 3.25,
        None => {
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

/// A null `num_kv_heads` means as many as there are query heads; one that is not there, in a file of `tamm`, is the default 2.
fn read_num_key_value_heads(
    fields: &JsonFields<'_>,
    value: &Value,
    num_attention_heads: usize,
    defaults: bool,
) -> Result<usize> {
    const NAMES: [&str; 2] = ["num_key_value_heads", "num_kv_heads"];
    let is_null = NAMES.iter().any(|name| value.get(name).is_some_and(Value::is_null));
    let default = if defaults && !is_null { 2 } else { num_attention_heads };
    Ok(fields.integer(&NAMES, 1, limits::HEADS)?.unwrap_or(default))
}

fn read_head_dim(fields: &JsonFields<'_>, hidden_size: usize, num_attention_heads: usize) -> Result<usize> {
    if let Some(head_dim) = fields.integer(&["head_dim"], 1, limits::WIDTH / num_attention_heads)? {
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

/// The ids of the tokens around a picture, at the top of config.json.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageTokenIds {
    /// Comes before the image tokens of a view.
    pub image_start_token_id: u32,
    /// Comes after the image tokens of a view.
    pub image_end_token_id: u32,
    /// Holds the place of an image token.
    pub image_token_id: u32,
}

impl ImageTokenIds {
    /// Checks that the decoder has an embedding for each.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the id that is too large.
    pub fn check(&self, vocab_size: usize) -> Result<()> {
        let ids = [
            ("image_start_token_id", self.image_start_token_id),
            ("image_end_token_id", self.image_end_token_id),
            ("image_token_id", self.image_token_id),
        ];
        match ids.into_iter().find(|&(_, id)| id as usize >= vocab_size) {
            None => Ok(()),
            Some((field, id)) => Err(Error::Config {
                file: FILE,
                field: field.into(),
                found: id.to_string(),
                expected: format!("an id below the vocab_size of {vocab_size}"),
            }),
        }
    }
}

#[cfg(test)]
mod tests;

//! generation_config.json: how a model wants to be sampled, and where it stops.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::{Error, Result};
use crate::json_fields::{JsonFields, value_text};
use crate::sampler::SamplingOptions;

const FILE: &str = "generation_config.json";

/// The defaults of a model for generation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Value")]
#[non_exhaustive]
pub struct GenerationConfig {
    /// The tokens that end an answer.
    pub eos_token_id: Vec<u32>,
    /// Most tokens of an answer. Default: 256.
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    #[serde(flatten)]
    pub sampling: SamplingOptions,
    /// The questions that ask for a caption.
    #[serde(flatten)]
    pub caption_prompts: CaptionPrompts,
}

/// What asks a model for captions of several lengths. The defaults are for models that follow instructions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct CaptionPrompts {
    /// For a caption as the model likes it. Default: "Describe the picture."
    #[serde(rename = "caption_prompt")]
    pub normal: String,
    /// For a short one. Default: "Describe the picture in one short sentence."
    #[serde(rename = "short_caption_prompt")]
    pub short: String,
    /// For a long one. Default: "Describe the picture in detail."
    #[serde(rename = "long_caption_prompt")]
    pub long: String,
    /// For alt text. Default: "Describe the picture in one sentence, for somebody who cannot see it."
    #[serde(rename = "alt_caption_prompt")]
    pub alt: String,
}

impl GenerationConfig {
    /// Reads a generation_config.json.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) when a field is missing, of the wrong type or out of range.
    pub fn from_json(value: &Value) -> Result<Self> {
        let fields = JsonFields::new(FILE, value)?;
        let mut sampling = SamplingOptions::default();
        if let Some(temperature) = fields.number(&["temperature"], 0.0, f64::MAX)? {
            sampling.temperature = temperature as f32;
        }
        sampling.top_k = fields.integer(&["top_k"], 1, usize::MAX)?;
        sampling.top_p = fields.number(&["top_p"], 0.0, 1.0)?.map(|top_p| top_p as f32);
        if let Some(penalty) = fields.number(&["repetition_penalty"], 0.0, f64::MAX)? {
            sampling.repetition_penalty = penalty as f32;
        }
        sampling.check().map_err(|error| match error {
            Error::Sampling { option, found, expected } => fields.error(option, found, expected),
            error => error,
        })?;
        let prompt =
            |name, default: &str| -> Result<String> { Ok(fields.string(&[name])?.unwrap_or(default).to_owned()) };
        Ok(Self {
            eos_token_id: read_eos_token_id(&fields)?,
            max_new_tokens: fields.integer(&["max_new_tokens"], 1, 1 << 24)?.unwrap_or(256),
            sampling,
            caption_prompts: CaptionPrompts {
                normal: prompt("caption_prompt", "Describe the picture.")?,
                short: prompt("short_caption_prompt", "Describe the picture in one short sentence.")?,
                long: prompt("long_caption_prompt", "Describe the picture in detail.")?,
                alt: prompt(
                    "alt_caption_prompt",
                    "Describe the picture in one sentence, for somebody who cannot see it.",
                )?,
            },
        })
    }

    /// Checks that every end token is in the vocabulary.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the first that is not.
    pub fn check_vocab_size(&self, vocab_size: usize) -> Result<()> {
        match self.eos_token_id.iter().find(|&&id| id as usize >= vocab_size) {
            None => Ok(()),
            Some(id) => Err(Error::Config {
                file: FILE,
                field: "eos_token_id".into(),
                found: id.to_string(),
                expected: format!("ids below the vocab_size of {vocab_size} in config.json"),
            }),
        }
    }
}

impl TryFrom<Value> for GenerationConfig {
    type Error = Error;

    fn try_from(value: Value) -> Result<Self> {
        Self::from_json(&value)
    }
}

/// One id or a list of ids.
fn read_eos_token_id(fields: &JsonFields<'_>) -> Result<Vec<u32>> {
    const NAME: &str = "eos_token_id";
    const EXPECTED: &str = "a token id or a list of token ids";
    let Some((_, value)) = fields.find(&[NAME]) else { return Err(fields.missing(NAME, EXPECTED)) };
    let ids = match value {
        Value::Array(ids) => ids.as_slice(),
        id => std::slice::from_ref(id),
    };
    ids.iter()
        .map(|id| {
            let number = id.as_u64().and_then(|number| u32::try_from(number).ok());
            number.ok_or_else(|| fields.error(NAME, value_text(id), EXPECTED))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_bundled_file_is_read() {
        let json = include_str!("../../assets/nano/generation_config.json");
        let config: GenerationConfig = serde_json::from_str(json).unwrap();
        assert_eq!(config.eos_token_id, [3]);
        assert_eq!(config.max_new_tokens, 96);
        assert_eq!(config.sampling, SamplingOptions::default());
        assert_eq!(config.caption_prompts.normal, "Describe the picture.");
        assert_eq!(config.caption_prompts.short, "What objects are there?");
        config.check_vocab_size(4).unwrap();
        assert!(config.check_vocab_size(3).unwrap_err().to_string().contains("`eos_token_id`"));
    }

    #[test]
    fn one_end_token_needs_no_list() {
        assert_eq!(GenerationConfig::from_json(&json!({"eos_token_id": 7})).unwrap().eos_token_id, [7]);
    }

    #[test]
    fn broken_fields_are_errors_that_name_them() {
        for (field, value) in [
            ("eos_token_id", json!(null)),
            ("eos_token_id", json!(-1)),
            ("eos_token_id", json!([1, "2"])),
            ("eos_token_id", json!(1u64 << 32)),
            ("max_new_tokens", json!(0)),
            ("max_new_tokens", json!(u64::MAX)),
            ("temperature", json!("warm")),
            ("temperature", json!(-1)),
            ("temperature", json!(1e9)),
            ("top_k", json!(0)),
            ("top_p", json!(1.5)),
            ("top_p", json!(0)),
            ("repetition_penalty", json!(0)),
            ("caption_prompt", json!(["?"])),
            ("short_caption_prompt", json!(1)),
        ] {
            let mut config = json!({"eos_token_id": [3]});
            config[field] = value.clone();
            let error = GenerationConfig::from_json(&config).expect_err(&format!("{field}: {value}"));
            assert!(error.to_string().contains(&format!("`{field}` in generation_config.json")), "{error}");
        }
    }
}

//! What a Hugging Face directory says about texts: end tokens, sampling, template and its variables.

use std::collections::{BTreeMap, BTreeSet};

use ocelli_language::Tokenizer;
use serde_json::{Value, json};

use super::fields::Fields;
use crate::error::Result;
use crate::model_dir::{Files, GENERATION, TEMPLATE};

const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const OLD_TEMPLATE: &str = "chat_template.json";

/// For models that were never taught conversations: the texts, one after the other.
const NO_TEMPLATE: &str = "{% for message in messages %}{{ message.content }}{% endfor %}";

/// Files about texts, in the form of `docs/format.md`.
pub(super) struct Texts {
    /// `generation_config.json`.
    pub(super) generation: Value,
    /// `chat_template.jinja`.
    pub(super) template: String,
    /// `chat_template_variables` of config.json.
    pub(super) variables: BTreeMap<String, String>,
}

/// Reads them; `config` is config.json.
pub(super) fn read(files: &Files<'_>, config: &Value, tokenizer: &Tokenizer) -> Result<Texts> {
    let tokenizer_config = files.optional_json(TOKENIZER_CONFIG)?.unwrap_or_default();
    let mut variables = BTreeMap::new();
    for name in ["bos_token", "eos_token", "unk_token", "pad_token"] {
        let token = &tokenizer_config[name];
        if let Some(token) = token.as_str().or(token["content"].as_str()) {
            variables.insert(name.to_owned(), token.to_owned());
        }
    }
    let eos_token = variables.get("eos_token").and_then(|token| tokenizer.id(token));
    Ok(Texts {
        generation: generation(files, config, eos_token)?,
        template: template(files, &tokenizer_config)?,
        variables,
    })
}

fn template(files: &Files<'_>, tokenizer_config: &Value) -> Result<String> {
    if files.has(TEMPLATE) {
        return files.text(TEMPLATE);
    }
    let old = files.optional_json(OLD_TEMPLATE)?;
    let template = old.as_ref().and_then(|old| old["chat_template"].as_str());
    let in_tokenizer = || match &tokenizer_config["chat_template"] {
        Value::Array(named) => named.iter().find(|entry| entry["name"] == "default")?["template"].as_str(),
        template => template.as_str(),
    };
    Ok(template.or_else(in_tokenizer).unwrap_or(NO_TEMPLATE).to_owned())
}

fn generation(files: &Files<'_>, config: &Value, eos_token: Option<u32>) -> Result<Value> {
    let file = files.optional_json(GENERATION)?.unwrap_or_else(|| json!({}));
    let fields = Fields::new(files.path(GENERATION), &file);
    let mut eos: BTreeSet<u64> = eos_token.map(u64::from).into_iter().collect();
    for value in [&file["eos_token_id"], &config["eos_token_id"], &config["text_config"]["eos_token_id"]] {
        match value {
            Value::Array(ids) => eos.extend(ids.iter().filter_map(Value::as_u64)),
            value => eos.extend(value.as_u64()),
        }
    }
    if eos.is_empty() {
        return Err(fields.error(
            "eos_token_id",
            "missing",
            "an end token, here, in config.json or in tokenizer_config.json",
        ));
    }
    // Words that models of photographs were taught to answer with a caption.
    let mut generation = json!({
        "eos_token_id": eos.into_iter().collect::<Vec<_>>(),
        "caption_prompt": "Describe this image.",
        "short_caption_prompt": "Describe this image in one short sentence.",
        "long_caption_prompt": "Describe this image in detail.",
        "alt_caption_prompt": "Describe this image in one sentence, for somebody who cannot see it.",
    });
    if let Some(count) = fields.integer("max_new_tokens")? {
        generation["max_new_tokens"] = json!(count);
    }
    // Sampling counts where it is on; otherwise files often hold defaults that nobody uses.
    if fields.flag("do_sample")? == Some(true) {
        for name in ["temperature", "top_k", "top_p"] {
            if let Some(value) = fields.find(name).filter(|value| value.as_f64() != Some(0.0)) {
                generation[name] = value.clone();
            }
        }
    } else {
        generation["temperature"] = json!(0.0);
    }
    if let Some(penalty) = fields.number("repetition_penalty")? {
        generation["repetition_penalty"] = json!(penalty);
    }
    Ok(generation)
}

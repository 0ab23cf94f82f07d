//! The model directory: which files there are, and what is in them, checked against each other.
//!
//! `docs/format.md` describes every file. Nothing is computed here; [`Model`](crate::Model) makes the parts.

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};

use ocelli_adapter::AdapterConfig;
use ocelli_language::{ChatTemplate, GenerationConfig, ImageTokenIds, TextConfig, Tokenizer};
use ocelli_nn::{QuantizationConfig, Weights};
use ocelli_vision::{PreprocessorConfig, VisionConfig};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{Cause, Error, Result};

/// The architecture and the place of everything else's sizes.
pub(crate) const CONFIG: &str = "config.json";
/// Modes, sizes, mean and standard deviation.
pub(crate) const PREPROCESSOR: &str = "preprocessor_config.json";
/// Sampling defaults and end tokens.
pub(crate) const GENERATION: &str = "generation_config.json";
/// The tokenizer.
pub(crate) const TOKENIZER: &str = "tokenizer.json";
/// The layout of a conversation.
pub(crate) const TEMPLATE: &str = "chat_template.jinja";
/// The weights, when they are one file.
pub(crate) const WEIGHTS: &str = "model.safetensors";

/// The largest of the text files that is read; a tokenizer of 150,000 entries has 12 MB.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// A model directory, read and checked: configurations, tokenizer, template and the tensors by name.
#[derive(Debug)]
pub(crate) struct ModelDir {
    pub(crate) name: String,
    pub(crate) vision: VisionConfig,
    pub(crate) adapter: AdapterConfig,
    pub(crate) text: TextConfig,
    pub(crate) image_token_ids: ImageTokenIds,
    pub(crate) preprocessor: PreprocessorConfig,
    pub(crate) generation: GenerationConfig,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: ChatTemplate,
    pub(crate) weights: Weights,
}

/// Where the files come from.
pub(crate) enum Files<'a> {
    /// A folder.
    Folder(&'a Path),
    /// The program itself: names and contents.
    Embedded(&'static [(&'static str, &'static [u8])]),
}

impl Files<'_> {
    /// What messages call the file `name`.
    fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(name),
            Self::Embedded(_) => Path::new("(bundled)").join(name),
        }
    }

    /// The contents of the file `name`, which may not be empty.
    fn read(&self, name: &'static str) -> Result<Cow<'static, [u8]>> {
        let path = self.path(name);
        let bytes: Cow<'static, [u8]> = match self {
            Self::Embedded(files) => {
                let file = files.iter().find(|(embedded, _)| *embedded == name);
                file.map_or(&[][..], |(_, bytes)| bytes).into()
            }
            Self::Folder(_) => {
                let failed = |source| Cause::Read { path: path.clone(), source };
                let metadata = fs::metadata(&path).map_err(failed)?;
                if !metadata.is_file() {
                    let found = if metadata.is_dir() { "a directory" } else { "a pipe or a device" };
                    return Err(Cause::ModelFile { path, found: found.to_owned(), expected: "a file" }.into());
                }
                if metadata.len() > MAX_TEXT_BYTES {
                    let found = format!("{} bytes long", metadata.len());
                    return Err(Cause::ModelFile { path, found, expected: "at most 64 MiB" }.into());
                }
                fs::read(&path).map_err(failed)?.into()
            }
        };
        if bytes.is_empty() {
            let expected = "the file of that name of a model directory: was it copied completely?";
            return Err(Cause::ModelFile { path, found: "empty".to_owned(), expected }.into());
        }
        Ok(bytes)
    }

    /// The object in the JSON file `name`.
    fn json(&self, name: &'static str) -> Result<Value> {
        let bytes = self.read(name)?;
        let refused = |found: String| Cause::ModelFile { path: self.path(name), found, expected: "a JSON object" };
        let value: Value = serde_json::from_slice(&bytes).map_err(|error| refused(format!("not JSON ({error})")))?;
        if value.is_object() { Ok(value) } else { Err(refused("JSON of another kind".to_owned()).into()) }
    }

    /// The part `section` of a JSON file.
    fn part<'a>(&self, name: &'static str, value: &'a Value, section: &str) -> Result<&'a Value> {
        let (path, field) = (self.path(name), section.to_owned());
        let (found, expected) = ("missing".to_owned(), "an object (docs/format.md)".to_owned());
        value.get(section).ok_or_else(|| Cause::Config { path, field, found, expected }.into())
    }

    /// The part `section` of a JSON file, or all of it, as a `T`.
    pub(crate) fn section<T: DeserializeOwned>(
        &self,
        name: &'static str,
        value: &Value,
        section: Option<&str>,
    ) -> Result<T> {
        let refused = |field: String, found: String, expected: String| {
            Error::from(Cause::Config { path: self.path(name), field, found, expected })
        };
        let part = match section {
            None => value,
            Some(section) => self.part(name, value, section)?,
        };
        T::deserialize(part).map_err(|error| {
            let place = |key: &str| section.map_or_else(|| key.to_owned(), |section| format!("{section}.{key}"));
            match culprit::<T>(part, &error.to_string()) {
                Some((key, found)) => refused(place(key), shortened(found), expected_by(&error.to_string())),
                None => refused(section.unwrap_or("(the whole)").to_owned(), "not right".to_owned(), error.to_string()),
            }
        })
    }
}

/// The key of the object `part` that `message` is about.
///
/// Serde loses the key inside tagged and flattened structs, so it is found by trial: it is the one for which another value helps,
/// or, where none is known (names), the one that the message quotes and without which another message comes.
fn culprit<'a, T: DeserializeOwned>(part: &'a Value, message: &str) -> Option<(&'a str, &'a Value)> {
    let object = part.as_object()?;
    let message_with = |key: &str, value: Option<Value>| {
        let mut changed = object.clone();
        match value {
            Some(value) => changed.insert(key.to_owned(), value),
            None => changed.remove(key),
        };
        T::deserialize(&Value::Object(changed)).err().map(|error| error.to_string())
    };
    let probes = [json!(1), json!(0.5), json!(true), json!([]), json!([1, 1]), json!([1, 1, 1])];
    let helps = |key: &str| {
        probes.iter().any(|probe| match message_with(key, Some(probe.clone())) {
            None => true,
            Some(other) => other != message && !mentions(&other, probe),
        })
    };
    let is_quoted = |key: &str, value: &Value| {
        mentions(message, value) && message_with(key, None).is_none_or(|other| other != message)
    };
    let keys = || object.iter().map(|(key, value)| (key.as_str(), value));
    keys().find(|(key, _)| helps(key)).or_else(|| keys().find(|(key, value)| is_quoted(key, value)))
}

/// Whether a message of serde is about `value`, or about something inside it.
fn mentions(message: &str, value: &Value) -> bool {
    match value {
        Value::Null => message.contains("null") || message.contains("unit value"),
        Value::Bool(_) | Value::Number(_) => message.contains(&format!("`{value}`")),
        Value::String(text) => message.contains(&value.to_string()) || message.contains(&format!("`{text}`")),
        Value::Array(items) => {
            let length = format!("invalid length {}", items.len());
            message.contains("sequence")
                || message.contains(&length)
                || items.iter().any(|item| mentions(message, item))
        }
        Value::Object(fields) => message.contains("map") || fields.values().any(|field| mentions(message, field)),
    }
}

/// What a message of serde says would be right, in words.
fn expected_by(message: &str) -> String {
    match message.rsplit_once("expected ") {
        Some((_, "usize" | "u32" | "u64")) => "a whole number".to_owned(),
        Some((_, "f32" | "f64")) => "a number".to_owned(),
        Some((_, expected)) => expected.to_owned(),
        None => format!("something else ({message})"),
    }
}

/// A JSON value as a message shows it.
fn shortened(value: &Value) -> String {
    const LONGEST: usize = 60;
    let text = value.to_string();
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}...", &text[..end]),
        None => text,
    }
}

impl ModelDir {
    /// Reads the model directory `folder`.
    ///
    /// # Errors
    /// Names the file, and the field or tensor, that is missing, broken or does not fit the others.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let failed = |source| Cause::Read { path: folder.to_owned(), source };
        if !fs::metadata(folder).map_err(failed)?.is_dir() {
            let expected = "a model directory (with config.json and model.safetensors)";
            return Err(Cause::ModelFile { path: folder.to_owned(), found: "a file".to_owned(), expected }.into());
        }
        let name = fs::canonicalize(folder).map_err(failed)?;
        let name = name.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
        Self::from_files(name, &Files::Folder(folder), || Weights::open(folder))
    }

    /// Reads a model out of `files`, with its tensors from `open_weights`.
    pub(crate) fn from_files(
        name: String,
        files: &Files<'_>,
        open_weights: impl FnOnce() -> Result<Weights, ocelli_nn::Error>,
    ) -> Result<Self> {
        let config = files.json(CONFIG)?;
        let vision: VisionConfig = files.section(CONFIG, &config, Some("vision_config"))?;
        let adapter: AdapterConfig = files.section(CONFIG, &config, Some("adapter_config"))?;
        let image_token_ids: ImageTokenIds = files.section(CONFIG, &config, None)?;
        let quantization: Option<QuantizationConfig> = match config.get("quantization_config") {
            None | Some(Value::Null) => None,
            Some(_) => Some(files.section(CONFIG, &config, Some("quantization_config"))?),
        };
        let place = |error: Error, file: &str| error.at(files.path(file).parent().unwrap_or(Path::new("")).display());
        let text = files.part(CONFIG, &config, "text_config")?;
        let text = TextConfig::from_json(text).map_err(|error| place(error.into(), CONFIG))?;
        image_token_ids.check(text.vocab_size).map_err(|error| place(error.into(), CONFIG))?;
        vision.validate().map_err(|error| place(error.into(), CONFIG))?;
        adapter.validate(vision.hidden_size()).map_err(|error| place(error.into(), CONFIG))?;

        let preprocessor: PreprocessorConfig = files.section(PREPROCESSOR, &files.json(PREPROCESSOR)?, None)?;
        preprocessor.validate().map_err(|error| place(error.into(), PREPROCESSOR))?;

        let generation = files.json(GENERATION)?;
        let generation = GenerationConfig::from_json(&generation).map_err(|error| place(error.into(), GENERATION))?;
        generation.check_vocab_size(text.vocab_size).map_err(|error| place(error.into(), GENERATION))?;

        let at_file = |error: ocelli_language::Error, file: &str| Error::from(error).at(files.path(file).display());
        let tokenizer = Tokenizer::from_bytes(&files.read(TOKENIZER)?).map_err(|error| at_file(error, TOKENIZER))?;
        tokenizer.check_vocab_size(text.vocab_size).map_err(|error| at_file(error, TOKENIZER))?;

        let template = String::from_utf8(files.read(TEMPLATE)?.into_owned()).map_err(|_| Cause::ModelFile {
            path: files.path(TEMPLATE),
            found: "not UTF-8".to_owned(),
            expected: "a template in UTF-8",
        })?;
        let template = ChatTemplate::new(template).map_err(|error| at_file(error, TEMPLATE))?;

        let mut weights = open_weights()?;
        if let Some(quantization) = quantization {
            weights = weights.with_quantization(quantization)?;
        }
        Ok(Self {
            name,
            vision,
            adapter,
            text,
            image_token_ids,
            preprocessor,
            generation,
            tokenizer,
            template,
            weights,
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    /// A struct of the kind in which serde loses the key: flattened, under a tag.
    #[derive(Debug, Deserialize)]
    #[serde(tag = "kind")]
    enum Shape {
        #[serde(rename = "box")]
        Box {
            #[serde(flatten)]
            _size: Size,
        },
    }

    #[derive(Debug, Deserialize)]
    struct Size {
        #[serde(rename = "width")]
        _width: usize,
        #[serde(rename = "height")]
        _height: usize,
    }

    fn message(part: Value) -> String {
        let files = Files::Folder(Path::new("model"));
        let config = json!({ "shape": part });
        files.section::<Shape>(CONFIG, &config, Some("shape")).unwrap_err().to_string()
    }

    #[test]
    fn the_key_of_a_wrong_value_is_named_even_where_serde_loses_it() {
        let found = message(json!({"kind": "box", "width": 3, "height": "tall"}));
        assert!(found.starts_with("`shape.height` in model/config.json is \"tall\", expected"), "{found}");
        let found = message(json!({"kind": "ball", "width": 3, "height": 4}));
        assert!(found.starts_with("`shape.kind` in model/config.json is \"ball\", expected"), "{found}");
    }

    #[test]
    fn a_missing_key_is_named() {
        let found = message(json!({"kind": "box", "width": 3}));
        assert!(found.contains("`shape` in model/config.json") && found.contains("missing field `height`"), "{found}");
        let config = json!({});
        let found = Files::Folder(Path::new("model")).section::<Shape>(CONFIG, &config, Some("shape")).unwrap_err();
        assert!(found.to_string().starts_with("`shape` in model/config.json is missing"), "{found}");
    }
}

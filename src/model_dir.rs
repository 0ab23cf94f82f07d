//! The model directory: which files there are, and what is in them, checked against each other.
//!
//! `docs/format.md` describes every file. Nothing is computed here; [`Model`](crate::Model) makes the parts.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::path::{Path, PathBuf};

use ocelli_adapter::AdapterConfig;
use ocelli_language::{ChatTemplate, GenerationConfig, ImagePrompt, TextConfig, Tokenizer};
use ocelli_nn::{QuantizationConfig, Weights};
use ocelli_vision::{Overview, PreprocessorConfig, VisionConfig};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::error::{Cause, Error, Result};
use crate::hugging_face::{self, Translation};

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

/// A low-rank adapter of the decoder, beside its weights.
pub(crate) const LORA: &str = "adapter.safetensors";

/// The largest of the text files that is read; a tokenizer of 150,000 entries has 12 MB.
const MAX_TEXT_BYTES: u64 = 64 << 20;

/// A model directory, read and checked: configurations, tokenizer, template and the tensors by name. A decoder alone has no vision, an encoder
/// alone no text, nor does a decoder without a tokenizer.
#[derive(Debug)]
pub(crate) struct ModelDir {
    pub(crate) name: String,
    pub(crate) vision: Option<VisionDir>,
    pub(crate) adapter: Option<AdapterConfig>,
    pub(crate) text: Option<TextDir>,
    /// How pictures are written into prompts, where there are both.
    pub(crate) images: Option<ImagePrompt>,
    pub(crate) weights: Weights,
    /// A low-rank adapter of the decoder.
    pub(crate) lora: Option<Weights>,
    /// Whether it is a checkpoint of Hugging Face: the shapes of its tensors were checked when their names were translated.
    pub(crate) is_checkpoint: bool,
}

/// What is about pictures.
#[derive(Debug)]
pub(crate) struct VisionDir {
    pub(crate) config: VisionConfig,
    pub(crate) preprocessor: PreprocessorConfig,
}

/// What is about text.
#[derive(Debug)]
pub(crate) struct TextDir {
    pub(crate) config: TextConfig,
    pub(crate) generation: GenerationConfig,
    pub(crate) tokenizer: Tokenizer,
    pub(crate) template: ChatTemplate,
}

/// Configurations and tensors in the form of `docs/format.md`, whatever form they had.
pub(crate) struct Sources {
    /// `config.json`.
    pub(crate) config: Value,
    /// `preprocessor_config.json`; none for a decoder alone, and where there is no such file.
    pub(crate) preprocessor: Option<Value>,
    pub(crate) weights: Weights,
    /// `config.json` of a Hugging Face checkpoint, as it was.
    checkpoint: Option<Value>,
    /// The names of tensors in a Hugging Face checkpoint.
    source_names: HashMap<String, String>,
}

/// The files about text.
pub(crate) struct TextSources {
    /// `generation_config.json`.
    pub(crate) generation: Value,
    /// `tokenizer.json`.
    pub(crate) tokenizer: Cow<'static, [u8]>,
    /// `chat_template.jinja`.
    pub(crate) template: String,
}

impl Sources {
    /// Reads `files`, of this engine or a checkpoint of another.
    pub(crate) fn open(
        files: &Files<'_>,
        open_weights: impl FnOnce() -> Result<Weights, ocelli_nn::Error>,
    ) -> Result<Self> {
        let config = files.json(CONFIG)?;
        if hugging_face::is_checkpoint(&config) {
            let Translation { config: translated, preprocessor, weights, source_names } =
                hugging_face::translate(files, &config, open_weights)?;
            return Ok(Self { config: translated, preprocessor, weights, checkpoint: Some(config), source_names });
        }
        // A checkpoint of `tamm` is a decoder, whose fields are the whole of config.json.
        let is_tamm = config.get("__tamm_type__").is_some() || config.get("family").is_some();
        let config = match is_tamm && config.get("text_config").is_none() {
            true => json!({"architectures": ["OcelliForCausalLM"], "model_type": "ocelli", "text_config": config}),
            false => config,
        };
        let preprocessor = files.optional_json(PREPROCESSOR)?;
        let (weights, source_names) = (open_weights()?, HashMap::new());
        Ok(Self { config, preprocessor, weights, checkpoint: None, source_names })
    }

    /// Whether it is a Hugging Face checkpoint, of which every tensor is checked when it is opened.
    pub(crate) fn is_translated(&self) -> bool {
        self.checkpoint.is_some()
    }

    /// What the file calls the tensor `name`.
    pub(crate) fn source_name<'a>(&'a self, name: &'a str) -> &'a str {
        self.source_names.get(name).map_or(name, String::as_str)
    }

    /// Reads the files about text; some of what a checkpoint says there goes into the configuration.
    pub(crate) fn read_texts(&mut self, files: &Files<'_>) -> Result<TextSources> {
        if let Some(checkpoint) = &self.checkpoint {
            return hugging_face::texts(files, checkpoint, &mut self.config);
        }
        Ok(TextSources {
            generation: files.json(GENERATION)?,
            tokenizer: files.read(TOKENIZER)?,
            template: files.text(TEMPLATE)?,
        })
    }

    /// The weights, packed as the configuration says.
    pub(crate) fn quantized_weights(&self, files: &Files<'_>) -> Result<Weights> {
        let weights = self.weights.clone();
        match self.config.get("quantization_config") {
            None | Some(Value::Null) => Ok(weights),
            Some(_) => {
                let quantization: QuantizationConfig =
                    files.section(CONFIG, &self.config, Some("quantization_config"))?;
                Ok(weights.with_quantization(quantization)?)
            }
        }
    }
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
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        match self {
            Self::Folder(folder) => folder.join(name),
            Self::Embedded(_) => Path::new("(bundled)").join(name),
        }
    }

    /// Whether there is a file `name`.
    pub(crate) fn has(&self, name: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(name).exists(),
            Self::Embedded(files) => files.iter().any(|(embedded, _)| *embedded == name),
        }
    }

    /// The object in the JSON file `name`, if there is such a file.
    pub(crate) fn optional_json(&self, name: &'static str) -> Result<Option<Value>> {
        if self.has(name) { Ok(Some(self.json(name)?)) } else { Ok(None) }
    }

    /// The text in the file `name`.
    pub(crate) fn text(&self, name: &'static str) -> Result<String> {
        String::from_utf8(self.read(name)?.into_owned()).map_err(|_| {
            let (found, expected) = ("not UTF-8".to_owned(), "a text in UTF-8");
            Cause::ModelFile { path: self.path(name), found, expected }.into()
        })
    }

    /// The contents of the file `name`, which may not be empty.
    pub(crate) fn read(&self, name: &'static str) -> Result<Cow<'static, [u8]>> {
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
    pub(crate) fn json(&self, name: &'static str) -> Result<Value> {
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

/// Refuses what is not there, and what is a file.
pub(crate) fn check_is_folder(folder: &Path) -> Result<()> {
    let failed = |source| Cause::Read { path: folder.to_owned(), source };
    if fs::metadata(folder).map_err(failed)?.is_dir() {
        return Ok(());
    }
    let expected = "a model directory (with config.json and model.safetensors)";
    Err(Cause::ModelFile { path: folder.to_owned(), found: "a file".to_owned(), expected }.into())
}

impl ModelDir {
    /// Reads the model directory `folder`.
    ///
    /// # Errors
    /// Names the file, and the field or tensor, that is missing, broken or does not fit the others.
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        let failed = |source| Cause::Read { path: folder.to_owned(), source };
        check_is_folder(folder)?;
        let name = fs::canonicalize(folder).map_err(failed)?;
        let name = name.file_name().unwrap_or(folder.as_os_str()).to_string_lossy().into_owned();
        let files = Files::Folder(folder);
        let lora = if files.has(LORA) { Some(Weights::open(folder.join(LORA))?) } else { None };
        Ok(Self { lora, ..Self::from_files(name, &files, || Weights::open(folder))? })
    }

    /// Reads a model out of `files`, with its tensors from `open_weights`.
    pub(crate) fn from_files(
        name: String,
        files: &Files<'_>,
        open_weights: impl FnOnce() -> Result<Weights, ocelli_nn::Error>,
    ) -> Result<Self> {
        let mut sources = Sources::open(files, open_weights)?;
        let place = |error: Error, file: &str| error.at(files.path(file).parent().unwrap_or(Path::new("")).display());
        let config = |error: Error| place(error, CONFIG);
        let has = |section: &str, sources: &Sources| sources.config.get(section).is_some();
        let (has_vision, has_text) = (has("vision_config", &sources), has("text_config", &sources));
        // An adapter joins the two; without any of the three the message is about the first.
        let is_whole = has("adapter_config", &sources) || has_vision == has_text;

        let mut vision = None;
        let mut adapter: Option<AdapterConfig> = None;
        if has_vision || is_whole {
            let vision_config: VisionConfig = files.section(CONFIG, &sources.config, Some("vision_config"))?;
            if is_whole {
                adapter = Some(files.section(CONFIG, &sources.config, Some("adapter_config"))?);
            }
            vision_config.validate().map_err(|error| config(error.into()))?;
            if let Some(adapter) = &adapter {
                adapter.validate(vision_config.hidden_size()).map_err(|error| config(error.into()))?;
            }
            let preprocessor = match sources.preprocessor.take() {
                Some(preprocessor) => preprocessor,
                None => files.json(PREPROCESSOR)?,
            };
            let preprocessor: PreprocessorConfig = files.section(PREPROCESSOR, &preprocessor, None)?;
            preprocessor.validate().map_err(|error| place(error.into(), PREPROCESSOR))?;
            vision = Some(VisionDir { config: vision_config, preprocessor });
        }
        let mut text = None;
        // A decoder without a tokenizer can only be traced.
        if is_whole || has_text && files.has(TOKENIZER) {
            let text_config = files.part(CONFIG, &sources.config, "text_config")?;
            let text_config = TextConfig::from_json(text_config).map_err(|error| config(error.into()))?;
            let texts = sources.read_texts(files)?;
            text = Some(TextDir::new(files, &sources.config, text_config, texts)?);
        }
        let mut images = None;
        if let (Some(vision), Some(text)) = (&vision, &text) {
            let overview_first = vision.preprocessor.overview == Overview::First;
            let prompt = ImagePrompt::from_config_json(&sources.config, &text.config, &text.tokenizer, overview_first);
            images = Some(prompt.map_err(|error| config(error.into()))?);
        }
        let weights = sources.quantized_weights(files)?;
        let is_checkpoint = sources.checkpoint.is_some();
        Ok(Self { name, vision, adapter, text, images, weights, lora: None, is_checkpoint })
    }
}

impl TextDir {
    fn new(files: &Files<'_>, config: &Value, text: TextConfig, texts: TextSources) -> Result<Self> {
        let place = |error: ocelli_language::Error, file: &str| {
            Error::from(error).at(files.path(file).parent().unwrap_or(Path::new("")).display())
        };
        let at_file = |error: ocelli_language::Error, file: &str| Error::from(error).at(files.path(file).display());
        let generation = GenerationConfig::from_json(&texts.generation).map_err(|error| place(error, GENERATION))?;
        generation.check_vocab_size(text.vocab_size).map_err(|error| place(error, GENERATION))?;
        let tokenizer = Tokenizer::from_bytes(&texts.tokenizer).map_err(|error| at_file(error, TOKENIZER))?;
        tokenizer.check_vocab_size(text.vocab_size).map_err(|error| at_file(error, TOKENIZER))?;
        let variables = match config.get("chat_template_variables") {
            Some(_) => files.section(CONFIG, config, Some("chat_template_variables"))?,
            None => BTreeMap::new(),
        };
        let template = ChatTemplate::new(&texts.template).map_err(|error| at_file(error, TEMPLATE))?;
        Ok(Self { config: text, generation, tokenizer, template: template.with_variables(variables) })
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

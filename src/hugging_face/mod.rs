//! Checkpoints as they lie on the Hugging Face hub, read as models of this engine: configurations and names of tensors are translated, by a table
//! for each family; numbers stay what and where they are.
//!
//! A family is a function here and tables in the modules beside it; `docs/models.md` says how to add one.

mod decoders;
mod encoders;
mod fields;
mod preprocessor;
mod tensors;
mod texts;

use std::collections::HashMap;

use ocelli_language::{TextConfig, Tokenizer};
use ocelli_nn::Weights;
use serde_json::{Value, json};

use self::encoders::Wanted;
use self::fields::Fields;
use self::tensors::TensorMap;
pub(crate) use self::tensors::check_finite;
use crate::error::{Cause, Result};
use crate::model_dir::{CONFIG, Files, PREPROCESSOR, TOKENIZER, TextSources};

/// The newer place of the image processor's fields.
const PROCESSOR: &str = "processor_config.json";

/// A family: what makes a model of this engine out of a checkpoint.
type Translate = fn(&Checkpoint<'_>) -> Result<Translation>;

/// `architectures` in config.json, and the family of each.
const ARCHITECTURES: [(&str, Translate); 13] = [
    ("SmolVLMForConditionalGeneration", idefics3),
    ("Idefics3ForConditionalGeneration", idefics3),
    ("LlavaForConditionalGeneration", llava),
    ("LlamaForCausalLM", decoder),
    ("Qwen2ForCausalLM", decoder),
    ("Qwen3ForCausalLM", decoder),
    ("CLIPModel", clip),
    ("CLIPVisionModel", clip),
    ("CLIPVisionModelWithProjection", clip),
    ("SiglipModel", siglip),
    ("SiglipVisionModel", siglip),
    ("Dinov2Model", dinov2),
    ("Dinov2WithRegistersModel", dinov2),
];

/// A checkpoint as it lies on the hub.
struct Checkpoint<'a> {
    files: &'a Files<'a>,
    architecture: &'a str,
    config: &'a Value,
    weights: &'a Weights,
}

/// A model in the form of `docs/format.md`.
pub(crate) struct Translation {
    /// `config.json`.
    pub(crate) config: Value,
    /// `preprocessor_config.json`.
    pub(crate) preprocessor: Option<Value>,
    /// The tensors under their names here.
    pub(crate) weights: Weights,
    /// The names in the checkpoint of the tensors that are in it.
    pub(crate) source_names: HashMap<String, String>,
}

/// Whether a config.json is of another form than those that this engine has of its own.
pub(crate) fn is_checkpoint(config: &Value) -> bool {
    match architecture(config) {
        Some(architecture) => !architecture.starts_with("Ocelli") && architecture != "AFMTextV7",
        None => config["model_type"].as_str().is_some_and(|kind| kind != "ocelli" && kind != "afm_text_v7"),
    }
}

fn architecture(config: &Value) -> Option<&str> {
    config["architectures"].get(0).and_then(Value::as_str)
}

/// The checkpoint of `files`, whose config.json is `config`, as a model of this engine.
///
/// # Errors
/// Names the file and the field or tensor that is missing, broken, does not fit or is not supported.
pub(crate) fn translate(
    files: &Files<'_>,
    config: &Value,
    open_weights: impl FnOnce() -> Result<Weights, ocelli_nn::Error>,
) -> Result<Translation> {
    let architecture = architecture(config).unwrap_or("missing");
    let Some((_, translate)) = ARCHITECTURES.iter().find(|(name, _)| *name == architecture) else {
        let supported = ARCHITECTURES.map(|(name, _)| name).join(", ");
        let (path, field) = (files.path(CONFIG), "architectures".to_owned());
        return Err(Cause::Unsupported { path, field, found: architecture.to_owned(), supported }.into());
    };
    let fields = Fields::new(files.path(CONFIG), config);
    if fields.find("quantization_config").is_some() {
        return Err(fields.unsupported("quantization_config", "there", "checkpoints whose weights are floats"));
    }
    translate(&Checkpoint { files, architecture, config, weights: &open_weights()? })
}

/// Tokenizer, template and generation of a checkpoint whose config.json is `checkpoint`; some of what they say goes into `config`, its translation.
pub(crate) fn texts(files: &Files<'_>, checkpoint: &Value, config: &mut Value) -> Result<TextSources> {
    let bytes = files.read(TOKENIZER)?;
    let at_file = |error: ocelli_language::Error| crate::Error::from(error).at(files.path(TOKENIZER).display());
    let tokenizer = Tokenizer::from_bytes(&bytes).map_err(at_file)?;
    let texts::Texts { generation, template, variables } = texts::read(files, checkpoint, &tokenizer)?;
    config["chat_template_variables"] = json!(variables);
    // Processors of pictures let the tokenizer put its beginning token before a prompt; tokenizers alone leave that to the template.
    if let (true, [bos]) = (config.get("image_token_id").is_some(), &tokenizer.prefix()[..]) {
        config["bos_token_id"] = json!(bos);
    }
    Ok(TextSources { generation, tokenizer: bytes, template })
}

impl Checkpoint<'_> {
    fn fields(&self) -> Fields<'_> {
        Fields::new(self.files.path(CONFIG), self.config)
    }

    /// Calls `read` with the fields of the image processor.
    fn with_preprocessor<T>(&self, read: impl FnOnce(&Fields<'_>) -> Result<T>) -> Result<T> {
        if let Some(config) = self.files.optional_json(PREPROCESSOR)? {
            return read(&Fields::new(self.files.path(PREPROCESSOR), &config));
        }
        match self.files.optional_json(PROCESSOR)? {
            Some(config) if config.get("image_processor").is_some() => {
                read(&Fields::new(self.files.path(PROCESSOR), &config).section("image_processor")?)
            }
            // The error of a file that is missing.
            _ => Err(self.files.json(PREPROCESSOR).err().unwrap_or_else(|| {
                Cause::ModelFile {
                    path: self.files.path(PREPROCESSOR),
                    found: "missing".to_owned(),
                    expected: "the configuration of the image processor",
                }
                .into()
            })),
        }
    }

    /// The decoder's configuration, `text_config` or the whole file, of which either may say that the embedding is the head.
    fn text_config(&self, mut text: Value) -> Result<TextConfig> {
        if self.config["tie_word_embeddings"] == true {
            text["tie_word_embeddings"] = json!(true);
        }
        let place = self.files.path(CONFIG);
        let place = place.parent().map(|folder| folder.display().to_string()).unwrap_or_default();
        TextConfig::from_json(&text).map_err(|error| crate::Error::from(error).at(place))
    }

    /// The id of the image token, under the first of `names` that there is.
    fn image_token_id(&self, names: &[&str], default: Option<usize>, text: &TextConfig) -> Result<usize> {
        let fields = self.fields();
        let name = names.iter().find(|name| fields.find(name).is_some()).or(names.first()).copied().unwrap_or_default();
        let Some(id) = fields.integer(name)?.or(default) else {
            return Err(fields.error(name, "missing", "the id of <image>"));
        };
        if id >= text.vocab_size {
            return Err(fields.error(name, id, format!("an id below the vocab_size of {}", text.vocab_size)));
        }
        Ok(id)
    }
}

/// Llama, Qwen2, Qwen3: text alone.
fn decoder(checkpoint: &Checkpoint<'_>) -> Result<Translation> {
    let mut map = TensorMap::new(checkpoint.weights);
    let text = checkpoint.text_config(checkpoint.config.clone())?;
    decoders::take(&mut map, &text, "model.", "lm_head")?;
    let ignored: &[&str] = if text.tie_word_embeddings { &["lm_head."] } else { &[] };
    let config = json!({"architectures": ["OcelliForCausalLM"], "model_type": "ocelli", "text_config": text});
    let (weights, source_names) = map.finish(checkpoint.architecture, ignored)?;
    Ok(Translation { config, preprocessor: None, weights, source_names })
}

/// SmolVLM and Idefics3: SigLIP, pixel shuffle, Llama.
fn idefics3(checkpoint: &Checkpoint<'_>) -> Result<Translation> {
    let fields = checkpoint.fields();
    let mut map = TensorMap::new(checkpoint.weights);
    let mut text = fields.section("text_config")?.value().clone();
    if !text.is_object() {
        return Err(fields.error("text_config", "missing", "the decoder's configuration"));
    }
    if text.get("rms_norm_eps").is_none() {
        text["rms_norm_eps"] = json!(1e-5);
    }
    if text.get("model_type").is_none_or(|kind| kind == "vllama3") {
        text["model_type"] = json!("llama");
    }
    let text = checkpoint.text_config(text)?;
    decoders::take(&mut map, &text, "model.text_model.", "lm_head")?;

    let vision_fields = fields.section("vision_config")?;
    const TOWERS: [&str; 5] = ["idefics3", "idefics3_vision", "smolvlm", "smolvlm_vision", "siglip_vision_model"];
    if let Some(model_type) = vision_fields.string("model_type")?
        && !TOWERS.contains(&model_type)
    {
        return Err(vision_fields.unsupported("model_type", model_type, TOWERS.join(", ")));
    }
    let vision = encoders::siglip(&mut map, &vision_fields, "model.vision_model.", Wanted::NormedFeatures, true)?;
    let scale_factor = fields.integer("scale_factor")?.unwrap_or(2);
    if !(1..=16).contains(&scale_factor) {
        return Err(fields.error("scale_factor", scale_factor, "a number from 1 to 16"));
    }
    let size = |name: &str| vision[name].as_u64().unwrap_or_default() as usize;
    let in_features = size("hidden_size") * scale_factor * scale_factor;
    let connector = "model.connector.modality_projection.proj";
    map.take_linear(connector, "adapter.proj", [text.hidden_size, in_features], false)?;
    let preprocessor =
        checkpoint.with_preprocessor(|fields| preprocessor::tiled(fields, size("patch_size"), scale_factor))?;
    let image_token_id = checkpoint.image_token_id(&["image_token_id"], None, &text)?;
    let view = "<fake_token_around_image><global-img>{image}<fake_token_around_image>";
    let config = json!({
        "architectures": ["OcelliForConditionalGeneration"],
        "model_type": "ocelli",
        "image_token_id": image_token_id,
        "image_prompt": {
            "whole": view,
            "overview": format!("\n{view}"),
            "tile": "<fake_token_around_image><row_{row}_col_{column}>{image}",
            "row_end": "\n",
        },
        "vision_config": vision,
        "adapter_config": {"model_type": "pixel_shuffle", "scale_factor": scale_factor},
        "text_config": text,
    });
    let ignored: &[&str] = if config["text_config"]["tie_word_embeddings"] == true { &["lm_head."] } else { &[] };
    let (weights, source_names) = map.finish(checkpoint.architecture, ignored)?;
    Ok(Translation { config, preprocessor: Some(preprocessor), weights, source_names })
}

/// LLaVA: CLIP or SigLIP, an MLP, and any of the decoders.
fn llava(checkpoint: &Checkpoint<'_>) -> Result<Translation> {
    let fields = checkpoint.fields();
    let mut map = TensorMap::new(checkpoint.weights);
    // Older files: `language_model.model.layers`, newer ones: `model.language_model.layers`.
    let decoder = map.prefix(&["model.language_model.", "language_model.model."], "embed_tokens.weight");
    let lm_head = if decoder.starts_with("model.") { "lm_head" } else { "language_model.lm_head" };
    let towers =
        ["model.vision_tower.", "vision_tower.", "model.vision_tower.vision_model.", "vision_tower.vision_model."];
    let tower = map.prefix(&towers, "embeddings.patch_embedding.weight");
    let projectors = ["model.multi_modal_projector.", "multi_modal_projector."];
    let projector = map.prefix(&projectors, "linear_1.weight");

    let text = fields.section("text_config")?.value().clone();
    if !text.is_object() {
        return Err(fields.error("text_config", "missing", "the decoder's configuration"));
    }
    let text = checkpoint.text_config(text)?;
    decoders::take(&mut map, &text, decoder, lm_head)?;

    let vision_fields = fields.section("vision_config")?;
    let num_layers = vision_fields.integer("num_hidden_layers")?.unwrap_or(12);
    let feature_layer = feature_layer(&fields, num_layers)?;
    let wanted = Wanted::FeaturesOfLayer(feature_layer);
    let strategy = fields.string("vision_feature_select_strategy")?.unwrap_or("default");
    let model_type = vision_fields.string("model_type")?.unwrap_or("clip_vision_model");
    let is_siglip = model_type == "siglip_vision_model";
    let vision = match (model_type, strategy) {
        ("clip_vision_model", "default") => encoders::clip(&mut map, &vision_fields, tower, wanted)?,
        ("siglip_vision_model", "full") => encoders::siglip(&mut map, &vision_fields, tower, wanted, false)?,
        ("clip_vision_model" | "siglip_vision_model", _) => {
            let supported = "default with CLIP (the class token is left out), full with SigLIP (there is none)";
            return Err(fields.unsupported("vision_feature_select_strategy", strategy, supported));
        }
        _ => {
            let supported = "clip_vision_model, siglip_vision_model";
            return Err(vision_fields.unsupported("model_type", model_type, supported));
        }
    };
    let size = |name: &str| vision[name].as_u64().unwrap_or_default() as usize;
    let bias = fields.flag("multimodal_projector_bias")?.unwrap_or(true);
    let (width, inner) = (size("hidden_size"), text.hidden_size);
    map.take_linear(&format!("{projector}linear_1"), "adapter.linear_1", [inner, width], bias)?;
    map.take_linear(&format!("{projector}linear_2"), "adapter.linear_2", [inner, inner], bias)?;
    let preprocessor = checkpoint.with_preprocessor(|fields| {
        preprocessor::one_view(fields, size("patch_size"), Some(size("image_size")), is_siglip)
    })?;
    let names = ["image_token_id", "image_token_index"];
    let image_token_id = checkpoint.image_token_id(&names, Some(32_000), &text)?;
    let projector_act = fields.string("projector_hidden_act")?.unwrap_or("gelu");
    encoders::check_activation(&fields, "projector_hidden_act", projector_act)?;
    let config = json!({
        "architectures": ["OcelliForConditionalGeneration"],
        "model_type": "ocelli",
        "image_token_id": image_token_id,
        "image_prompt": {"whole": "{image}", "overview": "{image}", "tile": "{image}"},
        "vision_config": vision,
        "adapter_config": {
            "model_type": "mlp",
            "hidden_act": projector_act,
            "bias": bias,
        },
        "text_config": text,
    });
    let last_layers = (feature_layer..num_layers).map(|layer| format!("{tower}encoder.layers.{layer}."));
    let unused: Vec<String> =
        last_layers.chain(["post_layernorm.", "head."].map(|name| format!("{tower}{name}"))).collect();
    let mut ignored: Vec<&str> = unused.iter().map(String::as_str).collect();
    if config["text_config"]["tie_word_embeddings"] == true {
        ignored.push(lm_head);
    }
    let (weights, source_names) = map.finish(checkpoint.architecture, &ignored)?;
    Ok(Translation { config, preprocessor: Some(preprocessor), weights, source_names })
}

/// The number of layers behind `vision_feature_layer`, which counts the embeddings as the first of `num_layers + 1` states, or from the end.
fn feature_layer(fields: &Fields<'_>, num_layers: usize) -> Result<usize> {
    const NAME: &str = "vision_feature_layer";
    let states = num_layers as i64 + 1;
    let layer = match fields.find(NAME) {
        None => -2,
        Some(value) => match value.as_i64() {
            Some(layer) => layer,
            None => return Err(fields.unsupported(NAME, "not one number", "one layer")),
        },
    };
    let layer_from_start = if layer < 0 { states + layer } else { layer };
    if (1..states).contains(&layer_from_start) {
        return Ok(layer_from_start as usize);
    }
    Err(fields.error(NAME, layer, format!("one of the {num_layers} layers of the encoder")))
}

/// CLIP's vision encoder.
fn clip(checkpoint: &Checkpoint<'_>) -> Result<Translation> {
    let fields = checkpoint.fields();
    let mut map = TensorMap::new(checkpoint.weights);
    // A whole CLIPModel keeps the encoder's fields apart.
    let is_whole = checkpoint.architecture == "CLIPModel";
    let vision_fields = if is_whole { fields.section("vision_config")? } else { checkpoint.fields() };
    let projection_dim = match checkpoint.architecture {
        "CLIPVisionModel" => None,
        _ => Some(fields.integer("projection_dim")?.unwrap_or(512)),
    };
    let prefix = map.prefix(&["vision_model.", ""], "embeddings.patch_embedding.weight");
    let vision = encoders::clip(&mut map, &vision_fields, prefix, Wanted::Pooled { projection_dim })?;
    one_view_encoder(checkpoint, map, vision, true, false, &["text_model.", "text_projection.", "logit_scale"])
}

/// SigLIP's vision encoder.
fn siglip(checkpoint: &Checkpoint<'_>) -> Result<Translation> {
    let fields = checkpoint.fields();
    let mut map = TensorMap::new(checkpoint.weights);
    let is_whole = checkpoint.architecture == "SiglipModel";
    let vision_fields = if is_whole { fields.section("vision_config")? } else { checkpoint.fields() };
    let prefix = map.prefix(&["vision_model.", ""], "embeddings.patch_embedding.weight");
    let wanted = Wanted::Pooled { projection_dim: None };
    let vision = encoders::siglip(&mut map, &vision_fields, prefix, wanted, false)?;
    one_view_encoder(checkpoint, map, vision, true, true, &["text_model.", "logit_scale", "logit_bias"])
}

/// DINOv2, with registers or without.
fn dinov2(checkpoint: &Checkpoint<'_>) -> Result<Translation> {
    let mut map = TensorMap::new(checkpoint.weights);
    let has_registers = checkpoint.architecture == "Dinov2WithRegistersModel";
    let prefixes = ["", "dinov2.", "dinov2_with_registers."];
    let prefix = map.prefix(&prefixes, "embeddings.cls_token");
    let vision = encoders::dinov2(&mut map, &checkpoint.fields(), prefix, has_registers)?;
    let mask_token = format!("{prefix}embeddings.mask_token");
    one_view_encoder(checkpoint, map, vision, false, false, &[&mask_token])
}

/// An encoder alone.
fn one_view_encoder(
    checkpoint: &Checkpoint<'_>,
    map: TensorMap<'_>,
    vision: Value,
    has_fixed_size: bool,
    is_siglip: bool,
    ignored: &[&str],
) -> Result<Translation> {
    let size = |name: &str| vision[name].as_u64().unwrap_or_default() as usize;
    let fixed_size = has_fixed_size.then(|| size("image_size"));
    let preprocessor = checkpoint
        .with_preprocessor(|fields| preprocessor::one_view(fields, size("patch_size"), fixed_size, is_siglip))?;
    let config = json!({"architectures": ["OcelliVisionModel"], "model_type": "ocelli", "vision_config": vision});
    let (weights, source_names) = map.finish(checkpoint.architecture, ignored)?;
    Ok(Translation { config, preprocessor: Some(preprocessor), weights, source_names })
}

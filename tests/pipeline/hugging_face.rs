//! Checkpoints as they lie on the Hugging Face hub, against what transformers computes on them (`tests/golden/hf`, random weights).

use std::path::{Path, PathBuf};

use ocelli::{
    ImportOptions, Message, Mode, Model, Picture, PictureEncoder, PromptPart, Role, TracedLayers, import, trace,
};
use ocelli_nn::{Weights, WeightsWriter};
use serde_json::Value;
use tempfile::TempDir;

/// Largest difference over largest value.
const TOLERANCE: f32 = 1e-4;

const VISION_LANGUAGE: [&str; 4] = ["smolvlm", "idefics3", "llava", "llava_qwen2"];
const DECODERS: [&str; 4] = ["llama", "llama_sharded", "qwen2", "qwen3"];
const ENCODERS: [&str; 6] = ["clip", "clip_vision", "siglip", "dinov2", "dinov2_registers", "dinov2_giant"];
const PICTURES: [&str; 4] = ["wide", "tall", "small", "strip"];

pub(crate) fn golden(family: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/hf").join(family)
}

pub(crate) fn picture(name: &str) -> Picture {
    Picture::open(golden("pictures").join(format!("{name}.png"))).unwrap()
}

pub(crate) fn json(path: &Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

fn expected(family: &str) -> Weights {
    Weights::open(golden(family).join("expected.safetensors")).unwrap()
}

pub(crate) fn floats(tensors: &Weights, name: &str) -> Vec<f32> {
    tensors.tensor(name, tensors.shape(name).unwrap_or_else(|| panic!("no tensor {name}"))).unwrap()
}

/// A tensor of 64-bit integers.
fn integers(path: &Path, name: &str) -> Vec<i64> {
    let bytes = std::fs::read(path).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    tensors.tensor(name).unwrap().data().as_chunks().0.iter().map(|&bytes| i64::from_le_bytes(bytes)).collect()
}

/// The trace of `model` on the inputs of a family.
pub(crate) fn traced(family: &str, model: &Path, folder: &TempDir) -> PathBuf {
    let expected_path = golden(family).join("expected.safetensors");
    let expected = expected(family);
    let mut inputs = WeightsWriter::new();
    if expected.contains("trace.pixel_values") {
        let shape = expected.shape("trace.pixel_values").unwrap().to_vec();
        inputs.f32("pixel_values", &shape, &floats(&expected, "trace.pixel_values")).unwrap();
    }
    if expected.contains("trace.token_ids") {
        let ids = integers(&expected_path, "trace.token_ids");
        inputs.i64("token_ids", &[ids.len()], &ids).unwrap().i64("greedy.num_tokens", &[1], &[24]).unwrap();
    }
    let [inputs_path, outputs_path] =
        ["inputs.safetensors", "outputs.safetensors"].map(|name| folder.path().join(name));
    inputs.write(&inputs_path).unwrap();
    trace(model, &inputs_path, &outputs_path, TracedLayers::All).unwrap_or_else(|error| panic!("{family}: {error}"));
    outputs_path
}

/// Compares every tensor that was expected of a trace with what is in `outputs`.
fn assert_agrees(family: &str, outputs: &Path) {
    let (expected, found) = (expected(family), Weights::open(outputs).unwrap());
    let names = expected.names();
    for name in names.iter().filter_map(|name| name.strip_prefix("trace.")) {
        match name {
            "pixel_values" | "token_ids" => continue,
            "greedy_tokens" => {
                let found = integers(outputs, "greedy.tokens");
                let expected = integers(&golden(family).join("expected.safetensors"), "trace.greedy_tokens");
                assert_eq!(found, expected, "{family}: greedy continuation");
                continue;
            }
            _ => {}
        }
        let expected_name = format!("trace.{name}");
        assert_eq!(found.shape(name), expected.shape(&expected_name), "{family}: shape of {name}");
        let (found, expected) = (floats(&found, name), floats(&expected, &expected_name));
        let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            assert!(
                (found - expected).abs() <= TOLERANCE * largest,
                "{family}: {name}, element {index}: {found}, expected {expected} (largest {largest})"
            );
        }
    }
}

/// An import in f32, which changes nothing.
pub(crate) fn lossless() -> ImportOptions {
    ImportOptions { bits: 32, ..ImportOptions::default() }
}

#[test]
fn a_checkpoint_computes_what_transformers_computes() {
    let folder = tempfile::tempdir().unwrap();
    for family in [&VISION_LANGUAGE[..], &DECODERS, &ENCODERS].concat() {
        assert_agrees(family, &traced(family, &golden(family), &folder));
    }
}

#[test]
fn an_import_in_f32_computes_the_same() {
    let folder = tempfile::tempdir().unwrap();
    for family in [&VISION_LANGUAGE[..], &DECODERS, &ENCODERS].concat() {
        let model = folder.path().join(family);
        import(golden(family), &model, &lossless(), &mut |_, _| ()).unwrap_or_else(|error| panic!("{family}: {error}"));
        assert_agrees(family, &traced(family, &model, &folder));
    }
}

#[test]
fn pixel_values_are_those_of_the_reference_processor() {
    for family in VISION_LANGUAGE {
        let model = Model::load(golden(family)).unwrap();
        let modes: &[(Mode, &str)] = match family {
            "smolvlm" | "idefics3" => &[(Mode::High, "pixel_values"), (Mode::Balanced, "pixel_values_single")],
            _ => &[(Mode::Balanced, "pixel_values")],
        };
        let config = json(&golden(family).join("preprocessor_config.json"));
        let colour = |name: &str, channel: usize| config[name][channel].as_f64().unwrap() as f32;
        for (mode, prefix) in modes {
            for name in PICTURES {
                let views = model.views(&picture(name), *mode).unwrap();
                let (shape, bytes) = bytes_of(family, &format!("{prefix}.{name}"));
                assert_eq!(views.pixel_values.shape(), shape, "{family}: {prefix}.{name}");
                let plane = shape[2] * shape[3];
                for (index, (found, expected)) in views.pixel_values.iter().zip(&bytes).enumerate() {
                    let channel = index / plane % 3;
                    let found = (found * colour("image_std", channel) + colour("image_mean", channel)) * 255.0;
                    let difference = (found - f32::from(*expected)).abs();
                    assert!(difference <= 2.01, "{family}: {prefix}.{name}, {index}: {found}, expected {expected}");
                }
            }
        }
    }
}

fn bytes_of(family: &str, name: &str) -> (Vec<usize>, Vec<u8>) {
    let bytes = std::fs::read(golden(family).join("expected.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensor = tensors.tensor(name).unwrap();
    (tensor.shape().to_vec(), tensor.data().to_vec())
}

#[test]
fn prompts_have_the_token_ids_of_transformers() {
    for family in [&VISION_LANGUAGE[..], &DECODERS].concat() {
        let model = Model::load(golden(family)).unwrap_or_else(|error| panic!("{family}: {error}"));
        let mode = if matches!(family, "smolvlm" | "idefics3") { Mode::High } else { Mode::Balanced };
        for case in json(&golden(family).join("expected.json"))["chat"].as_array().unwrap() {
            let messages: Vec<Message> = case["messages"]
                .as_array()
                .unwrap()
                .iter()
                .map(|message| read_message(&model, mode, message))
                .collect();
            let layout = model.layout(&messages).unwrap_or_else(|error| panic!("{family}: {error}"));
            let expected: Vec<u32> =
                case["token_ids"].as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect();
            assert_eq!(layout.token_ids(), expected, "{family}: {}", case["rendered"]);
        }
    }
}

fn read_message(model: &Model, mode: Mode, message: &Value) -> Message {
    let role = match message["role"].as_str().unwrap() {
        "system" => Role::System,
        "user" => Role::User,
        _ => Role::Assistant,
    };
    let part = |part: &Value| match part["image"].as_str() {
        Some(name) => model.encode_picture(&picture(name), mode).unwrap().prompt_part(),
        None => PromptPart::Text(part["text"].as_str().unwrap().to_owned()),
    };
    Message { role, parts: message["parts"].as_array().unwrap().iter().map(part).collect() }
}

#[test]
fn pictures_are_embedded_as_the_model_defines_it() {
    for family in ENCODERS {
        let expected = floats(&expected(family), "trace.pooled");
        let found = PictureEncoder::load(golden(family)).unwrap().embed(&picture("small"), Mode::Balanced).unwrap();
        // Pixels may differ by two levels of 255.
        let norm = |values: &[f32]| values.iter().map(|value| value * value).sum::<f32>().sqrt();
        let dot: f32 = found.iter().zip(&expected).map(|(a, b)| a * b).sum();
        let cosine = dot / norm(&found) / norm(&expected);
        assert!(cosine > 0.999, "{family}: cosine {cosine}");
    }
}

//! A tiny model directory with random weights, and pictures made on the spot.
//!
//! What it says makes no sense, but it has every file, tensor and kind of weights that a model has, takes milliseconds, and can be
//! broken in any way. Used by the tests of the root package and of the command.

use std::fs;
use std::path::{Path, PathBuf};

use ocelli_nn::{Bits, PackedShape, WeightsWriter};
use serde_json::{Value, json};
use tempfile::TempDir;

const VISION: usize = 32;
const HIDDEN: usize = 32;
const HEAD_DIM: usize = 16;
const HEADS: usize = 2;
const INTERMEDIATE: usize = 64;
const VOCAB: usize = 1024;
const PATCH: usize = 28;

/// `config.json` of the tiny model.
pub fn config() -> Value {
    json!({
        "architectures": ["OcelliForConditionalGeneration"],
        "model_type": "ocelli",
        "image_start_token_id": 4, "image_end_token_id": 5, "image_token_id": 6,
        "vision_config": {
            "model_type": "rw_vitdet", "num_channels": 3, "patch_size": PATCH,
            "hidden_size": VISION, "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": 2, "num_attention_heads": 2,
            "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6,
            "window_size": 8, "num_register_tokens": 2, "global_layers": [1],
            "position_embedding_size": [8, 8]
        },
        "adapter_config": {
            "model_type": "conv_pool", "num_attention_heads": 2, "intermediate_size": INTERMEDIATE,
            "hidden_act": "gelu_pytorch_tanh", "layer_norm_eps": 1e-6, "position_embedding": true
        },
        "text_config": {
            "model_type": "afm_text_v7", "vocab_size": VOCAB, "hidden_size": HIDDEN, "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": 3, "num_kv_reuse_layers": 1,
            "num_attention_heads": HEADS, "num_key_value_heads": 1,
            "rope_theta": 500000.0, "rms_norm_eps": 1e-5, "max_position_embeddings": 1024, "tie_word_embeddings": true
        },
        "quantization_config": {
            "quant_method": "ocelli", "format_version": 1,
            "parts": [
                {"prefix": "embedding", "bits": 4, "group_size": 32},
                {"prefix": "layers", "bits": 2, "group_size": 32},
                {"prefix": "vision", "bits": 8, "group_size": null},
                {"prefix": "adapter", "bits": 8, "group_size": null}
            ]
        }
    })
}

/// `preprocessor_config.json` of the tiny model.
pub fn preprocessor_config() -> Value {
    json!({
        "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5], "resample": 3, "aspect": "pad",
        "modes": {
            "rapid": {"size": 224, "grid": [1, 1], "pooled": [3, 3]},
            "balanced": {"size": 672, "grid": [1, 1], "pooled": [12, 12]},
            "high": {"size": 672, "grid": [2, 2], "pooled": [12, 12]}
        }
    })
}

/// A model directory that is removed with this value.
pub struct TinyModel {
    folder: TempDir,
}

impl TinyModel {
    /// Writes the model.
    pub fn new() -> Self {
        let model = Self { folder: tempfile::tempdir().unwrap() };
        model.write("config.json", config().to_string());
        model.write("preprocessor_config.json", preprocessor_config().to_string());
        let generation = json!({"eos_token_id": [3], "max_new_tokens": 8, "caption_prompt": "Describe the picture."});
        model.write("generation_config.json", generation.to_string());
        model.write("tokenizer.json", include_str!("../../assets/nano/tokenizer.json"));
        model.write("chat_template.jinja", include_str!("../../assets/nano/chat_template.jinja"));
        write_weights(&model.file("model.safetensors"));
        model
    }

    /// The directory.
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The path of one of its files.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Replaces one of its files.
    pub fn write(&self, name: &str, contents: impl AsRef<[u8]>) {
        fs::write(self.file(name), contents).unwrap();
    }

    /// Replaces the value at `pointer` (`/text_config/hidden_size`) of one of its JSON files.
    pub fn set(&self, name: &str, pointer: &str, value: Value) {
        let mut json: Value = serde_json::from_slice(&fs::read(self.file(name)).unwrap()).unwrap();
        match json.pointer_mut(pointer) {
            Some(place) => *place = value,
            None => {
                let (parent, key) = pointer.rsplit_once('/').unwrap();
                json.pointer_mut(parent).unwrap()[key] = value;
            }
        }
        self.write(name, json.to_string());
    }
}

/// Random numbers and the tensors made of them.
struct Tensors {
    writer: WeightsWriter,
    state: u64,
}

impl Tensors {
    /// Numbers between -1 and 1 (Knuth's 64-bit linear congruential generator).
    fn random(&mut self, count: usize) -> Vec<f32> {
        let mut next = || {
            self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (self.state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        };
        (0..count).map(|_| next()).collect()
    }

    fn ones(&mut self, name: &str, len: usize) {
        self.writer.f32(name, &[len], &vec![1.0; len]).unwrap();
    }

    fn float(&mut self, name: &str, shape: &[usize]) {
        let values = self.random(shape.iter().product());
        self.writer.f32(name, shape, &values).unwrap();
    }

    /// A packed matrix whose outputs are about as large as its inputs.
    fn packed(&mut self, name: &str, rows: usize, columns: usize, bits: u32, group_size: Option<usize>) {
        let scale = (3.0 / columns as f32).sqrt();
        let values: Vec<f32> = self.random(rows * columns).into_iter().map(|value| value * scale).collect();
        let shape = PackedShape::new(Bits::new(bits).unwrap(), rows, columns, group_size).unwrap();
        self.writer.packed(name, shape, &values).unwrap();
    }

    /// A linear layer with 8-bit weights and a bias.
    fn linear(&mut self, name: &str, rows: usize, columns: usize) {
        self.packed(name, rows, columns, 8, None);
        self.float(&format!("{name}.bias"), &[rows]);
    }

    fn layer_norm(&mut self, name: &str, len: usize) {
        self.ones(&format!("{name}.weight"), len);
        self.float(&format!("{name}.bias"), &[len]);
    }

    fn encoder_layer(&mut self, name: &str) {
        self.layer_norm(&format!("{name}.layer_norm1"), VISION);
        self.layer_norm(&format!("{name}.layer_norm2"), VISION);
        for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
            self.linear(&format!("{name}.self_attn.{projection}"), VISION, VISION);
        }
        self.linear(&format!("{name}.mlp.fc1"), INTERMEDIATE, VISION);
        self.linear(&format!("{name}.mlp.fc2"), VISION, INTERMEDIATE);
    }

    fn decoder_layer(&mut self, name: &str, reuses: bool) {
        let two_bits = |tensors: &mut Self, layer: &str, rows, columns| {
            tensors.packed(&format!("{name}.{layer}"), rows, columns, 2, Some(32));
        };
        self.ones(&format!("{name}.attention.norm.weight"), HIDDEN);
        if reuses {
            two_bits(self, "attention.q_transform", HIDDEN, HIDDEN);
            self.ones(&format!("{name}.attention.q_norm.query_norm.weight"), HEAD_DIM);
        } else {
            two_bits(self, "attention.qkv_transform.fused_linear", HIDDEN + 2 * HEAD_DIM, HIDDEN);
            self.ones(&format!("{name}.attention.qk_norm.query_norm.weight"), HEAD_DIM);
            self.ones(&format!("{name}.attention.qk_norm.key_norm.weight"), HEAD_DIM);
        }
        two_bits(self, "attention.output_transform", HIDDEN, HIDDEN);
        self.ones(&format!("{name}.feed_forward.norm.weight"), HIDDEN);
        two_bits(self, "feed_forward.hidden_transform.linear_0", INTERMEDIATE, HIDDEN);
        two_bits(self, "feed_forward.hidden_transform.linear_1", INTERMEDIATE, HIDDEN);
        two_bits(self, "feed_forward.output_transform", HIDDEN, INTERMEDIATE);
    }
}

fn write_weights(path: &Path) {
    let mut tensors = Tensors { writer: WeightsWriter::new(), state: 1 };
    tensors.linear("vision.patch_embed.proj", VISION, 3 * PATCH * PATCH);
    tensors.float("vision.position_embedding", &[8, 8, VISION]);
    tensors.float("vision.register_tokens", &[2, VISION]);
    for layer in 0..2 {
        tensors.encoder_layer(&format!("vision.layers.{layer}"));
    }
    tensors.layer_norm("vision.post_layernorm", VISION);
    tensors.encoder_layer("adapter.layer");
    tensors.linear("adapter.proj", HIDDEN, VISION);
    tensors.linear("adapter.conv", HIDDEN, 9 * HIDDEN);
    tensors.float("adapter.position_embedding", &[12, 12, HIDDEN]);
    tensors.packed("embedding", VOCAB, HIDDEN, 4, Some(32));
    for layer in 0..2 {
        tensors.decoder_layer(&format!("layers.segment_0.layer_{layer}"), false);
    }
    tensors.decoder_layer("layers.segment_1.layer_0", true);
    tensors.ones("output_norm.weight", HIDDEN);
    tensors.writer.write(path).unwrap();
}

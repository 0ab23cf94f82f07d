//! Random decoders for tests, and their weight files.

use std::collections::BTreeMap;
use std::path::Path;

use ocelli_kernels::{Bits, PackedMatrix, PackedShape, pack_matrix};
use ocelli_nn::{QuantizationConfig, QuantizedPart, Weights, WeightsWriter};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::config::TextConfig;
use crate::decoder::Decoder;
use crate::sampler::SplitMix64;

/// How the matrices of a test model are stored.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Storage {
    F32,
    /// Layers and embedding at this many bits, in groups of 32.
    Packed(u32),
    /// In f32, but with the values that packing would give.
    Dequantized(u32),
}

/// A decoder of random weights under `tamm`'s names.
pub(crate) struct TestModel {
    pub(crate) config: TextConfig,
    pub(crate) tensors: BTreeMap<String, (Vec<usize>, Vec<f32>)>,
}

/// A config of a decoder with two layers that reuse the keys and values of the third.
pub(crate) fn config_json() -> Value {
    json!({"model_type": "afm_text_v7", "vocab_size": 270, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 5,
           "num_kv_reuse_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 512})
}

impl TestModel {
    pub(crate) fn new(config: &Value) -> Self {
        let config = TextConfig::from_json(config).unwrap();
        let mut model = Self { config: config.clone(), tensors: BTreeMap::new() };
        let mut random = SplitMix64 { state: 1 };
        let (hidden, q, kv) = (config.hidden_size, config.q_dim(), config.kv_dim());
        model.add(&mut random, "embedding.weight", &[config.vocab_size, hidden]);
        model.add(&mut random, "output_norm.weight", &[hidden]);
        for layer in 0..config.num_hidden_layers {
            let (name, attention) = match layer.checked_sub(config.num_kv_layers()) {
                None => (format!("layers.segment_0.layer_{layer}"), ["qkv_transform.fused_linear", "qk_norm"]),
                Some(layer) => (format!("layers.segment_1.layer_{layer}"), ["q_transform", "q_norm"]),
            };
            let reuses = attention[1] == "q_norm";
            let mut add = |name: String, shape: &[usize]| model.add(&mut random, &(name + ".weight"), shape);
            add(format!("{name}.attention.norm"), &[hidden]);
            add(format!("{name}.attention.{}", attention[0]), &[if reuses { q } else { q + 2 * kv }, hidden]);
            add(format!("{name}.attention.{}.query_norm", attention[1]), &[config.head_dim]);
            if !reuses {
                add(format!("{name}.attention.qk_norm.key_norm"), &[config.head_dim]);
            }
            add(format!("{name}.attention.output_transform"), &[hidden, q]);
            add(format!("{name}.feed_forward.norm"), &[hidden]);
            add(format!("{name}.feed_forward.hidden_transform.linear_0"), &[config.intermediate_size, hidden]);
            add(format!("{name}.feed_forward.hidden_transform.linear_1"), &[config.intermediate_size, hidden]);
            add(format!("{name}.feed_forward.output_transform"), &[hidden, config.intermediate_size]);
        }
        model
    }

    fn add(&mut self, random: &mut SplitMix64, name: &str, shape: &[usize]) {
        let count = shape.iter().product();
        // The sum of four uniform numbers, nearly normal, with variance 1.
        let mut normal = || ((0..4).map(|_| random.uniform()).sum::<f64>() - 2.0) * 3f64.sqrt();
        let (mean, deviation) = match shape {
            [_] => (1.0, 0.3),
            _ if name.starts_with("embedding") => (0.0, 0.6),
            _ => (0.0, 1.3 / (shape[1] as f64).sqrt()),
        };
        let values = (0..count).map(|_| (mean + deviation * normal()) as f32).collect();
        self.tensors.insert(name.into(), (shape.to_vec(), values));
    }

    /// Writes the weights, and gives the part of config.json that says how.
    pub(crate) fn write(&self, storage: Storage, path: &Path) -> Option<QuantizationConfig> {
        let mut writer = WeightsWriter::new();
        for (name, (shape, values)) in &self.tensors {
            let packed_shape = |bits| PackedShape::new(Bits::new(bits).unwrap(), shape[0], shape[1], Some(32)).unwrap();
            match storage {
                Storage::Packed(bits) if shape.len() == 2 => {
                    let layer = name.strip_suffix(".weight").unwrap();
                    writer.packed(layer, packed_shape(bits), values).unwrap();
                }
                Storage::Dequantized(bits) if shape.len() == 2 => {
                    let (codes, scales) = pack_matrix(packed_shape(bits), values).unwrap();
                    let values = PackedMatrix::new(packed_shape(bits), &codes, &scales).unwrap().dequantize();
                    writer.f32(name, shape, &values).unwrap();
                }
                _ => {
                    writer.f32(name, shape, values).unwrap();
                }
            }
        }
        writer.write(path).unwrap();
        let Storage::Packed(bits) = storage else { return None };
        let part = |prefix: &str| QuantizedPart {
            prefix: prefix.into(),
            bits,
            group_size: Some(32),
            activation_bits: 8,
            zero_point: None,
        };
        Some(QuantizationConfig {
            quant_method: "ocelli".into(),
            format_version: ocelli_nn::FORMAT_VERSION,
            parts: vec![part("embedding"), part("layers")],
        })
    }

    pub(crate) fn weights(&self, storage: Storage) -> (TempDir, Weights) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("model.safetensors");
        let quantization = self.write(storage, &path);
        let weights = Weights::open(&path).unwrap();
        let weights = match quantization {
            Some(quantization) => weights.with_quantization(quantization).unwrap(),
            None => weights,
        };
        (directory, weights)
    }

    pub(crate) fn decoder(&self, storage: Storage) -> Decoder {
        Decoder::load(&self.weights(storage).1, &self.config).unwrap()
    }
}

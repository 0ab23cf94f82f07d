//! The encoder layer against a plain f64 version of the formula at the head of its file.

use ndarray::Array2;

use super::{EncoderLayer, EncoderLayerConfig};
use crate::testing::{numbers, reopen};
use crate::{Activation, ErrorKind, Weights, WeightsWriter};

const HIDDEN: usize = 12;
const INNER: usize = 20;
const HEADS: usize = 3;

fn config(qkv_bias: bool, layer_scale: bool, gated_mlp: bool) -> EncoderLayerConfig {
    EncoderLayerConfig {
        hidden_size: HIDDEN,
        intermediate_size: INNER,
        num_attention_heads: HEADS,
        hidden_act: Activation::Relu,
        layer_norm_eps: 1e-6,
        qkv_bias,
        layer_scale,
        gated_mlp,
    }
}

fn weights(gated_mlp: bool) -> Weights {
    let fc1 = if gated_mlp { 2 * INNER } else { INNER };
    let mut writer = WeightsWriter::new();
    let shapes: [(&str, &[usize]); 18] = [
        ("layer_norm1.weight", &[HIDDEN]),
        ("layer_norm1.bias", &[HIDDEN]),
        ("self_attn.q_proj.weight", &[HIDDEN, HIDDEN]),
        ("self_attn.q_proj.bias", &[HIDDEN]),
        ("self_attn.k_proj.weight", &[HIDDEN, HIDDEN]),
        ("self_attn.k_proj.bias", &[HIDDEN]),
        ("self_attn.v_proj.weight", &[HIDDEN, HIDDEN]),
        ("self_attn.v_proj.bias", &[HIDDEN]),
        ("self_attn.out_proj.weight", &[HIDDEN, HIDDEN]),
        ("self_attn.out_proj.bias", &[HIDDEN]),
        ("layer_scale1", &[HIDDEN]),
        ("layer_norm2.weight", &[HIDDEN]),
        ("layer_norm2.bias", &[HIDDEN]),
        ("mlp.fc1.weight", &[fc1, HIDDEN]),
        ("mlp.fc1.bias", &[fc1]),
        ("mlp.fc2.weight", &[HIDDEN, INNER]),
        ("mlp.fc2.bias", &[HIDDEN]),
        ("layer_scale2", &[HIDDEN]),
    ];
    for (seed, (name, shape)) in shapes.into_iter().enumerate() {
        writer.f32(&format!("layers.1.{name}"), shape, &numbers(seed, shape.iter().product())).unwrap();
    }
    reopen(&writer, 0).pp("layers.1")
}

type Rows = Vec<Vec<f64>>;

struct Naive<'a> {
    weights: &'a Weights,
    config: EncoderLayerConfig,
}

impl Naive<'_> {
    fn vector(&self, name: &str, shape: &[usize]) -> Vec<f64> {
        self.weights.tensor(name, shape).unwrap().into_iter().map(f64::from).collect()
    }

    fn norm(&self, x: &Rows, name: &str) -> Rows {
        let (weight, bias) =
            (self.vector(&format!("{name}.weight"), &[HIDDEN]), self.vector(&format!("{name}.bias"), &[HIDDEN]));
        let row = |row: &Vec<f64>| {
            let mean = row.iter().sum::<f64>() / HIDDEN as f64;
            let variance = row.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / HIDDEN as f64;
            (0..HIDDEN).map(|k| (row[k] - mean) / (variance + 1e-6).sqrt() * weight[k] + bias[k]).collect()
        };
        x.iter().map(row).collect()
    }

    fn linear(&self, x: &Rows, name: &str, outputs: usize, has_bias: bool) -> Rows {
        let inputs = x[0].len();
        let weight = self.vector(&format!("{name}.weight"), &[outputs, inputs]);
        let bias = if has_bias { self.vector(&format!("{name}.bias"), &[outputs]) } else { vec![0.0; outputs] };
        let output =
            |row: &Vec<f64>, o: usize| (0..inputs).map(|k| row[k] * weight[o * inputs + k]).sum::<f64>() + bias[o];
        x.iter().map(|row| (0..outputs).map(|o| output(row, o)).collect()).collect()
    }

    fn add(&self, x: &mut Rows, addition: &Rows, scale: &str) {
        let scale = if self.config.layer_scale { self.vector(scale, &[HIDDEN]) } else { vec![1.0; HIDDEN] };
        for (row, addition) in x.iter_mut().zip(addition) {
            (0..HIDDEN).for_each(|k| row[k] += scale[k] * addition[k]);
        }
    }

    fn forward(&self, x: &mut Rows) {
        let normed = self.norm(x, "layer_norm1");
        let [q, k, v] = ["q", "k", "v"]
            .map(|name| self.linear(&normed, &format!("self_attn.{name}_proj"), HIDDEN, self.config.qkv_bias));
        let head_dim = HIDDEN / HEADS;
        let mut attended = vec![vec![0.0; HIDDEN]; x.len()];
        for head in 0..HEADS {
            let columns = head * head_dim..(head + 1) * head_dim;
            for query in 0..x.len() {
                let dot = |key: usize| columns.clone().map(|c| q[query][c] * k[key][c]).sum::<f64>();
                let scores: Vec<f64> = (0..x.len()).map(|key| (dot(key) / (head_dim as f64).sqrt()).exp()).collect();
                let sum: f64 = scores.iter().sum();
                for c in columns.clone() {
                    attended[query][c] = (0..x.len()).map(|key| scores[key] / sum * v[key][c]).sum();
                }
            }
        }
        self.add(x, &self.linear(&attended, "self_attn.out_proj", HIDDEN, true), "layer_scale1");
        let normed = self.norm(x, "layer_norm2");
        let mut inner = self.linear(&normed, "mlp.fc1", if self.config.gated_mlp { 2 * INNER } else { INNER }, true);
        for row in &mut inner {
            row[..INNER].iter_mut().for_each(|value| *value = value.max(0.0));
            let up = row.split_off(INNER);
            row.iter_mut().zip(up).for_each(|(gate, up)| *gate *= up);
        }
        self.add(x, &self.linear(&inner, "mlp.fc2", HIDDEN, true), "layer_scale2");
    }
}

#[test]
fn the_layer_is_that_of_its_formula_with_sequences_apart() {
    for (qkv_bias, layer_scale, gated_mlp) in [(true, false, false), (false, true, false), (true, true, true)] {
        let (config, weights) = (config(qkv_bias, layer_scale, gated_mlp), weights(gated_mlp));
        let layer = EncoderLayer::load(&weights, &config).unwrap();
        let lengths = [5, 1, 9];
        let mut tokens = Array2::from_shape_vec((15, HIDDEN), numbers(40, 15 * HIDDEN)).unwrap();
        let mut expected = Vec::new();
        let mut first = 0;
        for len in lengths {
            let mut rows: Rows = tokens
                .slice(ndarray::s![first..first + len, ..])
                .rows()
                .into_iter()
                .map(|row| row.iter().map(|&x| f64::from(x)).collect())
                .collect();
            Naive { weights: &weights, config: config.clone() }.forward(&mut rows);
            expected.extend(rows.into_iter().flatten());
            first += len;
        }
        layer.forward(&mut tokens, &lengths);
        for (index, (&found, expected)) in tokens.iter().zip(&expected).enumerate() {
            assert!((f64::from(found) - expected).abs() < 2e-5, "element {index}: {found}, expected {expected}");
        }
    }
}

#[test]
fn parameters_are_those_of_the_file_and_operations_follow_the_rows_of_fc1() {
    for gated_mlp in [false, true] {
        let (config, weights) = (config(true, true, gated_mlp), weights(gated_mlp));
        let sizes = weights.names().into_iter().map(|name| weights.shape(name).unwrap().iter().product::<usize>());
        assert_eq!(config.num_parameters(), sizes.sum::<usize>());
    }
    let [plain, gated] = [false, true].map(|gated_mlp| config(true, false, gated_mlp).num_operations(&[7]));
    assert_eq!(gated - plain, 2 * (7 * INNER * HIDDEN) as u64);
}

#[test]
fn heads_that_do_not_divide_the_hidden_size_are_refused() {
    for num_attention_heads in [0, 5, 13] {
        let config = EncoderLayerConfig { num_attention_heads, ..config(true, false, false) };
        let error = EncoderLayer::load(&weights(false), &config).unwrap_err();
        assert!(error.to_string().starts_with(&format!("num_attention_heads is {num_attention_heads}")), "{error}");
        assert_eq!(error.kind(), ErrorKind::Config);
    }
}

#[test]
fn activations_have_the_names_of_hugging_face() {
    let read = |name: &str| serde_json::from_str::<Activation>(&format!("\"{name}\"")).unwrap();
    assert_eq!(read("gelu"), Activation::Gelu);
    assert_eq!(read("gelu_pytorch_tanh"), Activation::GeluPytorchTanh);
    assert_eq!(read("quick_gelu"), Activation::QuickGelu);
    assert_eq!(read("silu"), Activation::Silu);
    assert_eq!(read("relu"), Activation::Relu);
    assert!(serde_json::from_str::<Activation>("\"mish\"").is_err());
    let mut values = [-1.0, 2.0];
    Activation::Relu.forward_slice(&mut values);
    assert_eq!(values, [0.0, 2.0]);
}

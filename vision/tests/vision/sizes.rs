//! The real sizes with random weights: ViTDet-L and ViT-g load, run and have the parameters that the report says.

use std::collections::BTreeMap;
use std::sync::Arc;

use ndarray::Array4;
use ocelli_nn::{QuantizationConfig, QuantizedPart, Weights};
use ocelli_vision::{Encoder, VisionConfig};
use safetensors::Dtype;
use safetensors::tensor::TensorView;

/// A tensor whose bytes repeat those of others of the same shape: a billion weights in little memory.
#[derive(Clone)]
struct Tensor {
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Arc<Vec<u8>>,
}

/// Writes random 2-bit weights.
#[derive(Default)]
struct RandomWeights {
    tensors: BTreeMap<String, Tensor>,
    by_shape: BTreeMap<(usize, usize), (Tensor, Tensor)>,
    num_parameters: usize,
}

impl RandomWeights {
    fn float(&mut self, name: &str, shape: &[usize], value: f32) {
        let num_values: usize = shape.iter().product();
        let bytes = Arc::new(value.to_le_bytes().repeat(num_values));
        self.num_parameters += num_values;
        self.tensors.insert(name.to_owned(), Tensor { dtype: Dtype::F32, shape: shape.to_vec(), bytes });
    }

    fn norm(&mut self, name: &str, hidden_size: usize) {
        self.float(&format!("{name}.weight"), &[hidden_size], 1.0);
        self.float(&format!("{name}.bias"), &[hidden_size], 0.0);
    }

    fn linear(&mut self, name: &str, in_features: usize, out_features: usize) {
        let (codes, scales) = self
            .by_shape
            .entry((out_features, in_features))
            .or_insert_with(|| packed(out_features, in_features))
            .clone();
        self.num_parameters += out_features * in_features;
        self.tensors.insert(format!("{name}.weight_codes"), codes);
        self.tensors.insert(format!("{name}.weight_scales"), scales);
        self.float(&format!("{name}.bias"), &[out_features], 0.01);
    }

    fn encoder(config: &VisionConfig, num_registers: usize) -> Self {
        let mut weights = Self::default();
        let encoder = config.encoder();
        let (hidden_size, inner) = (encoder.hidden_size, encoder.intermediate_size);
        weights.linear("patch_embed.proj", 3 * 14 * 14, hidden_size);
        weights.float("position_embedding", &[32, 32, hidden_size], 0.02);
        if num_registers > 0 {
            weights.float("register_tokens", &[num_registers, hidden_size], 0.02);
        }
        for layer in 0..encoder.num_hidden_layers {
            let name = |part: &str| format!("layers.{layer}.{part}");
            weights.norm(&name("layer_norm1"), hidden_size);
            for projection in ["q_proj", "k_proj", "v_proj", "out_proj"] {
                weights.linear(&name(&format!("self_attn.{projection}")), hidden_size, hidden_size);
            }
            weights.norm(&name("layer_norm2"), hidden_size);
            weights.linear(&name("mlp.fc1"), hidden_size, inner);
            weights.linear(&name("mlp.fc2"), inner, hidden_size);
        }
        weights.norm("post_layernorm", hidden_size);
        weights
    }

    /// The weights out of a file that is deleted with the returned folder.
    fn open(&self) -> (tempfile::TempDir, Weights) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors");
        let views = self
            .tensors
            .iter()
            .map(|(name, tensor)| (name, TensorView::new(tensor.dtype, tensor.shape.clone(), &tensor.bytes).unwrap()));
        safetensors::serialize_to_file(views, None, &path).unwrap();
        let part =
            QuantizedPart { prefix: String::new(), bits: 2, group_size: None, activation_bits: 8, zero_point: None };
        let quantization = QuantizationConfig {
            quant_method: "ocelli".to_owned(),
            format_version: ocelli_nn::FORMAT_VERSION,
            parts: vec![part],
        };
        (folder, Weights::open(&path).unwrap().with_quantization(quantization).unwrap())
    }
}

/// Random codes and scales of a 2-bit matrix (docs/format.md), with variance about 1 / in_features.
fn packed(rows: usize, columns: usize) -> (Tensor, Tensor) {
    let row_bytes = 64 * columns.div_ceil(256);
    let mut state = 0x2545_f491_4f6c_dd1d_u64 ^ (rows * 31 + columns) as u64;
    let mut bytes = vec![0u8; rows * row_bytes];
    for chunk in bytes.chunks_mut(8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        chunk.copy_from_slice(&state.to_le_bytes()[..chunk.len()]);
    }
    // Codes beyond the row are 0.
    for row in bytes.chunks_mut(row_bytes) {
        for (index, byte) in row.iter_mut().enumerate() {
            for quarter in 0..4 {
                if index / 64 * 256 + quarter * 64 + index % 64 >= columns {
                    *byte &= !(3 << (2 * quarter));
                }
            }
        }
    }
    let scale = half_bits((columns as f32 * 1.25).sqrt().recip());
    let codes = Tensor { dtype: Dtype::U8, shape: vec![rows, row_bytes], bytes: bytes.into() };
    let scales = Tensor { dtype: Dtype::F16, shape: vec![rows, 1], bytes: scale.to_le_bytes().repeat(rows).into() };
    (codes, scales)
}

/// The bits of a normal f16 below 1, cut off.
fn half_bits(value: f32) -> u16 {
    let bits = value.to_bits();
    let exponent = (bits >> 23) as i32 - 127 + 15;
    ((exponent as u16) << 10) | ((bits >> 13) & 0x3ff) as u16
}

/// Loads `config` with random weights, encodes one view of `side` pixels and returns the number of parameters.
fn build_and_encode(config: &VisionConfig, num_registers: usize, side: usize) -> usize {
    let random = RandomWeights::encoder(config, num_registers);
    assert_eq!(random.num_parameters, config.num_parameters());
    let (_folder, weights) = random.open();
    let grid = (side / 14, side / 14);
    let encoder = Encoder::load(&weights, config, &[grid]).unwrap();
    let pixels =
        Array4::from_shape_fn((1, 3, side, side), |(_, c, y, x)| ((c * 7 + y * 3 + x) % 17) as f32 / 8.0 - 1.0);
    let features = encoder.encode(pixels.view()).unwrap();
    assert_eq!(features.grid, grid);
    assert_eq!(features.tokens.dim(), (grid.0 * grid.1, config.hidden_size()));
    assert_eq!(features.pooled.dim(), (1, config.hidden_size()));
    // After a layer norm with weight 1 and bias 0 every row has variance 1.
    for (token, row) in features.tokens.outer_iter().enumerate() {
        let variance = row.iter().map(|value| value * value).sum::<f32>() / row.len() as f32;
        assert!((variance - 1.0).abs() < 1e-2, "token {token}: {variance}");
    }
    config.num_parameters()
}

#[test]
fn vitdet_l_has_about_300_million_parameters_and_encodes_a_rapid_view() {
    let num_parameters = build_and_encode(&VisionConfig::vitdet_l(), 4, 224);
    assert!((295_000_000..310_000_000).contains(&num_parameters), "{num_parameters}");
}

#[test]
fn vit_g_has_about_a_billion_parameters_and_encodes_a_view() {
    let num_parameters = build_and_encode(&VisionConfig::vit_g(), 0, 56);
    assert!((990_000_000..1_030_000_000).contains(&num_parameters), "{num_parameters}");
}

#[test]
fn the_views_of_the_report_have_the_grids_and_windows_of_the_report() {
    let config = VisionConfig::vitdet_l();
    config.validate().unwrap();
    VisionConfig::vit_g().validate().unwrap();
    assert_eq!(config.patch_grid(224, 224).unwrap(), (16, 16));
    assert_eq!(config.window_grid((16, 16)), (1, 1));
    assert_eq!(config.patch_grid(672, 672).unwrap(), (48, 48));
    assert_eq!(config.window_grid((48, 48)), (3, 3));
    assert_eq!(VisionConfig::vit_g().window_grid((48, 48)), (1, 1));
}

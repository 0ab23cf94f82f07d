//! The adapters against PyTorch (`training/goldens/make_vision.py`): `conv_pool` against a module that convolves every patch and then pools,
//! the others against those of transformers.

use std::path::PathBuf;

use ndarray::Array2;
use ocelli_adapter::{Adapter, AdapterConfig, ConvPoolConfig, ErrorKind, MlpConfig, PixelShuffleConfig};
use ocelli_nn::{Activation, Weights};
use serde::Deserialize;

/// Largest difference over largest value: f32 sums in another order.
const TOLERANCE: f32 = 1e-5;

const VISION_HIDDEN_SIZE: usize = 12;
const TEXT_HIDDEN_SIZE: usize = 8;

#[derive(Deserialize)]
struct Config {
    adapter_config: AdapterConfig,
}

fn golden(case: &str, file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden").join(case).join(file)
}

fn config_of(case: &str) -> AdapterConfig {
    serde_json::from_slice::<Config>(&std::fs::read(golden(case, "config.json")).unwrap()).unwrap().adapter_config
}

fn weights_of(case: &str) -> Weights {
    Weights::open(golden(case, "model.safetensors")).unwrap().pp("adapter")
}

fn load(case: &str, config: &AdapterConfig) -> Adapter {
    Adapter::load(&weights_of(case), config, VISION_HIDDEN_SIZE, TEXT_HIDDEN_SIZE).unwrap()
}

fn adapter() -> Adapter {
    load("adapter", &config_of("adapter"))
}

#[track_caller]
fn assert_close(found: &Array2<f32>, expected: &Array2<f32>) {
    assert_eq!(found.dim(), expected.dim());
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    for ((position, found), expected) in found.indexed_iter().zip(expected) {
        let error = (found - expected).abs() / largest;
        assert!(error <= TOLERANCE, "at {position:?}: {found}, expected {expected}");
    }
}

fn matrix(tensors: &Weights, name: &str) -> Array2<f32> {
    let shape = tensors.shape(name).unwrap().to_vec();
    Array2::from_shape_vec((shape[0], shape[1]), tensors.tensor(name, &shape).unwrap()).unwrap()
}

#[test]
fn image_tokens_agree_with_pytorch_convolving_first() {
    let expected = Weights::open(golden("adapter", "expected.safetensors")).unwrap();
    let adapter = adapter();
    // Windows that overlap, that do not divide the grid, of one patch, and one window for all.
    let cases = [((8, 8), (3, 3)), ((9, 7), (3, 3)), ((12, 12), (12, 12)), ((5, 6), (1, 1))];
    for (index, (grid, pooled)) in cases.into_iter().enumerate() {
        let features = matrix(&expected, &format!("{index}.features"));
        let image_tokens = matrix(&expected, &format!("{index}.image_tokens"));
        assert_close(&adapter.adapt(features.view(), grid, pooled).unwrap(), &image_tokens);
    }
    assert!(!expected.contains("4.features"));
}

#[test]
fn pixel_shuffle_agrees_with_idefics3_and_smolvlm() {
    let case = "adapter_pixel_shuffle";
    let expected = Weights::open(golden(case, "expected.safetensors")).unwrap();
    let adapter = load(case, &config_of(case));
    for (index, (grid, pooled)) in [((2, 2), (1, 1)), ((6, 6), (3, 3))].into_iter().enumerate() {
        let features = matrix(&expected, &format!("{index}.features"));
        let image_tokens = matrix(&expected, &format!("{index}.image_tokens"));
        assert_close(&adapter.adapt(features.view(), grid, pooled).unwrap(), &image_tokens);
    }
    assert!(!expected.contains("2.features"));
}

#[test]
fn mlp_agrees_with_llava_with_and_without_biases() {
    let case = "adapter_mlp";
    let expected = Weights::open(golden(case, "expected.safetensors")).unwrap();
    let features = matrix(&expected, "features");
    let AdapterConfig::Mlp(config) = config_of(case) else { panic!("the golden is of an mlp") };
    assert!(config.bias, "the default");
    for (bias, name) in [(true, "image_tokens"), (false, "image_tokens_without_bias")] {
        let adapter = load(case, &AdapterConfig::Mlp(MlpConfig { bias, ..config.clone() }));
        assert_close(&adapter.adapt(features.view(), (3, 4), (3, 4)).unwrap(), &matrix(&expected, name));
    }
}

#[test]
fn the_number_of_parameters_is_that_of_the_file() {
    for case in ["adapter", "adapter_pixel_shuffle", "adapter_mlp"] {
        let weights = weights_of(case);
        let in_file = |name: &str| weights.shape(name).unwrap().iter().product::<usize>();
        let in_file: usize = weights.names().into_iter().map(in_file).sum();
        assert_eq!(config_of(case).num_parameters(VISION_HIDDEN_SIZE, TEXT_HIDDEN_SIZE), in_file, "{case}");
    }
    let without = AdapterConfig::Mlp(MlpConfig { hidden_act: Activation::Gelu, bias: false });
    assert_eq!(without.num_parameters(12, 8), 12 * 8 + 8 * 8);
}

#[test]
fn operations_are_two_for_each_weight_of_a_linear_layer_and_token() {
    for case in ["adapter_pixel_shuffle", "adapter_mlp"] {
        let weights = weights_of(case);
        let matrices: Vec<_> = weights.names().into_iter().filter_map(|name| weights.shape(name)).collect();
        let matrices = matrices.into_iter().filter(|shape| shape.len() == 2);
        let expected = 2 * 5 * matrices.map(|shape| shape[0] * shape[1]).sum::<usize>() as u64;
        assert_eq!(config_of(case).num_operations(VISION_HIDDEN_SIZE, TEXT_HIDDEN_SIZE, 20, 5), expected, "{case}");
    }
}

#[test]
fn the_kind_is_that_of_model_type_and_conv_pool_without_it() {
    let fields = serde_json::json!({"num_attention_heads": 2, "intermediate_size": 24});
    let config: AdapterConfig = serde_json::from_value(fields).unwrap();
    assert!(matches!(&config, AdapterConfig::ConvPool(config) if config.layer_norm_eps == 1e-6));
    for case in ["adapter", "adapter_pixel_shuffle", "adapter_mlp"] {
        let config = config_of(case);
        let written = serde_json::to_value(&config).unwrap();
        assert_eq!(written["model_type"], config.model_type());
        assert_eq!(serde_json::from_value::<AdapterConfig>(written).unwrap(), config);
    }
}

#[test]
fn fields_that_cannot_be_read_are_named_as_those_of_a_plain_struct() {
    let cases = [
        (r#"{"intermediate_size": 24}"#, "missing field `num_attention_heads`"),
        (r#"{"num_attention_heads": "2"}"#, "invalid type: string \"2\", expected usize"),
        (r#"{"model_type": "pixel_shuffle"}"#, "missing field `scale_factor`"),
        (r#"{"model_type": "pixel_shuffle", "scale_factor": -1}"#, "invalid value: integer `-1`, expected usize"),
        (r#"{"model_type": "mlp", "bias": 1}"#, "invalid type: integer `1`, expected a boolean"),
        (r#"{"model_type": "mlp", "hidden_act": "tanh"}"#, "unknown variant `tanh`, expected one of `gelu`"),
        (
            r#"{"model_type": "resampler"}"#,
            "unknown variant `resampler`, expected one of `conv_pool`, `pixel_shuffle`, `mlp`",
        ),
        ("[]", "invalid type: sequence, expected a map"),
    ];
    for (json, message) in cases {
        let error = serde_json::from_str::<AdapterConfig>(json).unwrap_err().to_string();
        assert!(error.starts_with(message), "{json}: {error}");
    }
}

#[test]
fn a_grid_that_is_not_that_of_the_tokens_is_an_error_with_both_sizes() {
    let cases = [
        ("adapter_pixel_shuffle", (2, 4), "2 x 2 patches"),
        ("adapter_pixel_shuffle", (2, 1), "2 x 2 patches"),
        ("adapter_pixel_shuffle", (usize::MAX, 2), "2 x 2 patches"),
        ("adapter_mlp", (2, 4), "1 x 1 patches"),
    ];
    let features = Array2::zeros((16, VISION_HIDDEN_SIZE));
    for (case, pooled, square) in cases {
        let error = load(case, &config_of(case)).adapt(features.view(), (4, 4), pooled).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        let start = format!("a grid of 4 x 4 patches cannot become {} x {} image tokens", pooled.0, pooled.1);
        assert!(error.to_string().starts_with(&start) && error.to_string().contains(square), "{error}");
    }
}

#[test]
fn a_grid_smaller_than_the_image_tokens_is_an_error_with_both_sizes() {
    let features = Array2::zeros((4, VISION_HIDDEN_SIZE));
    for pooled in [(3, 2), (0, 1), (2, usize::MAX)] {
        let error = adapter().adapt(features.view(), (2, 2), pooled).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        let start = format!("a grid of 2 x 2 patches cannot be pooled to {} x {} image tokens", pooled.0, pooled.1);
        assert!(error.to_string().starts_with(&start), "{error}");
    }
}

#[test]
fn image_tokens_that_do_not_divide_the_position_embedding_are_an_error() {
    let features = Array2::zeros((100, VISION_HIDDEN_SIZE));
    let error = adapter().adapt(features.view(), (10, 10), (5, 5)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    assert!(
        error.to_string().starts_with("5 x 5 image tokens do not divide the 12 x 12 position embedding"),
        "{error}"
    );
}

#[test]
fn features_that_do_not_fit_the_grid_are_an_error_with_both_shapes() {
    for (rows, columns) in [(35, VISION_HIDDEN_SIZE), (36, VISION_HIDDEN_SIZE + 1)] {
        let error = adapter().adapt(Array2::zeros((rows, columns)).view(), (6, 6), (3, 3)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Shape);
        assert!(error.to_string().contains(&format!("[{rows}, {columns}], expected [36, 12]")), "{error}");
    }
}

#[test]
fn an_impossible_configuration_is_an_error_that_names_the_field() {
    type Change = fn(&mut ConvPoolConfig);
    let changes: [(&str, Change); 5] = [
        ("num_attention_heads", |config| config.num_attention_heads = 5),
        ("num_attention_heads", |config| config.num_attention_heads = 0),
        ("intermediate_size", |config| config.intermediate_size = 0),
        ("intermediate_size", |config| config.intermediate_size = usize::MAX),
        ("layer_norm_eps", |config| config.layer_norm_eps = f32::NAN),
    ];
    let AdapterConfig::ConvPool(config) = config_of("adapter") else { panic!("the golden is of a conv_pool") };
    let changed = changes.into_iter().map(|(field, change)| {
        let mut config = config.clone();
        change(&mut config);
        (field, AdapterConfig::ConvPool(config))
    });
    let scale_factors = [0, 17, usize::MAX]
        .map(|scale_factor| ("scale_factor", AdapterConfig::PixelShuffle(PixelShuffleConfig { scale_factor })));
    for (field, config) in changed.chain(scale_factors) {
        let weights = weights_of("adapter");
        let error = Adapter::load(&weights, &config, VISION_HIDDEN_SIZE, TEXT_HIDDEN_SIZE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with(&format!("config.json: `adapter_config.{field}` is ")), "{error}");
    }
}

#[test]
fn a_configuration_that_disagrees_with_the_file_names_the_tensor() {
    for case in ["adapter", "adapter_pixel_shuffle", "adapter_mlp"] {
        let (weights, config) = (weights_of(case), config_of(case));
        let error = Adapter::load(&weights, &config, VISION_HIDDEN_SIZE, TEXT_HIDDEN_SIZE + 1).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Weights);
        assert!(error.to_string().contains("adapter."), "{error}");
    }
}

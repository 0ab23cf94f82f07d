//! The adapter against PyTorch, which convolves every patch and then pools (`training/goldens/make_vision.py`).

use std::path::PathBuf;

use ndarray::Array2;
use ocelli_adapter::{Adapter, AdapterConfig, ErrorKind};
use ocelli_nn::Weights;
use serde::Deserialize;

/// Largest difference over largest value: f32 sums in another order.
const TOLERANCE: f32 = 1e-5;

const VISION_HIDDEN_SIZE: usize = 12;
const TEXT_HIDDEN_SIZE: usize = 8;

#[derive(Deserialize)]
struct Config {
    adapter_config: AdapterConfig,
}

fn golden(file: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/adapter").join(file)
}

fn config() -> AdapterConfig {
    serde_json::from_slice::<Config>(&std::fs::read(golden("config.json")).unwrap()).unwrap().adapter_config
}

fn adapter() -> Adapter {
    let weights = Weights::open(golden("model.safetensors")).unwrap().pp("adapter");
    Adapter::load(&weights, &config(), VISION_HIDDEN_SIZE, TEXT_HIDDEN_SIZE).unwrap()
}

fn matrix(tensors: &Weights, name: &str) -> Array2<f32> {
    let shape = tensors.shape(name).unwrap().to_vec();
    Array2::from_shape_vec((shape[0], shape[1]), tensors.tensor(name, &shape).unwrap()).unwrap()
}

#[test]
fn image_tokens_agree_with_pytorch_convolving_first() {
    let expected = Weights::open(golden("expected.safetensors")).unwrap();
    let adapter = adapter();
    // Windows that overlap, that do not divide the grid, of one patch, and one window for all.
    let cases = [((8, 8), (3, 3)), ((9, 7), (3, 3)), ((12, 12), (12, 12)), ((5, 6), (1, 1))];
    for (index, (grid, pooled)) in cases.into_iter().enumerate() {
        let features = matrix(&expected, &format!("{index}.features"));
        let image_tokens = matrix(&expected, &format!("{index}.image_tokens"));
        let found = adapter.adapt(features.view(), grid, pooled).unwrap();
        assert_eq!(found.dim(), image_tokens.dim());
        let largest = image_tokens.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        for ((position, found), expected) in found.indexed_iter().zip(&image_tokens) {
            let error = (found - expected).abs() / largest;
            assert!(error <= TOLERANCE, "{grid:?} to {pooled:?} at {position:?}: {found}, expected {expected}");
        }
    }
    assert!(!expected.contains("4.features"));
}

#[test]
fn the_number_of_parameters_is_that_of_the_file() {
    let weights = Weights::open(golden("model.safetensors")).unwrap().pp("adapter");
    let in_file: usize =
        weights.names().iter().map(|name| weights.shape(name).unwrap().iter().product::<usize>()).sum();
    assert_eq!(config().num_parameters(VISION_HIDDEN_SIZE, TEXT_HIDDEN_SIZE), in_file);
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
    type Change = fn(&mut AdapterConfig);
    let cases: [(&str, Change); 5] = [
        ("num_attention_heads", |config| config.num_attention_heads = 5),
        ("num_attention_heads", |config| config.num_attention_heads = 0),
        ("intermediate_size", |config| config.intermediate_size = 0),
        ("intermediate_size", |config| config.intermediate_size = usize::MAX),
        ("layer_norm_eps", |config| config.layer_norm_eps = f32::NAN),
    ];
    let weights = Weights::open(golden("model.safetensors")).unwrap().pp("adapter");
    for (field, change) in cases {
        let mut config = config();
        change(&mut config);
        let error = Adapter::load(&weights, &config, VISION_HIDDEN_SIZE, TEXT_HIDDEN_SIZE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().starts_with(&format!("config.json: `adapter_config.{field}` is ")), "{error}");
    }
}

#[test]
fn a_configuration_that_disagrees_with_the_file_names_the_tensor() {
    let weights = Weights::open(golden("model.safetensors")).unwrap().pp("adapter");
    let error = Adapter::load(&weights, &config(), VISION_HIDDEN_SIZE, TEXT_HIDDEN_SIZE + 1).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Weights);
    assert!(error.to_string().contains("adapter."), "{error}");
}

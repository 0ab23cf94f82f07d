//! Encoders against PyTorch (`training/ocelli_training/model.py`) and Hugging Face transformers.

use ndarray::{Array2, Array4, ArrayView2};
use ocelli_nn::{LayerNorm, Weights};
use ocelli_vision::{Encoder, ErrorKind, Pooling, PostLayernorm, VisionConfig};
use serde::Deserialize;

use crate::golden;

/// Largest difference over largest value: f32 sums in another order over a few layers.
const TOLERANCE: f32 = 3e-5;

#[derive(Deserialize)]
struct Config {
    vision_config: VisionConfig,
}

fn load_config(case: &str) -> VisionConfig {
    let json = std::fs::read(golden(case).join("config.json")).unwrap();
    serde_json::from_slice::<Config>(&json).unwrap().vision_config
}

fn load_encoder(case: &str, grids: &[(usize, usize)]) -> Encoder {
    let weights = Weights::open(golden(case)).unwrap();
    Encoder::load(&weights.pp("vision"), &load_config(case), grids).unwrap()
}

fn any_shape(tensors: &Weights, name: &str) -> (Vec<usize>, Vec<f32>) {
    let shape = tensors.shape(name).unwrap().to_vec();
    let values = tensors.tensor(name, &shape).unwrap();
    (shape, values)
}

fn assert_close(found: &[f32], expected: &[f32], what: &str) {
    assert_eq!(found.len(), expected.len(), "{what}");
    let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let error = (found - expected).abs() / largest;
        assert!(error <= TOLERANCE, "{what} at {index}: {found}, expected {expected} (largest {largest})");
    }
}

/// Compares every input of a case; returns how many there were.
fn check_case(case: &str, encoder: &Encoder) -> usize {
    let expected = Weights::open(golden(case).join("expected.safetensors")).unwrap();
    let mut num_inputs = 0;
    while expected.contains(&format!("{num_inputs}.pixel_values")) {
        let (shape, values) = any_shape(&expected, &format!("{num_inputs}.pixel_values"));
        let pixel_values = Array4::from_shape_vec((shape[0], shape[1], shape[2], shape[3]), values).unwrap();
        let mut hidden_states = Vec::new();
        let mut observe = |_, tokens: ArrayView2<f32>| hidden_states.extend(tokens.iter().copied());
        let features = encoder.encode_observed(pixel_values.view(), &mut observe).unwrap();
        assert_eq!(features.tokens, encoder.encode(pixel_values.view()).unwrap().tokens);
        let what = format!("{case}, input {num_inputs} of grid {:?}", features.grid);
        let (shape, tokens) = any_shape(&expected, &format!("{num_inputs}.features"));
        assert_eq!(features.tokens.shape(), shape, "{what}");
        assert_close(features.tokens.as_slice().unwrap(), &tokens, &format!("{what}, features"));
        let (shape, pooled) = any_shape(&expected, &format!("{num_inputs}.pooled"));
        assert_eq!(features.pooled.shape(), shape, "{what}");
        assert_close(features.pooled.as_slice().unwrap(), &pooled, &format!("{what}, pooled"));
        let name = format!("{num_inputs}.hidden_states");
        if expected.contains(&name) {
            assert_close(&hidden_states, &any_shape(&expected, &name).1, &format!("{what}, hidden states"));
        }
        num_inputs += 1;
    }
    num_inputs
}

#[test]
fn register_windows_agree_with_pytorch_for_one_window_nine_and_uneven_ones() {
    let encoder = load_encoder("rw_vitdet", &[(3, 3), (9, 9)]);
    assert_eq!(check_case("rw_vitdet", &encoder), 3);
}

#[test]
fn the_convolutional_stem_agrees_with_pytorch() {
    assert_eq!(check_case("rw_vitdet_conv_stem", &load_encoder("rw_vitdet_conv_stem", &[])), 2);
}

#[test]
fn a_dinov2_with_registers_agrees_with_transformers() {
    assert_eq!(check_case("vit_dinov2", &load_encoder("vit_dinov2", &[(5, 5)])), 1);
}

#[test]
fn a_clip_encoder_agrees_with_transformers() {
    assert_eq!(check_case("vit_clip", &load_encoder("vit_clip", &[(5, 5)])), 1);
}

#[test]
fn a_dinov2_with_registers_resamples_its_positions_antialiased() {
    assert_eq!(check_case("vit_dinov2_resampled", &load_encoder("vit_dinov2_resampled", &[])), 1);
}

#[test]
fn a_dinov2_giant_agrees_with_transformers_between_all_layers() {
    assert_eq!(check_case("vit_dinov2_giant", &load_encoder("vit_dinov2_giant", &[(3, 7)])), 2);
}

#[test]
fn a_clip_encoder_with_its_projection_agrees_with_transformers_between_all_layers() {
    assert_eq!(check_case("vit_clip_projection", &load_encoder("vit_clip_projection", &[])), 2);
}

#[test]
fn a_siglip_encoder_with_its_head_agrees_with_transformers_between_all_layers() {
    assert_eq!(check_case("vit_siglip", &load_encoder("vit_siglip", &[])), 2);
}

#[test]
fn a_smolvlm_encoder_agrees_with_transformers_between_all_layers_for_every_grid() {
    assert_eq!(check_case("vit_smolvlm", &load_encoder("vit_smolvlm", &[(3, 7), (8, 1)])), 3);
}

/// LLaVA takes the patches of the last layer but one of CLIP, without a norm.
#[test]
fn fewer_layers_and_no_norm_give_the_tokens_of_an_earlier_layer() {
    let VisionConfig::Vit(mut config) = load_config("vit_clip_projection") else { panic!("vit") };
    config.encoder.num_hidden_layers = 1;
    config.post_layernorm = PostLayernorm::None;
    config.projection_dim = None;
    let weights = Weights::open(golden("vit_clip_projection")).unwrap().pp("vision");
    let encoder = Encoder::load(&weights, &VisionConfig::Vit(config), &[]).unwrap();
    let expected = Weights::open(golden("vit_clip_projection").join("expected.safetensors")).unwrap();
    let (shape, pixel_values) = any_shape(&expected, "0.pixel_values");
    let pixel_values = Array4::from_shape_vec((shape[0], shape[1], shape[2], shape[3]), pixel_values).unwrap();
    let features = encoder.encode(pixel_values.view()).unwrap();
    let (shape, hidden_states) = any_shape(&expected, "0.hidden_states");
    let [first, last] = [shape[1] * shape[2], 2 * shape[1] * shape[2]];
    let (class_token, patches) = hidden_states[first..last].split_at(shape[2]);
    assert_close(features.tokens.as_slice().unwrap(), patches, "patches");
    assert_close(features.pooled.as_slice().unwrap(), class_token, "class token");
}

#[test]
fn the_mean_is_that_of_the_patches_alone() {
    let VisionConfig::Vit(mut config) = load_config("vit_dinov2") else { panic!("vit") };
    config.pooling = Some(Pooling::Mean);
    let weights = Weights::open(golden("vit_dinov2")).unwrap().pp("vision");
    let encoder = Encoder::load(&weights, &VisionConfig::Vit(config), &[]).unwrap();
    let features = encoder.encode(Array4::from_elem((1, 3, 20, 20), 0.5).view()).unwrap();
    let mean = features.tokens.mean_axis(ndarray::Axis(0)).unwrap();
    assert_close(features.pooled.as_slice().unwrap(), mean.as_slice().unwrap(), "mean");
}

#[test]
fn register_windows_are_observed_as_patches_row_by_row_before_the_norm() {
    let encoder = load_encoder("rw_vitdet", &[]);
    // Windows of 3 in a grid of 4 x 5: what is observed has to be put back in order.
    let pixels =
        Array4::from_shape_fn((2, 3, 16, 20), |(v, c, y, x)| ((v * 5 + c * 31 + y * 7 + x * 3) % 11) as f32 / 5.0);
    let mut observed: Vec<(usize, Array2<f32>)> = Vec::new();
    let mut observe = |view, tokens: ArrayView2<f32>| observed.push((view, tokens.to_owned()));
    let features = encoder.encode_observed(pixels.view(), &mut observe).unwrap();
    assert_eq!(observed.iter().map(|(view, _)| *view).collect::<Vec<_>>(), [0, 0, 0, 0, 0, 1, 1, 1, 1, 1]);
    let norm = Weights::open(golden("rw_vitdet")).unwrap().pp("vision.post_layernorm");
    let norm = LayerNorm::load(&norm, 16, encoder.config().encoder().layer_norm_eps).unwrap();
    for view in 0..2 {
        let last = norm.forward(observed[view * 5 + 4].1.view());
        assert_eq!(last, features.view(view), "view {view}");
    }
}

#[test]
fn positions_resampled_when_loading_and_when_encoding_are_the_same() {
    let resampled_at_load = load_encoder("rw_vitdet", &[(2, 5)]);
    let resampled_later = load_encoder("rw_vitdet", &[]);
    let pixels =
        Array4::from_shape_fn((1, 3, 8, 20), |(_, c, y, x)| ((c * 31 + y * 7 + x * 3) % 11) as f32 / 5.0 - 1.0);
    let [first, second] = [resampled_at_load, resampled_later].map(|e| e.encode(pixels.view()).unwrap().tokens);
    assert_eq!(first, second);
}

#[test]
fn views_are_encoded_as_if_each_were_alone() {
    let encoder = load_encoder("rw_vitdet", &[]);
    let pixels =
        Array4::from_shape_fn((3, 3, 12, 16), |(v, c, y, x)| ((v * 5 + c * 31 + y * 7 + x * 3) % 13) as f32 / 6.0);
    let together = encoder.encode(pixels.view()).unwrap();
    assert_eq!(together.num_views(), 3);
    for index in 0..3 {
        let alone = pixels.slice_axis(ndarray::Axis(0), ndarray::Slice::from(index..index + 1));
        let alone = encoder.encode(alone).unwrap();
        assert_eq!(together.view(index), alone.tokens);
        assert_eq!(together.pooled.row(index), alone.pooled.row(0));
    }
}

#[test]
fn the_number_of_parameters_is_that_of_the_file() {
    for case in [
        "rw_vitdet",
        "rw_vitdet_conv_stem",
        "vit_dinov2",
        "vit_dinov2_giant",
        "vit_clip",
        "vit_clip_projection",
        "vit_siglip",
        "vit_smolvlm",
    ] {
        let weights = Weights::open(golden(case)).unwrap().pp("vision");
        let in_file: usize =
            weights.names().iter().map(|name| weights.shape(name).unwrap().iter().product::<usize>()).sum();
        let mut counted = load_config(case).num_parameters();
        if case.starts_with("vit_clip") {
            // CLIP's patch embedding has no bias; the file decides.
            counted -= 16;
        }
        assert_eq!(counted, in_file, "{case}");
    }
}

#[test]
fn a_view_that_the_patches_do_not_divide_is_an_error_with_both_numbers() {
    let encoder = load_encoder("rw_vitdet", &[]);
    let error = encoder.encode(Array4::zeros((1, 3, 12, 14)).view()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    assert_eq!(
        error.to_string(),
        "view has shape [12, 14], expected sides that are multiples of patch_size 4 in config.json"
    );
    assert_eq!(encoder.encode(Array4::zeros((1, 3, 0, 0)).view()).unwrap_err().kind(), ErrorKind::Shape);
    assert_eq!(encoder.encode(Array4::zeros((1, 1, 12, 12)).view()).unwrap_err().kind(), ErrorKind::Shape);
}

#[test]
fn no_views_give_no_features() {
    let features = load_encoder("rw_vitdet", &[]).encode(Array4::zeros((0, 3, 12, 12)).view()).unwrap();
    assert_eq!((features.num_views(), features.tokens.nrows()), (0, 0));
}

#[test]
fn a_configuration_that_disagrees_with_the_file_names_the_tensor() {
    let weights = Weights::open(golden("rw_vitdet")).unwrap().pp("vision");
    let VisionConfig::RwVitDet(mut config) = load_config("rw_vitdet") else { panic!("rw_vitdet") };
    config.encoder.intermediate_size = 40;
    let error = Encoder::load(&weights, &VisionConfig::RwVitDet(config), &[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Weights);
    assert!(error.to_string().contains("vision.layers.0.mlp.fc1"), "{error}");
}

/// `config` with one field replaced, as JSON from a stranger would have it.
fn changed(case: &str, field: &str, value: serde_json::Value) -> Result<VisionConfig, String> {
    let mut json = serde_json::to_value(load_config(case)).unwrap();
    json[field] = value;
    serde_json::from_value(json).map_err(|error| error.to_string())
}

#[test]
fn impossible_configurations_are_errors_that_name_the_field() {
    let cases = [
        ("rw_vitdet", "num_attention_heads", serde_json::json!(3)),
        ("rw_vitdet", "num_attention_heads", serde_json::json!(0)),
        ("rw_vitdet", "hidden_size", serde_json::json!(0)),
        ("rw_vitdet", "hidden_size", serde_json::json!(usize::MAX)),
        ("rw_vitdet", "intermediate_size", serde_json::json!(1u64 << 40)),
        ("rw_vitdet", "num_hidden_layers", serde_json::json!(0)),
        ("rw_vitdet", "num_hidden_layers", serde_json::json!(1_000_000)),
        ("rw_vitdet", "patch_size", serde_json::json!(0)),
        ("rw_vitdet", "num_channels", serde_json::json!(4)),
        ("rw_vitdet", "window_size", serde_json::json!(0)),
        ("rw_vitdet", "global_layers", serde_json::json!([4])),
        ("rw_vitdet", "num_register_tokens", serde_json::json!(1u64 << 50)),
        ("rw_vitdet", "position_embedding_size", serde_json::json!([0, 4])),
        ("rw_vitdet", "layer_norm_eps", serde_json::json!(-1.0)),
        ("rw_vitdet_conv_stem", "patch_size", serde_json::json!(8)),
        ("rw_vitdet_conv_stem", "conv_stem", serde_json::json!([])),
        ("vit_clip", "image_size", serde_json::json!(0)),
        ("vit_clip", "projection_dim", serde_json::json!(0)),
        ("vit_clip", "projection_dim", serde_json::json!(1u64 << 40)),
        ("vit_siglip", "pooling", serde_json::json!("class_token")),
    ];
    for (case, field, value) in cases {
        let config = changed(case, field, value.clone()).unwrap();
        let error = config.validate().expect_err(field);
        assert_eq!(error.kind(), ErrorKind::Config, "{field}: {value}");
        let message = error.to_string();
        assert!(message.starts_with("config.json: `vision_config."), "{message}");
        // A zero image size is found by way of the position embedding that follows from it.
        let related = if field == "image_size" { "position_embedding_size" } else { field };
        assert!(message.contains(related) || message.contains("conv_stem"), "{field}: {message}");
    }
    for (field, value) in [("hidden_size", serde_json::json!(-1)), ("model_type", serde_json::json!("resnet"))] {
        assert!(changed("rw_vitdet", field, value).is_err(), "{field}");
    }
    for field in ["pooling", "post_layernorm", "position_resampling"] {
        assert!(changed("vit_clip", field, serde_json::json!("other")).is_err(), "{field}");
    }
}

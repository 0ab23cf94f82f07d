//! Model directories that are broken, each in one place: an error that names it, when the model is loaded or at its first caption.

use ocelli::{CaptionOptions, Error, ErrorKind, Mode, Model};
use serde_json::{Value, json};

use crate::picture;
use crate::support::TinyModel;

const JSON_FILES: [&str; 3] = ["config.json", "preprocessor_config.json", "generation_config.json"];
const TEXT_FILES: [&str; 5] =
    ["config.json", "preprocessor_config.json", "generation_config.json", "tokenizer.json", "chat_template.jinja"];

/// The error of a model that does not load or cannot caption.
#[track_caller]
fn error_of(model: &TinyModel) -> Error {
    error_at(model, "it")
}

/// The same, naming what is broken when nothing fails.
#[track_caller]
fn error_at(model: &TinyModel, broken: &str) -> Error {
    let loaded = Model::load(model.path());
    let options = CaptionOptions { mode: Mode::Rapid, ..Default::default() };
    match loaded.and_then(|model| model.caption_with(&picture(0), &options)) {
        Ok(response) => panic!("{broken} is broken, but the model says: {response}"),
        Err(error) => error,
    }
}

/// The message of a tiny model with one value of one JSON file replaced.
#[track_caller]
fn message_with(file: &str, pointer: &str, value: Value) -> String {
    let model = TinyModel::new();
    model.set(file, pointer, value);
    error_of(&model).to_string()
}

#[test]
fn an_unbroken_tiny_model_captions() {
    let model = Model::load(TinyModel::new().path()).unwrap();
    model.caption_with(&picture(0), &CaptionOptions { mode: Mode::Rapid, ..Default::default() }).unwrap();
}

#[test]
fn a_file_that_is_missing_empty_or_a_directory_is_named() {
    for file in TEXT_FILES.into_iter().chain(["model.safetensors"]) {
        let model = TinyModel::new();
        std::fs::remove_file(model.file(file)).unwrap();
        let error = error_of(&model);
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
        assert!(error.to_string().contains(file), "{error}");
        std::fs::create_dir(model.file(file)).unwrap();
        let error = error_of(&model);
        assert!(error.to_string().contains(file), "{error}");

        let model = TinyModel::new();
        model.write(file, "");
        let error = error_of(&model);
        assert!(error.to_string().contains(file), "{error}");
    }
}

#[test]
fn a_text_file_of_many_gigabytes_is_refused_by_its_length() {
    for file in TEXT_FILES {
        let model = TinyModel::new();
        std::fs::File::options().write(true).open(model.file(file)).unwrap().set_len(50 << 30).unwrap();
        let error = error_of(&model);
        assert!(error.to_string().contains(file) && error.to_string().contains("64 MiB"), "{error}");
    }
}

#[test]
fn json_that_is_none_or_of_another_kind_is_refused() {
    let nested = "[".repeat(1 << 20);
    for file in JSON_FILES {
        for (contents, found) in
            [("{", "not JSON (EOF"), ("[]", "JSON of another kind"), (nested.as_str(), "not JSON (recursion")]
        {
            let model = TinyModel::new();
            model.write(file, contents);
            let error = error_of(&model);
            assert_eq!(error.kind(), ErrorKind::Config, "{error}");
            assert!(error.to_string().contains(file) && error.to_string().contains(found), "{error}");
        }
    }
    for contents in ["{}", "[]", "{", nested.as_str()] {
        let model = TinyModel::new();
        model.write("tokenizer.json", contents);
        let error = error_of(&model);
        assert_eq!(error.kind(), ErrorKind::Tokenizer, "{error}");
        assert!(error.to_string().contains("tokenizer.json"), "{error}");
    }
}

#[test]
fn a_section_or_field_that_is_missing_is_named() {
    for section in ["vision_config", "adapter_config", "text_config"] {
        let model = TinyModel::new();
        let mut config = crate::support::config();
        let fields: Vec<String> = config[section].as_object().unwrap().keys().cloned().collect();
        config.as_object_mut().unwrap().remove(section);
        model.write("config.json", config.to_string());
        let error = error_of(&model);
        assert!(error.to_string().contains("config.json"), "{error}");
        let optional = [
            "adapter_config.model_type",
            "adapter_config.position_embedding",
            "vision_config.num_channels",
            "text_config.rope_theta",
            "text_config.rms_norm_eps",
            "text_config.max_position_embeddings",
            "text_config.tie_word_embeddings",
            // These have a default, with which the weights disagree.
            "text_config.num_kv_reuse_layers",
            "text_config.num_key_value_heads",
        ];
        for field in fields {
            let name = format!("{section}.{field}");
            if optional.contains(&name.as_str()) || field == "hidden_act" || field == "layer_norm_eps" {
                continue;
            }
            let mut config = crate::support::config();
            config[section].as_object_mut().unwrap().remove(&field);
            model.write("config.json", config.to_string());
            let error = error_at(&model, &name);
            assert!(error.to_string().contains(&field), "{name}: {error}");
        }
    }
}

#[test]
fn a_field_of_the_wrong_type_or_size_is_named() {
    let sections = [
        (
            "vision_config",
            &["patch_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"][..],
        ),
        ("adapter_config", &["num_attention_heads", "intermediate_size"]),
        (
            "text_config",
            &["vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"],
        ),
    ];
    for (section, fields) in sections {
        for field in fields {
            for value in
                [json!("8"), json!(-8), json!(0), json!(1u64 << 63), json!(8.5), json!(null), json!([8]), json!(true)]
            {
                let message = message_with("config.json", &format!("/{section}/{field}"), value.clone());
                assert!(message.contains("config.json"), "{section}.{field} = {value}: {message}");
                assert!(message.contains(field), "{section}.{field} = {value}: {message}");
            }
        }
    }
}

#[test]
fn fields_of_the_other_files_are_checked_too() {
    let cases = [
        ("preprocessor_config.json", "/image_std", json!([0.0, 0.5, 0.5]), "image_std"),
        ("preprocessor_config.json", "/image_mean", json!("grey"), "image_mean"),
        ("preprocessor_config.json", "/aspect", json!("crop"), "aspect"),
        ("preprocessor_config.json", "/resample", json!(9), "resample"),
        ("preprocessor_config.json", "/modes", json!({}), "modes"),
        ("preprocessor_config.json", "/modes/rapid/size", json!(1u64 << 40), "size"),
        ("preprocessor_config.json", "/modes/rapid/pooled", json!([0, 3]), "pooled"),
        ("preprocessor_config.json", "/modes/rapid/pooled", json!([9, 9]), "pooled"),
        ("preprocessor_config.json", "/modes/rapid/size", json!(225), "225"),
        ("generation_config.json", "/eos_token_id", json!([4096]), "eos_token_id"),
        ("generation_config.json", "/temperature", json!("warm"), "temperature"),
        ("generation_config.json", "/max_new_tokens", json!(0), "max_new_tokens"),
        ("config.json", "/image_token_id", json!(1u64 << 20), "image_token_id"),
        ("config.json", "/image_token_id", json!("<image>"), "image_token_id"),
        ("config.json", "/vision_config/model_type", json!("resnet"), "model_type"),
        ("config.json", "/vision_config/global_layers", json!([2]), "global_layers"),
        ("config.json", "/text_config/model_type", json!("gpt"), "gpt"),
        ("config.json", "/text_config/num_kv_reuse_layers", json!(3), "num_kv_reuse_layers"),
        ("config.json", "/text_config/num_key_value_heads", json!(3), "num_key_value_heads"),
        ("config.json", "/quantization_config/format_version", json!(2), "format_version"),
        ("config.json", "/quantization_config/quant_method", json!("gptq"), "quant_method"),
        ("config.json", "/quantization_config/parts/0/bits", json!(3), "bits"),
        ("config.json", "/quantization_config/parts", json!("all"), "parts"),
    ];
    for (file, pointer, value, named) in cases {
        let message = message_with(file, pointer, value.clone());
        assert!(message.contains(named), "{file} {pointer} = {value}: {message}");
    }
}

#[test]
fn sizes_that_disagree_with_the_weights_name_the_tensor() {
    for (pointer, value, tensor) in [
        ("/text_config/hidden_size", json!(64), "embedding"),
        ("/text_config/vocab_size", json!(1025), "embedding"),
        ("/text_config/intermediate_size", json!(96), "hidden_transform"),
        ("/text_config/num_hidden_layers", json!(4), "layers.segment_0.layer_2"),
        ("/vision_config/hidden_size", json!(64), "vision."),
        ("/vision_config/num_register_tokens", json!(3), "vision.register_tokens"),
        ("/vision_config/position_embedding_size", json!([8, 9]), "vision.position_embedding"),
        ("/quantization_config/parts", json!([]), "quantization_config"),
        ("/quantization_config/parts/1/group_size", json!(64), "layers."),
        ("/quantization_config/parts/2/bits", json!(4), "vision."),
    ] {
        let model = TinyModel::new();
        model.set("config.json", pointer, value.clone());
        let error = error_of(&model);
        assert!(matches!(error.kind(), ErrorKind::Weights | ErrorKind::Config), "{pointer}: {error:?}");
        assert!(error.to_string().contains(tensor), "{pointer} = {value}: {error}");
        assert!(error.to_string().contains("model.safetensors") || pointer.contains("parts"), "{pointer}: {error}");
    }
}

#[test]
fn a_vocabulary_smaller_than_the_tokenizer_is_refused() {
    let message = message_with("config.json", "/text_config/vocab_size", json!(512));
    assert!(message.contains("tokenizer.json") && message.contains("512") && message.contains("1023"), "{message}");
}

#[test]
fn a_tensor_whose_scales_are_not_numbers_is_refused() {
    let model = TinyModel::new();
    let bytes = std::fs::read(model.file("model.safetensors")).unwrap();
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
    let header: Value = serde_json::from_slice(&bytes[8..8 + header_bytes]).unwrap();
    let tensor = "layers.segment_0.layer_1.feed_forward.output_transform.weight_scales";
    let start = 8 + header_bytes + header[tensor]["data_offsets"][0].as_u64().unwrap() as usize;
    for (scale, name) in [(0x7e00u16, "not a number"), (0x7c00, "infinite"), (0xbc00, "negative")] {
        let mut broken = bytes.clone();
        broken[start..start + 2].copy_from_slice(&scale.to_le_bytes());
        // A new file: the old one may be mapped.
        std::fs::remove_file(model.file("model.safetensors")).unwrap();
        model.write("model.safetensors", broken);
        let error = error_of(&model);
        assert_eq!(error.kind(), ErrorKind::Weights, "{name}: {error}");
        assert!(error.to_string().contains("feed_forward.output_transform"), "{name}: {error}");
    }
}

#[test]
fn templates_that_do_not_end_or_lose_a_part_are_refused() {
    for (template, found) in [
        ("{% for i in range(100000) %}{% for j in range(100000) %}{% endfor %}{% endfor %}", "steps"),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", "chat_template.jinja"),
        ("{% if %}", "chat_template.jinja"),
        ("{{ messages | no_such_filter }}", "no_such_filter"),
        ("nothing of the conversation", "leaves out"),
        ("{% include 'other' %}", "chat_template.jinja"),
    ] {
        let model = TinyModel::new();
        model.write("chat_template.jinja", template);
        let error = error_of(&model);
        assert_eq!(error.kind(), ErrorKind::Template, "{template}: {error}");
        assert!(error.to_string().contains(found), "{template}: {error}");
    }
    let model = TinyModel::new();
    model.write("chat_template.jinja", [0xff, 0xfe]);
    assert!(error_of(&model).to_string().contains("not UTF-8"));
}

#[test]
fn an_index_of_shards_may_only_name_files_beside_it() {
    for shard in ["../model.safetensors", "/etc/passwd", ".", "missing.safetensors", ""] {
        let model = TinyModel::new();
        std::fs::rename(model.file("model.safetensors"), model.file("kept.safetensors")).unwrap();
        model.write(
            "model.safetensors.index.json",
            json!({"weight_map": {"embedding.weight_codes": shard}}).to_string(),
        );
        let error = error_of(&model);
        assert!(matches!(error.kind(), ErrorKind::Io | ErrorKind::Weights), "{shard}: {error}");
    }
}

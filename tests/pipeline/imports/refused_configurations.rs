//! Configurations that are refused.

use super::*;

#[test]
fn configurations_that_are_not_computed_here_are_refused() {
    use ErrorKind::{Config, Unsupported};
    assert_refused(&[
        (
            "architecture",
            "llama",
            |c| c.set("", "architectures", json!(["MixtralForCausalLM"])),
            Unsupported,
            &["`architectures`", "MixtralForCausalLM", "Qwen3ForCausalLM"],
        ),
        (
            "architecture of weights in another format",
            "llama",
            |c| {
                c.set("", "architectures", json!(["MixtralForCausalLM"]));
                c.remove(WEIGHTS);
            },
            Unsupported,
            &["`architectures`", "MixtralForCausalLM"],
        ),
        (
            "no architecture",
            "llama",
            |c| c.set("", "architectures", json!(null)),
            Unsupported,
            &["`architectures`", "missing", "LlamaForCausalLM"],
        ),
        ("activation", "llama", |c| c.set("", "hidden_act", json!("gelu")), Unsupported, &["`hidden_act`", "gelu"]),
        (
            "activation of an encoder",
            "smolvlm",
            |c| c.set("vision_config", "hidden_act", json!("mish")),
            Unsupported,
            &["`vision_config.hidden_act`", "mish", "quick_gelu"],
        ),
        (
            "activation of an encoder alone",
            "clip_vision",
            |c| c.set("", "hidden_act", json!("mish")),
            Unsupported,
            &["`hidden_act`", "mish"],
        ),
        (
            "activation of the projector",
            "llava",
            |c| c.set("", "projector_hidden_act", json!("mish")),
            Unsupported,
            &["`projector_hidden_act`", "mish"],
        ),
        (
            "rope type",
            "llama",
            |c| c.edit("config.json", |config| config["rope_parameters"]["rope_type"] = json!("yarn")),
            Unsupported,
            &["`rope_type`", "yarn", "llama3"],
        ),
        (
            "rope type in an old file",
            "llama_sharded",
            |c| c.set("", "rope_scaling", json!({"type": "dynamic", "factor": 2.0})),
            Unsupported,
            &["`rope_type`", "dynamic"],
        ),
        (
            "sliding window",
            "qwen2",
            |c| c.set("", "use_sliding_window", json!(true)),
            Unsupported,
            &["`use_sliding_window`"],
        ),
        (
            "several feature layers",
            "llava",
            |c| c.set("", "vision_feature_layer", json!([-2, -5])),
            Unsupported,
            &["`vision_feature_layer`"],
        ),
        (
            "a feature layer after the last",
            "llava",
            |c| c.set("", "vision_feature_layer", json!(4)),
            Config,
            &["`vision_feature_layer`", "4"],
        ),
        (
            "a feature layer before the first",
            "llava",
            |c| c.set("", "vision_feature_layer", json!(i64::MIN)),
            Config,
            &["`vision_feature_layer`"],
        ),
        (
            "another tower",
            "llava",
            |c| c.set("vision_config", "model_type", json!("pixtral")),
            Unsupported,
            &["`vision_config.model_type`", "pixtral", "clip_vision_model"],
        ),
        (
            "another tower of SmolVLM",
            "smolvlm",
            |c| c.set("vision_config", "model_type", json!("pixtral")),
            Unsupported,
            &["`vision_config.model_type`", "pixtral"],
        ),
        (
            "feature selection",
            "llava",
            |c| c.set("", "vision_feature_select_strategy", json!("full")),
            Unsupported,
            &["`vision_feature_select_strategy`", "full"],
        ),
        (
            "a decoder of another type",
            "llava",
            |c| c.set("text_config", "model_type", json!("gemma")),
            Unsupported,
            &["gemma"],
        ),
        (
            "grey pictures",
            "siglip",
            |c| c.set("vision_config", "num_channels", json!(1)),
            Unsupported,
            &["`vision_config.num_channels`"],
        ),
        (
            "sizes that are not square",
            "siglip",
            |c| c.edit("preprocessor_config.json", |config| config["size"] = json!({"height": 24, "width": 28})),
            Unsupported,
            &["`size`", "24 x 28", "preprocessor_config.json"],
        ),
        (
            "an encoder that is not square",
            "siglip",
            |c| c.set("vision_config", "image_size", json!([24, 28])),
            Config,
            &["`vision_config.image_size`"],
        ),
        (
            "patches that are not square",
            "siglip",
            |c| c.set("vision_config", "patch_size", json!([4, 2])),
            Config,
            &["`vision_config.patch_size`"],
        ),
    ]);
}

#[test]
fn configurations_that_contradict_the_other_files_are_refused() {
    use ErrorKind::{Config, Io, Tokenizer, Weights};
    assert_refused(&[
        (
            "hidden_size",
            "llama",
            |c| c.set("", "hidden_size", json!(48)),
            Weights,
            &["`model.embed_tokens.weight`", "[301, 32]", "[301, 48]"],
        ),
        (
            "hidden_size of an encoder",
            "clip",
            |c| c.set("vision_config", "hidden_size", json!(16)),
            Weights,
            &["`vision_model.embeddings.patch_embedding.weight`"],
        ),
        ("fewer layers", "llama", |c| c.set("", "num_hidden_layers", json!(1)), Weights, &["`model.layers.1."]),
        ("more layers", "llama", |c| c.set("", "num_hidden_layers", json!(3)), Weights, &["`model.layers.2."]),
        (
            "fewer layers of a tower",
            "llava",
            |c| c.set("vision_config", "num_hidden_layers", json!(2)),
            Weights,
            &["`vision_tower.vision_model.encoder.layers.2."],
        ),
        (
            "more layers of a tower",
            "llava",
            |c| c.set("vision_config", "num_hidden_layers", json!(5)),
            Weights,
            &["`vision_tower.vision_model.encoder.layers.3."],
        ),
        (
            "num_key_value_heads",
            "llama",
            |c| c.set("", "num_key_value_heads", json!(4)),
            Weights,
            &["`model.layers.0.self_attn.k_proj.weight`"],
        ),
        (
            "a head that is not tied, and not there",
            "llama",
            |c| c.set("", "tie_word_embeddings", json!(false)),
            Weights,
            &["`lm_head.weight`"],
        ),
        ("vocab_size", "qwen3", |c| c.set("", "vocab_size", json!(300)), Weights, &["`model.embed_tokens.weight`"]),
        (
            "an image token beyond the vocabulary",
            "smolvlm",
            |c| c.set("", "image_token_id", json!(319)),
            Config,
            &["`image_token_id`", "319"],
        ),
        (
            "an image token beyond the vocabulary in an old file",
            "llava",
            |c| c.set("", "image_token_index", json!(32_000)),
            Config,
            &["`image_token_index`", "32000", "336"],
        ),
        (
            "no image token in the tokenizer",
            "smolvlm",
            |c| {
                c.edit("tokenizer.json", |tokenizer| {
                    tokenizer["added_tokens"].as_array_mut().unwrap().truncate(21);
                });
            },
            Config,
            &["`image_token_id`", "317", "tokenizer.json"],
        ),
        (
            "a hole in the added tokens",
            "smolvlm",
            |c| {
                c.edit("tokenizer.json", |tokenizer| {
                    tokenizer["added_tokens"].as_array_mut().unwrap().retain(|token| token["content"] != "<image>");
                });
            },
            Tokenizer,
            &["source/tokenizer.json", "`<end_of_utterance>`", "318", "317"],
        ),
        (
            "an image token that is not special",
            "smolvlm",
            |c| {
                c.edit("tokenizer.json", |tokenizer| {
                    let tokens = tokenizer["added_tokens"].as_array_mut().unwrap();
                    tokens.iter_mut().find(|token| token["content"] == "<image>").unwrap()["special"] = json!(false);
                });
            },
            Config,
            &["`image_token_id`", "317", "special"],
        ),
        (
            "no preprocessor_config.json beside a processor_config.json without an image processor",
            "smolvlm",
            |c| c.remove("preprocessor_config.json"),
            Io,
            &["source/preprocessor_config.json"],
        ),
        (
            "no preprocessor_config.json",
            "siglip",
            |c| c.remove("preprocessor_config.json"),
            Io,
            &["source/preprocessor_config.json"],
        ),
        ("no tokenizer", "smolvlm", |c| c.remove("tokenizer.json"), Io, &["source/tokenizer.json"]),
        ("no config.json", "smolvlm", |c| c.remove("config.json"), Io, &["source/config.json"]),
        (
            "another size of the processor",
            "siglip",
            |c| c.edit("preprocessor_config.json", |config| config["size"] = json!({"height": 48, "width": 48})),
            Config,
            &["`size`", "48", "24"],
        ),
        (
            "views that no patches fill",
            "smolvlm",
            |c| c.edit("preprocessor_config.json", |config| config["max_image_size"] = json!({"longest_edge": 12})),
            Config,
            &["`max_image_size`", "12"],
        ),
    ]);
}

#[test]
fn numbers_beyond_all_bounds_are_refused() {
    use ErrorKind::Config;
    assert_refused(&[
        (
            "image_size",
            "siglip",
            |c| c.set("vision_config", "image_size", json!([1_u64 << 60, 1_u64 << 60])),
            Config,
            &["`vision_config.image_size`"],
        ),
        ("scale_factor", "smolvlm", |c| c.set("", "scale_factor", json!(1 << 24)), Config, &["`scale_factor`"]),
        ("no scale_factor", "smolvlm", |c| c.set("", "scale_factor", json!(0)), Config, &["`scale_factor`"]),
        ("mlp_ratio", "dinov2_giant", |c| c.set("", "mlp_ratio", json!(1e300)), Config, &["`mlp_ratio`"]),
        ("a negative mlp_ratio", "dinov2", |c| c.set("", "mlp_ratio", json!(-1)), Config, &["`mlp_ratio`"]),
        (
            "patch_size",
            "siglip",
            |c| c.set("vision_config", "patch_size", json!(0)),
            Config,
            &["`vision_config.patch_size`"],
        ),
        ("hidden_size", "clip_vision", |c| c.set("", "hidden_size", json!(1_u64 << 60)), Config, &["`hidden_size`"]),
        ("hidden_size of text", "llama", |c| c.set("", "hidden_size", json!("32")), Config, &["hidden_size"]),
    ]);
}

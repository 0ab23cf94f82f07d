use super::*;
use crate::ErrorKind;
use serde_json::json;

fn nano() -> Value {
    json!({"model_type": "afm_text_v7", "vocab_size": 1024, "hidden_size": 128, "intermediate_size": 416, "num_hidden_layers": 8,
           "num_kv_reuse_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2})
}

#[test]
fn an_ocelli_config_is_read() {
    let config = TextConfig::from_config_json(&json!({"model_type": "ocelli", "text_config": nano()})).unwrap();
    assert_eq!((config.num_kv_layers(), config.head_dim, config.kv_dim()), (5, 32, 64));
    assert_eq!((config.rope_theta, config.rms_norm_eps, config.max_position_embeddings), (500_000.0, 1e-5, 4096));
    assert!(config.tie_word_embeddings);
}

#[test]
fn a_config_written_out_reads_as_itself() {
    let config = TextConfig::from_json(&nano()).unwrap();
    let again: TextConfig = serde_json::from_str(&serde_json::to_string(&config).unwrap()).unwrap();
    assert_eq!(config, again);
}

#[test]
fn a_tamm_config_has_tamms_defaults() {
    let config = TextConfig::from_json(&json!({"__tamm_type__": "module_configs:AFMTextV7Config"})).unwrap();
    assert_eq!((config.num_hidden_layers, config.num_kv_reuse_layers, config.intermediate_size), (56, 21, 6656));
    assert_eq!((config.num_key_value_heads, config.head_dim), (2, 128));
    assert_eq!(config.num_parameters(), 3_111_368_064, "the count of SEMANTICS 1.1");
}

#[test]
fn the_draft_model_has_the_parameters_of_its_published_file() {
    let draft = json!({"__tamm_type__": "models:AFMTextV7Config", "num_layers": 12, "hidden_dim": 256, "num_heads": 8,
                       "num_kv_heads": 4, "hidden_dim_scale_factor": 3.0, "num_kv_reuse_layers": 0});
    assert_eq!(TextConfig::from_json(&draft).unwrap().num_parameters(), 48_765_952);
}

#[test]
fn a_null_number_of_kv_heads_is_the_number_of_heads() {
    let config = json!({"__tamm_type__": "module_configs:AFMTextV7Config", "num_kv_heads": null});
    assert_eq!(TextConfig::from_json(&config).unwrap().num_key_value_heads, 16);
}

#[test]
fn the_intermediate_size_rounds_halves_to_even_as_python_does() {
    for (hidden_dim, factor, expected) in
        [(10, 2.25, 22), (10, 2.35, 24), (6, 2.25, 14), (24, 3.25, 78), (2048, 3.25, 6656)]
    {
        let config = json!({"family": "afm_text_v7", "vocab_size": 8, "hidden_dim": hidden_dim, "num_layers": 1, "num_heads": 1,
                            "hidden_dim_scale_factor": factor});
        let found = TextConfig::from_json(&config).unwrap().intermediate_size;
        assert_eq!(found, expected, "{hidden_dim} x {factor}");
    }
}

#[test]
fn impossible_configs_are_errors_that_name_the_field() {
    for (field, value) in [
        ("vocab_size", json!(null)),
        ("vocab_size", json!(0)),
        ("vocab_size", json!(-1)),
        ("vocab_size", json!(1u64 << 63)),
        ("vocab_size", json!("many")),
        ("hidden_size", json!(1e3)),
        ("hidden_size", json!([128])),
        ("intermediate_size", json!(0)),
        ("num_hidden_layers", json!(1_000_000)),
        ("num_kv_reuse_layers", json!(8)),
        ("num_attention_heads", json!(3)),
        ("num_key_value_heads", json!(3)),
        ("num_key_value_heads", json!(8)),
        ("head_dim", json!(33)),
        ("head_dim", json!(1u64 << 40)),
        ("rope_theta", json!(0)),
        ("rope_theta", json!(1e300)),
        ("rms_norm_eps", json!(-1)),
        ("max_position_embeddings", json!(1u64 << 40)),
        ("tie_word_embeddings", json!("yes")),
        ("model_type", json!(7)),
        ("lora", json!([])),
    ] {
        let mut config = nano();
        config[field] = value.clone();
        let error = TextConfig::from_json(&config).expect_err(&format!("{field}: {value}"));
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains(&format!("`{field}` in config.json")), "{error}");
    }
    assert_eq!(TextConfig::from_json(&json!([])).unwrap_err().kind(), ErrorKind::Config);
}

#[test]
fn other_families_are_refused_by_name() {
    for family in ["pt_moe", "mistral"] {
        let error = TextConfig::from_json(&json!({"family": family})).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Unsupported);
        assert!(error.to_string().contains(family), "{error}");
    }
}

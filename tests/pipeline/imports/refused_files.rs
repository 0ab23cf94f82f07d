//! Weights, destinations and options that are refused.

use super::*;

#[test]
fn broken_tensors_are_refused_by_their_names_in_the_checkpoint() {
    use ErrorKind::Weights;
    fn last_layer(tensors: &mut [Tensor]) -> &mut Tensor {
        tensors.iter_mut().find(|tensor| tensor.name == "model.layers.1.mlp.up_proj.weight").unwrap()
    }
    assert_refused(&[
        (
            "a missing tensor",
            "smolvlm",
            |c| c.rewrite(|tensors| tensors.retain(|tensor| tensor.name != "model.text_model.norm.weight")),
            Weights,
            &["`model.text_model.norm.weight`", "source/model.safetensors"],
        ),
        (
            "an extra tensor",
            "qwen3",
            |c| c.rewrite(|tensors| last_layer(tensors).name = "model.layers.1.mlp.up_proj.extra".to_owned()),
            Weights,
            &["`model.layers.1.mlp.up_proj.weight`"],
        ),
        (
            "one tensor too many",
            "qwen3",
            |c| {
                c.rewrite(|tensors| {
                    let extra = Tensor { name: "model.layers.1.mlp.extra".to_owned(), ..last_layer(tensors).clone() };
                    tensors.push(extra);
                });
            },
            Weights,
            &["`model.layers.1.mlp.extra`", "Qwen3ForCausalLM"],
        ),
        (
            "another shape",
            "qwen3",
            |c| c.rewrite(|tensors| last_layer(tensors).shape = vec![32, 64]),
            Weights,
            &["`model.layers.1.mlp.up_proj.weight`", "[32, 64]", "[64, 32]"],
        ),
        (
            "another type",
            "qwen3",
            |c| c.rewrite(|tensors| last_layer(tensors).dtype = Dtype::I16),
            Weights,
            &["model.safetensors", "I16"],
        ),
        (
            "infinity in a matrix",
            "qwen3",
            |c| c.spoil("model.layers.1.mlp.up_proj.weight"),
            Weights,
            &["`model.layers.1.mlp.up_proj.weight`", "source/model.safetensors", "inf"],
        ),
        ("nan in a norm", "llama", |c| c.spoil("model.norm.weight"), Weights, &["`model.norm.weight`", "NaN"]),
        (
            "nan in a class token",
            "clip",
            |c| c.spoil("vision_model.embeddings.class_embedding"),
            Weights,
            &["`vision_model.embeddings.class_embedding`", "source/model.safetensors", "NaN"],
        ),
        (
            "nan in the query of a pooler",
            "siglip",
            |c| c.spoil("vision_model.head.probe"),
            Weights,
            &["`vision_model.head.probe`", "NaN"],
        ),
        (
            "infinity in the last tensor",
            "smolvlm",
            |c| c.spoil("model.vision_model.encoder.layers.1.self_attn.v_proj.weight"),
            Weights,
            &["`model.vision_model.encoder.layers.1.self_attn.v_proj.weight`", "inf"],
        ),
        (
            "weights above the largest scale",
            "llama",
            |c| {
                c.rewrite(|tensors| {
                    let tensor = last_layer(tensors);
                    tensor.bytes[..4].copy_from_slice(&1e38_f32.to_le_bytes());
                });
            },
            Weights,
            &["`model.layers.1.mlp.up_proj.weight`"],
        ),
        (
            "no head of its own",
            "llava",
            |c| c.rewrite(|tensors| tensors.retain(|tensor| tensor.name != "language_model.lm_head.weight")),
            Weights,
            &["`language_model.lm_head.weight`"],
        ),
    ]);
}

#[test]
fn broken_files_of_weights_are_refused() {
    use ErrorKind::{Io, Unsupported, Weights};
    assert_refused(&[
        (
            "a shard in another directory",
            "llama_sharded",
            |c| {
                c.edit(INDEX, |index| {
                    index["weight_map"]["lm_head.weight"] = json!("../model-00003-of-00003.safetensors");
                });
            },
            Weights,
            &["../model-00003-of-00003.safetensors", INDEX],
        ),
        (
            "a missing shard",
            "llama_sharded",
            |c| c.remove("model-00002-of-00003.safetensors"),
            Io,
            &["model-00002-of-00003.safetensors"],
        ),
        (
            "a tensor that is not in its shard",
            "llama_sharded",
            |c| {
                c.edit(INDEX, |index| {
                    index["weight_map"]["lm_head.weight"] = json!("model-00001-of-00003.safetensors");
                });
            },
            Weights,
            &["`lm_head.weight`", "model-00001-of-00003.safetensors"],
        ),
        (
            "a truncated file",
            "smolvlm",
            |c| {
                let file = fs::File::options().write(true).open(c.file(WEIGHTS)).unwrap();
                file.set_len(file.metadata().unwrap().len() - 100).unwrap();
            },
            Weights,
            &["source/model.safetensors", "copied in full"],
        ),
        ("no weights", "smolvlm", |c| c.remove(WEIGHTS), Io, &[WEIGHTS]),
        (
            "weights that are packed already",
            "qwen3",
            |c| {
                c.set("", "quantization_config", json!({"quant_method": "gptq", "bits": 4}));
                c.rewrite(|tensors| {
                    for tensor in tensors.iter_mut().filter(|tensor| tensor.name.ends_with("proj.weight")) {
                        tensor.name = tensor.name.replace(".weight", ".qweight");
                    }
                });
            },
            Unsupported,
            &["`quantization_config`", "config.json"],
        ),
    ]);
}

#[test]
fn bits_and_group_sizes_out_of_range_are_refused() {
    let checkpoint = Checkpoint::new(&golden("qwen3"));
    let defaults = ImportOptions::default();
    for (options, option) in [
        (ImportOptions { bits: 3, ..defaults.clone() }, "bits is 3"),
        (ImportOptions { bits: 0, ..defaults.clone() }, "bits is 0"),
        (ImportOptions { encoder_bits: Some(64), ..defaults.clone() }, "encoder-bits is 64"),
        (ImportOptions { embedding_bits: Some(1), ..defaults.clone() }, "embedding-bits is 1"),
        (ImportOptions { group_size: Some(0), ..defaults.clone() }, "group-size is 0"),
        (ImportOptions { group_size: Some(48), ..defaults.clone() }, "group-size is 48"),
        (ImportOptions { merge_adapter: true, ..defaults.clone() }, "merge-adapter"),
    ] {
        let error = checkpoint.import(&options).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Options, "{error}");
        assert!(error.to_string().contains(option), "{option}: {error}");
        assert_eq!(checkpoint.others(), [""; 0], "{option}");
    }
}

#[test]
fn a_destination_that_is_taken_and_a_source_that_is_no_directory_are_refused() {
    let checkpoint = Checkpoint::new(&golden("qwen3"));
    let root = checkpoint.folder.path();
    fs::write(root.join("file"), "kept").unwrap();
    fs::create_dir(root.join("directory")).unwrap();
    #[cfg(unix)]
    std::os::unix::fs::symlink(root.join("nowhere"), root.join("link")).unwrap();
    let before = checkpoint.others();
    let refused = |source: &Path, destination: &Path, kind: ErrorKind, part: &str| {
        let error = import(source, destination, &ImportOptions::default(), &mut |_, _| ()).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert!(error.to_string().contains(part), "{part}: {error}");
        assert_eq!(checkpoint.others(), before, "{part}");
    };
    let source = checkpoint.source();
    for taken in ["file", "directory", "link"].into_iter().filter(|name| cfg!(unix) || *name != "link") {
        refused(&source, &root.join(taken), ErrorKind::Config, taken);
    }
    assert_eq!(fs::read_to_string(root.join("file")).unwrap(), "kept");
    refused(&source, &root.join("no/such/folder"), ErrorKind::Io, "no/such");
    refused(&source, &root.join("file/model"), ErrorKind::Io, "file");
    refused(&checkpoint.file(WEIGHTS), &root.join("new"), ErrorKind::Config, "source/model.safetensors is a file");
    refused(&root.join("nowhere"), &root.join("new"), ErrorKind::Io, "nowhere");
}

#[test]
fn a_model_that_is_packed_already_is_refused() {
    let checkpoint = Checkpoint::new(&golden("qwen3"));
    checkpoint.import(&ImportOptions::default()).unwrap();
    let again = checkpoint.folder.path().join("again");
    let error = import(checkpoint.destination(), &again, &ImportOptions::default(), &mut |_, _| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unsupported, "{error}");
    assert!(error.to_string().contains("`quantization_config`"), "{error}");
    assert!(!again.exists());
}

#[test]
fn progress_counts_every_weight_and_a_late_error_leaves_nothing() {
    let checkpoint = Checkpoint::new(&golden("smolvlm"));
    checkpoint.spoil("model.vision_model.encoder.layers.1.self_attn.v_proj.weight");
    let mut seen = Vec::new();
    let options = ImportOptions::default();
    import(checkpoint.source(), checkpoint.destination(), &options, &mut |done, total| seen.push((done, total)))
        .unwrap_err();
    let &(done, total) = seen.last().unwrap();
    assert_eq!(done, total - 32 * 32, "all but the last matrix");
    assert_eq!(checkpoint.others(), [""; 0]);
}

#[test]
fn numbers_that_sixteen_bits_do_not_hold_are_refused() {
    let checkpoint = Checkpoint::new(&golden("llama"));
    checkpoint.rewrite(|tensors| {
        let tensor = tensors.iter_mut().find(|tensor| tensor.name == "model.layers.0.mlp.up_proj.weight").unwrap();
        tensor.bytes[..4].copy_from_slice(&f32::MAX.to_le_bytes());
    });
    let error = checkpoint.import(&ImportOptions { bits: 16, ..ImportOptions::default() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Weights, "{error}");
    let message = error.to_string();
    assert!(message.contains("`model.layers.0.mlp.up_proj.weight`") && message.contains("16 bits"), "{message}");
    assert_eq!(checkpoint.others(), [""; 0]);
    checkpoint.import(&lossless()).unwrap();
}

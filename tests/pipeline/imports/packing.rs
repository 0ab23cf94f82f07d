//! What packing costs, and what the report says.

use super::*;

#[test]
fn a_model_in_the_form_of_this_engine_is_packed_too_and_lacks_nothing() {
    let checkpoint = Checkpoint::new(&golden("smolvlm"));
    checkpoint.import(&lossless()).unwrap();
    let floats = Checkpoint::new(&checkpoint.destination());
    let report = floats.import(&ImportOptions::default()).unwrap();
    assert_eq!(report.architecture, "OcelliForConditionalGeneration");
    Model::load(floats.destination()).unwrap();
    fs::remove_dir_all(floats.destination()).unwrap();

    floats.rewrite(|tensors| tensors.retain(|tensor| tensor.name != "vision.layers.1.layer_norm1.bias"));
    let error = floats.import(&ImportOptions::default()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Weights, "{error}");
    assert!(error.to_string().contains("`vision.layers.1.layer_norm1.bias`"), "{error}");
    assert_eq!(floats.others(), [""; 0]);
}

/// The norm of the difference over the norm of what is expected.
fn relative_error(found: &[f32], expected: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f32>| values.map(|value| f64::from(value).powi(2)).sum::<f64>().sqrt();
    assert_eq!(found.len(), expected.len());
    norm(&mut found.iter().zip(expected).map(|(found, expected)| found - expected))
        / norm(&mut expected.iter().copied())
}

#[test]
fn packing_changes_the_results_within_bounds() {
    // Family, tensor, bounds at 8 and at 4 bits: one and a half times what was measured.
    let cases = [
        ("smolvlm", "image_tokens", [0.019, 0.15]),
        ("smolvlm", "logits", [0.054, 0.68]),
        ("llava", "image_tokens", [0.028, 0.31]),
        ("llava", "logits", [0.046, 0.45]),
        ("qwen3", "logits", [0.053, 0.58]),
        ("siglip", "pooled", [0.018, 0.23]),
    ];
    let mut wrong = Vec::new();
    for (family, tensor, bounds) in cases {
        let outputs = |bits: u32| {
            let checkpoint = Checkpoint::new(&golden(family));
            let options = ImportOptions {
                bits,
                encoder_bits: Some(bits),
                embedding_bits: Some(bits),
                ..ImportOptions::default()
            };
            checkpoint.import(&options).unwrap();
            let path = traced(family, &checkpoint.destination(), &checkpoint.folder);
            floats(&Weights::open(path).unwrap(), tensor)
        };
        let expected = outputs(32);
        for (bits, bound) in [8, 4].into_iter().zip(bounds) {
            let error = relative_error(&outputs(bits), &expected);
            if error >= bound || error.is_nan() {
                wrong.push(format!("{family}, {tensor}, {bits} bits: {error:.5}, expected less than {bound}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_report_is_that_of_the_file() {
    for family in ["smolvlm", "llava", "qwen3", "siglip", "dinov2_giant"] {
        for bits in [2, 4, 8, 16, 32] {
            let checkpoint = Checkpoint::new(&golden(family));
            let options = ImportOptions {
                bits,
                encoder_bits: Some(bits),
                embedding_bits: Some(bits),
                ..ImportOptions::default()
            };
            let report = checkpoint.import(&options).unwrap();
            let place = format!("{family}, {bits} bits");
            let weights = Weights::open(checkpoint.destination()).unwrap();
            let bytes: usize = weights.names().iter().map(|name| weights.num_bytes(name).unwrap()).sum();
            assert_eq!(report.bytes, bytes as u64, "{place}");

            let mut names: Vec<&str> = report.kinds.iter().map(|kind| kind.name.as_str()).collect();
            names.sort_unstable();
            names.dedup();
            assert_eq!(names.len(), report.kinds.len(), "{place}: {names:?}");
            for kind in &report.kinds {
                assert_eq!(kind.bits, bits, "{place}");
                assert_eq!(kind.group_size, (bits <= 8).then_some(32), "{place}");
                assert!(kind.tensors > 0 && kind.parameters > 0, "{place}: {kind:?}");
                let range = match bits {
                    2 => 0.1..0.5,
                    4 => 0.03..0.12,
                    8 => 1e-3..0.01,
                    16 => 0.0..0.004,
                    _ => 0.0..f64::MIN_POSITIVE,
                };
                assert!(range.contains(&kind.relative_error), "{place}: {kind:?}");
            }
            let layers = report.kinds.iter().find(|kind| kind.name.contains(".*."));
            assert!(layers.unwrap().tensors >= 2, "{place}");
        }
    }
}

#[test]
fn default_bits_are_those_of_their_parts() {
    let checkpoint = Checkpoint::new(&golden("llava"));
    let report = checkpoint.import(&ImportOptions { bits: 4, ..ImportOptions::default() }).unwrap();
    for kind in &report.kinds {
        assert_eq!(kind.bits, if kind.name.starts_with("layers.") { 4 } else { 8 }, "{kind:?}");
    }
}

#[test]
fn sixteen_bits_keep_a_checkpoint_of_sixteen_bits() {
    for family in ["qwen3", "smolvlm", "llava"] {
        let checkpoint = Checkpoint::new(&golden(family));
        let report = checkpoint.import(&ImportOptions { bits: 16, ..ImportOptions::default() }).unwrap();
        assert!(report.kinds.iter().all(|kind| kind.relative_error == 0.0), "{family}: {report:?}");
        let before = read_tensors(&traced(family, &checkpoint.source(), &checkpoint.folder));
        let after = read_tensors(&traced(family, &checkpoint.destination(), &checkpoint.folder));
        assert_same_tensors(&after, &before);
    }
}

#[test]
fn shards_and_one_file_give_the_same_bytes() {
    let (shards, single) = (Checkpoint::new(&golden("llama_sharded")), Checkpoint::new(&golden("llama_sharded")));
    let names: Vec<String> = (1..=3).map(|shard| format!("model-0000{shard}-of-00003.safetensors")).collect();
    let tensors: Vec<Tensor> = names.iter().flat_map(|name| read_tensors(&single.file(name))).collect();
    names.iter().for_each(|name| single.remove(name));
    single.remove(INDEX);
    write_tensors(&single.file(WEIGHTS), &tensors);
    for bits in [4, 16] {
        let options = ImportOptions { bits, ..ImportOptions::default() };
        let [shards_report, single_report] = [&shards, &single].map(|checkpoint| checkpoint.import(&options).unwrap());
        assert_eq!(shards_report, single_report);
        let [from_shards, from_single] =
            [&shards, &single].map(|checkpoint| fs::read(checkpoint.destination().join(WEIGHTS)).unwrap());
        assert!(from_shards == from_single, "{bits} bits");
        [&shards, &single].iter().for_each(|checkpoint| fs::remove_dir_all(checkpoint.destination()).unwrap());
    }
}

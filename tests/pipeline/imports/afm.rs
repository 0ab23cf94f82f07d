//! Checkpoints of `tamm`, with adapters and without.

use super::*;

fn afm() -> Checkpoint {
    Checkpoint::new(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/afm_kvq_lora"))
}

/// The trace of a decoder of the AFM golden case.
fn afm_trace(checkpoint: &Checkpoint, model: &Path) -> Vec<Tensor> {
    let outputs = checkpoint.folder.path().join("outputs.safetensors");
    trace(model, checkpoint.file("inputs.safetensors"), &outputs, TracedLayers::All).unwrap();
    let tensors = read_tensors(&outputs);
    fs::remove_file(outputs).unwrap();
    tensors
}

#[test]
fn an_adapter_stays_beside_an_import_that_does_not_merge_it() {
    let checkpoint = afm();
    let report = checkpoint.import(&lossless()).unwrap();
    assert_eq!(report.architecture, "AFMTextV7");
    let adapter = "adapter.safetensors";
    let [before, after] =
        [checkpoint.file(adapter), checkpoint.destination().join(adapter)].map(|path| fs::read(path).unwrap());
    assert_eq!(before, after);
    let before = afm_trace(&checkpoint, &checkpoint.source());
    assert!(before.iter().any(|tensor| tensor.name == "without_adapter.logits"));
    assert_same_tensors(&afm_trace(&checkpoint, &checkpoint.destination()), &before);
}

#[test]
fn a_merged_adapter_computes_what_it_does_beside_the_weights() {
    for (name, change) in [("fused", None), ("unfused", Some(unfuse as fn(&mut Vec<Tensor>)))] {
        for without_first_part in [false, true] {
            let checkpoint = afm();
            if let Some(change) = change {
                checkpoint.rewrite(change);
            }
            if without_first_part {
                // An adapter of keys and values alone.
                let path = checkpoint.file("adapter.safetensors");
                let mut tensors = read_tensors(&path);
                let num_tensors = tensors.len();
                tensors.retain(|tensor| !tensor.name.contains(".lora_0."));
                assert!(tensors.len() < num_tensors);
                write_tensors(&path, &tensors);
            }
            checkpoint.import(&ImportOptions { merge_adapter: true, ..lossless() }).unwrap();
            assert!(!checkpoint.destination().join("adapter.safetensors").exists());
            let logits = |model: &Path| {
                let tensors = afm_trace(&checkpoint, model);
                let logits = tensors.into_iter().find(|tensor| tensor.name == "logits").unwrap();
                let values = logits.bytes.as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes));
                values.collect::<Vec<f32>>()
            };
            let (found, expected) = (logits(&checkpoint.destination()), logits(&checkpoint.source()));
            let largest = expected.iter().fold(0.0_f32, |largest, value| largest.max(value.abs()));
            for (found, expected) in found.iter().zip(&expected) {
                let difference = (found - expected).abs();
                assert!(difference <= 1e-5 * largest, "{name}: {found}, expected {expected} (largest {largest})");
            }
        }
    }
}

/// Names of a checkpoint that is prepared for adapters, with queries, keys and values apart.
fn unfuse(tensors: &mut Vec<Tensor>) {
    for tensor in std::mem::take(tensors) {
        if let Some(module) = tensor.name.strip_suffix(".fused_linear.weight") {
            // 4 heads of queries, 1 of keys and 1 of values, each of 4 rows.
            let mut rest = tensor.bytes.as_slice();
            for (part, rows) in [16, 4, 4].into_iter().enumerate() {
                let (head, tail) = rest.split_at(rows * tensor.shape[1] * size_of::<f32>());
                let (name, shape) = (format!("{module}.wrapped.linear_{part}.weight"), vec![rows, tensor.shape[1]]);
                tensors.push(Tensor { name, dtype: tensor.dtype, shape, bytes: head.to_vec() });
                rest = tail;
            }
            continue;
        }
        let is_linear =
            ["transform.weight", "linear_0.weight", "linear_1.weight"].iter().any(|end| tensor.name.ends_with(end));
        let name = if is_linear { tensor.name.replace(".weight", ".wrapped.weight") } else { tensor.name };
        tensors.push(Tensor { name, ..tensor });
    }
}

#[test]
fn wrapped_names_and_unfused_projections_are_imported() {
    let checkpoint = afm();
    checkpoint.rewrite(unfuse);
    checkpoint.import(&lossless()).unwrap();
    let before = afm_trace(&checkpoint, &checkpoint.source());
    assert_same_tensors(&afm_trace(&checkpoint, &checkpoint.destination()), &before);

    // Packed, it is read as well.
    fs::remove_dir_all(checkpoint.destination()).unwrap();
    checkpoint.import(&ImportOptions { bits: 4, ..ImportOptions::default() }).unwrap();
    assert_eq!(afm_trace(&checkpoint, &checkpoint.destination()).len(), before.len());
}

#[test]
fn a_broken_tamm_checkpoint_or_adapter_is_refused_by_the_tensor() {
    const LORA: &str = "adapter.safetensors";
    const A: &str = "layers.segment_0.layer_0.attention.output_transform.adapters.base_adapter.a_transpose";
    type Change = fn(&mut Vec<Tensor>);
    let cases: [(&str, &str, Change); 7] = [
        (LORA, "output_transform", |tensors| {
            let b = A.replace("a_transpose", "b_transpose");
            let tensor = tensors.iter_mut().find(|tensor| tensor.name == b).unwrap();
            (tensor.shape, tensor.bytes) = (vec![3, 8], tensor.bytes[..96].to_vec());
        }),
        (LORA, "lora_2", |tensors| {
            let tensor = tensors.iter_mut().find(|tensor| tensor.name.contains("lora_2.b_transpose")).unwrap();
            (tensor.shape, tensor.bytes) = (vec![3, 2], tensor.bytes[..24].to_vec());
        }),
        (WEIGHTS, "output_norm.weight", |tensors| tensors.retain(|tensor| tensor.name != "output_norm.weight")),
        (WEIGHTS, "output_norm.weight", |tensors| {
            tensors.iter_mut().find(|tensor| tensor.name == "output_norm.weight").unwrap().shape = vec![4, 4];
        }),
        (LORA, "a_transpose", |tensors| tensors.retain(|tensor| tensor.name != A)),
        (LORA, "layer_9", |tensors| {
            tensors.iter_mut().for_each(|tensor| tensor.name = tensor.name.replace("layer_0", "layer_9"));
        }),
        (LORA, "a_transpose", |tensors| {
            let tensor = tensors.iter_mut().find(|tensor| tensor.name == A).unwrap();
            tensor.bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes());
        }),
    ];
    for (file, expected, change) in cases {
        for merge_adapter in [false, true] {
            let checkpoint = afm();
            let mut tensors = read_tensors(&checkpoint.file(file));
            change(&mut tensors);
            write_tensors(&checkpoint.file(file), &tensors);
            let Err(error) = checkpoint.import(&ImportOptions { merge_adapter, ..lossless() }) else {
                panic!("{file}, {expected}, merge_adapter {merge_adapter}: imported");
            };
            assert_eq!(error.kind(), ErrorKind::Weights, "{error}");
            assert!(error.to_string().contains(expected), "{expected}: {error}");
            assert_eq!(checkpoint.others(), [""; 0], "{expected}");
        }
    }
}

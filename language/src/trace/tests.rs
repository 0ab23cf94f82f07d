use std::path::{Path, PathBuf};

use safetensors::{Dtype, SafeTensors};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;
use crate::ErrorKind;

/// Largest difference over largest value of a tensor. `tamm` itself is within 7e-6 of float64, and so is an f32 implementation.
const TOLERANCE: f32 = 3e-5;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = tensors.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
    tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// Traces the model of a directory.
fn trace_dir(model_dir: &Path) -> Result<WeightsWriter> {
    let config: Value = serde_json::from_slice(&std::fs::read(model_dir.join("config.json")).unwrap()).unwrap();
    let config = TextConfig::from_config_json(&config)?;
    let adapter = model_dir.join("adapter.safetensors");
    let lora = if adapter.exists() { Some(Weights::open(adapter)?) } else { None };
    let inputs = TraceInputs::read(&model_dir.join("inputs.safetensors"), &config)?;
    let mut outputs = WeightsWriter::new();
    let weights = Weights::open(model_dir)?;
    trace(&weights, &config, lora.as_ref(), &inputs, None, TracedLayers::All, &mut outputs)?;
    Ok(outputs)
}

/// Traces a model and compares every tensor that was expected; gives their number.
fn check(model_dir: &Path) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let found_path = directory.path().join("found.safetensors");
    trace_dir(model_dir).unwrap().write(&found_path).unwrap();
    let [found, expected] =
        [found_path, model_dir.join("expected.safetensors")].map(|path| std::fs::read(path).unwrap());
    let [found, expected] = [&found, &expected].map(|bytes| SafeTensors::deserialize(bytes).unwrap());
    for name in expected.names() {
        let place = format!("{name} of {}", model_dir.display());
        let shapes = [&found, &expected].map(|tensors| tensors.tensor(name).unwrap().shape().to_vec());
        assert_eq!(shapes[0], shapes[1], "{place}");
        if name == "greedy.tokens" {
            assert_eq!(found.tensor(name).unwrap().data(), expected.tensor(name).unwrap().data(), "{place}");
            continue;
        }
        let (found, expected) = (floats(&found, name), floats(&expected, name));
        let largest = expected.iter().fold(0f32, |largest, value| largest.max(value.abs()));
        for (index, (found, expected)) in found.iter().zip(&expected).enumerate() {
            let difference = (found - expected).abs();
            assert!(difference <= TOLERANCE * largest, "{place}, element {index}: {found}, expected {expected}");
        }
    }
    expected.names().len()
}

#[test]
fn traces_agree_with_tamm_on_every_tensor() {
    let entries = std::fs::read_dir(golden_dir()).unwrap().map(|entry| entry.unwrap().path());
    let is_afm = |path: &PathBuf| path.file_name().unwrap().to_string_lossy().starts_with("afm_");
    let mut cases: Vec<PathBuf> = entries.filter(is_afm).collect();
    cases.sort();
    let counts: Vec<usize> = cases.iter().map(|case| check(case)).collect();
    // 16 tensors each; the first case has an adapter, and the logits without it.
    assert_eq!(counts, [17, 16, 16], "{cases:?}");
}

/// A copy of a golden case that a test may change.
fn copy(case: &str) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for entry in std::fs::read_dir(golden_dir().join(case)).unwrap() {
        let path = entry.unwrap().path();
        std::fs::copy(&path, directory.path().join(path.file_name().unwrap())).unwrap();
    }
    directory
}

type Tensors = Vec<(String, Vec<usize>, Vec<f32>)>;

/// Writes an f32 file of a case again, changed.
fn rewrite(path: &Path, change: impl FnOnce(&mut Tensors)) {
    let bytes = std::fs::read(path).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let mut list: Tensors = tensors
        .tensors()
        .iter()
        .map(|(name, tensor)| (name.clone(), tensor.shape().to_vec(), floats(&tensors, name)))
        .collect();
    change(&mut list);
    let mut writer = WeightsWriter::new();
    for (name, shape, values) in list {
        writer.f32(&name, &shape, &values).unwrap();
    }
    writer.write(path).unwrap();
}

#[test]
fn wrapped_names_unfused_projections_and_an_alias_of_the_head_are_read() {
    let directory = copy("afm_kvq_lora");
    rewrite(&directory.path().join("model.safetensors"), |tensors| {
        for (name, shape, values) in std::mem::take(tensors) {
            if name == "embedding.weight" {
                tensors.push(("output_transform.weight".into(), shape.clone(), values.clone()));
            }
            if let Some(module) = name.strip_suffix(".fused_linear.weight") {
                // 4 heads of queries, 1 of keys and 1 of values, each of 4 rows.
                let mut rest = values.as_slice();
                for (part, rows) in [16, 4, 4].into_iter().enumerate() {
                    let (head, tail) = rest.split_at(rows * shape[1]);
                    tensors.push((
                        format!("{module}.wrapped.linear_{part}.weight"),
                        vec![rows, shape[1]],
                        head.to_vec(),
                    ));
                    rest = tail;
                }
                continue;
            }
            let is_linear =
                ["transform.weight", "linear_0.weight", "linear_1.weight"].iter().any(|end| name.ends_with(end));
            let name = if is_linear { name.replace(".weight", ".wrapped.weight") } else { name };
            tensors.push((name, shape, values));
        }
    });
    assert_eq!(check(directory.path()), 17);
}

fn refusal(model_dir: &Path) -> Error {
    match trace_dir(model_dir) {
        Err(error) => error,
        Ok(_) => panic!("a trace of {}, expected an error", model_dir.display()),
    }
}

#[test]
fn another_family_is_refused_by_name() {
    let directory = copy("afm_noreuse");
    std::fs::write(directory.path().join("config.json"), json!({"family": "pt_moe", "vocab_size": 64}).to_string())
        .unwrap();
    let error = refusal(directory.path());
    assert_eq!(error.kind(), ErrorKind::Unsupported);
    assert!(error.to_string().contains("\"pt_moe\"") && error.to_string().contains("afm_text_v7"), "{error}");
}

#[test]
fn broken_adapters_are_errors_that_name_the_tensor() {
    const A: &str = "layers.segment_0.layer_0.attention.output_transform.adapters.base_adapter.a_transpose";
    type Change = fn(&mut Tensors);
    fn find(tensors: &mut Tensors) -> &mut (String, Vec<usize>, Vec<f32>) {
        tensors.iter_mut().find(|(name, ..)| name == A).unwrap()
    }
    let cases: [(&str, Change); 8] = [
        ("layer_9", |tensors| tensors.iter_mut().for_each(|(name, ..)| *name = name.replace("layer_0", "layer_9"))),
        ("a_transpose", |tensors| find(tensors).0 = A.replace("layer_0", "layer_9")),
        ("a_transpose", |tensors| find(tensors).2[5] = f32::NAN),
        ("a_transpose", |tensors| find(tensors).1 = vec![3, 16]),
        ("a_transpose", |tensors| find(tensors).1 = vec![48]),
        ("a_transpose", |tensors| tensors.retain(|(name, ..)| name != A)),
        ("two adapters", |tensors| find(tensors).0 = A.replace("base_adapter", "other")),
        ("MODULE", Vec::clear),
    ];
    for (expected, change) in cases {
        let directory = copy("afm_kvq_lora");
        rewrite(&directory.path().join("adapter.safetensors"), change);
        let error = refusal(directory.path());
        assert!(error.to_string().contains(expected), "{expected}: {error}");
        assert!(error.to_string().contains("adapter"), "{error}");
    }
}

#[test]
fn static_ranges_without_width_are_refused() {
    for range in [[0.0, 0.0], [f32::NAN, 1.0], [1.0, f32::INFINITY], [1.0, -1.0]] {
        let directory = copy("afm_kvq_lora");
        rewrite(&directory.path().join("model.safetensors"), |tensors| {
            tensors
                .iter_mut()
                .find(|(name, ..)| name.ends_with("value_quantizer.activation_post_process.range"))
                .unwrap()
                .2 = range.to_vec();
        });
        let error = refusal(directory.path());
        assert!(error.to_string().contains("value_quantizer"), "{range:?}: {error}");
    }
}

/// Writes inputs of these i64 vectors, and f32 embeddings if given.
fn write_inputs(path: &Path, vectors: &[(&str, &[i64])], embeddings: Option<[usize; 2]>) {
    let mut writer = WeightsWriter::new();
    for (name, values) in vectors {
        writer.i64(name, &[values.len()], values).unwrap();
    }
    if let Some([rows, columns]) = embeddings {
        writer.f32("embeddings_in", &[rows, columns], &vec![0.5; rows * columns]).unwrap();
    }
    writer.write(path).unwrap();
}

#[test]
fn token_ids_are_enough() {
    let directory = copy("afm_noreuse");
    write_inputs(&directory.path().join("inputs.safetensors"), &[("token_ids", &[3])], None);
    trace_dir(directory.path()).unwrap();
}

#[test]
fn broken_inputs_are_errors_that_name_the_tensor() {
    let ids: (&str, &[i64]) = ("token_ids", &[1, 2, 3]);
    type Case<'a> = (&'a str, Vec<(&'a str, &'a [i64])>, Option<[usize; 2]>);
    let cases: [Case<'_>; 13] = [
        ("token_ids", vec![], None),
        ("token_ids", vec![("token_ids", &[])], None),
        ("token_ids", vec![("token_ids", &[36])], None), // the vocabulary has 36
        ("token_ids", vec![("token_ids", &[-1])], None),
        ("chunks", vec![ids, ("chunks", &[2])], None),
        ("chunks", vec![ids, ("chunks", &[4, -1])], None),
        ("chunks", vec![ids, ("chunks", &[3, 0])], None),
        ("chunks", vec![ids, ("chunks", &[i64::MAX, i64::MAX])], None),
        ("packed.segment_ids", vec![ids, ("packed.segment_ids", &[1])], None),
        ("rope.positions", vec![ids, ("rope.positions", &[1 << 40])], None),
        ("greedy.num_tokens", vec![ids, ("greedy.num_tokens", &[0])], None),
        ("embeddings_in", vec![ids], Some([3, 11])),
        ("embeddings_in", vec![ids, ("embeddings_in", &[1])], None),
    ];
    for (tensor, vectors, embeddings) in cases {
        let directory = copy("afm_noreuse");
        write_inputs(&directory.path().join("inputs.safetensors"), &vectors, embeddings);
        let error = refusal(directory.path());
        assert!(error.to_string().contains(&format!("tensor `{tensor}` in ")), "{vectors:?}: {error}");
    }
}

#[test]
fn files_that_are_missing_cut_or_no_files_are_errors_that_name_them() {
    for name in ["model.safetensors", "inputs.safetensors"] {
        for what in ["missing", "empty", "cut", "directory"] {
            let directory = copy("afm_noreuse");
            let path = directory.path().join(name);
            let bytes = std::fs::read(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            match what {
                "empty" => std::fs::write(&path, "").unwrap(),
                "cut" => std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap(),
                "directory" => std::fs::create_dir(&path).unwrap(),
                _ => (),
            }
            let message = refusal(directory.path()).to_string();
            assert!(message.contains(name), "{name} {what}: {message}");
        }
    }
}

//! The decoder against goldens made by Apple's `tamm` 0.2.0 (`training/goldens/make_afm.py`).

use std::path::{Path, PathBuf};

use ocelli_language::trace;
use safetensors::{Dtype, SafeTensors};

/// Largest difference over largest value of a tensor. `tamm` itself is within 7e-6 of float64, so is an f32 implementation.
const TOLERANCE: f32 = 3e-5;

fn golden_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

fn floats(tensors: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = tensors.tensor(name).unwrap();
    assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
    tensor.data().as_chunks().0.iter().map(|&bytes| f32::from_le_bytes(bytes)).collect()
}

/// Traces a case and compares every tensor that was expected; gives their number.
fn check(case: &Path) -> usize {
    let directory = tempfile::tempdir().unwrap();
    let found_path = directory.path().join("found.safetensors");
    trace(case, &case.join("inputs.safetensors")).unwrap().write(&found_path).unwrap();
    let (found, expected) = (std::fs::read(found_path).unwrap(), std::fs::read(case.join("expected.safetensors")).unwrap());
    let (found, expected) = (SafeTensors::deserialize(&found).unwrap(), SafeTensors::deserialize(&expected).unwrap());
    for name in expected.names() {
        let place = format!("{name} of {}", case.display());
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
            assert!(difference <= TOLERANCE * largest, "{place}, element {index}: {found}, expected {expected} (of {largest})");
        }
    }
    expected.names().len()
}

#[test]
fn traces_agree_with_tamm_on_every_tensor() {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(golden_dir())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.file_name().unwrap().to_string_lossy().starts_with("afm_"))
        .collect();
    cases.sort();
    let counts: Vec<usize> = cases.iter().map(|case| check(case)).collect();
    // 16 tensors each; the case with an adapter has the logits without it as well.
    assert_eq!(counts, [17, 16, 16], "{cases:?}");
}

//! `ocelli trace` against the golden files of `tamm` that are in the repository.

use std::fs;
use std::path::{Path, PathBuf};

use safetensors::SafeTensors;

use crate::run::ocelli;

/// SEMANTICS: a float32 implementation is within this of the largest value of a tensor.
const TOLERANCE: f64 = 3e-5;

#[test]
fn a_trace_agrees_with_tamm() {
    for case in ["afm_reuse", "afm_noreuse", "afm_kvq_lora"] {
        compare(&PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden")).join(case));
    }
}

/// Traces the model in `golden` and compares what came out with what is expected there.
fn compare(golden: &Path) {
    let folder = tempfile::tempdir().unwrap();
    let outputs = folder.path().join("outputs.safetensors");
    let arguments = [
        "trace".into(),
        "--model".into(),
        golden.to_owned(),
        "--inputs".into(),
        golden.join("inputs.safetensors"),
        "--outputs".into(),
        outputs.clone(),
    ];
    ocelli(arguments).run().success();

    let (expected, found) = (fs::read(golden.join("expected.safetensors")).unwrap(), fs::read(outputs).unwrap());
    let (expected, found) = (SafeTensors::deserialize(&expected).unwrap(), SafeTensors::deserialize(&found).unwrap());
    for name in ["logits", "embeddings_in.logits", "chunked.last_logits", "greedy.logits"] {
        let (expected, found) = (expected.tensor(name).unwrap(), found.tensor(name).unwrap());
        assert_eq!(found.shape(), expected.shape(), "{name} of {golden:?}");
        let values = |bytes: &[u8]| -> Vec<f64> {
            bytes.as_chunks().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
        };
        let (expected, found) = (values(expected.data()), values(found.data()));
        let largest = expected.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        for (index, (expected, found)) in expected.iter().zip(&found).enumerate() {
            assert!(
                (expected - found).abs() <= TOLERANCE * largest,
                "{name}[{index}] of {golden:?}: {found}, expected {expected}"
            );
        }
    }
    let tokens = |tensors: &SafeTensors<'_>| tensors.tensor("greedy.tokens").unwrap().data().to_vec();
    assert_eq!(tokens(&found), tokens(&expected));
}

#[test]
fn a_trace_of_nothing_names_the_file() {
    let message =
        ocelli(["trace", "--model", "no/model", "--inputs", "no/inputs", "--outputs", "out"]).run().failure(1);
    assert!(message.contains("no/model"), "{message}");
}

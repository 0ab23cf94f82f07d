//! `ocelli import` and what follows it, with the tiny checkpoints of `tests/golden/hf`. Their weights are random: what they say makes no sense.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::assert_redacted;
use crate::run::ocelli;

fn golden(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/golden/hf")).join(name)
}

fn picture() -> PathBuf {
    golden("pictures").join("small.png")
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// `ocelli` with arguments of either kind.
macro_rules! run {
    ($($argument:expr),* $(,)?) => {
        ocelli([$(String::from($argument)),*]).run()
    };
}

#[test]
fn a_checkpoint_is_imported_inspected_and_asked() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("smol");
    let import = run!("import", text(&golden("smolvlm")), text(&model), "--bits", "4", "--quiet").success();
    assert_redacted!("ocelli import smolvlm smol --bits 4", import);
    assert_redacted!("ocelli inspect smol", run!("inspect", text(&model)).success());
    let card = fs::read_to_string(model.join("README.md")).unwrap();
    assert!(card.contains("`SmolVLMForConditionalGeneration` checkpoint"), "{card}");
    for mode in ["rapid", "balanced", "high"] {
        let caption: Value = serde_json::from_str(
            &run!("caption", "--model", text(&model), text(&picture()), "--mode", mode, "-n", "4", "--format", "json")
                .success(),
        )
        .unwrap();
        assert_eq!(caption["views"], if mode == "high" { 17 } else { 1 }, "{mode}");
        assert_eq!(caption["model"], "smol");
    }
    // A directory that is there is not written over.
    let again = run!("import", text(&golden("smolvlm")), text(&model)).failure(1);
    assert!(again.contains("there already"), "{again}");
}

#[test]
fn a_checkpoint_is_used_without_an_import() {
    let caption: Value = serde_json::from_str(
        &run!("caption", "--model", text(&golden("llava")), text(&picture()), "-n", "4", "--format", "json").success(),
    )
    .unwrap();
    assert_eq!((&caption["views"], &caption["image_tokens"]), (&Value::from(1), &Value::from(64)));
    let error = run!("caption", "--model", text(&golden("llava")), text(&picture()), "--mode", "rapid");
    assert_eq!(error.code, Some(1));
    assert!(error.stderr.contains("balanced"), "{}", error.stderr);
}

#[test]
fn a_decoder_alone_answers_texts_and_refuses_pictures() {
    let model = golden("qwen3");
    let answer = run!("ask", "--model", text(&model), "What is the sea?", "-n", "4").success();
    assert!(answer.ends_with('\n'), "{answer:?}");
    assert_redacted!("ocelli inspect qwen3", run!("inspect", text(&model)).success());
    let refused = run!("ask", "--model", text(&model), text(&picture()), "What is it?").failure(1);
    assert!(refused.contains("model qwen3 has no vision encoder"), "{refused}");
}

#[test]
fn pictures_are_embedded_as_json_and_as_an_array() {
    let (model, missing) = (golden("clip"), golden("pictures").join("missing.png"));
    let small = picture();
    let lines = run!("embed", "--model", text(&model), text(&small), text(&small)).success();
    let records: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(records.len(), 2);
    assert_eq!((&records[0]["model"], &records[0]["embedding"]), (&Value::from("clip"), &records[1]["embedding"]));
    assert_eq!(records[0]["embedding"].as_array().unwrap().len(), 20);

    let folder = tempfile::tempdir().unwrap();
    let array = folder.path().join("vectors.npy");
    assert_eq!(
        run!("embed", "--model", text(&model), text(&small), "--format", "npy", "-o", text(&array)).success(),
        ""
    );
    let bytes = fs::read(&array).unwrap();
    assert!(bytes.starts_with(b"\x93NUMPY") && bytes.len() == 128 + 20 * 4, "{} bytes", bytes.len());
    let first = f64::from(f32::from_le_bytes(bytes[128..132].try_into().unwrap()));
    assert!((first - records[0]["embedding"][0].as_f64().unwrap()).abs() < 1e-6);

    // One bad picture does not stop the others.
    let finished = run!("embed", "--model", text(&model), text(&missing), text(&small));
    assert_eq!((finished.code, finished.stdout.lines().count()), (Some(1), 2), "{}", finished.stderr);
    assert_redacted!("ocelli inspect clip", run!("inspect", text(&model)).success());
    // An encoder alone writes no captions.
    let refused = run!("caption", "--model", text(&model), text(&small)).failure(1);
    assert!(refused.contains("no decoder") && refused.contains("ocelli embed"), "{refused}");
}

#[test]
fn numbers_of_bits_that_are_not_there_are_wrong_usage() {
    for (option, value) in [("--bits", "3"), ("--group-size", "48"), ("--encoder-bits", "0"), ("--embedding-bits", "x")]
    {
        let finished = run!("import", "a", "b", option, value);
        assert_eq!(finished.code, Some(2), "{option} {value}");
        assert!(finished.stderr.contains("expected "), "{}", finished.stderr);
    }
}

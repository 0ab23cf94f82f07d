//! What a run prints, in each format. The model is a tiny one with random weights: its words are not looked at.

use serde_json::Value;

use crate::assert_redacted;
use crate::pictures::{Folder, picture};
use crate::run::{Ocelli, ocelli};
use crate::support::TinyModel;

fn with_model(arguments: &[&str], model: &TinyModel) -> Ocelli {
    let arguments = arguments.iter().map(ToString::to_string);
    ocelli(arguments.chain(["--model".to_owned(), model.path().to_str().unwrap().to_owned()]))
        .call(model.path(), "[MODEL]")
        .call(model.path().file_name().unwrap().as_ref(), "[MODEL]")
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

#[test]
fn json_has_the_promised_fields() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let path = folder.png("a.png");
    let path = path.to_str().unwrap();
    let stdout =
        with_model(&["caption", path, "--format", "json", "--mode", "high", "-n", "3"], &model).run().success();
    let object: Value = serde_json::from_str(&stdout).unwrap();
    let mut fields = keys(&object);
    fields.sort_unstable();
    let mut expected = [
        "path",
        "caption",
        "sha256",
        "prompt",
        "length",
        "version",
        "mode",
        "views",
        "image_tokens",
        "prompt_tokens",
        "generated_tokens",
        "finish_reason",
        "model",
        "timings_ms",
    ];
    expected.sort_unstable();
    assert_eq!(fields, expected);
    let mut timings = keys(&object["timings_ms"]);
    timings.sort_unstable();
    assert_eq!(timings, ["adapt", "decode", "encode", "generate", "prefill", "preprocess", "total"]);
    assert_eq!(object["path"], path);
    assert_eq!(object["mode"], "high");
    assert_eq!(object["views"], 5);
    assert_eq!(object["image_tokens"], 720);
    let sum: f64 =
        timings.iter().filter(|name| **name != "total").map(|name| object["timings_ms"][name].as_f64().unwrap()).sum();
    let total = object["timings_ms"]["total"].as_f64().unwrap();
    assert!((sum - total).abs() < 0.01, "{sum} {total}");
}

#[test]
fn several_pictures_as_json_are_one_list_even_when_all_fail() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let (good, bad) = (folder.png("good.png"), folder.path().join("bad.png"));
    let paths = [good.to_str().unwrap(), bad.to_str().unwrap()];
    let finished = with_model(&["caption", paths[0], paths[1], "--format", "json", "--mode", "rapid"], &model).run();
    assert_eq!(finished.code, Some(1));
    let list: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(list.len(), 2);
    assert_eq!(keys(&list[1]), ["error", "path"]);
    assert_eq!(keys(&list[1]["error"]), ["kind", "message"]);

    let finished = with_model(&["caption", paths[1], paths[1], "--format", "json"], &model).run();
    let list: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!((finished.code, list.len()), (Some(1), 2));
}

#[test]
fn one_picture_is_its_caption_and_several_have_their_paths() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let (a, b) = (folder.png("a.png"), folder.png("b.png"));
    let (a, b) = (a.to_str().unwrap(), b.to_str().unwrap());
    let caption = with_model(&["caption", a, "--mode", "rapid"], &model).run().success();
    let lines = with_model(&["caption", a, b, "--mode", "rapid"], &model).run().success();
    assert_eq!(lines, format!("{a}: {caption}{b}: {caption}"));
    let json = with_model(&["caption", a, "--mode", "rapid", "--format", "jsonl"], &model).run().success();
    let object: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(object["caption"].as_str().unwrap(), caption.strip_suffix('\n').unwrap());
}

#[test]
fn an_answer_is_text_or_one_object() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let (a, b) = (folder.png("a.png"), folder.png("b.png"));
    let arguments = ["ask", a.to_str().unwrap(), b.to_str().unwrap(), "Same?", "--mode", "rapid", "-n", "4"];
    let text = with_model(&arguments, &model).run().success();
    let json = with_model(&[&arguments[..], &["--format", "json"]].concat(), &model).run().success();
    let object: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(format!("{}\n", object["answer"].as_str().unwrap()), text);
    assert_eq!(object["question"], "Same?");
    assert_eq!(object["paths"].as_array().unwrap().len(), 2);
    assert_eq!((object["views"].as_u64(), object["image_tokens"].as_u64()), (Some(2), Some(18)));
}

#[test]
fn verbose_speaks_on_standard_error_alone() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let a = folder.png("a.png");
    let arguments = ["caption", a.to_str().unwrap(), "--mode", "rapid", "--format", "json"];
    let finished = with_model(&[&arguments[..], &["-vv"]].concat(), &model).run();
    assert_eq!(finished.code, Some(0));
    serde_json::from_str::<Value>(&finished.stdout).unwrap();
    assert!(finished.stderr.contains("model loaded name="), "{}", finished.stderr);
    assert!(finished.stderr.contains("9 image tokens"), "{}", finished.stderr);
    assert!(!finished.stderr.contains('\x1b'), "colours belong on terminals: {}", finished.stderr);
}

#[test]
fn a_model_is_described() {
    let model = TinyModel::new();
    assert_redacted!("ocelli inspect MODEL", with_model(&["inspect"], &model).run().success());
    let json = with_model(&["inspect", "--format", "json"], &model).run().success();
    let report: Value = serde_json::from_str(&json).unwrap();
    let file_bytes = std::fs::metadata(model.file("model.safetensors")).unwrap().len();
    let tensor_bytes = report["total"]["bytes"].as_u64().unwrap();
    assert!(tensor_bytes < file_bytes && tensor_bytes + 20_000 > file_bytes, "{tensor_bytes} of {file_bytes}");
    // By hand: 2 layers with keys and values, one KV head, two rows of 16 codes and a scale of 4 bytes each.
    assert_eq!(report["kv_cache"]["bytes_per_token"], 2 * 2 * (16 + 4));
}

#[test]
fn preprocessing_of_a_picture_is_described() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let path = folder.write("wide.jpg", picture(300, 100, image::ImageFormat::Jpeg));
    let stdout =
        with_model(&["inspect", path.to_str().unwrap()], &model).call(folder.path(), "[FOLDER]").run().success();
    assert_redacted!("ocelli inspect PICTURE", stdout);
    let json = with_model(&["inspect", path.to_str().unwrap(), "--format", "json"], &model).run().success();
    let report: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(report["modes"][2]["image_tokens"], 720);
}

//! Files from strangers: each ends in a message and exit code 1, quickly and in little memory (see [`crate::run`] for the limits).

use std::fs::File;
use std::path::Path;

use image::ImageFormat;

use crate::assert_redacted;
use crate::pictures::{Folder, picture, png_header};
use crate::run::ocelli;
use crate::support::TinyModel;

/// A snapshot of the message about a picture.
#[track_caller]
fn refused(folder: &Folder, path: &Path, name: &str) {
    let message = ocelli(["caption".as_ref(), path]).call(folder.path(), "[FOLDER]").run().failure(1);
    insta::with_settings!({snapshot_suffix => name}, { assert_redacted!(name, message) });
}

#[test]
fn pictures_that_cannot_be_read_are_refused() {
    let folder = Folder::new();
    refused(&folder, &folder.path().join("missing.png"), "missing");
    refused(&folder, &folder.write("empty.png", ""), "empty");
    refused(&folder, &folder.write("text.png", "This is no picture.\n"), "text");
    refused(&folder, &folder.write("phone.heic", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"), "heic");
    refused(&folder, &folder.write("zero.png", png_header(0, 0)), "zero-by-zero");
    refused(&folder, &folder.write("bomb.png", png_header(60_000, 60_000)), "bomb");
    refused(&folder, &folder.write("endless.png", png_header(u32::MAX >> 1, 1)), "endless-row");
    let png = picture(200, 100, ImageFormat::Png);
    refused(&folder, &folder.write("half.png", &png[..png.len() / 2]), "half-a-png");
    let jpeg = picture(200, 100, ImageFormat::Jpeg);
    refused(&folder, &folder.write("half.jpg", &jpeg[..jpeg.len() / 2]), "half-a-jpeg");
    refused(&folder, &folder.write("header.gif", b"GIF89a"), "half-a-gif-header");
}

#[test]
fn a_sparse_file_of_many_gigabytes_is_refused_by_its_length() {
    let folder = Folder::new();
    let path = folder.write("large.png", png_header(8, 8));
    File::options().write(true).open(&path).unwrap().set_len(50 << 30).unwrap();
    refused(&folder, &path, "large-file");
}

#[test]
fn endless_standard_input_is_refused_at_the_limit() {
    let message = ocelli(["caption", "-"]).stdin(vec![0xff; 401 << 20]).run().failure(1);
    assert!(message.contains("standard input has too many bytes"), "{message}");
}

#[cfg(unix)]
#[test]
fn a_pipe_is_refused_without_waiting_for_it() {
    let folder = Folder::new();
    let path = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&path).status().unwrap().success());
    refused(&folder, &path, "pipe");
    refused(&folder, Path::new("/dev/zero"), "device");
}

/// A snapshot of the message about a model directory.
#[track_caller]
fn model_refused(model: &TinyModel, name: &str) {
    let message =
        ocelli(["inspect".as_ref(), "--model".as_ref(), model.path()]).call(model.path(), "[MODEL]").run().failure(1);
    insta::with_settings!({snapshot_suffix => name}, { assert_redacted!(name, message) });
}

#[test]
fn a_model_directory_that_is_not_one_is_refused() {
    let folder = Folder::new();
    let file = folder.png("a.png");
    for (path, name) in
        [(folder.path().join("missing"), "missing"), (file, "a-file"), (folder.path().to_owned(), "empty")]
    {
        let arguments = ["inspect".as_ref(), "--model".as_ref(), path.as_path()];
        let message = ocelli(arguments).call(folder.path(), "[FOLDER]").run().failure(1);
        insta::with_settings!({snapshot_suffix => name}, { assert_redacted!(name, message) });
    }
}

#[test]
fn weights_that_are_cut_or_hostile_are_refused() {
    let model = TinyModel::new();
    let weights = std::fs::read(model.file("model.safetensors")).unwrap();
    model.write("model.safetensors", &weights[..weights.len() / 2]);
    model_refused(&model, "half");
    model.write("model.safetensors", "");
    model_refused(&model, "empty");
    model.write("model.safetensors", u64::MAX.to_le_bytes());
    model_refused(&model, "endless-header");
    let header = r#"{"embedding.weight":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}}"#;
    model.write("model.safetensors", [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &[0; 4]].concat());
    model_refused(&model, "overflowing-shape");
}

#[test]
fn a_configuration_that_disagrees_with_the_weights_is_refused() {
    let model = TinyModel::new();
    model.set("config.json", "/text_config/hidden_size", 64.into());
    model_refused(&model, "hidden-size");
    let model = TinyModel::new();
    model.set("config.json", "/vision_config/num_hidden_layers", 3.into());
    model_refused(&model, "missing-layer");
    let model = TinyModel::new();
    model.set("config.json", "/quantization_config/parts/2/bits", 4.into());
    model_refused(&model, "bits");
    let model = TinyModel::new();
    model.set("config.json", "/vision_config/patch_size", "28".into());
    model_refused(&model, "wrong-type");
}

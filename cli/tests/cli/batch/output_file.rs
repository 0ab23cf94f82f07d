//! `--output`: what is done with a file that is there, and what is written into a new one.

use std::fs::{self, File};
use std::path::Path;

use super::records::{objects, records};
use super::{caption, names};
use crate::assert_redacted;
use crate::pictures::Folder;
use crate::support::TinyModel;

/// A folder with one good picture and one bad.
fn good_and_bad() -> Folder {
    let folder = Folder::new();
    folder.png("pictures/a.png");
    folder.write("pictures/b.png", "not a picture");
    folder
}

/// What a file of captions says, with names like those on standard output.
fn read(output: &Path, folder: &Folder, model: &TinyModel) -> String {
    let name = model.path().file_name().unwrap().to_str().unwrap();
    let text = fs::read_to_string(output).unwrap();
    text.replace(folder.path().to_str().unwrap(), "[FOLDER]").replace(name, "[MODEL]")
}

/// The text without the words of a model that makes no sense.
fn without_words(text: &str) -> String {
    let is_hash = |word: &&str| word.len() == 64 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hash = text.split(|c: char| !c.is_ascii_alphanumeric()).find(is_hash).unwrap();
    let object = text.lines().next().and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let caption = match object {
        Some(object) => object["caption"].to_string(),
        None => csv::Reader::from_reader(text.as_bytes()).records().next().unwrap().unwrap()[2].to_owned(),
    };
    text.replace(hash, "[SHA-256]").replacen(&caption, "[CAPTION]", 1)
}

#[test]
fn json_lines_have_captions_and_failures_in_one_stream() {
    let (folder, model) = (good_and_bad(), TinyModel::new());
    let output = folder.path().join("captions.jsonl");
    let finished = caption(&folder, &model, [folder.path().join("pictures"), "-o".into(), output.clone()]).run();
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""));
    assert_redacted!("ocelli caption FOLDER -o captions.jsonl", without_words(&read(&output, &folder, &model)));

    let finished = caption(&folder, &model, [folder.path().join("pictures"), "--format=jsonl".into()]).run();
    assert_eq!((finished.code, records(finished.stdout.as_bytes()).len()), (Some(1), 2));
    let with_summary = format!("{}{} in [TIME]\n", finished.stderr, finished.summary);
    assert_redacted!("what it says on standard error", with_summary);
}

#[test]
fn csv_has_captions_and_failures_as_rows() {
    let (folder, model) = (good_and_bad(), TinyModel::new());
    let output = folder.path().join("captions.csv");
    let finished = caption(&folder, &model, [folder.path().join("pictures"), "-o".into(), output.clone()]).run();
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(1), ""));
    let written = read(&output, &folder, &model);
    assert_redacted!("ocelli caption FOLDER -o captions.csv", without_words(&written));

    let finished = caption(&folder, &model, [folder.path().join("pictures"), "--format=csv".into()]).run();
    assert_eq!(finished.stdout, written, "the same on standard output");
}

#[cfg(unix)]
#[test]
fn csv_is_read_back_whatever_the_names_are() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let mut expected = ["two\nlines.png", "\"quoted\".png", "a,b;c.png", " space .png", "\r\n.png", "'=1+1.png"];
    expected.sort_unstable();
    for name in expected {
        folder.png(&format!("pictures/{name}"));
    }
    let output = folder.path().join("captions.csv");
    let arguments = [folder.path().join("pictures"), "-o".into(), output.clone(), "-p".into(), "What, \"now\"?".into()];
    assert_eq!(caption(&folder, &model, &arguments).run().code, Some(0));
    let mut reader = csv::Reader::from_path(&output).unwrap();
    let columns = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(Result::unwrap).collect();
    let column = |name: &str| columns.iter().position(|column| column == name).unwrap();
    let pictures = format!("{}/", folder.path().join("pictures").display());
    let names: Vec<_> = rows.iter().map(|row| row[column("path")].strip_prefix(&pictures).unwrap()).collect();
    assert_eq!(names, expected);
    assert!(rows.iter().all(|row| &row[column("prompt")] == "What, \"now\"?" && row[column("error")].is_empty()));

    // The caption is that of the other format.
    let lines =
        caption(&folder, &model, arguments.iter().take(1).chain(&arguments[3..]).chain(&["--format=jsonl".into()]));
    for (row, object) in rows.iter().zip(objects(lines.run().stdout.as_bytes())) {
        assert_eq!(
            (&row[column("caption")], &row[column("sha256")]),
            (text(&object["caption"]), text(&object["sha256"]))
        );
    }

    // And it can be gone on with.
    let finished = caption(&folder, &model, arguments.iter().chain(&["--resume".into()])).run();
    assert_eq!((finished.code, finished.summary.as_str()), (Some(0), "0 captioned, 0 failed, 6 left out"));
}

fn text(value: &serde_json::Value) -> &str {
    value.as_str().unwrap()
}

#[test]
fn a_file_that_is_there_stays_unless_it_is_to_be_replaced() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let (picture, output) = (folder.png("a.png"), folder.write("captions.jsonl", "precious\n"));
    let arguments = [picture, "-o".into(), output.clone()];
    let message = caption(&folder, &model, &arguments).run().failure(1);
    assert_redacted!("ocelli caption a.png -o captions.jsonl, which is there", message);
    assert_eq!(fs::read_to_string(&output).unwrap(), "precious\n");

    let message = caption(&folder, &model, arguments.iter().chain(&["--resume".into()])).run().failure(1);
    assert!(message.contains("is not a line of `ocelli caption`"), "{message}");
    assert_eq!(fs::read_to_string(&output).unwrap(), "precious\n");

    caption(&folder, &model, arguments.iter().chain(&["--overwrite".into()])).run().success();
    assert_eq!(records(&fs::read(&output).unwrap()).len(), 1);
    assert_eq!(names(folder.path()), ["a.png", "captions.jsonl"]);
}

#[test]
fn resuming_takes_the_same_options() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let (picture, output) = (folder.png("a.png"), folder.path().join("captions.jsonl"));
    let arguments = [picture, "-o".into(), output.clone(), "--resume".into()];
    // With nothing to go on with, it begins.
    caption(&folder, &model, &arguments).run().success();
    let written = fs::read(&output).unwrap();
    for options in [["--prompt", "Why?"], ["--length", "alt"]] {
        let message = caption(&folder, &model, arguments.iter().chain(&options.map(Into::into))).run().failure(1);
        assert!(message.contains("give the same options, or another file"), "{message}");
    }
    let balanced = ["caption", "--mode", "balanced", "-n", "2", "--model"].map(Into::into);
    let all =
        balanced.iter().chain([model.path().to_path_buf()].as_ref()).chain(&arguments).cloned().collect::<Vec<_>>();
    let message = crate::run::ocelli(all).call(folder.path(), "[FOLDER]").run().failure(1);
    assert_redacted!("ocelli caption --mode balanced --resume, after --mode rapid", message);
    assert_eq!(fs::read(&output).unwrap(), written);

    let finished = caption(&folder, &model, &arguments).run();
    assert_eq!((finished.code, fs::read(&output).unwrap()), (Some(0), written));
}

#[test]
fn a_file_that_another_run_writes_is_refused() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let (picture, output) = (folder.png("a.png"), folder.write("captions.csv", ""));
    let held = File::open(&output).unwrap();
    held.lock().unwrap();
    for option in ["--resume", "--overwrite"] {
        let arguments = [picture.clone(), "-o".into(), output.clone(), option.into()];
        let message = caption(&folder, &model, &arguments).run().failure(1);
        assert!(message.starts_with("error: another run is writing [FOLDER]/captions.csv"), "{message}");
    }
    drop(held);
    caption(&folder, &model, [picture, "-o".into(), output]).run().success();
}

#[test]
fn a_file_whose_format_cannot_be_told_is_wrong_usage() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let picture = folder.png("a.png");
    for (name, output) in [("captions.txt", "captions.txt"), ("no-extension", "captions")] {
        let arguments = [picture.clone(), "-o".into(), folder.path().join(output)];
        let finished = caption(&folder, &model, &arguments).run();
        assert_eq!(finished.code, Some(2));
        insta::with_settings!({snapshot_suffix => name}, { assert_redacted!(output, finished.transcript()) });
        let with_format = caption(&folder, &model, arguments.iter().chain(&["--format=jsonl".into()])).run();
        assert_eq!(with_format.code, Some(0), "{}", with_format.stderr);
    }
    let arguments = [picture, "-o".into(), folder.path().join("captions.json"), "--format=json".into()];
    let finished = caption(&folder, &model, &arguments).run();
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("--output can be written as jsonl and csv"), "{}", finished.stderr);
    assert_eq!(names(folder.path()), ["a.png", "captions", "captions.txt"]);
}

#[test]
fn a_folder_that_is_not_there_is_an_error_before_any_work() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let arguments = [folder.png("a.png"), "-o".into(), folder.path().join("no/captions.csv")];
    let message = caption(&folder, &model, &arguments).run().failure(1);
    assert!(message.starts_with("error: cannot write [FOLDER]/no/captions.csv: "), "{message}");
}

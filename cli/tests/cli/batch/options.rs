//! How long captions are, how many are made at once, and what is said on standard error.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use super::caption;
use super::records::objects;
use crate::pictures::Folder;
use crate::run::ocelli;
use crate::support::TinyModel;

#[test]
fn an_alt_text_is_short_and_says_so() {
    let scene = "assets/examples/four-things.png";
    let alt = ocelli(["caption", scene, "--mode", "rapid", "--length", "alt", "--format", "json"]).run().success();
    let alt: serde_json::Value = serde_json::from_str(&alt).unwrap();
    let text = alt["caption"].as_str().unwrap();
    assert!((1..=125).contains(&text.chars().count()) && text.ends_with('.') && !text.contains('\n'), "{text}");
    assert_eq!(alt["length"], "alt");
    let printed = ocelli(["caption", scene, "--mode", "rapid", "--length", "alt"]).run().success();
    assert_eq!(printed, format!("{text}\n"));
}

#[test]
fn another_length_asks_another_question_and_a_prompt_asks_that() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let picture = folder.png("a.png");
    let prompt = |options: &[&str]| {
        let arguments = options.iter().map(Into::into).chain(["--format=jsonl".into(), picture.clone()]);
        let object = objects(caption(&folder, &model, arguments).run().success().as_bytes()).remove(0);
        (object["length"].as_str().unwrap().to_owned(), object["prompt"].as_str().unwrap().to_owned())
    };
    let pair = |length: &str, prompt: &str| (length.to_owned(), prompt.to_owned());
    assert_eq!(prompt(&[]), pair("normal", "Describe the picture."));
    assert_eq!(prompt(&["--length", "short"]), pair("short", "Describe the picture in one short sentence."));
    assert_eq!(prompt(&["--length", "long", "-p", "Why?"]), pair("long", "Why?"));
}

#[test]
fn captions_do_not_depend_on_how_many_are_made_at_once() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    for number in 0..20 {
        let size = 20 + 9 * number;
        folder
            .write(&format!("pictures/{number:02}.jpg"), crate::pictures::picture(size, 60, image::ImageFormat::Jpeg));
    }
    let lines = |batch: &str| {
        caption(&folder, &model, [folder.path().join("pictures"), "--batch".into(), batch.into()]).run().stdout
    };
    let one = lines("1");
    assert_eq!(one.lines().count(), 20);
    for batch in ["2", "3", "8", "1024"] {
        assert_eq!(lines(batch), one, "--batch {batch}");
    }
    let none = caption(&folder, &model, [folder.path().join("pictures"), "--batch".into(), "0".into()]).run();
    assert_eq!(none.code, Some(2));
}

#[test]
fn quiet_says_nothing_but_errors() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    folder.png("a.png");
    folder.png("b.png");
    let arguments = [folder.path().to_owned(), "--quiet".into()];
    let lines = caption(&folder, &model, &arguments).run().success();
    assert_eq!(lines.lines().count(), 2);
    folder.write("c.png", "");
    let finished = caption(&folder, &model, &arguments).run();
    assert_eq!((finished.summary.as_str(), finished.stdout), ("", lines));
    let message = "error: [FOLDER]/c.png is not a picture";
    assert!(finished.stderr.starts_with(message) && finished.stderr.lines().count() == 1, "{}", finished.stderr);
}

#[test]
fn a_reader_that_has_had_enough_ends_the_run_quietly() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    for number in 0..40 {
        folder.png(&format!("{number}.png"));
    }
    for format in ["text", "jsonl", "json", "csv"] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ocelli"))
            .args(["caption", "--mode", "rapid", "--batch", "1", "--format", format, "--model"])
            .args([model.path(), folder.path()])
            .env_clear()
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = String::new();
        BufReader::with_capacity(1, child.stdout.take().unwrap()).read_line(&mut first).unwrap();
        let output = child.wait_with_output().unwrap();
        // The writer may have been done before.
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !stderr.contains("error"), "{format}: {stderr}");
    }
}

//! Wrong usage and failures: messages and exit codes.

use std::process::{Command, Stdio};

use crate::assert_redacted;
use crate::pictures::Folder;
use crate::run::ocelli;
use crate::support::TinyModel;

#[test]
fn wrong_usage_ends_with_2_and_says_what_is_wrong() {
    for (name, arguments) in [
        ("threads", &["caption", "a.png", "--threads", "0"][..]),
        ("temperature", &["caption", "a.png", "--temperature", "-1"]),
        ("mode", &["caption", "a.png", "--mode", "slow"]),
        ("format", &["caption", "a.png", "--format", "xml"]),
        ("max-tokens", &["caption", "a.png", "-n", "0"]),
        ("no-path", &["caption"]),
        ("no-question", &["ask", "-"]),
        ("verb", &["captoin", "a.png"]),
        ("stdin-twice", &["caption", "-", "-"]),
        ("trace-model", &["trace", "--inputs", "a", "--outputs", "b"]),
        ("quiet-verbose", &["caption", "a.png", "-q", "-v"]),
    ] {
        let finished = ocelli(arguments).run();
        assert_eq!(finished.code, Some(2), "{arguments:?}");
        insta::with_settings!({snapshot_suffix => name}, {
            assert_redacted!(format!("ocelli {}", arguments.join(" ")), finished.transcript());
        });
    }
}

#[test]
fn an_instruction_set_that_does_not_exist_is_wrong_usage() {
    let message = ocelli(["inspect"]).env("OCELLI_ISA", "mmx").run().failure(2);
    assert!(message.contains("mmx") && message.contains("portable"), "{message}");
}

#[test]
fn a_variable_of_the_environment_is_checked_like_its_option() {
    let finished = ocelli(["inspect"]).env("OCELLI_THREADS", "0").run();
    assert_eq!(finished.code, Some(2));
    let message = ocelli(["inspect"]).env("OCELLI_MODEL", "no/such/model").run().failure(1);
    assert!(message.contains("no/such/model"), "{message}");
}

#[test]
fn a_missing_picture_is_reported_and_the_others_are_captioned() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let (first, last, missing) = (folder.png("first.png"), folder.png("last.png"), folder.path().join("missing.png"));
    let text = folder.write("notes.txt", "not a picture");
    let finished = ocelli(["caption", "--mode", "rapid", "--format", "jsonl"].map(Into::into).into_iter().chain([
        first,
        missing,
        text,
        last,
        "--model".into(),
        model.path().to_owned(),
    ]))
    .call(folder.path(), "[FOLDER]")
    .run();
    assert_eq!(finished.code, Some(1));
    let lines: Vec<serde_json::Value> =
        finished.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let summary: Vec<_> = lines
        .iter()
        .map(|line| (line["path"].as_str().unwrap(), line["caption"].is_string(), line["error"]["kind"].as_str()))
        .collect();
    assert_eq!(
        summary,
        [
            ("[FOLDER]/first.png", true, None),
            ("[FOLDER]/missing.png", false, Some("io")),
            ("[FOLDER]/notes.txt", false, Some("not_a_picture")),
            ("[FOLDER]/last.png", true, None),
        ]
    );
    assert_redacted!("one missing file, one that is no picture, among others", finished.stderr);
}

#[test]
fn nobody_reading_the_results_is_not_an_error() {
    for arguments in [&["inspect", "--format", "json"][..], &["completions", "zsh"], &["--help"]] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_ocelli"))
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // Long before the command has anything to write.
        drop(child.stdout.take());
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{arguments:?}");
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{arguments:?}");
    }
}

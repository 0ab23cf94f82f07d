//! Which pictures a command line means: directories, standard input, odd names.

use image::ImageFormat;

use crate::pictures::{Folder, picture};
use crate::run::{Finished, ocelli};
use crate::support::TinyModel;

fn caption(folder: &Folder, arguments: &[&str]) -> Finished {
    let model = TinyModel::new();
    let common = ["--mode", "rapid", "-n", "1", "--model", model.path().to_str().unwrap()];
    ocelli(["caption"].iter().chain(arguments).chain(&common)).call(folder.path(), "[FOLDER]").run()
}

/// The paths before the captions.
fn paths(stdout: &str) -> Vec<&str> {
    stdout.lines().filter_map(|line| line.split_once(": ")).map(|(path, _)| path).collect()
}

fn tree() -> Folder {
    let folder = Folder::new();
    for name in ["b.png", "a.png", "inner/c.png", "inner/deeper/d.png", ".hidden/e.png", "ignored/f.png"] {
        folder.png(name);
    }
    folder.write("notes.txt", "not a picture");
    folder.write("empty.png", "");
    folder.write("really-a-png.txt", picture(8, 8, ImageFormat::Png));
    folder.write(".ignore", "ignored/\n");
    folder
}

#[test]
fn a_directory_gives_its_pictures_by_content_in_order_of_their_names() {
    let folder = tree();
    let finished = caption(&folder, &[folder.path().to_str().unwrap()]);
    assert_eq!((finished.code, finished.summary.as_str()), (Some(1), "3 captioned, 1 failed"));
    assert!(finished.stderr.starts_with("error: [FOLDER]/empty.png is not a picture"), "{}", finished.stderr);
    assert_eq!(paths(&finished.stdout), ["[FOLDER]/a.png", "[FOLDER]/b.png", "[FOLDER]/really-a-png.txt"]);
}

#[test]
fn recursive_goes_into_directories_but_hidden_and_ignored_ones() {
    let folder = tree();
    let finished = caption(&folder, &["-r", folder.path().to_str().unwrap()]);
    assert_eq!((finished.code, finished.summary.as_str()), (Some(1), "5 captioned, 1 failed"));
    assert_eq!(
        paths(&finished.stdout),
        [
            "[FOLDER]/a.png",
            "[FOLDER]/b.png",
            "[FOLDER]/inner/c.png",
            "[FOLDER]/inner/deeper/d.png",
            "[FOLDER]/really-a-png.txt",
        ]
    );
}

#[test]
fn a_directory_without_pictures_is_an_error() {
    let folder = Folder::new();
    folder.png("inner/a.png");
    let message = caption(&folder, &[folder.path().to_str().unwrap()]).failure(1);
    assert_eq!(message, "error: [FOLDER] is a directory without pictures (-r goes into the directories inside it)\n");
}

#[cfg(unix)]
#[test]
fn a_loop_of_links_ends() {
    let folder = Folder::new();
    folder.png("a.png");
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
    let finished = caption(&folder, &["-r", folder.path().to_str().unwrap()]);
    assert_eq!((finished.code, paths(&finished.stdout)), (Some(0), vec!["[FOLDER]/a.png"]));
}

#[test]
fn a_dash_reads_standard_input() {
    let model = TinyModel::new();
    let arguments = ["caption", "-", "--mode", "rapid", "--format", "json", "--model", model.path().to_str().unwrap()];
    let stdout = ocelli(arguments).stdin(picture(50, 40, ImageFormat::WebP)).run().success();
    assert_eq!(serde_json::from_str::<serde_json::Value>(&stdout).unwrap()["path"], "-");
    let message = ocelli(arguments).run().failure(1);
    assert!(message.contains("standard input is not a picture"), "{message}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_is_not_utf_8_works() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    use std::process::Command;

    let (folder, model) = (Folder::new(), TinyModel::new());
    let path = folder.path().join(OsStr::from_bytes(b"caf\xe9.png"));
    std::fs::copy(folder.png("a.png"), &path).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_ocelli"))
        .args(["caption", "--mode", "rapid", "-n", "1", "--format", "jsonl", "--model"])
        .args([model.path(), &path])
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(String::from_utf8(output.stdout).unwrap().contains("caf\u{fffd}.png"));
}

#[test]
fn a_name_may_begin_with_dashes_after_two_dashes() {
    let message = ocelli(["caption", "--", "--mode"]).run().failure(1);
    assert!(message.contains("cannot read --mode"), "{message}");
}

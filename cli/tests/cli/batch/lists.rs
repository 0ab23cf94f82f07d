//! Which pictures are meant: lists of them, and shares of them.

use std::fs;
use std::path::{Path, PathBuf};

use super::caption;
use super::records::records;
use crate::pictures::{Folder, picture};
use crate::run::Finished;
use crate::support::TinyModel;

/// The paths in JSON Lines.
fn paths(finished: &Finished) -> Vec<String> {
    records(finished.stdout.as_bytes()).into_iter().map(|(path, _, _)| path).collect()
}

/// The records of the pictures that `list` names, and `arguments`.
fn listed(folder: &Folder, model: &TinyModel, list: &Path, stdin: &[u8], arguments: &[PathBuf]) -> Finished {
    let options = [Path::new("--format=jsonl"), Path::new("--files-from"), list].map(Path::to_owned);
    caption(folder, model, options.iter().chain(arguments)).stdin(stdin.to_vec()).run()
}

#[test]
fn a_list_has_a_name_a_line_or_names_between_nul_bytes() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let [a, b] = ["a.png", "b c.png"].map(|name| folder.png(name).to_str().unwrap().to_owned());
    let expected = ["[FOLDER]/a.png", "[FOLDER]/b c.png"];
    for list in [
        format!("{a}\n{b}\n"),
        format!("{a}\n\n{b}"),
        format!("{a}\r\n{b}\r\n"),
        format!("{a}\0{b}\0"),
        format!("{a}\0{b}"),
    ] {
        let path = folder.write("list", &list);
        let finished = listed(&folder, &model, &path, b"", &[]);
        assert_eq!((finished.code, paths(&finished)), (Some(0), expected.map(str::to_owned).to_vec()), "{list:?}");
        let finished = listed(&folder, &model, "-".as_ref(), list.as_bytes(), &[]);
        assert_eq!((finished.code, paths(&finished)), (Some(0), expected.map(str::to_owned).to_vec()), "{list:?}");
    }
}

#[cfg(unix)]
#[test]
fn names_between_nul_bytes_may_have_any_characters() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let odd = folder.png("two\nlines.png");
    let list = folder.write("list", [odd.to_str().unwrap().as_bytes(), b"\0"].concat());
    assert_eq!(paths(&listed(&folder, &model, &list, b"", &[])), ["[FOLDER]/two\nlines.png"]);
}

#[test]
fn a_list_may_name_directories_and_what_is_not_there() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    folder.png("inner/a.png");
    folder.png("inner/b.png");
    let names = ["inner", "missing.png"].map(|name| folder.path().join(name));
    let list = folder.write("list", format!("{}\n{}\n", names[0].display(), names[1].display()));
    let finished = listed(&folder, &model, &list, b"", &[folder.png("first.png")]);
    assert_eq!((finished.code, finished.summary.as_str()), (Some(1), "3 captioned, 1 failed"));
    let expected = ["first.png", "inner/a.png", "inner/b.png", "missing.png"];
    assert_eq!(paths(&finished), expected.map(|name| format!("[FOLDER]/{name}")));
}

#[test]
fn a_dash_in_a_list_is_a_file_of_that_name() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let finished = listed(&folder, &model, "-".as_ref(), b"-\n", &[]);
    assert_eq!((finished.code, paths(&finished)), (Some(1), vec!["./-".to_owned()]));
}

#[test]
fn a_list_that_is_empty_gives_nothing_and_one_that_is_missing_is_an_error() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let finished = listed(&folder, &model, &folder.write("list", "\n"), b"", &[]);
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), ""));
    assert_eq!(finished.summary, "0 captioned, 0 failed");
    let message = listed(&folder, &model, &folder.path().join("missing"), b"", &[]).failure(1);
    assert!(message.starts_with("error: cannot read the list of pictures [FOLDER]/missing: "), "{message}");
    // Standard input is one thing or the other.
    let finished = listed(&folder, &model, "-".as_ref(), b"", &["-".into()]);
    assert_eq!(finished.code, Some(2), "{}", finished.stderr);
}

#[test]
fn standard_input_is_a_picture_among_others() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let (a, b) = (folder.png("a.png"), folder.png("b.png"));
    let arguments = [a, "-".into(), b, "--format=jsonl".into()];
    let stdin = picture(50, 40, image::ImageFormat::Jpeg);
    let finished = caption(&folder, &model, &arguments).stdin(stdin).run();
    assert_eq!(
        (finished.code, paths(&finished)),
        (Some(0), ["[FOLDER]/a.png", "-", "[FOLDER]/b.png"].map(str::to_owned).to_vec())
    );
    let finished = caption(&folder, &model, &arguments).stdin(b"no picture".to_vec()).run();
    assert_eq!((finished.code, finished.summary.as_str()), (Some(1), "2 captioned, 1 failed"));
}

#[test]
fn shards_are_all_pictures_once() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    for number in 0..8 {
        folder.png(&format!("pictures/{number}.png"));
    }
    folder.write("pictures/3.png", "not a picture");
    let output = |number| folder.path().join(format!("{number}.jsonl"));
    let mut all = Vec::new();
    for number in 1..=3 {
        let shard = format!("--shard={number}/3");
        let arguments = [folder.path().join("pictures"), shard.into(), "-o".into(), output(number)];
        let finished = caption(&folder, &model, &arguments).run();
        assert_eq!(finished.code, Some(i32::from(number == 1)), "{}", finished.stderr);
        all.extend(records(&fs::read(output(number)).unwrap()));
    }
    all.sort();
    let whole = caption(&folder, &model, [folder.path().join("pictures"), "--format=jsonl".into()]).run();
    let pictures = folder.path().join("pictures");
    let expected = (0..8).map(|number| pictures.join(format!("{number}.png")).to_str().unwrap().to_owned());
    assert_eq!(all.iter().map(|record| record.0.clone()).collect::<Vec<_>>(), expected.collect::<Vec<_>>());
    let results = |records: Vec<_>| records.into_iter().map(|(_, _, result)| result).collect::<Vec<_>>();
    assert_eq!(results(all), results(records(whole.stdout.as_bytes())));
}

#[test]
fn a_shard_that_does_not_exist_is_wrong_usage() {
    let (folder, model) = (Folder::new(), TinyModel::new());
    let picture = folder.png("a.png");
    for shard in ["0/3", "4/3", "three"] {
        let finished = caption(&folder, &model, [picture.clone(), "--shard".into(), shard.into()]).run();
        assert_eq!(finished.code, Some(2), "{shard}");
    }
}

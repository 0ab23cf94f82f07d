//! `--cache`: encoded pictures are kept, and captions are the same with them.

use std::fs;
use std::path::{Path, PathBuf};

use super::caption;
use super::records::{objects, records};
use crate::pictures::Folder;
use crate::run::Finished;
use crate::support::TinyModel;

/// JSON Lines of the pictures in the folder `pictures`.
fn lines(folder: &Folder, model: &TinyModel, cache: Option<&Path>, prompt: &str) -> Finished {
    let mut arguments: Vec<PathBuf> =
        vec![folder.path().join("pictures"), "--format=jsonl".into(), "--prompt".into(), prompt.into()];
    if let Some(cache) = cache {
        arguments.extend(["--cache".into(), cache.to_owned()]);
    }
    caption(folder, model, arguments).run()
}

fn two_pictures() -> Folder {
    let folder = Folder::new();
    folder.png("pictures/a.png");
    folder.write("pictures/b.bmp", crate::pictures::picture(70, 30, image::ImageFormat::Bmp));
    folder
}

#[test]
fn another_question_costs_no_encoding_and_the_answers_are_the_same() {
    let (folder, model) = (two_pictures(), TinyModel::new());
    let cache = folder.path().join("new/cache");
    for (prompt, is_encoded) in [("What?", false), ("Why?", true), ("What?", true)] {
        let finished = lines(&folder, &model, Some(&cache), prompt);
        assert_eq!((finished.code, finished.summary.as_str()), (Some(0), "2 captioned, 0 failed"));
        for object in objects(finished.stdout.as_bytes()) {
            let timings = &object["timings_ms"];
            for stage in ["preprocess", "encode", "adapt"] {
                assert_eq!(timings[stage].as_f64() == Some(0.0), is_encoded, "{stage} of {prompt}: {timings}");
            }
        }
        let without = lines(&folder, &model, None, prompt);
        assert_eq!(records(finished.stdout.as_bytes()), records(without.stdout.as_bytes()));
    }
}

#[test]
fn a_cache_that_is_no_folder_is_an_error_before_anything_is_written() {
    let (folder, model) = (two_pictures(), TinyModel::new());
    let file = folder.write("file", "not a folder");
    let output = folder.write("captions.jsonl", "precious\n");
    for cache in [file.clone(), file.join("inner")] {
        let message = lines(&folder, &model, Some(&cache), "What?").failure(1);
        assert!(message.contains("[FOLDER]/file"), "{message}");
        let arguments = ["--overwrite".into(), "-o".into(), output.clone(), "--cache".into(), cache];
        caption(&folder, &model, arguments.into_iter().chain([folder.path().join("pictures")])).run().failure(1);
        assert_eq!(fs::read_to_string(&output).unwrap(), "precious\n");
    }
}

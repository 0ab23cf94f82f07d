//! The bundled model on the example pictures: captions in every mode, answers, and the same words on every instruction set and
//! number of threads.

use std::path::PathBuf;

use crate::assert_redacted;
use crate::run::ocelli;

/// The example pictures, in order of their names.
fn examples() -> Vec<PathBuf> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../assets/examples");
    let mut paths: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| PathBuf::from("assets/examples").join(entry.unwrap().file_name()))
        .filter(|path| path.extension().is_some_and(|extension| extension != "json" && extension != "md"))
        .collect();
    paths.sort();
    assert!(paths.len() >= 12, "{paths:?}");
    paths
}

#[test]
fn the_examples_are_captioned_in_every_mode() {
    for mode in ["rapid", "balanced", "high"] {
        let mut paths = examples();
        if mode == "high" {
            // Five views each: those where it may help.
            paths.retain(|path| path.to_str().unwrap().contains("things"));
        }
        let arguments = ["caption", "--mode", mode].map(PathBuf::from).into_iter().chain(paths);
        insta::with_settings!({snapshot_suffix => mode}, {
            assert_redacted!(format!("ocelli caption --mode {mode} assets/examples/*"), ocelli(arguments).run().success());
        });
    }
}

#[test]
fn a_caption_as_json_is_as_reviewed() {
    let arguments = ["caption".into(), examples().remove(0), "--format".into(), "json".into()];
    assert_redacted!("ocelli caption --format json", ocelli(arguments).run().success());
}

#[test]
fn the_bundled_model_is_as_reviewed() {
    assert_redacted!("ocelli inspect", ocelli(["inspect"]).run().success());
}

#[test]
fn an_answer_follows_from_both_pictures() {
    let pictures = examples();
    let arguments = ["ask".into(), pictures[0].clone(), pictures[1].clone(), "How many objects are there?".into()];
    assert_redacted!("ocelli ask PICTURE PICTURE QUESTION", ocelli(arguments).run().success());
}

#[test]
fn every_instruction_set_and_number_of_threads_gives_the_same_words() {
    let paths = &examples()[..2];
    let caption = |isa: &str, threads: &str| {
        let arguments = ["caption", "--threads", threads].map(PathBuf::from).into_iter().chain(paths.iter().cloned());
        ocelli(arguments).env("OCELLI_ISA", isa).run().success()
    };
    let detected = caption("", "2");
    for threads in ["1", "3"] {
        assert_eq!(caption("", threads), detected, "{threads} threads");
    }
    assert_eq!(caption("portable", "2"), detected, "portable");
}

#[test]
fn a_seed_repeats_what_a_temperature_made_of_chance() {
    let path = examples().remove(0);
    let caption = |seed: &str| {
        let arguments = ["caption", "--mode", "rapid", "--temperature", "3", "--seed", seed].map(PathBuf::from);
        ocelli(arguments.into_iter().chain([path.clone()])).run().success()
    };
    assert_eq!(caption("1"), caption("1"));
    assert_ne!(caption("1"), caption("2"));
}

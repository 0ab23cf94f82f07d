//! Help and usage: snapshots of what clap makes of the arguments.

use crate::assert_redacted;
use crate::run::ocelli;

#[test]
fn the_help_of_each_verb_is_as_reviewed() {
    assert_redacted!("ocelli --help", ocelli(["--help"]).run().success());
    for verb in ["caption", "alt", "ask", "embed", "import", "inspect", "bench", "completions", "trace"] {
        insta::with_settings!({snapshot_suffix => verb}, {
            assert_redacted!(format!("ocelli {verb} --help"), ocelli([verb, "--help"]).run().success());
        });
    }
}

#[test]
fn the_version_names_the_instruction_set() {
    assert_redacted!("ocelli --version", ocelli(["--version"]).run().success());
    let portable = ocelli(["--version"]).env("OCELLI_ISA", "portable").run().success();
    assert!(portable.ends_with("(portable)\n"), "{portable}");
}

#[test]
fn no_arguments_are_wrong_usage() {
    let finished = ocelli::<&str>([]).run();
    assert_eq!(finished.code, Some(2));
    assert!(finished.stderr.contains("Usage: ocelli"), "{}", finished.stderr);
    assert_eq!(finished.stdout, "");
}

#[test]
fn every_shell_has_completions() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = ocelli(["completions", shell]).run().success();
        assert!(script.contains("max-tokens"), "{shell}");
    }
}

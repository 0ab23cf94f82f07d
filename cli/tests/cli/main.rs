//! The `ocelli` command as people run it: what it prints, where, and its exit code.

mod alt;
mod batch;
mod errors;
mod examples;
mod help;
mod hostile;
mod import;
mod output;
mod paths;
mod pictures;
mod run;
#[path = "../../../tests/support/mod.rs"]
mod support;
mod trace;

//! The `ocelli` command: reads the arguments, calls the verb, sets the exit code.
#![forbid(unsafe_code)]

mod alt;
mod args;
mod ask;
mod bench;
mod caption;
mod console;
mod embed;
mod files;
mod import;
mod inputs;
mod inspect;
mod output;
mod sidecar;
mod trace;

use std::io::{self, IsTerminal, Write};
use std::process::ExitCode;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use ocelli::{Isa, Model, PictureEncoder};
use tracing_subscriber::EnvFilter;

use crate::args::{Cli, Command, CommonArgs};
use crate::console::Console;

/// How a verb ended that could do its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    /// All of it is done.
    Done,
    /// Something failed, and was reported.
    Failed,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    start_log(&cli.common);
    let console = Console::new(cli.common.quiet, cli.common.verbose > 0);
    if let Err(error) = Isa::from_env() {
        console.error(&error);
        return ExitCode::from(2);
    }
    match run(&cli, &console) {
        Ok(Outcome::Done) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::FAILURE,
        // Whoever reads the results has had enough of them.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            match error.downcast_ref::<ocelli::Error>() {
                // Its message holds those of its causes.
                Some(error) => console.error(error),
                None => console.error(&format_args!("{error:#}")),
            }
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli, console: &Console) -> anyhow::Result<Outcome> {
    if let Some(threads) = cli.common.threads {
        rayon::ThreadPoolBuilder::new()
            .num_threads(threads.into())
            .build_global()
            .with_context(|| format!("cannot start {threads} threads"))?;
    }
    match &cli.command {
        Command::Caption(args) => caption::run(args, &cli.common, console),
        Command::Alt(args) => alt::run(args, &cli.common, console),
        Command::Ask(args) => ask::run(args, &cli.common, console),
        Command::Inspect(args) => inspect::run(args, &cli.common, console),
        Command::Bench(args) => bench::run(args, &cli.common, console),
        Command::Embed(args) => embed::run(args, &cli.common, console),
        Command::Import(args) => import::run(args, console),
        Command::Trace(args) => trace::run(args, &cli.common),
        Command::Completions(args) => {
            // Into memory first: it panics where it cannot write.
            let mut script = Vec::new();
            clap_complete::generate(args.shell, &mut Cli::command(), "ocelli", &mut script);
            io::stdout().write_all(&script)?;
            Ok(Outcome::Done)
        }
    }
}

/// The model of `--model`, or the bundled one.
fn load_model(common: &CommonArgs) -> Result<Model, ocelli::Error> {
    match &common.model {
        Some(folder) => Model::load(folder),
        None => Model::bundled(),
    }
}

/// The vision encoder of that model.
fn load_encoder(common: &CommonArgs) -> Result<PictureEncoder, ocelli::Error> {
    match &common.model {
        Some(folder) => PictureEncoder::load(folder),
        None => PictureEncoder::bundled(),
    }
}

/// Logs go to standard error: what `OCELLI_LOG` or `RUST_LOG` asks for, else what `--quiet` and `--verbose` do.
fn start_log(common: &CommonArgs) {
    let level = match (common.quiet, common.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, _) => "debug",
    };
    let wanted = ["OCELLI_LOG", "RUST_LOG"].into_iter().find_map(|name| std::env::var(name).ok());
    let filter = EnvFilter::builder().parse_lossy(wanted.as_deref().unwrap_or(level));
    let is_coloured = io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr);
    log.with_ansi(is_coloured).without_time().init();
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

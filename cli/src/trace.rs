//! `ocelli trace`: a model on given tensors, for people who compare with another framework.

use clap::CommandFactory;
use clap::error::ErrorKind;
use ocelli::TracedLayers;

use crate::Outcome;
use crate::args::{Cli, CommonArgs, LayersArg, TraceArgs};

/// Runs the verb.
pub fn run(args: &TraceArgs, common: &CommonArgs) -> anyhow::Result<Outcome> {
    let Some(model) = &common.model else {
        let message = "trace needs --model DIR: a directory with config.json and model.safetensors";
        Cli::command().error(ErrorKind::MissingRequiredArgument, message).exit()
    };
    let layers = match args.layers {
        LayersArg::All => TracedLayers::All,
        LayersArg::Last => TracedLayers::Last,
    };
    ocelli::trace(model, &args.inputs, &args.outputs, layers)?;
    Ok(Outcome::Done)
}

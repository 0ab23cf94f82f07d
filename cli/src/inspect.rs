//! `ocelli inspect`: what a model consists of, or what preprocessing does to a picture.

use std::io::{self, Write};
use std::path::Path;

use ocelli::Model;

use crate::args::{CommonArgs, Format, InspectArgs};
use crate::console::Console;
use crate::{Outcome, inputs, load_model, output};

/// Runs the verb: a directory is a model, anything else a picture.
pub fn run(args: &InspectArgs, common: &CommonArgs, console: &Console) -> anyhow::Result<Outcome> {
    match args.path.as_deref() {
        None => print_model(&load_model(common)?, args.format)?,
        Some(folder) if folder.is_dir() => print_model(&Model::load(folder)?, args.format)?,
        Some(path) => return inspect_picture(path, args.format, common, console),
    }
    Ok(Outcome::Done)
}

fn print_model(model: &Model, format: Format) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match format {
        Format::Text => stdout.write_all(output::model_text(model.report()).as_bytes()),
        Format::Json => output::write_json(&mut stdout, model.report()),
    }
}

fn inspect_picture(path: &Path, format: Format, common: &CommonArgs, console: &Console) -> anyhow::Result<Outcome> {
    let model = load_model(common)?;
    let mut stdout = io::stdout().lock();
    match inputs::open(path).and_then(|(picture, _)| model.inspect(&picture)) {
        Ok(report) => match format {
            Format::Text => stdout.write_all(output::picture_text(path, &report).as_bytes())?,
            Format::Json => output::write_json(&mut stdout, &report)?,
        },
        Err(error) => {
            console.error(&error);
            return Ok(Outcome::Failed);
        }
    }
    Ok(Outcome::Done)
}

//! `ocelli inspect`: what a model consists of, or what preprocessing does to a picture.

use std::io::{self, Write};
use std::path::Path;

use ocelli::{Model, ModelReport};

use crate::args::{CommonArgs, Format, InspectArgs};
use crate::console::Console;
use crate::{Outcome, inputs, load_encoder, output};

/// Runs the verb: a directory is a model, anything else a picture.
pub fn run(args: &InspectArgs, common: &CommonArgs, console: &Console) -> anyhow::Result<Outcome> {
    match args.path.as_deref() {
        None => match &common.model {
            Some(folder) => print_model(&ModelReport::read(folder)?, args.format)?,
            None => print_model(Model::bundled()?.report(), args.format)?,
        },
        Some(folder) if folder.is_dir() => print_model(&ModelReport::read(folder)?, args.format)?,
        Some(path) => return inspect_picture(path, args.format, common, console),
    }
    Ok(Outcome::Done)
}

fn print_model(report: &ModelReport, format: Format) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    match format {
        Format::Text => stdout.write_all(output::model_text(report).as_bytes()),
        Format::Json => output::write_json(&mut stdout, report),
    }
}

fn inspect_picture(path: &Path, format: Format, common: &CommonArgs, console: &Console) -> anyhow::Result<Outcome> {
    let encoder = load_encoder(common)?;
    let mut stdout = io::stdout().lock();
    match inputs::open(path).and_then(|(picture, _)| encoder.inspect(&picture)) {
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

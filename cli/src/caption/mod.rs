//! `ocelli caption`: pictures to captions, one or a hundred thousand.
//!
//! ```text
//! arguments --inputs, plan--> steps --Model::captions--> records --many--> standard output or the file of --output, and sidecars
//! ```

mod earlier;
mod many;
mod output_file;
mod plan;
mod printer;
mod progress;
mod record;
mod single;

use std::path::{Path, PathBuf};

use clap::CommandFactory;
use clap::error::ErrorKind;
use ocelli::{CaptionLength, CaptionOptions, Model};

use self::output_file::TableFormat;
use self::record::Settings;
use crate::args::{CaptionArgs, CaptionFormat, Cli, CommonArgs};
use crate::console::Console;
use crate::inputs;
use crate::{Outcome, load_model};

/// Runs the verb. A picture that fails is reported, and the others are captioned.
pub fn run(args: &CaptionArgs, common: &CommonArgs, console: &Console) -> anyhow::Result<Outcome> {
    inputs::check_standard_input(args.paths.iter().chain(&args.files_from));
    let table_format = table_format(args);
    let mut paths = args.paths.clone();
    if let Some(list) = &args.files_from {
        paths.extend(inputs::read_list(list)?);
    }
    let model = load_model(common)?;
    let options = caption_options(args, common);
    let settings = Settings {
        model: model.name().to_owned(),
        mode: options.mode,
        length: options.length,
        prompt: options.prompt.clone().unwrap_or_else(|| model.caption_prompt(options.length).to_owned()),
    };
    let run = Run { args, model: &model, options, settings, table_format };
    if run.is_single(&paths) && run.is_streamed() {
        single::run(&run, &paths[0], console)
    } else {
        many::run(&run, &paths, console)
    }
}

/// What a run works with.
struct Run<'a> {
    args: &'a CaptionArgs,
    model: &'a Model,
    options: CaptionOptions,
    settings: Settings,
    /// Of the file of `--output`.
    table_format: Option<TableFormat>,
}

impl Run<'_> {
    /// Whether one picture is asked for, by name.
    fn is_single(&self, paths: &[PathBuf]) -> bool {
        let is_picture = |path: &Path| inputs::is_standard_input(path) || !path.is_dir();
        self.args.files_from.is_none() && matches!(paths, [path] if is_picture(path))
    }

    /// Whether the caption of one picture can be printed as it comes.
    fn is_streamed(&self) -> bool {
        let CaptionArgs { shard, output, sidecar, cache, .. } = self.args;
        let is_plain = shard.is_none() && output.is_none() && sidecar.is_none() && cache.cache.is_none();
        is_plain && self.format() == CaptionFormat::Text && self.options.length != CaptionLength::Alt
    }

    /// What is printed.
    fn format(&self) -> CaptionFormat {
        self.args.format.unwrap_or(CaptionFormat::Text)
    }
}

fn caption_options(args: &CaptionArgs, common: &CommonArgs) -> CaptionOptions {
    let (mode, length) = (args.mode.into(), CaptionLength::from(args.length));
    let generation = args.sampling.generation_options(common);
    CaptionOptions { mode, length, prompt: args.prompt.clone(), generation }
}

/// The format of the file of `--output`. Ends the program with a usage error when lines cannot be added to such a file.
fn table_format(args: &CaptionArgs) -> Option<TableFormat> {
    let path = args.output.as_ref()?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    match (args.format, extension.to_ascii_lowercase().as_str()) {
        (Some(CaptionFormat::Jsonl), _) | (None, "jsonl" | "ndjson") => Some(TableFormat::Jsonl),
        (Some(CaptionFormat::Csv), _) | (None, "csv") => Some(TableFormat::Csv),
        (format, _) => {
            let message = match format {
                Some(_) => "--output can be written as jsonl and csv".to_owned(),
                None => format!("{} ends neither in .jsonl nor in .csv: --format says what to write", path.display()),
            };
            Cli::command().error(ErrorKind::ValueValidation, message).exit()
        }
    }
}

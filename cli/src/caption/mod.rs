//! `ocelli caption`: many pictures, one caption each.

use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use ocelli::{Model, Response, SessionOptions, prompt};
use serde::Serialize;

use crate::args::{CaptionArgs, CaptionFormat, CommonArgs};
use crate::console::Console;
use crate::inputs::{self, Input};
use crate::output::{self, CaptionRecord, FailureRecord, TimingsMs};
use crate::{Outcome, load_model};

/// Runs the verb. A picture that fails is reported, and the others are captioned.
pub fn run(args: &CaptionArgs, common: &CommonArgs, console: &Console) -> anyhow::Result<Outcome> {
    inputs::check_standard_input(&args.paths);
    let model = load_model(common)?;
    let inputs = inputs::collect(&args.paths, args.recursive);
    let is_single = matches!(&args.paths[..], [path] if inputs::is_standard_input(path) || !path.is_dir());
    let captioner = Captioner {
        question: args.prompt.as_deref().unwrap_or(model.caption_prompt()),
        options: SessionOptions { mode: args.mode.into(), generation: args.sampling.generation_options(common) },
        model: &model,
    };
    let console = console.with_progress(inputs.len());
    let mut printer = Printer { stdout: io::stdout().lock(), format: args.format, is_single, num_records: 0 };
    let mut outcome = Outcome::Done;
    for input in &inputs {
        let failure = match input {
            Input::Failed(failure) => Some(failure.clone()),
            Input::Picture(path) => {
                console.step(&path.display());
                let captioned = captioner.caption(path, |piece| printer.piece(piece));
                match captioned {
                    Ok((response, decode)) => {
                        let record = CaptionRecord::new(path, captioner.options.mode, model.name(), decode, &response);
                        console.suspend(|| printer.caption(path, &response, &record))?;
                        let timings = TimingsMs::new(decode, &response);
                        console.detail(&output::timings_line(&path.display(), &timings, &response));
                        None
                    }
                    Err(Failed::Picture(error)) => Some(FailureRecord::new(path, error.kind().as_str(), &error)),
                    Err(Failed::Output(error)) => return Err(error.into()),
                }
            }
        };
        if let Some(failure) = failure {
            outcome = Outcome::Failed;
            console.suspend(|| printer.failure(&failure))?;
            console.error(&failure.message());
        }
        console.step_done();
    }
    console.finish();
    printer.finish()?;
    Ok(outcome)
}

/// What stops a caption.
enum Failed {
    /// The picture, or the model on it: the next picture may fare better.
    Picture(ocelli::Error),
    /// Standard output.
    Output(io::Error),
}

impl From<ocelli::Error> for Failed {
    fn from(error: ocelli::Error) -> Self {
        Self::Picture(error)
    }
}

struct Captioner<'a> {
    model: &'a Model,
    question: &'a str,
    options: SessionOptions,
}

impl Captioner<'_> {
    /// The caption of the picture at `path` and the time of decoding it; `print` sees the caption piece by piece.
    fn caption(
        &self,
        path: &Path,
        mut print: impl FnMut(&str) -> io::Result<()>,
    ) -> Result<(Response, Duration), Failed> {
        let (picture, decode) = inputs::open(path)?;
        let encoded = self.model.encode_picture(&picture, self.options.mode)?;
        let mut session = self.model.session_with(self.options.clone())?;
        let mut stream = session.stream(prompt![&encoded, self.question])?;
        for piece in stream.by_ref() {
            print(&piece?).map_err(Failed::Output)?;
        }
        let mut response = stream.into_response();
        response.timings += encoded.timings();
        Ok((response, decode))
    }
}

/// Writes captions and failures to standard output, in one of the formats.
struct Printer<W> {
    stdout: W,
    format: CaptionFormat,
    /// One picture was asked for, by name.
    is_single: bool,
    num_records: usize,
}

impl<W: Write> Printer<W> {
    /// A piece of the caption that is being made.
    fn piece(&mut self, piece: &str) -> io::Result<()> {
        if self.is_single && self.format == CaptionFormat::Text {
            self.stdout.write_all(piece.as_bytes())?;
            self.stdout.flush()?;
        }
        Ok(())
    }

    fn caption(&mut self, path: &Path, response: &Response, record: &CaptionRecord<'_>) -> io::Result<()> {
        match self.format {
            CaptionFormat::Text if self.is_single => writeln!(self.stdout),
            CaptionFormat::Text => writeln!(self.stdout, "{}", output::caption_line(path, &response.text)),
            CaptionFormat::Json | CaptionFormat::Jsonl => self.record(record),
        }
    }

    fn failure(&mut self, failure: &FailureRecord) -> io::Result<()> {
        match self.format {
            CaptionFormat::Text => Ok(()),
            CaptionFormat::Json | CaptionFormat::Jsonl => self.record(failure),
        }
    }

    fn record(&mut self, record: &impl Serialize) -> io::Result<()> {
        let is_list = self.format == CaptionFormat::Json && !self.is_single;
        if is_list {
            self.stdout.write_all(if self.num_records == 0 { b"[\n" } else { b",\n" })?;
        }
        self.num_records += 1;
        match self.format {
            CaptionFormat::Json => serde_json::to_writer_pretty(&mut self.stdout, record)?,
            CaptionFormat::Text | CaptionFormat::Jsonl => serde_json::to_writer(&mut self.stdout, record)?,
        }
        if is_list { self.stdout.flush() } else { writeln!(self.stdout) }
    }

    fn finish(mut self) -> io::Result<()> {
        if self.format == CaptionFormat::Json && !self.is_single {
            self.stdout.write_all(b"\n]\n")?;
        }
        self.stdout.flush()
    }
}

//! `ocelli ask`: one question about one or several pictures, all in one prompt.

use std::io::{self, Write};
use std::path::PathBuf;
use std::time::Duration;

use ocelli::{Mode, Prompt, SessionOptions};

use crate::args::{AskArgs, CommonArgs, Format};
use crate::console::Console;
use crate::output::{self, AnswerRecord, FailureRecord, TimingsMs};
use crate::{Outcome, inputs, load_model};

/// Runs the verb. All pictures are needed: when one fails, there is no answer.
pub fn run(args: &AskArgs, common: &CommonArgs, console: &Console) -> anyhow::Result<Outcome> {
    inputs::check_standard_input(&args.paths);
    let model = load_model(common)?;
    let mut stdout = io::stdout().lock();
    let mut prompt = Prompt::new();
    let mut decode = Duration::ZERO;
    for path in &args.paths {
        match inputs::open(path) {
            Ok((picture, duration)) => {
                prompt = prompt.with(picture);
                decode += duration;
            }
            Err(error) => {
                let failure = FailureRecord::new(path, error.kind().as_str(), &error);
                if args.format == Format::Json {
                    output::write_json(&mut stdout, &failure)?;
                }
                console.error(&failure.message());
                return Ok(Outcome::Failed);
            }
        }
    }
    let mode: Mode = args.mode.into();
    let options = SessionOptions { mode, generation: args.sampling.generation_options(common) };
    let mut session = model.session_with(options)?;
    let mut stream = session.stream(prompt.with(args.question.as_str()))?;
    for piece in stream.by_ref() {
        let piece = piece?;
        if args.format == Format::Text {
            stdout.write_all(piece.as_bytes())?;
            stdout.flush()?;
        }
    }
    let response = stream.into_response();
    match args.format {
        Format::Text => writeln!(stdout)?,
        Format::Json => {
            let paths = args.paths.iter().map(PathBuf::as_path);
            let record = AnswerRecord::new(paths, &args.question, mode, model.name(), decode, &response);
            output::write_json(&mut stdout, &record)?;
        }
    }
    console.detail(&output::timings_line(&"answer", &TimingsMs::new(decode, &response), &response));
    Ok(Outcome::Done)
}

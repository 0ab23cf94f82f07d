//! One picture, as text: its caption on standard output, piece by piece.

use std::io::{self, Write};
use std::path::Path;

use ocelli::{Response, SessionOptions, prompt};

use super::Run;
use crate::Outcome;
use crate::console::Console;
use crate::inputs;
use crate::output::{self, TimingsMs};

/// Captions the picture at `path`.
pub fn run(run: &Run<'_>, path: &Path, console: &Console) -> anyhow::Result<Outcome> {
    let (picture, decode) = match inputs::open(path) {
        Ok(opened) => opened,
        Err(error) => {
            console.error(&output::escape_control(&error.to_string()));
            return Ok(Outcome::Failed);
        }
    };
    let encoded = run.model.encode_picture(&picture, run.options.mode)?;
    let session = SessionOptions { mode: run.options.mode, generation: run.options.generation.clone() };
    let mut session = run.model.session_with(session)?;
    let mut stream = session.stream(prompt![&encoded, run.settings.prompt.as_str()])?;
    let mut stdout = io::stdout().lock();
    for piece in stream.by_ref() {
        stdout.write_all(piece?.as_bytes())?;
        stdout.flush()?;
    }
    writeln!(stdout)?;
    let mut response: Response = stream.into_response();
    response.timings += encoded.timings();
    let timings = TimingsMs::new(decode, &response);
    console.detail(&output::timings_line(&output::printable(path), &timings, &response));
    Ok(Outcome::Done)
}

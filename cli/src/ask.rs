//! `ocelli ask`: one question about pictures, all in one prompt, or without any.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::CommandFactory;
use clap::error::ErrorKind;
use ocelli::{
    ContentHash, EncodedPicture, Limits, Mode, Model, Picture, PictureCache, Prompt, SessionOptions, Timings,
};

use crate::args::{AskArgs, Cli, CommonArgs, Format};
use crate::console::Console;
use crate::output::{self, AnswerRecord, FailureRecord, TimingsMs};
use crate::{Outcome, inputs, load_model};

/// Runs the verb. All pictures are needed: when one fails, there is no answer.
pub fn run(args: &AskArgs, common: &CommonArgs, console: &Console) -> anyhow::Result<Outcome> {
    let (paths, question) = split(&args.paths_and_question);
    inputs::check_standard_input(paths);
    let model = load_model(common)?;
    let mut stdout = io::stdout().lock();
    let mode: Mode = args.mode.into();
    let cache = args.cache.open()?;
    let mut prompt = Prompt::new();
    let (mut decode, mut encode) = (Duration::ZERO, Timings::default());
    for path in paths {
        match encoded(&model, path, mode, cache.as_deref(), console) {
            Ok((picture, duration)) => {
                decode += duration;
                encode += picture.timings();
                prompt = prompt.with(picture);
            }
            Err(error) => {
                let failure = FailureRecord::new(path, error.kind().as_str(), &error);
                if args.format == Format::Json {
                    output::write_json(&mut stdout, &failure)?;
                }
                console.error(&output::escape_control(failure.message()));
                return Ok(Outcome::Failed);
            }
        }
    }
    let options = SessionOptions { mode, generation: args.sampling.generation_options(common) };
    let mut session = model.session_with(options)?;
    let mut stream = session.stream(prompt.with(question))?;
    for piece in stream.by_ref() {
        let piece = piece?;
        if args.format == Format::Text {
            stdout.write_all(piece.as_bytes())?;
            stdout.flush()?;
        }
    }
    let mut response = stream.into_response();
    response.timings += encode;
    match args.format {
        Format::Text => writeln!(stdout)?,
        Format::Json => {
            let paths = paths.iter().map(PathBuf::as_path);
            let record = AnswerRecord::new(paths, question, mode, model.name(), decode, &response);
            output::write_json(&mut stdout, &record)?;
        }
    }
    console.detail(&output::timings_line(&"answer", &TimingsMs::new(decode, &response), &response));
    Ok(Outcome::Done)
}

/// The picture at `path` as the decoder sees it, from the cache if it is there, and the time of reading and decoding it.
fn encoded(
    model: &Model,
    path: &Path,
    mode: Mode,
    cache: Option<&PictureCache>,
    console: &Console,
) -> ocelli::Result<(EncodedPicture, Duration)> {
    let start = Instant::now();
    let (bytes, name) = inputs::read(path)?;
    let hash = cache.map(|_| ContentHash::of(&bytes));
    if let Some((cache, hash)) = cache.zip(hash)
        && let Some(encoded) = cache.get(model, &hash, mode)
    {
        return Ok((encoded, start.elapsed()));
    }
    let picture = Picture::from_bytes_with(&bytes, &name, &Limits::default())?;
    let decode = start.elapsed();
    let encoded = model.encode_picture(&picture, mode)?;
    if let Some((cache, hash)) = cache.zip(hash)
        && let Err(error) = cache.put(model, &hash, &encoded)
    {
        console.note(&format_args!("the encoded picture is not kept: {error}"));
    }
    Ok((encoded, decode))
}

/// The pictures, and the question after them. Ends the program with a usage error when the last argument is a picture, or no text.
fn split(arguments: &[PathBuf]) -> (&[PathBuf], &str) {
    let usage_error = |message: &str| Cli::command().error(ErrorKind::MissingRequiredArgument, message).exit();
    match arguments.split_last() {
        Some((last, paths)) => match last.to_str() {
            Some(_) if inputs::is_standard_input(last) || last.is_file() => {
                usage_error("the question is missing: it comes after the pictures")
            }
            Some(question) => (paths, question),
            None => usage_error("the question is not a text in UTF-8"),
        },
        None => usage_error("the question is missing"),
    }
}

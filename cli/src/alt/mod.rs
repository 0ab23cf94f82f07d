//! `ocelli alt`: alt texts for the pictures of Markdown and HTML that have none.

mod document;
mod found;
mod html;
mod markdown;
mod review;
mod source;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use ocelli::{CaptionLength, CaptionOptions};

use self::document::{AltText, Document};
use self::found::Found;
use self::review::Question;
use crate::args::{AltArgs, CommonArgs};
use crate::console::Console;
use crate::{Outcome, load_model};

/// A picture of a document that is to have an alt text.
struct Wanted<'a> {
    document: &'a Document,
    found: &'a Found,
    /// `FILE:LINE`
    place: String,
    picture: PathBuf,
}

/// Runs the verb. Documents and pictures that fail are reported, and the others are done.
pub fn run(args: &AltArgs, common: &CommonArgs, console: &Console) -> anyhow::Result<Outcome> {
    let mut outcome = Outcome::Done;
    let mut fail = |message: String| {
        console.error(&message);
        outcome = Outcome::Failed;
    };
    let mut documents = Vec::new();
    for document in document::collect(&args.paths, args.root.as_deref()) {
        match document {
            Ok(document) => documents.push(document),
            Err(message) => fail(message),
        }
    }
    let mut wanted = Vec::new();
    for document in &documents {
        for picture in wanted_of(document, console) {
            match picture {
                Ok(picture) => wanted.push(picture),
                Err(message) => fail(message),
            }
        }
    }
    let captions = captions_of(&distinct(&wanted), args, common, console)?;
    let captions: HashMap<_, _> = captions.into_iter().map(|(path, caption)| (identity(&path), caption)).collect();
    let mut proposals = Vec::new();
    for picture in wanted {
        match captions.get(&identity(&picture.picture)) {
            Some(Ok(caption)) if !caption.trim().is_empty() => proposals.push((picture, caption.clone())),
            Some(Err(error)) => fail(format!("{}: {error}", picture.place)),
            _ => fail(format!("{}: the model says nothing about {}", picture.place, picture.picture.display())),
        }
    }
    if args.review {
        proposals = reviewed(proposals)?;
    }
    let (mut num_texts, mut num_files) = (0, 0);
    let mut stdout = io::stdout().lock();
    for proposals in proposals.chunk_by(|(a, _), (b, _)| std::ptr::eq(a.document, b.document)) {
        let Some((Wanted { document, .. }, _)) = proposals.first() else { continue };
        let texts: Vec<_> =
            proposals.iter().map(|(picture, text)| AltText { found: picture.found, text: text.clone() }).collect();
        if args.write {
            if let Err(message) = document.write(&texts) {
                fail(message);
                continue;
            }
            for (Wanted { place, found, .. }, text) in proposals {
                writeln!(stdout, "{place}: {}: {text}", shown(&found.src))?;
            }
        } else {
            write!(stdout, "{}", document.diff(&texts))?;
        }
        num_texts += texts.len();
        num_files += 1;
    }
    stdout.flush()?;
    console.note(&summary(num_texts, num_files, args.write));
    Ok(outcome)
}

fn summary(num_texts: usize, num_files: usize, is_written: bool) -> String {
    let count = |number, name| if number == 1 { format!("1 {name}") } else { format!("{number} {name}s") };
    let (texts, files) = (count(num_texts, "alt text"), count(num_files, "file"));
    match (num_texts, is_written) {
        (0, _) => "no alt texts to add".to_owned(),
        (_, true) => format!("{texts} written to {files}"),
        (_, false) => format!("{texts} for {files}; --write puts them in"),
    }
}

/// The pictures of a document that are files, and what is wrong with the others. Those that are none of ours are told.
fn wanted_of<'a>(document: &'a Document, console: &Console) -> Vec<Result<Wanted<'a>, String>> {
    let mut wanted = Vec::new();
    let folder = document.folder();
    for (found, line) in document.found.iter().zip(document.lines()) {
        let place = format!("{}:{line}", document.path.display());
        if let Some(reason) = found.skipped {
            // A `data:` URL is a whole picture.
            let src: String = found.src.chars().take(80).collect();
            console.note(&format_args!("{place}: {}: skipped, {reason}", shown(&src)));
            continue;
        }
        wanted.push(match source::resolve(&found.src, &folder, &document.root) {
            Ok(picture) => Ok(Wanted { document, found, place, picture }),
            Err(path) => Err(shown(&format!("{place}: {}: there is no file {}", found.src, path.display()))),
        });
    }
    wanted
}

/// A text of a document for a terminal: on one line, without what would steer it.
fn shown(text: &str) -> String {
    text.replace(char::is_control, "\u{fffd}")
}

/// What is the same for all paths to a file.
fn identity(path: &Path) -> PathBuf {
    fs::canonicalize(path).unwrap_or_else(|_| path.to_owned())
}

/// Each file once, by the first path to it.
fn distinct(wanted: &[Wanted<'_>]) -> Vec<PathBuf> {
    let mut seen = HashSet::new();
    wanted.iter().map(|wanted| &wanted.picture).filter(|path| seen.insert(identity(path))).cloned().collect()
}

/// The captions of pictures. Without pictures, the model is not loaded.
fn captions_of(
    paths: &[PathBuf],
    args: &AltArgs,
    common: &CommonArgs,
    console: &Console,
) -> anyhow::Result<Vec<(PathBuf, Result<String, ocelli::Error>)>> {
    if paths.is_empty() {
        return Ok(Vec::new());
    }
    let model = load_model(common)?;
    let (mode, length) = (args.mode.into(), CaptionLength::Alt);
    let generation = args.sampling.generation_options(common);
    let options = CaptionOptions { mode, length, generation, ..Default::default() };
    let console = console.with_progress(paths.len());
    let mut captions = Vec::with_capacity(paths.len());
    for (path, caption) in paths.iter().zip(model.captions_with(paths, options.into())) {
        captions.push((path.clone(), caption.result.map(|response| response.text)));
        console.set_progress(captions.len(), path.display().to_string());
    }
    console.finish();
    Ok(captions)
}

/// The proposals that a person accepts, as they were edited.
fn reviewed<'a>(proposals: Vec<(Wanted<'a>, String)>) -> io::Result<Vec<(Wanted<'a>, String)>> {
    let question = |(picture, text): &(Wanted<'_>, String)| Question {
        about: format!("{}: {}", picture.place, picture.picture.display()),
        text: text.clone(),
    };
    let questions: Vec<_> = proposals.iter().map(question).collect();
    let accepted = review::review(&questions, &mut io::stdin().lock(), &mut io::stderr().lock())?;
    Ok(proposals.into_iter().zip(accepted).filter_map(|((picture, _), text)| Some((picture, text?))).collect())
}

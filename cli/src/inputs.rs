//! Paths of the command line to pictures: files, directories, standard input.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use clap::CommandFactory;
use clap::error::ErrorKind as UsageErrorKind;
use ignore::WalkBuilder;
use ocelli::{ErrorKind, Limits, Picture};

use crate::args::Cli;
use crate::output::FailureRecord;

/// The path that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Something to caption, or the reason why there is nothing.
#[derive(Debug)]
pub enum Input {
    /// A picture, to be opened.
    Picture(PathBuf),
    /// A path that gives no picture.
    Failed(FailureRecord),
}

/// True when `path` stands for standard input.
pub fn is_standard_input(path: &Path) -> bool {
    path == Path::new(STANDARD_INPUT)
}

/// Ends the program with a usage error when standard input is to be read twice.
pub fn check_standard_input(paths: &[PathBuf]) {
    if paths.iter().filter(|path| is_standard_input(path)).count() > 1 {
        let message = "`-` is given more than once, but standard input can be read only once";
        Cli::command().error(UsageErrorKind::ArgumentConflict, message).exit();
    }
}

/// The pictures that `paths` name, in their order: files and standard input themselves, and the pictures in directories by name.
/// Files in directories that are not pictures are left out, so are those that are hidden or that ignore files exclude.
pub fn collect(paths: &[PathBuf], recursive: bool) -> Vec<Input> {
    let mut inputs = Vec::new();
    for path in paths {
        if is_standard_input(path) || !path.is_dir() {
            inputs.push(Input::Picture(path.clone()));
            continue;
        }
        let before = inputs.len();
        walk(path, recursive, &mut inputs);
        if inputs.len() == before {
            let hint = if recursive { "" } else { " (-r goes into the directories inside it)" };
            let message = format!("{} is a directory without pictures{hint}", path.display());
            inputs.push(Input::Failed(FailureRecord::new(path, ErrorKind::NotAPicture.as_str(), &message)));
        }
    }
    inputs
}

fn walk(folder: &Path, recursive: bool, inputs: &mut Vec<Input>) {
    let mut walk = WalkBuilder::new(folder);
    walk.sort_by_file_name(|a, b| a.cmp(b)).max_depth((!recursive).then_some(1));
    for entry in walk.build() {
        match entry {
            Ok(entry) if entry.path().is_file() && may_be_picture(entry.path()) => {
                inputs.push(Input::Picture(entry.into_path()));
            }
            Ok(_) => {}
            Err(error) => {
                inputs.push(Input::Failed(FailureRecord::new(folder, ErrorKind::Io.as_str(), &error)));
            }
        }
    }
}

/// Whether a file begins like a picture; one that cannot be read may be one, and is reported later.
fn may_be_picture(path: &Path) -> bool {
    let mut head = Vec::new();
    match File::open(path).and_then(|file| file.take(64).read_to_end(&mut head)) {
        // The beginning of a picture is refused too, but for another reason.
        Ok(_) => match Picture::from_bytes(&head).map_err(ocelli::Error::from) {
            Err(error) => error.kind() != ErrorKind::NotAPicture,
            Ok(_) => true,
        },
        Err(_) => true,
    }
}

/// Reads and decodes the picture at `path`; with the time that it took.
pub fn open(path: &Path) -> Result<(Picture, Duration), ocelli::Error> {
    let start = Instant::now();
    let picture = if is_standard_input(path) {
        Picture::from_reader(std::io::stdin().lock(), "standard input", &Limits::default())?
    } else {
        Picture::open(path)?
    };
    Ok((picture, start.elapsed()))
}

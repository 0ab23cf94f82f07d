//! What the command line names, as pictures: files, directories, lists of them, standard input.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;
use clap::CommandFactory;
use clap::error::ErrorKind as UsageErrorKind;
use ignore::WalkBuilder;
use ocelli::{ErrorKind, Limits, Picture, read_picture_file, read_picture_stream};

use crate::args::Cli;
use crate::output::FailureRecord;

/// The path that stands for standard input.
const STANDARD_INPUT: &str = "-";

/// Names that promise a picture: what is under them is a failure if it is none. Others are left out of directories then.
const PICTURE_EXTENSIONS: [&str; 11] =
    ["jpg", "jpeg", "jpe", "jfif", "png", "gif", "webp", "bmp", "dib", "tif", "tiff"];

/// Something to caption, or the reason why there is nothing.
#[derive(Debug)]
pub enum Input {
    /// A picture, to be opened.
    Picture(PathBuf),
    /// The picture on standard input.
    Stdin,
    /// A path that gives no picture.
    Failed(FailureRecord),
}

/// True when `path` stands for standard input.
pub fn is_standard_input(path: &Path) -> bool {
    path == Path::new(STANDARD_INPUT)
}

/// Ends the program with a usage error when standard input is to be read twice.
pub fn check_standard_input<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) {
    if paths.into_iter().filter(|path| is_standard_input(path)).count() > 1 {
        let message = "`-` is given more than once, but standard input can be read only once";
        Cli::command().error(UsageErrorKind::ArgumentConflict, message).exit();
    }
}

/// The pictures that `paths` name, in their order: files and standard input themselves, and the pictures in directories by name. Files in
/// directories that are not pictures, by content and by name, are left out; so are those that are hidden or that ignore files exclude. Links to files are
/// followed, links to directories inside a directory are not.
pub fn collect(paths: &[PathBuf], recursive: bool) -> Vec<Input> {
    let mut inputs = Vec::new();
    for path in paths {
        if is_standard_input(path) {
            inputs.push(Input::Stdin);
        } else if path.is_dir() {
            let before = inputs.len();
            walk(path, recursive, &mut inputs);
            if inputs.len() == before {
                let hint = if recursive { "" } else { " (-r goes into the directories inside it)" };
                let message = format!("{} is a directory without pictures{hint}", path.display());
                inputs.push(Input::Failed(FailureRecord::new(path, ErrorKind::NotAPicture.as_str(), &message)));
            }
        } else {
            inputs.push(Input::Picture(path.clone()));
        }
    }
    inputs
}

/// The paths in the file `list`, or on standard input: between NUL bytes if there is one, else lines.
pub fn read_list(list: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut bytes = Vec::new();
    if is_standard_input(list) {
        io::stdin().lock().read_to_end(&mut bytes).context("cannot read the list of pictures on standard input")?;
    } else {
        bytes = fs::read(list).with_context(|| format!("cannot read the list of pictures {}", list.display()))?;
    }
    let separator = if bytes.contains(&0) { 0 } else { b'\n' };
    let entries = bytes.split(|&byte| byte == separator);
    let entries =
        entries.map(|entry| if separator == b'\n' { entry.strip_suffix(b"\r").unwrap_or(entry) } else { entry });
    entries
        .filter(|entry| !entry.is_empty())
        .map(|entry| {
            let path = path_of(entry).context("the list of pictures has a name that is not UTF-8")?;
            // In a list it is a name like others.
            Ok(if is_standard_input(&path) { Path::new(".").join(path) } else { path })
        })
        .collect()
}

/// The path with these bytes, if the system has such paths.
pub fn path_of(bytes: &[u8]) -> Option<PathBuf> {
    #[cfg(unix)]
    {
        use std::os::unix::ffi::OsStrExt;
        Some(PathBuf::from(std::ffi::OsStr::from_bytes(bytes)))
    }
    #[cfg(not(unix))]
    std::str::from_utf8(bytes).ok().map(PathBuf::from)
}

fn walk(folder: &Path, recursive: bool, inputs: &mut Vec<Input>) {
    let mut walk = WalkBuilder::new(folder);
    walk.sort_by_file_name(|a, b| a.cmp(b)).max_depth((!recursive).then_some(1));
    for entry in walk.build() {
        match entry {
            Ok(entry) if may_be_picture(entry.path()) => inputs.push(Input::Picture(entry.into_path())),
            Ok(_) => {}
            Err(error) => {
                inputs.push(Input::Failed(FailureRecord::new(folder, ErrorKind::Io.as_str(), &error)));
            }
        }
    }
}

/// Whether a path in a directory is to be captioned: it has the name of a picture, or begins like one. A file that cannot be read may be one, and is
/// reported later.
fn may_be_picture(path: &Path) -> bool {
    if path.is_dir() {
        return false;
    }
    let extension = path.extension().and_then(|extension| extension.to_str());
    if extension.is_some_and(|extension| PICTURE_EXTENSIONS.iter().any(|known| extension.eq_ignore_ascii_case(known))) {
        return true;
    }
    // Opening a pipe waits for a writer.
    if !path.is_file() {
        return false;
    }
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

/// The bytes of the picture at `path`, and what messages call it.
pub fn read(path: &Path) -> ocelli::Result<(Vec<u8>, String)> {
    let (limits, standard_input) = (Limits::default(), "standard input");
    Ok(if is_standard_input(path) {
        (read_picture_stream(io::stdin().lock(), standard_input, &limits)?, standard_input.to_owned())
    } else {
        (read_picture_file(path, &limits)?, path.display().to_string())
    })
}

/// Reads and decodes the picture at `path`; with the time that it took.
pub fn open(path: &Path) -> ocelli::Result<(Picture, Duration)> {
    let start = Instant::now();
    let (bytes, name) = read(path)?;
    let picture = Picture::from_bytes_with(&bytes, &name, &Limits::default())?;
    Ok((picture, start.elapsed()))
}

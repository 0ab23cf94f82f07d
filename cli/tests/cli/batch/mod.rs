//! `ocelli caption` on folders: one record a picture whatever the others are, whole lines whatever ends it, texts of people that stay.

mod cache;
mod lists;
mod options;
mod output_file;
mod records;
mod sidecars;

#[cfg(target_os = "linux")]
mod broken;
#[cfg(target_os = "linux")]
mod folder_of_300;
#[cfg(target_os = "linux")]
mod interruption;
#[cfg(target_os = "linux")]
mod running;
#[cfg(target_os = "linux")]
mod three_hundred;

use std::path::Path;

use crate::pictures::Folder;
use crate::run::{Ocelli, ocelli};
use crate::support::TinyModel;

/// `ocelli caption` with the tiny model and short captions; `folder` is called `[FOLDER]`.
fn caption<A: AsRef<Path>>(folder: &Folder, model: &TinyModel, arguments: impl IntoIterator<Item = A>) -> Ocelli {
    let common = ["--mode", "rapid", "-n", "2", "--model"].map(Path::new);
    let arguments: Vec<_> = arguments.into_iter().map(|argument| argument.as_ref().to_owned()).collect();
    let all = [Path::new("caption")].into_iter().chain(common).chain([model.path()]);
    let model_name = model.path().file_name().unwrap();
    ocelli(all.chain(arguments.iter().map(AsRef::as_ref)))
        .call(folder.path(), "[FOLDER]")
        .call(model_name.as_ref(), "[MODEL]")
}

/// The names of the files in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

//! The file of `--output`: a line a picture, added whole and at once, so that whatever ends the program leaves all lines before.

use std::collections::HashSet;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

use super::earlier::Earlier;
use super::record::{CSV_COLUMNS, Settings, csv_row};
use crate::files::write_whole;
use crate::output::RecordPath;

/// Formats to which lines can be added.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TableFormat {
    /// JSON Lines.
    Jsonl,
    /// Comma-separated values.
    Csv,
}

/// What is done with a file that is there already.
pub enum WhenThere<'a> {
    /// It is an error, unless it is empty.
    Refuse,
    /// It is replaced.
    Overwrite,
    /// It is gone on with. Captions that are not wanted are made again.
    Resume { settings: &'a Settings, keep: &'a dyn Fn(&RecordPath) -> bool },
}

/// An open file, which no other run can open while this value is there.
#[derive(Debug)]
pub struct OutputFile {
    file: File,
    path: PathBuf,
    /// The file that was there before the lines were rewritten: locked as well, for those who opened it before.
    _replaced: Option<File>,
}

impl OutputFile {
    /// Opens the file at `path`, and says which pictures it has captions of.
    ///
    /// # Errors
    /// When it is there and may not be, belongs to another run, or cannot be written.
    pub fn open(
        path: &Path,
        format: TableFormat,
        when_there: WhenThere<'_>,
    ) -> anyhow::Result<(Self, HashSet<RecordPath>)> {
        let name = path.display().to_string();
        let mut file = open_locked(path)?;
        let mut replaced = None;
        let mut captioned = HashSet::new();
        let is_empty = file.metadata().with_context(|| format!("cannot read {name}"))?.len() == 0;
        match when_there {
            WhenThere::Refuse if !is_empty => {
                bail!("{name} is there already: --resume goes on with it, --overwrite replaces it")
            }
            WhenThere::Refuse => {}
            WhenThere::Overwrite => file.set_len(0).with_context(|| format!("cannot write {name}"))?,
            WhenThere::Resume { settings, keep } => {
                let bytes = fs::read(path).with_context(|| format!("cannot read {name}"))?;
                let earlier = Earlier::read(&bytes, format, &name, settings, keep)?;
                captioned = earlier.captioned;
                if let Some(lines) = earlier.rewritten {
                    write_whole(path, &lines, true).with_context(|| format!("cannot write {name}"))?;
                    replaced = Some(std::mem::replace(&mut file, open_locked(path)?));
                }
            }
        }
        let mut output = Self { file, path: path.to_owned(), _replaced: replaced };
        if format == TableFormat::Csv && output.file.metadata().is_ok_and(|metadata| metadata.len() == 0) {
            output.write_line(&csv_row(CSV_COLUMNS))?;
        }
        Ok((output, captioned))
    }

    /// Adds a line, with its line end, in one piece.
    ///
    /// # Errors
    /// When the file cannot be written to.
    pub fn write_line(&mut self, line: &[u8]) -> anyhow::Result<()> {
        self.file.write_all(line).with_context(|| format!("cannot write {}", self.path.display()))
    }
}

/// The file at `path`, made if it is not there, for adding to its end.
fn open_locked(path: &Path) -> anyhow::Result<File> {
    let open = || OpenOptions::new().read(true).append(true).create(true).open(path);
    let file = open().with_context(|| format!("cannot write {}", path.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            bail!(
                "another run is writing {}: wait for it, or give another file (--shard needs one for each)",
                path.display()
            )
        }
        // Some network file systems have no locks.
        Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => Ok(file),
        Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
    }
}

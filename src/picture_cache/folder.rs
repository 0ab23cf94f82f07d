//! The folder of the cache: which of its files are ours, and which go when there are too many.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tempfile::{Builder, NamedTempFile};

use super::entry::{is_hex, is_name};
use crate::error::{Cause, Result};

const PARTIAL_PREFIX: &str = ".ocelli-tokens-";
const PARTIAL_SUFFIX: &str = ".partial";
/// Nobody writes an entry for so long: its process was ended.
const LEFTOVER_AGE: Duration = Duration::from_secs(60 * 60);

/// A file in `folder` that is removed unless it gets the name of an entry.
pub(super) fn partial_file(folder: &Path) -> io::Result<NamedTempFile> {
    Builder::new().prefix(PARTIAL_PREFIX).suffix(PARTIAL_SUFFIX).tempfile_in(folder)
}

/// A file of an entry.
struct Entry {
    path: PathBuf,
    bytes: u64,
    /// When it was written or used.
    used: SystemTime,
}

/// Makes room for an entry of `num_bytes` (at most `max_bytes`), and says how many bytes the others have. When some have to go, a tenth is made free,
/// so that the next entries cost no look at the folder.
pub(super) fn make_room(folder: &Path, num_bytes: u64, max_bytes: u64) -> Result<u64> {
    let entries = scan(folder).map_err(|source| Cause::Read { path: folder.to_owned(), source })?;
    remove_oldest(entries, num_bytes, max_bytes)
}

/// The entries in `folder`. Removes what ended processes left behind.
fn scan(folder: &Path) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for models in fs::read_dir(folder)?.flatten() {
        let is_ours = models.file_name().to_str().is_some_and(|name| is_hex(name, 16));
        if !is_ours || !models.file_type().is_ok_and(|kind| kind.is_dir()) {
            continue;
        }
        // Folders and files that cannot be read, or are gone by now, count for nothing.
        for file in fs::read_dir(models.path()).into_iter().flatten().flatten() {
            let name = file.file_name();
            let (Some(name), Ok(metadata)) = (name.to_str(), file.metadata()) else { continue };
            let Ok(used) = metadata.modified() else { continue };
            if !metadata.is_file() {
                continue;
            }
            if is_name(name) {
                entries.push(Entry { path: file.path(), bytes: metadata.len(), used });
            } else if name.starts_with(PARTIAL_PREFIX)
                && name.ends_with(PARTIAL_SUFFIX)
                && used.elapsed().is_ok_and(|age| age > LEFTOVER_AGE)
            {
                let _ = fs::remove_file(file.path());
            }
        }
    }
    Ok(entries)
}

fn remove_oldest(mut entries: Vec<Entry>, num_bytes: u64, max_bytes: u64) -> Result<u64> {
    let fits = |others: u64, limit: u64| others.saturating_add(num_bytes) <= limit;
    let mut others: u64 = entries.iter().map(|entry| entry.bytes).sum();
    if fits(others, max_bytes) {
        return Ok(others);
    }
    entries.sort_by_key(|entry| entry.used);
    let mut failure = None;
    for Entry { path, bytes, .. } in entries {
        if fits(others, max_bytes - max_bytes / 10) {
            break;
        }
        match fs::remove_file(&path) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => failure = Some(Cause::Remove { path, source }),
            _ => others -= bytes,
        }
    }
    match failure {
        Some(failure) if !fits(others, max_bytes) => Err(failure.into()),
        _ => Ok(others),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(folder: &Path, name: &str, seconds: u64) -> Entry {
        let path = folder.join(name);
        fs::write(&path, [0; 10]).unwrap();
        Entry { path, bytes: 10, used: SystemTime::UNIX_EPOCH + Duration::from_secs(seconds) }
    }

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn the_oldest_go_until_a_tenth_is_free() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let entries = || [("a", 3), ("b", 1), ("c", 2)].map(|(name, seconds)| entry(folder, name, seconds)).into();
        assert_eq!(remove_oldest(entries(), 10, 40).unwrap(), 30);
        assert_eq!(names(folder), ["a", "b", "c"], "nothing goes while there is room");
        assert_eq!(remove_oldest(entries(), 10, 39).unwrap(), 20);
        assert_eq!(names(folder), ["a", "c"]);
        assert_eq!(remove_oldest(entries(), 35, 35).unwrap(), 0);
        assert_eq!(names(folder), [""; 0]);
    }

    #[test]
    fn an_entry_that_another_process_removed_meanwhile_is_gone_as_well() {
        let folder = tempfile::tempdir().unwrap();
        let entries = vec![entry(folder.path(), "a", 1), entry(folder.path(), "b", 2)];
        fs::remove_file(&entries[0].path).unwrap();
        assert_eq!(remove_oldest(entries, 10, 25).unwrap(), 10);
        assert_eq!(names(folder.path()), ["b"]);
    }

    #[test]
    fn room_that_cannot_be_made_is_an_error_with_the_path() {
        let folder = tempfile::tempdir().unwrap();
        // A folder is no file that can be removed.
        let path = folder.path().join("a");
        fs::create_dir(&path).unwrap();
        let stuck = || Entry { path: path.clone(), bytes: 10, used: SystemTime::UNIX_EPOCH };
        let message = remove_oldest(vec![stuck()], 10, 15).unwrap_err().to_string();
        assert!(message.starts_with(&format!("cannot remove {}: ", path.display())), "{message}");
        let entries = vec![stuck(), entry(folder.path(), "b", 2)];
        assert_eq!(remove_oldest(entries, 10, 25).unwrap(), 10, "the next one goes in its place");
    }

    #[test]
    fn only_our_own_files_are_counted_and_only_old_leftovers_removed() {
        let folder = tempfile::tempdir().unwrap();
        let models = folder.path().join("0123456789abcdef");
        fs::create_dir(&models).unwrap();
        let name = format!("rapid-{}.tokens", "0".repeat(64));
        let kept = [".ocelli-tokens-new.partial", "notes.tokens", "old.partial", &name];
        for file in kept.iter().chain(&[".ocelli-tokens-old.partial"]) {
            fs::write(models.join(file), [0; 10]).unwrap();
            if file.contains("old") {
                let file = fs::OpenOptions::new().write(true).open(models.join(file)).unwrap();
                file.set_modified(SystemTime::now() - LEFTOVER_AGE * 2).unwrap();
            }
        }
        fs::write(folder.path().join(&name), [0; 10]).unwrap();
        let entries = scan(folder.path()).unwrap();
        assert_eq!(entries.iter().map(|entry| &entry.path).collect::<Vec<_>>(), [&models.join(&name)]);
        assert_eq!(names(&models), kept);
    }
}

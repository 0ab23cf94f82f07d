//! Encoded pictures on disk: a second question about the same folder costs no encoding.
//!
//! ```text
//! FOLDER/<fingerprint, 16 hex digits>/<mode>-<content hash>.tokens
//! ```
//!
//! The fingerprint stands for everything but the picture that decides its image tokens. Entries are written under another name and renamed, so that
//! several processes can use one folder at once.

mod entry;
mod fingerprint;
mod folder;

use std::fmt;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use ocelli_vision::Mode;
use sha2::{Digest, Sha256};

use crate::error::{Cause, Result};
use crate::model::{EncodedPicture, Model};
use entry::Key;
pub(crate) use fingerprint::Fingerprint;

/// SHA-256 of the bytes of a picture file. [`Display`](fmt::Display) gives lower-case hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ContentHash([u8; 32]);

impl ContentHash {
    /// The hash of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(f, &self.0)
    }
}

fn write_hex(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// A folder of encoded pictures of limited size, from which the least recently used go first.
///
/// It may be shared by threads, and its folder by processes; processes that write at once may pass the limit together until one of them
/// looks at the folder again. A broken entry is as good as none.
///
/// ```
/// use ocelli::{ContentHash, Mode, Model, Picture, PictureCache, prompt};
///
/// # let folder = tempfile::tempdir().unwrap();
/// # let folder = folder.path();
/// let model = Model::bundled()?;
/// let cache = PictureCache::open(folder, 1 << 30)?;
/// let bytes = std::fs::read("assets/examples/scene.png").unwrap();
/// let hash = ContentHash::of(&bytes);
/// let encoded = match cache.get(&model, &hash, Mode::Rapid) {
///     Some(encoded) => encoded,
///     None => {
///         let encoded = model.encode_picture(&Picture::from_bytes(&bytes)?, Mode::Rapid)?;
///         cache.put(&model, &hash, &encoded)?;
///         encoded
///     }
/// };
/// println!("{}", model.session().respond(prompt![encoded, "How many objects are there?"])?);
/// # Ok::<(), ocelli::Error>(())
/// ```
#[derive(Debug)]
pub struct PictureCache {
    folder: PathBuf,
    max_bytes: u64,
    /// Bytes of all entries, as far as this value knows; none before the first look at the folder.
    total: Mutex<Option<u64>>,
}

impl PictureCache {
    /// Opens the cache in `folder`, which is created if it is not there, for entries of at most `max_bytes` together. What else is in the folder is
    /// left alone.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io) when there is no such folder and it cannot be created.
    pub fn open(folder: impl AsRef<Path>, max_bytes: u64) -> Result<Self> {
        let folder = folder.as_ref().to_owned();
        fs::create_dir_all(&folder).map_err(|source| {
            let source = match source.kind() {
                io::ErrorKind::AlreadyExists => {
                    io::Error::other("it is a file, expected a folder for encoded pictures")
                }
                _ => source,
            };
            cannot_write(&folder)(source)
        })?;
        Ok(Self { folder, max_bytes, total: Mutex::new(None) })
    }

    /// The picture whose file has that hash, as `model` sees it in `mode`, if it is there, whole and of this very model. Its timings are zero.
    pub fn get(&self, model: &Model, hash: &ContentHash, mode: Mode) -> Option<EncodedPicture> {
        let shape = model.image_tokens_of_view(mode).ok()?;
        let key = Key { fingerprint: &model.fingerprint().ok()?, hash, mode };
        let path = self.folder.join(key.path());
        match entry::read(&path, key, shape) {
            Ok(picture) => {
                // The time of the last use. In a cache that cannot be written to, nothing is removed either.
                let _ =
                    OpenOptions::new().write(true).open(&path).and_then(|file| file.set_modified(SystemTime::now()));
                Some(picture)
            }
            Err(error) => {
                if error.kind() != io::ErrorKind::NotFound {
                    tracing::debug!(path = %path.display(), %error, "cached picture left aside");
                }
                None
            }
        }
    }

    /// Keeps `picture`, which `model` made of the file of that hash. An entry of the same picture, model and mode is replaced. A picture that is
    /// larger than the whole cache, or has values that are not finite, is not kept.
    ///
    /// # Errors
    /// [`ErrorKind::Io`](crate::ErrorKind::Io), with the path, when the entry cannot be written or no room can be made for it;
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a decoder alone.
    pub fn put(&self, model: &Model, hash: &ContentHash, picture: &EncodedPicture) -> Result<()> {
        let key = Key { fingerprint: &model.fingerprint()?, hash, mode: picture.mode };
        let bytes = entry::to_bytes(key, picture);
        let num_bytes = bytes.len() as u64;
        if num_bytes > self.max_bytes || !picture.tokens.iter().all(|value| value.is_finite()) {
            return Ok(());
        }
        let path = self.folder.join(key.path());
        let folder = path.parent().unwrap_or(&self.folder);
        fs::create_dir_all(folder).map_err(cannot_write(folder))?;
        let mut file = folder::partial_file(folder).map_err(cannot_write(folder))?;
        file.write_all(&bytes).map_err(cannot_write(file.path()))?;
        // The system's own time of a write may be some milliseconds old, older than that of a hit before it.
        let _ = file.as_file().set_modified(SystemTime::now());

        // Held until the entry has its name, so that a look at the folder by another thread counts it.
        let mut total = self.total.lock().unwrap_or_else(PoisonError::into_inner);
        let others = match *total {
            Some(others) if others.saturating_add(num_bytes) <= self.max_bytes => others,
            _ => folder::make_room(&self.folder, num_bytes, self.max_bytes)?,
        };
        file.persist(&path).map_err(|error| cannot_write(&path)(error.error))?;
        *total = Some(others + num_bytes);
        Ok(())
    }
}

fn cannot_write(path: &Path) -> impl Fn(io::Error) -> Cause {
    move |source| Cause::Write { path: path.to_owned(), source }
}

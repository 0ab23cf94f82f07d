//! Files from strangers: read whole, but not when they are larger than they can sensibly be.

use std::path::Path;

use crate::error::{Error, Result};

/// The bytes of a file of at most `max_bytes`.
pub(crate) fn read(path: &Path, max_bytes: u64) -> Result<Vec<u8>> {
    let read_error = |source| Error::Read { path: path.to_owned(), source };
    let num_bytes = std::fs::metadata(path).map_err(read_error)?.len();
    if num_bytes > max_bytes {
        let message = format!("it has {num_bytes} bytes, expected at most {max_bytes}");
        return Err(read_error(std::io::Error::new(std::io::ErrorKind::FileTooLarge, message)));
    }
    std::fs::read(path).map_err(read_error)
}

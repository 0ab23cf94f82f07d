//! Sidecars: files beside a picture that hold its caption. Plain text, or XMP as photo managers read and write it.

mod error;
mod field;
mod packet;
mod property;
#[cfg(test)]
mod tests;
mod wellformed;
mod xmp;

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use clap::ValueEnum;

use self::error::Fault;
pub use self::error::SidecarError;
use self::packet::Packet;
use crate::files::write_whole;

/// The largest sidecar that is read, in bytes: more than any program writes.
const MAX_BYTES: u64 = 16 << 20;

/// What a sidecar is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SidecarKind {
    /// The caption as plain text, as training tools read it
    Txt,
    /// Caption and alt text as XMP, as photo managers read it; what others wrote into the file stays
    Xmp,
}

impl SidecarKind {
    /// How such sidecars are usually named: training tools look for `photo.txt`; digiKam and darktable for `photo.jpg.xmp`, which
    /// keeps `photo.raw` and `photo.jpg` apart.
    pub fn default_name(self) -> SidecarName {
        match self {
            Self::Txt => SidecarName::Adobe,
            Self::Xmp => SidecarName::Ext,
        }
    }

    fn extension(self) -> &'static str {
        match self {
            Self::Txt => "txt",
            Self::Xmp => "xmp",
        }
    }
}

/// How a sidecar is named.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SidecarName {
    /// `photo.jpg.xmp`: after the whole name of the picture
    Ext,
    /// `photo.xmp`: in place of the picture's extension
    Adobe,
}

/// What a sidecar says.
#[derive(Clone, Copy, Debug)]
pub struct SidecarText<'a> {
    /// The caption.
    pub caption: &'a str,
    /// The short text for those who cannot see the picture.
    pub alt_text: &'a str,
    /// The model that wrote them.
    pub model: &'a str,
    /// The program, such as `ocelli 0.1.0`.
    pub version: &'a str,
    /// How closely the model looked.
    pub mode: &'a str,
    /// What the model was asked.
    pub prompt: &'a str,
    /// The hash of the picture's bytes.
    pub content_hash: &'a str,
}

/// Where the sidecar of a picture is.
pub fn path_for(picture: &Path, kind: SidecarKind, name: SidecarName) -> PathBuf {
    let extension = kind.extension();
    // A picture that is named like its own sidecar must not be overwritten by it.
    let is_taken = picture.extension().is_some_and(|taken| taken.eq_ignore_ascii_case(extension));
    if name == SidecarName::Adobe && !is_taken {
        return picture.with_extension(extension);
    }
    let mut path = picture.as_os_str().to_owned();
    path.push(".");
    path.push(extension);
    path.into()
}

/// Whether the sidecar at `path` holds a text, whoever wrote it. An XMP sidecar without caption and alt text holds none.
pub fn has_text(path: &Path, kind: SidecarKind) -> Result<bool, SidecarError> {
    let Some(bytes) = read(path)? else { return Ok(false) };
    match kind {
        SidecarKind::Txt => Ok(is_text(&bytes)),
        SidecarKind::Xmp => {
            let (_, text) = decoded(&bytes).map_err(|fault| fault.at(path))?;
            Ok(Packet::parse(text).map_err(|fault| fault.at(path))?.has_text())
        }
    }
}

/// Writes the sidecar at `path`. A text that is there already is an error, unless `overwrite` is true. XMP is merged: everything
/// but the caption, the alt text and our provenance stays as it was, byte for byte.
pub fn write(path: &Path, kind: SidecarKind, text: &SidecarText<'_>, overwrite: bool) -> Result<(), SidecarError> {
    let existing = read(path)?;
    let (bytes, replace) = match (kind, &existing) {
        (SidecarKind::Txt, Some(existing)) if !overwrite && is_text(existing) => return Err(exists(path)),
        (SidecarKind::Txt, _) => (format!("{}\n", text.caption).into_bytes(), overwrite || existing.is_some()),
        // What appeared in the meantime would have to be merged, so it is not replaced even with `overwrite`.
        (SidecarKind::Xmp, None) => (xmp::fresh(text).map_err(|fault| fault.at(path))?.into_bytes(), false),
        (SidecarKind::Xmp, Some(existing)) => {
            let (mark, existing) = decoded(existing).map_err(|fault| fault.at(path))?;
            let packet = Packet::parse(existing).map_err(|fault| fault.at(path))?;
            if !overwrite && packet.has_text() {
                return Err(exists(path));
            }
            ([mark, xmp::merge(existing, &packet, text).as_str()].concat().into_bytes(), true)
        }
    };
    write_whole(path, &bytes, replace).map_err(|source| match source.kind() {
        io::ErrorKind::AlreadyExists => exists(path),
        _ => SidecarError::Io { path: path.to_owned(), source },
    })
}

fn exists(path: &Path) -> SidecarError {
    SidecarError::Exists { path: path.to_owned() }
}

/// The bytes of a sidecar, if it is there.
fn read(path: &Path) -> Result<Option<Vec<u8>>, SidecarError> {
    let io_error = |source| SidecarError::Io { path: path.to_owned(), source };
    let metadata = match fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(io_error(error)),
    };
    // Opening a pipe would wait for whoever writes into it.
    if !metadata.is_file() {
        return Err(Fault::Unsupported("it is not a regular file".into()).at(path));
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(io_error)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(Fault::Unsupported(format!("it is larger than {} MiB", MAX_BYTES >> 20)).at(path));
    }
    Ok(Some(bytes))
}

/// Whether a plain text is more than whitespace and the byte order mark that some editors leave in an empty file.
fn is_text(bytes: &[u8]) -> bool {
    !String::from_utf8_lossy(bytes).trim_start_matches(BYTE_ORDER_MARK).trim().is_empty()
}

const BYTE_ORDER_MARK: &str = "\u{feff}";

/// The byte order mark, if there is one, and the text after it.
fn decoded(bytes: &[u8]) -> Result<(&str, &str), Fault> {
    match std::str::from_utf8(bytes) {
        // UTF-16 without a byte order mark is UTF-8 too, with a zero beside each letter.
        Ok(text) if !text.contains('\0') => Ok(text.split_at(if text.starts_with(BYTE_ORDER_MARK) { 3 } else { 0 })),
        _ => Err(Fault::Unsupported("it is not UTF-8".into())),
    }
}

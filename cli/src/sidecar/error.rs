//! Why a sidecar is not read or written.

use std::error::Error;
use std::fmt::{self, Display, Formatter};
use std::io;
use std::path::{Path, PathBuf};

/// Why a sidecar is not read or written. The message names the file and says what to do.
#[derive(Debug)]
pub enum SidecarError {
    /// There is a text already, and overwriting was not asked for.
    Exists {
        /// The sidecar.
        path: PathBuf,
    },
    /// The file cannot be read or written.
    Io {
        /// The sidecar.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The file contradicts its own format.
    Corrupt {
        /// The sidecar.
        path: PathBuf,
        /// What was found, and where.
        found: String,
    },
    /// The file is of a form that is not changed.
    Unsupported {
        /// The sidecar.
        path: PathBuf,
        /// What was found, and where.
        found: String,
    },
}

impl SidecarError {
    /// The same in one word, for programs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Exists { .. } => "exists",
            Self::Io { .. } => "io",
            Self::Corrupt { .. } => "corrupt",
            Self::Unsupported { .. } => "unsupported",
        }
    }
}

impl Display for SidecarError {
    fn fmt(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exists { path } => {
                write!(formatter, "{}: has a text already, which stays (--overwrite replaces it)", path.display())
            }
            Self::Io { path, source } => {
                write!(formatter, "{}: {source}; check the path and its permissions", path.display())
            }
            Self::Corrupt { path, found } => {
                write!(formatter, "{}: the sidecar is broken: {found}; repair it or move it away", path.display())
            }
            Self::Unsupported { path, found } => {
                write!(
                    formatter,
                    "{}: the sidecar is left alone: {found}; move it away to get a new one",
                    path.display()
                )
            }
        }
    }
}

impl Error for SidecarError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}

/// What is wrong with the content of a sidecar, whichever file it is.
#[derive(Debug)]
pub(super) enum Fault {
    Corrupt(String),
    Unsupported(String),
}

impl Fault {
    /// The error for the sidecar at `path`.
    pub fn at(self, path: &Path) -> SidecarError {
        let path = path.to_owned();
        match self {
            Self::Corrupt(found) => SidecarError::Corrupt { path, found },
            Self::Unsupported(found) => SidecarError::Unsupported { path, found },
        }
    }
}

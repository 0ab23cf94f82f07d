//! What can go wrong between a file and its features.

use std::io;
use std::path::PathBuf;

/// The kind of an [`Error`], for callers who match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// The file cannot be read: missing, no permission, a directory, a pipe.
    Io,
    /// The bytes are in none of the formats that are read.
    NotAPicture,
    /// A picture in a format or variant that is not read.
    Unsupported,
    /// The picture ends too early.
    Truncated,
    /// The picture contradicts its own format.
    Corrupt,
    /// The picture is above a limit on pixels, bytes or memory.
    TooLarge,
    /// The picture has no pixels.
    Empty,
    /// A field of a configuration has a value that makes no sense.
    Config,
    /// Two sizes disagree: a view and the patch size, for example.
    Shape,
    /// A tensor is missing or does not fit the configuration.
    Weights,
}

impl ErrorKind {
    /// The kind in snake case, as it is written into JSON: `too_large`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Io => "io",
            Self::NotAPicture => "not_a_picture",
            Self::Unsupported => "unsupported",
            Self::Truncated => "truncated",
            Self::Corrupt => "corrupt",
            Self::TooLarge => "too_large",
            Self::Empty => "empty",
            Self::Config => "config",
            Self::Shape => "shape",
            Self::Weights => "weights",
        }
    }
}

/// An error of this crate: which picture, field or tensor, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A stream (standard input, for example) failed.
    #[error("cannot read {name}: {source}")]
    ReadStream {
        /// What was being read.
        name: String,
        /// What the system said.
        source: io::Error,
    },
    /// A path to something other than a file.
    #[error("{} is {found}, expected a picture file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is: "a directory", "a pipe or device".
        found: &'static str,
    },
    /// The bytes begin like none of the formats that are read.
    #[error("{name} is not a picture: {found}; PNG, JPEG, WebP, GIF, BMP and TIFF are read")]
    NotAPicture {
        /// The file or stream.
        name: String,
        /// What its first bytes are.
        found: String,
    },
    /// A known format that is not read.
    #[error("{name} is a {format} picture, which is not read; convert it first: {advice}")]
    UnsupportedFormat {
        /// The file or stream.
        name: String,
        /// The format.
        format: &'static str,
        /// A command that converts it.
        advice: &'static str,
    },
    /// A variant of a format that is read.
    #[error("{name} is a {format} picture of a variant that is not read ({reason}); save it as 8-bit RGB PNG or JPEG")]
    UnsupportedVariant {
        /// The file or stream.
        name: String,
        /// The format.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// The data stop before the picture is complete.
    #[error("{name} is a {format} picture that ends too early (after {num_bytes} bytes): copy or download it again")]
    Truncated {
        /// The file or stream.
        name: String,
        /// The format.
        format: &'static str,
        /// Length of the data.
        num_bytes: usize,
    },
    /// The decoder gave up.
    #[error("{name} is a damaged {format} picture: {reason}")]
    Corrupt {
        /// The file or stream.
        name: String,
        /// The format.
        format: &'static str,
        /// What the decoder said.
        reason: String,
    },
    /// More pixels than the limit allows; nothing was decoded.
    #[error(
        "{name} has {width} x {height} pixels, the limit is {max_pixels} pixels: scale it down or raise the limit \
         (Limits::max_pixels)"
    )]
    TooManyPixels {
        /// The file or stream.
        name: String,
        /// Declared width in pixels.
        width: u32,
        /// Declared height in pixels.
        height: u32,
        /// The limit.
        max_pixels: u64,
    },
    /// A side is longer than the limit allows; nothing was decoded.
    #[error(
        "{name} has {width} x {height} pixels, the longest side allowed is {max_side} pixels: cut it or raise the limit \
         (Limits::max_side)"
    )]
    TooLong {
        /// The file or stream.
        name: String,
        /// Declared width in pixels.
        width: u32,
        /// Declared height in pixels.
        height: u32,
        /// The limit.
        max_side: u32,
    },
    /// More bytes than the limit allows; nothing was decoded.
    #[error("{name} has {}, the limit is {max_bytes} bytes (Limits::max_bytes)", at_least(*num_bytes))]
    TooManyBytes {
        /// The file or stream.
        name: String,
        /// Length in bytes, where it is known.
        num_bytes: Option<u64>,
        /// The limit.
        max_bytes: u64,
    },
    /// Decoding would take more memory than the limit allows.
    #[error(
        "{name} needs more than {max_decoded_bytes} bytes of memory to decode ({width} x {height} pixels): save it \
         with 8 bits a channel or raise the limit (Limits::max_decoded_bytes)"
    )]
    TooMuchMemory {
        /// The file or stream.
        name: String,
        /// Declared width in pixels.
        width: u32,
        /// Declared height in pixels.
        height: u32,
        /// The limit.
        max_decoded_bytes: u64,
    },
    /// Width or height is 0.
    #[error("{name} is {width} x {height} pixels: a picture needs at least one pixel")]
    Empty {
        /// The file, stream or value.
        name: String,
        /// Width in pixels.
        width: u32,
        /// Height in pixels.
        height: u32,
    },
    /// A field of a configuration makes no sense.
    #[error("{file}: `{field}` is {found}, expected {expected}")]
    Config {
        /// `config.json` or `preprocessor_config.json`.
        file: &'static str,
        /// The field, with its path.
        field: String,
        /// Its value.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// A mode that the model does not have.
    #[error("the model has no mode `{mode}` (preprocessor_config.json has: {available})")]
    NoSuchMode {
        /// The mode asked for.
        mode: &'static str,
        /// The modes of the model.
        available: String,
    },
    /// Pixel values of a wrong shape.
    #[error("{what} has shape {found:?}, expected {expected}")]
    Shape {
        /// Which array.
        what: &'static str,
        /// Its shape.
        found: Vec<usize>,
        /// What would be right.
        expected: String,
    },
    /// A tensor is missing or does not fit.
    #[error(transparent)]
    Weights(#[from] ocelli_nn::Error),
}

fn at_least(num_bytes: Option<u64>) -> String {
    num_bytes.map_or_else(|| "too many bytes".to_owned(), |n| format!("{n} bytes"))
}

impl Error {
    /// The kind, for callers who match.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Read { .. } | Self::ReadStream { .. } | Self::NotAFile { .. } => ErrorKind::Io,
            Self::NotAPicture { .. } => ErrorKind::NotAPicture,
            Self::UnsupportedFormat { .. } | Self::UnsupportedVariant { .. } => ErrorKind::Unsupported,
            Self::Truncated { .. } => ErrorKind::Truncated,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::TooManyPixels { .. }
            | Self::TooLong { .. }
            | Self::TooManyBytes { .. }
            | Self::TooMuchMemory { .. } => ErrorKind::TooLarge,
            Self::Empty { .. } => ErrorKind::Empty,
            Self::Config { .. } | Self::NoSuchMode { .. } => ErrorKind::Config,
            Self::Shape { .. } => ErrorKind::Shape,
            Self::Weights(_) => ErrorKind::Weights,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

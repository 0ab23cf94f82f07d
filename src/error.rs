//! What can go wrong between a model directory, a picture and an answer.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// The kind of an [`Error`], for callers who match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file cannot be read, written or removed.
    Io,
    /// The bytes are in none of the picture formats that are read.
    NotAPicture,
    /// A picture format, or a kind of model, that is not read.
    Unsupported,
    /// The picture ends too early.
    Truncated,
    /// The picture contradicts its own format.
    Corrupt,
    /// The picture is above a limit on pixels, bytes or memory.
    TooLarge,
    /// The picture has no pixels.
    Empty,
    /// A configuration file of the model makes no sense.
    Config,
    /// The weights are broken or belong to another configuration.
    Weights,
    /// The tokenizer cannot be used.
    Tokenizer,
    /// The chat template cannot be used.
    Template,
    /// An option of the caller is out of range.
    Options,
    /// The prompt does not fit into the context.
    ContextFull,
    /// The computation gave something that is not a number.
    Numeric,
    /// Two sizes disagree.
    Shape,
}

impl ErrorKind {
    /// The kind in snake case, as it is written into JSON: `not_a_picture`.
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
            Self::Weights => "weights",
            Self::Tokenizer => "tokenizer",
            Self::Template => "template",
            Self::Options => "options",
            Self::ContextFull => "context_full",
            Self::Numeric => "numeric",
            Self::Shape => "shape",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// An error of the pipeline: the place (which model directory), and what the crate below says.
///
/// The message is complete: it holds that of its [`source`](std::error::Error::source), which is there for callers who match.
#[derive(Debug)]
pub struct Error {
    place: Option<String>,
    cause: Box<Cause>,
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What happened, without the place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cause {
    #[error("cannot read {}: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("cannot write {}: {source}", path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot remove {}: {source}", path.display())]
    Remove { path: PathBuf, source: io::Error },
    #[error("{} is {found}, expected {expected}", path.display())]
    ModelFile { path: PathBuf, found: String, expected: &'static str },
    #[error("`{field}` in {} is {found}, expected {expected}", path.display())]
    Config { path: PathBuf, field: String, found: String, expected: String },
    #[error("`{field}` in {} is {found}, which is not supported; supported: {supported}", path.display())]
    Unsupported { path: PathBuf, field: String, found: String, supported: String },
    #[error("tensor `{tensor}` in {file} is not one of a {architecture}: do config.json and weights belong together?")]
    ExtraTensor { tensor: String, file: String, architecture: String },
    #[error("tensor `{tensor}` in {file} has {found} in it, expected finite numbers")]
    NotFinite { tensor: String, file: String, found: String },
    #[error("the vector of a picture by model {model} is not finite: are its weights whole?")]
    NotANumber { model: String },
    #[error("model {model} has no {part}: {hint}")]
    NoSuchPart { model: String, part: &'static str, hint: &'static str },
    #[error(
        "reading {name} stopped halfway: a bug of ocelli or of a picture decoder; please report it, with the picture"
    )]
    Panic { name: String },
    #[error("{option} is {found}, expected {expected}")]
    Options { option: &'static str, found: String, expected: String },
    #[error(transparent)]
    Weights(#[from] ocelli_nn::Error),
    #[error(transparent)]
    Vision(#[from] ocelli_vision::Error),
    #[error(transparent)]
    Adapter(#[from] ocelli_adapter::Error),
    #[error(transparent)]
    Language(#[from] ocelli_language::Error),
}

impl Error {
    pub(crate) fn options(option: &'static str, found: impl ToString, expected: impl Into<String>) -> Self {
        Cause::Options { option, found: found.to_string(), expected: expected.into() }.into()
    }

    /// This error, with the place where it happened before its message.
    pub(crate) fn at(self, place: impl fmt::Display) -> Self {
        Self { place: Some(place.to_string()), ..self }
    }

    /// The kind, for callers who match.
    pub fn kind(&self) -> ErrorKind {
        match &*self.cause {
            Cause::Read { .. } | Cause::Write { .. } | Cause::Remove { .. } => ErrorKind::Io,
            Cause::ModelFile { .. } | Cause::Config { .. } => ErrorKind::Config,
            Cause::Options { .. } => ErrorKind::Options,
            Cause::Unsupported { .. } | Cause::NoSuchPart { .. } => ErrorKind::Unsupported,
            Cause::ExtraTensor { .. } | Cause::NotFinite { .. } => ErrorKind::Weights,
            Cause::NotANumber { .. } => ErrorKind::Numeric,
            Cause::Panic { .. } => ErrorKind::Corrupt,
            Cause::Weights(error) => nn_kind(error.kind()),
            Cause::Vision(error) => vision_kind(error.kind()),
            Cause::Adapter(error) => adapter_kind(error.kind()),
            Cause::Language(error) => language_kind(error.kind()),
        }
    }
}

// The kinds below are `#[non_exhaustive]`: the last arm takes those that are not named.

fn nn_kind(kind: ocelli_nn::ErrorKind) -> ErrorKind {
    use ocelli_nn::ErrorKind as Kind;
    match kind {
        Kind::Io => ErrorKind::Io,
        Kind::Config => ErrorKind::Config,
        _ => ErrorKind::Weights,
    }
}

fn vision_kind(kind: ocelli_vision::ErrorKind) -> ErrorKind {
    use ocelli_vision::ErrorKind as Kind;
    match kind {
        Kind::Io => ErrorKind::Io,
        Kind::NotAPicture => ErrorKind::NotAPicture,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::Truncated => ErrorKind::Truncated,
        Kind::Corrupt => ErrorKind::Corrupt,
        Kind::TooLarge => ErrorKind::TooLarge,
        Kind::Empty => ErrorKind::Empty,
        Kind::Config => ErrorKind::Config,
        Kind::Weights => ErrorKind::Weights,
        _ => ErrorKind::Shape,
    }
}

fn adapter_kind(kind: ocelli_adapter::ErrorKind) -> ErrorKind {
    use ocelli_adapter::ErrorKind as Kind;
    match kind {
        Kind::Config => ErrorKind::Config,
        Kind::Weights => ErrorKind::Weights,
        _ => ErrorKind::Shape,
    }
}

fn language_kind(kind: ocelli_language::ErrorKind) -> ErrorKind {
    use ocelli_language::ErrorKind as Kind;
    match kind {
        Kind::Config => ErrorKind::Config,
        Kind::Io => ErrorKind::Io,
        Kind::Weights => ErrorKind::Weights,
        Kind::Unsupported => ErrorKind::Unsupported,
        Kind::Tokenizer => ErrorKind::Tokenizer,
        Kind::Template => ErrorKind::Template,
        Kind::Sampling => ErrorKind::Options,
        Kind::Numeric => ErrorKind::Numeric,
        Kind::ContextFull => ErrorKind::ContextFull,
        _ => ErrorKind::Shape,
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            Some(place) => write!(f, "{place}: {}", self.cause),
            None => write!(f, "{}", self.cause),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &*self.cause {
            Cause::Read { source, .. } | Cause::Write { source, .. } | Cause::Remove { source, .. } => Some(source),
            Cause::ModelFile { .. }
            | Cause::Config { .. }
            | Cause::Options { .. }
            | Cause::Unsupported { .. }
            | Cause::ExtraTensor { .. }
            | Cause::NotFinite { .. }
            | Cause::NotANumber { .. }
            | Cause::Panic { .. }
            | Cause::NoSuchPart { .. } => None,
            Cause::Weights(error) => Some(error),
            Cause::Vision(error) => Some(error),
            Cause::Adapter(error) => Some(error),
            Cause::Language(error) => Some(error),
        }
    }
}

impl From<Cause> for Error {
    fn from(cause: Cause) -> Self {
        Self { place: None, cause: Box::new(cause) }
    }
}

/// `?` on errors of the crates below.
macro_rules! from_errors_below {
    ($($error:ty),*) => {$(
        impl From<$error> for Error {
            fn from(error: $error) -> Self {
                Cause::from(error).into()
            }
        }
    )*};
}

from_errors_below!(ocelli_nn::Error, ocelli_vision::Error, ocelli_adapter::Error, ocelli_language::Error);

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[test]
    fn the_place_comes_before_the_message_and_the_cause_stays_within_reach() {
        let inner = ocelli_vision::Picture::from_bytes(b"").unwrap_err();
        let message = inner.to_string();
        let error = Error::from(inner).at("the first picture");
        assert_eq!(error.to_string(), format!("the first picture: {message}"));
        assert_eq!(error.kind(), ErrorKind::NotAPicture);
        let source = error.source().and_then(|source| source.downcast_ref::<ocelli_vision::Error>());
        assert_eq!(source.map(ocelli_vision::Error::kind), Some(ocelli_vision::ErrorKind::NotAPicture));
    }

    #[test]
    fn kinds_are_written_as_those_of_the_crates_below() {
        for kind in
            [ocelli_vision::ErrorKind::TooLarge, ocelli_vision::ErrorKind::NotAPicture, ocelli_vision::ErrorKind::Io]
        {
            assert_eq!(vision_kind(kind).to_string(), kind.as_str());
        }
    }
}

//! What can go wrong between a configuration and the last token of an answer.

use std::path::PathBuf;

/// An error of this crate: whose fault, where, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of a configuration file is missing, of the wrong type, or out of range.
    #[error("`{field}` in {file} is {found}, expected {expected}")]
    Config {
        /// The file's name, such as `config.json`.
        file: &'static str,
        /// The field as the file spells it.
        field: String,
        /// What the file says.
        found: String,
        /// What it may say.
        expected: String,
    },
    /// A file could not be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The weights file is broken, or does not belong to the configuration.
    #[error(transparent)]
    Weights(#[from] ocelli_nn::Error),
    /// A kernel refused its operands.
    #[error(transparent)]
    Kernel(#[from] ocelli_kernels::Error),
    /// A tensor of another file than the weights does not fit.
    #[error("tensor `{tensor}` in {file} is {found}, expected {expected}")]
    Tensor {
        /// The file's name.
        file: String,
        /// The tensor.
        tensor: String,
        /// What is there.
        found: String,
        /// What is needed.
        expected: String,
    },
    /// The model asks for something that this crate does not have.
    #[error("{what} is not supported: {hint}")]
    Unsupported {
        /// What was asked for.
        what: String,
        /// What to do instead.
        hint: &'static str,
    },
    /// tokenizer.json cannot be used, or a text cannot be encoded or decoded with it.
    #[error("tokenizer: {message}")]
    Tokenizer {
        /// What happened, and what to do.
        message: String,
    },
    /// chat_template.jinja cannot be used for this conversation.
    #[error("chat template: {message}")]
    Template {
        /// What happened, and what to do.
        message: String,
    },
    /// A sampling option is out of range.
    #[error("`{option}` is {found}, expected {expected}")]
    Sampling {
        /// The option's name.
        option: &'static str,
        /// The value given.
        found: String,
        /// The range allowed.
        expected: &'static str,
    },
    /// The logits hold something that is not a number: broken weights, or infinite input embeddings.
    #[error("the logit of token {token} is {value}: are the weights or the image tokens broken?")]
    Logits {
        /// The first such token.
        token: usize,
        /// Its logit.
        value: f32,
    },
    /// The tokens do not fit into what is left of the context.
    #[error(
        "{requested} tokens do not fit: {used} of {capacity} positions of the context are in use; shorten the text, use a mode with \
         fewer image tokens, or begin a new session"
    )]
    ContextFull {
        /// Tokens to be added.
        requested: usize,
        /// Tokens in the cache.
        used: usize,
        /// Tokens that the cache may hold.
        capacity: usize,
    },
    /// A token id has no row in the embedding.
    #[error("token id {id} at position {position} is outside the vocabulary of {vocab_size}")]
    TokenId {
        /// The id.
        id: u32,
        /// Its position in the sequence.
        position: usize,
        /// Rows of the embedding.
        vocab_size: usize,
    },
    /// An array that the caller gave has the wrong shape.
    #[error("{what} is {found}, expected {expected}")]
    Shape {
        /// Which array.
        what: &'static str,
        /// Its shape.
        found: String,
        /// The shape needed.
        expected: String,
    },
}

/// The kinds of [`Error`], for callers that match.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A configuration file says something impossible.
    Config,
    /// A file cannot be read.
    Io,
    /// Weights or tensors do not fit.
    Weights,
    /// The model needs something that is not built.
    Unsupported,
    /// The tokenizer cannot be used.
    Tokenizer,
    /// The chat template cannot be used.
    Template,
    /// A sampling option is out of range.
    Sampling,
    /// The computation gave something that is not a number.
    Numeric,
    /// The context is full.
    ContextFull,
    /// An argument has the wrong shape, or a token id is unknown.
    Shape,
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. } => ErrorKind::Config,
            Self::Read { .. } => ErrorKind::Io,
            Self::Weights(_) | Self::Tensor { .. } => ErrorKind::Weights,
            Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Tokenizer { .. } => ErrorKind::Tokenizer,
            Self::Template { .. } => ErrorKind::Template,
            Self::Sampling { .. } => ErrorKind::Sampling,
            Self::Logits { .. } => ErrorKind::Numeric,
            Self::ContextFull { .. } => ErrorKind::ContextFull,
            Self::Kernel(_) | Self::TokenId { .. } | Self::Shape { .. } => ErrorKind::Shape,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

//! What can be wrong with a weight file or with the layers that are read from it.

use std::path::PathBuf;

/// The kind of an [`Error`], for callers that decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A file cannot be read or written.
    Io,
    /// A file is not what its name says: a broken header or index.
    Format,
    /// A tensor that the configuration needs is not there.
    MissingTensor,
    /// A tensor has another shape than the configuration says.
    Shape,
    /// A tensor has a data type that cannot be used in its place.
    Dtype,
    /// The bytes of a tensor hold a value that the format forbids.
    Value,
    /// The configuration contradicts itself, or is of a version that is not known.
    Config,
    /// A row of an embedding or of a tensor is asked for that it does not have.
    Index,
}

/// An error of weights and layers.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system could not open, read, map or write a file.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried, such as `open`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A directory holds no weights.
    #[error("{} has neither model.safetensors nor model.safetensors.index.json: is it a model directory?", path.display())]
    NoWeights {
        /// The directory.
        path: PathBuf,
    },
    /// A weight file is a directory, a pipe or a device.
    #[error("{} is not an ordinary file, expected a safetensors file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// The header of a safetensors file is broken, or disagrees with the length of the file.
    #[error("{file} is not a valid safetensors file ({source}): was it copied in full?")]
    Header {
        /// The file.
        file: String,
        /// What the reader found.
        source: safetensors::SafeTensorError,
    },
    /// The index of the shards is not what it should be.
    #[error("{file} is not a valid index of shards: {detail}")]
    Index {
        /// The index file.
        file: String,
        /// What is wrong, and where.
        detail: String,
    },
    /// A shard is not a file of the model directory itself.
    #[error(
        "{file} names the shard `{shard}`, expected the name of an ordinary file in the same directory, without links"
    )]
    ShardName {
        /// The index file.
        file: String,
        /// The name of the shard.
        shard: String,
    },
    /// A tensor is missing.
    #[error("tensor `{tensor}` is not in {file}: do config.json and the weights belong together?")]
    MissingTensor {
        /// The tensor.
        tensor: String,
        /// The file that should have it.
        file: String,
    },
    /// A tensor has another shape than expected.
    #[error(
        "tensor `{tensor}` in {file} has shape {found:?}, expected {expected:?}: do config.json and the weights belong together?"
    )]
    Shape {
        /// The tensor.
        tensor: String,
        /// The file that has it.
        file: String,
        /// The shape that the configuration says.
        expected: Vec<usize>,
        /// The shape in the file.
        found: Vec<usize>,
    },
    /// A tensor has a data type that cannot be used in its place.
    #[error("tensor `{tensor}` in {file} has dtype {found}, expected {expected}")]
    Dtype {
        /// The tensor.
        tensor: String,
        /// The file that has it.
        file: String,
        /// The types that can be used.
        expected: &'static str,
        /// The type in the file.
        found: String,
    },
    /// The codes or scales of a packed matrix are wrong.
    #[error("packed matrix `{tensor}` in {file}: {source}")]
    Packed {
        /// The name without `_codes` and `_scales`.
        tensor: String,
        /// The file that has it.
        file: String,
        /// What is wrong.
        source: ocelli_kernels::Error,
    },
    /// A packed matrix is in the file, but no part of `quantization_config` says how many bits it has.
    #[error(
        "tensor `{tensor}_codes` in {file} is packed, but no part of quantization_config in config.json has a prefix of its name"
    )]
    NoQuantization {
        /// The name without `_codes`.
        tensor: String,
        /// The file that has it.
        file: String,
    },
    /// A field of the configuration cannot be used.
    #[error("{field} is {found}, expected {expected}")]
    Config {
        /// The field, such as `quantization_config.format_version`.
        field: String,
        /// What it must be.
        expected: String,
        /// What it is.
        found: String,
    },
    /// A row beyond the last of an embedding.
    #[error("id {id} is not in the embedding `{tensor}`, which has {num_embeddings} rows")]
    Row {
        /// The embedding.
        tensor: String,
        /// The row asked for.
        id: u32,
        /// The number of rows.
        num_embeddings: usize,
    },
    /// Rows that a tensor does not have.
    #[error(
        "{count} rows from row {first} on cannot be read of tensor `{tensor}` in {file}, which has shape {shape:?}: the first of two or \
         more dimensions is that of the rows"
    )]
    Rows {
        /// The tensor.
        tensor: String,
        /// The file that has it.
        file: String,
        /// The first row asked for.
        first: usize,
        /// The number of rows asked for.
        count: usize,
        /// The shape in the file.
        shape: Vec<usize>,
    },
    /// A tensor to be written has another size than its shape says, its name is taken or not planned, or a part of it was not written.
    #[error("tensor `{tensor}` cannot be written: {detail}")]
    Write {
        /// The tensor.
        tensor: String,
        /// What is wrong.
        detail: String,
    },
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Io { .. } | Error::NoWeights { .. } | Error::NotAFile { .. } => ErrorKind::Io,
            Error::Header { .. } | Error::Index { .. } | Error::ShardName { .. } => ErrorKind::Format,
            Error::MissingTensor { .. } => ErrorKind::MissingTensor,
            Error::Shape { .. } | Error::Write { .. } => ErrorKind::Shape,
            Error::Dtype { .. } => ErrorKind::Dtype,
            Error::Packed { source, .. } if source.kind() == ocelli_kernels::ErrorKind::Shape => ErrorKind::Shape,
            Error::Packed { .. } => ErrorKind::Value,
            Error::NoQuantization { .. } | Error::Config { .. } => ErrorKind::Config,
            Error::Row { .. } | Error::Rows { .. } => ErrorKind::Index,
        }
    }
}

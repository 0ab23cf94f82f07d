//! What can be wrong with packed weights or with the choice of instructions.

/// The kind of an [`Error`], for callers that decide by it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A length or a dimension does not fit the others.
    Shape,
    /// The bytes of a packed matrix hold a value that the format forbids.
    Value,
    /// The instruction set asked for is unknown, or this machine does not have it.
    Isa,
}

/// An error of the kernels.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// `bits` is none of 2, 4, 8.
    #[error("packed weights have {found} bits, expected 2, 4 or 8")]
    Bits {
        /// The number of bits found.
        found: u32,
    },
    /// `group_size` is none of 32, 64, 128.
    #[error("packed weights have group_size {found}, expected 32, 64, 128 or null (one scale for each row)")]
    GroupSize {
        /// The group size found.
        found: usize,
    },
    /// `zero_point` is not one that weights of these bits can have.
    #[error("packed weights of {bits} bits have zero_point {found}, expected null, or 8 with 4 bits")]
    ZeroPoint {
        /// The number of bits.
        bits: u32,
        /// The zero point found.
        found: u8,
    },
    /// The matrix is larger than this machine can address, or a row than an i32 sum can hold.
    #[error("a packed matrix of shape [{rows}, {columns}] is too large (at most {max_columns} columns)")]
    TooLarge {
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
        /// The largest number of columns that is supported.
        max_columns: usize,
    },
    /// The codes or the scales have the wrong length.
    #[error("the {what} of a packed matrix of shape [{rows}, {columns}] have {found} elements, expected {expected}")]
    Length {
        /// `codes` or `scales`.
        what: &'static str,
        /// Rows of the matrix.
        rows: usize,
        /// Columns of the matrix.
        columns: usize,
        /// Elements expected.
        expected: usize,
        /// Elements found.
        found: usize,
    },
    /// A scale is infinite or not a number, or negative without a zero point.
    #[error(
        "the scale of row {row}, group {group} is {found}, expected a finite number (negative with a zero point only)"
    )]
    Scale {
        /// Row of the matrix.
        row: usize,
        /// Group in that row.
        group: usize,
        /// The scale.
        found: f32,
    },
    /// A code beyond the last column is not 0.
    #[error("row {row} has a code other than 0 in its padding (byte {byte} of the row)")]
    Padding {
        /// Row of the matrix.
        row: usize,
        /// Byte in that row.
        byte: usize,
    },
    /// A weight to be packed is infinite or not a number.
    #[error("the weight at row {row}, column {column} is {found} and cannot be packed")]
    Weight {
        /// Row of the matrix.
        row: usize,
        /// Column of the matrix.
        column: usize,
        /// The weight.
        found: f32,
    },
    /// `OCELLI_ISA` names no instruction set.
    #[error(
        "OCELLI_ISA is `{found}`, expected portable, avx2, avxvnni or avx512 (or leave it unset to choose the best)"
    )]
    UnknownIsa {
        /// The value found.
        found: String,
    },
    /// `OCELLI_ISA` names an instruction set that this machine lacks.
    #[error("OCELLI_ISA is `{wanted}`, but this machine has only {available}: leave it unset to choose the best")]
    UnavailableIsa {
        /// The instruction set asked for.
        wanted: String,
        /// Those that the machine has.
        available: String,
    },
}

impl Error {
    /// The kind of this error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Bits { .. }
            | Error::GroupSize { .. }
            | Error::ZeroPoint { .. }
            | Error::TooLarge { .. }
            | Error::Length { .. } => ErrorKind::Shape,
            Error::Scale { .. } | Error::Padding { .. } | Error::Weight { .. } => ErrorKind::Value,
            Error::UnknownIsa { .. } | Error::UnavailableIsa { .. } => ErrorKind::Isa,
        }
    }
}

//! What can go wrong between features and image tokens.

use crate::position_embed::POSITIONS;

/// The kind of an [`Error`], for callers who match.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A field of the configuration has a value that makes no sense.
    Config,
    /// Features, grid and number of image tokens disagree.
    Shape,
    /// A tensor is missing or does not fit the configuration.
    Weights,
}

/// An error of this crate: which field, shape or tensor, what was expected and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A field of the configuration makes no sense.
    #[error("config.json: `adapter_config.{field}` is {found}, expected {expected}")]
    Config {
        /// The field.
        field: &'static str,
        /// Its value.
        found: String,
        /// What would be right.
        expected: String,
    },
    /// There are not as many features as the grid has patches, or not as wide.
    #[error(
        "features have shape {found:?}, expected {expected:?} (rows x columns of patches, hidden_size of vision_config)"
    )]
    Features {
        /// Their shape.
        found: [usize; 2],
        /// What would be right.
        expected: [usize; 2],
    },
    /// Pooling cannot make tokens out of nothing.
    #[error(
        "a grid of {} x {} patches cannot be pooled to {} x {} image tokens: `pooled` in preprocessor_config.json must \
         be from 1 to the patches of a view",
        grid.0, grid.1, pooled.0, pooled.1
    )]
    Pooled {
        /// Rows and columns of patches.
        grid: (usize, usize),
        /// Rows and columns of image tokens.
        pooled: (usize, usize),
    },
    /// An adapter that makes a fixed number of tokens of a grid is asked for another.
    #[error(
        "a grid of {} x {} patches cannot become {} x {} image tokens: this adapter makes one of every {scale_factor} x {scale_factor} patches, \
         see `pooled` in preprocessor_config.json",
        grid.0, grid.1, pooled.0, pooled.1
    )]
    Grid {
        /// Rows and columns of patches.
        grid: (usize, usize),
        /// Rows and columns of image tokens.
        pooled: (usize, usize),
        /// Side of the square of patches that become one token.
        scale_factor: usize,
    },
    /// The position embedding cannot be averaged to this grid.
    #[error(
        "{} x {} image tokens do not divide the {} x {} position embedding of the adapter: see `pooled` in \
         preprocessor_config.json",
        pooled.0, pooled.1, POSITIONS, POSITIONS
    )]
    Positions {
        /// Rows and columns of image tokens.
        pooled: (usize, usize),
    },
    /// A tensor is missing or does not fit.
    #[error(transparent)]
    Weights(#[from] ocelli_nn::Error),
}

impl Error {
    /// The kind, for callers who match.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config { .. } => ErrorKind::Config,
            Self::Features { .. } | Self::Pooled { .. } | Self::Grid { .. } | Self::Positions { .. } => {
                ErrorKind::Shape
            }
            Self::Weights(_) => ErrorKind::Weights,
        }
    }
}

/// The result of this crate's functions.
pub type Result<T> = std::result::Result<T, Error>;

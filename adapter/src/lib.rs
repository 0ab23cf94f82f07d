//! Patch features to image tokens: a transformer layer, a linear layer, a 3 x 3 convolution and average pooling.
#![forbid(unsafe_code)]

mod adapter;
mod config;
mod conv_pool;
mod error;
mod position_embed;

pub use adapter::Adapter;
pub use config::{AdapterConfig, AdapterKind};
pub use error::{Error, ErrorKind, Result};

//! Patch features to image tokens, by the adapters of three families of models.
//!
//! | `model_type` | what it is |
//! | --- | --- |
//! | `conv_pool` | a transformer layer, a linear layer, a 3 x 3 convolution and average pooling |
//! | `pixel_shuffle` | squares of patches side by side, a linear layer: Idefics3 and SmolVLM |
//! | `mlp` | two linear layers with an activation between them: LLaVA |
#![forbid(unsafe_code)]

mod adapter;
mod config;
mod conv_pool;
mod error;
mod mlp;
mod pixel_shuffle;
mod pooled_conv;
mod position_embed;

pub use adapter::Adapter;
pub use config::AdapterConfig;
pub use conv_pool::ConvPoolConfig;
pub use error::{Error, ErrorKind, Result};
pub use mlp::MlpConfig;
pub use pixel_shuffle::PixelShuffleConfig;

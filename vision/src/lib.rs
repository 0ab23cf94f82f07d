//! Pictures to patch features: decode, resize, tile, normalise, RW-ViTDet and ViT encoders.
//!
//! ```text
//! file or bytes --Picture::open--> upright RGB8 --ImageProcessor::views--> [num_views, 3, size, size]
//!               --Encoder::encode--> features [num_views * rows * columns, hidden_size]
//! ```
#![forbid(unsafe_code)]

mod attention_pool;
mod config;
mod conv_stem;
mod decode;
mod encoder;
mod error;
mod format;
mod jpeg;
mod limits;
mod patch_embed;
mod picture;
mod position_embed;
mod preprocessor_config;
mod resize;
mod rw_vitdet;
mod views;
mod vit;
mod window;

pub use config::{
    ConvStageConfig, EncoderConfig, PatchEmbedKind, Pooling, PositionResampling, PostLayernorm, RwVitDetConfig,
    VisionConfig, VitConfig,
};
pub use encoder::{Encoder, Features};
pub use error::{Error, ErrorKind, Result};
pub use limits::Limits;
pub use picture::{Picture, read_picture_file, read_picture_stream};
pub use preprocessor_config::{Aspect, Mode, ModeConfig, Overview, PreprocessorConfig};
pub use views::{ImageProcessor, ModeDescription, ViewKind, Views};
pub use window::{Window, Windows};

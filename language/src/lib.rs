//! Token ids and image tokens to text: tokenizer, chat template, decoder, KV cache, sampling.
#![forbid(unsafe_code)]

pub mod chat_template;
pub mod config;
pub mod error;
pub mod generation_config;
mod json_fields;
pub mod prompt;
pub mod sampler;
pub mod text_stream;
pub mod tokenizer;

pub use chat_template::{ChatTemplate, Message, PromptPart, PromptPiece, Role};
pub use config::{ImageTokenIds, TextConfig, TextModelType};
pub use error::{Error, ErrorKind, Result};
pub use generation_config::GenerationConfig;
pub use prompt::PromptLayout;
pub use sampler::{Sampler, SamplingOptions};
pub use text_stream::TextStream;
pub use tokenizer::{Markup, Tokenizer};

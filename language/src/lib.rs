//! Token ids and image tokens to text: tokenizer, chat template, decoder, KV cache, sampling.
//!
//! ```text
//! messages --chat_template, tokenizer--> PromptLayout --embed, splice--> embeddings [tokens, hidden_size]
//!          --Decoder::prefill--> logits --Generation: sampler, Decoder::decode, TextStream--> text
//! ```
#![forbid(unsafe_code)]

mod attention;
pub mod chat_template;
pub mod config;
pub mod decoder;
mod decoder_layer;
pub mod error;
mod files;
pub mod generate;
pub mod generation_config;
mod image_prompt;
mod json_fields;
pub mod kv_cache;
mod loader;
mod lora;
mod mlp;
mod projection;
pub mod prompt;
mod rope_scaling;
pub mod sampler;
#[cfg(test)]
mod test_model;
pub mod text_stream;
pub mod tokenizer;
pub mod trace;
mod trace_inputs;

pub use chat_template::{ChatTemplate, Message, PromptPart, PromptPiece, Role};
pub use config::{QkNorm, RopePairing, TextConfig, TextModelType};
pub use decoder::{Decoder, Wanted};
pub use error::{Error, ErrorKind, Result};
pub use generate::{Answer, FinishReason, Generation, GenerationOptions, Piece};
pub use generation_config::{CaptionPrompts, GenerationConfig};
pub use image_prompt::{ImagePrompt, ViewTexts};
pub use kv_cache::{KvCache, KvKind};
pub use lora::LoraDeltas;
pub use prompt::PromptLayout;
pub use rope_scaling::RopeScaling;
pub use sampler::{Sampler, SamplingOptions, SplitMix64};
pub use text_stream::TextStream;
pub use tokenizer::{Markup, Tokenizer};
pub use trace::{TracedImages, TracedLayers, trace};
pub use trace_inputs::TraceInputs;

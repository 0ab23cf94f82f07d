//! A vision-language engine for ordinary CPUs: captions and visual answers, offline, with 2-bit weights.
//!
//! ```
//! use ocelli::{Model, Picture, prompt};
//!
//! let model = Model::bundled()?; // or Model::load("path/to/dir")?
//! let picture = Picture::open("assets/examples/scene.png")?;
//! println!("{}", model.caption(&picture)?);
//!
//! let mut session = model.session();
//! let answer = session.respond(prompt![picture, "How many objects are there?"])?;
//! println!("{answer}");
//! # Ok::<(), ocelli::Error>(())
//! ```
//!
//! The stages between a picture and its caption can be called one by one:
//!
//! ```text
//! picture --Model::views--> views --Model::encode--> features --Model::adapt--> image tokens
//! messages --Model::layout--> token ids --Model::embed--> embeddings --Session--> text
//! ```
//!
//! [`Model::decoder`] goes one deeper: logits and KV cache.
//!
//! A [`Model`] is read-only and shared; a [`Session`] is one conversation and keeps what it has computed. Work is spread over the
//! threads of the rayon pool that the call is made from.
#![forbid(unsafe_code)]

mod alt_text;
mod bench;
mod bundled;
mod captions;
mod embed;
mod error;
mod hugging_face;
mod import;
mod inspect;
mod look_ahead;
mod model;
mod model_dir;
mod options;
mod picture_cache;
mod prompt;
mod random_model;
mod response;
mod response_batch;
mod session;
mod trace;

pub use alt_text::{ALT_TEXT_MAX_CHARS, alt_text};
pub use bench::{BenchOptions, BenchReport, LimitsReport, StageReport, bench, peak_resident_bytes};
pub use captions::{BatchOptions, Captions, PictureCaption, PictureSource};
pub use embed::PictureEncoder;
pub use error::{Error, ErrorKind, Result};
pub use import::{ImportOptions, ImportReport, ImportedKind, import};
pub use inspect::{KvReport, ModelReport, PartReport, PictureReport};
pub use model::{EncodedPicture, Model};
pub use ocelli_language::{
    Decoder, FinishReason, GenerationConfig, KvCache, KvKind, Message, PromptLayout, PromptPart, Role, TextConfig,
    Tokenizer, TracedLayers, Wanted,
};
pub use ocelli_nn::Isa;
pub use ocelli_vision::{
    Features, Limits, Mode, ModeDescription, Picture, ViewKind, Views, read_picture_file, read_picture_stream,
};
pub use options::{CaptionLength, CaptionOptions, GenerationOptions, SessionOptions};
pub use picture_cache::{ContentHash, PictureCache};
pub use prompt::{Prompt, PromptItem};
pub use random_model::{Preset, write_random_model};
pub use response::{Response, Timings};
pub use response_batch::ResponseBatch;
pub use session::{ResponseStream, Session};
pub use trace::trace;

/// Compiles the examples of README.md and docs/batch.md.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/batch.md")]
    struct Batch;
}

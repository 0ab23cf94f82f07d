//! What comes out: the text, why it ended, and what it took.

use std::fmt;
use std::ops::AddAssign;
use std::time::Duration;

use ocelli_language::FinishReason;

/// Where the time went. Decoding of picture files is the caller's (`Picture::open`) and not in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Resizing, tiling and normalising the pictures.
    pub preprocess: Duration,
    /// The vision encoder.
    pub encode: Duration,
    /// The adapter.
    pub adapt: Duration,
    /// The prompt through the decoder, up to the logits of the first token.
    pub prefill: Duration,
    /// All tokens of the answer.
    pub generate: Duration,
}

impl Timings {
    /// All of them together.
    pub fn total(&self) -> Duration {
        self.preprocess + self.encode + self.adapt + self.prefill + self.generate
    }
}

impl AddAssign for Timings {
    fn add_assign(&mut self, other: Self) {
        self.preprocess += other.preprocess;
        self.encode += other.encode;
        self.adapt += other.adapt;
        self.prefill += other.prefill;
        self.generate += other.generate;
    }
}

/// An answer: its text and how it came about. [`Display`](fmt::Display) gives the text.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Response {
    /// The text.
    pub text: String,
    /// Why it ended.
    pub finish_reason: FinishReason,
    /// Views of the pictures of this turn.
    pub num_views: usize,
    /// Image tokens of the pictures of this turn.
    pub num_image_tokens: usize,
    /// Tokens of the whole prompt: earlier turns, image tokens and the template's own included.
    pub num_prompt_tokens: usize,
    /// How many of the prompt's tokens were in the session's cache already.
    pub num_cached_tokens: usize,
    /// Tokens of the answer.
    pub num_generated_tokens: usize,
    /// Where the time went.
    pub timings: Timings,
}

impl fmt::Display for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

//! An answer, token by token: sample, give out the text that is complete, feed the token back.

use serde::Serialize;

use crate::decoder::Decoder;
use crate::error::Result;
use crate::generation_config::GenerationConfig;
use crate::kv_cache::KvCache;
use crate::sampler::{Sampler, SamplingOptions};
use crate::text_stream::TextStream;
use crate::tokenizer::Tokenizer;

/// How long an answer may get, and how its tokens are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct GenerationOptions {
    /// The tokens that end an answer.
    pub eos_token_id: Vec<u32>,
    /// Most tokens of an answer.
    pub max_new_tokens: usize,
    /// How tokens are drawn.
    pub sampling: SamplingOptions,
}

impl From<&GenerationConfig> for GenerationOptions {
    fn from(config: &GenerationConfig) -> Self {
        Self {
            eos_token_id: config.eos_token_id.clone(),
            max_new_tokens: config.max_new_tokens,
            sampling: config.sampling.clone(),
        }
    }
}

/// Why an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum FinishReason {
    /// The model ended it.
    Stop,
    /// It has `max_new_tokens` tokens.
    Length,
    /// The context is full.
    Context,
}

impl FinishReason {
    /// `stop`, `length` or `context`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stop => "stop",
            Self::Length => "length",
            Self::Context => "context",
        }
    }
}

/// A step of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// The token; none in the last step, if that only completes the text.
    pub token_id: Option<u32>,
    /// The text that is now complete; may be empty.
    pub text: String,
}

/// An answer being made: an iterator of [`Piece`]s, which computes as it is asked. After an error it ends.
///
/// The cache then holds the prompt and every token of the answer that was fed back, all but the last.
#[derive(Debug)]
pub struct Generation<'a> {
    decoder: &'a Decoder,
    cache: &'a mut KvCache,
    sampler: Sampler,
    stream: Option<TextStream<'a>>,
    eos_token_id: Vec<u32>,
    max_new_tokens: usize,
    /// The prompt and the answer.
    tokens: Vec<u32>,
    num_prompt_tokens: usize,
    next: Next,
    finish_reason: Option<FinishReason>,
}

/// What the next step begins with.
#[derive(Debug)]
enum Next {
    /// The logits of the prompt's last position.
    Sample(Vec<f32>),
    /// A token to feed back.
    Feed(u32),
}

impl<'a> Generation<'a> {
    /// An answer to a prompt that is in the cache. `logits`, `[vocab_size]`, are those of its last position; `prompt` are its token ids,
    /// for the repetition penalty.
    ///
    /// # Errors
    /// [`ErrorKind::Sampling`](crate::ErrorKind::Sampling) when an option is out of range.
    pub fn new(
        decoder: &'a Decoder,
        tokenizer: &'a Tokenizer,
        cache: &'a mut KvCache,
        prompt: &[u32],
        logits: Vec<f32>,
        options: GenerationOptions,
    ) -> Result<Self> {
        let finish_reason = (options.max_new_tokens == 0).then_some(FinishReason::Length);
        Ok(Self {
            decoder,
            cache,
            sampler: Sampler::new(options.sampling)?,
            stream: Some(TextStream::new(tokenizer)),
            eos_token_id: options.eos_token_id,
            max_new_tokens: options.max_new_tokens,
            tokens: prompt.to_vec(),
            num_prompt_tokens: prompt.len(),
            next: Next::Sample(logits),
            finish_reason,
        })
    }

    /// Why the answer ended; none while it goes on, or after an error.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// The tokens of the answer so far, without the end token.
    pub fn token_ids(&self) -> &[u32] {
        &self.tokens[self.num_prompt_tokens..]
    }

    /// One step; none when the answer has ended.
    fn step(&mut self) -> Result<Option<Piece>> {
        let Some(stream) = &mut self.stream else { return Ok(None) };
        if self.finish_reason.is_none() && matches!(self.next, Next::Feed(_)) && self.cache.remaining() == 0 {
            self.finish_reason = Some(FinishReason::Context);
        }
        if self.finish_reason.is_none() {
            let logits = match &self.next {
                Next::Sample(logits) => self.sampler.sample(logits, &self.tokens),
                Next::Feed(token) => {
                    let logits = self.decoder.decode(*token, self.cache)?;
                    self.sampler.sample(&logits, &self.tokens)
                }
            };
            let token = logits?;
            if self.eos_token_id.contains(&token) {
                self.finish_reason = Some(FinishReason::Stop);
            } else {
                self.tokens.push(token);
                self.next = Next::Feed(token);
                if self.tokens.len() - self.num_prompt_tokens >= self.max_new_tokens {
                    self.finish_reason = Some(FinishReason::Length);
                }
                return Ok(Some(Piece { token_id: Some(token), text: stream.push(token)? }));
            }
        }
        let rest = self.stream.take().map_or(Ok(String::new()), TextStream::finish)?;
        Ok((!rest.is_empty()).then_some(Piece { token_id: None, text: rest }))
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        let piece = self.step().transpose();
        if matches!(piece, Some(Err(_))) {
            self.stream = None;
        }
        piece
    }
}

#[cfg(test)]
mod tests;

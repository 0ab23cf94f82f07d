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

/// An answer between two passes of the decoder: takes the logits of the next token, gives out text, and says which token to feed.
///
/// [`Generation`] drives one answer; whoever decodes several together drives them with [`Decoder::decode_batch`].
#[derive(Debug)]
pub struct Answer<'a> {
    sampler: Sampler,
    stream: Option<TextStream<'a>>,
    eos_token_id: Vec<u32>,
    max_new_tokens: usize,
    /// The prompt and the answer.
    tokens: Vec<u32>,
    num_prompt_tokens: usize,
    finish_reason: Option<FinishReason>,
}

impl<'a> Answer<'a> {
    /// The beginning of an answer. `prompt` are the token ids before it, for the repetition penalty.
    ///
    /// # Errors
    /// [`ErrorKind::Sampling`](crate::ErrorKind::Sampling) when an option is out of range.
    pub fn new(tokenizer: &'a Tokenizer, prompt: &[u32], options: GenerationOptions) -> Result<Self> {
        Ok(Self {
            sampler: Sampler::new(options.sampling)?,
            stream: Some(TextStream::new(tokenizer)),
            eos_token_id: options.eos_token_id,
            max_new_tokens: options.max_new_tokens,
            tokens: prompt.to_vec(),
            num_prompt_tokens: prompt.len(),
            finish_reason: (options.max_new_tokens == 0).then_some(FinishReason::Length),
        })
    }

    /// Why the answer ended; none while it goes on.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.finish_reason
    }

    /// The tokens of the answer so far, without the end token.
    pub fn token_ids(&self) -> &[u32] {
        &self.tokens[self.num_prompt_tokens..]
    }

    /// Draws the next token from its `logits`, `[vocab_size]`, and gives out the text that is now complete; none if the answer has ended, which an end
    /// token does. The token that is to be fed next, if any, is the last of [`Answer::token_ids`].
    ///
    /// # Errors
    /// [`ErrorKind::Numeric`](crate::ErrorKind::Numeric) when the logits are not numbers, and as [`TextStream::push`].
    pub fn push_logits(&mut self, logits: &[f32]) -> Result<Option<Piece>> {
        let (Some(stream), None) = (&mut self.stream, self.finish_reason) else { return Ok(None) };
        let token = self.sampler.sample(logits, &self.tokens)?;
        if self.eos_token_id.contains(&token) {
            self.finish_reason = Some(FinishReason::Stop);
            return Ok(None);
        }
        self.tokens.push(token);
        if self.tokens.len() - self.num_prompt_tokens >= self.max_new_tokens {
            self.finish_reason = Some(FinishReason::Length);
        }
        Ok(Some(Piece { token_id: Some(token), text: stream.push(token)? }))
    }

    /// Ends the answer because nothing more fits into the context.
    pub fn end_of_context(&mut self) {
        self.finish_reason = self.finish_reason.or(Some(FinishReason::Context));
    }

    /// The text that was waiting for more tokens, once the answer has ended; empty when asked again.
    ///
    /// # Errors
    /// As [`TextStream::finish`].
    pub fn finish(&mut self) -> Result<String> {
        self.stream.take().map_or(Ok(String::new()), TextStream::finish)
    }
}

/// An answer being made: an iterator of [`Piece`]s, which computes as it is asked. After an error it ends.
///
/// The cache then holds the prompt and every token of the answer that was fed back, all but the last.
#[derive(Debug)]
pub struct Generation<'a> {
    decoder: &'a Decoder,
    cache: &'a mut KvCache,
    answer: Answer<'a>,
    /// The logits of the prompt's last position, until they are used.
    prompt_logits: Option<Vec<f32>>,
    has_ended: bool,
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
        let answer = Answer::new(tokenizer, prompt, options)?;
        Ok(Self { decoder, cache, answer, prompt_logits: Some(logits), has_ended: false })
    }

    /// Why the answer ended; none while it goes on, or after an error.
    pub fn finish_reason(&self) -> Option<FinishReason> {
        self.answer.finish_reason()
    }

    /// The tokens of the answer so far, without the end token.
    pub fn token_ids(&self) -> &[u32] {
        self.answer.token_ids()
    }

    /// One step; none when the answer has ended.
    fn step(&mut self) -> Result<Option<Piece>> {
        if self.answer.finish_reason().is_none() {
            let last = self.answer.token_ids().last().copied();
            let logits = match (self.prompt_logits.take(), last) {
                (Some(logits), _) => Some(logits),
                (None, Some(token)) if self.cache.remaining() > 0 => Some(self.decoder.decode(token, self.cache)?),
                (None, _) => None,
            };
            match logits {
                None => self.answer.end_of_context(),
                Some(logits) => {
                    if let Some(piece) = self.answer.push_logits(&logits)? {
                        return Ok(Some(piece));
                    }
                }
            }
        }
        let rest = self.answer.finish()?;
        Ok((!rest.is_empty()).then_some(Piece { token_id: None, text: rest }))
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.has_ended {
            return None;
        }
        let piece = self.step().transpose();
        self.has_ended = !matches!(piece, Some(Ok(_)));
        piece
    }
}

#[cfg(test)]
mod tests;

//! A conversation: its turns, its pictures and its KV cache.
//!
//! Every turn lays the whole conversation out again, finds how much of it the cache already holds, and computes only the rest.
//! So a second question about a picture costs its own few tokens, and the answer is the one that a single long prompt gives.

use std::iter::FusedIterator;
use std::sync::Arc;
use std::time::Instant;

use ndarray::{Array2, Axis, Slice, concatenate};
use ocelli_language::{FinishReason, Generation, KvCache, Message, PromptPart, Role, Wanted};

use crate::error::{Error, Result};
use crate::model::Model;
use crate::options::SessionOptions;
use crate::prompt::{Prompt, PromptItem};
use crate::response::{Response, Timings};

/// A conversation with a [`Model`].
#[derive(Debug)]
pub struct Session {
    model: Model,
    options: SessionOptions,
    messages: Vec<Message>,
    /// The image tokens of every picture of the conversation, in order.
    pictures: Vec<Arc<Array2<f32>>>,
    cache: KvCache,
    /// The tokens in the cache, and perhaps the last token of an answer, which is not. Pictures are only ever added at the end,
    /// so that equal ids are equal tokens.
    token_ids: Vec<u32>,
}

impl Session {
    pub(crate) fn new(model: Model, options: SessionOptions) -> Self {
        let cache = model.empty_cache();
        Self { model, options, messages: Vec::new(), pictures: Vec::new(), cache, token_ids: Vec::new() }
    }

    /// The conversation so far.
    pub fn messages(&self) -> &[Message] {
        &self.messages
    }

    /// Positions of the context in use.
    pub fn num_tokens(&self) -> usize {
        self.cache.len()
    }

    /// Positions of the context in all.
    pub fn max_tokens(&self) -> usize {
        self.cache.capacity()
    }

    /// The answer to `prompt`.
    ///
    /// # Errors
    /// [`ErrorKind::ContextFull`](crate::ErrorKind::ContextFull) when the conversation does not fit; the session is then as it was
    /// before. [`ErrorKind::Config`](crate::ErrorKind::Config) when the model does not have the session's mode.
    pub fn respond(&mut self, prompt: impl Into<Prompt>) -> Result<Response> {
        let mut stream = self.stream(prompt)?;
        stream.by_ref().try_for_each(|piece| piece.map(drop))?;
        Ok(stream.into_response())
    }

    /// The answer to `prompt`, piece by piece: an iterator of texts. The pictures and the prompt are computed here, and then a token
    /// of the answer in each step. Whoever drops it early has the text so far as the answer.
    ///
    /// # Errors
    /// As [`Session::respond`].
    pub fn stream(&mut self, prompt: impl Into<Prompt>) -> Result<ResponseStream<'_>> {
        let (num_messages, num_pictures) = (self.messages.len(), self.pictures.len());
        match self.prefill(prompt.into()) {
            Ok((logits, response)) => self.generate(logits, response),
            Err(error) => {
                self.messages.truncate(num_messages);
                self.pictures.truncate(num_pictures);
                Err(error)
            }
        }
    }

    /// The cache, and the tokens in it.
    pub(crate) fn into_cache(self) -> (KvCache, Vec<u32>) {
        (self.cache, self.token_ids)
    }

    /// Takes the prompt in, up to the logits of the first token of the answer.
    pub(crate) fn prefill(&mut self, prompt: Prompt) -> Result<(Vec<f32>, Response)> {
        let mut timings = Timings::default();
        let (mut num_views, mut num_image_tokens) = (0, 0);
        let mut parts = Vec::with_capacity(prompt.items.len());
        for item in prompt.items {
            let picture = match item {
                PromptItem::Text(text) => {
                    parts.push(PromptPart::Text(text));
                    continue;
                }
                PromptItem::Picture(picture) => {
                    let encoded = self.model.encode_picture(&picture, self.options.mode)?;
                    timings += encoded.timings;
                    encoded
                }
                PromptItem::Encoded(picture) => picture,
            };
            num_views += picture.num_views;
            num_image_tokens += picture.tokens.nrows();
            parts.push(picture.prompt_part());
            self.pictures.push(picture.tokens);
        }
        self.messages.push(Message { role: Role::User, parts });

        let start = Instant::now();
        let layout = self.model.layout(&self.messages)?;
        let ids = layout.token_ids();
        let (requested, capacity) = (ids.len(), self.cache.capacity());
        if requested > capacity {
            // Before the embeddings of an endless text are looked up.
            return Err(ocelli_language::Error::ContextFull { requested, used: 0, capacity }.into());
        }
        let same = ids.iter().zip(&self.token_ids).take_while(|(new, old)| new == old).count();
        // The last position is always computed: its logits are wanted.
        let num_cached_tokens = same.min(self.cache.len()).min(ids.len().saturating_sub(1));
        let embeddings = self.model.embed(&layout, self.image_tokens()?.view())?;
        self.cache.truncate(num_cached_tokens);
        self.token_ids.truncate(num_cached_tokens);
        let new_embeddings = embeddings.slice_axis(Axis(0), Slice::from(num_cached_tokens..));
        let logits = self.model.decoder().prefill(new_embeddings, &mut self.cache, Wanted::Last)?;
        self.token_ids.extend_from_slice(&ids[num_cached_tokens..]);
        timings.prefill = start.elapsed();
        tracing::debug!(prompt_tokens = ids.len(), cached_tokens = num_cached_tokens, "prompt in the cache");
        let response = Response {
            text: String::new(),
            finish_reason: FinishReason::Length,
            num_views,
            num_image_tokens,
            num_prompt_tokens: ids.len(),
            num_cached_tokens,
            num_generated_tokens: 0,
            timings,
        };
        Ok((logits.into_raw_vec_and_offset().0, response))
    }

    /// The answer after the prompt that is in the cache.
    fn generate(&mut self, logits: Vec<f32>, response: Response) -> Result<ResponseStream<'_>> {
        let options = self.options.generation_options(&self.model);
        let (decoder, tokenizer) = (self.model.decoder(), self.model.tokenizer());
        let generation = Generation::new(decoder, tokenizer, &mut self.cache, &self.token_ids, logits, options)?;
        self.messages.push(Message { role: Role::Assistant, parts: Vec::new() });
        Ok(ResponseStream { generation, messages: &mut self.messages, token_ids: &mut self.token_ids, response })
    }

    /// The image tokens of the whole conversation, `[num_image_tokens, hidden_size]`.
    fn image_tokens(&self) -> Result<Array2<f32>> {
        if self.pictures.is_empty() {
            return Ok(Array2::zeros((0, self.model.text_config().hidden_size)));
        }
        let pictures: Vec<_> = self.pictures.iter().map(|tokens| tokens.view()).collect();
        concatenate(Axis(0), &pictures).map_err(|_| {
            let widths: Vec<usize> = pictures.iter().map(|picture| picture.ncols()).collect();
            Error::options("the width of the encoded pictures", format!("{widths:?}"), "that of this session's model")
        })
    }
}

/// An answer being made: an iterator of texts. Afterwards [`ResponseStream::into_response`] tells the rest.
#[derive(Debug)]
pub struct ResponseStream<'a> {
    generation: Generation<'a>,
    messages: &'a mut Vec<Message>,
    token_ids: &'a mut Vec<u32>,
    response: Response,
}

impl ResponseStream<'_> {
    /// The answer so far: its text, the counts and the timings.
    pub fn into_response(self) -> Response {
        self.response
    }

    /// Keeps what a step gave, so that the session is right whenever the stream is dropped.
    fn keep(&mut self, token_id: Option<u32>, text: &str) {
        self.response.text.push_str(text);
        self.response.num_generated_tokens = self.generation.token_ids().len();
        self.token_ids.extend(token_id);
        if let Some(answer) = self.messages.last_mut() {
            answer.parts = vec![PromptPart::Text(self.response.text.clone())];
        }
    }
}

impl Iterator for ResponseStream<'_> {
    type Item = Result<String>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let start = Instant::now();
            let step = self.generation.next();
            self.response.timings.generate += start.elapsed();
            if let Some(reason) = self.generation.finish_reason() {
                self.response.finish_reason = reason;
            }
            match step? {
                Err(error) => return Some(Err(error.into())),
                Ok(piece) => {
                    self.keep(piece.token_id, &piece.text);
                    if !piece.text.is_empty() {
                        return Some(Ok(piece.text));
                    }
                }
            }
        }
    }
}

impl FusedIterator for ResponseStream<'_> {}

//! Several answers at once: one pass over the decoder's weights gives each of them a token.

use std::time::Instant;

use ocelli_language::{Answer, FinishReason, KvCache};

use crate::error::Result;
use crate::model::Model;
use crate::options::SessionOptions;
use crate::prompt::Prompt;
use crate::response::Response;

/// Answers to prompts that have nothing to do with each other, decoded together.
///
/// Decoding reads all weights of the decoder for each token, so answers that share the reading cost less than one after the other. Each is the answer
/// that [`Session::respond`](crate::Session::respond) gives to its prompt, to the letter.
///
/// ```
/// use ocelli::{Model, Picture, ResponseBatch, SessionOptions, prompt};
///
/// let model = Model::bundled()?;
/// let mut batch = ResponseBatch::new(&model, SessionOptions::default());
/// for name in ["scene.png", "tall.png"] {
///     let picture = Picture::open(format!("assets/examples/{name}"))?;
///     batch.push(name, prompt![picture, "How many objects are there?"])?;
/// }
/// while !batch.is_empty() {
///     for (name, answer) in batch.step() {
///         println!("{name}: {}", answer?);
///     }
/// }
/// # Ok::<(), ocelli::Error>(())
/// ```
#[derive(Debug)]
pub struct ResponseBatch<'m, K> {
    model: &'m Model,
    options: SessionOptions,
    active: Vec<Active<'m, K>>,
}

/// An answer that is being made.
#[derive(Debug)]
struct Active<'m, K> {
    key: K,
    cache: KvCache,
    answer: Answer<'m>,
    response: Response,
    failure: Option<crate::Error>,
}

impl<'m, K> ResponseBatch<'m, K> {
    /// A batch without answers.
    pub fn new(model: &'m Model, options: SessionOptions) -> Self {
        Self { model, options, active: Vec::new() }
    }

    /// Answers that are being made.
    pub fn len(&self) -> usize {
        self.active.len()
    }

    /// Whether no answer is being made.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// Takes a prompt in, up to the first token of its answer; `key` is what its answer will come with.
    ///
    /// # Errors
    /// As [`Session::respond`](crate::Session::respond). The batch is then as it was before.
    pub fn push(&mut self, key: K, prompt: impl Into<Prompt>) -> Result<()> {
        let mut session = self.model.session_with(self.options.clone())?;
        let (logits, response) = session.prefill(prompt.into())?;
        let (cache, token_ids) = session.into_cache();
        let start = Instant::now();
        let answer = Answer::new(self.model.tokenizer(), &token_ids, self.options.generation_options(self.model))?;
        let mut active = Active { key, cache, answer, response, failure: None };
        active.take(&logits);
        active.response.timings.generate += start.elapsed();
        self.active.push(active);
        Ok(())
    }

    /// One more token for every answer. Those that have ended come out, with their keys, in the order in which they were pushed. The time of a step counts
    /// for each answer in equal shares.
    pub fn step(&mut self) -> Vec<(K, Result<Response>)> {
        let start = Instant::now();
        for active in &mut self.active {
            if active.cache.remaining() == 0 {
                active.answer.end_of_context();
            }
        }
        let mut running: Vec<&mut Active<'m, K>> =
            self.active.iter_mut().filter(|active| active.is_running()).collect();
        let tokens: Vec<u32> = running.iter().filter_map(|active| active.answer.token_ids().last().copied()).collect();
        let mut caches: Vec<&mut KvCache> = running.iter_mut().map(|active| &mut active.cache).collect();
        let logits = self.model.decoder().decode_batch(&tokens, &mut caches);
        let logits = logits.expect("tokens of the model's own logits, and caches of its own with room for one more");
        for (active, logits) in running.iter_mut().zip(logits.outer_iter()) {
            active.take(logits.as_slice().expect("standard layout"));
        }
        let share = start.elapsed() / running.len().max(1) as u32;
        running.iter_mut().for_each(|active| active.response.timings.generate += share);
        self.active.extract_if(.., |active| !active.is_running()).map(Active::finish).collect()
    }
}

impl<K> Active<'_, K> {
    fn is_running(&self) -> bool {
        self.failure.is_none() && self.answer.finish_reason().is_none()
    }

    /// Draws the next token of the answer.
    fn take(&mut self, logits: &[f32]) {
        match self.answer.push_logits(logits) {
            Ok(Some(piece)) => self.response.text.push_str(&piece.text),
            Ok(None) => {}
            Err(error) => self.failure = Some(error.into()),
        }
    }

    fn finish(mut self) -> (K, Result<Response>) {
        let rest = self.answer.finish().map_err(crate::Error::from);
        let result = self.failure.map_or(Ok(()), Err).and(rest).map(|rest| {
            self.response.text.push_str(&rest);
            self.response.num_generated_tokens = self.answer.token_ids().len();
            self.response.finish_reason = self.answer.finish_reason().unwrap_or(FinishReason::Length);
            self.response
        });
        (self.key, result)
    }
}

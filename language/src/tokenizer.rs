//! Text to token ids and back, by a Hugging Face tokenizer.json.
//!
//! There are two ways in. The text of a template is [`Markup::Special`]: `<turn_end>` in it is the token that ends a turn. The text
//! of a user is [`Markup::Plain`]: the same nine characters are nine characters, so nobody can end a turn by writing so.
//! [`Tokenizer::encode_parts`] encodes a prompt of both as one text, as the models were trained, and part by part where that would make tokens of
//! a user's characters.

use std::collections::HashSet;

use serde_json::Value;

use crate::error::{Error, Result};

/// Long texts are encoded in pieces of about this size, cut at white space, so that the time stays linear in the length.
const PIECE_BYTES: usize = 1 << 16;

/// Whether the names of special tokens in a text are those tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Markup {
    /// They are: the text is a template's.
    Special,
    /// They are characters like any others: the text is a user's.
    Plain,
}

/// A tokenizer. Nothing is added to a text: no beginning token, no padding, no truncation.
#[derive(Debug, Clone)]
pub struct Tokenizer {
    special: tokenizers::Tokenizer,
    plain: tokenizers::Tokenizer,
    /// The ids that only [`Markup::Special`] gives.
    special_ids: HashSet<u32>,
    /// One more than the largest token id.
    num_ids: usize,
}

impl Tokenizer {
    /// Reads the bytes of a tokenizer.json.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`](crate::ErrorKind::Tokenizer) when they are not a tokenizer.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let mut special = tokenizers::Tokenizer::from_bytes(bytes)
            .map_err(|cause| error(format!("not a Hugging Face tokenizer.json: {cause}")))?;
        special.with_padding(None);
        special.with_truncation(None).map_err(|cause| error(cause.to_string()))?;
        special.set_encode_special_tokens(false);
        let mut plain = special.clone();
        plain.set_encode_special_tokens(true);
        let num_ids = special.get_vocab(true).into_values().max().map_or(0, |id| id as usize + 1);
        check_added_ids(bytes, &special)?;
        let added = special.get_added_tokens_decoder().into_iter();
        let special_ids = added.filter(|(_, token)| token.special).map(|(id, _)| id).collect();
        Ok(Self { special, plain, special_ids, num_ids })
    }

    /// One more than the largest token id.
    pub fn num_ids(&self) -> usize {
        self.num_ids
    }

    /// Checks that the decoder has an embedding for every token. It may have more.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`](crate::ErrorKind::Tokenizer) with both numbers.
    pub fn check_vocab_size(&self, vocab_size: usize) -> Result<()> {
        if self.num_ids <= vocab_size {
            return Ok(());
        }
        Err(error(format!(
            "token ids go up to {}, but vocab_size in config.json is {vocab_size}: do the two files belong together?",
            self.num_ids - 1
        )))
    }

    /// The ids of a text.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`](crate::ErrorKind::Tokenizer) when the tokenizer cannot encode it.
    pub fn encode(&self, text: &str, markup: Markup) -> Result<Vec<u32>> {
        let tokenizer = match markup {
            Markup::Special => &self.special,
            Markup::Plain => &self.plain,
        };
        let mut ids = Vec::new();
        let mut rest = text;
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(piece_end(rest));
            let encoding = tokenizer
                .encode_fast(piece, false)
                .map_err(|cause| error(format!("cannot encode the text: {cause}")))?;
            ids.extend_from_slice(encoding.get_ids());
            rest = tail;
        }
        Ok(ids)
    }

    /// The ids of a text in parts. It is encoded as one text, so that words go on from one part to the next, unless that gives other special
    /// tokens than those of the parts of [`Markup::Special`]: then each part is encoded by itself.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub fn encode_parts(&self, parts: &[(Markup, &str)]) -> Result<Vec<u32>> {
        let whole: String = parts.iter().map(|(_, text)| *text).collect();
        let ids = self.encode(&whole, Markup::Special)?;
        let mut expected = Vec::new();
        for (_, text) in parts.iter().filter(|(markup, _)| *markup == Markup::Special) {
            expected.extend(self.encode(text, Markup::Special)?);
        }
        let is_special = |id: &&u32| self.is_special(**id);
        if ids.iter().filter(is_special).eq(expected.iter().filter(is_special)) {
            return Ok(ids);
        }
        let mut ids = Vec::new();
        for (markup, text) in parts {
            ids.extend(self.encode(text, *markup)?);
        }
        Ok(ids)
    }

    /// What the tokenizer itself would put before a text: a beginning token, or nothing.
    pub fn prefix(&self) -> Vec<u32> {
        self.special.encode_fast("", true).map(|encoding| encoding.get_ids().to_vec()).unwrap_or_default()
    }

    /// The text of a sequence of ids, without special tokens. Bytes that are no UTF-8 become U+FFFD; an id without a token is
    /// nothing.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`](crate::ErrorKind::Tokenizer) when the tokenizer cannot decode them.
    pub fn decode(&self, ids: &[u32]) -> Result<String> {
        self.special.decode(ids, true).map_err(|cause| error(format!("cannot decode the tokens: {cause}")))
    }

    /// A token as tokenizer.json spells it, such as `<turn_end>` or `Ġpicture`.
    pub fn token(&self, id: u32) -> Option<String> {
        self.special.id_to_token(id)
    }

    /// Whether an id is of a special token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// The id of a token as tokenizer.json spells it.
    pub fn id(&self, token: &str) -> Option<u32> {
        self.special.token_to_id(token)
    }
}

/// Where to cut the first piece off: before the first white space after [`PIECE_BYTES`], where byte-level tokenizers cut anyway. A text
/// without white space is cut at twice that, at a character.
fn piece_end(text: &str) -> usize {
    if text.len() <= PIECE_BYTES {
        return text.len();
    }
    let longest = text.floor_char_boundary(2 * PIECE_BYTES);
    let shortest = text.ceil_char_boundary(PIECE_BYTES);
    match text[shortest..longest].find(char::is_whitespace) {
        Some(offset) => shortest + offset,
        None => longest,
    }
}

/// Checks that added tokens got the ids that the file gives them: where one is missing, those after it would move up.
fn check_added_ids(bytes: &[u8], tokenizer: &tokenizers::Tokenizer) -> Result<()> {
    let file: Value = serde_json::from_slice(bytes).map_err(|cause| error(cause.to_string()))?;
    for token in file["added_tokens"].as_array().into_iter().flatten() {
        let (Some(content), Some(id)) = (token["content"].as_str(), token["id"].as_u64()) else { continue };
        let found = tokenizer.token_to_id(content);
        if found.map(u64::from) != Some(id) {
            let found = found.map_or("none".to_owned(), |id| id.to_string());
            return Err(error(format!(
                "the added token `{content}` has id {id} there, but gets {found}: is one before it missing?"
            )));
        }
    }
    Ok(())
}

fn error(message: String) -> Error {
    Error::Tokenizer { message }
}

#[cfg(test)]
pub(crate) mod tests;

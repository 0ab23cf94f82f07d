//! Text to token ids and back, by a Hugging Face tokenizer.json.
//!
//! There are two ways in. The text of a template is [`Markup::Special`]: `<turn_end>` in it is the token that ends a turn. The text
//! of a user is [`Markup::Plain`]: the same nine characters are nine characters, so nobody can end a turn by writing so.

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
        Ok(Self { special, plain, num_ids })
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

fn error(message: String) -> Error {
    Error::Tokenizer { message }
}

#[cfg(test)]
pub(crate) mod tests;

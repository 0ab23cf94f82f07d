//! Text out of tokens as they come, never half a character.
//!
//! A token of a byte-level vocabulary can end in the middle of a character. Decoding such a prefix gives U+FFFD at its end, and
//! everything before that is final; so that is what a step gives out, and the rest waits for the tokens that complete it.

use crate::error::Result;
use crate::tokenizer::Tokenizer;

/// A character has at most four bytes and a token at least one, so longer waiting means that the bytes are no UTF-8 at all.
const MAX_WAITING_TOKENS: usize = 16;

/// Turns tokens into text, piece by piece; the pieces together are the text of all tokens.
#[derive(Debug)]
pub struct TextStream<'a> {
    tokenizer: &'a Tokenizer,
    /// The last tokens given out whole, decoded again as context for the next (some decoders trim at the beginning), then those waiting.
    window: Vec<u32>,
    num_context_tokens: usize,
    /// Bytes of the window's text given out already.
    given_bytes: usize,
}

impl<'a> TextStream<'a> {
    /// A stream at its beginning.
    pub fn new(tokenizer: &'a Tokenizer) -> Self {
        Self { tokenizer, window: Vec::new(), num_context_tokens: 0, given_bytes: 0 }
    }

    /// Takes a token, and gives out the text that is now complete, which may be empty.
    ///
    /// # Errors
    /// [`ErrorKind::Tokenizer`](crate::ErrorKind::Tokenizer) when the tokenizer cannot decode.
    pub fn push(&mut self, id: u32) -> Result<String> {
        self.window.push(id);
        let text = self.tokenizer.decode(&self.window)?;
        let num_waiting = self.window.len() - self.num_context_tokens;
        match text.strip_suffix(char::REPLACEMENT_CHARACTER) {
            Some(complete) if num_waiting < MAX_WAITING_TOKENS => Ok(self.give(complete)),
            _ => {
                let piece = self.give(&text);
                self.window.drain(..self.num_context_tokens);
                self.num_context_tokens = self.window.len();
                self.given_bytes = self.tokenizer.decode(&self.window)?.len();
                Ok(piece)
            }
        }
    }

    /// Ends the stream: gives out what was waiting, with U+FFFD for the character that was never completed.
    ///
    /// # Errors
    /// As [`TextStream::push`].
    pub fn finish(mut self) -> Result<String> {
        let text = self.tokenizer.decode(&self.window)?;
        Ok(self.give(&text))
    }

    fn give(&mut self, text: &str) -> String {
        let piece = text.get(self.given_bytes..).unwrap_or_default().to_owned();
        self.given_bytes = self.given_bytes.max(text.len());
        piece
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tokenizer::tests::byte_tokenizer;

    fn pieces(tokenizer: &Tokenizer, ids: &[u32]) -> Vec<String> {
        let mut stream = TextStream::new(tokenizer);
        let mut pieces: Vec<String> = ids.iter().map(|&id| stream.push(id).unwrap()).collect();
        pieces.push(stream.finish().unwrap());
        pieces
    }

    #[test]
    fn a_character_split_over_four_tokens_comes_whole_with_the_last() {
        let tokenizer = byte_tokenizer();
        let ids = tokenizer.bytes("a🐈b".as_bytes());
        assert_eq!(pieces(&tokenizer.tokenizer, &ids), ["a", "", "", "", "🐈", "b", ""]);
    }

    #[test]
    fn an_incomplete_character_at_the_end_becomes_a_replacement() {
        let tokenizer = byte_tokenizer();
        let ids = tokenizer.bytes(b"a\xf0\x9f");
        assert_eq!(pieces(&tokenizer.tokenizer, &ids), ["a", "", "", "\u{fffd}"]);
    }

    #[test]
    fn endless_invalid_bytes_are_given_out_and_the_window_stays_short() {
        let tokenizer = byte_tokenizer();
        let ids = tokenizer.bytes(&[0x80; 100]);
        let mut stream = TextStream::new(&tokenizer.tokenizer);
        let mut text = String::new();
        for &id in &ids {
            text += &stream.push(id).unwrap();
            assert!(stream.window.len() <= 2 * MAX_WAITING_TOKENS);
        }
        text += &stream.finish().unwrap();
        assert_eq!(text, "\u{fffd}".repeat(100));
    }

    proptest::proptest! {
        #[test]
        fn the_pieces_together_are_the_text_of_all_tokens(text in "\\PC{0,40}") {
            let tokenizer = byte_tokenizer();
            let ids = tokenizer.bytes(text.as_bytes());
            proptest::prop_assert_eq!(pieces(&tokenizer.tokenizer, &ids).concat(), text);
        }
    }
}

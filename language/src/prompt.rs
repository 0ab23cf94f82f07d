//! The layout of a prompt: its token ids, and which of its positions are image tokens.
//!
//! Each piece of the rendered conversation is encoded by itself: the template's with special tokens, people's without, and a picture as
//! `<image_start>` + one `<image>` an image token + `<image_end>` for every view. The ids of `<image>` only hold the place: the
//! adapter's outputs are put into the embeddings at those positions.

use std::fmt::Write;
use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, Slice};

use crate::chat_template::{ChatTemplate, Message, PromptPiece};
use crate::config::ImageTokenIds;
use crate::error::{Error, Result};
use crate::tokenizer::{Markup, Tokenizer};

/// Token ids of a prompt and the positions of its image tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptLayout {
    token_ids: Vec<u32>,
    image_ranges: Vec<Range<usize>>,
}

impl PromptLayout {
    /// Lays a conversation out, with the beginning of an answer at its end if `add_generation_prompt`.
    ///
    /// # Errors
    /// [`ErrorKind::Template`](crate::ErrorKind::Template) and [`ErrorKind::Tokenizer`](crate::ErrorKind::Tokenizer).
    pub fn new(
        messages: &[Message],
        add_generation_prompt: bool,
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        image_token_ids: &ImageTokenIds,
    ) -> Result<Self> {
        let mut layout = Self::default();
        for piece in template.render(messages, add_generation_prompt)? {
            match piece {
                PromptPiece::Template(text) => layout.token_ids.extend(tokenizer.encode(&text, Markup::Special)?),
                PromptPiece::Text(text) => layout.token_ids.extend(tokenizer.encode(&text, Markup::Plain)?),
                PromptPiece::Image { num_views, tokens_per_view } => {
                    layout.push_views(num_views, tokens_per_view, image_token_ids);
                }
            }
        }
        Ok(layout)
    }

    fn push_views(&mut self, num_views: usize, tokens_per_view: usize, ids: &ImageTokenIds) {
        for _ in 0..num_views {
            self.token_ids.push(ids.image_start_token_id);
            let start = self.token_ids.len();
            self.token_ids.resize(start + tokens_per_view, ids.image_token_id);
            self.image_ranges.push(start..self.token_ids.len());
            self.token_ids.push(ids.image_end_token_id);
        }
    }

    /// Token ids, `[num_tokens]`; those of image tokens hold their place.
    pub fn token_ids(&self) -> &[u32] {
        &self.token_ids
    }

    /// The positions of each view's image tokens, in order.
    pub fn image_ranges(&self) -> &[Range<usize>] {
        &self.image_ranges
    }

    /// Image tokens in all.
    pub fn num_image_tokens(&self) -> usize {
        self.image_ranges.iter().map(Range::len).sum()
    }

    /// Puts image tokens, `[num_image_tokens, hidden_size]`, into the prompt's embeddings, `[num_tokens, hidden_size]`.
    ///
    /// # Errors
    /// [`ErrorKind::Shape`](crate::ErrorKind::Shape) when the numbers of tokens or the widths disagree.
    pub fn splice(&self, embeddings: &mut Array2<f32>, image_tokens: ArrayView2<'_, f32>) -> Result<()> {
        let shape_error = |what, found: &[usize], expected: [usize; 2]| Error::Shape {
            what,
            found: format!("{found:?}"),
            expected: format!("{expected:?} (tokens of the prompt's layout x hidden size)"),
        };
        let hidden_size = embeddings.ncols();
        if embeddings.nrows() != self.token_ids.len() {
            return Err(shape_error(
                "the embedding of the prompt",
                embeddings.shape(),
                [self.token_ids.len(), hidden_size],
            ));
        }
        let expected = [self.num_image_tokens(), hidden_size];
        if image_tokens.shape() != expected {
            return Err(shape_error("the array of image tokens", image_tokens.shape(), expected));
        }
        let mut first = 0;
        for range in &self.image_ranges {
            let view = image_tokens.slice_axis(Axis(0), Slice::from(first..first + range.len()));
            embeddings.slice_axis_mut(Axis(0), Slice::from(range.clone())).assign(&view);
            first += range.len();
        }
        Ok(())
    }

    /// The layout for people: a line a token, `position id token`, and one for the image tokens of a view.
    pub fn describe(&self, tokenizer: &Tokenizer) -> String {
        let mut text = String::new();
        let mut views = self.image_ranges.iter().filter(|range| !range.is_empty()).peekable();
        let mut position = 0;
        while let Some(&id) = self.token_ids.get(position) {
            let token = tokenizer.token(id).unwrap_or_else(|| "(no token)".into());
            let line = match views.next_if(|range| range.start == position) {
                Some(view) => {
                    position = view.end;
                    writeln!(text, "{}..{} {id} {token} x {}", view.start, view.end, view.len())
                }
                None => {
                    position += 1;
                    writeln!(text, "{} {id} {token}", position - 1)
                }
            };
            line.expect("writing to a string does not fail");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat_template::{PromptPart, Role};
    use crate::tokenizer::tests::byte_tokenizer;

    const IDS: ImageTokenIds = ImageTokenIds { image_start_token_id: 4, image_end_token_id: 5, image_token_id: 6 };

    fn layout(parts: Vec<PromptPart>) -> PromptLayout {
        let template = ChatTemplate::new(include_str!("../../assets/nano/chat_template.jinja").into()).unwrap();
        let messages = [Message { role: Role::User, parts }];
        PromptLayout::new(&messages, true, &template, &byte_tokenizer().tokenizer, &IDS).unwrap()
    }

    #[test]
    fn a_caption_prompt_has_its_pieces_encoded_separately() {
        let tokenizer = byte_tokenizer();
        let picture = PromptPart::Image { num_views: 1, tokens_per_view: 144 };
        let layout = layout(vec![picture, PromptPart::Text("Describe the picture.".into())]);
        let expected = [
            vec![1, 2],
            tokenizer.bytes(b"user\n"),
            vec![4],
            vec![6; 144],
            vec![5],
            tokenizer.bytes(b"Describe the picture."),
            vec![3, 2],
            tokenizer.bytes(b"assistant\n"),
        ];
        assert_eq!(layout.token_ids(), expected.concat());
        assert_eq!(layout.image_ranges().to_vec(), vec![Range { start: 8, end: 152 }]);
    }

    #[test]
    fn the_bundled_tokenizer_lays_a_caption_out_as_the_model_was_trained() {
        let json = include_bytes!("../../assets/nano/tokenizer.json");
        let tokenizer = Tokenizer::from_bytes(json).unwrap();
        tokenizer.check_vocab_size(1024).unwrap();
        let template = ChatTemplate::new(include_str!("../../assets/nano/chat_template.jinja").into()).unwrap();
        let picture = PromptPart::Image { num_views: 1, tokens_per_view: 9 };
        let question = "Describe the picture.";
        let messages = [Message { role: Role::User, parts: vec![picture, PromptPart::Text(question.into())] }];
        let layout = PromptLayout::new(&messages, true, &template, &tokenizer, &IDS).unwrap();
        let encode = |text| tokenizer.encode(text, Markup::Plain).unwrap();
        let views = [vec![4], vec![6; 9], vec![5]].concat();
        let expected =
            [vec![1, 2], encode("user\n"), views, encode(question), vec![3, 2], encode("assistant\n")].concat();
        assert_eq!(layout.token_ids(), expected);
        for text in [question, "There is a red bird. 🐦\n\0", "naïve <turn_end> <image>"] {
            assert_eq!(tokenizer.decode(&encode(text)).unwrap(), text);
            assert!(encode(text).iter().all(|&id| id > 6), "no special token in a user's text");
        }
    }

    #[test]
    fn every_view_of_a_picture_has_its_own_boundaries() {
        let layout = layout(vec![
            PromptPart::Image { num_views: 2, tokens_per_view: 3 },
            PromptPart::Text("<image>".into()),
            PromptPart::Image { num_views: 1, tokens_per_view: 2 },
        ]);
        assert_eq!(layout.token_ids()[7..17], [4, 6, 6, 6, 5, 4, 6, 6, 6, 5]);
        assert_eq!(layout.image_ranges(), [8..11, 13..16, 25..27]);
        assert_eq!(
            layout.token_ids().iter().filter(|&&id| id == 6).count(),
            8,
            "`<image>` in a text is no image token"
        );
    }

    #[test]
    fn image_tokens_are_spliced_by_position() {
        let layout = layout(vec![
            PromptPart::Image { num_views: 1, tokens_per_view: 2 },
            PromptPart::Image { num_views: 1, tokens_per_view: 1 },
        ]);
        let mut embeddings = Array2::zeros((layout.token_ids().len(), 2));
        let images = ndarray::array![[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]];
        layout.splice(&mut embeddings, images.view()).unwrap();
        for (position, row) in embeddings.rows().into_iter().enumerate() {
            let expected = match position {
                8 => [1.0, 2.0],
                9 => [3.0, 4.0],
                12 => [5.0, 6.0],
                _ => [0.0, 0.0],
            };
            assert_eq!(row.to_vec(), expected, "position {position}");
        }
        for wrong in [Array2::zeros((2, 2)), Array2::zeros((3, 3))] {
            let error = layout.splice(&mut embeddings, wrong.view()).unwrap_err();
            assert_eq!(error.kind(), crate::ErrorKind::Shape);
        }
    }

    #[test]
    fn the_layout_can_be_read() {
        let layout =
            layout(vec![PromptPart::Image { num_views: 2, tokens_per_view: 9 }, PromptPart::Text("Hi".into())]);
        insta::assert_snapshot!(layout.describe(&byte_tokenizer().tokenizer));
    }
}

//! The layout of a prompt: its token ids, and which of its positions are image tokens.
//!
//! The rendered conversation is encoded as one text ([`Tokenizer::encode_parts`]), in which each view of a picture has the image token once, as
//! [`ImagePrompt`] writes it; that one becomes as many as the view has. The ids of image tokens only hold the place: the adapter's outputs
//! are put into the embeddings at those positions.

use std::collections::VecDeque;
use std::fmt::Write;
use std::ops::Range;

use ndarray::{Array2, ArrayView2, Axis, Slice};

use crate::chat_template::{ChatTemplate, Message, PromptPiece};
use crate::error::{Error, Result};
use crate::image_prompt::ImagePrompt;
use crate::tokenizer::{Markup, Tokenizer};

/// Token ids of a prompt and the positions of its image tokens.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PromptLayout {
    token_ids: Vec<u32>,
    image_ranges: Vec<Range<usize>>,
}

impl PromptLayout {
    /// Lays a conversation out, with the beginning of an answer at its end if `add_generation_prompt`. Without `images` there can be no pictures
    /// in it.
    ///
    /// # Errors
    /// [`ErrorKind::Template`](crate::ErrorKind::Template) and [`ErrorKind::Tokenizer`](crate::ErrorKind::Tokenizer);
    /// [`ErrorKind::Unsupported`](crate::ErrorKind::Unsupported) for a picture without `images`.
    pub fn new(
        messages: &[Message],
        add_generation_prompt: bool,
        template: &ChatTemplate,
        tokenizer: &Tokenizer,
        images: Option<&ImagePrompt>,
    ) -> Result<Self> {
        let image_token = images.map(|images| images.image_token.as_str());
        let mut parts = Vec::new();
        let mut view_lengths = VecDeque::new();
        for piece in template.render(messages, add_generation_prompt, image_token)? {
            match (piece, images) {
                (PromptPiece::Template(text), _) => parts.push((Markup::Special, text)),
                (PromptPiece::Text(text), _) => parts.push((Markup::Plain, text)),
                (PromptPiece::Image { tiles: (rows, columns), tokens_per_view }, Some(images)) => {
                    let num_views = if (rows, columns) == (1, 1) { 1 } else { rows * columns + 1 };
                    view_lengths.extend(std::iter::repeat_n(tokens_per_view, num_views));
                    parts.push((Markup::Special, images.write((rows, columns))));
                }
                (PromptPiece::Image { .. }, None) => {
                    return Err(Error::Unsupported {
                        what: "a picture in the prompt".into(),
                        hint: "this model is a decoder alone and reads text",
                    });
                }
            }
        }
        let parts: Vec<(Markup, &str)> = parts.iter().map(|(markup, text)| (*markup, text.as_str())).collect();
        let mut layout = Self::default();
        let ids = tokenizer.encode_parts(&parts)?;
        let bos_token_id = images.and_then(|images| images.bos_token_id);
        layout.token_ids.extend(bos_token_id.filter(|bos| ids.first() != Some(bos)));
        for id in ids {
            match images {
                Some(images) if id == images.image_token_id => {
                    let Some(length) = view_lengths.pop_front() else { return Err(stray_image_token(images)) };
                    let start = layout.token_ids.len();
                    layout.token_ids.resize(start + length, id);
                    layout.image_ranges.push(start..start + length);
                }
                _ => layout.token_ids.push(id),
            }
        }
        Ok(layout)
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

/// More image tokens than views: the template wrote one of its own.
fn stray_image_token(images: &ImagePrompt) -> Error {
    let message = format!("chat_template.jinja writes {} where there is no picture", images.image_token);
    Error::Template { message }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::TextConfig;
    use crate::chat_template::{PromptPart, Role};
    use crate::tokenizer::tests::byte_tokenizer;

    fn image_prompt(tokenizer: &Tokenizer) -> ImagePrompt {
        let config = json!({"image_start_token_id": 4, "image_end_token_id": 5, "image_token_id": 6});
        let text = json!({"model_type": "afm_text_v7", "vocab_size": 1024, "hidden_size": 8, "intermediate_size": 8,
                          "num_hidden_layers": 1, "num_attention_heads": 1});
        ImagePrompt::from_config_json(&config, &TextConfig::from_json(&text).unwrap(), tokenizer, true).unwrap()
    }

    fn layout(parts: Vec<PromptPart>) -> PromptLayout {
        let template = ChatTemplate::new(include_str!("../../assets/nano/chat_template.jinja")).unwrap();
        let messages = [Message { role: Role::User, parts }];
        {
            let tokenizer = byte_tokenizer().tokenizer;
            PromptLayout::new(&messages, true, &template, &tokenizer, Some(&image_prompt(&tokenizer))).unwrap()
        }
    }

    #[test]
    fn a_caption_prompt_has_its_pieces_encoded_separately() {
        let tokenizer = byte_tokenizer();
        let picture = PromptPart::Image { tiles: (1, 1), tokens_per_view: 144 };
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
        let template = ChatTemplate::new(include_str!("../../assets/nano/chat_template.jinja")).unwrap();
        let picture = PromptPart::Image { tiles: (1, 1), tokens_per_view: 9 };
        let question = "Describe the picture.";
        let messages = [Message { role: Role::User, parts: vec![picture, PromptPart::Text(question.into())] }];
        let layout =
            PromptLayout::new(&messages, true, &template, &tokenizer, Some(&image_prompt(&tokenizer))).unwrap();
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
            PromptPart::Image { tiles: (1, 2), tokens_per_view: 3 },
            PromptPart::Text("<image>".into()),
            PromptPart::Image { tiles: (1, 1), tokens_per_view: 2 },
        ]);
        assert_eq!(layout.token_ids()[7..22], [4, 6, 6, 6, 5].repeat(3));
        assert_eq!(layout.image_ranges(), [8..11, 13..16, 18..21, 30..32]);
        assert_eq!(
            layout.token_ids().iter().filter(|&&id| id == 6).count(),
            11,
            "`<image>` in a text is no image token"
        );
    }

    #[test]
    fn image_tokens_are_spliced_by_position() {
        let layout = layout(vec![
            PromptPart::Image { tiles: (1, 1), tokens_per_view: 2 },
            PromptPart::Image { tiles: (1, 1), tokens_per_view: 1 },
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
            layout(vec![PromptPart::Image { tiles: (1, 2), tokens_per_view: 9 }, PromptPart::Text("Hi".into())]);
        insta::assert_snapshot!(layout.describe(&byte_tokenizer().tokenizer));
    }
}

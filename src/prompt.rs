//! What a person says in one turn: texts and pictures in any order.

use ocelli_vision::Picture;

use crate::model::EncodedPicture;

/// A part of a [`Prompt`].
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum PromptItem {
    /// A text. Names of special tokens in it are plain characters.
    Text(String),
    /// A picture, looked at in the session's mode.
    Picture(Picture),
    /// A picture that was encoded before ([`Model::encode_picture`](crate::Model::encode_picture)): it costs no second encoding.
    Encoded(EncodedPicture),
}

/// Texts and pictures of one turn, in the order in which the model sees them; see [`prompt!`](crate::prompt).
#[derive(Clone, Debug, Default)]
pub struct Prompt {
    pub(crate) items: Vec<PromptItem>,
}

impl Prompt {
    /// An empty prompt.
    pub fn new() -> Self {
        Self::default()
    }

    /// This prompt with one more text or picture at its end.
    #[must_use]
    pub fn with(mut self, item: impl Into<PromptItem>) -> Self {
        self.items.push(item.into());
        self
    }

    /// The texts and pictures in order.
    pub fn items(&self) -> &[PromptItem] {
        &self.items
    }
}

/// A [`Prompt`] of texts and pictures in any order: `prompt![picture, "How many dogs are there?"]`.
///
/// An item is a `&str`, a `String`, a [`Picture`] (or a reference, which is copied), or an [`EncodedPicture`].
#[macro_export]
macro_rules! prompt {
    ($($item:expr),* $(,)?) => {
        $crate::Prompt::new()$(.with($item))*
    };
}

impl From<&str> for PromptItem {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for PromptItem {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Picture> for PromptItem {
    fn from(picture: Picture) -> Self {
        Self::Picture(picture)
    }
}

impl From<&Picture> for PromptItem {
    fn from(picture: &Picture) -> Self {
        Self::Picture(picture.clone())
    }
}

impl From<EncodedPicture> for PromptItem {
    fn from(picture: EncodedPicture) -> Self {
        Self::Encoded(picture)
    }
}

impl From<&EncodedPicture> for PromptItem {
    fn from(picture: &EncodedPicture) -> Self {
        Self::Encoded(picture.clone())
    }
}

impl From<&str> for Prompt {
    fn from(text: &str) -> Self {
        Self::new().with(text)
    }
}

impl From<String> for Prompt {
    fn from(text: String) -> Self {
        Self::new().with(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_macro_takes_texts_and_pictures_in_any_order() {
        let picture = Picture::from_dynamic_image(image::DynamicImage::new_rgb8(2, 1)).unwrap();
        let prompt = crate::prompt!["first", &picture, String::from("second"), picture];
        let kinds: Vec<&str> = prompt
            .items()
            .iter()
            .map(|item| match item {
                PromptItem::Text(text) => text.as_str(),
                PromptItem::Picture(_) => "(picture)",
                PromptItem::Encoded(_) => "(encoded)",
            })
            .collect();
        assert_eq!(kinds, ["first", "(picture)", "second", "(picture)"]);
        assert!(crate::prompt![].items().is_empty());
    }
}

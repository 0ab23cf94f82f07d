//! How a picture is written into a prompt: the text around the image tokens of each view.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::config::TextConfig;
use crate::error::{Error, Result};
use crate::json_fields::JsonFields;
use crate::tokenizer::Tokenizer;

const FILE: &str = "config.json";

/// The texts of views, of which each has the image token once; it becomes as many image tokens as the view has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImagePrompt {
    /// The id that holds the place of an image token.
    pub image_token_id: u32,
    /// The token of that id.
    pub image_token: String,
    /// Whether the overview comes before the tiles.
    pub overview_first: bool,
    /// Put before the whole prompt where the template does not write it.
    pub bos_token_id: Option<u32>,
    /// The texts.
    pub texts: ViewTexts,
}

/// `image_prompt` of config.json, where `{image}` is the image token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ViewTexts {
    /// A picture of one view.
    pub whole: String,
    /// The view of the whole beside tiles.
    pub overview: String,
    /// A tile, with `{row}` and `{column}`, counted from 1, in place of its numbers.
    pub tile: String,
    /// After each row of tiles.
    #[serde(default)]
    pub row_end: String,
}

impl ImagePrompt {
    /// Reads config.json: `image_token_id`, with `image_prompt` or with `image_start_token_id` and `image_end_token_id`, between which the image
    /// tokens of every view then stand.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](crate::ErrorKind::Config) naming the field, [`ErrorKind::Tokenizer`](crate::ErrorKind::Tokenizer) for a text that
    /// does not have the image token once.
    pub fn from_config_json(
        value: &Value,
        text: &TextConfig,
        tokenizer: &Tokenizer,
        overview_first: bool,
    ) -> Result<Self> {
        let fields = JsonFields::new(FILE, value)?;
        let find_id = |name: &'static str| -> Result<Option<u32>> {
            match fields.integer(&[name], 0, u32::MAX as usize)? {
                Some(id) if id >= text.vocab_size => {
                    Err(fields.error(name, id, format!("an id below the vocab_size of {}", text.vocab_size)))
                }
                id => Ok(id.map(|id| id as u32)),
            }
        };
        let id = |name: &'static str| -> Result<u32> {
            find_id(name)?.ok_or_else(|| fields.missing(name, "the id of a token"))
        };
        let token = |name: &'static str| -> Result<(u32, String)> {
            let id = id(name)?;
            let expected = "the id of a special token in tokenizer.json";
            let token = tokenizer.token(id).filter(|_| tokenizer.is_special(id));
            Ok((id, token.ok_or_else(|| fields.error(name, id, expected))?))
        };
        let (image_token_id, image_token) = token("image_token_id")?;
        let texts = match fields.find(&["image_prompt"]) {
            Some((name, texts)) => {
                let mut texts: ViewTexts = serde_json::from_value(texts.clone())
                    .map_err(|cause| fields.error(name, format!("not readable ({cause})"), "the texts of views"))?;
                for text in [&mut texts.whole, &mut texts.overview, &mut texts.tile] {
                    *text = text.replace("{image}", &image_token);
                }
                texts
            }
            None => {
                let (start, end) = (token("image_start_token_id")?.1, token("image_end_token_id")?.1);
                let view = format!("{start}{image_token}{end}");
                ViewTexts { whole: view.clone(), overview: view.clone(), tile: view, row_end: String::new() }
            }
        };
        let bos_token_id = find_id("bos_token_id")?;
        let prompt = Self { image_token_id, image_token, overview_first, bos_token_id, texts };
        for (name, text) in
            [("whole", &prompt.texts.whole), ("overview", &prompt.texts.overview), ("tile", &prompt.texts.tile)]
        {
            let ids = tokenizer.encode(text, crate::tokenizer::Markup::Special)?;
            let count = ids.iter().filter(|&&id| id == image_token_id).count();
            if count != 1 {
                let expected = format!("{{image}}, or the image token {}, once", prompt.image_token);
                return Err(Error::Config {
                    file: FILE,
                    field: format!("image_prompt.{name}"),
                    found: format!("a text with it {count} times"),
                    expected,
                });
            }
        }
        Ok(prompt)
    }

    /// A picture with these rows and columns of tiles; (1, 1) is a view of the whole alone.
    pub fn write(&self, (rows, columns): (usize, usize)) -> String {
        let ViewTexts { whole, overview, tile, row_end } = &self.texts;
        if (rows, columns) == (1, 1) {
            return whole.clone();
        }
        let mut tiles = String::new();
        for row in 1..=rows {
            for column in 1..=columns {
                tiles += &tile.replace("{row}", &row.to_string()).replace("{column}", &column.to_string());
            }
            tiles += row_end;
        }
        if self.overview_first { format!("{overview}{tiles}") } else { format!("{tiles}{overview}") }
    }
}

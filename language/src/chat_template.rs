//! A conversation to template text with holes: chat_template.jinja, rendered with minijinja.
//!
//! The template never sees what people wrote. It is rendered with a marker in place of each text and each picture, and cut at the
//! markers afterwards, so the position of a part follows from the template alone: nothing in a user's text can move a picture, open a
//! turn or close one. Every marker has to come out once and in order, or the template is refused.
//!
//! `messages[i].content` is a string for a message of text, otherwise a list of `{type: "text", text}` and
//! `{type: "image", image}`; block tags swallow the line they stand on (`trim_blocks`, `lstrip_blocks`), as in transformers.

use std::io::{self, Write};

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, Value, context};

use crate::error::{Error, Result};

const NAME: &str = "chat_template.jinja";
/// Instructions that one rendering may take.
const FUEL: u64 = 10_000_000;
/// Nesting that one rendering may reach.
const RECURSION: usize = 100;
/// Largest text that a template may produce, in bytes.
const MAX_OUTPUT_BYTES: usize = 4 << 20;

/// Who speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Instructions for the whole conversation.
    System,
    /// The person who asks.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The role's name in templates.
    pub fn name(self) -> &'static str {
        match self {
            Self::System => "system",
            Self::User => "user",
            Self::Assistant => "assistant",
        }
    }
}

/// A text or a picture of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptPart {
    /// What somebody wrote.
    Text(String),
    /// A picture.
    Image {
        /// Views of the picture, the overview first.
        num_views: usize,
        /// Image tokens of each view.
        tokens_per_view: usize,
    },
}

/// One turn of a conversation: texts and pictures in any order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who speaks.
    pub role: Role,
    /// What is said and shown.
    pub parts: Vec<PromptPart>,
}

/// A piece of a rendered conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PromptPiece {
    /// Text of the template, with its special tokens.
    Template(String),
    /// Neighbouring texts of a message, as one.
    Text(String),
    /// A picture of a message.
    Image {
        /// Views of the picture.
        num_views: usize,
        /// Image tokens of each view.
        tokens_per_view: usize,
    },
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
}

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`ErrorKind::Template`](crate::ErrorKind::Template) with the line of a syntax error.
    pub fn new(source: String) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(template_error)?;
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment.add_template_owned(NAME, source).map_err(template_error)?;
        Ok(Self { environment })
    }

    /// The conversation in pieces, in order; with the beginning of an answer at its end if `add_generation_prompt`.
    ///
    /// # Errors
    /// [`ErrorKind::Template`](crate::ErrorKind::Template) when the template fails, takes too long, writes too much, or does not use every
    /// text and picture once and in order.
    pub fn render(&self, messages: &[Message], add_generation_prompt: bool) -> Result<Vec<PromptPiece>> {
        let mut parts = Vec::new();
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| {
                let first = parts.len();
                merge_texts(&message.parts, &mut parts);
                context! { role => message.role.name(), content => content_value(&parts[first..], first) }
            })
            .collect();
        let context = context! { messages, add_generation_prompt };
        let template = self.environment.get_template(NAME).map_err(template_error)?;
        let mut output = LimitedOutput::default();
        template.render_captured_to(context, &mut output).map_err(template_error)?;
        let text = String::from_utf8(output.bytes).map_err(|cause| Error::Template {
            message: format!("{NAME} wrote something that is not text: {cause}"),
        })?;
        split_at_markers(&text, parts)
    }
}

/// Neighbouring texts become one, so that they are encoded together.
fn merge_texts(message: &[PromptPart], parts: &mut Vec<PromptPiece>) {
    let first = parts.len();
    for part in message {
        match (part, &mut parts[first..]) {
            (PromptPart::Text(text), [.., PromptPiece::Text(previous)]) => previous.push_str(text),
            (PromptPart::Text(text), _) => parts.push(PromptPiece::Text(text.clone())),
            (&PromptPart::Image { num_views, tokens_per_view }, _) => {
                parts.push(PromptPiece::Image { num_views, tokens_per_view });
            }
        }
    }
}

/// The `content` of a message for the template, markers in place of its parts.
fn content_value(parts: &[PromptPiece], first: usize) -> Value {
    match parts {
        [] => Value::from(""),
        [PromptPiece::Text(_)] => Value::from(marker(first)),
        parts => parts
            .iter()
            .zip(first..)
            .map(|(part, index)| match part {
                PromptPiece::Image { .. } => context! { type => "image", image => marker(index) },
                PromptPiece::Text(_) | PromptPiece::Template(_) => context! { type => "text", text => marker(index) },
            })
            .collect(),
    }
}

/// What stands for a part while the template is rendered: characters of the private use area around its number.
fn marker(index: usize) -> String {
    format!("{MARKER_START}{index}{MARKER_END}")
}

const MARKER_START: char = '\u{f0ce1}';
const MARKER_END: char = '\u{f0ce2}';

fn split_at_markers(text: &str, parts: Vec<PromptPiece>) -> Result<Vec<PromptPiece>> {
    let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
    let num_parts = parts.len();
    let mut rest = text;
    for (index, part) in parts.into_iter().enumerate() {
        let marker = marker(index);
        let Some((before, after)) = rest.split_once(&marker) else {
            let problem = if text.contains(&marker) { "uses more than once or out of order" } else { "leaves out" };
            return Err(part_error(&part, index, num_parts, problem));
        };
        if !before.is_empty() {
            pieces.push(PromptPiece::Template(before.to_owned()));
        }
        pieces.push(part);
        rest = after;
    }
    if !rest.is_empty() {
        pieces.push(PromptPiece::Template(rest.to_owned()));
    }
    let leftover =
        |piece: &PromptPiece| matches!(piece, PromptPiece::Template(text) if text.contains([MARKER_START, MARKER_END]));
    if pieces.iter().any(leftover) {
        let message = format!("{NAME} uses a text or picture more than once, out of order, or changed");
        return Err(Error::Template { message });
    }
    Ok(pieces)
}

fn part_error(part: &PromptPiece, index: usize, num_parts: usize, problem: &str) -> Error {
    let what = match part {
        PromptPiece::Image { .. } => "picture",
        PromptPiece::Text(_) | PromptPiece::Template(_) => "text",
    };
    let message = format!(
        "{NAME} {problem} a {what} (part {} of {num_parts} of the conversation), expected each once and in order: \
         it should write `part.text` or `part.image` for each part of `message.content`",
        index + 1
    );
    Error::Template { message }
}

fn template_error(cause: minijinja::Error) -> Error {
    let mut message = cause.to_string();
    let mut source = std::error::Error::source(&cause);
    while let Some(inner) = source {
        message = format!("{message}: {inner}");
        source = inner.source();
    }
    if cause.kind() == minijinja::ErrorKind::OutOfFuel {
        message = format!("{message}: more than {FUEL} steps; does it loop without an end?");
    }
    Error::Template { message }
}

/// Takes what the template writes, up to a limit.
#[derive(Default)]
struct LimitedOutput {
    bytes: Vec<u8>,
}

impl Write for LimitedOutput {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.bytes.len().saturating_add(buffer.len()) > MAX_OUTPUT_BYTES {
            return Err(io::Error::other(format!("it writes more than {MAX_OUTPUT_BYTES} bytes")));
        }
        self.bytes.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;

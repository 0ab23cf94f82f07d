//! A conversation to template text with holes: chat_template.jinja, rendered with minijinja.
//!
//! The template never sees what people wrote. It is rendered with a marker in place of each text and each picture, and cut at the
//! markers afterwards, so the position of a part follows from the template alone: nothing in a user's text can move a picture, open a
//! turn or close one. Every marker has to come out once, the texts in their order and the pictures in theirs, or the template is refused.
//!
//! `messages[i].content` is a string for a message of text, otherwise a list of `{type: "text", text}` and
//! `{type: "image", image}`; a template that leaves a text out when it is a string gets lists throughout. Most templates of Hugging Face write the
//! image token where a picture belongs, rather than `part.image`: the n-th is then the n-th picture. Block tags swallow the line they stand on
//! (`trim_blocks`, `lstrip_blocks`), strings have Python's methods, and `{% generation %}` means nothing, as in transformers.

use std::collections::BTreeMap;
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
        /// Rows and columns of tiles beside the view of the whole; (1, 1) when there is that view alone.
        tiles: (usize, usize),
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
        /// Rows and columns of tiles, as in [`PromptPart::Image`].
        tiles: (usize, usize),
        /// Image tokens of each view.
        tokens_per_view: usize,
    },
}

/// A compiled chat template.
#[derive(Debug)]
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// What the template knows beside the messages: `bos_token`, `eos_token`.
    variables: BTreeMap<String, String>,
    /// Whether it takes the reasoning out of earlier answers: it could not find it behind a marker, so that this is done before.
    removes_reasoning: bool,
}

/// The end of the reasoning of an answer.
const END_OF_REASONING: &str = "</think>";

impl ChatTemplate {
    /// Compiles a template.
    ///
    /// # Errors
    /// [`ErrorKind::Template`](crate::ErrorKind::Template) with the line of a syntax error.
    pub fn new(source: &str) -> Result<Self> {
        let mut environment = Environment::new();
        let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(template_error)?;
        environment.set_syntax(syntax);
        environment.set_undefined_behavior(UndefinedBehavior::SemiStrict);
        environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
        environment.set_fuel(Some(FUEL));
        environment.set_recursion_limit(RECURSION);
        environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function("raise_exception", |message: String| -> std::result::Result<Value, _> {
            Err(minijinja::Error::new(minijinja::ErrorKind::InvalidOperation, message))
        });
        environment.add_template_owned(NAME, without_generation_tags(source)).map_err(template_error)?;
        let removes_reasoning = source.contains(END_OF_REASONING);
        Ok(Self { environment, variables: BTreeMap::new(), removes_reasoning })
    }

    /// This template with variables of its own, such as `bos_token`.
    #[must_use]
    pub fn with_variables(mut self, variables: BTreeMap<String, String>) -> Self {
        self.variables = variables;
        self
    }

    /// The conversation in pieces, in order; with the beginning of an answer at its end if `add_generation_prompt`. A template may write
    /// `image_token` for a picture.
    ///
    /// # Errors
    /// [`ErrorKind::Template`](crate::ErrorKind::Template) when the template fails, takes too long, writes too much, or does not use every
    /// text and picture once and in order.
    pub fn render(
        &self,
        messages: &[Message],
        add_generation_prompt: bool,
        image_token: Option<&str>,
    ) -> Result<Vec<PromptPiece>> {
        let render = |content: Content| self.render_as(content, messages, add_generation_prompt, image_token);
        render(Content::TextAsString).or_else(|error| render(Content::Lists).map_err(|_| error))
    }

    fn render_as(
        &self,
        content: Content,
        messages: &[Message],
        add_generation_prompt: bool,
        image_token: Option<&str>,
    ) -> Result<Vec<PromptPiece>> {
        let mut parts = Vec::new();
        let messages: Vec<Value> = messages
            .iter()
            .map(|message| {
                let first = parts.len();
                merge_texts(&message.parts, &mut parts);
                if let (true, Role::Assistant, [PromptPiece::Text(answer)]) =
                    (self.removes_reasoning, message.role, &mut parts[first..])
                    && let Some((_, after)) = answer.rsplit_once(END_OF_REASONING)
                {
                    *answer = after.trim_start_matches('\n').to_owned();
                }
                context! { role => message.role.name(), content => content_value(content, &parts[first..], first) }
            })
            .collect();
        let context = context! { messages, add_generation_prompt, ..Value::from_pairs(self.variables.clone()) };
        let template = self.environment.get_template(NAME).map_err(template_error)?;
        let mut output = LimitedOutput::default();
        template.render_captured_to(context, &mut output).map_err(template_error)?;
        let text = String::from_utf8(output.bytes).map_err(|cause| Error::Template {
            message: format!("{NAME} wrote something that is not text: {cause}"),
        })?;
        let text = image_token.map_or_else(|| text.clone(), |token| marked(&text, token, &parts));
        split_at_markers(&text, parts)
    }
}

/// What a message of one text is to the template.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    TextAsString,
    Lists,
}

/// The source with `{% generation %}` and `{% endgeneration %}`, which mark what a model is trained on, as tags of an `if` that is always true:
/// white space around them stays what it was.
fn without_generation_tags(source: &str) -> String {
    let mut rest = source;
    let mut result = String::with_capacity(source.len());
    while let Some((before, tag_and_rest)) = rest.split_once("{%") {
        result.push_str(before);
        result.push_str("{%");
        let Some((tag, after)) = tag_and_rest.split_once("%}") else {
            rest = tag_and_rest;
            continue;
        };
        match tag.trim_matches(['-', '+', ' ', '\t', '\n']) {
            "generation" => result.push_str(&tag.replace("generation", "if true")),
            "endgeneration" => result.push_str(&tag.replace("endgeneration", "endif")),
            _ => result.push_str(tag),
        }
        result.push_str("%}");
        rest = after;
    }
    result.push_str(rest);
    result
}

/// The text with markers in place of image tokens, if there are as many as pictures and no markers of pictures yet.
fn marked(text: &str, image_token: &str, parts: &[PromptPiece]) -> String {
    let pictures: Vec<usize> =
        (0..parts.len()).filter(|&index| matches!(parts[index], PromptPiece::Image { .. })).collect();
    let has_markers = pictures.iter().any(|&index| text.contains(&marker(index)));
    if has_markers || pictures.is_empty() || text.matches(image_token).count() != pictures.len() {
        return text.to_owned();
    }
    let mut pieces = text.split(image_token);
    let mut result = pieces.next().unwrap_or_default().to_owned();
    for (index, piece) in pictures.into_iter().zip(pieces) {
        result.push_str(&marker(index));
        result.push_str(piece);
    }
    result
}

/// Neighbouring texts become one, so that they are encoded together.
fn merge_texts(message: &[PromptPart], parts: &mut Vec<PromptPiece>) {
    let first = parts.len();
    for part in message {
        match (part, &mut parts[first..]) {
            (PromptPart::Text(text), [.., PromptPiece::Text(previous)]) => previous.push_str(text),
            (PromptPart::Text(text), _) => parts.push(PromptPiece::Text(text.clone())),
            (&PromptPart::Image { tiles, tokens_per_view }, _) => {
                parts.push(PromptPiece::Image { tiles, tokens_per_view });
            }
        }
    }
}

/// The `content` of a message for the template, markers in place of its parts.
fn content_value(content: Content, parts: &[PromptPiece], first: usize) -> Value {
    match (content, parts) {
        (Content::TextAsString, []) => Value::from(""),
        (Content::TextAsString, [PromptPiece::Text(_)]) => Value::from(spaced_marker(first)),
        (_, parts) => parts
            .iter()
            .zip(first..)
            .map(|(part, index)| match part {
                PromptPiece::Image { .. } => context! { type => "image", image => marker(index) },
                PromptPiece::Text(_) | PromptPiece::Template(_) => {
                    context! { type => "text", text => spaced_marker(index) }
                }
            })
            .collect(),
    }
}

/// What stands for a part while the template is rendered: characters of the private use area around its number.
fn marker(index: usize) -> String {
    format!("{MARKER_START}{index}{MARKER_END}")
}

/// The marker of a text: between spaces that no template writes and every `trim` takes away. Where one is gone, the template trims the text.
fn spaced_marker(index: usize) -> String {
    format!("{MARKER_SPACE}{}{MARKER_SPACE}", marker(index))
}

const MARKER_SPACE: char = '\u{205f}';
const MARKER_START: char = '\u{f0ce1}';
const MARKER_END: char = '\u{f0ce2}';

fn split_at_markers(text: &str, parts: Vec<PromptPiece>) -> Result<Vec<PromptPiece>> {
    let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
    let num_parts = parts.len();
    let is_image = |part: &PromptPiece| matches!(part, PromptPiece::Image { .. });
    let mut is_used = vec![false; num_parts];
    let mut rest = text;
    while let Some((before, marked)) = rest.split_once(MARKER_START) {
        let (number, after) = marked.split_once(MARKER_END).unwrap_or_default();
        let index = number.parse().ok().filter(|&index: &usize| index < num_parts && marker(index).contains(number));
        let Some(index) = index else { return Err(unknown_marker()) };
        // Texts come in their order and pictures in theirs; some templates put the pictures of a message first.
        let follows = |later: usize| is_used[later] && is_image(&parts[later]) == is_image(&parts[index]);
        if is_used[index] || (index + 1..num_parts).any(follows) {
            return Err(part_error(&parts[index], index, num_parts, "uses more than once or out of order"));
        }
        is_used[index] = true;
        let (before, part, after) = match &parts[index] {
            PromptPiece::Text(text) => {
                let (before, text) = match before.strip_suffix(MARKER_SPACE) {
                    Some(before) => (before, text.as_str()),
                    None => (before, text.trim_start()),
                };
                let (after, text) = match after.strip_prefix(MARKER_SPACE) {
                    Some(after) => (after, text),
                    None => (after, text.trim_end()),
                };
                (before, PromptPiece::Text(text.to_owned()), after)
            }
            part => (before, part.clone(), after),
        };
        if !before.is_empty() {
            pieces.push(PromptPiece::Template(before.to_owned()));
        }
        pieces.push(part);
        rest = after;
    }
    if let Some(index) = is_used.iter().position(|is_used| !is_used) {
        return Err(part_error(&parts[index], index, num_parts, "leaves out"));
    }
    if rest.contains(MARKER_END) {
        return Err(unknown_marker());
    }
    if !rest.is_empty() {
        pieces.push(PromptPiece::Template(rest.to_owned()));
    }
    Ok(pieces)
}

fn unknown_marker() -> Error {
    let message = format!("{NAME} uses a text or picture more than once, out of order, or changed");
    Error::Template { message }
}

fn part_error(part: &PromptPiece, index: usize, num_parts: usize, problem: &str) -> Error {
    let what = match part {
        PromptPiece::Image { .. } => "picture",
        PromptPiece::Text(_) | PromptPiece::Template(_) => "text",
    };
    let message = format!(
        "{NAME} {problem} a {what} (part {} of {num_parts} of the conversation), expected each once and in order: \
         it should write `part.text`, and `part.image` or the image token, for each part of `message.content`",
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

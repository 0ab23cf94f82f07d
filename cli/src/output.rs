//! Results to text and JSON: formatting alone, without files or terminals.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocelli::{Mode, ModelReport, PictureReport, Response};
use serde::{Deserialize, Serialize};

use crate::inputs::path_of;

/// Where the time of an answer went, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct TimingsMs {
    decode: f64,
    preprocess: f64,
    encode: f64,
    adapt: f64,
    prefill: f64,
    generate: f64,
    total: f64,
}

impl TimingsMs {
    /// `decode` is the time that reading and decoding the picture files took.
    pub fn new(decode: Duration, response: &Response) -> Self {
        let timings = &response.timings;
        let in_ms = |duration: Duration| (duration.as_secs_f64() * 1e6).round() / 1e3;
        Self {
            decode: in_ms(decode),
            preprocess: in_ms(timings.preprocess),
            encode: in_ms(timings.encode),
            adapt: in_ms(timings.adapt),
            prefill: in_ms(timings.prefill),
            generate: in_ms(timings.generate),
            total: in_ms(decode + timings.total()),
        }
    }
}

/// The counts that `caption` and `ask` have in common.
#[derive(Clone, Debug, Serialize)]
pub struct Counts<'a> {
    mode: Mode,
    views: usize,
    image_tokens: usize,
    prompt_tokens: usize,
    generated_tokens: usize,
    finish_reason: &'static str,
    model: &'a str,
    timings_ms: TimingsMs,
}

impl<'a> Counts<'a> {
    /// `decode` is the time that reading and decoding the files took.
    pub fn new(mode: Mode, model: &'a str, decode: Duration, response: &Response) -> Self {
        Self {
            mode,
            views: response.num_views,
            image_tokens: response.num_image_tokens,
            prompt_tokens: response.num_prompt_tokens,
            generated_tokens: response.num_generated_tokens,
            finish_reason: response.finish_reason.as_str(),
            model,
            timings_ms: TimingsMs::new(decode, response),
        }
    }
}

/// The object of a question about pictures.
#[derive(Clone, Debug, Serialize)]
pub struct AnswerRecord<'a> {
    paths: Vec<Cow<'a, str>>,
    question: &'a str,
    answer: &'a str,
    #[serde(flatten)]
    counts: Counts<'a>,
}

impl<'a> AnswerRecord<'a> {
    /// `decode` is the time that reading and decoding the files took.
    pub fn new(
        paths: impl Iterator<Item = &'a Path>,
        question: &'a str,
        mode: Mode,
        model: &'a str,
        decode: Duration,
        response: &'a Response,
    ) -> Self {
        let counts = Counts::new(mode, model, decode, response);
        Self { paths: paths.map(Path::to_string_lossy).collect(), question, answer: &response.text, counts }
    }
}

/// The object of a picture that failed.
#[derive(Clone, Debug, Serialize)]
pub struct FailureRecord {
    #[serde(flatten)]
    path: RecordPath,
    error: Failure,
}

/// A path in a record.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct RecordPath {
    /// As far as it is UTF-8.
    pub path: String,
    /// Its bytes in hexadecimal digits, where it is not UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_bytes: Option<String>,
}

impl RecordPath {
    /// The path, if the system has such paths.
    pub fn to_path(&self) -> Option<PathBuf> {
        let Some(digits) = &self.path_bytes else { return Some(PathBuf::from(&self.path)) };
        let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
        let byte = |pair: &[u8; 2]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
        let bytes: Vec<u8> = pairs.iter().map(byte).collect::<Option<_>>()?;
        path_of(&bytes).filter(|_| rest.is_empty())
    }
}

impl From<&Path> for RecordPath {
    fn from(path: &Path) -> Self {
        let bytes = path.as_os_str().as_encoded_bytes();
        let hexadecimal = || bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        Self { path: path.to_string_lossy().into_owned(), path_bytes: path.to_str().is_none().then(hexadecimal) }
    }
}

#[derive(Clone, Debug, Serialize)]
struct Failure {
    kind: &'static str,
    message: String,
}

impl FailureRecord {
    /// What is said about `path`.
    pub fn new(path: &Path, kind: &'static str, message: &dyn Display) -> Self {
        let error = Failure { kind, message: message.to_string() };
        Self { path: path.into(), error }
    }

    /// The path.
    pub fn path(&self) -> &RecordPath {
        &self.path
    }

    /// The kind of the error.
    pub fn kind(&self) -> &'static str {
        self.error.kind
    }

    /// The message alone.
    pub fn message(&self) -> &str {
        &self.error.message
    }
}

/// Writes an object for programs, readable for people as well.
pub fn write_json(output: &mut impl io::Write, value: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer_pretty(&mut *output, value)?;
    writeln!(output)
}

/// The line of one picture among several. What would begin another line in a name, or move the cursor, is escaped.
pub fn caption_line(path: &Path, caption: &str) -> String {
    format!("{}: {caption}", printable(path))
}

/// A path for people, on one line.
pub fn printable(path: &Path) -> String {
    escape_control(&path.to_string_lossy())
}

/// A text without what would begin another line or steer a terminal.
pub fn escape_control(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character.is_control() {
            true => escaped.extend(character.escape_default()),
            false => escaped.push(character),
        }
    }
    escaped
}

/// One line about where the time went, for `--verbose`.
pub fn timings_line(name: &dyn Display, timings: &TimingsMs, response: &Response) -> String {
    let TimingsMs { decode, preprocess, encode, adapt, prefill, generate, total } = timings;
    format!(
        "{name}: {} views, {} image tokens, {} prompt tokens, {} generated; ms: decode {decode:.0}, preprocess \
         {preprocess:.0}, encode {encode:.0}, adapt {adapt:.0}, prefill {prefill:.0}, generate {generate:.0}, total {total:.0}",
        response.num_views, response.num_image_tokens, response.num_prompt_tokens, response.num_generated_tokens
    )
}

/// A model for people.
pub fn model_text(report: &ModelReport) -> String {
    let mut text = String::new();
    let mut line = |name: &str, value: &str| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{name:<14}{value}");
    };
    line("model", &report.name);
    line("vision", report.vision.as_deref().unwrap_or("none: a decoder alone"));
    if let Some(adapter) = &report.adapter {
        line("adapter", adapter);
    }
    line("text", report.text.as_deref().unwrap_or("none: an encoder alone"));
    if let Some(tokens) = report.max_position_embeddings {
        line("context", &format!("{tokens} tokens"));
    }
    if let Some(kv) = &report.kv_cache {
        let full = megabytes(kv.bytes_at_full_context);
        line("KV cache", &format!("{} bits, {} bytes a token, {full} at full context", kv.bits, kv.bytes_per_token));
    }
    let _ = writeln!(text, "\n{:<14}{:>14}{:>14}{:>10}", "part", "parameters", "bytes", "bits");
    for part in report.parts.iter().chain([&report.total]) {
        let (name, parameters, bytes) = (&part.name, part.parameters, part.bytes);
        let _ = writeln!(text, "{name:<14}{parameters:>14}{bytes:>14}{:>10.2}", part.bits_per_parameter);
    }
    if !report.modes.is_empty() {
        let _ = writeln!(text, "\n{:<14}{:>10}{:>8}{:>14}", "mode", "view size", "views", "image tokens");
    }
    for mode in &report.modes {
        let _ = writeln!(
            text,
            "{:<14}{:>10}{:>8}{:>14}",
            mode.mode.as_str(),
            format!("{0} x {0}", mode.size),
            mode.views.len(),
            mode.image_tokens
        );
    }
    text
}

/// What preprocessing does to a picture, for people.
pub fn picture_text(path: &Path, report: &PictureReport) -> String {
    let mut text = String::new();
    let _ = writeln!(text, "{:<14}{}", "picture", path.display());
    let _ = writeln!(text, "{:<14}{}", "format", report.format.unwrap_or("unknown"));
    let size = |[width, height]: [u32; 2]| format!("{width} x {height}");
    let _ = writeln!(text, "{:<14}{}", "size", size([report.width, report.height]));
    if report.orientation != 1 {
        let stored = size(report.stored_size);
        let _ = writeln!(text, "{:<14}{stored}, turned upright (EXIF orientation {})", "stored as", report.orientation);
    }
    let _ = writeln!(text, "{:<14}{}", "aspect", report.aspect);
    let _ = writeln!(
        text,
        "\n{:<14}{:>8}{:>12}{:>14}{:>12}{:>14}{:>14}",
        "mode", "views", "view size", "patches each", "windows", "pooled to", "image tokens"
    );
    let grid = |[rows, columns]: [usize; 2]| format!("{rows} x {columns}");
    for mode in &report.modes {
        let _ = writeln!(
            text,
            "{:<14}{:>8}{:>12}{:>14}{:>12}{:>14}{:>14}",
            mode.mode.as_str(),
            mode.views.len(),
            grid([mode.size; 2]),
            grid(mode.patch_grid),
            grid(mode.windows),
            grid(mode.pooled),
            mode.image_tokens
        );
    }
    text
}

fn megabytes(bytes: u64) -> String {
    format!("{:.1} MB", bytes as f64 / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_has_the_path_the_kind_and_the_message() {
        let record = FailureRecord::new(Path::new("a.png"), "io", &"cannot read a.png");
        let mut json = Vec::new();
        write_json(&mut json, &record).unwrap();
        let expected = r#"{
  "path": "a.png",
  "error": {
    "kind": "io",
    "message": "cannot read a.png"
  }
}
"#;
        assert_eq!(String::from_utf8(json).unwrap(), expected);
    }

    #[test]
    fn a_line_names_the_picture() {
        assert_eq!(caption_line(Path::new("b/a.png"), "A cat."), "b/a.png: A cat.");
        assert_eq!(caption_line(Path::new("b\n\u{1b}a.png"), "A cat."), "b\\n\\u{1b}a.png: A cat.");
    }
}

//! What is written about a picture: one JSON object, or one row of CSV.

use std::path::Path;

use ocelli::{CaptionLength, PictureCaption, Response};
use serde::Serialize;

use crate::output::{Counts, FailureRecord, RecordPath};

/// What all captions of a run have in common. A run that goes on with the file of another must have the same.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    pub model: String,
    pub mode: ocelli::Mode,
    pub length: CaptionLength,
    pub prompt: String,
}

/// The object of a captioned picture.
#[derive(Clone, Debug, Serialize)]
pub struct CaptionRecord<'a> {
    #[serde(flatten)]
    path: RecordPath,
    caption: &'a str,
    /// SHA-256 of the file.
    sha256: Option<String>,
    prompt: &'a str,
    length: &'static str,
    #[serde(flatten)]
    counts: Counts<'a>,
    version: &'static str,
}

/// `ocelli 0.1.0`: what made a caption, beside the model.
pub const VERSION: &str = concat!("ocelli ", env!("CARGO_PKG_VERSION"));

impl<'a> CaptionRecord<'a> {
    /// The record of `response`, which is the caption of the picture at `path`.
    pub fn new(path: &Path, caption: &PictureCaption, response: &'a Response, settings: &'a Settings) -> Self {
        Self {
            path: path.into(),
            caption: &response.text,
            sha256: caption.content_hash.map(|hash| hash.to_string()),
            prompt: &settings.prompt,
            length: settings.length.as_str(),
            counts: Counts::new(settings.mode, &settings.model, caption.decode, response),
            version: VERSION,
        }
    }
}

/// The names of the columns. The last is never a text with line ends, so that a row that was cut off can be told.
pub const CSV_COLUMNS: [&str; 11] =
    ["path", "path_bytes", "caption", "error_kind", "error", "mode", "length", "prompt", "model", "version", "sha256"];

/// A row of CSV, with its line end.
pub fn csv_row<'a>(fields: impl IntoIterator<Item = &'a str>) -> Vec<u8> {
    let mut writer = csv::Writer::from_writer(Vec::new());
    // Into memory, and the number of fields is free.
    let _ = writer.write_record(fields);
    writer.into_inner().unwrap_or_default()
}

impl CaptionRecord<'_> {
    /// The row of this record.
    pub fn to_csv(&self, settings: &Settings) -> Vec<u8> {
        let RecordPath { path, path_bytes } = &self.path;
        let hash = self.sha256.as_deref().unwrap_or_default();
        csv_row([
            path,
            path_bytes.as_deref().unwrap_or_default(),
            self.caption,
            "",
            "",
            settings.mode.as_str(),
            self.length,
            self.prompt,
            &settings.model,
            self.version,
            hash,
        ])
    }
}

/// The row of a failure.
pub fn failure_to_csv(failure: &FailureRecord) -> Vec<u8> {
    let RecordPath { path, path_bytes } = failure.path();
    let bytes = path_bytes.as_deref().unwrap_or_default();
    csv_row([path, bytes, "", failure.kind(), failure.message(), "", "", "", "", VERSION, ""])
}

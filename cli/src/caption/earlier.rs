//! The file of an earlier run, read again: which captions are there, and what has to go before the next are added.

use std::collections::HashSet;

use anyhow::bail;
use serde::Deserialize;

use super::output_file::TableFormat;
use super::record::{CSV_COLUMNS, Settings, csv_row};
use crate::output::RecordPath;

/// What an earlier run left.
#[derive(Debug, Default)]
pub struct Earlier {
    /// The pictures with a caption.
    pub captioned: HashSet<RecordPath>,
    /// The lines to keep, if others have to go: failures, which are tried again, captions that are not wanted, and a line that was cut off.
    pub rewritten: Option<Vec<u8>>,
}

/// The part of a line that is looked at.
#[derive(Debug, Deserialize)]
struct Line {
    #[serde(flatten)]
    path: RecordPath,
    caption: Option<String>,
    #[serde(default)]
    model: String,
    #[serde(default)]
    mode: String,
    #[serde(default)]
    length: String,
    #[serde(default)]
    prompt: String,
}

impl Earlier {
    /// Reads the `bytes` of a file that was made with `settings`; `name` is what messages call it. Captions that `keep` does not want are made again.
    ///
    /// # Errors
    /// When a line is not one of `ocelli caption`, or was made with other settings.
    pub fn read(
        bytes: &[u8],
        format: TableFormat,
        name: &str,
        settings: &Settings,
        keep: impl Fn(&RecordPath) -> bool,
    ) -> anyhow::Result<Self> {
        let lines = match format {
            TableFormat::Jsonl => json_lines(bytes, name)?,
            TableFormat::Csv => csv_rows(bytes, name)?,
        };
        let mut earlier = Self::default();
        let mut kept = match format {
            TableFormat::Csv if !bytes.is_empty() => csv_row(CSV_COLUMNS),
            _ => Vec::new(),
        };
        for (number, line, bytes) in lines {
            let Line { path, caption, model, mode, length, prompt } = line;
            if caption.is_none() || !keep(&path) {
                continue;
            }
            let found = [model, mode, length, prompt];
            let expected =
                [&settings.model, settings.mode.as_str(), settings.length.as_str(), &settings.prompt].map(str::to_owned);
            if let Some(index) = (0..4).find(|&index| found[index] != expected[index]) {
                let what = ["model", "mode", "length", "prompt"][index];
                bail!(
                    "{name} line {number} has a caption with {what} `{}`, and this run has `{}`: give the same options, \
                     or another file",
                    found[index],
                    expected[index]
                );
            }
            earlier.captioned.insert(path);
            kept.extend_from_slice(&bytes);
        }
        if kept != bytes {
            earlier.rewritten = Some(kept);
        }
        Ok(earlier)
    }
}

/// The objects of a JSON Lines file with their numbers and bytes, without a last one that was cut off.
fn json_lines(bytes: &[u8], name: &str) -> anyhow::Result<Vec<(usize, Line, Vec<u8>)>> {
    const BEGINNING: &[u8] = b"{\"path\":";
    let mut lines = Vec::new();
    for (index, line) in bytes.split_inclusive(|&byte| byte == b'\n').enumerate() {
        match serde_json::from_slice(line) {
            Ok(parsed) => {
                let mut line = line.to_vec();
                if line.last() != Some(&b'\n') {
                    line.push(b'\n');
                }
                lines.push((index + 1, parsed, line));
            }
            Err(_) if line.trim_ascii().is_empty() => {}
            Err(_) if !line.ends_with(b"\n") && line.iter().zip(BEGINNING).all(|(found, expected)| found == expected) => {
            }
            Err(error) => bail!("{name} line {} is not a line of `ocelli caption` ({error}): give another file", index + 1),
        }
    }
    Ok(lines)
}

/// The rows of a CSV file with their line numbers and bytes, without a last one that was cut off.
fn csv_rows(bytes: &[u8], name: &str) -> anyhow::Result<Vec<(usize, Line, Vec<u8>)>> {
    let header = csv_row(CSV_COLUMNS);
    let Some(rows) = bytes.strip_prefix(&header[..]) else {
        if header.starts_with(bytes) {
            return Ok(Vec::new());
        }
        bail!("{name} does not begin with the columns of `ocelli caption`: give another file");
    };
    let mut reader = csv::ReaderBuilder::new().has_headers(false).flexible(true).from_reader(rows);
    let mut record = csv::StringRecord::new();
    let mut found = Vec::new();
    loop {
        let number = reader.position().line() as usize + 1;
        match reader.read_record(&mut record) {
            Ok(false) => return Ok(found),
            Ok(true) if record.len() == CSV_COLUMNS.len() && (!reader.is_done() || rows.ends_with(b"\n")) => {
                let field = |index: usize| record[index].to_owned();
                let some = |index: usize| Some(field(index)).filter(|text| !text.is_empty());
                let line = Line {
                    path: RecordPath { path: field(0), path_bytes: some(1) },
                    caption: record[3].is_empty().then(|| field(2)),
                    mode: field(5),
                    length: field(6),
                    prompt: field(7),
                    model: field(8),
                };
                found.push((number, line, csv_row(&record)));
            }
            // The end of the file is inside the row, so it is the last.
            Ok(true) if reader.is_done() || reader.position().byte() as usize >= rows.len() => return Ok(found),
            Ok(true) => {
                let (len, expected) = (record.len(), CSV_COLUMNS.len());
                bail!("{name} line {number} has {len} fields, expected {expected}: give another file");
            }
            Err(error) if reader.is_done() || reader.position().byte() as usize >= rows.len() => {
                // Half of a character at the end.
                let _ = error;
                return Ok(found);
            }
            Err(error) => bail!("{name} line {number} is not a line of `ocelli caption` ({error}): give another file"),
        }
    }
}

//! The file of an earlier run, read again: which captions are there, and what has to go before the next are added.

use std::collections::HashSet;

use anyhow::{Context, bail};
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
            let expected = [&settings.model, settings.mode.as_str(), settings.length.as_str(), &settings.prompt]
                .map(str::to_owned);
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
            Err(_)
                if !line.ends_with(b"\n") && line.iter().zip(BEGINNING).all(|(found, expected)| found == expected) => {}
            Err(error) => {
                bail!("{name} line {} is not a line of `ocelli caption` ({error}): give another file", index + 1)
            }
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
    let mut record = csv::ByteRecord::new();
    let mut found = Vec::new();
    loop {
        // Below the names of the columns.
        let number = reader.position().line() as usize + 1;
        if !reader.read_byte_record(&mut record).with_context(|| format!("cannot read {name}"))? {
            return Ok(found);
        }
        let is_last = reader.position().byte() as usize >= rows.len();
        if record.len() != CSV_COLUMNS.len() || (is_last && !rows.ends_with(b"\n")) {
            if is_last {
                return Ok(found);
            }
            let (len, expected) = (record.len(), CSV_COLUMNS.len());
            bail!("{name} line {number} has {len} fields, expected {expected}: give another file");
        }
        let Ok(record) = csv::StringRecord::from_byte_record(record.clone()) else {
            bail!("{name} line {number} is not UTF-8: give another file");
        };
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
}

#[cfg(test)]
mod tests {
    use ocelli::{CaptionLength, Mode};

    use super::*;

    const GOOD: &str =
        r#"{"path":"a.png","caption":"A cat.","mode":"rapid","length":"normal","prompt":"?","model":"nano"}"#;
    const FAILED: &str = r#"{"path":"b.png","error":{"kind":"io","message":"gone"}}"#;

    fn settings() -> Settings {
        Settings { model: "nano".into(), mode: Mode::Rapid, length: CaptionLength::Normal, prompt: "?".into() }
    }

    fn read(bytes: &[u8], format: TableFormat) -> anyhow::Result<Earlier> {
        Earlier::read(bytes, format, "old", &settings(), |_| true)
    }

    fn row(fields: [&str; 4]) -> Vec<u8> {
        let [path, caption, error, hash] = fields;
        csv_row([path, "", caption, error, error, "rapid", "normal", "?", "nano", "ocelli", hash])
    }

    fn table(rows: &[Vec<u8>]) -> Vec<u8> {
        [vec![csv_row(CSV_COLUMNS)], rows.to_vec()].concat().concat()
    }

    fn names(earlier: &Earlier) -> Vec<&str> {
        let mut names: Vec<&str> = earlier.captioned.iter().map(|path| path.path.as_str()).collect();
        names.sort_unstable();
        names
    }

    #[test]
    fn captions_stay_as_they_are_and_failures_go() {
        let whole = format!("{GOOD}\n");
        let earlier = read(whole.as_bytes(), TableFormat::Jsonl).unwrap();
        assert_eq!((names(&earlier), &earlier.rewritten), (vec!["a.png"], &None));
        let earlier = read(format!("{FAILED}\n{GOOD}\n").as_bytes(), TableFormat::Jsonl).unwrap();
        assert_eq!(names(&earlier), ["a.png"]);
        assert_eq!(earlier.rewritten.as_deref(), Some(whole.as_bytes()));
    }

    #[test]
    fn a_line_that_was_cut_off_anywhere_goes() {
        let second = GOOD.replace("a.png", "c.png");
        for cut in 1..second.len() {
            let bytes = format!("{GOOD}\n{}", &second[..cut]);
            let earlier = read(bytes.as_bytes(), TableFormat::Jsonl).unwrap();
            assert_eq!(names(&earlier), ["a.png"], "{bytes}");
            assert_eq!(earlier.rewritten, Some(format!("{GOOD}\n").into_bytes()));
        }
        // Only the line end is missing.
        let earlier = read(format!("{GOOD}\n{second}").as_bytes(), TableFormat::Jsonl).unwrap();
        assert_eq!(names(&earlier), ["a.png", "c.png"]);
        assert_eq!(earlier.rewritten, Some(format!("{GOOD}\n{second}\n").into_bytes()));
    }

    #[test]
    fn a_row_that_was_cut_off_anywhere_goes() {
        let (first, second) =
            (row(["a.png", "A \"cat\",\nasleep.", "", "12ab"]), row(["c\n.png", "A\n\n dog é.", "", "34"]));
        let whole = table(&[first.clone(), second]);
        let start = table(&[first]).len();
        for end in start..whole.len() {
            let earlier = read(&whole[..end], TableFormat::Csv).unwrap();
            assert_eq!(names(&earlier), ["a.png"], "{end}");
            assert_eq!(earlier.rewritten.unwrap_or_else(|| whole[..end].to_vec()), &whole[..start], "{end}");
        }
        assert_eq!(names(&read(&whole, TableFormat::Csv).unwrap()), ["a.png", "c\n.png"]);
        for end in 0..csv_row(CSV_COLUMNS).len() {
            assert!(read(&whole[..end], TableFormat::Csv).unwrap().captioned.is_empty());
        }
    }

    #[test]
    fn failed_rows_go() {
        let (good, failed) = (row(["a.png", "A cat.", "", "12"]), row(["b.png", "", "io", ""]));
        let earlier = read(&table(&[failed, good.clone()]), TableFormat::Csv).unwrap();
        assert_eq!((names(&earlier), &earlier.rewritten), (vec!["a.png"], &Some(table(&[good]))));
    }

    #[test]
    fn captions_that_are_not_wanted_are_made_again() {
        let earlier =
            Earlier::read(format!("{GOOD}\n").as_bytes(), TableFormat::Jsonl, "old", &settings(), |_| false).unwrap();
        assert_eq!((earlier.captioned.len(), earlier.rewritten), (0, Some(Vec::new())));
    }

    #[test]
    fn files_of_others_and_of_other_runs_are_refused() {
        for (bytes, format) in [
            ("hello", TableFormat::Jsonl),
            ("hello\n", TableFormat::Jsonl),
            ("[]\n", TableFormat::Jsonl),
            ("{\"path\":\n{\"path\":\n", TableFormat::Jsonl),
            ("a,b\n1,2\n", TableFormat::Csv),
            ("hello", TableFormat::Csv),
        ] {
            let error = read(bytes.as_bytes(), format).unwrap_err().to_string();
            assert!(error.starts_with("old ") && error.ends_with("give another file"), "{bytes:?}: {error}");
        }
        for (from, to) in [("nano", "tiny"), ("rapid", "high"), ("normal", "alt"), ("\"?\"", "\"!\"")] {
            let bytes = GOOD.replace(from, to) + "\n";
            let error = read(bytes.as_bytes(), TableFormat::Jsonl).unwrap_err().to_string();
            assert!(error.contains("give the same options"), "{error}");
        }
    }
}

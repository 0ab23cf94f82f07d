//! Captions and failures on standard output, in one of the formats.

use std::io::{self, Write};
use std::path::Path;

use serde::Serialize;

use super::record::{CSV_COLUMNS, CaptionRecord, Settings, csv_row, failure_to_csv};
use crate::args::CaptionFormat;
use crate::output::{self, FailureRecord};

/// Writes records. Each is written in one piece.
pub struct Printer {
    format: CaptionFormat,
    /// One picture was asked for, by name.
    is_single: bool,
    num_records: usize,
}

impl Printer {
    /// A printer that has not printed anything.
    pub fn new(format: CaptionFormat, is_single: bool) -> Self {
        Self { format, is_single, num_records: 0 }
    }

    /// A caption.
    pub fn caption(
        &mut self,
        path: &Path,
        text: &str,
        record: &CaptionRecord<'_>,
        settings: &Settings,
    ) -> io::Result<()> {
        match self.format {
            CaptionFormat::Text if self.is_single => print(format!("{text}\n").as_bytes()),
            CaptionFormat::Text => print(format!("{}\n", output::caption_line(path, text)).as_bytes()),
            CaptionFormat::Csv => self.row(&record.to_csv(settings)),
            CaptionFormat::Json | CaptionFormat::Jsonl => self.record(record),
        }
    }

    /// A failure; as text it is on standard error alone.
    pub fn failure(&mut self, failure: &FailureRecord) -> io::Result<()> {
        match self.format {
            CaptionFormat::Text => Ok(()),
            CaptionFormat::Csv => self.row(&failure_to_csv(failure)),
            CaptionFormat::Json | CaptionFormat::Jsonl => self.record(failure),
        }
    }

    /// Ends a list.
    pub fn finish(&mut self) -> io::Result<()> {
        match self.format {
            CaptionFormat::Json if !self.is_single && self.num_records == 0 => print(b"[]\n"),
            CaptionFormat::Json if !self.is_single => print(b"\n]\n"),
            _ => Ok(()),
        }
    }

    fn row(&mut self, row: &[u8]) -> io::Result<()> {
        self.num_records += 1;
        if self.num_records == 1 {
            print(&csv_row(CSV_COLUMNS))?;
        }
        print(row)
    }

    fn record(&mut self, record: &impl Serialize) -> io::Result<()> {
        let is_list = self.format == CaptionFormat::Json && !self.is_single;
        let mut bytes = Vec::new();
        if is_list {
            bytes.extend_from_slice(if self.num_records == 0 { b"[\n" } else { b",\n" });
        }
        self.num_records += 1;
        if self.format == CaptionFormat::Json {
            serde_json::to_writer_pretty(&mut bytes, record)?;
        } else {
            serde_json::to_writer(&mut bytes, record)?;
        }
        if !is_list {
            bytes.push(b'\n');
        }
        print(&bytes)
    }
}

fn print(bytes: &[u8]) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(bytes)?;
    stdout.flush()
}

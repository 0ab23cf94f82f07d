//! `ocelli embed`: the vectors of pictures.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;
use serde::Serialize;

use crate::args::{CommonArgs, EmbedArgs, EmbedFormat};
use crate::console::Console;
use crate::output::FailureRecord;
use crate::{Outcome, inputs, load_encoder};

/// A picture's vector.
#[derive(Serialize)]
struct Record<'a> {
    path: String,
    model: &'a str,
    embedding: &'a [f32],
}

/// Runs the verb. A picture that cannot be read is reported, and does not stop the others; an array has rows for all pictures or is not written.
pub fn run(args: &EmbedArgs, common: &CommonArgs, console: &Console) -> anyhow::Result<Outcome> {
    inputs::check_standard_input(&args.paths);
    let encoder = load_encoder(common)?;
    let mut vectors = Vec::new();
    let mut outcome = Outcome::Done;
    let mut lines = Vec::new();
    for path in &args.paths {
        match inputs::open(path).and_then(|(picture, _)| encoder.embed(&picture, args.mode.into())) {
            Ok(vector) => {
                let record = Record { path: path.display().to_string(), model: encoder.name(), embedding: &vector };
                serde_json::to_writer(&mut lines, &record)?;
                lines.push(b'\n');
                vectors.push(vector);
            }
            Err(error) => {
                let failure = FailureRecord::new(path, error.kind().as_str(), &error);
                serde_json::to_writer(&mut lines, &failure)?;
                lines.push(b'\n');
                console.error(&failure.message());
                outcome = Outcome::Failed;
            }
        }
    }
    let bytes = match args.format {
        EmbedFormat::Json => lines,
        EmbedFormat::Npy if outcome == Outcome::Done => npy(&vectors),
        EmbedFormat::Npy => return Ok(outcome),
    };
    match &args.output {
        Some(path) => write(path, &bytes).with_context(|| format!("cannot write {}", path.display()))?,
        None => io::stdout().lock().write_all(&bytes)?,
    }
    Ok(outcome)
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = BufWriter::new(File::create(path)?);
    file.write_all(bytes)?;
    file.flush()
}

/// A NumPy file, version 1.0: magic, header of a multiple of 64 bytes, then f32 little-endian `[pictures, width]`.
fn npy(vectors: &[Vec<f32>]) -> Vec<u8> {
    let width = vectors.first().map_or(0, Vec::len);
    let dictionary = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({}, {width}), }}", vectors.len());
    // 10 bytes come before the text, and a line feed ends it.
    let length = (10 + dictionary.len() + 1).next_multiple_of(64) - 10;
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((length as u16).to_le_bytes());
    bytes.extend(format!("{dictionary:<0$}\n", length - 1).into_bytes());
    bytes.extend(vectors.iter().flatten().flat_map(|value| value.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_array_file_has_a_header_of_whole_blocks_and_then_the_numbers() {
        let bytes = npy(&[vec![1.0, 2.0], vec![3.0, 4.0], vec![5.0, 6.0]]);
        assert_eq!(&bytes[..8], b"\x93NUMPY\x01\x00");
        let length = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
        assert_eq!((10 + length) % 64, 0);
        let header = std::str::from_utf8(&bytes[10..10 + length]).unwrap();
        assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }"), "{header}");
        assert!(header.ends_with(" \n"));
        assert_eq!(bytes.len(), 10 + length + 6 * 4);
        assert_eq!(bytes[bytes.len() - 4..], 6.0_f32.to_le_bytes());
    }
}

//! `ocelli import`: a checkpoint as a packed model directory.

use std::io::{self, Write};

use ocelli::{ImportOptions, ImportReport};

use crate::args::{Format, ImportArgs};
use crate::console::Console;
use crate::{Outcome, output};

/// Runs the verb.
pub fn run(args: &ImportArgs, console: &Console) -> anyhow::Result<Outcome> {
    let options = ImportOptions {
        bits: args.bits,
        group_size: args.group_size.0,
        encoder_bits: args.encoder_bits,
        embedding_bits: args.embedding_bits,
        merge_adapter: args.merge_adapter,
    };
    // A step is a thousandth of the weights.
    const STEPS: u64 = 1000;
    let console = console.with_progress(STEPS as usize);
    let result = ocelli::import(&args.source, &args.destination, &options, &mut |done, total| {
        let steps = u128::from(done) * u128::from(STEPS) / u128::from(total.max(1));
        console.set_progress(steps as usize, "packing".to_owned());
    });
    console.finish();
    let report = result?;
    let mut stdout = io::stdout().lock();
    match args.format {
        Format::Text => stdout.write_all(text(&report).as_bytes())?,
        Format::Json => output::write_json(&mut stdout, &report)?,
    }
    console.note(&format_args!("wrote {}", args.destination.display()));
    Ok(Outcome::Done)
}

/// The report for people.
fn text(report: &ImportReport) -> String {
    use std::fmt::Write;
    let width = report.kinds.iter().map(|kind| kind.name.len()).max().unwrap_or(0).max(8);
    let mut text = format!("{}\n\n", report.architecture);
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "{:<width$}{:>9}{:>14}{:>6}{:>7}{:>16}",
        "matrices", "tensors", "weights", "bits", "group", "relative error"
    );
    for kind in &report.kinds {
        let group = kind.group();
        let _ = writeln!(
            text,
            "{:<width$}{:>9}{:>14}{:>6}{group:>7}{:>16.5}",
            kind.name, kind.tensors, kind.parameters, kind.bits, kind.relative_error
        );
    }
    let megabytes = |bytes: u64| bytes as f64 / 1e6;
    let _ = writeln!(
        text,
        "\n{:.1} MB of tensors, {:.1} MB before",
        megabytes(report.bytes),
        megabytes(report.source_bytes)
    );
    text
}

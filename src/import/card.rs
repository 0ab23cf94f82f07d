//! The model card of an imported model.

use std::fmt::Write;

use super::ImportReport;
use crate::model_dir::Files;

/// README.md of the new directory.
pub(super) fn text(files: &Files<'_>, report: &ImportReport, has_tokenizer: bool) -> String {
    let source = files.path("");
    let name = source.canonicalize().unwrap_or(source);
    let name = name.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut card = format!(
        "# {name}, imported\n\n\
         A `{}` checkpoint in the form of ocelli {}, made by `ocelli import`. The weights are those of `{name}`: what it was trained on, what it \
         can do and the terms of its licence are told by the people who made it, and hold here too.\n\n\
         {:.1} MB of tensors, {:.1} MB before.\n\n\
         | matrices | tensors | weights | bits | group | relative error |\n| --- | ---: | ---: | ---: | ---: | ---: |\n",
        report.architecture,
        env!("CARGO_PKG_VERSION"),
        report.bytes as f64 / 1e6,
        report.source_bytes as f64 / 1e6,
    );
    for kind in &report.kinds {
        let group = kind.group();
        // Writing to a string cannot fail.
        let _ = writeln!(
            card,
            "| `{}` | {} | {} | {} | {group} | {:.5} |",
            kind.name, kind.tensors, kind.parameters, kind.bits, kind.relative_error
        );
    }
    card.push_str("\nNorms, biases, positions and convolutions are stored as they were.\n");
    if !has_tokenizer && report.kinds.iter().any(|kind| kind.name.starts_with("layers")) {
        card.push_str("\nThere was no tokenizer beside the checkpoint: it can be traced, but not asked.\n");
    }
    card
}

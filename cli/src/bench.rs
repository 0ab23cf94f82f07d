//! `ocelli bench`: how fast a model is here, stage by stage, beside what the machine can do.

use std::env;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::Context;
use ocelli::{BenchOptions, BenchReport, Model, Preset, write_random_model};

use crate::args::{BenchArgs, CommonArgs, Format, PresetArg};
use crate::console::Console;
use crate::{Outcome, load_model, output};

/// Of the weights of a preset. Another number is another directory.
const SEED: u64 = 1;

/// Runs the verb.
pub fn run(args: &BenchArgs, common: &CommonArgs, console: &Console) -> anyhow::Result<Outcome> {
    let options = BenchOptions {
        mode: args.mode.into(),
        prompt_tokens: args.prompt as usize,
        depth: args.depth as usize,
        generate: args.generate as usize,
        repeat: args.repeat as usize,
    };
    let report = match args.preset {
        Some(PresetArg::Afm3b) => bench_preset(Preset::Afm3b, &options, console)?,
        Some(PresetArg::VitG) => bench_preset(Preset::VitG, &options, console)?,
        Some(PresetArg::Nano) => ocelli::bench(Model::bundled, &options)?,
        None => ocelli::bench(|| load_model(common), &options)?,
    };
    let mut stdout = io::stdout().lock();
    match args.format {
        Format::Text => stdout.write_all(text(&report).as_bytes())?,
        Format::Json => output::write_json(&mut stdout, &report)?,
    }
    Ok(Outcome::Done)
}

fn bench_preset(preset: Preset, options: &BenchOptions, console: &Console) -> anyhow::Result<BenchReport> {
    let folder = preset_folder(preset, console)?;
    Ok(ocelli::bench(|| Model::load(&folder), options)?)
}

/// The model directory of a preset in the user's cache folder, which is written if it is not there.
fn preset_folder(preset: Preset, console: &Console) -> anyhow::Result<PathBuf> {
    let cache = cache_folder().context("no cache folder is known: set XDG_CACHE_HOME to a folder for it")?;
    let folder = cache.join("ocelli").join(format!("{}-{}-{SEED}", preset.name(), env!("CARGO_PKG_VERSION")));
    if !folder.exists() {
        console.note(&format_args!("writing a model of random weights to {} (once)", folder.display()));
        write_random_model(&folder, preset, SEED)?;
    }
    Ok(folder)
}

/// Where programs keep what they can make again.
fn cache_folder() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    variable("XDG_CACHE_HOME").or_else(|| {
        if cfg!(windows) {
            variable("LOCALAPPDATA")
        } else {
            let inside = if cfg!(target_os = "macos") { "Library/Caches" } else { ".cache" };
            env::home_dir().map(|home| home.join(inside))
        }
    })
}

/// The report for people.
fn text(report: &BenchReport) -> String {
    let mut text = String::new();
    let BenchReport { model, mode, prompt_tokens, depth, threads, isa, version, limits, .. } = report;
    // Writing to a string cannot fail.
    let _ = writeln!(text, "ocelli {version} ({isa}), {threads} threads, {model}, {} mode", mode.as_str());
    let _ = writeln!(text, "{prompt_tokens} prompt tokens, decoding after {depth} tokens");
    let _ = writeln!(
        text,
        "limits measured now: memory {:.1} GB/s, 8-bit {:.0} GOP/s, f32 {:.0} GFLOP/s",
        limits.memory_gb_s, limits.int8_gop_s, limits.f32_gflop_s
    );
    let _ = writeln!(
        text,
        "\n{:<12}{:>11}{:>11}{:>11}{:>12} {:<11}{:>9}{:>10}{:>10}",
        "stage", "median ms", "min", "max", "a second", "", "GB/s", "GOP/s", "of limit"
    );
    for stage in &report.stages {
        let rate = |done: u64| if done == 0 { 0.0 } else { done as f64 / (stage.median_ms.max(1e-6) * 1e6) };
        let fraction = stage.fraction_of_limit.map(|fraction| format!("{:.0}%", 100.0 * fraction));
        let _ = writeln!(
            text,
            "{:<12}{:>11.2}{:>11.2}{:>11.2}{:>12.2} {:<11}{:>9.2}{:>10.1}{:>10}",
            stage.name,
            stage.median_ms,
            stage.min_ms,
            stage.max_ms,
            stage.per_second,
            stage.unit,
            rate(stage.bytes),
            rate(stage.operations),
            fraction.unwrap_or_default()
        );
    }
    let _ = writeln!(text, "\nfirst token after {:.0} ms (a JPEG of 12 megapixels included)", report.first_token_ms);
    if let Some(bytes) = report.peak_resident_bytes {
        let _ = writeln!(text, "peak resident memory {:.0} MB", bytes as f64 / 1e6);
    }
    let parts: Vec<String> =
        report.part_bytes.iter().map(|(name, bytes)| format!("{name} {:.1} MB", *bytes as f64 / 1e6)).collect();
    let _ = writeln!(text, "weights: {}", parts.join(", "));
    text
}

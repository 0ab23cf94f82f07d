//! What each stage of a caption takes with the bundled model, in the three modes: `cargo bench --bench stages [REPEATS]`.
//!
//! A plain program rather than a benchmark framework: those that are alive need a C compiler. The modes take turns, so that a noisy
//! neighbour disturbs all of them alike; the table has the median, and the fastest and slowest run, in milliseconds.

use std::path::Path;
use std::time::{Duration, Instant};

use ocelli::{CaptionOptions, Error, Mode, Model, Picture, Timings};

const MODES: [Mode; 3] = [Mode::Rapid, Mode::Balanced, Mode::High];

/// A row of the table, and which part of the time it shows.
type Stage = (&'static str, fn(&Run) -> Duration);

const STAGES: [Stage; 7] = [
    ("decode", |run| run.decode),
    ("preprocess", |run| run.timings.preprocess),
    ("encode", |run| run.timings.encode),
    ("adapt", |run| run.timings.adapt),
    ("prefill", |run| run.timings.prefill),
    ("generate", |run| run.timings.generate),
    ("total", |run| run.decode + run.timings.total()),
];

/// One caption.
struct Run {
    /// The file to pixels.
    decode: Duration,
    timings: Timings,
    num_prompt_tokens: usize,
    num_generated_tokens: usize,
}

fn main() -> Result<(), Error> {
    // `cargo bench` adds `--bench` of its own.
    let repeats = std::env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(15_usize).max(1);
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("assets/examples/three-things.jpg");
    let start = Instant::now();
    let model = Model::bundled()?;
    println!(
        "{}: loaded in {:.1} ms, {} threads",
        model.name(),
        milliseconds(start.elapsed()),
        rayon::current_num_threads()
    );

    let mut runs: [Vec<Run>; 3] = Default::default();
    for repeat in 0..=repeats {
        for (mode, runs) in MODES.into_iter().zip(&mut runs) {
            let run = caption(&model, &path, mode)?;
            // The first round fills the caches.
            if repeat > 0 {
                runs.push(run);
            }
        }
    }
    for (mode, runs) in MODES.into_iter().zip(&runs) {
        let Run { num_prompt_tokens, num_generated_tokens, .. } = runs[0];
        println!("\n{mode:?}: {num_prompt_tokens} prompt tokens, {num_generated_tokens} generated, {repeats} runs");
        println!("{:12} {:>9} {:>9} {:>9}", "stage", "median", "min", "max");
        for (name, part) in STAGES {
            let mut times: Vec<Duration> = runs.iter().map(part).collect();
            times.sort();
            let [median, min, max] = [times.len() / 2, 0, times.len() - 1].map(|i| milliseconds(times[i]));
            println!("{name:12} {median:9.3} {min:9.3} {max:9.3}");
        }
    }
    Ok(())
}

fn caption(model: &Model, path: &Path, mode: Mode) -> Result<Run, Error> {
    let start = Instant::now();
    let picture = Picture::open(path)?;
    let decode = start.elapsed();
    let response = model.caption_with(&picture, &CaptionOptions { mode, ..CaptionOptions::default() })?;
    Ok(Run {
        decode,
        timings: response.timings,
        num_prompt_tokens: response.num_prompt_tokens,
        num_generated_tokens: response.num_generated_tokens,
    })
}

fn milliseconds(time: Duration) -> f64 {
    1000.0 * time.as_secs_f64()
}

//! How fast a model is on this machine, stage by stage, beside what the machine can do.

use std::io::Cursor;
use std::time::Instant;

use image::codecs::jpeg::JpegEncoder;
use image::{ExtendedColorType, RgbImage};
use ndarray::{Array2, Axis, Slice};
use ocelli_language::Wanted;
use ocelli_nn::{Isa, MachineLimits};
use ocelli_vision::{Mode, Picture};
use serde::Serialize;

use crate::error::{Error, Result};
use crate::inspect::ModelReport;
use crate::model::Model;

/// Width and height of the picture: twelve megapixels, as a telephone takes them.
const PICTURE_SIZE: (u32, u32) = (4000, 3000);

/// What is measured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BenchOptions {
    /// How closely the picture is looked at.
    pub mode: Mode,
    /// Text tokens of the prompt, beside the image tokens and the two boundary tokens of each view.
    pub prompt_tokens: usize,
    /// Tokens in the cache before decoding begins; the prompt where it is longer.
    pub depth: usize,
    /// Tokens that are decoded, at least 1.
    pub generate: usize,
    /// How often all of it is done, after once that does not count; at least 1.
    pub repeat: usize,
}

impl Default for BenchOptions {
    fn default() -> Self {
        Self { mode: Mode::Balanced, prompt_tokens: 24, depth: 0, generate: 32, repeat: 5 }
    }
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct BenchReport {
    /// The name of the model.
    pub model: String,
    /// How closely the picture was looked at.
    pub mode: Mode,
    /// Tokens of the prompt: image tokens, their boundaries and text.
    pub prompt_tokens: usize,
    /// Tokens in the cache before decoding.
    pub depth: usize,
    /// Threads.
    pub threads: usize,
    /// The instruction set of the kernels.
    pub isa: &'static str,
    /// The version of ocelli.
    pub version: &'static str,
    /// What the machine could do just before.
    pub limits: LimitsReport,
    /// load, preprocess, encode, adapt, prefill and decode, in this order.
    pub stages: Vec<StageReport>,
    /// The median of preprocess, encode, adapt and prefill together: from the bytes of a JPEG to the logits of the first token.
    pub first_token_ms: f64,
    /// The most memory that the process had in use, mapped weights that were read included; where the system tells (Linux).
    pub peak_resident_bytes: Option<u64>,
    /// Bytes of each part in the weights file.
    pub part_bytes: Vec<(String, u64)>,
}

/// Peak rates of the machine, all threads together.
#[derive(Clone, Copy, Debug, Serialize)]
#[non_exhaustive]
pub struct LimitsReport {
    /// Reading memory, in 10^9 bytes a second.
    pub memory_gb_s: f64,
    /// 8-bit multiplications and additions, in 10^9 a second.
    pub int8_gop_s: f64,
    /// f32 multiplications and additions, in 10^9 a second.
    pub f32_gflop_s: f64,
}

/// A stage.
#[derive(Clone, Debug, Serialize)]
#[non_exhaustive]
pub struct StageReport {
    /// Its name.
    pub name: &'static str,
    /// The median of its times; for `decode` of the time a token.
    pub median_ms: f64,
    /// The shortest.
    pub min_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// Units a second at the median.
    pub per_second: f64,
    /// What is counted: `loads`, `pictures`, `views` or `tokens`.
    pub unit: &'static str,
    /// Bytes of weights, and of keys and values, that it reads at least once; for `decode` a token.
    pub bytes: u64,
    /// Multiplications and additions of its matrix products; for `decode` a token.
    pub operations: u64,
    /// Of the limit that holds for it: memory for `decode`, arithmetic for `encode`, `adapt` and `prefill`.
    pub fraction_of_limit: Option<f64>,
}

/// The work of a stage, once.
#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    unit: &'static str,
    units: usize,
    bytes: u64,
    operations: u64,
    bound: Bound,
}

/// What a stage waits for.
#[derive(Clone, Copy, PartialEq)]
enum Bound {
    Unknown,
    Memory,
    Int8,
    F32,
}

/// Measures the model that `load` loads, on all threads of the current rayon pool.
///
/// The stages take turns, so that a noisy neighbour disturbs all of them alike. The picture is a JPEG of 12 megapixels, made here.
///
/// # Errors
/// [`ErrorKind::Options`](crate::ErrorKind::Options) when nothing would be measured, or more than fits into the context; otherwise those of the
/// stages.
pub fn bench(load: impl Fn() -> Result<Model>, options: &BenchOptions) -> Result<BenchReport> {
    for (name, value) in [("generate", options.generate), ("repeat", options.repeat)] {
        if value == 0 {
            return Err(Error::options(name, value, "1 or more"));
        }
    }
    let jpeg = jpeg()?;
    let limits = MachineLimits::measure(Isa::active());
    forget_peak();
    let model = load()?;
    let views = model.views(&Picture::from_bytes(&jpeg)?, options.mode)?;
    let num_views = views.kinds.len();
    let num_image_tokens = num_views * views.pooled.0 * views.pooled.1;
    let prompt_tokens = num_image_tokens + 2 * num_views + options.prompt_tokens;
    let depth = prompt_tokens.max(options.depth);
    let context = model.text_config().max_position_embeddings;
    if depth.saturating_add(options.generate) > context {
        let found = format!("{depth} and {}", options.generate);
        return Err(Error::options(
            "depth and generate",
            found,
            format!("{context} tokens together, the context of this model"),
        ));
    }
    drop((views, model));

    let mut runs = Vec::new();
    let mut last = None;
    for round in 0..=options.repeat {
        let run = run(&load, &jpeg, options, prompt_tokens, depth)?;
        // The first round fills the caches.
        if round > 0 {
            runs.push(run.times);
        }
        last = Some((run.report, run.works));
    }
    let (report, works) = last.expect("there was a round");
    let column = |stage: usize| sorted(runs.iter().map(|run| run[stage]).collect());
    let stage = |(index, work): (usize, &Work)| work.report(&column(index), &limits);
    let first_tokens = runs.iter().map(|run| run[1..5].iter().sum()).collect();
    Ok(BenchReport {
        model: report.name,
        mode: options.mode,
        prompt_tokens,
        depth,
        threads: rayon::current_num_threads(),
        isa: Isa::active().name(),
        version: env!("CARGO_PKG_VERSION"),
        limits: LimitsReport {
            memory_gb_s: limits.memory_gb_s,
            int8_gop_s: limits.int8_gop_s,
            f32_gflop_s: limits.f32_gflop_s,
        },
        stages: works.iter().enumerate().map(stage).collect(),
        first_token_ms: median(&sorted(first_tokens)),
        peak_resident_bytes: peak_resident_bytes(),
        part_bytes: report.parts.into_iter().map(|part| (part.name, part.bytes)).collect(),
    })
}

/// One round.
struct Run {
    /// Milliseconds of each stage; for `decode` of one token.
    times: [f64; 6],
    /// What the stages had to do.
    works: [Work; 6],
    report: ModelReport,
}

fn run(
    load: &impl Fn() -> Result<Model>,
    jpeg: &[u8],
    options: &BenchOptions,
    prompt_tokens: usize,
    depth: usize,
) -> Result<Run> {
    let mut clock = Clock(Instant::now());
    let model = load()?;
    let load_ms = clock.lap();
    let views = model.views(&Picture::from_bytes(jpeg)?, options.mode)?;
    let preprocess_ms = clock.lap();
    let features = model.encode(&views)?;
    let encode_ms = clock.lap();
    let image_tokens = model.adapt(&features, views.pooled)?;
    let adapt_ms = clock.lap();

    let mut cache = model.empty_cache();
    let decoder = model.decoder();
    let text_tokens = prompt_tokens - image_tokens.nrows();
    let token_ids: Vec<u32> = (0..text_tokens as u32).map(|index| 7 + index % 256).collect();
    clock.lap();
    let text = decoder.embed(&token_ids)?;
    let mut prompt = Array2::zeros((prompt_tokens, text.ncols()));
    prompt.slice_axis_mut(Axis(0), Slice::from(..image_tokens.nrows())).assign(&image_tokens);
    prompt.slice_axis_mut(Axis(0), Slice::from(image_tokens.nrows()..)).assign(&text);
    decoder.prefill(prompt.view(), &mut cache, Wanted::Last)?;
    let prefill_ms = clock.lap();
    while cache.len() < depth {
        let count = prompt_tokens.min(depth - cache.len());
        decoder.prefill(prompt.slice_axis(Axis(0), Slice::from(..count)), &mut cache, Wanted::None)?;
    }
    clock.lap();
    for index in 0..options.generate {
        decoder.decode(7 + (index % 256) as u32, &mut cache)?;
    }
    let decode_ms = clock.lap() / options.generate as f64;

    let times = [load_ms, preprocess_ms, encode_ms, adapt_ms, prefill_ms, decode_ms];
    let works = works(&model, &features, image_tokens.nrows(), prompt_tokens, depth, jpeg.len())?;
    Ok(Run { times, works, report: model.report().clone() })
}

fn works(
    model: &Model,
    features: &ocelli_vision::Features,
    num_image_tokens: usize,
    prompt_tokens: usize,
    depth: usize,
    jpeg_bytes: usize,
) -> Result<[Work; 6]> {
    let (vision, adapter, text) = (model.vision_config()?, model.adapter_config()?, model.text_config());
    let report = model.report();
    let bytes = |part: &str| report.parts.iter().filter(|found| found.name == part).map(|part| part.bytes).sum();
    let (encoder, adapter_bytes): (u64, u64) = (bytes("vision"), bytes("adapter"));
    let decoder: u64 = bytes("decoder");
    // An embedding that is no output layer is read in a few rows only.
    let output = if text.tie_word_embeddings { bytes("embedding") } else { 0 };
    let decode = decoder + output + report.kv_cache.map_or(0, |cache| cache.bytes_per_token) * depth as u64;
    let num_views = features.num_views();
    let num_patches = features.grid.0 * features.grid.1;
    let adapt = adapter.num_operations(
        vision.hidden_size(),
        text.hidden_size,
        num_patches,
        num_image_tokens / num_views.max(1),
    );
    let bound = |prefix| if model.has_integer_products(prefix) { Bound::Int8 } else { Bound::F32 };
    let work = |name, unit, units, bytes, operations, bound| Work { name, unit, units, bytes, operations, bound };
    Ok([
        work("load", "loads", 1, report.total.bytes, 0, Bound::Unknown),
        work("preprocess", "pictures", 1, jpeg_bytes as u64, 0, Bound::Unknown),
        work(
            "encode",
            "views",
            num_views,
            encoder,
            num_views as u64 * vision.num_operations(features.grid),
            bound("vision.layers"),
        ),
        work("adapt", "views", num_views, adapter_bytes, num_views as u64 * adapt, bound("adapter.layer")),
        work(
            "prefill",
            "tokens",
            prompt_tokens,
            decoder,
            text.num_operations(0, prompt_tokens),
            bound("layers.segment_0"),
        ),
        work("decode", "tokens", 1, decode, text.num_operations(depth, 1), Bound::Memory),
    ])
}

impl Work {
    /// `times`, in milliseconds, are sorted.
    fn report(&self, times: &[f64], limits: &MachineLimits) -> StageReport {
        let median_ms = median(times);
        let seconds = (median_ms / 1e3).max(1e-9);
        let of = |done: u64, limit: f64| Some(done as f64 / seconds / 1e9 / limit);
        StageReport {
            name: self.name,
            median_ms,
            min_ms: times[0],
            max_ms: times[times.len() - 1],
            per_second: self.units as f64 / seconds,
            unit: self.unit,
            bytes: self.bytes,
            operations: self.operations,
            fraction_of_limit: match self.bound {
                Bound::Unknown => None,
                Bound::Memory => of(self.bytes, limits.memory_gb_s),
                Bound::Int8 => of(self.operations, limits.int8_gop_s),
                Bound::F32 => of(self.operations, limits.f32_gflop_s),
            },
        }
    }
}

struct Clock(Instant);

impl Clock {
    /// Milliseconds since the last call.
    fn lap(&mut self) -> f64 {
        let now = Instant::now();
        let lap = now - self.0;
        self.0 = now;
        lap.as_secs_f64() * 1e3
    }
}

fn sorted(mut times: Vec<f64>) -> Vec<f64> {
    times.sort_by(f64::total_cmp);
    times
}

/// The middle of sorted numbers, of which there is at least one.
fn median(sorted: &[f64]) -> f64 {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2.0 }
}

/// A picture with the detail of a photograph: gradients, edges and some noise.
fn jpeg() -> Result<Vec<u8>> {
    let (width, height) = PICTURE_SIZE;
    let mut state = 1_u32;
    let picture = RgbImage::from_fn(width, height, |x, y| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let noise = (state >> 28) as u8;
        let block = if (x / 97 + y / 61) % 3 == 0 { 60 } else { 0 };
        image::Rgb([(x * 180 / width) as u8 + noise + block, (y * 180 / height) as u8 + noise, 90 + noise + block])
    });
    let mut bytes = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut bytes, 90)
        .encode(&picture, width, height, ExtendedColorType::Rgb8)
        .map_err(|error| Error::options("the picture", error, "one that can be written as JPEG"))?;
    Ok(bytes.into_inner())
}

/// Lets the peak begin here. Where that is not possible, what came before counts as well.
fn forget_peak() {
    if cfg!(target_os = "linux") {
        let _ = std::fs::write("/proc/self/clear_refs", "5");
    }
}

/// The most memory that this process has had resident so far, in bytes; none where the system does not say.
pub fn peak_resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ErrorKind;

    #[test]
    fn every_stage_of_the_bundled_model_is_measured() {
        let options = BenchOptions { mode: Mode::Rapid, depth: 100, generate: 2, repeat: 2, ..BenchOptions::default() };
        let report = bench(Model::bundled, &options).unwrap();
        let names: Vec<_> = report.stages.iter().map(|stage| stage.name).collect();
        assert_eq!(names, ["load", "preprocess", "encode", "adapt", "prefill", "decode"]);
        assert_eq!((report.prompt_tokens, report.depth), (9 + 2 + 24, 100));
        for stage in &report.stages {
            assert!(
                stage.min_ms > 0.0 && stage.min_ms <= stage.median_ms && stage.median_ms <= stage.max_ms,
                "{stage:?}"
            );
            assert!(stage.bytes > 0 && stage.per_second > 0.0, "{stage:?}");
        }
        let sum: f64 = report.stages[1..5].iter().map(|stage| stage.max_ms).sum();
        assert!(report.first_token_ms > 0.0 && report.first_token_ms <= sum);
        if cfg!(target_os = "linux") {
            assert!(report.peak_resident_bytes.unwrap() > 5_000_000);
        }
    }

    #[test]
    fn what_cannot_be_measured_is_an_error() {
        let kind = |options| bench(Model::bundled, &options).unwrap_err().kind();
        assert_eq!(kind(BenchOptions { repeat: 0, ..BenchOptions::default() }), ErrorKind::Options);
        let deep = BenchOptions { mode: Mode::Rapid, depth: 5000, repeat: 1, ..BenchOptions::default() };
        assert_eq!(kind(deep), ErrorKind::Options);
    }

    #[test]
    fn the_median_of_an_even_number_is_between_two() {
        assert_eq!(median(&[1.0, 2.0, 4.0, 9.0]), 3.0);
        assert_eq!(median(&[1.0, 2.0, 4.0]), 2.0);
    }
}

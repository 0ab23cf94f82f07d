//! The command line: verbs, options and their ranges.

mod caption;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use ocelli::{GenerationOptions, Isa, Mode, PictureCache};

pub use caption::{CaptionArgs, CaptionFormat, Shard};

/// More threads than any machine in sight has cores.
const MAX_THREADS: i64 = 4096;
/// More tokens than any context in sight holds.
const MAX_NEW_TOKENS: i64 = 1 << 24;

/// `0.1.0 (avx2)`: the version and the instruction set that the kernels use.
fn version() -> &'static str {
    static VERSION: OnceLock<String> = OnceLock::new();
    VERSION.get_or_init(|| {
        let isa = Isa::from_env().unwrap_or_else(|_| Isa::detect());
        format!("{} ({})", env!("CARGO_PKG_VERSION"), isa.name())
    })
}

/// Describes pictures and answers questions about them, offline, on the CPU.
///
/// The bundled model knows drawn scenes (emoji-style artwork on plain backgrounds), not photographs.
#[derive(Debug, Parser)]
#[command(name = "ocelli", version = version(), max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Exit codes: 0 all done, 1 something failed, 2 wrong usage, 130 interrupted.")]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
    /// Options of every verb.
    #[command(flatten)]
    pub common: CommonArgs,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Describe pictures
    Caption(CaptionArgs),
    /// Find pictures without alt text in Markdown and HTML, and write alt texts for them
    Alt(AltArgs),
    /// Ask a question, about pictures or without
    Ask(AskArgs),
    /// Show what a model consists of, or what preprocessing does to a picture
    Inspect(InspectArgs),
    /// Measure how fast a model is on this machine, stage by stage
    Bench(BenchArgs),
    /// Print the completion script of a shell
    Completions(CompletionsArgs),
    /// Print the vectors of pictures
    Embed(EmbedArgs),
    /// Make a model directory of a checkpoint of Hugging Face or tamm, packed in few bits
    Import(ImportArgs),
    /// Run a model on given tensors and write what happened inside, to compare with another framework
    Trace(TraceArgs),
}

/// Options of every verb.
#[derive(Debug, Args)]
#[command(next_help_heading = "Common options")]
pub struct CommonArgs {
    /// Model directory [default: the bundled model]
    #[arg(short, long, global = true, value_name = "DIR", env = "OCELLI_MODEL", hide_env_values = true)]
    pub model: Option<PathBuf>,
    /// Threads to compute with [default: one a core]
    #[arg(short, long, global = true, value_name = "N", env = "OCELLI_THREADS", hide_env_values = true)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=MAX_THREADS))]
    pub threads: Option<u16>,
    /// Beginning of the random numbers, for temperatures above 0
    #[arg(long, global = true, value_name = "N", default_value_t = 0)]
    pub seed: u64,
    /// 0 takes the likeliest token always; higher is more varied [default: the model's]
    #[arg(long, visible_alias = "temp", global = true, value_name = "T", allow_negative_numbers = true, value_parser = temperature)]
    pub temperature: Option<f32>,
    /// Print results and errors only
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Print on standard error what is being done, and how long it took (-vv: more)
    #[arg(short, long, global = true, action = ArgAction::Count)]
    pub verbose: u8,
}

/// How text is drawn.
#[derive(Debug, Args)]
pub struct SamplingArgs {
    /// Most tokens of an answer [default: the model's]
    #[arg(short = 'n', long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_NEW_TOKENS))]
    pub max_tokens: Option<u32>,
    /// Only the K likeliest tokens [default: the model's]
    #[arg(long, value_name = "K", value_parser = clap::value_parser!(u32).range(1..))]
    pub top_k: Option<u32>,
    /// Only the likeliest tokens that together have probability P [default: the model's]
    #[arg(long, value_name = "P", value_parser = probability)]
    pub top_p: Option<f32>,
    /// Above 1, tokens seen before become less likely [default: the model's]
    #[arg(long, value_name = "R", value_parser = penalty)]
    pub repetition_penalty: Option<f32>,
}

impl SamplingArgs {
    /// These options and the common ones for the library.
    pub fn generation_options(&self, common: &CommonArgs) -> GenerationOptions {
        GenerationOptions {
            max_new_tokens: self.max_tokens.map(|n| n as usize),
            temperature: common.temperature,
            top_k: self.top_k.map(|k| k as usize),
            top_p: self.top_p,
            repetition_penalty: self.repetition_penalty,
            seed: common.seed,
        }
    }
}

/// Where encoded pictures are kept.
#[derive(Debug, Args)]
pub struct CacheArgs {
    /// Keep encoded pictures in this folder, so that another question about them costs no encoding
    #[arg(long, value_name = "DIR")]
    pub cache: Option<PathBuf>,
    /// Most megabytes of that folder; what was not used for longest goes first
    #[arg(long, value_name = "MB", default_value_t = 1024, requires = "cache")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..))]
    pub cache_size: u32,
}

impl CacheArgs {
    /// The cache, if there is to be one.
    pub fn open(&self) -> ocelli::Result<Option<Arc<PictureCache>>> {
        let open = |folder| PictureCache::open(folder, u64::from(self.cache_size) * 1_000_000).map(Arc::new);
        self.cache.as_ref().map(open).transpose()
    }
}

/// `ocelli alt`
#[derive(Debug, Args)]
pub struct AltArgs {
    /// Markdown and HTML files (.md, .markdown, .html, .htm), and directories of them
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Put the alt texts into the files, in place of printing a diff
    #[arg(short, long)]
    pub write: bool,
    /// Ask about each alt text first; answers are lines of standard input
    #[arg(long)]
    pub review: bool,
    /// Where pictures are whose names begin with `/` [default: the directory given, or that of the file]
    #[arg(long, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// How closely to look
    #[arg(long, value_enum, default_value_t = ModeArg::Balanced)]
    pub mode: ModeArg,
    /// How text is drawn.
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// `ocelli ask`
#[derive(Debug, Args)]
#[command(override_usage = "ocelli ask [OPTIONS] [PATH]... <QUESTION>")]
pub struct AskArgs {
    /// Pictures, all in one prompt, in this order, and then the question; `-` reads a picture from standard input
    #[arg(required = true, value_name = "PATH|QUESTION")]
    pub paths_and_question: Vec<PathBuf>,
    /// How closely to look
    #[arg(long, value_enum, default_value_t = ModeArg::Balanced)]
    pub mode: ModeArg,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
    /// Where encoded pictures are kept.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// How text is drawn.
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// `ocelli inspect`
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// A model directory, or a picture [default: the model of --model]
    #[arg(value_name = "MODEL|PICTURE")]
    pub path: Option<PathBuf>,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// `ocelli bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// A model of this size instead of `--model`: made once, of random weights, in the cache folder
    #[arg(long, value_enum, conflicts_with = "model")]
    pub preset: Option<PresetArg>,
    /// How closely to look
    #[arg(long, value_enum, default_value_t = ModeArg::Balanced)]
    pub mode: ModeArg,
    /// Text tokens of the prompt, beside those of the picture
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(1..=MAX_NEW_TOKENS))]
    pub prompt: u32,
    /// Tokens in the cache before decoding begins [default: the prompt]
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    #[arg(value_parser = clap::value_parser!(u32).range(..=MAX_NEW_TOKENS))]
    pub depth: u32,
    /// Tokens to decode
    #[arg(long, value_name = "N", default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=MAX_NEW_TOKENS))]
    pub generate: u32,
    /// How often to measure
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub repeat: u32,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Sizes of models.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PresetArg {
    /// The on-device model of the AFM 2025 report: 1.2 GB of random weights
    #[value(name = "afm-3b")]
    Afm3b,
    /// The server model's encoder ViT-g, with a small decoder: 1.2 GB of random weights
    #[value(name = "vit-g")]
    VitG,
    /// The bundled model
    Nano,
}

/// `ocelli completions`
#[derive(Debug, Args)]
pub struct CompletionsArgs {
    /// The shell
    pub shell: Shell,
}

/// `ocelli trace`
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// safetensors file to read: token_ids, pixel_values, or both; embeddings_in, chunks, packed.segment_ids
    #[arg(long, value_name = "FILE")]
    pub inputs: PathBuf,
    /// safetensors file to write: logits, hidden_states, vision_hidden_states, image_tokens, greedy.tokens, ...
    #[arg(long, value_name = "FILE")]
    pub outputs: PathBuf,
    /// Which hidden states to write
    #[arg(long, value_enum, default_value_t = LayersArg::All)]
    pub layers: LayersArg,
}

/// Which hidden states are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LayersArg {
    /// Those of every layer
    All,
    /// The last alone
    Last,
}

/// `ocelli embed`
#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// Pictures; `-` reads a picture from standard input
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// How closely to look
    #[arg(long, value_enum, default_value_t = ModeArg::Balanced)]
    pub mode: ModeArg,
    /// What to print: JSON, one object a line and picture, or a NumPy file of f32 [pictures, width]
    #[arg(long, value_enum, default_value_t = EmbedFormat::Json)]
    pub format: EmbedFormat,
    /// File to write [default: standard output]
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
}

/// What `ocelli embed` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EmbedFormat {
    /// One object a line and picture: path, model, embedding
    Json,
    /// One NumPy array of all pictures
    Npy,
}

/// `ocelli import`
#[derive(Debug, Args)]
pub struct ImportArgs {
    /// Directory of the checkpoint, as on the Hugging Face hub
    pub source: PathBuf,
    /// Model directory to write; it must not be there yet
    pub destination: PathBuf,
    /// Bits of the decoder's weights: 2, 4, 8, 16 or 32
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = bits)]
    pub bits: u32,
    /// Weights that share a scale: 32, 64, 128, or row
    #[arg(long, value_name = "N", default_value = "32", value_parser = group_size)]
    pub group_size: GroupSize,
    /// Bits of encoder and adapter [default: 8, or --bits where that is more]
    #[arg(long, value_name = "N", value_parser = bits)]
    pub encoder_bits: Option<u32>,
    /// Bits of embedding and output layer [default: 8, or --bits where that is more]
    #[arg(long, value_name = "N", value_parser = bits)]
    pub embedding_bits: Option<u32>,
    /// Add a LoRA adapter beside the checkpoint to the weights, in place of keeping it beside them
    #[arg(long)]
    pub merge_adapter: bool,
    /// What to print
    #[arg(long, value_enum, default_value_t = Format::Text)]
    pub format: Format,
}

/// Weights that share a scale; none for a whole row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GroupSize(pub Option<usize>);

fn bits(text: &str) -> Result<u32, String> {
    let bits = text.parse().ok().filter(|bits| [2, 4, 8, 16, 32].contains(bits));
    bits.ok_or_else(|| "expected 2, 4, 8, 16 or 32".to_owned())
}

fn group_size(text: &str) -> Result<GroupSize, String> {
    match text {
        "row" => Ok(GroupSize(None)),
        "32" | "64" | "128" => Ok(GroupSize(text.parse().ok())),
        _ => Err("expected 32, 64, 128 or row".to_owned()),
    }
}

/// How closely to look at a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ModeArg {
    /// One small view, few image tokens
    Rapid,
    /// One view
    Balanced,
    /// An overview and tiles
    High,
}

impl From<ModeArg> for Mode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Rapid => Self::Rapid,
            ModeArg::Balanced => Self::Balanced,
            ModeArg::High => Self::High,
        }
    }
}

/// What `ask`, `inspect` and `bench` print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Text,
    /// For programs
    Json,
}

fn number(text: &str, range: impl FnOnce(f32) -> bool, expected: &str) -> Result<f32, String> {
    match text.parse() {
        Ok(value) if range(value) => Ok(value),
        _ => Err(format!("expected {expected}")),
    }
}

// The ranges are those of `ocelli_language::SamplingOptions`.

fn temperature(text: &str) -> Result<f32, String> {
    number(text, |value| (0.0..=100.0).contains(&value), "a number from 0 to 100")
}

fn probability(text: &str) -> Result<f32, String> {
    number(text, |value| value > 0.0 && value <= 1.0, "a number above 0, at most 1")
}

fn penalty(text: &str) -> Result<f32, String> {
    number(text, |value| (0.01..=100.0).contains(&value), "a number from 0.01 to 100")
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn ask_takes_pictures_and_a_question_or_a_question_alone() {
        for arguments in [&["a.png", "b.png", "What is it?"][..], &["What is it?"]] {
            let cli = Cli::try_parse_from(["ocelli", "ask"].iter().chain(arguments)).unwrap();
            let Command::Ask(ask) = cli.command else { panic!("{:?}", cli.command) };
            assert_eq!(ask.paths_and_question, arguments.iter().map(PathBuf::from).collect::<Vec<_>>());
        }
        assert!(Cli::try_parse_from(["ocelli", "ask"]).is_err());
    }

    #[test]
    fn two_dashes_end_the_options() {
        let cli = Cli::try_parse_from(["ocelli", "caption", "--", "--mode"]).unwrap();
        let Command::Caption(caption) = cli.command else { panic!("{:?}", cli.command) };
        assert_eq!(caption.paths, [PathBuf::from("--mode")]);
    }

    #[test]
    fn common_options_may_come_after_the_verb() {
        let cli = Cli::try_parse_from(["ocelli", "caption", "a.png", "--temp", "0.5", "-t", "3", "-m", "dir"]).unwrap();
        assert_eq!(cli.common.temperature, Some(0.5));
        assert_eq!(cli.common.threads, Some(3));
        assert_eq!(cli.common.model, Some(PathBuf::from("dir")));
    }

    #[test]
    fn silly_values_are_refused() {
        for options in [
            ["--threads", "0"],
            ["--threads", "1000000"],
            ["--temperature", "NaN"],
            ["--temperature", "-1"],
            ["--temperature", "1e9"],
            ["--max-tokens", "0"],
            ["--top-k", "0"],
            ["--top-p", "0"],
            ["--top-p", "1.5"],
            ["--repetition-penalty", "0"],
            ["--seed", "-1"],
            ["--mode", "slow"],
            ["--format", "xml"],
        ] {
            let arguments = ["ocelli", "caption", "a.png"].into_iter().chain(options);
            assert!(Cli::try_parse_from(arguments).is_err(), "{options:?}");
        }
    }
}

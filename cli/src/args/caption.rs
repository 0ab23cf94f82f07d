//! The options of `ocelli caption`.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use ocelli::CaptionLength;

use super::{CacheArgs, ModeArg, SamplingArgs};
use crate::sidecar::{SidecarKind, SidecarName};

/// `ocelli caption`
#[derive(Debug, Args)]
#[command(override_usage = "ocelli caption [OPTIONS] <PATH>...\n       ocelli caption [OPTIONS] --files-from <FILE>")]
#[command(group(ArgGroup::new("pictures").required(true).multiple(true).args(["paths", "files_from"])))]
pub struct CaptionArgs {
    /// Pictures and directories of pictures; `-` reads a picture from standard input
    #[arg(value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// Go into the directories inside directories
    #[arg(short, long)]
    pub recursive: bool,
    /// Also the pictures that this file lists, separated by NUL bytes or, if it has none, by newlines; `-` is standard input
    #[arg(long, value_name = "FILE")]
    pub files_from: Option<PathBuf>,
    /// Only every Nth picture, from the Ith on: with I from 1 to N, N runs do all of them
    #[arg(long, value_name = "I/N", value_parser = shard)]
    pub shard: Option<Shard>,
    /// How closely to look
    #[arg(long, value_enum, default_value_t = ModeArg::Balanced)]
    pub mode: ModeArg,
    /// How long a caption should be
    #[arg(long, value_enum, default_value_t = LengthArg::Normal)]
    pub length: LengthArg,
    /// Ask this instead of the model's question for a caption
    #[arg(short, long, value_name = "TEXT")]
    pub prompt: Option<String>,
    /// What to print [default: what the name of --output says, or text]
    #[arg(long, value_enum)]
    pub format: Option<CaptionFormat>,
    /// Write to this file (.jsonl or .csv) instead of standard output, one line a picture as they are done
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Go on with the file of --output: pictures that have a caption there are left out, failures are tried again
    #[arg(long, requires = "output", conflicts_with = "overwrite")]
    pub resume: bool,
    /// Write each caption to a file beside its picture
    #[arg(long, value_enum, value_name = "KIND")]
    pub sidecar: Option<SidecarKind>,
    /// How that file is named [default: adobe for txt, ext for xmp]
    #[arg(long, value_enum, value_name = "NAME", requires = "sidecar")]
    pub sidecar_name: Option<SidecarName>,
    /// Leave out pictures whose sidecar has a text
    #[arg(long, requires = "sidecar", conflicts_with = "overwrite")]
    pub skip_existing: bool,
    /// Replace the texts of sidecars, and the file of --output
    #[arg(long)]
    pub overwrite: bool,
    /// Pictures that the model works on together
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u16).range(1..=1024))]
    pub batch: u16,
    /// Where encoded pictures are kept.
    #[command(flatten)]
    pub cache: CacheArgs,
    /// How text is drawn.
    #[command(flatten)]
    pub sampling: SamplingArgs,
}

/// What `caption` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum CaptionFormat {
    /// The caption; with several pictures `path: caption`
    Text,
    /// One object a picture; a list of them when several paths or a directory are given
    Json,
    /// One object a line and picture
    Jsonl,
    /// One row a picture, below a row of names
    Csv,
}

/// How long a caption should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LengthArg {
    /// Short
    Short,
    /// As the model likes it
    Normal,
    /// Long
    Long,
    /// Alt text: at most 125 characters, without "a picture of"
    Alt,
}

impl From<LengthArg> for CaptionLength {
    fn from(length: LengthArg) -> Self {
        match length {
            LengthArg::Short => Self::Short,
            LengthArg::Normal => Self::Normal,
            LengthArg::Long => Self::Long,
            LengthArg::Alt => Self::Alt,
        }
    }
}

/// A share of the pictures: those whose number, counted from 0, is `index` modulo `count`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shard {
    /// Below `count`.
    pub index: usize,
    /// At least 1.
    pub count: usize,
}

fn shard(text: &str) -> Result<Shard, String> {
    let numbers = text.split_once('/').and_then(|(index, count)| Some((index.parse().ok()?, count.parse().ok()?)));
    match numbers {
        Some((index, count)) if (1..=count).contains(&index) => Ok(Shard { index: index - 1, count }),
        _ => Err("expected I/N with I from 1 to N, such as 2/4".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_counted_from_one() {
        assert_eq!(shard("2/4"), Ok(Shard { index: 1, count: 4 }));
        assert_eq!(shard("1/1"), Ok(Shard { index: 0, count: 1 }));
        for text in ["0/4", "5/4", "1/0", "1", "1/", "/4", "a/b", "-1/4", "1/4/2", "1.5/4", ""] {
            assert!(shard(text).is_err(), "{text}");
        }
    }
}

//! What is to be done for each picture, before the model is asked anything.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use ocelli::PictureSource;

use crate::args::{CaptionArgs, Shard};
use crate::inputs::{self, Input};
use crate::output::{FailureRecord, RecordPath};
use crate::sidecar::{self, SidecarKind, SidecarName};

/// Where the caption of a picture is written beside it.
#[derive(Clone, Copy, Debug)]
pub struct Sidecars {
    pub kind: SidecarKind,
    pub name: SidecarName,
    pub skip_existing: bool,
    pub overwrite: bool,
}

impl Sidecars {
    /// What the options ask for.
    pub fn from_args(args: &CaptionArgs) -> Option<Self> {
        args.sidecar.map(|kind| Self {
            kind,
            name: args.sidecar_name.unwrap_or(kind.default_name()),
            skip_existing: args.skip_existing,
            overwrite: args.overwrite,
        })
    }

    /// The sidecar of a picture.
    pub fn path_for(&self, picture: &Path) -> PathBuf {
        sidecar::path_for(picture, self.kind, self.name)
    }

    /// Whether the picture has a sidecar with a text.
    pub fn is_there(&self, picture: &Path) -> bool {
        sidecar::has_text(&self.path_for(picture), self.kind).unwrap_or(false)
    }
}

/// A step of a run.
#[derive(Debug)]
pub enum Step {
    /// A picture to be captioned: the next of [`Plan::sources`].
    Caption(PathBuf),
    /// A picture that cannot be.
    Failed(FailureRecord),
}

/// The steps of a run, and how many pictures are left out.
#[derive(Debug, Default)]
pub struct Plan {
    pub steps: Vec<Step>,
    pub sources: Vec<PictureSource>,
    pub num_skipped: usize,
}

impl Plan {
    /// Looks at each of `inputs` that belongs to `shard`: is its caption there already, may its sidecar be written?
    pub fn new(
        inputs: Vec<Input>,
        shard: Option<Shard>,
        sidecars: Option<&Sidecars>,
        captioned: &HashSet<RecordPath>,
    ) -> Self {
        let mut plan = Self::default();
        let mut owners: HashMap<PathBuf, PathBuf> = HashMap::new();
        for (number, input) in inputs.into_iter().enumerate() {
            let is_ours = shard.is_none_or(|shard| number % shard.count == shard.index);
            let path = match input {
                Input::Failed(failure) => {
                    plan.steps.extend(is_ours.then_some(Step::Failed(failure)));
                    continue;
                }
                Input::Stdin => {
                    if is_ours {
                        plan.add_standard_input();
                    }
                    continue;
                }
                Input::Picture(path) => path,
            };
            let failure = sidecars.and_then(|sidecars| {
                let sidecar = sidecars.path_for(&path);
                // Pictures of other shards count: they are written as well.
                let owner = owners.entry(sidecar.clone()).or_insert_with(|| path.clone());
                (*owner != path).then(|| {
                    let message = format!(
                        "{} would be the sidecar of {} and of {}: --sidecar-name ext keeps them apart",
                        sidecar.display(),
                        owner.display(),
                        path.display()
                    );
                    FailureRecord::new(&path, "exists", &message)
                })
            });
            if !is_ours {
                continue;
            }
            if let Some(failure) = failure {
                plan.steps.push(Step::Failed(failure));
                continue;
            }
            if captioned.contains(&path.as_path().into()) {
                plan.num_skipped += 1;
                continue;
            }
            match sidecars.map(|sidecars| Existing::look(sidecars, &path)) {
                Some(Existing::Skip) => plan.num_skipped += 1,
                Some(Existing::Refuse(failure)) => plan.steps.push(Step::Failed(failure)),
                Some(Existing::Write) | None => plan.add(PictureSource::from(&path), path),
            }
        }
        plan
    }

    fn add(&mut self, source: PictureSource, path: PathBuf) {
        self.sources.push(source);
        self.steps.push(Step::Caption(path));
    }

    /// Adds the picture on standard input, whose bytes are read here: nothing else can say how many there will be.
    fn add_standard_input(&mut self) {
        let path = PathBuf::from("-");
        match inputs::read(&path) {
            Ok((bytes, name)) => self.add(PictureSource::Bytes { name, bytes }, path),
            Err(error) => self.steps.push(Step::Failed(FailureRecord::new(&path, error.kind().as_str(), &error))),
        }
    }
}

/// What to do about the sidecar of a picture.
enum Existing {
    Write,
    Skip,
    Refuse(FailureRecord),
}

impl Existing {
    fn look(sidecars: &Sidecars, picture: &Path) -> Self {
        let sidecar = sidecars.path_for(picture);
        match sidecar::has_text(&sidecar, sidecars.kind) {
            Ok(false) => Self::Write,
            Ok(true) if sidecars.skip_existing => Self::Skip,
            Ok(true) if sidecars.overwrite => Self::Write,
            Ok(true) => {
                let message = format!(
                    "{} has a text already: --skip-existing leaves such pictures out, --overwrite replaces it",
                    sidecar.display()
                );
                Self::Refuse(FailureRecord::new(picture, "exists", &message))
            }
            Err(error) => Self::Refuse(FailureRecord::new(picture, error.kind(), &error)),
        }
    }
}

//! Many pictures: one load of the model, a record for each, whatever happens to the others.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use anyhow::Context;
use ocelli::{BatchOptions, PictureCaption, Response, alt_text};

use super::Run;
use super::output_file::{OutputFile, TableFormat, WhenThere};
use super::plan::{Plan, Sidecars, Step};
use super::printer::Printer;
use super::progress::Progress;
use super::record::{CaptionRecord, Settings, VERSION, failure_to_csv};
use crate::Outcome;
use crate::console::Console;
use crate::inputs;
use crate::output::{self, FailureRecord, RecordPath, TimingsMs};
use crate::sidecar::{self, SidecarText};

/// Captions all pictures that `paths` name.
pub fn run(run: &Run<'_>, paths: &[PathBuf], console: &Console) -> anyhow::Result<Outcome> {
    let sidecars = Sidecars::from_args(run.args);
    // Before the file of an earlier run is replaced.
    let cache = run.args.cache.open()?;
    let (file, captioned) = open_output(run, sidecars.as_ref())?;
    let inputs = inputs::collect(paths, run.args.recursive);
    let is_single = run.is_single(paths);
    let plan = Plan::new(inputs, run.args.shard, sidecars.as_ref(), &captioned);

    let mut options = BatchOptions::from(run.options.clone());
    options.batch_size = run.args.batch.into();
    options.look_ahead = options.batch_size.max(rayon::current_num_threads());
    options.cache = cache;
    let output = match file {
        Some((file, format)) => Output::File(file, format),
        None => Output::Standard(Printer::new(run.format(), is_single)),
    };
    let progress = Progress::new(console, plan.steps.len(), plan.num_skipped);
    let results = Arc::new(Mutex::new(Results { output, progress, settings: run.settings.clone(), sidecars }));
    let hint = if run.args.output.is_some() { "; --resume goes on from there" } else { "" };
    end_on_interrupt(Arc::clone(&results), hint)?;

    let mut captions = run.model.captions_with(plan.sources, options);
    for step in plan.steps {
        match step {
            Step::Failed(failure) => lock(&results).failure(&failure)?,
            Step::Caption(path) => {
                let caption = captions.next().context("a picture has got lost: please report it")?;
                lock(&results).caption(&path, &caption)?;
            }
        }
    }
    let mut results = lock(&results);
    results.finish(is_single)?;
    Ok(if results.progress.has_failures() { Outcome::Failed } else { Outcome::Done })
}

/// The file of `--output` and its format, if there is to be one, and the pictures that it has captions of.
type Opened = (Option<(OutputFile, TableFormat)>, HashSet<RecordPath>);

fn open_output(run: &Run<'_>, sidecars: Option<&Sidecars>) -> anyhow::Result<Opened> {
    let (Some(path), Some(format)) = (&run.args.output, run.table_format) else {
        return Ok((None, HashSet::new()));
    };
    // A caption whose sidecar is not there was cut off between the two.
    let keep =
        |path: &RecordPath| sidecars.is_none_or(|sidecars| path.to_path().is_some_and(|path| sidecars.is_there(&path)));
    let when_there = match (run.args.resume, run.args.overwrite) {
        (true, _) => WhenThere::Resume { settings: &run.settings, keep: &keep },
        (false, true) => WhenThere::Overwrite,
        (false, false) => WhenThere::Refuse,
    };
    let (file, captioned) = OutputFile::open(path, format, when_there)?;
    Ok((Some((file, format)), captioned))
}

/// Where records go.
enum Output {
    Standard(Printer),
    File(OutputFile, TableFormat),
}

/// Everything that a record changes, behind one lock: an interrupt finds it before a record or after it.
struct Results {
    output: Output,
    progress: Progress,
    settings: Settings,
    sidecars: Option<Sidecars>,
}

impl Results {
    fn caption(&mut self, path: &Path, caption: &PictureCaption) -> anyhow::Result<()> {
        let response = match &caption.result {
            Ok(response) => response,
            Err(error) => return self.failure(&FailureRecord::new(path, error.kind().as_str(), error)),
        };
        let record = CaptionRecord::new(path, caption, response, &self.settings);
        let console = self.progress.console();
        match &mut self.output {
            Output::Standard(printer) => {
                console.suspend(|| printer.caption(path, &response.text, &record, &self.settings))?;
            }
            Output::File(file, TableFormat::Csv) => file.write_line(&record.to_csv(&self.settings))?,
            Output::File(file, TableFormat::Jsonl) => file.write_line(&json_line(&record)?)?,
        }
        let timings = TimingsMs::new(caption.decode, response);
        console.detail(&output::timings_line(&output::printable(path), &timings, response));
        match self.write_sidecar(path, caption, response) {
            Some(failure) => self.failure(&failure),
            None => {
                self.progress.captioned();
                Ok(())
            }
        }
    }

    /// The sidecar comes after the record: where there is a record and no sidecar, `--resume` knows that both are to be made again.
    fn write_sidecar(&self, path: &Path, caption: &PictureCaption, response: &Response) -> Option<FailureRecord> {
        let sidecars = self.sidecars?;
        let text = SidecarText {
            caption: &response.text,
            alt_text: &alt_text(&response.text),
            model: &self.settings.model,
            version: VERSION,
            mode: self.settings.mode.as_str(),
            prompt: &self.settings.prompt,
            content_hash: &caption.content_hash.map(|hash| hash.to_string()).unwrap_or_default(),
        };
        let written = sidecar::write(&sidecars.path_for(path), sidecars.kind, &text, sidecars.overwrite);
        written.err().map(|error| FailureRecord::new(path, error.kind(), &error))
    }

    fn failure(&mut self, failure: &FailureRecord) -> anyhow::Result<()> {
        let console = self.progress.console();
        match &mut self.output {
            Output::Standard(printer) => console.suspend(|| printer.failure(failure))?,
            Output::File(file, TableFormat::Csv) => file.write_line(&failure_to_csv(failure))?,
            Output::File(file, TableFormat::Jsonl) => file.write_line(&json_line(failure)?)?,
        }
        console.error(&output::escape_control(failure.message()));
        self.progress.failed();
        Ok(())
    }

    /// Ends the output, and says how the run went, unless it was one picture.
    fn finish(&mut self, is_single: bool) -> anyhow::Result<()> {
        if let Output::Standard(printer) = &mut self.output {
            printer.finish()?;
        }
        if !is_single {
            self.progress.finish();
        }
        Ok(())
    }
}

fn json_line(record: &impl serde::Serialize) -> anyhow::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(record)?;
    line.push(b'\n');
    Ok(line)
}

fn lock(results: &Mutex<Results>) -> MutexGuard<'_, Results> {
    results.lock().unwrap_or_else(PoisonError::into_inner)
}

/// On Ctrl-C, drops what is in hand, says how far the run came, and ends the program with 130. What has been written is whole: the lock is held
/// while a record is.
fn end_on_interrupt(results: Arc<Mutex<Results>>, hint: &'static str) -> anyhow::Result<()> {
    let end = move || {
        // Whoever reads the results may have stopped reading, so that a record never ends.
        for _ in 0..20 {
            match results.try_lock() {
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(50)),
                Ok(mut results) => results.interrupted(hint),
                Err(TryLockError::Poisoned(results)) => results.into_inner().interrupted(hint),
            }
        }
        process::exit(130);
    };
    ctrlc::set_handler(end).context("cannot listen for Ctrl-C")
}

impl Results {
    /// Ends a list on standard output, so that it can be read, and the program.
    fn interrupted(&mut self, hint: &str) -> ! {
        if let Output::Standard(printer) = &mut self.output {
            let _ = printer.finish();
        }
        self.progress.interrupted(hint);
        process::exit(130);
    }
}

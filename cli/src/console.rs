//! Standard error: errors, notes and the progress bar, so that standard output has results alone.

use std::fmt::Display;
use std::io::{IsTerminal, stderr};

use indicatif::{ProgressBar, ProgressStyle};

/// Where everything but results goes.
pub struct Console {
    quiet: bool,
    verbose: bool,
    progress: ProgressBar,
}

impl Console {
    /// A console without a progress bar.
    pub fn new(quiet: bool, verbose: bool) -> Self {
        Self { quiet, verbose, progress: ProgressBar::hidden() }
    }

    /// This console with a bar of `len` steps, if it is a terminal.
    pub fn with_progress(&self, len: usize) -> Self {
        let mut progress = ProgressBar::hidden();
        if !self.quiet && len > 1 && stderr().is_terminal() {
            progress = ProgressBar::new(len as u64);
            if let Ok(style) = ProgressStyle::with_template("{bar:30} {wide_msg}") {
                progress.set_style(style);
            }
        }
        Self { quiet: self.quiet, verbose: self.verbose, progress }
    }

    /// Whether there is a bar on the terminal.
    pub fn has_bar(&self) -> bool {
        !self.progress.is_hidden()
    }

    /// The bar stands at `position`, with `message` beside it.
    pub fn set_progress(&self, position: usize, message: String) {
        self.progress.set_position(position as u64);
        self.progress.set_message(message);
    }

    /// Removes the bar.
    pub fn finish(&self) {
        self.progress.finish_and_clear();
    }

    /// Runs `print` while the bar is out of the way.
    pub fn suspend<T>(&self, print: impl FnOnce() -> T) -> T {
        self.progress.suspend(print)
    }

    /// An error.
    pub fn error(&self, error: &dyn Display) {
        self.suspend(|| eprint(&format_args!("error: {error}")));
    }

    /// What takes long, unless `--quiet`.
    pub fn note(&self, note: &dyn Display) {
        if !self.quiet {
            self.suspend(|| eprint(note));
        }
    }

    /// A detail, for `--verbose`.
    pub fn detail(&self, detail: &dyn Display) {
        if self.verbose {
            self.suspend(|| eprint(detail));
        }
    }
}

/// Prints a line on standard error. Nobody can be told that standard error is closed.
fn eprint(line: &dyn Display) {
    use std::io::Write;
    let _ = writeln!(stderr(), "{line}");
}

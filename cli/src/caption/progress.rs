//! How far a run has come.

use std::time::{Duration, Instant};

use ocelli::peak_resident_bytes;

use crate::console::Console;

/// How often a line says how far the run has come, where there is no terminal for a bar.
const LINE_INTERVAL: Duration = Duration::from_secs(10);

/// Counts pictures and shows how many there are to come.
pub struct Progress {
    console: Console,
    total: usize,
    num_captioned: usize,
    num_failed: usize,
    num_skipped: usize,
    started: Instant,
    last_line: Instant,
}

impl Progress {
    /// Before the first of `total` pictures; `num_skipped` others are left out.
    pub fn new(console: &Console, total: usize, num_skipped: usize) -> Self {
        let (console, now) = (console.with_progress(total), Instant::now());
        let progress =
            Self { console, total, num_captioned: 0, num_failed: 0, num_skipped, started: now, last_line: now };
        progress.show();
        progress
    }

    /// The console, with the bar of this progress.
    pub fn console(&self) -> &Console {
        &self.console
    }

    /// A picture is captioned.
    pub fn captioned(&mut self) {
        self.num_captioned += 1;
        self.step();
    }

    /// A picture failed.
    pub fn failed(&mut self) {
        self.num_failed += 1;
        self.step();
    }

    /// Whether a picture failed.
    pub fn has_failures(&self) -> bool {
        self.num_failed > 0
    }

    /// Ends the bar and says how the run went.
    pub fn finish(&self) {
        self.console.finish();
        self.console.note(&self.summary());
        if let Some(bytes) = peak_resident_bytes() {
            self.console.detail(&format_args!("peak memory {} MB", bytes / 1_000_000));
        }
    }

    /// Ends the bar and says how far the run came; `hint` says how to go on.
    pub fn interrupted(&self, hint: &str) {
        self.console.finish();
        let done = self.num_captioned + self.num_failed;
        self.console.note(&format_args!("interrupted after {done} of {}: {}{hint}", self.total, self.summary()));
    }

    fn step(&mut self) {
        self.show();
        if !self.console.has_bar() && self.last_line.elapsed() >= LINE_INTERVAL {
            self.last_line = Instant::now();
            let done = self.num_captioned + self.num_failed;
            self.console.note(&format_args!("{done} of {}, {}", self.total, self.rate_and_failures()));
        }
    }

    fn show(&self) {
        let done = self.num_captioned + self.num_failed;
        self.console.set_progress(done, format!("{done} of {}, {}", self.total, self.rate_and_failures()));
    }

    /// `1412 a minute, 0:08 left, 3 failed`.
    fn rate_and_failures(&self) -> String {
        let done = self.num_captioned + self.num_failed;
        let seconds = self.started.elapsed().as_secs_f64();
        let left = (seconds / done.max(1) as f64 * (self.total - done) as f64) as u64;
        let time_left = match done {
            0 => String::new(),
            _ => format!("{:.0} a minute, {}:{:02} left, ", self.per_minute(), left / 60, left % 60),
        };
        format!("{time_left}{} failed", self.num_failed)
    }

    /// Captions a minute so far.
    fn per_minute(&self) -> f64 {
        self.num_captioned as f64 / self.started.elapsed().as_secs_f64().max(1e-3) * 60.0
    }

    /// `280 captioned, 20 failed, 12 left out in 12.3 s: 1412 a minute`.
    fn summary(&self) -> String {
        let left_out = match self.num_skipped {
            0 => String::new(),
            count => format!(", {count} left out"),
        };
        format!(
            "{} captioned, {} failed{left_out} in {:.1} s: {:.0} a minute",
            self.num_captioned,
            self.num_failed,
            self.started.elapsed().as_secs_f64(),
            self.per_minute()
        )
    }
}

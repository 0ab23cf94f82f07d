//! A command while it runs: what it has written so far is looked at, and it is ended in the middle.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::NamedTempFile;

/// No command of these tests takes longer, by far, even on a busy machine: one that does hangs.
const LONGEST: Duration = Duration::from_secs(600);

/// A command that has been started, with its output in files.
pub struct Running {
    child: Child,
    stdout: NamedTempFile,
    stderr: NamedTempFile,
    started: Instant,
}

/// What a command did.
#[derive(Debug)]
pub struct Ended {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: String,
}

impl Running {
    /// Starts the command.
    pub fn start(mut command: Command) -> Self {
        let (stdout, stderr) = (NamedTempFile::new().unwrap(), NamedTempFile::new().unwrap());
        command.stdin(Stdio::null()).stdout(stdout.reopen().unwrap()).stderr(stderr.reopen().unwrap());
        Self { child: command.spawn().unwrap(), stdout, stderr, started: Instant::now() }
    }

    /// Waits until standard output satisfies `is_enough`, or the command has ended.
    pub fn wait_for_stdout(&mut self, is_enough: impl Fn(&[u8]) -> bool) {
        let path = self.stdout.path().to_owned();
        self.wait_until(|| is_enough(&fs::read(&path).unwrap()));
    }

    /// Waits until `is_enough`, or the command has ended.
    pub fn wait_until(&mut self, is_enough: impl Fn() -> bool) {
        while !is_enough() && self.child.try_wait().unwrap().is_none() {
            assert!(self.started.elapsed() < LONGEST, "the command hangs");
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// Ctrl-C, unless the command has ended.
    pub fn interrupt(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            let id = self.child.id().to_string();
            assert!(Command::new("/bin/sh").args(["-c", "kill -INT \"$0\"", &id]).status().unwrap().success());
        }
    }

    /// Ends the command at once, whatever it is doing.
    pub fn kill(mut self) -> Ended {
        self.child.kill().unwrap();
        self.finish()
    }

    /// Waits for its end.
    pub fn finish(mut self) -> Ended {
        self.wait_until(|| false);
        let status = self.child.wait().unwrap();
        let (stdout, stderr) = (fs::read(self.stdout.path()).unwrap(), fs::read(self.stderr.path()).unwrap());
        Ended { code: status.code(), signal: status.signal(), stdout, stderr: String::from_utf8_lossy(&stderr).into() }
    }
}

impl Drop for Running {
    /// A test that fails leaves nothing running.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

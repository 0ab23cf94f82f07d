//! Runs the binary in a clean environment and turns what it did into text for snapshots.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// No command of these tests takes longer, by far, even on a busy machine: one that does hangs.
const LONGEST: Duration = Duration::from_secs(600);
/// The address space that a command may use, in KiB: 4 GB, stacks of threads and mapped files included. A bomb that is not refused
/// needs tens of gigabytes.
const ADDRESS_SPACE_KIB: u64 = 4_000_000;

/// What a command did.
pub struct Finished {
    /// The exit code; none if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error, without the summary.
    pub stderr: String,
    /// How a run of several pictures says that it went, without its times: `3 captioned, 1 failed`.
    pub summary: String,
}

/// A command to be run.
pub struct Ocelli {
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
    stdin: Vec<u8>,
    replaced: Vec<(String, &'static str)>,
}

/// `ocelli` with arguments.
pub fn ocelli<A: AsRef<Path>>(arguments: impl IntoIterator<Item = A>) -> Ocelli {
    let arguments = arguments.into_iter().map(|argument| argument.as_ref().to_str().unwrap().to_owned()).collect();
    Ocelli { arguments, environment: Vec::new(), stdin: Vec::new(), replaced: Vec::new() }
}

impl Ocelli {
    /// With an environment variable; all others are cleared.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// With this on standard input.
    pub fn stdin(mut self, bytes: Vec<u8>) -> Self {
        self.stdin = bytes;
        self
    }

    /// With `path` called `name` in [`Finished`].
    pub fn call(mut self, path: &Path, name: &'static str) -> Self {
        self.replaced.push((path.to_str().unwrap().to_owned(), name));
        self
    }

    /// Runs it, with little memory, and ends it when it hangs.
    pub fn run(self) -> Finished {
        let binary = env!("CARGO_BIN_EXE_ocelli");
        let mut command = if cfg!(target_os = "linux") {
            let mut shell = Command::new("/bin/sh");
            shell.arg("-c").arg(format!("ulimit -v {ADDRESS_SPACE_KIB}; exec \"$0\" \"$@\"")).arg(binary);
            shell
        } else {
            Command::new(binary)
        };
        let mut child = command
            .args(&self.arguments)
            .env_clear()
            // glibc reserves address space for the allocations of each thread.
            .env("MALLOC_ARENA_MAX", "2")
            .envs(self.environment)
            .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let input = self.stdin;
        // The command may end before it has read everything.
        let writer = thread::spawn(move || drop(stdin.write_all(&input)));
        let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let stdout = thread::spawn(move || std::io::read_to_string(&mut stdout).unwrap());
        let stderr = thread::spawn(move || std::io::read_to_string(&mut stderr).unwrap());
        let start = Instant::now();
        let status = loop {
            match child.try_wait().unwrap() {
                Some(status) => break status,
                None if start.elapsed() > LONGEST => {
                    child.kill().unwrap();
                    panic!("{:?} hangs", self.arguments);
                }
                None => thread::sleep(Duration::from_millis(2)),
            }
        };
        writer.join().unwrap();
        let replace = |mut text: String| {
            for (path, name) in &self.replaced {
                text = text.replace(path, name);
            }
            text
        };
        // On a slow machine there are lines that say how far a run has come.
        let is_progress = |line: &&str| line.contains(" a minute, ") && line.ends_with(" failed\n");
        let stderr = replace(stderr.join().unwrap());
        let mut stderr: String = stderr.split_inclusive('\n').filter(|line| !is_progress(line)).collect();
        let summary = stderr.lines().find(|line| line.contains(" captioned, ") && line.ends_with(" a minute"));
        let summary = summary.unwrap_or_default().to_owned();
        stderr = stderr.replace(&format!("{summary}\n"), if summary.is_empty() { "\n" } else { "" });
        let summary = summary.rsplit_once(" in ").map(|(counts, _)| counts.to_owned()).unwrap_or_default();
        Finished { code: status.code(), stdout: replace(stdout.join().unwrap()), stderr, summary }
    }
}

impl Finished {
    /// Exit code and both streams, for a snapshot.
    pub fn transcript(&self) -> String {
        let code = self.code.map_or_else(|| "signal".to_owned(), |code| code.to_string());
        format!("exit code: {code}\n--- stdout\n{}--- stderr\n{}", self.stdout, self.stderr)
    }

    /// Checks that it succeeded without a word on standard error; gives standard output.
    #[track_caller]
    pub fn success(self) -> String {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "stdout: {}", self.stdout);
        self.stdout
    }

    /// Checks that it failed with an exit code and a message on standard error, not with a panic; gives the message.
    #[track_caller]
    pub fn failure(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert!(self.stderr.starts_with("error: "), "{}", self.stderr);
        assert!(!self.stderr.contains("panicked"), "{}", self.stderr);
        self.stderr
    }
}

/// A snapshot without times, versions and instruction sets.
#[macro_export]
macro_rules! assert_redacted {
    ($description:expr, $text:expr) => {
        insta::with_settings!({
            description => $description,
            omit_expression => true,
            filters => vec![
                (r"\d+\.\d+\.\d+ \((portable|avx2|avx_vnni|avx512_vnni)\)", "[VERSION] ([ISA])"),
                (r#""(decode|preprocess|encode|adapt|prefill|generate|total)": ?\d+\.\d+"#, "\"$1\": [MS]"),
            ],
        }, { insta::assert_snapshot!($text) })
    };
}

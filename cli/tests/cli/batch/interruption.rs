//! Runs that are ended in the middle, and gone on with: nothing is lost, done twice or half-written.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::folder_of_300::{FolderOf300, NUM_GOOD};
use super::records::{Record, objects, records, sorted};
use super::running::Running;
use crate::support::TinyModel;

/// How many captions a file of JSON Lines holds so far.
pub fn captions_in(output: &Path) -> usize {
    let bytes = fs::read(output).unwrap_or_default();
    bytes.split_inclusive(|&byte| byte == b'\n').filter(|line| is_caption(line)).count()
}

fn is_caption(line: &[u8]) -> bool {
    line.ends_with(b"\n")
        && serde_json::from_slice(line).is_ok_and(|line: serde_json::Value| line["caption"].is_string())
}

/// Removes the second half of the last line, as a full disk or a power cut may.
pub fn cut_last_line(output: &Path) {
    let bytes = fs::read(output).unwrap();
    let last = bytes.split_inclusive(|&byte| byte == b'\n').next_back().unwrap();
    fs::write(output, &bytes[..bytes.len() - last.len() / 2]).unwrap();
}

/// How many pictures the message of an interrupted run says that it did. It says how to go on as well.
#[track_caller]
pub fn interrupted_after(stderr: &str) -> usize {
    let line = stderr.lines().find_map(|line| line.strip_prefix("interrupted after ")).expect(stderr);
    assert!(line.ends_with("; --resume goes on from there"), "{line}");
    line.split_once(" of ").unwrap().0.parse().unwrap()
}

/// The folder of 300 with a model that takes milliseconds, so that it can be ended often.
struct Quick {
    folder: FolderOf300,
    model: TinyModel,
    expected: Vec<Record>,
}

impl Quick {
    fn new() -> Self {
        let (folder, model) = (FolderOf300::new(), TinyModel::new());
        fs::remove_file(folder.removed()).unwrap();
        folder.share(model.path());
        for file in fs::read_dir(model.path()).unwrap() {
            folder.share(&file.unwrap().path());
        }
        let mut quick = Self { folder, model, expected: Vec::new() };
        let ended = quick.start("whole.jsonl", &[]).finish();
        assert!(ended.code == Some(1) && ended.stderr.contains("280 captioned, 20 failed in "), "{}", ended.stderr);
        quick.expected = quick.records("whole.jsonl");
        quick
    }

    fn start(&self, output: &str, options: &[&str]) -> Running {
        let mut command = self.folder.caption(options);
        command.args(["-n", "4", "-o", output, "--model"]).arg(self.model.path());
        Running::start(command)
    }

    #[track_caller]
    fn records(&self, output: &str) -> Vec<Record> {
        sorted(&fs::read(self.folder.file(output)).unwrap())
    }

    /// Goes on to the end, and compares with the run that nothing interrupted.
    #[track_caller]
    fn finish(&self, output: &str) {
        let ended = self.start(output, &["--resume"]).finish();
        assert_eq!(ended.code, Some(1), "{}", ended.stderr);
        assert_eq!(self.records(output), self.expected);
    }
}

#[test]
fn a_run_that_was_killed_anywhere_goes_on_to_the_same_captions() {
    let quick = Quick::new();
    for num_lines in [0, 1, 9, 50, 137, 279] {
        let output = format!("killed-after-{num_lines}.jsonl");
        let path = quick.folder.file(&output);
        let mut running = quick.start(&output, &[]);
        running.wait_until(|| path.exists() && captions_in(&path) >= num_lines);
        running.kill();
        // Whole lines, even so.
        let captions = objects(&fs::read(&path).unwrap()).iter().filter(|line| line["caption"].is_string()).count();
        assert!((num_lines..=NUM_GOOD).contains(&captions), "{captions}");
        quick.finish(&output);
    }
}

#[test]
fn a_file_that_was_cut_off_anywhere_goes_on_to_the_same_captions() {
    let quick = Quick::new();
    let whole = fs::read(quick.folder.file("whole.jsonl")).unwrap();
    for length in [1, whole.len() / 3, whole.len() / 2 + 11, whole.len() - 1] {
        fs::write(quick.folder.file("cut.jsonl"), &whole[..length]).unwrap();
        quick.folder.share(&quick.folder.file("cut.jsonl"));
        quick.finish("cut.jsonl");
    }
}

#[test]
fn ctrl_c_at_any_moment_leaves_whole_lines_and_can_be_gone_on_with() {
    let quick = Quick::new();
    for milliseconds in [0, 10, 30, 60, 100, 150, 250, 400] {
        let output = format!("interrupted-after-{milliseconds}.jsonl");
        let mut options: &[&str] = &[];
        for _ in 0..2 {
            let mut running = quick.start(&output, options);
            thread::sleep(Duration::from_millis(milliseconds));
            running.interrupt();
            let ended = running.finish();
            // Before it has begun it ends as programs do; and on a fast machine it may be done.
            let is_early = ended.signal == Some(2) && ended.stderr.is_empty();
            assert!(is_early || matches!(ended.code, Some(130 | 1)), "{ended:?}");
            if ended.code == Some(130) {
                interrupted_after(&ended.stderr);
            }
            records(&fs::read(quick.folder.file(&output)).unwrap_or_default());
            options = &["--resume"];
        }
        quick.finish(&output);
    }
}

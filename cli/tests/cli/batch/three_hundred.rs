//! A folder of 300 pictures with the bundled model: 280 captions and 20 errors, however the pictures are given and whatever comes between.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::folder_of_300::{FolderOf300, NUM_BROKEN, NUM_GOOD};
use super::interruption::{captions_in, cut_last_line, interrupted_after};
use super::records::{Record, objects, records, sorted};
use super::running::{Ended, Running};

/// One test, since its parts compare with what the first of them gave, which takes long.
#[test]
fn three_hundred_pictures_are_captioned_and_twenty_fail_each_in_its_own_way() {
    let folder = FolderOf300::new();
    let all = captioned_while_one_is_removed(&folder);
    failures_have_their_kinds(&folder, &all);
    odd_names_are_there(&folder, &all);
    let expected = sorted(&all.stdout);
    captions_are_those_of_one_at_a_time(&folder, &expected);
    memory_stays_flat(&folder, &all);
    interrupted_and_resumed_it_is_the_same(&folder, &expected);
}

/// The record of `path`.
fn find<'a>(records: &'a [Record], path: &Path) -> &'a Result<String, String> {
    let bytes = path.to_str().is_none().then(|| hex(path));
    let matches = |record: &&Record| record.0 == path.to_string_lossy() && record.1 == bytes;
    &records.iter().find(matches).unwrap_or_else(|| panic!("no record of {path:?}")).2
}

fn hex(path: &Path) -> String {
    path.as_os_str().as_bytes().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn captioned_while_one_is_removed(folder: &FolderOf300) -> Ended {
    let mut running = Running::start(measured(folder.caption(&["--format", "jsonl", "-v"])));
    // It is the last of 300, and at most 16 are looked at ahead of the model.
    running.wait_for_stdout(|stdout| stdout.contains(&b'\n'));
    fs::remove_file(folder.removed()).unwrap();
    let ended = running.finish();
    assert_eq!(ended.code, Some(1), "{}", ended.stderr);
    let records = records(&ended.stdout);
    let failed: Vec<_> = records.iter().filter(|record| record.2.is_err()).collect();
    assert_eq!((records.len(), failed.len()), (NUM_GOOD + NUM_BROKEN, NUM_BROKEN), "{failed:#?}");
    assert!(ended.stderr.contains("\n280 captioned, 20 failed in "), "{}", ended.stderr);
    assert!(!ended.stderr.contains("panicked"), "{}", ended.stderr);
    ended
}

fn failures_have_their_kinds(folder: &FolderOf300, all: &Ended) {
    let records = records(&all.stdout);
    for path in &folder.good {
        assert!(find(&records, path).as_ref().is_ok_and(|caption| caption.len() > 10), "{path:?}");
    }
    let mut broken = folder.broken.clone();
    broken.push((folder.removed(), "io"));
    let kinds = broken.iter().map(|(path, kind)| (path, Err((*kind).to_owned())));
    let found = broken.iter().map(|(path, _)| (path, find(&records, path).clone()));
    assert_eq!(found.collect::<BTreeMap<_, _>>(), kinds.collect::<BTreeMap<_, _>>());
    assert_eq!(broken.len(), NUM_BROKEN);
    let objects = objects(&all.stdout);
    for object in objects.iter().filter(|object| object["error"].is_object()) {
        let message = object["error"]["message"].as_str().unwrap();
        assert!(message.contains(object["path"].as_str().unwrap()), "the message names no file: {object}");
        let on_one_line = message.replace('\n', "\\n");
        assert!(all.stderr.contains(&on_one_line), "{on_one_line}");
    }
}

fn odd_names_are_there(folder: &FolderOf300, all: &Ended) {
    let with_bytes = objects(&all.stdout).into_iter().filter(|object| object["path_bytes"].is_string());
    let bytes: Vec<_> = with_bytes.map(|object| object["path_bytes"].as_str().unwrap().to_owned()).collect();
    let not_utf_8 = |path: &&PathBuf| path.to_str().is_none();
    let broken = folder.broken.iter().map(|(path, _)| path);
    let mut expected: Vec<_> = broken.chain(&folder.good).filter(not_utf_8).map(|path| hex(path)).collect();
    expected.sort();
    assert_eq!((bytes, expected.len()), (expected, 2));
}

fn captions_are_those_of_one_at_a_time(folder: &FolderOf300, expected: &[Record]) {
    let output = folder.file("one-at-a-time.jsonl");
    let ended = Running::start(folder.caption(&["--batch", "1", "--quiet", "-o", "one-at-a-time.jsonl"])).finish();
    assert_eq!((ended.code, ended.stdout), (Some(1), Vec::new()));
    assert_eq!(sorted(&fs::read(output).unwrap()), expected);
    let errors = ended.stderr.split_inclusive('\n').filter(|line| line.starts_with("error: ")).count();
    assert_eq!(errors, NUM_BROKEN, "{}", ended.stderr);
    assert!(!ended.stderr.contains(" captioned, "), "{}", ended.stderr);

    // The first have odd names and formats.
    for path in folder.good.iter().take(9).chain(folder.good.last()) {
        let ended = Running::start(folder.command(["--".as_ref(), path.as_path()])).finish();
        assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{path:?}");
        let caption = find(expected, path).as_ref().unwrap();
        assert_eq!(String::from_utf8_lossy(&ended.stdout), format!("{caption}\n"), "{path:?}");
    }
}

fn memory_stays_flat(folder: &FolderOf300, all: &Ended) {
    let some = folder.good.iter().step_by(11).chain(folder.broken.iter().map(|(path, _)| path).step_by(5));
    let mut list = File::create(folder.file("list")).unwrap();
    for path in some {
        list.write_all(&[path.as_os_str().as_bytes(), b"\0"].concat()).unwrap();
    }
    let some = Running::start(measured(folder.command(["--format", "jsonl", "-v", "--files-from", "list"]))).finish();
    assert_eq!(records(&some.stdout).len(), 30);
    let (some, all) = (peak_memory(&some), peak_memory(all));
    assert!(all <= 1.1 * some, "{all} MB for 300 pictures, {some} MB for 30");
}

/// The command, which gives back at once what it frees: its peak is not what glibc happens to hold back.
fn measured(mut command: Command) -> Command {
    command.env("MALLOC_MMAP_THRESHOLD_", "131072");
    command
}

/// What `peak memory N MB` says.
fn peak_memory(ended: &Ended) -> f64 {
    let line = ended.stderr.lines().find_map(|line| line.strip_prefix("peak memory "));
    line.and_then(|line| line.strip_suffix(" MB")).and_then(|number| number.parse().ok()).unwrap()
}

/// Killed, cut off by hand, and interrupted twice in a row, all in one file.
fn interrupted_and_resumed_it_is_the_same(folder: &FolderOf300, expected: &[Record]) {
    let output = folder.file("captions.jsonl");
    let start = |options: &[&str]| Running::start(folder.caption(&[options, &["-o", "captions.jsonl"]].concat()));
    let mut running = start(&[]);
    running.wait_until(|| captions_in(&output) >= 3);
    assert_eq!(running.kill().signal, Some(9));
    for enough in [20, 70] {
        let before = captions_in(&output);
        assert!((3..150).contains(&before), "{before} captions");
        cut_last_line(&output);
        let mut running = start(&["--resume"]);
        running.wait_until(|| captions_in(&output) >= before.max(enough));
        assert_eq!(running.kill().signal, Some(9));
    }
    for enough in [120, 180] {
        let before = captions_in(&output);
        let mut running = start(&["--resume"]);
        running.wait_until(|| captions_in(&output) >= before.max(enough));
        running.interrupt();
        let ended = running.finish();
        assert_eq!(ended.code, Some(130), "{}", ended.stderr);
        let done = interrupted_after(&ended.stderr);
        let lines = records(&fs::read(&output).unwrap());
        assert_eq!(lines.len(), before + done, "{}", ended.stderr);
    }
    let left = NUM_GOOD - captions_in(&output);
    let ended = start(&["--resume"]).finish();
    let summary = format!("\n{left} captioned, 20 failed, {} left out in ", NUM_GOOD - left);
    assert!(ended.code == Some(1) && ended.stderr.contains(&summary), "{}", ended.stderr);
    assert_eq!(sorted(&fs::read(&output).unwrap()), expected);
}

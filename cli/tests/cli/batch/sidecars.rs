//! `--sidecar`: captions beside the pictures, and texts of people, which stay.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use super::records::{objects, records};
use super::{caption, names};
use crate::assert_redacted;
use crate::pictures::Folder;
use crate::run::Ocelli;
use crate::support::TinyModel;

/// What people and other programs wrote, around a description.
const XMP: &str = r#"<x:xmpmeta xmlns:x="adobe:ns:meta/">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about="" xmlns:xmp="http://ns.adobe.com/xap/1.0/" xmp:Rating="5">
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"#;

/// A folder of pictures, and a model.
struct Case {
    folder: Folder,
    model: TinyModel,
}

impl Case {
    fn new(pictures: &[&str]) -> Self {
        let case = Self { folder: Folder::new(), model: TinyModel::new() };
        for name in pictures {
            case.folder.png(&format!("pictures/{name}"));
        }
        case
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join("pictures").join(name)
    }

    fn write(&self, name: &str, text: &str) {
        self.folder.write(&format!("pictures/{name}"), text);
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    /// `ocelli caption --format jsonl PICTURES` with `options`.
    fn caption(&self, options: &[&str]) -> Ocelli {
        let pictures = self.path("");
        let arguments = ["--format=jsonl".as_ref(), pictures.as_path()].into_iter();
        caption(&self.folder, &self.model, arguments.chain(options.iter().map(Path::new)))
    }

    /// The contents of all files.
    fn contents(&self) -> BTreeMap<String, Vec<u8>> {
        let read = |name: String| (name.clone(), fs::read(self.path(&name)).unwrap());
        names(&self.path("")).into_iter().map(read).collect()
    }
}

/// The only caption on standard output.
#[track_caller]
fn only_caption(lines: &str) -> String {
    records(lines.as_bytes()).pop().unwrap().2.unwrap()
}

#[test]
fn each_caption_is_written_beside_its_picture() {
    let case = Case::new(&["a.png", "b.c.png"]);
    let before = case.contents();
    let lines = case.caption(&["--sidecar", "txt"]).run();
    let captions: Vec<_> = records(lines.stdout.as_bytes()).into_iter().map(|record| record.2.unwrap()).collect();
    assert_eq!(
        (lines.code, case.read("a.txt"), case.read("b.c.txt")),
        (Some(0), format!("{}\n", captions[0]), format!("{}\n", captions[1]))
    );
    let after = case.contents();
    assert_eq!(after.keys().collect::<Vec<_>>(), ["a.png", "a.txt", "b.c.png", "b.c.txt"], "and nothing else");
    assert!(before.iter().all(|(name, bytes)| after[name] == *bytes), "pictures stay as they are");
}

#[test]
fn a_text_of_a_person_stays() {
    let case = Case::new(&["a.png", "b.png"]);
    case.write("a.txt", "Grandmother, 1962");
    let finished = case.caption(&["--sidecar", "txt"]).run();
    assert_eq!((finished.code, finished.summary.as_str()), (Some(1), "1 captioned, 1 failed"));
    assert_eq!(objects(finished.stdout.as_bytes())[0]["error"]["kind"], "exists");
    assert_redacted!("a text is there", finished.stderr);
    assert_eq!(case.read("a.txt"), "Grandmother, 1962");
    assert!(case.path("b.txt").is_file());

    // Now both have a text.
    let finished = case.caption(&["--sidecar", "txt", "--skip-existing"]).run();
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), ""));
    assert_eq!(finished.summary, "0 captioned, 0 failed, 2 left out");
    assert_eq!(case.read("a.txt"), "Grandmother, 1962");
}

#[test]
fn a_text_is_replaced_when_asked_and_an_empty_one_without_asking() {
    let case = Case::new(&["a.png"]);
    case.write("a.txt", "Grandmother, 1962");
    let lines = case.caption(&["--sidecar", "txt", "--overwrite"]).run().stdout;
    assert_eq!(case.read("a.txt"), format!("{}\n", only_caption(&lines)));
    case.write("a.txt", " \n");
    let lines = case.caption(&["--sidecar", "txt", "--skip-existing"]).run().stdout;
    assert_eq!(case.read("a.txt"), format!("{}\n", only_caption(&lines)));
    assert_eq!(names(&case.path("")), ["a.png", "a.txt"]);
}

#[test]
fn two_pictures_never_share_a_sidecar() {
    let case = Case::new(&["a.gif", "a.png"]);
    let finished = case.caption(&["--sidecar", "txt"]).run();
    assert_eq!((finished.code, finished.summary.as_str()), (Some(1), "1 captioned, 1 failed"));
    let lines = records(finished.stdout.as_bytes());
    let caption = lines[0].2.clone().unwrap();
    assert_eq!((case.read("a.txt"), &lines[1].2), (format!("{caption}\n"), &Err("exists".to_owned())));
    assert_redacted!("a.gif and a.png have one sidecar", finished.stderr);

    let finished = case.caption(&["--sidecar", "txt", "--sidecar-name", "ext"]).run();
    assert_eq!(finished.code, Some(0), "{}", finished.stderr);
    assert_eq!(names(&case.path("")), ["a.gif", "a.gif.txt", "a.png", "a.png.txt", "a.txt"]);
}

#[test]
fn xmp_is_new_or_merged_into_what_is_there() {
    let case = Case::new(&["a.png", "b.png"]);
    case.write("b.png.xmp", XMP);
    let finished = case.caption(&["--sidecar", "xmp"]).run();
    assert_eq!((finished.code, finished.summary.as_str()), (Some(0), "2 captioned, 0 failed"));
    let (new, merged) = (case.read("a.png.xmp"), case.read("b.png.xmp"));
    for xmp in [&new, &merged] {
        assert!(xmp.contains("dc:description") && xmp.contains("x-default"), "{xmp}");
    }
    let mut rest = merged.as_str();
    for line in XMP.lines() {
        rest = rest.split_once(line).unwrap_or_else(|| panic!("{line} is gone from {merged}")).1;
    }

    // Their texts are ours, but nobody can know that.
    let finished = case.caption(&["--sidecar", "xmp"]).run();
    assert_eq!((finished.code, finished.summary.as_str()), (Some(1), "0 captioned, 2 failed"));
    assert_eq!((case.read("a.png.xmp"), case.read("b.png.xmp")), (new, merged));
    let finished = case.caption(&["--sidecar", "xmp", "--overwrite"]).run();
    assert_eq!((finished.code, case.read("b.png.xmp").matches("<dc:description").count()), (Some(0), 1));
    assert_eq!(names(&case.path("")), ["a.png", "a.png.xmp", "b.png", "b.png.xmp"]);
}

#[test]
fn a_sidecar_that_is_no_xmp_is_left_alone() {
    let case = Case::new(&["a.png", "b.png"]);
    case.write("a.png.xmp", "<x:xmpmeta");
    let finished = case.caption(&["--sidecar", "xmp", "--overwrite"]).run();
    assert_eq!((finished.code, finished.summary.as_str()), (Some(1), "1 captioned, 1 failed"));
    assert_eq!(
        (case.read("a.png.xmp").as_str(), records(finished.stdout.as_bytes())[0].2.clone()),
        ("<x:xmpmeta", Err("corrupt".into()))
    );
}

#[test]
fn a_caption_whose_sidecar_is_gone_is_made_again() {
    let case = Case::new(&["a.png", "b.png", "c.png"]);
    let output = case.folder.path().join("captions.jsonl");
    let options = ["--sidecar", "txt", "--resume", "-o", output.to_str().unwrap()];
    assert_eq!(case.caption(&options).run().summary, "3 captioned, 0 failed");
    let mut expected = records(&fs::read(&output).unwrap());
    expected.sort();
    fs::remove_file(case.path("b.txt")).unwrap();
    assert_eq!(case.caption(&options).run().summary, "1 captioned, 0 failed, 2 left out");
    let mut found = records(&fs::read(&output).unwrap());
    found.sort();
    assert_eq!((found, case.path("b.txt").is_file()), (expected, true));
}

#[test]
fn options_that_contradict_each_other_are_wrong_usage() {
    let case = Case::new(&["a.png"]);
    for options in [
        &["--skip-existing"][..],
        &["--sidecar-name", "ext"],
        &["--sidecar", "jpg"],
        &["--sidecar", "txt", "--skip-existing", "--overwrite"],
        &["--resume"],
        &["--resume", "--overwrite", "-o", "a.csv"],
    ] {
        assert_eq!(case.caption(options).run().code, Some(2), "{options:?}");
    }
    assert_eq!(names(&case.path("")), ["a.png"]);
}

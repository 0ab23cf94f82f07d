use std::fs;
use std::path::{Path, PathBuf};

use super::*;
use crate::sidecar::{SidecarError, SidecarKind, SidecarName, has_text, path_for, write};
use SidecarKind::{Txt, Xmp};
use SidecarName::{Adobe, Ext};

/// A file `name` with `content` in a folder of its own.
fn file(name: &str, content: impl AsRef<[u8]>) -> (tempfile::TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    fs::write(&path, content).unwrap();
    (folder, path)
}

#[test]
fn a_sidecar_is_named_after_its_picture() {
    let names = |picture: &str| {
        [(Txt, Adobe), (Txt, Ext), (Xmp, Adobe), (Xmp, Ext)]
            .map(|(kind, name)| path_for(Path::new(picture), kind, name).to_str().unwrap().to_owned())
    };
    assert_eq!(names("a/photo.jpg"), ["a/photo.txt", "a/photo.jpg.txt", "a/photo.xmp", "a/photo.jpg.xmp"]);
    assert_eq!(names("a.b/photo"), ["a.b/photo.txt", "a.b/photo.txt", "a.b/photo.xmp", "a.b/photo.xmp"]);
    assert_eq!(names("photo.v2.jpg")[0], "photo.v2.txt");
    assert_eq!(names("ü 图.jpg")[1], "ü 图.jpg.txt");
    assert_eq!((Txt.default_name(), Xmp.default_name()), (Adobe, Ext));
}

#[test]
fn a_picture_named_like_a_sidecar_is_not_its_own_sidecar() {
    assert_eq!(path_for(Path::new("photo.TXT"), Txt, Adobe), Path::new("photo.TXT.txt"));
    assert_eq!(path_for(Path::new("photo.TXT"), Xmp, Adobe), Path::new("photo.xmp"));
}

#[cfg(unix)]
#[test]
fn a_name_that_is_not_utf8_stays_as_it_is() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;
    let folder = tempfile::tempdir().unwrap();
    let picture = folder.path().join(OsStr::from_bytes(b"caf\xe9.jpg"));
    let path = path_for(&picture, Txt, Ext);
    assert_eq!(path.file_name().unwrap().as_bytes(), b"caf\xe9.jpg.txt");
    assert_eq!(path_for(&picture, Xmp, Adobe).file_name().unwrap().as_bytes(), b"caf\xe9.xmp");
    write(&path, Txt, &NEW, false).unwrap();
    assert!(has_text(&path, Txt).unwrap());
}

#[test]
fn a_text_file_holds_the_caption_and_a_newline() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("photo.txt");
    assert!(!has_text(&path, Txt).unwrap());
    write(&path, Txt, &NEW, false).unwrap();
    assert!(has_text(&path, Txt).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", NEW.caption));
}

#[test]
fn the_text_of_others_is_replaced_only_when_asked() {
    for (kind, content) in [(Txt, "mine"), (Txt, "\u{feff}caf\u{e9}"), (Xmp, fixture("digikam"))] {
        let (_folder, path) = file("sidecar", content);
        assert!(has_text(&path, kind).unwrap());
        let error = write(&path, kind, &NEW, false).unwrap_err();
        assert_eq!(error.kind(), "exists");
        assert_eq!(fs::read_to_string(&path).unwrap(), content);
        write(&path, kind, &NEW, true).unwrap();
        assert_ne!(fs::read_to_string(&path).unwrap(), content);
    }
    let (_folder, path) = file("latin1.txt", b"caf\xe9");
    assert_eq!(write(&path, Txt, &NEW, false).unwrap_err().kind(), "exists");
}

#[test]
fn an_empty_text_file_is_nobodys_text() {
    for content in ["", " \r\n\t", "\u{feff}", "\u{feff}\r\n"] {
        let (_folder, path) = file("photo.txt", content);
        assert!(!has_text(&path, Txt).unwrap());
        write(&path, Txt, &NEW, false).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), format!("{}\n", NEW.caption));
    }
}

#[test]
fn xmp_without_a_caption_is_merged_and_then_has_one() {
    for name in ["darktable", "lightroom"] {
        let (_folder, path) = file("photo.xmp", fixture(name));
        assert!(!has_text(&path, Xmp).unwrap(), "{name}");
        write(&path, Xmp, &NEW, false).unwrap();
        assert!(has_text(&path, Xmp).unwrap(), "{name}");
        assert_eq!(write(&path, Xmp, &NEW, false).unwrap_err().kind(), "exists");
    }
}

#[test]
fn a_picture_with_one_of_both_texts_is_left_alone() {
    // A description alone, an alt text alone.
    for name in ["prefixes", "exiftool"] {
        let (_folder, path) = file("photo.xmp", fixture(name));
        assert!(has_text(&path, Xmp).unwrap(), "{name}");
        assert_eq!(write(&path, Xmp, &NEW, false).unwrap_err().kind(), "exists", "{name}");
        assert_eq!(fs::read_to_string(&path).unwrap(), fixture(name));
    }
}

#[test]
fn a_byte_order_mark_stays() {
    let (_folder, path) = file("photo.xmp", format!("\u{feff}{}", fixture("darktable")));
    write(&path, Xmp, &NEW, false).unwrap();
    let expected = format!("\u{feff}{}", merged(fixture("darktable"), &NEW).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), expected);
}

#[test]
fn errors_name_the_file_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let utf16: Vec<u8> = fixture("darktable").encode_utf16().flat_map(u16::to_le_bytes).collect();
    let deep = format!("{}{}", "<a>".repeat(101), "</a>".repeat(101));
    let cases: [(&str, Vec<u8>); 9] = [
        ("utf16.xmp", [&[0xff, 0xfe], utf16.as_slice()].concat()),
        ("utf16-unmarked.xmp", utf16),
        ("latin1.xmp", b"<?xml version='1.0' encoding='ISO-8859-1'?><a/>".into()),
        ("large.xmp", vec![b' '; (16 << 20) + 1]),
        ("deep.xmp", deep.into()),
        ("doctype.xmp", b"<!DOCTYPE a [<!ENTITY b 'c'>]><a>&b;</a>".into()),
        (
            "two.xmp",
            fixture("exiftool")
                .replace(
                    "</x:xmpmeta>",
                    "<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'/></x:xmpmeta>",
                )
                .into(),
        ),
        ("none.xmp", b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>".into()),
        ("cut.xmp", fixture("digikam")[..900].into()),
    ];
    let mut messages = String::new();
    let mut note = |error: SidecarError| {
        let message = error.to_string().replace(folder.path().to_str().unwrap(), "FOLDER").replace('\\', "/");
        messages += &format!("{}\n    {message}\n", error.kind());
    };
    for (name, content) in cases {
        let path = folder.path().join(name);
        fs::write(&path, &content).unwrap();
        note(has_text(&path, Xmp).unwrap_err());
        assert_eq!(
            write(&path, Xmp, &NEW, true).unwrap_err().to_string(),
            has_text(&path, Xmp).unwrap_err().to_string()
        );
        assert!(fs::read(&path).unwrap() == content, "{name}");
    }
    note(has_text(folder.path(), Txt).unwrap_err());
    let path = folder.path().join("photo.txt");
    fs::write(&path, "mine").unwrap();
    note(write(&path, Txt, &NEW, false).unwrap_err());
    insta::assert_snapshot!(messages);
    // The rest of this message is the system's.
    let error = write(&folder.path().join("no/photo.txt"), Txt, &NEW, false).unwrap_err();
    assert_eq!(error.kind(), "io");
    assert!(
        error.to_string().contains("photo.txt") && error.to_string().ends_with("; check the path and its permissions")
    );
}

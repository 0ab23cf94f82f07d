//! `ocelli alt`: what it prints, asks and writes.

use std::fs;

use crate::assert_redacted;
use crate::pictures::Folder;
use crate::run::{Finished, ocelli};

const PAGE: &str = "\
# Things

![](scene.png)

Some ![](img/one%20thing.webp \"a title\") text, and ![A dog.](scene.png).

<p><img src=\"/img/one thing.webp\" width=\"320\"></p>
";
const HTML: &str = "<!doctype html>\r\n<img src=\"../scene.png\">\r\n<img src=\"../scene.png\" alt=\"\">\r\n<p>end</p>";

fn site() -> Folder {
    let folder = Folder::new();
    let example = |name: &str| fs::read(format!("{}/../assets/examples/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap();
    folder.write("scene.png", example("scene.png"));
    folder.write("img/one thing.webp", example("one-thing.webp"));
    folder
}

fn pages() -> Folder {
    let folder = site();
    folder.write("a.md", PAGE);
    folder.write("inner/b.html", HTML);
    folder
}

fn alt(folder: &Folder, options: &[&str], stdin: &str) -> Finished {
    let command = ["alt", folder.path().to_str().unwrap()];
    ocelli(command.iter().chain(options)).stdin(stdin.into()).call(folder.path(), "[FOLDER]").run()
}

fn read(folder: &Folder, name: &str) -> String {
    fs::read_to_string(folder.path().join(name)).unwrap()
}

#[test]
fn a_diff_is_printed_and_the_files_stay() {
    let folder = pages();
    assert_redacted!("ocelli alt DIR", alt(&folder, &[], "").transcript());
    assert_eq!((read(&folder, "a.md").as_str(), read(&folder, "inner/b.html").as_str()), (PAGE, HTML));
}

#[test]
fn alt_texts_are_written_once_and_every_other_byte_stays() {
    let folder = pages();
    assert_redacted!("ocelli alt DIR --write", alt(&folder, &["--write"], "").transcript());
    assert_redacted!("a.md", read(&folder, "a.md"));
    let page = read(&folder, "inner/b.html");
    let (before, after) = page.split_once(" alt=\"A").unwrap();
    assert_eq!(before, "<!doctype html>\r\n<img src=\"../scene.png\"");
    assert!(after.ends_with("\">\r\n<img src=\"../scene.png\" alt=\"\">\r\n<p>end</p>"), "{after}");

    // A model that is not there would be an error: it is not loaded.
    let again = alt(&folder, &["--write", "--model", "nowhere"], "");
    assert_eq!((again.code, again.stdout.as_str(), again.stderr.as_str()), (Some(0), "", "no alt texts to add\n"));
}

#[test]
fn a_person_accepts_edits_and_refuses_alt_texts() {
    let folder = pages();
    let finished = alt(&folder, &["--review", "--write"], "y\nn\ne\nA thing & \"more\".\nq\n");
    assert_redacted!("ocelli alt DIR --review --write", finished.transcript());
    let page = read(&folder, "a.md");
    assert!(page.contains("![A rooster"), "{page}");
    assert!(page.contains("![](img/one%20thing.webp"), "{page}");
    assert!(page.contains("thing.webp\" alt=\"A thing &amp; &quot;more&quot;.\" width"), "{page}");
    assert_eq!(read(&folder, "inner/b.html"), HTML);
}

#[test]
fn a_review_without_write_shows_what_was_accepted() {
    let folder = pages();
    let finished = alt(&folder, &["--review", "--quiet"], "n\nn\nn\ny\n");
    assert_eq!(finished.code, Some(0));
    let headers = finished.stdout.lines().filter(|line| line.starts_with("+++")).collect::<Vec<_>>();
    assert_eq!(headers, ["+++ b[FOLDER]/inner/b.html"]);
    assert_eq!(read(&folder, "inner/b.html"), HTML);
}

#[test]
fn pictures_elsewhere_are_skipped_and_missing_ones_fail() {
    let folder = site();
    folder.write("a.md", "![](https://a.example/x.png)\n![]({{x}})\n<img src=\"data:image/gif;base64,R0lGOD\">\n");
    folder.write("b.md", "![](nowhere.png)\n![](/scene.png?v=1)\n![](b.md)\n");
    folder.write("c.html", b"<img src=\"caf\xe9.png\">");
    folder.write(".hidden/d.md", "![](nowhere.png)");
    assert_redacted!("ocelli alt DIR", alt(&folder, &[], "").transcript());
    let quiet = alt(&folder, &["--quiet"], "");
    assert_eq!(quiet.code, Some(1));
    assert!(quiet.stderr.lines().all(|line| line.starts_with("error: ")), "{}", quiet.stderr);
}

#[test]
fn a_root_says_where_names_with_a_slash_begin() {
    let folder = site();
    let page = folder.write("pages/a.md", "\u{feff}![](/scene.png)");
    let stdout =
        ocelli(["alt", "--write", "--root"].map(Into::into).into_iter().chain([folder.path().to_owned(), page]))
            .run()
            .stdout;
    assert!(stdout.contains("a.md:1: /scene.png: A rooster"), "{stdout}");
    assert!(read(&folder, "pages/a.md").starts_with("\u{feff}![A rooster"));
}

#[test]
fn what_is_no_document_is_an_error() {
    let folder = site();
    let huge = folder.path().join("huge.md");
    fs::File::create(&huge).unwrap().set_len((32 << 20) + 1).unwrap();
    let inner = folder.path().join("img");
    for (path, expected) in [
        (inner, "is a directory without Markdown or HTML files"),
        (folder.path().join("scene.png"), "is neither Markdown (.md, .markdown) nor HTML (.html, .htm) by its name"),
        (folder.path().join("nowhere.md"), "nowhere.md: cannot read it: "),
        (huge, "huge.md: larger than 32 MiB"),
    ] {
        let message = ocelli(["alt".into(), path]).run().failure(1);
        assert!(message.contains(expected), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn the_diff_is_one_that_patch_takes() {
    use std::process::{Command, Stdio};

    let folder = pages();
    fs::rename(folder.path().join("a.md"), folder.path().join("a page.md")).unwrap();
    let stdout = ocelli([std::path::Path::new("alt"), folder.path()]).run().stdout;
    let patch =
        Command::new("patch").args(["--binary", "-p1", "-d", "/"]).stdin(Stdio::piped()).stdout(Stdio::null()).spawn();
    // Where there is no `patch`, there is nothing to try.
    let Ok(mut patch) = patch else { return };
    std::io::Write::write_all(&mut patch.stdin.take().unwrap(), stdout.as_bytes()).unwrap();
    assert!(patch.wait().unwrap().success());
    let finished = alt(&folder, &["--model", "nowhere"], "");
    assert_eq!((finished.code, finished.stderr.as_str()), (Some(0), "no alt texts to add\n"));
}

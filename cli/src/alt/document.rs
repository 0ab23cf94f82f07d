//! Documents: which there are, what they hold, and their text with alt texts put in.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use ignore::WalkBuilder;
use similar::TextDiff;

use super::found::Found;
use super::{html, markdown};
use crate::files;

/// Larger files are no documents that people write.
const MAX_BYTES: u64 = 32 << 20;
const BYTE_ORDER_MARK: &str = "\u{feff}";

/// A Markdown or HTML file.
#[derive(Debug)]
pub struct Document {
    /// Where it is.
    pub path: PathBuf,
    /// What `/` at the beginning of the name of a picture means.
    pub root: PathBuf,
    /// Its pictures without alt text.
    pub found: Vec<Found>,
    text: String,
}

/// An alt text for a picture of a document.
#[derive(Clone, Debug)]
pub struct AltText<'a> {
    /// The picture.
    pub found: &'a Found,
    /// Its alt text, unescaped.
    pub text: String,
}

/// The documents that `paths` name, in their order, each once, and what is wrong with the others. Those in directories are in order of their names.
pub fn collect(paths: &[PathBuf], root: Option<&Path>) -> Vec<Result<Document, String>> {
    let mut places = Vec::new();
    for path in paths {
        if path.is_dir() {
            let before = places.len();
            walk(path, &mut places);
            if places.len() == before {
                places.push(Err(format!("{} is a directory without Markdown or HTML files", path.display())));
            }
        } else {
            places.push(Ok((path.clone(), parent(path))));
        }
    }
    let mut seen = HashSet::new();
    places.retain(|place| match place {
        Ok((path, _)) => seen.insert(fs::canonicalize(path).unwrap_or_else(|_| path.clone())),
        Err(_) => true,
    });
    let open = |(path, folder): (PathBuf, PathBuf)| Document::open(&path, root.unwrap_or(&folder));
    places.into_iter().map(|place| place.and_then(open)).collect()
}

/// Adds the documents of a directory, with the directory.
fn walk(folder: &Path, places: &mut Vec<Result<(PathBuf, PathBuf), String>>) {
    for entry in WalkBuilder::new(folder).sort_by_file_name(|a, b| a.cmp(b)).build() {
        match entry {
            Ok(entry) if entry.path().is_file() && finder(entry.path()).is_some() => {
                places.push(Ok((entry.into_path(), folder.to_owned())));
            }
            Ok(_) => {}
            Err(error) => places.push(Err(error.to_string())),
        }
    }
}

fn parent(path: &Path) -> PathBuf {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned()
}

type Finder = fn(&str) -> Result<Vec<Found>, lol_html::errors::RewritingError>;

/// What finds the pictures of a file of this name.
fn finder(path: &Path) -> Option<Finder> {
    match path.extension()?.to_str()?.to_ascii_lowercase().as_str() {
        "md" | "markdown" => Some(markdown::find),
        "html" | "htm" => Some(html::find),
        _ => None,
    }
}

impl Document {
    fn open(path: &Path, root: &Path) -> Result<Self, String> {
        let name = path.display();
        let finder = finder(path)
            .ok_or_else(|| format!("{name} is neither Markdown (.md, .markdown) nor HTML (.html, .htm) by its name"))?;
        let text = read(path).map_err(|reason| format!("{name}: {reason}"))?;
        let mark = if text.starts_with(BYTE_ORDER_MARK) { BYTE_ORDER_MARK.len() } else { 0 };
        let mut found = finder(&text[mark..]).map_err(|error| format!("{name}: cannot read its HTML: {error}"))?;
        for found in &mut found {
            found.start += mark;
            found.span = found.span.start + mark..found.span.end + mark;
        }
        Ok(Self { path: path.to_owned(), root: root.to_owned(), found, text })
    }

    /// The folder that it is in.
    pub fn folder(&self) -> PathBuf {
        parent(&self.path)
    }

    /// The lines of its pictures, from 1.
    pub fn lines(&self) -> Vec<usize> {
        let (mut line, mut at) = (1, 0);
        let mut lines = Vec::with_capacity(self.found.len());
        for found in &self.found {
            line += self.text[at..found.start].matches('\n').count();
            at = found.start;
            lines.push(line);
        }
        lines
    }

    /// The text with `alt_texts`, which are in their order; every other byte stays.
    fn with(&self, alt_texts: &[AltText<'_>]) -> String {
        let (mut text, mut at) = (String::with_capacity(self.text.len()), 0);
        for AltText { found, text: alt } in alt_texts {
            text.push_str(&self.text[at..found.span.start]);
            text.push_str(&found.syntax.written(alt));
            at = found.span.end;
        }
        text.push_str(&self.text[at..]);
        text
    }

    /// What `alt_texts` change, for `patch`.
    pub fn diff(&self, alt_texts: &[AltText<'_>]) -> String {
        let changed = self.with(alt_texts);
        // A carriage return alone ends no line for `patch`.
        let (old, new): (Vec<_>, Vec<_>) =
            (self.text.split_inclusive('\n').collect(), changed.split_inclusive('\n').collect());
        let diff = TextDiff::configure().newline_terminated(true).diff_slices(&old, &new);
        let path = self.path.strip_prefix(".").unwrap_or(&self.path).display().to_string();
        // A name with blanks ends with a tab there.
        let end = if path.contains(' ') { "\t" } else { "" };
        let path = format!("{}{end}", path.trim_start_matches('/'));
        diff.unified_diff().context_radius(3).header(&format!("a/{path}"), &format!("b/{path}")).to_string()
    }

    /// Writes the file with `alt_texts`, if it is still as it was read.
    pub fn write(&self, alt_texts: &[AltText<'_>]) -> Result<(), String> {
        let name = self.path.display();
        if read(&self.path).ok().as_ref() != Some(&self.text) {
            return Err(format!("{name} has changed since it was read, and is left as it is; run this again"));
        }
        files::write_whole(&self.path, self.with(alt_texts).as_bytes(), true)
            .map_err(|error| format!("cannot write {name}: {error}"))
    }
}

/// The text of a file, or why there is none.
fn read(path: &Path) -> Result<String, String> {
    let unreadable = |error: std::io::Error| format!("cannot read it: {error}");
    // Opening a pipe would wait for a writer.
    if !fs::metadata(path).map_err(unreadable)?.is_file() {
        return Err("not an ordinary file".to_owned());
    }
    let mut bytes = Vec::new();
    File::open(path).and_then(|file| file.take(MAX_BYTES + 1).read_to_end(&mut bytes)).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_BYTES {
        return Err(format!("larger than {} MiB", MAX_BYTES >> 20));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("not UTF-8, from byte {at} on; convert it first")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(path: &Path) -> Document {
        let [document] = collect(&[path.to_owned()], None).try_into().unwrap();
        document.unwrap()
    }

    fn alt_texts(document: &Document) -> Vec<AltText<'_>> {
        document.found.iter().map(|found| AltText { found, text: "A dog.".to_owned() }).collect()
    }

    #[test]
    fn a_file_that_has_changed_is_left_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.md");
        fs::write(&path, "![](x.png)").unwrap();
        let document = opened(&path);
        fs::write(&path, "![](x.png) ").unwrap();
        let message = document.write(&alt_texts(&document)).unwrap_err();
        assert!(message.contains("a.md has changed since it was read"), "{message}");
        assert_eq!(fs::read_to_string(&path).unwrap(), "![](x.png) ");
        fs::remove_file(&path).unwrap();
        assert!(document.write(&alt_texts(&document)).is_err());
    }

    #[test]
    fn lines_are_counted_and_byte_order_mark_and_line_ends_stay() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.md");
        fs::write(&path, "\u{feff}---\r\na: b\r\n---\r\n![](x.png) ![](y.png)\r\n\r\n<img src=z>").unwrap();
        let document = opened(&path);
        assert_eq!(document.lines(), [4, 4, 6]);
        document.write(&alt_texts(&document)).unwrap();
        let expected =
            "\u{feff}---\r\na: b\r\n---\r\n![A dog.](x.png) ![A dog.](y.png)\r\n\r\n<img src=z alt=\"A dog.\">";
        assert_eq!(fs::read_to_string(&path).unwrap(), expected);
    }

    #[test]
    fn a_document_is_read_once_however_often_it_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.md");
        fs::write(&path, "").unwrap();
        assert_eq!(collect(&[folder.path().to_owned(), path], None).len(), 1);
    }
}

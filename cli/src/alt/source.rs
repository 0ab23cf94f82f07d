//! From what a document calls a picture to its file.

use std::path::{Component, Path, PathBuf};

/// The file that `src` means in a document of `folder`, or where it was looked for last. What begins with `/` is below `root`.
pub fn resolve(src: &str, folder: &Path, root: &Path) -> Result<PathBuf, PathBuf> {
    let name = src.split(['?', '#']).next().unwrap_or_default();
    let decoded = percent_decoded(name);
    let mut last = PathBuf::new();
    // A file may have the name as it is written, `%` and `#` included.
    for name in [src, name, &decoded] {
        last = located(name, folder, root);
        if last.is_file() {
            return Ok(last);
        }
    }
    Err(last)
}

fn located(name: &str, folder: &Path, root: &Path) -> PathBuf {
    if !name.starts_with('/') {
        return folder.join(name);
    }
    // As in a browser, nothing is above the root.
    let mut below = PathBuf::new();
    for component in Path::new(name).components() {
        match component {
            Component::Normal(name) => below.push(name),
            Component::ParentDir => _ = below.pop(),
            Component::Prefix(_) | Component::RootDir | Component::CurDir => {}
        }
    }
    root.join(below)
}

/// `%20` and the like as characters; the text as it is where that gives no UTF-8.
fn percent_decoded(text: &str) -> String {
    let digit = |byte: &u8| char::from(*byte).to_digit(16);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let code = match rest {
            [b'%', high, low, ..] => {
                digit(high).zip(digit(low)).and_then(|(high, low)| u8::try_from(high * 16 + low).ok())
            }
            _ => None,
        };
        bytes.push(code.unwrap_or(*first));
        rest = if code.is_some() { &tail[2..] } else { tail };
    }
    String::from_utf8(bytes).unwrap_or_else(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_name_is_looked_for_as_written_and_then_decoded() {
        let folder = tempfile::tempdir().unwrap();
        let (root, pages) = (folder.path(), folder.path().join("pages"));
        fs::create_dir(&pages).unwrap();
        for name in ["pages/a b.png", "pages/100%25.png", "pages/x#1.png", "pages/é.png", "top.png"] {
            fs::write(root.join(name), "").unwrap();
        }
        for (src, expected) in [
            ("a b.png", "pages/a b.png"),
            ("a%20b.png", "pages/a b.png"),
            ("a%20b.png?v=2#top", "pages/a b.png"),
            ("100%25.png", "pages/100%25.png"),
            ("x#1.png", "pages/x#1.png"),
            ("x%231.png?", "pages/x#1.png"),
            ("%C3%A9.png", "pages/é.png"),
            ("../top.png", "pages/../top.png"),
            ("/top.png", "top.png"),
            ("/pages/../../../top.png", "top.png"),
            ("/%2e%2e/top.png", "top.png"),
        ] {
            assert_eq!(resolve(src, &pages, root), Ok(root.join(expected)), "{src}");
        }
    }

    #[test]
    fn a_name_without_a_file_says_where_it_was_looked_for() {
        let folder = tempfile::tempdir().unwrap();
        for (src, expected) in [
            ("a%20b.png?x", "a b.png"),
            ("%", "%"),
            ("%f", "%f"),
            ("%ff", "%ff"),
            ("%zz%+1", "%zz%+1"),
            ("é%41", "éA"),
            ("/..", ""),
        ] {
            assert_eq!(resolve(src, folder.path(), folder.path()), Err(folder.path().join(expected)), "{src}");
        }
    }
}

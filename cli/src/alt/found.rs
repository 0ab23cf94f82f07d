//! A picture without alt text in the text of a document, and how alt text is written there.

use std::fmt;
use std::ops::Range;

/// A picture without alt text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where the picture begins in the document.
    pub start: usize,
    /// The bytes that the alt text takes the place of; most often none.
    pub span: Range<usize>,
    /// How alt text is written there.
    pub syntax: Syntax,
    /// What the document calls the picture, entities decoded.
    pub src: String,
    /// Why there is nothing to caption.
    pub skipped: Option<Skipped>,
}

/// How alt text is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Syntax {
    /// Between the brackets of `![]`.
    Markdown,
    /// As an attribute.
    Html,
}

/// Why a picture is not captioned, which is no failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Skipped {
    /// It is on another machine, or inside the document.
    Remote,
    /// A template engine makes its name.
    Template,
    /// It has no `src`.
    Nameless,
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Remote => "not a file here",
            Self::Template => "made by a template",
            Self::Nameless => "no src",
        })
    }
}

impl Skipped {
    /// Why the picture that a document calls `src` is left out; `markup` is what a template engine may be at work in.
    pub fn of(src: &str, markup: &str) -> Option<Self> {
        if ["{{", "{%", "<%", "<?", "${"].iter().any(|mark| markup.contains(mark)) {
            Some(Self::Template)
        } else if src.trim().is_empty() {
            Some(Self::Nameless)
        } else if src.starts_with("//") || has_scheme(src) {
            Some(Self::Remote)
        } else {
            None
        }
    }
}

/// Whether a URL begins with a scheme, such as `https:` or `data:`.
fn has_scheme(url: &str) -> bool {
    url.split_once(':').is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

impl Syntax {
    /// What is put into the document for the alt text `text`, a single line.
    pub fn written(self, text: &str) -> String {
        match self {
            Self::Markdown => text.chars().map(markdown).collect(),
            Self::Html => format!(" alt=\"{}\"", text.chars().map(html).collect::<String>()),
        }
    }
}

/// What Markdown reads as this character. An escaped backtick would still end code that begins before it.
fn markdown(c: char) -> String {
    match c {
        '\\' | '[' | ']' | '*' | '_' | '~' | '|' | '^' | '$' => format!("\\{c}"),
        _ => html(c),
    }
}

/// What HTML reads as this character. No template begins with it, and inside Markdown no cell or code ends.
fn html(c: char) -> String {
    match c {
        '&' => "&amp;".to_owned(),
        '<' => "&lt;".to_owned(),
        '>' => "&gt;".to_owned(),
        '"' => "&quot;".to_owned(),
        '{' | '|' | '`' => format!("&#{};", u32::from(c)),
        _ => c.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_of_other_machines_and_templates_are_skipped() {
        for (src, expected) in [
            ("http://a.example/x.png", Some(Skipped::Remote)),
            ("HTTPS://a.example/x.png", Some(Skipped::Remote)),
            ("//a.example/x.png", Some(Skipped::Remote)),
            ("data:image/png;base64,AAAA", Some(Skipped::Remote)),
            ("file:///x.png", Some(Skipped::Remote)),
            ("{{url}}/x.png", Some(Skipped::Template)),
            ("{%asset x.png%}", Some(Skipped::Template)),
            ("<%=x%>.png", Some(Skipped::Template)),
            ("${x}.png", Some(Skipped::Template)),
            ("", Some(Skipped::Nameless)),
            (" ", Some(Skipped::Nameless)),
            ("x.png", None),
            ("/x.png", None),
            ("a/b:c.png", None),
            ("é:x.png", None),
        ] {
            assert_eq!(Skipped::of(src, src), expected, "{src}");
        }
    }

    #[test]
    fn alt_text_is_escaped_for_where_it_goes() {
        let text = r#"A "b" & <c> [d] *e* {{ f }} `g` | h."#;
        assert_eq!(
            Syntax::Html.written(text),
            r#" alt="A &quot;b&quot; &amp; &lt;c&gt; [d] *e* &#123;&#123; f }} &#96;g&#96; &#124; h.""#
        );
        assert_eq!(
            Syntax::Markdown.written(text),
            r"A &quot;b&quot; &amp; &lt;c&gt; \[d\] \*e\* &#123;&#123; f }} &#96;g&#96; \| h."
        );
    }
}

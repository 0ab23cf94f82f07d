//! What holds for every text: nothing panics, places are right, and what is written is read back.

use std::ops::Range;
use std::time::Instant;

use pulldown_cmark::{Event, Parser, Tag, TagEnd};

use super::found::{Found, Skipped, Syntax};
use super::{html, markdown};

/// An alt text with everything that markup means something by.
const ALT: &str =
    r#"A "b" & &amp; <c> `[d](e)` ]](f) *g* _h_ ~~i~~ \ {{ j }} | 'k' ![l] $m$ <img src=n> \| é #o > - p\"#;

const MARKDOWN: &[&str] = &[
    "![",
    "](x.png)",
    "![](x.png)",
    "![ ](y)",
    "[",
    "]",
    "(",
    ")",
    "`",
    "``",
    "*",
    "_",
    "<",
    ">",
    "\n",
    "\n\n",
    "> ",
    "- ",
    "\t",
    "    ",
    "1. ",
    "#",
    " ",
    "\\",
    "|",
    "| - |\n",
    "\r\n",
    "&",
    "é",
    "<img src=x>",
    "<img\n> src='x'>",
    "<img src=",
    "<div>",
    "</div>\n",
    "<!--",
    "-->",
    "<script>",
    "</script>",
    "---\n",
    "+++\n",
    "~~~\n",
    "[^1]",
    "[x]: y\n",
    "![][x]",
    "\"",
    "\0",
    "\u{feff}",
];
const HTML: &[&str] = &[
    "<img",
    "<img src=x",
    "<IMG ",
    " src=",
    "src",
    "x.png",
    "\"",
    "'",
    "=",
    ">",
    "/>",
    "/",
    "<",
    "</",
    " alt",
    " alt=\"\"",
    "<!--",
    "-->",
    "<script>",
    "</script>",
    "<svg>",
    "</svg>",
    "<template>",
    "<p ",
    "<![CDATA[",
    "]]>",
    "<?",
    "<!",
    "&amp;",
    "é",
    "\0",
    "\n",
    "\r",
    " ",
    "<textarea>",
    "</textarea>",
    "<select>",
    "<table>",
    "<plaintext",
];

/// Texts of up to `longest` of `pieces`, the same in every run.
fn texts(pieces: &[&str], count: usize, longest: u64) -> impl Iterator<Item = String> {
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    let mut below = move |limit: u64| {
        // xorshift
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state % limit
    };
    (0..count).map(move |_| (0..=below(longest)).map(|_| pieces[below(pieces.len() as u64) as usize]).collect())
}

/// `text` with [`ALT`] for the pictures that are to be captioned, and their places in it.
fn filled(text: &str, found: &[Found]) -> (String, Vec<Range<usize>>) {
    let (mut filled, mut at, mut places) = (String::new(), 0, Vec::new());
    for found in found.iter().filter(|found| found.skipped.is_none()) {
        assert!(found.start < found.span.start && at <= found.span.start, "{text:?}");
        filled.push_str(&text[at..found.span.start]);
        let start = filled.len();
        filled.push_str(&found.syntax.written(ALT));
        places.push(start..filled.len());
        at = found.span.end;
    }
    filled.push_str(&text[at..]);
    (filled, places)
}

fn reasons(found: &[Found]) -> Vec<Skipped> {
    found.iter().filter_map(|found| found.skipped).collect()
}

/// The alt texts of the Markdown pictures of a text.
fn markdown_alts(text: &str) -> Vec<String> {
    let (mut alts, mut depth) = (Vec::new(), 0);
    for event in Parser::new_ext(text, markdown::options()) {
        match event {
            Event::Start(Tag::Image { .. }) => {
                depth += 1;
                if depth == 1 {
                    alts.push(String::new());
                }
            }
            Event::End(TagEnd::Image) => depth -= 1,
            Event::Text(text) if depth > 0 => alts.last_mut().unwrap().push_str(&text),
            _ => {}
        }
    }
    alts
}

#[test]
fn alt_texts_in_html_are_read_back_and_nothing_else_changes() {
    let mut number = 0;
    for text in texts(HTML, 60_000, 12) {
        let found = html::find(&text).unwrap();
        let (changed, places) = filled(&text, &found);
        number += places.len();
        assert_eq!(html::find(&changed).unwrap().len(), reasons(&found).len(), "{text:?} {changed:?}");
    }
    assert!(number > 300, "{number}");
}

#[test]
fn alt_texts_in_markdown_are_read_back_and_nothing_else_changes() {
    let mut number = 0;
    for text in texts(MARKDOWN, 60_000, 12) {
        let found = markdown::find(&text).unwrap();
        let (changed, places) = filled(&text, &found);
        number += places.len();
        let again = markdown::find(&changed).unwrap();
        assert_eq!(reasons(&again), reasons(&found), "{text:?} {changed:?}");
        assert_eq!(again.len(), reasons(&found).len(), "{text:?} {changed:?}");
        let is_markdown = |found: &&Found| found.skipped.is_none() && found.syntax == Syntax::Markdown;
        let expected = found.iter().filter(is_markdown).count();
        let alts = markdown_alts(&changed);
        assert_eq!(alts.iter().filter(|alt| alt.trim() == ALT).count(), expected, "{text:?} {changed:?} {alts:?}");
    }
    assert!(number > 300, "{number}");
}

#[test]
fn markup_of_a_megabyte_takes_seconds() {
    let n = 1 << 20;
    let start = Instant::now();
    for piece in [
        "[",
        "![",
        "![](x)",
        "<img ",
        "<img src=x>",
        "<img src=\"",
        "\0",
        "<",
        "> ",
        "- ",
        "1. ",
        "[^1]:",
        "&",
        "`",
        "*a ",
        "<!--",
        "<div>\n",
        "&amp;",
        "| ",
    ] {
        let text = piece.repeat(n / piece.len());
        markdown::find(&text).unwrap();
        html::find(&text).unwrap();
    }
    let text = format!("<img src=\"{}\" {}>", "&".repeat(n), "a ".repeat(n));
    assert_eq!(html::find(&text).unwrap().len(), 1);
    assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
}

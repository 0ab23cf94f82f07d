//! Pictures without alt text in Markdown, and in the HTML inside it.

use std::ops::Range;

use lol_html::errors::RewritingError;
use pulldown_cmark::{Event, Options, Parser, Tag, TagEnd};

use super::found::{Found, Skipped, Syntax};
use super::html;

/// What is read as Markdown beside CommonMark.
pub(super) fn options() -> Options {
    Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_PLUSES_DELIMITED_METADATA_BLOCKS
}

/// The pictures of `text` whose alt text is empty, in their order.
pub fn find(text: &str) -> Result<Vec<Found>, RewritingError> {
    let mut found = Vec::new();
    let mut html = HtmlPieces { text, joined: String::new(), lines: Vec::new() };
    // The picture that the events are inside of, and those inside it.
    let (mut image, mut depth) = (None, 0);
    for (event, range) in Parser::new_ext(text, options()).into_offset_iter() {
        match event {
            Event::Start(Tag::Image { dest_url, .. }) => {
                depth += 1;
                image = (depth == 1).then(|| without_alt(text, range, &dest_url)).flatten();
            }
            Event::End(TagEnd::Image) => {
                depth -= 1;
                found.extend(image.take());
            }
            Event::Text(alt) if alt.trim().is_empty() => {}
            Event::SoftBreak | Event::HardBreak => {}
            Event::Html(piece) | Event::InlineHtml(piece) if depth == 0 => html.push(&piece, range),
            event => {
                // The picture has alt text.
                image = None;
                if ends_block(&event) {
                    html.find(&mut found)?;
                }
            }
        }
    }
    html.find(&mut found)?;
    found.sort_by_key(|found| found.start);
    Ok(found)
}

fn ends_block(event: &Event<'_>) -> bool {
    let inline = [TagEnd::Emphasis, TagEnd::Strong, TagEnd::Strikethrough, TagEnd::Link];
    matches!(event, Event::End(end) if !inline.contains(end))
}

/// The picture whose Markdown is at `range`.
fn without_alt(text: &str, range: Range<usize>, src: &str) -> Option<Found> {
    let inside = range.start + "![".len();
    let rest = text[range.clone()].strip_prefix("![")?;
    let blank = rest.len() - rest.trim_start_matches([' ', '\t']).len();
    // Blanks are replaced, but not the end of a line: the next may begin with what is not of the picture.
    let length = if rest[blank..].starts_with(']') { blank } else { 0 };
    Some(Found {
        start: range.start,
        span: inside..inside + length,
        syntax: Syntax::Markdown,
        src: src.to_owned(),
        skipped: Skipped::of(src, src),
    })
}

/// The HTML of a block. Its lines are not together in the document where the block is inside a quotation or list.
struct HtmlPieces<'a> {
    text: &'a str,
    joined: String,
    /// Where lines begin in `joined` and in the document.
    lines: Vec<(usize, usize)>,
}

impl HtmlPieces<'_> {
    /// A piece that was read from `range` of the document.
    fn push(&mut self, piece: &str, range: Range<usize>) {
        let mut start = range.start;
        let lines = self.text[range].split_inclusive('\n');
        for (line, source) in piece.split_inclusive('\n').zip(lines) {
            // What the document has before it belongs to the quotation.
            let before = source.len().saturating_sub(line.len());
            self.lines.push((self.joined.len(), start + before));
            self.joined.push_str(line);
            start += source.len();
        }
    }

    /// Finds the pictures of the pieces so far, and forgets the pieces.
    fn find(&mut self, found: &mut Vec<Found>) -> Result<(), RewritingError> {
        let pictures = if self.joined.is_empty() { Vec::new() } else { html::find(&self.joined)? };
        for picture in pictures {
            let (start, end) = (self.in_document(picture.start + 1) - 1, self.in_document(picture.span.start));
            found.push(Found { start, span: end..end, ..picture });
        }
        self.joined.clear();
        self.lines.clear();
        Ok(())
    }

    /// Where the document has what comes after the byte before `at`: the end of a line belongs to it, not to the next.
    fn in_document(&self, at: usize) -> usize {
        let line = self.lines.partition_point(|&(start, _)| start < at).saturating_sub(1);
        self.lines.get(line).map_or(at, |&(joined, source)| source + (at - joined))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document with `@` where alt texts go.
    fn marked(text: &str) -> String {
        let mut marked = text.to_owned();
        for found in find(text).unwrap().into_iter().rev().filter(|found| found.skipped.is_none()) {
            marked.replace_range(found.span, "@");
        }
        marked
    }

    #[test]
    fn alt_text_goes_between_the_brackets() {
        for expected in [
            "![@](x.png)",
            "a ![@](x.png \"title\") b ![@](<y z.png>) c",
            "![@][ref]\n\n[ref]: x.png",
            "[![@](x.png)](https://a.example)",
            "# ![@](x.png)",
            "**![@](x.png)**",
            "> - ![@](x.png)\n>   ![@](y.png)",
            "| a | b |\n| - | - |\n| ![@](x.png) | c |",
            "a[^1]\n\n[^1]: ![@](x.png)",
            "---\ntitle: a\n---\n![@](x.png)\n",
            "+++\ntitle = 'a'\n+++\n![@](x.png)\n",
            "a\r\n![@](x.png)\r\n",
            "é ![@](é.png)",
        ] {
            assert_eq!(marked(&expected.replace('@', "")), expected);
        }
        assert_eq!(marked("![ \t](x.png)"), "![@](x.png)", "blanks are replaced");
        assert_eq!(marked("> ![\n> ](x.png)"), "> ![@\n> ](x.png)", "but not the end of a line");
    }

    #[test]
    fn what_has_alt_text_or_is_no_picture_is_left_alone() {
        for text in [
            "![A dog.](x.png)",
            "![ref]\n\n[ref]: x.png",
            "![A dog.][ref]\n\n[ref]: x.png",
            "![`a`](x.png)",
            "![![](y.png)](x.png)",
            "![][nowhere]",
            "![]",
            "[](x.png)",
            "\\![](x.png)",
            "`![](x.png)`",
            "```\n![](x.png)\n<img src=\"x.png\">\n```",
            "    ![](x.png)",
            "---\nimage: ![](x.png)\n---\n",
            "`<img src=\"x.png\">`",
            "<div>\n![](x.png)\n</div>",
            "a <!-- <img src=\"x.png\"> --> b",
            "a <textarea><img src=\"x.png\"></textarea> b",
            "![](x.png",
            "",
        ] {
            assert_eq!(find(text).unwrap(), [], "{text}");
        }
    }

    #[test]
    fn html_inside_markdown_is_read_as_html() {
        for expected in [
            "<img src=\"x.png\"@>",
            "a <img src=\"x.png\"@> b <img src='y.png'@/> ![@](z.png) <img src=z@>",
            "<div>\n\n![@](x.png)\n\n<img src=\"y.png\"@>\n</div>",
            "<p\n><img\n  src=\"x.png\"@\n></p>",
            "> <div>\n> é <img\n> width=\"3\" src=\"x.png\"@>\n> <img src='y.png'@>",
            "> a <b> <img\n> width=3\n>   src=\"x.png\"@>\n> b",
            "- a\n  <div>\n  <img src=x.png@>\n  </div>\n- > <img src=y.png@>",
            "-\t<div>\n\t<img src=x.png@>\n\t\t<img src=y.png@>",
            "1. >\t<div>\n   >\t<img src=x.png@>\n   >\t\t<img src=y.png@>",
            "| a |\n| - |\n| <img src=\"x.png\"@> |",
            "> <div>\r\n> <img\r\n> src=\"x.png\"@>\r\n> a <b\r\n> c><img src='y.png'@>\r\n",
            "<!-- a\n\n<img src=x.png> -->\n\n<img src=x.png@>",
        ] {
            assert_eq!(marked(&expected.replace('@', "")), expected);
        }
    }

    #[test]
    fn what_is_not_captioned_has_a_reason() {
        for (text, reason) in [
            ("![](https://a.example/x.png)", Skipped::Remote),
            ("<img src=\"//a.example/x.png\">", Skipped::Remote),
            ("![]({{url}}/x.png)", Skipped::Template),
            ("![](<{% asset x.png %}>)", Skipped::Template),
            ("![]()", Skipped::Nameless),
        ] {
            let found = find(text).unwrap();
            assert_eq!(found.iter().map(|found| found.skipped).collect::<Vec<_>>(), [Some(reason)], "{text}");
        }
    }

    #[test]
    fn entities_and_escapes_in_destinations_are_decoded() {
        assert_eq!(find(r"![](a&amp;b\_c.png)").unwrap()[0].src, "a&b_c.png");
    }
}

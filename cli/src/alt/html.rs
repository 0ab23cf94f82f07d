//! Pictures without alt text in HTML.

use std::borrow::Cow;

use lol_html::errors::RewritingError;
use lol_html::html_content::{Attribute, Element};
use lol_html::{HtmlRewriter, Settings, element};
use pulldown_cmark::{Event, Parser};

use super::found::{Found, Skipped, Syntax};

/// The `<img>` of `text` without `alt`, in their order. Those that say that they are decoration are left out.
pub fn find(text: &str) -> Result<Vec<Found>, RewritingError> {
    let mut found = Vec::new();
    let image = element!("img", |image| {
        found.extend(without_alt(image, text));
        Ok(())
    });
    // What is ambiguous is read in one way; nothing but start tags matters here.
    let settings = Settings::new().with_strict(false).append_element_content_handler(image);
    let mut rewriter = HtmlRewriter::new(settings, |_: &[u8]| {});
    rewriter.write(text.as_bytes())?;
    rewriter.end()?;
    Ok(found)
}

fn without_alt(image: &Element<'_, '_>, text: &str) -> Option<Found> {
    let value = |name: &str| Some(image.get_attribute(name)?.trim().to_ascii_lowercase());
    let is_decoration = value("role").is_some_and(|role| ["presentation", "none"].contains(&role.as_str()))
        || value("aria-hidden").is_some_and(|hidden| hidden == "true");
    if image.has_attribute("alt") || is_decoration {
        return None;
    }
    let tag = image.source_location().bytes();
    let src = image.attributes().iter().find(|attribute| attribute.name() == "src");
    // After `src`, which is before a `/` that ends the tag; a tag without is skipped.
    let end = src.and_then(|src| end_of_value(src, text)).unwrap_or(tag.end);
    let src = src.map(|src| decode_entities(src.value().trim()).into_owned()).unwrap_or_default();
    let skipped = Skipped::of(&src, &text[tag.clone()]);
    Some(Found { start: tag.start, span: end..end, syntax: Syntax::Html, src, skipped })
}

/// Where the value of an attribute ends, with its quotation mark.
fn end_of_value(attribute: &Attribute<'_>, text: &str) -> Option<usize> {
    let value = attribute.value_source_location()?.bytes();
    let mark = text[..value.start].chars().next_back().filter(|mark| ['"', '\''].contains(mark));
    let is_quoted = mark.is_some_and(|mark| text[value.end..].starts_with(mark));
    Some(value.end + usize::from(is_quoted))
}

/// `&amp;` and the like as characters; Markdown has the same entities.
fn decode_entities(text: &str) -> Cow<'_, str> {
    if !text.contains('&') {
        return Cow::Borrowed(text);
    }
    let mut decoded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        decoded.push_str(&rest[..at]);
        rest = &rest[at..];
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '#';
        let length = 1 + rest[1..].find(|c| !is_name(c)).unwrap_or(rest.len() - 1);
        let end = if rest[length..].starts_with(';') { length + 1 } else { length };
        for event in Parser::new(&rest[..end]) {
            if let Event::Text(text) = event {
                decoded.push_str(&text);
            }
        }
        rest = &rest[end..];
    }
    decoded.push_str(rest);
    Cow::Owned(decoded)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The document with `@` where alt texts go, and why others are skipped.
    fn marked(text: &str) -> (String, Vec<Skipped>) {
        let (mut marked, mut skipped) = (text.to_owned(), Vec::new());
        for found in find(text).unwrap().into_iter().rev() {
            match found.skipped {
                Some(reason) => skipped.push(reason),
                None => marked.replace_range(found.span, "@"),
            }
        }
        (marked, skipped)
    }

    #[test]
    fn alt_text_goes_behind_src() {
        for expected in [
            r#"<p><img src="x.png"@></p>"#,
            r#"<img src="x.png"@ width="3" />"#,
            r#"<img class=a src='x.png'@/>"#,
            r#"<IMG SRC=x.png@ WIDTH=3>"#,
            r#"<img src=x.png@>"#,
            r#"<img src = "x.png"@width=3>"#,
            "<img\n  src=\"x.png\"@\n  title='a > b'\n>",
            r#"<picture><source srcset="x.webp"><img src="x.png"@></picture>"#,
            r#"<template><img src="x.png"@></template>"#,
            r#"<img src="x.png"@ src="y.png">"#,
            r#"<img src="x.png"@ data-alt="a" title="alt=">"#,
            "<img src=\"é&amp;x.png\"@>é",
            r#"<img src='"x".png'@>"#,
            r#"<img src="x.png"@ role="button" aria-hidden="false">"#,
            r#"<svg><img src="x.png"@></svg>"#,
        ] {
            let text = expected.replace('@', "");
            assert_eq!(marked(&text), (expected.to_owned(), vec![]), "{text}");
        }
    }

    #[test]
    fn what_has_alt_text_or_is_no_picture_is_left_alone() {
        for text in [
            r#"<img src="x.png" alt="A dog.">"#,
            r#"<img src="x.png" alt="">"#,
            r#"<img src="x.png" alt>"#,
            r#"<IMG ALT='' SRC=x.png>"#,
            r#"<img src="x.png" role="presentation">"#,
            r#"<img src="x.png" role=NONE>"#,
            r#"<img src="x.png" aria-hidden=" True ">"#,
            r#"<!-- <img src="x.png"> -->"#,
            r#"<script>"<img src='x.png'>"</script>"#,
            r#"<style><img src="x.png"></style>"#,
            r#"<textarea><img src="x.png"></textarea>"#,
            r#"<p title="<img src='x.png'>">"#,
            r#"<imgs src="x.png">"#,
            r#"&lt;img src="x.png">"#,
            r#"<img src="x.png""#,
            "<img",
            "<img src=",
            "",
        ] {
            assert_eq!(find(text).unwrap(), [], "{text}");
        }
    }

    #[test]
    fn what_is_not_captioned_has_a_reason() {
        for (text, reason) in [
            (r#"<img src="https://a.example/x.png">"#, Skipped::Remote),
            (r#"<img src="data:image/gif;base64,R0lGOD">"#, Skipped::Remote),
            (r#"<img src="{{ url }}/x.png">"#, Skipped::Template),
            (r#"<img src="x.png" {% if a %}alt-of="b"{% endif %}>"#, Skipped::Template),
            (r#"<img src="">"#, Skipped::Nameless),
            (r#"<img src>"#, Skipped::Nameless),
            (r#"<img srcset="x.png 2x">"#, Skipped::Nameless),
        ] {
            assert_eq!(marked(text), (text.to_owned(), vec![reason]), "{text}");
        }
    }

    #[test]
    fn entities_in_src_are_decoded() {
        for (value, expected) in [
            ("a&amp;b.png", "a&b.png"),
            ("a&#38;b&#x26;c&eacute;.png", "a&b&cé.png"),
            ("a&b=1&copy=2&;&nosuch;", "a&b=1&copy=2&;&nosuch;"),
            ("&", "&"),
            ("é&", "é&"),
        ] {
            assert_eq!(decode_entities(value), expected, "{value}");
        }
    }
}

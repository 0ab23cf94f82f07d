//! Texts put into an XMP packet: a list of edits, outside of which every byte stays.

use std::ops::Range;

use quick_xml::escape::partial_escape;

use super::SidecarText;
use super::error::Fault;
use super::field::{Field, PREFIXES, RDF};
use super::packet::Packet;
use super::property::{Alternatives, Form, Language, Tags};
use super::wellformed::is_allowed;

/// A packet without properties. The attribute `begin` holds a byte order mark, as Adobe's specification has it.
const EMPTY: &str = "<?xpacket begin=\"\u{feff}\" id=\"W5M0MpCehiHzreSzNTczkc9d\"?>
<x:xmpmeta xmlns:x=\"adobe:ns:meta/\">
 <rdf:RDF xmlns:rdf=\"http://www.w3.org/1999/02/22-rdf-syntax-ns#\">
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end=\"w\"?>
";

/// A part of the text, and what takes its place.
type Edit = (Range<usize>, String);

/// A new packet.
pub fn fresh(new: &SidecarText<'_>) -> Result<String, Fault> {
    Ok(merge(EMPTY, &Packet::parse(EMPTY)?, new))
}

/// The text of `packet` with our properties. Those that it has are changed in place, the others follow in a description of their own.
pub fn merge(text: &str, packet: &Packet, new: &SidecarText<'_>) -> String {
    let mut edits: Vec<Edit> = Vec::new();
    let mut missing = Vec::new();
    for field in Field::ALL {
        let allowed: String = field.value(new).chars().filter(|character| is_allowed(*character)).collect();
        let value = partial_escape(allowed).into_owned();
        let form = packet.properties.iter().find(|property| property.field == field).map(|property| &property.form);
        match form {
            None => missing.push((field, value)),
            Some(Form::Element(_, Some(alternatives))) if field.is_prose() && has_languages(alternatives) => {
                edits.push(default_replaced(text, alternatives, &value));
            }
            Some(Form::Element(tags, None)) if !field.is_prose() => edits.push(filled(text, tags, &value)),
            Some(Form::Attribute(range)) => {
                edits.push((range.clone(), String::new()));
                missing.push((field, value));
            }
            Some(Form::Element(tags, _)) => {
                let start = text[..tags.start.start].trim_ascii_end().len();
                edits.push((start..tags.end.end, String::new()));
                missing.push((field, value));
            }
        }
    }
    if !missing.is_empty() {
        edits.push(described(text, packet, &missing));
    }
    edits.sort_by_key(|(range, _)| range.start);
    spliced(text, &edits)
}

fn spliced(text: &str, edits: &[Edit]) -> String {
    let mut result = String::with_capacity(text.len() + edits.iter().map(|(_, new)| new.len()).sum::<usize>());
    let mut done = 0;
    for (range, new) in edits {
        result.push_str(&text[done..range.start]);
        result.push_str(new);
        done = range.end;
    }
    result.push_str(&text[done..]);
    result
}

fn has_languages(alternatives: &Alternatives) -> bool {
    alternatives.items.iter().any(|item| item.language != Language::Unmarked)
}

/// A new text for `x-default`; those of other languages stay.
fn default_replaced(text: &str, alternatives: &Alternatives, value: &str) -> Edit {
    let find = |language| alternatives.items.iter().find(|item| item.language == language);
    if let Some(item) = find(Language::Default) {
        return filled(text, &item.tags, value);
    }
    let prefix =
        name(text, &alternatives.tags).rsplit_once(':').map_or(String::new(), |(prefix, _)| format!("{prefix}:"));
    let item = format!("<{prefix}li xml:lang=\"x-default\">{value}</{prefix}li>");
    if let Some(unmarked) = find(Language::Unmarked) {
        return (unmarked.tags.range(), item);
    }
    // XMP wants it before the others.
    let start = alternatives.tags.start.end;
    let blank = text[start..].len() - text[start..].trim_ascii_start().len();
    (start..start, format!("{}{item}", &text[start..start + blank]))
}

/// A new text in an element.
fn filled(text: &str, tags: &Tags, value: &str) -> Edit {
    if !tags.is_self_closing() {
        return (tags.start.end..tags.end.start, value.to_owned());
    }
    let tag = &text[tags.start.clone()];
    let tag = tag.strip_suffix("/>").unwrap_or(tag);
    (tags.start.clone(), format!("{tag}>{value}</{}>", name(text, tags)))
}

/// The name in the tags, with its prefix.
fn name<'t>(text: &'t str, tags: &Tags) -> &'t str {
    let tag = &text[tags.start.start + 1..tags.start.end];
    &tag[..tag.find(|c: char| c.is_ascii_whitespace() || matches!(c, '/' | '>')).unwrap_or(tag.len())]
}

/// A new rdf:Description at the end of rdf:RDF.
fn described(text: &str, packet: &Packet, missing: &[(Field, String)]) -> Edit {
    let newline = if text.contains("\r\n") { "\r\n" } else { "\n" };
    let rdf = &packet.rdf;
    let before = &text[..if rdf.is_self_closing() { rdf.start.start } else { rdf.end.start }];
    let line = &before[before.rfind('\n').map_or(0, |at| at + 1)..];
    let indent = &line[..line.len() - line.trim_start_matches([' ', '\t']).len()];
    let has_own_line = indent.len() == line.len();

    let about = packet.about.clone().map_or("\"\"", |range| &text[range]);
    let mut lines = vec![format!("<rdf:Description rdf:about={about}")];
    if name(text, rdf) != "rdf:RDF" {
        lines.push(format!("  xmlns:rdf=\"{RDF}\""));
    }
    for (prefix, namespace) in PREFIXES {
        if missing.iter().any(|(field, _)| field.name().0 == prefix) {
            lines.push(format!("  xmlns:{prefix}=\"{namespace}\""));
        }
    }
    if let Some(last) = lines.last_mut() {
        last.push('>');
    }
    for (field, value) in missing {
        let (prefix, local) = field.name();
        if field.is_prose() {
            lines.push(format!(" <{prefix}:{local}>"));
            lines.push("  <rdf:Alt>".into());
            lines.push(format!("   <rdf:li xml:lang=\"x-default\">{value}</rdf:li>"));
            lines.push("  </rdf:Alt>".into());
            lines.push(format!(" </{prefix}:{local}>"));
        } else {
            lines.push(format!(" <{prefix}:{local}>{value}</{prefix}:{local}>"));
        }
    }
    lines.push("</rdf:Description>".into());
    let description = lines.join(&format!("{newline}{indent} "));

    if rdf.is_self_closing() {
        let tag = &text[rdf.start.clone()];
        let tag = tag.strip_suffix("/>").unwrap_or(tag);
        let new = format!("{tag}>{newline}{indent} {description}{newline}{indent}</{}>", name(text, rdf));
        return (rdf.start.clone(), new);
    }
    let lead = if has_own_line { " ".to_owned() } else { format!("{newline}{indent} ") };
    (rdf.end.start..rdf.end.start, format!("{lead}{description}{newline}{indent}"))
}

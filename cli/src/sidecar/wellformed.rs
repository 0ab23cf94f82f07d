//! What quick-xml leaves to its callers: characters, names, references and attributes that XML forbids.

use std::borrow::Cow;
use std::collections::HashSet;
use std::ops::Range;

use quick_xml::XmlVersion;
use quick_xml::events::BytesRef;
use quick_xml::events::attributes::Attributes;
use quick_xml::name::{NamespaceResolver, QName, ResolveResult};

/// Whether XML 1.0 allows the character.
pub fn is_allowed(character: char) -> bool {
    matches!(character, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// An attribute of a start tag.
pub struct Attribute<'t> {
    /// The URI of its namespace; empty where it has none.
    pub namespace: String,
    pub local: &'t str,
    /// The value, with its references resolved.
    pub value: Cow<'t, str>,
    /// Where it is in the text, with the whitespace before it.
    pub range: Range<usize>,
    /// Where its value is in the text, with the quotes.
    pub quoted: Range<usize>,
}

/// The attributes of the start tag at `tag`, with `name_length` bytes in its name; or what is wrong with them.
pub fn attributes<'t>(
    text: &'t str,
    tag: &Range<usize>,
    name_length: usize,
    resolver: &NamespaceResolver,
) -> Result<Vec<Attribute<'t>>, String> {
    let inside = text[tag.clone()].trim_start_matches('<');
    let inside = inside.strip_suffix("/>").or(inside.strip_suffix('>')).unwrap_or(inside);
    let mut found = Vec::new();
    let mut names = HashSet::new();
    // The reader's own check for repeated names takes quadratic time, and compares prefixes.
    for attribute in Attributes::new(inside, name_length).with_checks(false) {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let name = attribute.key.into_inner();
        check_name(name)?;
        let (namespace, local) = resolver.resolve_attribute(attribute.key);
        let (namespace, local) = (bound(namespace)?.to_owned(), attribute_local(local.into_inner(), name));
        if !names.insert((namespace.clone(), local)) {
            return Err(format!("the attribute {name} appears twice"));
        }
        let Cow::Borrowed(raw) = attribute.value else { return Err(format!("the attribute {name} cannot be read")) };
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| format!("the attribute {name}: {error}"))?;
        if raw.contains('<') || !value.chars().all(is_allowed) {
            return Err(format!("the attribute {name} has a character that must not be there"));
        }
        let (name_start, value_start) = (offset(text, name), offset(text, raw));
        let start = text[..name_start].trim_ascii_end().len();
        if start == name_start {
            return Err(format!("no space before the attribute {name}"));
        }
        let end = value_start + raw.len() + 1;
        found.push(Attribute { namespace, local, value, range: start..end, quoted: value_start - 1..end });
    }
    Ok(found)
}

/// The local part of the name, as a part of the text.
fn attribute_local<'t>(local: &str, name: &'t str) -> &'t str {
    &name[name.len() - local.len()..]
}

/// The URI of a namespace; empty where there is none.
pub fn bound(namespace: ResolveResult<'_>) -> Result<&str, String> {
    match namespace {
        ResolveResult::Bound(namespace) => Ok(namespace.0),
        ResolveResult::Unbound => Ok(""),
        ResolveResult::Unknown(prefix) => Err(format!("the prefix {prefix} is not declared")),
    }
}

/// Checks the ASCII characters of a name; of the others nearly all are allowed.
pub fn check_name(name: &str) -> Result<(), String> {
    let is_first = |c: char| c.is_ascii_alphabetic() || c == '_' || !c.is_ascii();
    let is_later = |c: char| is_first(c) || c.is_ascii_digit() || matches!(c, '-' | '.');
    let is_part = |part: &str| part.starts_with(is_first) && part.chars().all(is_later);
    let parts = QName(name).decompose();
    if is_part(parts.0.into_inner()) && parts.1.is_none_or(|prefix| is_part(prefix.into_inner())) {
        return Ok(());
    }
    Err(format!("{name:?} is not a name"))
}

/// The character that a reference in a text stands for. Without a DOCTYPE there are no other entities than XML's own five.
pub fn referenced(reference: &BytesRef<'_>) -> Result<char, String> {
    let character = match &**reference {
        "lt" => Some('<'),
        "gt" => Some('>'),
        "amp" => Some('&'),
        "apos" => Some('\''),
        "quot" => Some('"'),
        _ => reference.resolve_char_ref().ok().flatten().filter(|character| is_allowed(*character)),
    };
    character.ok_or_else(|| format!("&{}; stands for nothing", &**reference))
}

/// Where a part of the text starts.
fn offset(text: &str, part: &str) -> usize {
    part.as_ptr().addr() - text.as_ptr().addr()
}

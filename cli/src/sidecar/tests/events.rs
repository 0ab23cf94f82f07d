//! A second reading of XMP, which shares nothing with the first but quick-xml.

use std::collections::BTreeMap;

use quick_xml::NsReader;
use quick_xml::events::{BytesStart, Event};
use quick_xml::name::{QName, ResolveResult};

const RDF: &str = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}";
const OURS: [&str; 7] = [
    "{http://purl.org/dc/elements/1.1/}description",
    "{http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/}AltTextAccessibility",
    "{urn:ocelli:provenance:1.0:}model",
    "{urn:ocelli:provenance:1.0:}version",
    "{urn:ocelli:provenance:1.0:}mode",
    "{urn:ocelli:provenance:1.0:}prompt",
    "{urn:ocelli:provenance:1.0:}contentHash",
];

/// What a packet says.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Reading {
    /// Our properties by local name and, where there are alternatives, by language: `description x-default`.
    pub ours: BTreeMap<String, String>,
    /// Every event outside of them but whitespace, as text.
    pub others: Vec<String>,
}

/// Reads a packet.
pub fn read(text: &str) -> Reading {
    let mut reader = NsReader::from_str(text);
    reader.config_mut().expand_empty_elements = true;
    let mut reading = Reading::default();
    let mut path: Vec<String> = Vec::new();
    let mut language = String::new();
    loop {
        let event = reader.read_event().unwrap();
        let name = |name: QName<'_>, is_attribute: bool| {
            let (namespace, local) = if is_attribute {
                reader.resolver().resolve_attribute(name)
            } else {
                reader.resolver().resolve_element(name)
            };
            match namespace {
                ResolveResult::Bound(namespace) => format!("{{{}}}{}", namespace.0, local.into_inner()),
                _ => local.into_inner().to_owned(),
            }
        };
        let property = our_property(&path);
        match &event {
            Event::Eof => return reading,
            Event::Start(tag) => {
                path.push(name(tag.name(), false));
                if let Some(key) = our_property(&path) {
                    for attribute in tag.attributes().map(Result::unwrap) {
                        if name(attribute.key, true).ends_with("namespace}lang") {
                            language = format!(" {}", attribute.value);
                            reading.ours.entry(format!("{key}{language}")).or_default();
                        }
                    }
                } else {
                    let line = format!("<{}{}", path[path.len() - 1], attributes(tag, &path, &name, &mut reading.ours));
                    reading.others.push(line);
                }
            }
            Event::End(_) => {
                if property.is_none() {
                    reading.others.push(format!("</{}", path[path.len() - 1]));
                }
                path.pop();
                if path.last().is_some_and(|name| name.ends_with("}Alt")) {
                    language.clear();
                }
            }
            Event::Text(text) if property.is_some() => add(&mut reading.ours, property, &language, text),
            Event::CData(text) if property.is_some() => add(&mut reading.ours, property, &language, text),
            Event::GeneralRef(reference) if property.is_some() => {
                let raw = format!("&{};", &**reference);
                add(&mut reading.ours, property, &language, &quick_xml::escape::unescape(&raw).unwrap());
            }
            // A comment goes with the text that it is in.
            Event::Comment(_) if property.is_some() => {}
            Event::Text(text) if text.trim().is_empty() => {}
            // Not allowed there, but found there; the space around it is that of the elements.
            Event::Text(text)
                if path.last().is_some_and(|name| name.ends_with("}RDF") || name.ends_with("}Description")) =>
            {
                reading.others.push(text.trim().to_owned());
            }
            other => reading.others.push(format!("{other:?}")),
        }
    }
}

/// The local name of our property in which the path ends.
fn our_property(path: &[String]) -> Option<String> {
    let rdf = path.iter().position(|name| *name == format!("{RDF}RDF"))?;
    let property = path.get(rdf + 2).filter(|_| path[rdf + 1] == format!("{RDF}Description"))?;
    OURS.contains(&property.as_str()).then(|| property.rsplit_once('}').unwrap().1.to_owned())
}

fn add(ours: &mut BTreeMap<String, String>, property: Option<String>, language: &str, piece: &str) {
    if !piece.trim().is_empty() || ours.contains_key(&format!("{}{language}", property.as_ref().unwrap())) {
        ours.entry(format!("{}{language}", property.unwrap())).or_default().push_str(piece);
    }
}

/// The attributes as they are, but for ours on a description.
fn attributes(
    tag: &BytesStart<'_>,
    path: &[String],
    name: &impl Fn(QName<'_>, bool) -> String,
    ours: &mut BTreeMap<String, String>,
) -> String {
    let is_description = path.len() > 1
        && path[path.len() - 1] == format!("{RDF}Description")
        && path[path.len() - 2] == format!("{RDF}RDF");
    let mut text = String::new();
    for attribute in tag.attributes().map(Result::unwrap) {
        let key = name(attribute.key, true);
        if is_description && OURS.contains(&key.as_str()) {
            ours.insert(key.rsplit_once('}').unwrap().1.to_owned(), attribute.value.into_owned());
        } else {
            text += &format!(" {key}={:?}", attribute.value);
        }
    }
    text
}

/// Asserts that the packets differ by our properties alone, and by one description that holds nothing else.
pub fn assert_others_are_unchanged(before: &str, after: &str) {
    let (before, mut after) = (read(before).others, read(after).others);
    if after.len() == before.len() + 2 {
        let end = after.iter().rposition(|event| *event == format!("</{RDF}RDF")).unwrap();
        assert_eq!(after[end - 1], format!("</{RDF}Description"));
        let description = after.drain(end - 2..end).next().unwrap();
        assert!(description.starts_with(&format!("<{RDF}Description {RDF}about=")), "{description}");
        let is_declaration = |attribute: &str| attribute.starts_with("http://www.w3.org/2000/xmlns/}");
        assert!(description.split(" {").skip(2).all(is_declaration), "{description}");
    }
    assert_eq!(after, before);
}

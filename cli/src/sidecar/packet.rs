//! What an XMP packet holds of the properties that we write, and where in its text. Names are compared by namespace, never by prefix.

use std::ops::Range;

use quick_xml::NsReader;
use quick_xml::events::{BytesDecl, BytesStart, Event};

use super::error::Fault;
use super::field::{Field, RDF};
use super::property::{Alternatives, Form, Item, Language, Property, Tags, has_value};
use super::wellformed::{Attribute, attributes, bound, check_name, is_allowed, referenced};

/// More levels than any program nests.
const MAX_DEPTH: usize = 100;

/// What the packet holds.
#[derive(Debug)]
pub struct Packet {
    /// The element rdf:RDF.
    pub rdf: Tags,
    /// The value of rdf:about of its descriptions, with the quotes.
    pub about: Option<Range<usize>>,
    pub properties: Vec<Property>,
}

impl Packet {
    /// Reads the whole text, which has no byte order mark.
    pub fn parse(text: &str) -> Result<Self, Fault> {
        if let Some((at, character)) = text.char_indices().find(|(_, character)| !is_allowed(*character)) {
            return Err(broken(text, at, format!("XML has no character {character:?}")));
        }
        let mut reader = NsReader::from_str(text);
        reader.config_mut().check_comments = true;
        let mut scan = Scan { text, open: Vec::new(), has_root: false, rdf: None, about: None, properties: Vec::new() };
        loop {
            let start = reader.buffer_position() as usize;
            let event = reader
                .read_event()
                .map_err(|error| broken(text, reader.error_position() as usize, error.to_string()))?;
            let range = start..reader.buffer_position() as usize;
            if matches!(event, Event::Eof) {
                break;
            }
            scan.event(&event, range, &reader)?;
        }
        if let Some(level) = scan.open.last() {
            return Err(broken(text, text.len(), format!("it ends inside of the element {}", level.name)));
        }
        let rdf = scan.rdf.ok_or_else(|| Fault::Corrupt("it has no rdf:RDF".into()))?;
        Ok(Self { rdf, about: scan.about, properties: scan.properties })
    }

    /// Whether there is a caption or an alt text.
    pub fn has_text(&self) -> bool {
        self.properties.iter().any(|property| property.field.is_prose() && property.has_text)
    }
}

/// What an open element is to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Other,
    Rdf,
    Description,
    /// A property that we write.
    Property,
    Alternatives,
    Item,
    /// Anything else inside of such a property.
    Inside,
}

impl Role {
    /// Whether its text is that of a property that we write.
    fn is_in_property(self) -> bool {
        matches!(self, Self::Property | Self::Alternatives | Self::Item | Self::Inside)
    }
}

/// An element that is open.
struct Level<'t> {
    role: Role,
    name: &'t str,
}

struct Scan<'t> {
    text: &'t str,
    open: Vec<Level<'t>>,
    has_root: bool,
    rdf: Option<Tags>,
    about: Option<Range<usize>>,
    properties: Vec<Property>,
}

impl<'t> Scan<'t> {
    fn event(&mut self, event: &Event<'_>, range: Range<usize>, reader: &NsReader<&[u8]>) -> Result<(), Fault> {
        let start = range.start;
        match event {
            Event::Start(tag) | Event::Empty(tag) => {
                let level = self.element(tag, range, reader)?;
                if matches!(event, Event::Start(_)) {
                    self.open.push(level);
                }
            }
            Event::End(_) => self.close(range),
            Event::Text(text) if text.contains("]]>") => return Err(self.broken(start, "]]> in a text")),
            Event::Text(text) => self.count_text(start, text)?,
            Event::CData(_) | Event::GeneralRef(_) if self.open.is_empty() => {
                return Err(self.broken(start, "text outside of the document"));
            }
            Event::CData(text) => self.count_text(start, text)?,
            Event::GeneralRef(reference) => {
                let character = referenced(reference).map_err(|error| self.broken(start, &error))?;
                self.count_text(start, character.encode_utf8(&mut [0; 4]))?;
            }
            Event::Decl(declaration) => self.check_declaration(declaration, start)?,
            Event::DocType(_) => return Err(Fault::Unsupported("it has a DOCTYPE".into())),
            Event::Comment(_) | Event::PI(_) | Event::Eof => {}
        }
        Ok(())
    }

    /// Sees to a start tag.
    fn element(
        &mut self,
        tag: &BytesStart<'_>,
        range: Range<usize>,
        reader: &NsReader<&[u8]>,
    ) -> Result<Level<'t>, Fault> {
        let (text, start) = (self.text, range.start);
        let corrupt = |found: String| broken(text, start, found);
        let name_length = tag.name().into_inner().len();
        let name = &text[start + 1..start + 1 + name_length];
        check_name(name).map_err(corrupt)?;
        let (namespace, _) = reader.resolver().resolve_element(tag.name());
        let namespace = bound(namespace).map_err(corrupt)?;
        let attributes = attributes(text, &range, name_length, reader.resolver()).map_err(corrupt)?;
        if self.open.is_empty() && self.has_root {
            return Err(corrupt("a second root element".into()));
        }
        self.has_root = true;
        if self.open.len() >= MAX_DEPTH {
            return Err(Fault::Unsupported(format!("its elements are nested deeper than {MAX_DEPTH}")));
        }

        let local = name.rsplit_once(':').map_or(name, |(_, local)| local);
        let parent = self.open.last().map_or(Role::Other, |level| level.role);
        let field = if parent == Role::Description { Field::find(namespace, local) } else { None };
        let role = match (parent, local) {
            _ if field.is_some() => Role::Property,
            (_, "RDF") if namespace == RDF => Role::Rdf,
            (Role::Rdf, "Description") if namespace == RDF => Role::Description,
            (Role::Property, "Alt") if namespace == RDF => Role::Alternatives,
            (Role::Alternatives, "li") if namespace == RDF => Role::Item,
            (parent, _) if parent.is_in_property() => Role::Inside,
            _ => Role::Other,
        };
        let tags = Tags::opened(range);
        match role {
            Role::Rdf if self.rdf.is_some() => {
                return Err(Fault::Unsupported("it has more than one rdf:RDF".into()));
            }
            Role::Rdf => self.rdf = Some(tags),
            Role::Description => self.describe(attributes, start)?,
            Role::Property => {
                if let Some(field) = field {
                    self.add(field, has_value(&attributes), Form::Element(tags, None), start)?;
                }
            }
            Role::Alternatives | Role::Item | Role::Inside => self.nest(role, tags, &attributes, start)?,
            Role::Other => {}
        }
        Ok(Level { role, name })
    }

    /// Sees to the attributes of an rdf:Description.
    fn describe(&mut self, attributes: Vec<Attribute<'_>>, start: usize) -> Result<(), Fault> {
        for attribute in attributes {
            let is_blank = attribute.value.trim().is_empty();
            if let Some(field) = Field::find(&attribute.namespace, attribute.local) {
                self.add(field, !is_blank, Form::Attribute(attribute.range), start)?;
            } else if attribute.local == "about" && matches!(attribute.namespace.as_str(), RDF | "") {
                // They must all be equal, but some programs leave the later ones empty.
                if self.about.is_none() && !is_blank {
                    self.about = Some(attribute.quoted);
                }
            }
        }
        Ok(())
    }

    fn add(&mut self, field: Field, has_text: bool, form: Form, start: usize) -> Result<(), Fault> {
        if self.properties.iter().any(|property| property.field == field) {
            let (prefix, local) = field.name();
            return Err(self.broken(start, &format!("{prefix}:{local} appears twice")));
        }
        self.properties.push(Property { field, has_text, form });
        Ok(())
    }

    /// Adds an element inside of the latest property.
    fn nest(&mut self, role: Role, tags: Tags, attributes: &[Attribute<'_>], start: usize) -> Result<(), Fault> {
        let Some(Property { has_text, form: Form::Element(_, alternatives), .. }) = self.properties.last_mut() else {
            return Ok(());
        };
        *has_text |= has_value(attributes);
        match (role, alternatives) {
            (Role::Alternatives, Some(_)) => return Err(self.broken(start, "a second rdf:Alt in one property")),
            (Role::Alternatives, none) => *none = Some(Alternatives { tags, items: Vec::new() }),
            (Role::Item, Some(alternatives)) => {
                alternatives.items.push(Item { tags, language: Language::of(attributes) });
            }
            _ => {}
        }
        Ok(())
    }

    /// Sees to an end tag.
    fn close(&mut self, end: Range<usize>) {
        let Some(level) = self.open.pop() else { return };
        let tags = match (level.role, self.properties.last_mut().map(|property| &mut property.form)) {
            (Role::Rdf, _) => self.rdf.as_mut(),
            (Role::Property, Some(Form::Element(tags, _))) => Some(tags),
            (Role::Alternatives, Some(Form::Element(_, Some(alternatives)))) => Some(&mut alternatives.tags),
            (Role::Item, Some(Form::Element(_, Some(alternatives)))) => {
                alternatives.items.last_mut().map(|item| &mut item.tags)
            }
            _ => None,
        };
        if let Some(tags) = tags {
            tags.end = end;
        }
    }

    /// Sees to a piece of text.
    fn count_text(&mut self, start: usize, piece: &str) -> Result<(), Fault> {
        if piece.trim().is_empty() {
            return Ok(());
        }
        match (self.open.last(), self.properties.last_mut()) {
            (None, _) => return Err(self.broken(start, "text outside of the document")),
            (Some(level), Some(property)) => property.has_text |= level.role.is_in_property(),
            _ => {}
        }
        Ok(())
    }

    fn check_declaration(&self, declaration: &BytesDecl<'_>, start: usize) -> Result<(), Fault> {
        if start != 0 {
            return Err(self.broken(start, "the XML declaration is not at the beginning"));
        }
        match declaration.encoding() {
            Some(Ok(encoding)) if !encoding.eq_ignore_ascii_case("utf-8") => {
                Err(Fault::Unsupported(format!("its encoding is {encoding}, not UTF-8")))
            }
            Some(Err(error)) => Err(self.broken(start, &error.to_string())),
            _ => Ok(()),
        }
    }

    fn broken(&self, at: usize, found: &str) -> Fault {
        broken(self.text, at, found.to_owned())
    }
}

fn broken(text: &str, at: usize, found: String) -> Fault {
    let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
    Fault::Corrupt(format!("line {line}: {found}"))
}

//! A property of an XMP packet, and where it is in the text.

use std::ops::Range;

use super::field::{Field, RDF, XML};
use super::wellformed::Attribute;

/// An element, by its tags. The end tag of a self-closing one is empty, and after it.
#[derive(Debug)]
pub struct Tags {
    pub start: Range<usize>,
    pub end: Range<usize>,
}

impl Tags {
    /// An element of which the start tag has been read.
    pub fn opened(start: Range<usize>) -> Self {
        Self { end: start.end..start.end, start }
    }

    /// From its first to its last byte.
    pub fn range(&self) -> Range<usize> {
        self.start.start..self.end.end
    }

    /// Whether it is one tag, `<name/>`.
    pub fn is_self_closing(&self) -> bool {
        self.end.is_empty()
    }
}

/// A property that the packet has.
#[derive(Debug)]
pub struct Property {
    pub field: Field,
    /// Whether it says anything, in whatever form.
    pub has_text: bool,
    pub form: Form,
}

/// How a property is written.
#[derive(Debug)]
pub enum Form {
    /// As an attribute of rdf:Description: where it is, with the whitespace before it.
    Attribute(Range<usize>),
    /// As an element, perhaps with alternatives.
    Element(Tags, Option<Alternatives>),
}

/// An rdf:Alt.
#[derive(Debug)]
pub struct Alternatives {
    pub tags: Tags,
    pub items: Vec<Item>,
}

/// An rdf:li of it.
#[derive(Debug)]
pub struct Item {
    pub tags: Tags,
    pub language: Language,
}

/// The xml:lang of an rdf:li.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Language {
    /// `x-default`.
    Default,
    /// A language.
    Other,
    /// No xml:lang, which XMP does not allow.
    Unmarked,
}

impl Language {
    /// The language that the attributes of an rdf:li name.
    pub fn of(attributes: &[Attribute<'_>]) -> Self {
        match attributes.iter().find(|attribute| attribute.namespace == XML && attribute.local == "lang") {
            Some(attribute) if attribute.value.trim().eq_ignore_ascii_case("x-default") => Self::Default,
            Some(attribute) if !attribute.value.trim().is_empty() => Self::Other,
            _ => Self::Unmarked,
        }
    }
}

/// Whether an element says something by its attributes: RDF's short forms.
pub fn has_value(attributes: &[Attribute<'_>]) -> bool {
    attributes.iter().any(|attribute| {
        attribute.namespace == RDF
            && matches!(attribute.local, "value" | "resource")
            && !attribute.value.trim().is_empty()
    })
}

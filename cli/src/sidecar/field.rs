//! The properties that we write.

use super::SidecarText;

/// The namespace of RDF.
pub const RDF: &str = "http://www.w3.org/1999/02/22-rdf-syntax-ns#";
/// The namespace of xml:lang, whose prefix is always `xml`.
pub const XML: &str = "http://www.w3.org/XML/1998/namespace";
const DC: &str = "http://purl.org/dc/elements/1.1/";
const IPTC: &str = "http://iptc.org/std/Iptc4xmpCore/1.0/xmlns/";
const PROVENANCE: &str = "urn:ocelli:provenance:1.0:";

/// The prefixes of the names of [`Field::name`], and the namespaces that they stand for.
pub const PREFIXES: [(&str, &str); 3] = [("dc", DC), ("Iptc4xmpCore", IPTC), ("ocelli", PROVENANCE)];

/// A property that we write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Field {
    Description,
    AltText,
    Model,
    Version,
    Mode,
    Prompt,
    ContentHash,
}

impl Field {
    /// All of them, in the order in which they are written.
    pub const ALL: [Self; 7] =
        [Self::Description, Self::AltText, Self::Model, Self::Version, Self::Mode, Self::Prompt, Self::ContentHash];

    /// The usual prefix and the local name.
    pub fn name(self) -> (&'static str, &'static str) {
        match self {
            Self::Description => ("dc", "description"),
            Self::AltText => ("Iptc4xmpCore", "AltTextAccessibility"),
            Self::Model => ("ocelli", "model"),
            Self::Version => ("ocelli", "version"),
            Self::Mode => ("ocelli", "mode"),
            Self::Prompt => ("ocelli", "prompt"),
            Self::ContentHash => ("ocelli", "contentHash"),
        }
    }

    /// The field of a namespace and a local name.
    pub fn find(namespace: &str, local: &str) -> Option<Self> {
        let (prefix, _) = PREFIXES.into_iter().find(|(_, known)| *known == namespace)?;
        Self::ALL.into_iter().find(|field| field.name() == (prefix, local))
    }

    /// Whether people read it, so that it has a text for each language.
    pub fn is_prose(self) -> bool {
        matches!(self, Self::Description | Self::AltText)
    }

    /// What the field says.
    pub fn value<'a>(self, text: &SidecarText<'a>) -> &'a str {
        match self {
            Self::Description => text.caption,
            Self::AltText => text.alt_text,
            Self::Model => text.model,
            Self::Version => text.version,
            Self::Mode => text.mode,
            Self::Prompt => text.prompt,
            Self::ContentHash => text.content_hash,
        }
    }
}

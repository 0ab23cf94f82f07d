mod events;
mod files;
mod hostile;
mod merge;

use super::SidecarText;
use super::error::Fault;
use super::packet::Packet;
use super::xmp;

/// Sidecars as other programs write them.
const FIXTURES: [(&str, &str); 5] = [
    ("darktable", include_str!("../fixtures/darktable.xmp")),
    ("digikam", include_str!("../fixtures/digikam.xmp")),
    ("lightroom", include_str!("../fixtures/lightroom.xmp")),
    ("exiftool", include_str!("../fixtures/exiftool.xmp")),
    ("prefixes", include_str!("../fixtures/prefixes.xmp")),
];

const NEW: SidecarText<'static> = SidecarText {
    caption: "A red boat lies in the harbour, <left> of \"Anna & Co\".",
    alt_text: "A red boat in the harbour",
    model: "nano",
    version: "ocelli 0.1.0",
    mode: "balanced",
    prompt: "Describe the picture.",
    content_hash: "sha256:9f86d081884c7d65",
};

fn fixture(name: &str) -> &'static str {
    FIXTURES.iter().find(|(known, _)| *known == name).unwrap().1
}

/// The packet `text` with the texts of `new`, whatever it holds already.
fn merged(text: &str, new: &SidecarText<'_>) -> Result<String, Fault> {
    Ok(xmp::merge(text, &Packet::parse(text)?, new))
}

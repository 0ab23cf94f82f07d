use super::events::{assert_others_are_unchanged, read};
use super::*;

/// A description with a property in the place of `PROPERTY`, and an attribute in that of `ATTRIBUTE`.
const TEMPLATE: &str = r#"<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="some tool">
 <r:RDF xmlns:r="http://www.w3.org/1999/02/22-rdf-syntax-ns#" xmlns:d="http://purl.org/dc/elements/1.1/">
  <r:Description r:about="" xmlns:o="urn:ocelli:provenance:1.0:" d:format="image/jpeg" ATTRIBUTE d:source='a "b"'>
   <!-- before -->
   PROPERTY
   <d:title><r:Alt><r:li xml:lang="x-default">A &#8220;title&#x201d;<![CDATA[ & more]]></r:li></r:Alt></d:title>
  </r:Description>
 </r:RDF>
</x:xmpmeta>"#;

fn with_property(property: &str) -> String {
    TEMPLATE.replace("ATTRIBUTE ", "").replace("PROPERTY", property)
}

/// Merges, and checks what holds for every packet.
fn checked(before: &str, new: &SidecarText<'_>) -> String {
    let after = merged(before, new).unwrap();
    assert_others_are_unchanged(before, &after);
    let ours = read(&after).ours;
    let expected = [
        ("description x-default", new.caption),
        ("AltTextAccessibility x-default", new.alt_text),
        ("model", new.model),
        ("version", new.version),
        ("mode", new.mode),
        ("prompt", new.prompt),
        ("contentHash", new.content_hash),
    ];
    for (key, value) in expected {
        assert_eq!(ours[key], value, "{key}");
    }
    assert!(Packet::parse(&after).unwrap().has_text());
    // The second time every property has its place.
    let other = SidecarText { caption: "Another", alt_text: "One", prompt: "What?", ..*new };
    assert_eq!(merged(&after, new).unwrap(), after);
    assert_eq!(merged(&merged(&after, &other).unwrap(), new).unwrap(), after);
    after
}

#[test]
fn a_new_packet_is_complete() {
    let packet = xmp::fresh(&NEW).unwrap();
    assert_eq!(checked(&packet, &NEW), packet);
    insta::assert_snapshot!(packet.replace('\u{feff}', "[BOM]"));
}

#[test]
fn packets_of_other_programs_are_merged() {
    for (name, text) in FIXTURES {
        let after = checked(text, &NEW);
        insta::with_settings!({snapshot_suffix => name}, {
            insta::assert_snapshot!(similar::TextDiff::from_lines(text, &after).unified_diff().to_string());
        });
    }
}

#[test]
fn what_is_not_ours_stays_whatever_its_line_ends_and_indents() {
    for (_, text) in FIXTURES {
        checked(&text.replace('\n', "\r\n"), &NEW);
        checked(&text.replace("\n ", "\n\t"), &NEW);
        checked(&text.replace(">\n", ">").replace("> ", ">"), &NEW);
    }
}

#[test]
fn without_a_property_of_ours_the_packet_is_cut_at_one_place_alone() {
    let text = fixture("darktable").replace('\n', "\r\n");
    let after = checked(&text, &NEW);
    let at = text.find("</rdf:RDF>").unwrap();
    assert!(after.starts_with(&text[..at]) && after.ends_with(&text[at..]));
    assert!(!after.replace("\r\n", "").contains('\n'), "the line ends are those of the file");
}

#[test]
fn an_empty_property_counts_as_missing() {
    for property in [
        "<d:description/>",
        "<d:description></d:description>",
        "<d:description> <!-- none --> </d:description>",
        "<d:description><r:Alt/></d:description>",
        r#"<d:description><r:Alt><r:li xml:lang="x-default"/></r:Alt></d:description>"#,
        r#"<d:description><r:Alt><r:li xml:lang='x-default' /></r:Alt></d:description>"#,
        "<d:description><r:Alt><r:li xml:lang='x-default'>&#10;\n</r:li><r:li xml:lang='de'/></r:Alt></d:description>",
        r#"<d:description xmlns:d="http://purl.org/dc/elements/1.1/"><r:Bag><r:li/></r:Bag></d:description>"#,
    ] {
        let before = with_property(property);
        assert!(!Packet::parse(&before).unwrap().has_text(), "{property}");
        checked(&before, &NEW);
    }
    let before = TEMPLATE.replace("PROPERTY", "").replace("ATTRIBUTE", "d:description=' '");
    assert!(!Packet::parse(&before).unwrap().has_text());
    checked(&before, &NEW);
}

#[test]
fn a_text_is_found_and_replaced_in_any_form() {
    for property in [
        "<d:description>old</d:description>",
        "<d:description><![CDATA[old]]></d:description>",
        "<d:description>&lt;</d:description>",
        r#"<d:description xml:lang="x-default">old</d:description>"#,
        r#"<d:description r:value="old"/>"#,
        r#"<d:description r:resource="urn:old"/>"#,
        r#"<d:description r:parseType="Resource"><r:value>old</r:value></d:description>"#,
        "<d:description><r:Alt><r:li>old</r:li></r:Alt></d:description>",
        "<d:description><r:Bag><r:li>old</r:li><r:li>older</r:li></r:Bag></d:description>",
        r#"<d:description><r:Alt><r:li xml:lang="X-Default">o<!-- -->l&#100;</r:li></r:Alt></d:description>"#,
        r#"<d:description xmlns:q="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
            <q:Alt><q:li xml:lang="x-default">old</q:li></q:Alt></d:description>"#,
    ] {
        let before = with_property(property);
        assert!(Packet::parse(&before).unwrap().has_text(), "{property}");
        let after = merged(&before, &NEW).unwrap();
        assert_others_are_unchanged(&before, &after);
        let descriptions: Vec<_> =
            read(&after).ours.into_iter().filter(|(key, _)| key.starts_with("description")).collect();
        assert_eq!(descriptions.len(), 1, "{after}");
        assert_eq!(descriptions[0].1, NEW.caption);
        assert_eq!(merged(&after, &NEW).unwrap(), after);
    }
    let before = TEMPLATE.replace("PROPERTY", "").replace("ATTRIBUTE", "d:description=\"old\"\n  ");
    assert!(Packet::parse(&before).unwrap().has_text());
    assert!(!checked(&before, &NEW).contains("old"));
}

#[test]
fn other_languages_stay() {
    let german = r#"<r:li xml:lang="de">Ein <b xmlns="urn:b">Boot</b></r:li>"#;
    for (items, expected) in [
        (
            format!(r#"<r:li xml:lang="x-default">old</r:li> {german}"#),
            format!(r#"<r:li xml:lang="x-default">NEW</r:li> {german}"#),
        ),
        (format!(" {german} "), format!(r#" <r:li xml:lang="x-default">NEW</r:li> {german} "#)),
        (format!("{german}<r:li>old</r:li>"), format!(r#"{german}<r:li xml:lang="x-default">NEW</r:li>"#)),
    ] {
        let wrap = |items: &str| with_property(&format!("<d:description><r:Alt>{items}</r:Alt></d:description>"));
        let after = checked(&wrap(&items), &SidecarText { caption: "NEW", ..NEW });
        assert!(after.starts_with(wrap(&expected).split("  </r:Description>").next().unwrap()), "{after}");
    }
}

#[test]
fn provenance_of_an_earlier_run_is_replaced() {
    let before = with_property("<o:model>old</o:model><o:mode/>");
    assert!(!Packet::parse(&before).unwrap().has_text());
    let after = checked(&before, &NEW);
    assert!(after.contains("<o:model>nano</o:model><o:mode>balanced</o:mode>"), "{after}");
    // As Adobe's programs write it when they save the file again.
    let before = TEMPLATE.replace("PROPERTY", "").replace("ATTRIBUTE", "o:model='old' o:prompt=''");
    assert!(!checked(&before, &NEW).contains("old"));
}

#[test]
fn packets_without_a_description_are_merged() {
    let rdf = "xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'";
    for before in [
        format!("<rdf:RDF {rdf}/>"),
        format!("<rdf:RDF {rdf} ></rdf:RDF >"),
        format!("<x:xmpmeta xmlns:x='adobe:ns:meta/'>\n\t<rdf:RDF {rdf} />\n</x:xmpmeta>"),
        format!("<rdf:RDF {rdf}>\n<rdf:Description rdf:about='' /></rdf:RDF>"),
        "<RDF xmlns='http://www.w3.org/1999/02/22-rdf-syntax-ns#'/>".into(),
        "<r:RDF xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#' xmlns:rdf='urn:other'/>".into(),
    ] {
        checked(&before, &NEW);
    }
}

#[test]
fn the_new_description_is_about_the_same_thing() {
    let after = merged(fixture("exiftool"), &NEW).unwrap();
    assert_eq!(after.matches("rdf:about='uuid:faf5bdd5-ba3d-11da-ad31-d33d75182f1b'").count(), 3);
    let after = merged(&with_property("").replace("r:about=\"\"", "r:about='a&amp;&quot;'"), &NEW).unwrap();
    assert!(after.contains("<rdf:Description rdf:about='a&amp;&quot;'"), "{after}");
}

#[test]
fn characters_that_xml_forbids_are_dropped() {
    let new = SidecarText { caption: "a\u{0}\u{8}\u{b}b\u{1f}\u{fffe}\tc\r\nd ]]> \u{1f418}", ..NEW };
    let ours = read(&xmp::fresh(&new).unwrap()).ours;
    assert_eq!(ours["description x-default"], "ab\tc\r\nd ]]> \u{1f418}");
}

use super::events::assert_others_are_unchanged;
use super::*;

/// Merging never panics, changes nothing that is not ours, and what it makes can be merged again.
fn assert_merges_or_fails(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(after) = merged(text, &NEW) {
        assert_others_are_unchanged(text, &after);
        assert!(Packet::parse(&after).is_ok_and(|packet| packet.has_text()), "{text}\n{after}");
    }
}

#[test]
fn a_packet_that_ends_too_early_is_an_error() {
    for (name, text) in FIXTURES {
        let end = text.rfind("</").unwrap();
        for at in (0..end).filter(|at| text.is_char_boundary(*at)) {
            assert!(merged(&text[..at], &NEW).is_err(), "{name} cut at {at}");
        }
    }
}

#[test]
fn a_packet_with_a_byte_of_another_kind_is_merged_or_refused() {
    for (_, text) in FIXTURES {
        for at in 0..text.len() {
            for byte in *b"<>/\"&: " {
                let mut bytes = text.as_bytes().to_vec();
                bytes[at] = byte;
                assert_merges_or_fails(&bytes);
            }
            let mut bytes = text.as_bytes().to_vec();
            bytes.remove(at);
            assert_merges_or_fails(&bytes);
        }
    }
}

#[test]
fn what_is_not_xml_is_refused() {
    let rdf = "xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#'";
    let dc = "xmlns:d='http://purl.org/dc/elements/1.1/'";
    let packet = |inside: &str| format!("<r:RDF {rdf}>{inside}</r:RDF>");
    let cases = [
        String::new(),
        "\n".into(),
        "not XML".into(),
        "<a><b></a></b>".into(),
        "<r:RDF/>".into(),
        "<a/><a/>".into(),
        "<a/>text".into(),
        "<a/>&amp;".into(),
        "<a/><![CDATA[]]>".into(),
        "\n<?xml version='1.0'?><a/>".into(),
        packet("<>"),
        packet("<1a/>"),
        packet("<a<b/>"),
        packet("<a:b:c xmlns:a='urn:a'/>"),
        packet("<a b/>"),
        packet("<a b=c/>"),
        packet("<a b='<'/>"),
        packet("<a b='&c;'/>"),
        packet("<a b='&#1;'/>"),
        packet("<a b='1'c='2'/>"),
        packet("<a b='1' b='2'/>"),
        packet("<a xmlns:p='urn:a' xmlns:q='urn:a' p:b='1' q:b='2'/>"),
        packet("<a p:b='1'/>"),
        packet("<p:a/>"),
        packet("&nbsp;"),
        packet("&#0;"),
        packet("& "),
        packet("]]>"),
        packet("<!-- a -- b -->"),
        packet("<!-->"),
        packet("<![CDATA["),
        packet("<![CDATA]]>"),
        packet("<?"),
        packet("\u{1}"),
        packet("\n\n\u{fffe}"),
        packet(&format!("<r:Description {dc} d:description='a'><d:description>b</d:description></r:Description>")),
        packet(&format!("<r:Description {dc}><d:description><r:Alt/><r:Alt/></d:description></r:Description>")),
    ];
    let mut found = String::new();
    for case in cases {
        match merged(&case, &NEW) {
            Err(Fault::Corrupt(fault)) => found += &format!("{:?}\n    {fault}\n", case.replace(rdf, "..")),
            other => panic!("{case}: {other:?}"),
        }
    }
    insta::assert_snapshot!(found);
}

#[test]
fn many_attributes_and_properties_take_no_quadratic_time() {
    let many: String = (0..200_000).map(|index| format!(" a{index}=''")).collect();
    let rdf = "xmlns:r='http://www.w3.org/1999/02/22-rdf-syntax-ns#'";
    assert!(merged(&format!("<r:RDF {rdf}{many}/>"), &NEW).is_ok());
    assert!(merged(&format!("<r:RDF {rdf}>{}</r:RDF>", "<a/>".repeat(500_000)), &NEW).is_ok());
}

use super::*;
use serde_json::{Value, json};

/// A tokenizer of single bytes, as byte-level vocabularies spell them, after the special tokens of the bundled model.
pub(crate) struct ByteTokenizer {
    pub(crate) tokenizer: Tokenizer,
}

const SPECIAL_TOKENS: [&str; 7] =
    ["<pad>", "<bos>", "<turn_start>", "<turn_end>", "<image_start>", "<image_end>", "<image>"];

/// The characters that stand for the bytes 0..=255 in a byte-level vocabulary: printable ones for themselves, the others from U+0100 on.
fn byte_characters() -> Vec<char> {
    let is_printable = |byte: u8| matches!(byte, 0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff);
    let mut others = 0x100..;
    (0..=255)
        .map(
            |byte: u8| {
                if is_printable(byte) { char::from(byte) } else { char::from_u32(others.next().unwrap()).unwrap() }
            },
        )
        .collect()
}

pub(crate) fn tokenizer_json() -> Value {
    let mut vocabulary = serde_json::Map::new();
    for (id, token) in SPECIAL_TOKENS.iter().enumerate() {
        vocabulary.insert((*token).into(), json!(id));
    }
    for (byte, character) in byte_characters().into_iter().enumerate() {
        vocabulary.insert(character.into(), json!(byte + SPECIAL_TOKENS.len()));
    }
    let added: Vec<Value> = SPECIAL_TOKENS
        .iter()
        .enumerate()
        .map(|(id, token)| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true})
        })
        .collect();
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    json!({
        "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
        "pre_tokenizer": byte_level, "post_processor": null, "decoder": byte_level,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null, "end_of_word_suffix": null,
                  "fuse_unk": false, "byte_fallback": false, "ignore_merges": false, "vocab": vocabulary, "merges": []}
    })
}

pub(crate) fn byte_tokenizer() -> ByteTokenizer {
    ByteTokenizer { tokenizer: Tokenizer::from_bytes(tokenizer_json().to_string().as_bytes()).unwrap() }
}

impl ByteTokenizer {
    pub(crate) fn bytes(&self, bytes: &[u8]) -> Vec<u32> {
        bytes.iter().map(|&byte| u32::from(byte) + SPECIAL_TOKENS.len() as u32).collect()
    }
}

#[test]
fn special_tokens_in_a_template_are_tokens_and_in_user_text_are_characters() {
    let tokenizer = byte_tokenizer();
    for (id, token) in SPECIAL_TOKENS.iter().enumerate() {
        let text = format!("a{token}b");
        let special = tokenizer.tokenizer.encode(&text, Markup::Special).unwrap();
        assert_eq!(special, [tokenizer.bytes(b"a"), vec![id as u32], tokenizer.bytes(b"b")].concat());
        assert_eq!(tokenizer.tokenizer.encode(&text, Markup::Plain).unwrap(), tokenizer.bytes(text.as_bytes()));
    }
}

#[test]
fn any_text_comes_back_as_it_went_in() {
    let tokenizer = byte_tokenizer();
    for text in ["", "\0", "a\0b", "\u{202e}שלום", "e\u{301}", "👩‍👩‍👧‍👦", "\u{fffd}", " \n\t ", "<turn_end>"]
    {
        let ids = tokenizer.tokenizer.encode(text, Markup::Plain).unwrap();
        assert_eq!(tokenizer.tokenizer.decode(&ids).unwrap(), text);
    }
}

#[test]
fn ten_megabytes_are_encoded_in_linear_time() {
    let tokenizer = byte_tokenizer();
    let words = "Describe the picture. ".repeat(10_000_000 / 22);
    assert_eq!(tokenizer.tokenizer.encode(&words, Markup::Plain).unwrap(), tokenizer.bytes(words.as_bytes()));
    let one_word = "é".repeat(500_000);
    assert_eq!(tokenizer.tokenizer.encode(&one_word, Markup::Plain).unwrap(), tokenizer.bytes(one_word.as_bytes()));
}

#[test]
fn ids_without_a_token_decode_to_nothing() {
    let tokenizer = byte_tokenizer();
    assert_eq!(tokenizer.tokenizer.decode(&[u32::MAX, 5000]).unwrap(), "");
}

#[test]
fn an_embedding_smaller_than_the_vocabulary_is_refused_and_a_larger_one_is_not() {
    let tokenizer = byte_tokenizer().tokenizer;
    assert_eq!(tokenizer.num_ids(), 263);
    tokenizer.check_vocab_size(263).unwrap();
    tokenizer.check_vocab_size(1024).unwrap();
    let error = tokenizer.check_vocab_size(262).unwrap_err();
    assert!(error.to_string().contains("262, but vocab_size in config.json is 262"), "{error}");
}

#[test]
fn bytes_that_are_no_tokenizer_are_an_error() {
    let deep = "[".repeat(1_000_000);
    let mut wrong_type = tokenizer_json();
    wrong_type["model"]["vocab"] = json!([1, 2]);
    for content in ["", "hello", "null", "{}", &deep, &wrong_type.to_string()] {
        let error = Tokenizer::from_bytes(content.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Tokenizer);
        assert!(error.to_string().len() < 300, "{error}");
    }
}

#[test]
fn an_added_token_that_would_move_up_is_refused() {
    let mut json = tokenizer_json();
    json["added_tokens"].as_array_mut().unwrap().push(json!({
        "id": 300, "content": "<late>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true
    }));
    let error = Tokenizer::from_bytes(json.to_string().as_bytes()).unwrap_err();
    assert_eq!(error.kind(), crate::ErrorKind::Tokenizer);
    assert!(error.to_string().contains("`<late>` has id 300") && error.to_string().contains("263"), "{error}");
}

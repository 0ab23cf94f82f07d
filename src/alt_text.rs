//! Captions as alt texts of web pages: short, one line, without "An image of".

/// Most characters of an alt text: what screen readers are said to read in one piece.
pub const ALT_TEXT_MAX_CHARS: usize = 125;

// What captions begin with before they come to the point, such as "This is" "a" "picture" "of".
const DEMONSTRATIVES: &[&str] = &["this is", "here is"];
const ARTICLES: &[&str] = &["an", "a", "the", "this"];
const NOUNS: &[&str] = &["image", "picture", "photograph", "photo"];
const VERBS: &[&str] = &[
    "of",
    "shows",
    "showing",
    "depicts",
    "depicting",
    "displays",
    "displaying",
    "features",
    "featuring",
    "captures",
    "capturing",
    "contains",
    "containing",
    "presents",
    "presenting",
];
/// What may stand before the caption with a colon.
const LABELS: &[&str] = &["alt text", "alt", "caption", "description", "image", "picture", "photograph", "photo"];
const QUOTES: &[(char, char)] = &[('"', '"'), ('\'', '\''), ('`', '`'), ('“', '”'), ('‘', '’'), ('«', '»')];
/// Words that say nothing at the end of a text that was cut.
const DANGLING: &[&str] = &[
    "a", "an", "the", "this", "that", "its", "their", "his", "her", "and", "or", "but", "of", "in", "on", "at", "to",
    "by", "for", "from", "with", "under", "above", "over", "into", "near", "behind", "beside", "between", "as", "is",
    "are", "which", "who", "while",
];
/// Words whose full stop ends no sentence.
const ABBREVIATIONS: &[&str] = &["st", "mr", "mrs", "ms", "dr", "vs", "no", "jr", "sr", "e.g", "i.e"];

/// The alt text that a caption makes: one line of at most [`ALT_TEXT_MAX_CHARS`] characters that ends like a sentence.
///
/// "An image of" and the like are removed, and quotation marks around the whole. Of a longer caption the first sentences that fit
/// are kept; if the first is too long itself, it is cut after a clause or a word. Nothing becomes nothing.
///
/// ```
/// assert_eq!(ocelli::alt_text("This image shows two dogs\non a red background"), "Two dogs on a red background.");
/// ```
pub fn alt_text(caption: &str) -> String {
    let is_space = |c: char| c.is_whitespace() || c.is_control();
    let line = caption.split(is_space).filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ");
    let mut text = line.as_str();
    loop {
        let shorter = without_introduction(without_quotes(text));
        if shorter.len() == text.len() {
            break;
        }
        text = shorter;
    }
    let text = capitalized(text);
    let whole = as_sentence(&text);
    if whole.chars().count() <= ALT_TEXT_MAX_CHARS { whole } else { as_sentence(beginning(&text)) }
}

/// The first letter as a capital.
fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    let Some(first) = chars.next() else { return String::new() };
    // A letter stays whose capital is two letters, or one of another script.
    let capital = first
        .to_uppercase()
        .next()
        .filter(|upper| first.to_uppercase().len() == 1 && upper.is_ascii() == first.is_ascii());
    [capital.unwrap_or(first)].into_iter().chain(chars).collect()
}

/// Without quotation marks around all of it.
fn without_quotes(text: &str) -> &str {
    let inner = QUOTES.iter().find_map(|&(open, close)| {
        let inner = text.strip_prefix(open)?.strip_suffix(close)?;
        (!inner.contains([open, close])).then_some(inner)
    });
    inner.unwrap_or(text).trim()
}

/// Without "An image of", "Alt text:" and the like, if something comes after it.
fn without_introduction(text: &str) -> &str {
    let labelled = || one_of(LABELS, text)?.trim_start().strip_prefix(':');
    let introduced = || {
        let rest = one_of(DEMONSTRATIVES, text).unwrap_or(text);
        one_of(VERBS, without_noun(rest)?)
    };
    let placed = || without_noun(one_of(&["in"], text)?)?.strip_prefix(',');
    let rest = labelled().or_else(introduced).or_else(placed);
    let rest = rest.map(|rest| rest.trim_start_matches([' ', ':', ',']));
    rest.filter(|rest| rest.contains(char::is_alphanumeric)).unwrap_or(text)
}

/// What comes after "a picture", "this photo" and the like.
fn without_noun(text: &str) -> Option<&str> {
    let text = text.trim_start();
    let text = one_of(ARTICLES, text).unwrap_or(text).trim_start();
    one_of(NOUNS, text).map(str::trim_start)
}

/// What comes after the first of `words` that `text` begins with, in any case.
fn one_of<'a>(words: &[&str], text: &'a str) -> Option<&'a str> {
    words.iter().find_map(|word| {
        let (head, rest) = text.split_at_checked(word.len())?;
        (head.eq_ignore_ascii_case(word) && !rest.starts_with(char::is_alphanumeric)).then_some(rest)
    })
}

fn ends_sentence(c: char) -> bool {
    matches!(c, '.' | '!' | '?' | '。' | '！' | '？')
}

/// With a full stop, if nothing else ends it.
fn as_sentence(text: &str) -> String {
    if text.ends_with(ends_sentence) {
        return text.to_owned();
    }
    let text = text.trim_end_matches([' ', ',', ';', ':', '-', '–', '—', '…']);
    if text.is_empty() { String::new() } else { format!("{text}.") }
}

/// As much of a text that is too long as fits, with room for a full stop.
fn beginning(text: &str) -> &str {
    let end_of = |max_chars| text.char_indices().nth(max_chars).map_or(text.len(), |(at, _)| at);
    if let Some(end) = last_sentence_end(text, end_of(ALT_TEXT_MAX_CHARS)) {
        return &text[..end];
    }
    let end = end_of(ALT_TEXT_MAX_CHARS - 1);
    let head = &text[..end];
    let is_clause = |&at: &usize| head[..at].chars().count() >= ALT_TEXT_MAX_CHARS / 2;
    if let Some(at) = [", ", "; "].iter().filter_map(|mark| head.rfind(mark)).max().filter(is_clause) {
        return &head[..at];
    }
    let words = if text[end..].starts_with(' ') { Some(head) } else { head.rfind(' ').map(|at| &head[..at]) };
    words.map_or_else(|| whole_graphemes(text, end), without_dangling_words)
}

/// Where the last sentence ends of those that are within the first `limit` bytes and that others follow.
fn last_sentence_end(text: &str, limit: usize) -> Option<usize> {
    let end = text[..limit].char_indices().rev().filter(|&(_, c)| ends_sentence(c)).find(|&(at, c)| {
        let rest = &text[at + c.len_utf8()..];
        let is_last = rest.starts_with(' ') && !rest.trim_start().starts_with(char::is_lowercase);
        let word = text[..at].rsplit(' ').next().unwrap_or_default();
        let is_short = word.chars().count() == 1 || ABBREVIATIONS.iter().any(|known| word.eq_ignore_ascii_case(known));
        !c.is_ascii() || is_last && !(c == '.' && is_short)
    });
    end.map(|(at, c)| at + c.len_utf8())
}

/// Without articles, prepositions and the like at the end, if another word is left.
fn without_dangling_words(text: &str) -> &str {
    let mut rest = text;
    while let Some((before, last)) = rest.rsplit_once(' ') {
        if !DANGLING.iter().any(|word| word.eq_ignore_ascii_case(last)) {
            return rest;
        }
        rest = before;
    }
    if DANGLING.iter().any(|word| word.eq_ignore_ascii_case(rest)) { text } else { rest }
}

/// The first `end` bytes of `text`, or fewer in order not to part a letter from its marks.
fn whole_graphemes(text: &str, end: usize) -> &str {
    let is_start = |&(at, c): &(usize, char)| at > 0 && !is_joined(c) && !text[..at].ends_with('\u{200d}');
    let start = text.char_indices().take_while(|&(at, _)| at <= end).filter(is_start).last();
    start.map_or(&text[..end], |(at, _)| &text[..at])
}

/// Whether a character belongs to the one before: combining marks, variation selectors, skin tones, joiners.
fn is_joined(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}' | '\u{200d}'
        | '\u{20d0}'..='\u{20ff}' | '\u{fe00}'..='\u{fe0f}' | '\u{fe20}'..='\u{fe2f}' | '\u{1f3fb}'..='\u{1f3ff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_alt_text_does_not_say_that_it_is_about_a_picture() {
        for (caption, expected) in [
            ("An image of a dog.", "A dog."),
            ("a picture showing two cats", "Two cats."),
            ("This photo shows a red car.", "A red car."),
            ("The image depicts: a rooster.", "A rooster."),
            ("A PHOTOGRAPH OF a house", "A house."),
            ("Photo of an owl", "An owl."),
            ("This is a picture of a photo of a tree.", "A tree."),
            ("In this image, there is a dog.", "There is a dog."),
            ("Picture: a dog!", "A dog!"),
            ("Alt text: \"A dog.\"", "A dog."),
            ("“An image of a dog”", "A dog."),
        ] {
            assert_eq!(alt_text(caption), expected, "{caption}");
        }
    }

    #[test]
    fn what_only_looks_like_an_introduction_stays() {
        for caption in [
            "An image offers a view.",
            "A picture hangs on the wall.",
            "Photographs of dogs.",
            "In the garden, a dog.",
            "\"Stop\" and \"go\" signs?",
            "An image of.",
            "A dog holds the image of a cat.",
        ] {
            assert_eq!(alt_text(caption), caption);
        }
    }

    #[test]
    fn an_alt_text_is_one_line_that_ends_like_a_sentence() {
        for (caption, expected) in [
            ("", ""),
            (" \n\t ", ""),
            ("\"\"", ""),
            ("  a dog\r\n\r\non   a\u{a0}mat ,", "A dog on a mat."),
            ("A dog\0and a cat…", "A dog and a cat."),
            ("一只狗。", "一只狗。"),
        ] {
            assert_eq!(alt_text(caption), expected, "{caption:?}");
        }
    }

    #[test]
    fn whole_sentences_are_kept_while_they_fit() {
        let long = "It stands on a checkered floor of black and white tiles, in front of a long row of many tall green trees and a house.";
        assert_eq!(alt_text(&format!("A dog. A cat! {long}")), "A dog. A cat!");
        let bernard = format!("A St. Bernard dog. {long}");
        assert_eq!(alt_text(&bernard), "A St. Bernard dog.");
    }

    #[test]
    fn a_long_sentence_is_cut_after_a_clause_or_a_word() {
        let clause =
            format!("{}, {}", "A rooster stands on a wall beside a blue and green tractor by the barn", "x".repeat(99));
        assert_eq!(alt_text(&clause), "A rooster stands on a wall beside a blue and green tractor by the barn.");
        let words = format!("{} and the dog", "A dog is on the mat".repeat(6));
        assert_eq!(words.chars().count(), 126);
        assert!(alt_text(&words).ends_with("on the mat."), "{}", alt_text(&words));
    }

    #[test]
    fn a_letter_keeps_its_marks_when_a_word_is_cut() {
        let text = alt_text(&format!("{}e\u{301}\u{302}xyz", "A".repeat(122)));
        assert_eq!(text, format!("{}.", "A".repeat(122)));
        assert_eq!(alt_text(&"\u{301}".repeat(300)).chars().count(), ALT_TEXT_MAX_CHARS);
    }

    fn captions() -> impl Strategy<Value = String> {
        let pieces = prop_oneof![
            prop::sample::select(
                [
                    DEMONSTRATIVES,
                    ARTICLES,
                    NOUNS,
                    VERBS,
                    LABELS,
                    ABBREVIATIONS,
                    &[". ", ", ", ":", "\"", "'", "ı", "ß", "…"]
                ]
                .concat()
            )
            .prop_map(str::to_owned),
            "\\PC{0,12}",
            "[a-z]{1,9}",
            any::<String>(),
        ];
        prop::collection::vec(pieces, 0..40)
            .prop_flat_map(|pieces| prop_oneof![Just(pieces.join(" ")), Just(pieces.concat())])
    }

    proptest! {
        #[test]
        fn every_alt_text_fits_ends_like_a_sentence_and_is_its_own(caption in captions()) {
            let text = alt_text(&caption);
            prop_assert!(text.chars().count() <= ALT_TEXT_MAX_CHARS, "{text}");
            prop_assert!(text.is_empty() || text.ends_with(ends_sentence), "{text}");
            prop_assert_eq!(alt_text(&text), text);
        }
    }
}

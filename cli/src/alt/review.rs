//! Asking a person about alt texts, one by one.

use std::io::{self, BufRead, Write};

/// What a person is asked about.
#[derive(Clone, Debug)]
pub struct Question {
    /// The document, the line and the picture.
    pub about: String,
    /// The alt text.
    pub text: String,
}

enum Answer {
    Yes,
    No,
    Edited(String),
    All,
    Quit,
}

/// Asks each of `questions` on `output` and reads the answers from `input`, which are lines. Gives the accepted texts, none for
/// the others. The end of the answers is `quit`.
pub fn review(
    questions: &[Question],
    input: &mut impl BufRead,
    output: &mut impl Write,
) -> io::Result<Vec<Option<String>>> {
    let mut accepted = Vec::with_capacity(questions.len());
    for (at, question) in questions.iter().enumerate() {
        accepted.push(match ask(question, input, output)? {
            Answer::Yes => Some(question.text.clone()),
            Answer::No => None,
            Answer::Edited(text) => Some(text),
            Answer::All => {
                accepted.extend(questions[at..].iter().map(|question| Some(question.text.clone())));
                break;
            }
            Answer::Quit => break,
        });
    }
    accepted.resize(questions.len(), None);
    Ok(accepted)
}

/// Asks until there is an answer.
fn ask(question: &Question, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<Answer> {
    writeln!(output, "{}\n  {}", question.about, question.text)?;
    loop {
        let Some(answer) = reply("[y]es, [n]o, [e]dit, [a]ll, [q]uit? ", input, output)? else {
            return Ok(Answer::Quit);
        };
        match answer.to_lowercase().as_str() {
            "y" | "yes" => return Ok(Answer::Yes),
            "n" | "no" => return Ok(Answer::No),
            "a" | "all" => return Ok(Answer::All),
            "q" | "quit" => return Ok(Answer::Quit),
            "e" | "edit" => match reply("alt text: ", input, output)? {
                Some(text) if !text.is_empty() => return Ok(Answer::Edited(text)),
                _ => {}
            },
            _ => {}
        }
    }
}

/// The next line of `input` without what is no text; none at its end.
fn reply(prompt: &str, input: &mut impl BufRead, output: &mut impl Write) -> io::Result<Option<String>> {
    write!(output, "{prompt}")?;
    output.flush()?;
    let mut line = Vec::new();
    if input.read_until(b'\n', &mut line)? == 0 {
        writeln!(output)?;
        return Ok(None);
    }
    let line = String::from_utf8_lossy(&line);
    let words = line.split(|c: char| c.is_whitespace() || c.is_control()).filter(|word| !word.is_empty());
    Ok(Some(words.collect::<Vec<_>>().join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(answers: &str) -> (Vec<Option<String>>, String) {
        let question = |text: &str| Question { about: format!("a.md:1: {text}.png"), text: text.to_owned() };
        let questions = ["one", "two", "three"].map(question);
        let mut output = Vec::new();
        let accepted = review(&questions, &mut answers.as_bytes(), &mut output).unwrap();
        (accepted, String::from_utf8(output).unwrap())
    }

    #[test]
    fn each_answer_does_what_it_says() {
        for (answers, expected) in [
            ("y\nn\ny\n", [Some("one"), None, Some("three")]),
            ("YES\r\nNo\r\n yes \r\n", [Some("one"), None, Some("three")]),
            ("n\na\n", [None, Some("two"), Some("three")]),
            ("y\nq\ny\n", [Some("one"), None, None]),
            ("y\n", [Some("one"), None, None]),
            ("", [None, None, None]),
            ("e\n A  new\tone. \nn\nn\n", [Some("A new one."), None, None]),
            ("what?\n\ny\nq", [Some("one"), None, None]),
            ("e\n\ny\nq\n", [Some("one"), None, None]),
            ("e\n", [None, None, None]),
        ] {
            assert_eq!(answered(answers).0, expected.map(|text| text.map(str::to_owned)), "{answers:?}");
        }
    }

    #[test]
    fn a_question_shows_place_picture_and_text() {
        assert_eq!(answered("q\n").1, "a.md:1: one.png\n  one\n[y]es, [n]o, [e]dit, [a]ll, [q]uit? ");
    }
}

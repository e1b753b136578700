//! A model's answer: the thinking apart from what follows it, and the turn that puts them together again.
//!
//! Logs hold answers with `<think>` tags inside. The collection stores reasoning and response as two columns
//! and trains on `"<think>\n" + reasoning + "</think>" + response`.

use memchr::memmem;

/// An answer taken apart. The two slices are the text between and after the tags, unchanged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer<'a> {
    /// The text between `<think>` and `</think>`, without the line break after the opening tag.
    pub reasoning: Option<&'a str>,
    /// What follows the thinking.
    pub response: &'a str,
}

const OPEN: &str = "<think>";
const CLOSE: &str = "</think>";

/// Takes an answer apart. Thinking counts only at the start: a tag inside a program is the program's.
///
/// An answer whose opening tag was in the prompt starts with the reasoning and has the closing tag only; it
/// is recognised by a closing tag with no opening tag before it. A tag that never closes is a cut answer: all
/// of it is reasoning.
pub fn split(answer: &str) -> Answer<'_> {
    let body = answer.trim_start();
    if let Some(thinking) = body.strip_prefix(OPEN) {
        let thinking = thinking.strip_prefix('\n').unwrap_or(thinking);
        return match thinking.split_once(CLOSE) {
            Some((reasoning, response)) => Answer { reasoning: present(reasoning), response },
            None => Answer { reasoning: present(thinking), response: "" },
        };
    }
    // Answers are long, and most of them have no tag.
    let close = memmem::find(answer.as_bytes(), CLOSE.as_bytes());
    match close.map(|at| (&answer[..at], &answer[at + CLOSE.len()..])) {
        Some((reasoning, response)) if !reasoning.contains(OPEN) && !reasoning.contains("```") => {
            Answer { reasoning: present(reasoning), response }
        }
        _ => Answer { reasoning: None, response: answer },
    }
}

fn present(text: &str) -> Option<&str> {
    (!text.trim().is_empty()).then_some(text)
}

/// The assistant turn of an example: the reasoning in its tags, then the response.
///
/// Exact form from the released rows of the Finch Collection (arXiv 2606.29082). Without reasoning the turn
/// is the response alone.
pub fn assistant_turn(reasoning: Option<&str>, response: &str) -> String {
    match reasoning {
        Some(reasoning) => format!("{OPEN}\n{reasoning}{CLOSE}{response}"),
        None => response.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(answer: &str, reasoning: Option<&str>, response: &str) {
        assert_eq!(split(answer), Answer { reasoning, response }, "{answer:?}");
    }

    #[test]
    fn thinking_is_split_off() {
        check("plain", None, "plain");
        check("<think>\nhm\n</think>\n\ncode", Some("hm\n"), "\n\ncode");
        check("  <think>hm</think>x", Some("hm"), "x");
        check("<think>\n\n</think>\n\nx", None, "\n\nx");
        check("hm\n</think>\nx", Some("hm\n"), "\nx");
        check("<think>cut", Some("cut"), "");
    }

    #[test]
    fn tags_inside_a_program_are_the_programs() {
        let answer = "```python\nprint('</think>')\n```";
        check(answer, None, answer);
        let answer = "see <think>x</think>";
        check(answer, None, answer);
    }

    #[test]
    fn the_turn_is_the_collections() {
        assert_eq!(assistant_turn(Some("hm\n"), "\n\nx"), "<think>\nhm\n</think>\n\nx");
        assert_eq!(assistant_turn(None, "x"), "x");
    }
}

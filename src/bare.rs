//! Code without what only people read: comments and blank lines. Two programs that are equal without are one program
//! with other notes.
//!
//! Comments are found by tree-sitter's grammars, because what looks like one may stand in a string. A text that does not
//! parse under its language's grammar (the label may be wrong, and `a // b` is a comment in C++ and a division in
//! Python), or that takes too long, stays as it is: it is better to miss a pair than to make one of strangers.

use std::cell::Cell;
use std::ops::{ControlFlow, Range};

use tree_sitter::{Language, Node, ParseOptions, ParseState, Parser};

/// Texts beyond this are not parsed, in bytes: a tree takes many times the memory of its text.
const LONGEST: usize = 256 << 10;
/// How often a parser may read a text. Grammars look ahead and go back; some texts make that quadratic. Bytes, not
/// seconds: the same text must give the same on every machine.
const READINGS: usize = 32;
/// Bytes that a parser gets at once, so that what it reads again is seen.
const CHUNK: usize = 1 << 10;

/// Removes comments and blank lines; one for each thread.
#[derive(Default)]
pub struct Strip {
    parser: Option<Parser>,
}

impl Strip {
    /// The code without comments and blank lines, where the language is Python, C++ or Rust and the code parses.
    pub fn bare(&mut self, code: &str, language: &str) -> String {
        let found = grammar(language).and_then(|grammar| self.parse(code, &grammar));
        found.map_or_else(|| code.to_owned(), |found| without(code, &found))
    }

    fn parse(&mut self, code: &str, grammar: &Language) -> Option<Found> {
        if code.len() > LONGEST {
            return None;
        }
        let parser = self.parser.get_or_insert_default();
        parser.set_language(grammar).ok()?;
        parser.reset();
        let (bytes, mut steps) = (code.as_bytes(), 1000 + code.len());
        let room = Cell::new(CHUNK * 64 + code.len() * READINGS);
        let mut count = |state: &ParseState| {
            steps = steps.saturating_sub(1);
            // A tree with an error is of no use, and most of the work on hostile texts is to mend one.
            match state.has_error() || steps == 0 || room.get() == 0 {
                true => ControlFlow::Break(()),
                false => ControlFlow::Continue(()),
            }
        };
        let options = ParseOptions::new().progress_callback(&mut count);
        let mut read = |at: usize, _| {
            let left = bytes.get(at..).unwrap_or_default();
            let chunk = &left[..left.len().min(CHUNK).min(room.get())];
            room.set(room.get() - chunk.len());
            chunk
        };
        let tree = parser.parse_with_options(&mut read, None, Some(options))?;
        (room.get() > 0 && !tree.root_node().has_error()).then(|| Found::of(tree.root_node()))
    }
}

/// The grammar of a language, by the words that scaffolds have for it.
fn grammar(language: &str) -> Option<Language> {
    Some(match language.to_ascii_lowercase().as_str() {
        "python" | "python3" | "py" => tree_sitter_python::LANGUAGE.into(),
        "c++" | "cpp" | "cc" | "cxx" | "c" => tree_sitter_cpp::LANGUAGE.into(),
        "rust" | "rs" => tree_sitter_rust::LANGUAGE.into(),
        _ => return None,
    })
}

/// What matters in a program, as bytes of its text, in order.
#[derive(Default)]
struct Found {
    comments: Vec<Range<usize>>,
    /// Strings: a blank line in one is a part of it.
    strings: Vec<Range<usize>>,
}

impl Found {
    fn of(root: Node<'_>) -> Self {
        let mut found = Self::default();
        let mut cursor = root.walk();
        'all: loop {
            let node = cursor.node();
            let is_leaf = match node.kind() {
                "comment" | "line_comment" | "block_comment" => {
                    found.comments.push(node.byte_range());
                    true
                }
                "string" | "string_literal" | "raw_string_literal" | "char_literal" => {
                    found.strings.push(node.byte_range());
                    true
                }
                _ => false,
            };
            if !is_leaf && cursor.goto_first_child() {
                continue;
            }
            while !cursor.goto_next_sibling() {
                if !cursor.goto_parent() {
                    break 'all;
                }
            }
        }
        found
    }
}

fn without(code: &str, found: &Found) -> String {
    let mut out = String::with_capacity(code.len());
    let (mut comments, mut strings) = (found.comments.iter().peekable(), found.strings.iter().peekable());
    let mut start = 0;
    for line in code.split_inclusive('\n') {
        let end = start + line.len();
        let length = out.len();
        let (mut at, mut is_cut) = (start, false);
        while let Some(comment) = comments.peek().filter(|comment| comment.start < end) {
            if comment.end > start {
                out.push_str(&code[at..comment.start.clamp(at, end)]);
                (at, is_cut) = (comment.end.clamp(at, end), true);
                // What it stood between stays apart, and no second blank shows that it was there.
                let rest = &code[at..end];
                if out[length..].is_empty() || out.ends_with(' ') {
                    at += rest.len() - rest.trim_start_matches(' ').len();
                } else if !rest.starts_with([' ', '\n']) {
                    out.push(' ');
                }
            }
            if comment.end > end {
                break;
            }
            comments.next();
        }
        // A comment of Rust's documentation ends behind its line.
        out.push_str(&code[at..end]);
        while strings.next_if(|string| string.end <= start).is_some() {}
        let is_in_string = strings.peek().is_some_and(|string| string.start < start);
        let kept = out[length..].trim_end().len();
        if kept == 0 && !is_in_string {
            out.truncate(length);
        } else if is_cut {
            out.truncate(length + kept);
            out.push('\n');
        }
        start = end;
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(language: &str, code: &str, expected: &str) {
        assert_eq!(Strip::default().bare(code, language), expected, "{language}: {code}");
    }

    #[test]
    fn comments_go_and_what_looks_like_one_stays() {
        check(
            "python",
            "# first\n\nx = 1  # one\ns = '# no'\n\n\ndef f():\n    # in it\n    return x // 2\n",
            "x = 1\ns = '# no'\ndef f():\n    return x // 2\n",
        );
        check(
            "cpp",
            "// first\nint a; /* b */ int c;\nconst char* s = \"// no\";\n/* two\nlines */\nint d;\n",
            "int a; int c;\nconst char* s = \"// no\";\nint d;\n",
        );
        check(
            "rust",
            "/// Says.\nfn f() -> u8 {\n    // nothing\n    b'/' /* a /* nested */ one */\n}\n",
            "fn f() -> u8 {\n    b'/'\n}\n",
        );
    }

    #[test]
    fn a_blank_line_of_a_string_stays() {
        let code = "s = '''one\n\n\ntwo'''\n\nt = 1\n";
        check("python", code, "s = '''one\n\n\ntwo'''\nt = 1\n");
    }

    #[test]
    fn what_does_not_parse_keeps_its_comments() {
        // Python under the label of C++: behind `//` stands code.
        let code = "def f(a, b):\n\n    return a // b + g(\"x\")\n";
        check("cpp", code, code);
        check("python", "def f(:\n  # note\n\n", "def f(:\n  # note\n\n");
        check("fortran", "x = 1 ! note\n\n", "x = 1 ! note\n\n");
        check("python", "", "");
        check("python", "# only", "");
    }

    /// Some of these took a time that grew with the square of their length, so that this did not end.
    #[test]
    fn hostile_texts_end() {
        let texts = ["(", "[[", "/*", "/* ", "\"", "r#\"", "a<", "R\"x(", "f\"{", "#if x\n", "x**"];
        for text in texts.map(|text| text.repeat((64 << 10) / text.len())) {
            for language in ["python", "cpp", "rust"] {
                assert!(Strip::default().bare(&text, language).len() <= text.len() + 1);
            }
        }
    }
}

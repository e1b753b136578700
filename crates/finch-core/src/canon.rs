//! Canonical text, version 1: what makes two programs the same program.
//!
//! Byte order mark dropped, CRLF and CR to LF, trailing spaces and tabs of each line removed, exactly one
//! final LF, no Unicode normalisation. Stronger forms (comments removed) are dedup keys, never ids: this form
//! must not change again, because every program id hangs on it.

use std::borrow::Cow;

use memchr::{memchr, memchr_iter, memchr2};

use crate::{Digest, Kind};

/// The canonical form of a text; borrowed where the text has it already.
pub fn canonical(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if is_canonical(text.as_bytes()) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len() + 1);
    let mut rest = text;
    while !rest.is_empty() {
        let end = memchr2(b'\n', b'\r', rest.as_bytes()).unwrap_or(rest.len());
        out.push_str(rest[..end].trim_end_matches([' ', '\t']));
        out.push('\n');
        rest = match rest.as_bytes().get(end..end + 2) {
            Some(b"\r\n") => &rest[end + 2..],
            _ => rest.get(end + 1..).unwrap_or(""),
        };
    }
    let body = out.trim_end_matches('\n').len();
    out.truncate(body);
    out.push('\n');
    Cow::Owned(out)
}

/// Whether nothing would change but a mark at the beginning: most programs are so, and looking is much cheaper than
/// writing line by line.
fn is_canonical(text: &[u8]) -> bool {
    let ends_well = match text {
        [b'\n'] => true,
        [.., before, b'\n'] => *before != b'\n',
        _ => false,
    };
    let blank_before = |end: usize| end > 0 && matches!(text[end - 1], b' ' | b'\t');
    ends_well && memchr(b'\r', text).is_none() && !memchr_iter(b'\n', text).any(blank_before)
}

/// The id of a program: the digest of its canonical text.
pub fn program_id(canonical_text: &str) -> Digest {
    Kind::Program.of_text(canonical_text)
}

/// The id of a prompt, response, reasoning or feedback text: these are kept as they are.
pub fn text_id(text: &str) -> Digest {
    Kind::Text.of_text(text)
}

#[cfg(test)]
mod tests {
    use super::canonical;

    fn check(before: &str, after: &str) {
        assert_eq!(canonical(before), after, "{before:?}");
        assert_eq!(canonical(after), after, "not idempotent on {before:?}");
    }

    #[test]
    fn line_ends_blanks_and_marks_are_unified() {
        check("", "\n");
        check("a", "a\n");
        check("a\n\n\n", "a\n");
        check("a\r\nb\rc\n", "a\nb\nc\n");
        check("\u{feff}a \t\n\tb", "a\n\tb\n");
        check(" \n a", "\n a\n");
        check("a\r\r\nb", "a\n\nb\n");
        check("é \r", "é\n");
        check("\u{feff}a\n", "a\n");
        check("\n", "\n");
        check("\n\n", "\n");
        check("a\n", "a\n");
    }

    #[test]
    fn inner_blank_lines_and_unicode_stay() {
        check("a\n\n\nb\n", "a\n\n\nb\n");
        check("e\u{301}\n", "e\u{301}\n");
        check("a\u{a0}\n", "a\u{a0}\n");
    }
}

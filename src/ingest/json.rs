//! JSON as scaffolds write it: with `NaN`, `Infinity` and lone surrogates.
//!
//! Python's `json` writes non-finite numbers as bare words and half surrogate pairs as escapes; neither is
//! JSON. A document is parsed as it is first, and only when that fails are those words quoted and those
//! escapes replaced, outside and inside strings respectively. Non-finite numbers are thus strings everywhere
//! after this point, which is also their canonical form.

use std::borrow::Cow;

use serde_json::{Map, Value};

/// Why a text is no JSON document.
#[derive(Debug, thiserror::Error)]
#[error("{message} (line {line}, column {column})")]
pub struct JsonError {
    /// What the parser said.
    pub message: String,
    /// Line, from one.
    pub line: usize,
    /// Column, from one.
    pub column: usize,
    /// Whether the text just ends too early.
    pub truncated: bool,
}

/// Parses a document.
pub fn parse(bytes: &[u8]) -> Result<Value, JsonError> {
    parse_counting(bytes, &mut 0)
}

/// Parses a document and adds to `replaced` the characters that were no text and became U+FFFD.
pub fn parse_counting(bytes: &[u8], replaced: &mut u64) -> Result<Value, JsonError> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let first = match serde_json::from_slice(bytes) {
        Ok(value) => return Ok(value),
        Err(error) => error,
    };
    let mut lost = 0;
    let Cow::Owned(mended) = mend(bytes, &mut lost) else { return Err(convert(&first)) };
    let value = serde_json::from_slice(&mended).map_err(|error| convert(&error))?;
    *replaced += lost;
    Ok(value)
}

fn convert(error: &serde_json::Error) -> JsonError {
    let text = error.to_string();
    let message = text.rsplit_once(" at line ").map_or(text.clone(), |(message, _)| message.to_owned());
    JsonError { message, line: error.line(), column: error.column(), truncated: error.is_eof() }
}

/// Quotes bare non-finite words, replaces lone surrogate escapes by U+FFFD, and invalid UTF-8 likewise.
/// Borrowed when there is nothing to mend.
fn mend<'a>(bytes: &'a [u8], replaced: &mut u64) -> Cow<'a, [u8]> {
    const WORDS: [(&[u8], &[u8]); 3] =
        [(b"NaN", b"\"NaN\""), (b"-Infinity", b"\"-Infinity\""), (b"Infinity", b"\"Infinity\"")];
    let text = String::from_utf8_lossy(bytes);
    let invalid = matches!(text, Cow::Owned(_));
    if invalid {
        *replaced += text.matches('\u{fffd}').count() as u64;
    }
    let bytes_in = text.as_bytes();
    let mut out = Vec::new();
    let mut copied = 0;
    let mut replace = |range: std::ops::Range<usize>, with: &[u8]| {
        out.extend_from_slice(&bytes_in[copied..range.start]);
        out.extend_from_slice(with);
        copied = range.end;
    };
    let mut at = 0;
    let mut in_string = false;
    let mut changed = false;
    while at < bytes_in.len() {
        match (in_string, bytes_in[at]) {
            (true, b'\\') => {
                match escape(&bytes_in[at..]) {
                    Escape::Lone => {
                        replace(at..at + 6, "\u{fffd}".as_bytes());
                        *replaced += 1;
                        changed = true;
                        at += 6;
                    }
                    Escape::Fine(length) => at += length,
                }
                continue;
            }
            (_, b'"') => in_string = !in_string,
            (false, b'N' | b'I' | b'-') => {
                if let Some((word, quoted)) = WORDS.iter().find(|(word, _)| bytes_in[at..].starts_with(word))
                {
                    replace(at..at + word.len(), quoted);
                    changed = true;
                    at += word.len();
                    continue;
                }
            }
            _ => {}
        }
        at += 1;
    }
    if !changed {
        return if invalid { Cow::Owned(text.into_owned().into_bytes()) } else { Cow::Borrowed(bytes) };
    }
    out.extend_from_slice(&bytes_in[copied..]);
    Cow::Owned(out)
}

enum Escape {
    /// An escape of so many bytes that JSON accepts, or that its parser will refuse better than we would.
    Fine(usize),
    /// `\uD800` to `\uDFFF` without its partner.
    Lone,
}

fn escape(bytes: &[u8]) -> Escape {
    let Some(first) = unit(bytes) else { return Escape::Fine(2) };
    match first {
        0xD800..=0xDBFF => match bytes.get(6..).and_then(unit) {
            Some(0xDC00..=0xDFFF) => Escape::Fine(12),
            _ => Escape::Lone,
        },
        0xDC00..=0xDFFF => Escape::Lone,
        _ => Escape::Fine(6),
    }
}

/// The code unit of a `\uXXXX` escape.
fn unit(bytes: &[u8]) -> Option<u16> {
    let digits = bytes.strip_prefix(b"\\u")?.get(..4)?;
    u16::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// A number that may be written as a word or a string; booleans are not numbers.
pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            _ => None,
        },
        _ => None,
    }
}

/// A field's text, when it is text.
pub fn text<'a>(object: &'a Map<String, Value>, key: &str) -> Option<&'a str> {
    object.get(key)?.as_str()
}

/// A field's whole number; floats without a fraction count.
pub fn integer(object: &Map<String, Value>, key: &str) -> Option<i64> {
    let value = object.get(key)?;
    value.as_i64().or_else(|| {
        let number = value.as_f64()?;
        (number.fract() == 0.0 && number.abs() < 9e15).then_some(number as i64)
    })
}

/// A field's finite number.
pub fn float(object: &Map<String, Value>, key: &str) -> Option<f64> {
    number(object.get(key)?).filter(|number| number.is_finite())
}

/// An id: text, or a whole number as text.
pub fn id(object: &Map<String, Value>, key: &str) -> Option<String> {
    match object.get(key)? {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A field's object; empty when it is absent or something else.
pub fn object(object: &Map<String, Value>, key: &str) -> Map<String, Value> {
    object.get(key).and_then(Value::as_object).cloned().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn bare_words_become_strings_only_outside_strings() {
        let text = br#"{"a": NaN, "b": [Infinity, -Infinity, -1], "c": "NaN -Infinity \" NaN"}"#;
        let value = parse(text).expect("parses");
        assert_eq!(
            value,
            json!({"a": "NaN", "b": ["Infinity", "-Infinity", -1], "c": "NaN -Infinity \" NaN"})
        );
        assert!(number(&value["a"]).is_some_and(f64::is_nan));
        assert_eq!(number(&value["b"][1]), Some(f64::NEG_INFINITY));
    }

    #[test]
    fn lone_surrogates_become_replacement_characters() {
        let value = parse(br#"["\ud83d\ude00", "\ud83d", "x\ude00y", "\\ud83d"]"#).expect("parses");
        assert_eq!(value, json!(["😀", "\u{fffd}", "x\u{fffd}y", "\\ud83d"]));
    }

    #[test]
    fn invalid_utf8_and_marks_are_survived() {
        assert_eq!(parse(b"\xef\xbb\xbf{\"a\": 1}").expect("mark"), json!({"a": 1}));
        assert_eq!(parse(b"[\"\xa1\xfa\"]").expect("GBK bytes"), json!(["\u{fffd}\u{fffd}"]));
    }

    #[test]
    fn what_is_cut_says_so() {
        assert!(parse(br#"{"a": [1, 2"#).expect_err("cut").truncated);
        assert!(parse(br#"{"a": NaN, "b": "x"#).expect_err("cut").truncated);
        assert!(!parse(b"{]").expect_err("broken").truncated);
        assert!(parse(b"").expect_err("empty").truncated);
    }

    #[test]
    fn deep_nesting_is_an_error_and_not_a_crash() {
        assert!(parse("[".repeat(1_000_000).as_bytes()).is_err());
    }
}

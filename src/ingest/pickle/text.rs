//! The spellings of text in pickles, from UTF-8 with half surrogate pairs to the escapes of protocol 0.
//!
//! Python writes text that has no UTF-8 as if it had ("surrogatepass"), so a text cannot be refused for that:
//! each half pair becomes one U+FFFD. Nothing here fails; what is no escape stands for itself.

use std::borrow::Cow;

/// UTF-8, with one U+FFFD for each half surrogate pair and for each other run that is no text.
pub(super) fn lossy(bytes: &[u8]) -> Cow<'_, str> {
    let mut rest = bytes;
    let mut text = String::new();
    loop {
        let error = match std::str::from_utf8(rest) {
            Ok(valid) if rest.len() == bytes.len() => return Cow::Borrowed(valid),
            Ok(valid) => {
                text.push_str(valid);
                return Cow::Owned(text);
            }
            Err(error) => error,
        };
        let (valid, bad) = rest.split_at(error.valid_up_to());
        // Valid by the error's word, so that this replaces nothing.
        text.push_str(&String::from_utf8_lossy(valid));
        text.push(char::REPLACEMENT_CHARACTER);
        let skipped = match bad {
            [0xed, 0xa0..=0xbf, 0x80..=0xbf, ..] => 3,
            _ => error.error_len().unwrap_or(bad.len()),
        };
        rest = &bad[skipped..];
    }
}

/// A line of "raw-unicode-escape": Latin-1 with `\uXXXX` and `\UXXXXXXXX`, and no other escape.
pub(super) fn unescape_text(bytes: &[u8]) -> String {
    let mut text = String::new();
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let digits = match rest {
            [b'\\', b'u', ..] => 4,
            [b'\\', b'U', ..] => 8,
            _ => 0,
        };
        match rest.get(2..2 + digits).and_then(|digits| number(digits, 16)) {
            Some(code) => {
                text.push(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER));
                rest = &rest[2 + digits..];
            }
            None => {
                text.push(byte.into());
                rest = after;
            }
        }
    }
    text
}

/// The inside of a quoted `str` as `repr` writes it.
pub(super) fn unescape_bytes(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    let mut rest = bytes;
    while let Some((&byte, after)) = rest.split_first() {
        let (value, length) = match rest {
            [b'\\', b'x', high, low, ..] => match number(&[*high, *low], 16) {
                Some(value) => (value as u8, 4),
                None => (byte, 1),
            },
            [b'\\', b'0'..=b'7', ..] => {
                let digits = after.iter().take(3).take_while(|digit| (b'0'..=b'7').contains(digit)).count();
                // Three octal digits can exceed a byte; Python drops the excess too.
                (number(&after[..digits], 8).unwrap_or(0) as u8, 1 + digits)
            }
            [b'\\', escape, ..] => match escape {
                b'n' => (b'\n', 2),
                b'r' => (b'\r', 2),
                b't' => (b'\t', 2),
                b'a' => (7, 2),
                b'b' => (8, 2),
                b'f' => (12, 2),
                b'v' => (11, 2),
                b'\\' | b'\'' | b'"' => (*escape, 2),
                _ => (byte, 1),
            },
            _ => (byte, 1),
        };
        out.push(value);
        rest = &rest[length..];
    }
    out
}

/// A number of a few digits; none for no digits, and none for a sign, which `from_str_radix` would take.
fn number(digits: &[u8], radix: u32) -> Option<u32> {
    if digits.is_empty() || !digits.iter().all(|&digit| char::from(digit).is_digit(radix)) {
        return None;
    }
    u32::from_str_radix(std::str::from_utf8(digits).ok()?, radix).ok()
}

/// Whether this is a decimal integer with or without a sign.
pub(super) fn is_decimal(bytes: &[u8]) -> bool {
    let digits = bytes.strip_prefix(b"-").or_else(|| bytes.strip_prefix(b"+")).unwrap_or(bytes);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

//! Credentials in specs: found, refused, and never shown.
//!
//! A spec is shared and committed, and its lines are printed with every mistake. So a URL that carries credentials
//! is a mistake itself, and what is printed of any spec is masked first. Terminal control characters are
//! masked too, because the sidecars of logs come from strangers.

use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::Span;

/// The values of a document that are URLs with credentials, by place, and whether [`masked`] finds all of them in
/// the text as it was written: escapes can hide one.
pub(super) fn places(text: &str, table: &DeTable<'_>) -> Vec<(Span, bool)> {
    let mut found = Vec::new();
    let mut pending: Vec<&Spanned<DeValue<'_>>> = table.values().collect();
    while let Some(value) = pending.pop() {
        match value.get_ref() {
            // A query or a command that speaks of a URL is no URL.
            DeValue::String(url) if is_url(url) && !secrets(url).is_empty() => {
                let written = text.get(value.span()).unwrap_or_default();
                found.push((value.span(), secrets(written).len() == secrets(url).len()));
            }
            DeValue::Array(items) => pending.extend(items.iter()),
            DeValue::Table(table) => pending.extend(table.values()),
            _ => {}
        }
    }
    found
}

fn is_url(text: &str) -> bool {
    text.trim_start().split_once("://").is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    })
}

/// A text with credentials of URLs and control characters blotted out; its length in bytes stays, so places hold.
pub(crate) fn masked(text: &str) -> String {
    let mut text = text.to_owned();
    for secret in secrets(&text) {
        blot(&mut text, secret, '*');
    }
    let controls: Vec<Range<usize>> = text
        .char_indices()
        .filter(|(_, c)| c.is_control() && !"\n\r\t".contains(*c))
        .map(|(at, c)| at..at + c.len_utf8())
        .collect();
    for control in controls {
        blot(&mut text, control, '?');
    }
    text
}

/// Overwrites a range, in bytes; lines stay.
pub(super) fn blot(text: &mut String, range: Range<usize>, mark: char) {
    let marks: String = text[range.clone()].bytes().map(|b| if b == b'\n' { '\n' } else { mark }).collect();
    text.replace_range(range, &marks);
}

/// Where a text holds user names, passwords and signatures of URLs.
fn secrets(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    for (at, scheme_end) in text.match_indices("://") {
        let start = at + scheme_end.len();
        let ends = |c: char| c.is_whitespace() || "\"'`<>".contains(c);
        let url = &text[start..text[start..].find(ends).map_or(text.len(), |length| start + length)];
        if let Some(length) = user_info(url) {
            found.push(start..start + length);
        }
        // A signed URL is as good as a password.
        if let Some((before, query)) = url.split_once('?')
            && ["sig", "token", "credential", "secret", "password", "key"]
                .iter()
                .any(|word| query.to_lowercase().contains(word))
        {
            let query_start = start + before.len() + 1;
            if found.last().is_none_or(|last| last.end <= query_start) {
                found.push(query_start..query_start + query.len());
            }
        }
    }
    found
}

/// The length of the user information that a URL begins with, behind its `://`.
fn user_info(url: &str) -> Option<usize> {
    let authority = url.split(['/', '?', '#']).next().unwrap_or(url);
    if let Some(at) = authority.rfind('@') {
        return Some(at);
    }
    // Secret keys hold slashes, which no port does.
    let (_, port) = authority.rsplit_once(':')?;
    let port_like = port.is_empty() || port.chars().all(|c| c.is_ascii_digit()) || authority.starts_with('[');
    if port_like { None } else { url.rfind('@') }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_are_masked_in_place() {
        for (text, shown) in [
            ("s3://key:se/cr+et@bucket/a", "s3://************@bucket/a"),
            ("s3://key@bucket", "s3://***@bucket"),
            ("\"gs://k:s@b\", 'https://u:p@h/x'", "\"gs://***@b\", 'https://***@h/x'"),
            ("https://a.blob/x?sv=1&sig=abc", "https://a.blob/x?************"),
            ("s3://ké:ü@b", "s3://******@b"),
        ] {
            assert_eq!(masked(text), shown);
            assert_eq!(masked(text).len(), text.len());
        }
        for plain in
            ["s3://bucket/a@b", "http://host:9000/a@b", "http://[::1]:9000/a@b", "a @ b", "x://", "@"]
        {
            assert_eq!(masked(plain), plain);
        }
        assert_eq!(masked("a\u{1b}[2Jb\nc\td\u{85}"), "a?[2Jb\nc\td??");
    }
}

//! Standard output: written through one place, so that a closed pipe ends a command quietly.

use std::io::{self, Write};

use crate::error::{Error, Result};

/// Writes text as it is.
pub(super) fn print(text: &str) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(Error::io("write to", "standard output"))
}

/// Whether an error is a reader that has seen enough.
pub(super) fn is_closed_pipe(error: &Error) -> bool {
    matches!(error, Error::Io { source, .. } if source.kind() == io::ErrorKind::BrokenPipe)
}

/// Columns aligned for people; numbers, judged by their first row, to the right.
pub(super) fn columns(header: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([header[column].chars().count()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..header.len()).map(width).collect();
    let right: Vec<bool> = (0..header.len())
        .map(|column| {
            rows.iter().all(|row| row[column].chars().all(|c| c.is_ascii_digit() || ".-+".contains(c)))
        })
        .collect();
    let line = |cells: Vec<&str>| {
        let padded = cells.iter().zip(&widths).zip(&right).map(|((cell, &width), right)| {
            if *right { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    let mut text = line(header.to_vec());
    for row in rows {
        text += &line(row.iter().map(String::as_str).collect());
    }
    text
}

/// A text from a log as it can be shown: control characters, marks that change the direction of writing and other
/// invisible ones are escaped, and a long text is cut.
pub(super) fn escaped(text: &str) -> String {
    const LONGEST: usize = 300;
    let shown: String = text.chars().take(LONGEST).flat_map(visible).collect();
    match text.chars().count() {
        ..=LONGEST => shown,
        _ => format!("{shown}… ({} bytes)", text.len()),
    }
}

fn visible(c: char) -> impl Iterator<Item = char> {
    let plain = c == '"' || c == '\'';
    plain.then_some(c).into_iter().chain((!plain).then(|| c.escape_debug()).into_iter().flatten())
}

/// JSON in lines, with a line end. Whatever a terminal could take for a command is escaped, as JSON allows.
pub(super) fn escaped_json(value: &serde_json::Value) -> String {
    let mut text = String::new();
    // In JSON as it is printed, such characters only occur within texts, but for the ends of lines.
    for c in format!("{value:#}").chars() {
        if c == '\n' || c == '\\' || visible(c).count() == 1 || c == '"' {
            text.push(c);
        } else {
            for unit in c.encode_utf16(&mut [0; 2]) {
                text += &format!("\\u{unit:04x}");
            }
        }
    }
    text + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_a_log_reaches_the_terminal_as_a_command() {
        let hostile = "a\u{1b}[2J\r\u{9b}1m\u{202e}\u{200b}\0\u{7f}é\\\"'\u{e0001}";
        for shown in [escaped(hostile), escaped_json(&serde_json::json!({hostile: hostile}))] {
            let bad = |c: char| c != '\n' && (c.is_control() || "\u{202e}\u{200b}\u{e0001}".contains(c));
            assert!(!shown.contains(bad), "{shown:?}");
            assert!(shown.contains('é'), "{shown}");
        }
        let back: serde_json::Value =
            serde_json::from_str(&escaped_json(&serde_json::json!([hostile]))).expect("JSON");
        assert_eq!(back, serde_json::json!([hostile]));
        assert_eq!(escaped(&"x".repeat(301)), format!("{}… (301 bytes)", "x".repeat(300)));
    }
}

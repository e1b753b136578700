//! What the TOML parser says, in finch's words where its own would not help.

use super::diagnostic::{Diagnostic, Span};
use crate::code::Code;

/// The parser's complaints as mistakes of the file.
pub(super) fn mistakes<'e>(text: &str, errors: impl Iterator<Item = (Span, &'e str)>) -> Vec<Diagnostic> {
    let mut mistakes = Vec::new();
    // A table that is there twice repeats its keys: they are no mistakes of their own.
    let mut repeated = 0;
    for (span, message) in errors {
        let mut hint = None;
        let message = if message == "duplicate key" {
            if span.start < repeated {
                continue;
            }
            let key = text.get(span.clone()).unwrap_or_default();
            let line =
                text.get(..span.start).and_then(|before| before.rsplit('\n').next()).unwrap_or_default();
            if line.trim_start().starts_with('[') {
                let rest = text.get(span.end..).unwrap_or_default();
                repeated = rest.find("\n[").map_or(text.len(), |length| span.end + length);
            }
            if line.trim_start().starts_with("[stages.") {
                hint = Some("two stages cannot have one name".to_owned());
            }
            format!("`{key}` is here for the second time")
        } else if message.contains("recurs") {
            "lists or tables are nested too deep".to_owned()
        } else {
            message.to_owned()
        };
        mistakes.push(Diagnostic::new(Code::Syntax, span, message).with_hint(hint));
    }
    mistakes
}

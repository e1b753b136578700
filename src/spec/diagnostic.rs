//! What is wrong with a spec, and where.

use std::ops::Range;
use std::path::{Path, PathBuf};

use super::secret;
use crate::code::Code;

/// A range of bytes in the spec.
pub type Span = Range<usize>;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The stable code.
    pub code: Code,
    /// Where it is.
    pub span: Span,
    /// What is wrong.
    pub message: String,
    /// What was probably meant, or what to do.
    pub hint: Option<String>,
}

impl Diagnostic {
    /// A mistake without a hint.
    pub fn new(code: Code, span: Span, message: impl Into<String>) -> Self {
        Self { code, span, message: message.into(), hint: None }
    }

    /// The same with a hint, when there is one.
    #[must_use]
    pub fn with_hint(mut self, hint: impl Into<Option<String>>) -> Self {
        self.hint = hint.into();
        self
    }
}

/// All mistakes of one file, in the order of their places.
#[derive(Clone, Debug)]
pub struct SpecError {
    /// The file, as it was named.
    pub path: PathBuf,
    /// Its text.
    pub text: String,
    /// The mistakes; at least one.
    pub diagnostics: Vec<Diagnostic>,
}

impl SpecError {
    /// Mistakes of a file. What is kept of its text is fit to be shown: without credentials, control characters and
    /// a byte order mark.
    pub(crate) fn new(path: &Path, text: &str, mut diagnostics: Vec<Diagnostic>) -> Self {
        for diagnostic in &mut diagnostics {
            diagnostic.message = secret::masked(&diagnostic.message);
            diagnostic.hint = diagnostic.hint.take().map(|hint| secret::masked(&hint));
        }
        diagnostics.sort_by_key(|diagnostic| (diagnostic.span.start, diagnostic.span.end));
        Self { path: path.to_path_buf(), text: secret::masked(text), diagnostics }
    }

    /// Line and column of a place, both from one; columns count characters.
    pub fn position(&self, span: &Span) -> (usize, usize) {
        let mut offset = span.start.min(self.text.len());
        while !self.text.is_char_boundary(offset) {
            offset -= 1;
        }
        let before = &self.text[..offset];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

impl std::fmt::Display for SpecError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for (i, diagnostic) in self.diagnostics.iter().enumerate() {
            let (line, column) = self.position(&diagnostic.span);
            let separator = if i > 0 { "\n" } else { "" };
            write!(
                f,
                "{separator}{}:{line}:{column}: {}: {}",
                self.path.display(),
                diagnostic.code,
                diagnostic.message
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for SpecError {}

/// The word of `known` nearest to `word`, when one is near enough to have been meant.
pub(crate) fn nearest<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    known
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.len().max(word.len()) / 4)
        .min()
        .map(|(_, candidate)| candidate)
}

/// A hint that names the nearest word, or lists all when none is near.
pub(crate) fn did_you_mean<'a>(
    word: &str,
    known: impl IntoIterator<Item = &'a str> + Clone,
) -> Option<String> {
    match nearest(word, known.clone()) {
        Some(near) => Some(format!("did you mean `{near}`?")),
        None => {
            let all: Vec<String> = known.into_iter().map(|word| format!("`{word}`")).collect();
            (!all.is_empty()).then(|| format!("known: {}", all.join(", ")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_are_found_and_far_ones_are_not() {
        assert_eq!(nearest("inptu", ["input", "exact"]), Some("input"));
        assert_eq!(nearest("max_quarantine", ["sources", "max_quarantined"]), Some("max_quarantined"));
        assert_eq!(nearest("xyz", ["input", "exact"]), None);
    }

    #[test]
    fn positions_count_characters() {
        let error = SpecError { path: "x".into(), text: "a\né = 1\n".into(), diagnostics: vec![] };
        assert_eq!(error.position(&(2..3)), (2, 1));
        assert_eq!(error.position(&(5..6)), (2, 3));
        assert_eq!(error.position(&(3..4)), (2, 1), "inside a character");
        assert_eq!(error.position(&(99..100)), (3, 1), "past the end");
    }
}

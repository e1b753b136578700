//! A program's language, by its content first.
//!
//! Scaffolds label C++ as `python` because that is their default, and traces do not say it at all. A few signs
//! are certain; without one the scaffold's label stands.

/// The language of a text: `label` unless the content shows another.
pub fn language<'a>(code: &str, label: Option<&'a str>) -> &'a str {
    let line_starts = |word: &str| code.starts_with(word) || code.contains(&format!("\n{word}"));
    if line_starts("#include <") || line_starts("#include \"") {
        return "cpp";
    }
    if line_starts("fn ") && (code.contains("-> ") || code.contains("let ")) && !line_starts("def ") {
        return "rust";
    }
    if line_starts("def ") || line_starts("import ") || line_starts("from ") || line_starts("class ") {
        return label.filter(|label| !["cpp", "rust", "unknown"].contains(label)).unwrap_or("python");
    }
    label.filter(|label| !label.is_empty()).unwrap_or("unknown")
}

#[cfg(test)]
mod tests {
    use super::language;

    #[test]
    fn content_beats_a_wrong_label_and_fills_a_missing_one() {
        assert_eq!(language("#include <vector>\nint main() {}", Some("python")), "cpp");
        assert_eq!(language("import math\n\ndef f():\n    pass\n", None), "python");
        assert_eq!(language("fn main() {\n    let x = 1;\n}", Some("python")), "rust");
        assert_eq!(language("Theorem x : True.", Some("coq")), "coq");
        assert_eq!(language("You are a judge.", Some("text")), "text");
        assert_eq!(language("prose", None), "unknown");
    }
}

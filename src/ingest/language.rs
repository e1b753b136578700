//! A program's language, by its content first.
//!
//! Scaffolds label C++ as `python` because that is their default, and traces do not say it at all. A few signs
//! are certain; without one the scaffold's label stands.

/// The language of a text: `label` unless the content shows another.
pub fn language<'a>(code: &str, label: Option<&'a str>) -> &'a str {
    let signs = Signs::of(code);
    if signs.include {
        return "cpp";
    }
    if signs.function && !signs.def && (code.contains("-> ") || code.contains("let ")) {
        return "rust";
    }
    if signs.def || signs.import {
        return label.filter(|label| !["cpp", "rust", "unknown"].contains(label)).unwrap_or("python");
    }
    label.filter(|label| !label.is_empty()).unwrap_or("unknown")
}

/// What lines begin with.
#[derive(Default)]
struct Signs {
    include: bool,
    function: bool,
    def: bool,
    import: bool,
}

impl Signs {
    /// One look at each line: programs are long, and there are many.
    fn of(code: &str) -> Self {
        let mut signs = Self::default();
        for line in code.as_bytes().split(|byte| *byte == b'\n') {
            match line {
                [b'#', rest @ ..] => {
                    signs.include |= rest.starts_with(b"include <") || rest.starts_with(b"include \"");
                }
                [b'f', b'n', b' ', ..] => signs.function = true,
                [b'd', b'e', b'f', b' ', ..] => signs.def = true,
                [b'i' | b'f' | b'c', ..] => {
                    let words: [&[u8]; 3] = [b"import ", b"from ", b"class "];
                    signs.import |= words.iter().any(|word| line.starts_with(word));
                }
                _ => {}
            }
        }
        signs
    }
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

//! Scrubbing: what a log says about the people and machines that wrote it, taken out of training text.
//!
//! Logs hold home folders, mail addresses and now and then a key. The rules are few and exact, because the
//! text is code: a rule that fires on a matrix product (`a@b.sum()`) would teach broken programs. Changing a
//! rule changes examples, so it raises the render stage's code version.

use std::borrow::Cow;
use std::sync::LazyLock;

use regex::Regex;

struct Rule {
    pattern: Regex,
    replacement: &'static str,
}

static RULES: LazyLock<Vec<Rule>> = LazyLock::new(|| {
    [
        // Home folders: the user's name, not the rest of the path.
        (r#"(/home/|/Users/)[A-Za-z0-9._-]+"#, "${1}user"),
        (r#"(?i)\b([A-Z]:\\{1,2}Users\\{1,2})[A-Za-z0-9._-]+"#, "${1}user"),
        // Mail addresses, under the top-level domains that logs hold; any word would match `a@b.sum`.
        (
            r"\b[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.(?:com|org|net|edu|gov|io|ai|cn|de|uk|fr|jp|ca)\b",
            "user@example.com",
        ),
        // Keys of model providers, hubs, code hosts and clouds, by their published prefixes.
        (r"\b(?:sk|pk|rk)-[A-Za-z0-9_-]{20,}", "<secret>"),
        (r"\bhf_[A-Za-z0-9]{30,}", "<secret>"),
        (r"\bgh[pousr]_[A-Za-z0-9]{36,}", "<secret>"),
        (r"\bAKIA[0-9A-Z]{16}\b", "<secret>"),
        (r"\bAIza[0-9A-Za-z_-]{35}", "<secret>"),
    ]
    .into_iter()
    .map(|(pattern, replacement)| Rule {
        pattern: Regex::new(pattern).expect("the rules are literals, checked by the tests"),
        replacement,
    })
    .collect()
});

/// The text without names of users and without keys; borrowed when nothing matched.
pub fn scrub(text: &str) -> Cow<'_, str> {
    let mut out = Cow::Borrowed(text);
    for rule in RULES.iter() {
        if rule.pattern.is_match(&out) {
            out = Cow::Owned(rule.pattern.replace_all(&out, rule.replacement).into_owned());
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::scrub;

    fn check(before: &str, after: &str) {
        assert_eq!(scrub(before), after);
        assert_eq!(scrub(after), after, "not idempotent");
    }

    #[test]
    fn names_and_keys_go() {
        check("File \"/home/alice/x.py\"", "File \"/home/user/x.py\"");
        check("/Users/Bob.Smith/a", "/Users/user/a");
        check(r"C:\Users\bob\a C:\\Users\\bob\\a", r"C:\Users\user\a C:\\Users\\user\\a");
        check("by alice.b@uni-x.edu", "by user@example.com");
        check(&format!("key=sk-{}", "a1".repeat(16)), "key=<secret>");
        check(&format!("hf_{}", "a1".repeat(17)), "<secret>");
    }

    #[test]
    fn code_stays() {
        for code in ["a@b.sum()", "X @ W.T", "task-sk-learn", "home/x", "ask-me-about-this-long-name"] {
            check(code, code);
        }
    }
}

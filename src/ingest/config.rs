//! Configurations that lie beside logs: YAML or JSON, as one JSON text without what may be a credential.
//!
//! People commit their configurations with the keys in them. A table that everybody reads must not pass those on, so
//! values under names of secrets are taken out whole, and what looks like a key or a name of a person anywhere. YAML is
//! read as events: tags, which name Python objects, are passed over, and aliases are followed within a budget.

use std::collections::HashMap;
use std::sync::LazyLock;

use finch_core::manifest::canonical_json;
use finch_core::scrub::scrub;
use regex::Regex;
use saphyr_parser::{Event, Parser, ScalarStyle};
use serde_json::{Map, Value};

use super::mapping::float;
use super::open;
use super::record::{About, FileLog, Quarantined};
use super::{LogFile, Scratch, json};
use crate::error::Result;

/// The largest configuration that is kept.
const MAX_BYTES: u64 = 1 << 20;

/// Values that a configuration may have, aliases followed.
const MOST_VALUES: usize = 100_000;

/// What stands for a value that was taken out.
const REMOVED: &str = "<removed>";

/// Names of secrets. Counts of tokens and names of tokenizers are none: what is only about tokens must say `token` alone,
/// or whose it is.
static SECRET: LazyLock<Regex> = LazyLock::new(|| {
    let words = [
        "api[-_]?keys?",
        "secret",
        "passw(or)?d",
        "passphrase",
        "^pwd$",
        "credential",
        "authorization",
        "(access|private|auth|openai|anthropic|gemini|azure)[-_]?keys?",
        "(^|[-_])tokens?$",
        "[a-z](Access|Auth|Api)?Token$",
        "bearer",
        "cookie",
        "webhook",
    ];
    Regex::new(&format!("(?i){}", words.join("|"))).expect("a literal, checked by the tests")
});

/// Counts under names that end like those of secrets: `max_tokens`, `n_tokens`, `prompt_tokens`.
static COUNT: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new("(?i)(max|min|num|n|total|prompt|completion|input|output|new|context|reasoning|thinking|budget|stop|eos|bos|pad|per)[-_a-z]*tokens?$")
        .expect("a literal, checked by the tests")
});

/// Secrets inside of values: in URLs, headers, and settings of an environment.
static INSIDE: LazyLock<Regex> = LazyLock::new(|| {
    let url = r"(://)[^/\s@]+@";
    let header = r"(bearer\s+)[a-z0-9._~+/-]{8,}=*";
    let setting = r"((?:api[-_]?key|access[-_]?key|secret|passw(?:or)?d|token)[a-z_]*\s*[=:]\s*)[^\s&,;]+";
    Regex::new(&format!("(?i){url}|{header}|{setting}")).expect("a literal, checked by the tests")
});

/// Reads a file that is a configuration and nothing else.
pub(super) fn read(file: &LogFile, _: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    match open::whole(file, MAX_BYTES)? {
        Ok(bytes) => log.about = about(&open::decode(&bytes, &mut log.replaced)),
        // Its bytes are not kept there either: they may hold keys.
        Err(bad) => log.quarantined.push(Quarantined { excerpt: String::new(), raw: Vec::new(), ..bad }),
    }
    Ok(log)
}

/// What a configuration says of a run; nothing when it cannot be read.
pub(super) fn about(text: &str) -> About {
    let value = json::parse(text.as_bytes()).ok().or_else(|| yaml(text)).filter(Value::is_object);
    About { version: None, config: value.map(|value| canonical_json(&clean(value))) }
}

/// A value without what may be a credential.
fn clean(value: Value) -> Value {
    match value {
        Value::Object(object) => Value::Object(
            object
                .into_iter()
                .map(|(key, value)| {
                    let empty = matches!(&value, Value::Null | Value::Bool(_)) || value.as_str() == Some("");
                    let secret = !empty && SECRET.is_match(&key) && !COUNT.is_match(&key);
                    (key, if secret { Value::from(REMOVED) } else { clean(value) })
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(clean).collect()),
        Value::String(text) => {
            let text = INSIDE.replace_all(&text, format!("${{1}}${{2}}${{3}}{REMOVED}"));
            Value::from(scrub(&text).into_owned())
        }
        other => other,
    }
}

/// A list or an object that is not finished.
enum Open {
    List(Vec<Value>),
    Object(Map<String, Value>, Option<String>),
}

/// The first document of a YAML text; `None` when it is none, or too large.
fn yaml(text: &str) -> Option<Value> {
    let mut stack: Vec<(Open, usize)> = Vec::new();
    let mut anchors: HashMap<usize, (Value, usize)> = HashMap::new();
    let mut left = MOST_VALUES;
    for event in Parser::new_from_str(text) {
        let (event, _) = event.ok()?;
        let (value, anchor, size) = match event {
            Event::SequenceStart(anchor, _) => {
                stack.push((Open::List(Vec::new()), anchor));
                continue;
            }
            Event::MappingStart(anchor, _) => {
                stack.push((Open::Object(Map::new(), None), anchor));
                continue;
            }
            Event::SequenceEnd | Event::MappingEnd => match stack.pop()? {
                (Open::List(items), anchor) => (Value::Array(items), anchor, 1),
                (Open::Object(object, _), anchor) => (Value::Object(object), anchor, 1),
            },
            Event::Scalar(text, style, anchor, _) => (scalar(&text, style), anchor, 1),
            Event::Alias(anchor) => {
                let (value, size) = anchors.get(&anchor)?;
                (value.clone(), 0, *size)
            }
            Event::DocumentEnd | Event::StreamEnd => return None,
            _ => continue,
        };
        left = left.checked_sub(size)?;
        if anchor > 0 {
            let size = count(&value);
            left = left.checked_sub(size)?;
            anchors.insert(anchor, (value.clone(), size));
        }
        match stack.last_mut() {
            None => return Some(value),
            Some((Open::List(items), _)) => items.push(value),
            Some((Open::Object(object, key), _)) => match key.take() {
                Some(key) => {
                    object.insert(key, value);
                }
                None => *key = Some(value.as_str().map_or_else(|| canonical_json(&value), str::to_owned)),
            },
        }
        if stack.len() > 100 {
            return None;
        }
    }
    None
}

/// Values in a value. Depth is bounded where it was built.
fn count(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(count).sum::<usize>(),
        Value::Object(object) => 1 + object.values().map(count).sum::<usize>(),
        _ => 1,
    }
}

/// A scalar by the core schema; what is quoted is text.
fn scalar(text: &str, style: ScalarStyle) -> Value {
    if style != ScalarStyle::Plain {
        return Value::from(text);
    }
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Value::Null,
        "true" | "True" | "TRUE" => Value::from(true),
        "false" | "False" | "FALSE" => Value::from(false),
        ".inf" | ".Inf" => float(f64::INFINITY),
        "-.inf" | "-.Inf" => float(f64::NEG_INFINITY),
        ".nan" | ".NaN" => float(f64::NAN),
        _ => match text.parse::<i64>() {
            Ok(number) => Value::from(number),
            Err(_) if text.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => {
                text.parse().map_or_else(|_| Value::from(text), float)
            }
            Err(_) => Value::from(text),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: Option<&str>) {
        assert_eq!(about(text).config.as_deref(), expected, "{text}");
    }

    #[test]
    fn yaml_and_json_become_one_form() {
        check("a: 1\nb: [x, 2.5, true]\nc:\n  d: ~\n", Some(r#"{"a":1,"b":["x",2.5,true],"c":{"d":null}}"#));
        check(r#"{"b": "x", "a": 1}"#, Some(r#"{"a":1,"b":"x"}"#));
        check("just text", None);
        check("a: [1, 2", None);
    }

    #[test]
    fn python_objects_are_passed_over_and_aliases_followed_within_a_budget() {
        check("a: &x !!python/object:os.system\n  b: 1\nc: *x\n", Some(r#"{"a":{"b":1},"c":{"b":1}}"#));
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for n in 1..12 {
            let parts = vec![format!("*a{}", n - 1); 10].join(", ");
            bomb += &format!("a{n}: &a{n} [{parts}]\n");
        }
        check(&bomb, None);
        check(&"[".repeat(10_000), None);
    }

    #[test]
    fn credentials_go_and_counts_of_tokens_stay() {
        let text = "api_key: abc\nllm:\n  OPENAI_API_KEY: x\n  max_tokens: 4096\n  tokenizer: gpt2\n  url: https://me:pw@host/v1\n  \
                    header: 'Bearer abcdefghijklmnop'\n  note: sk-aaaaaaaaaaaaaaaaaaaaaaaa\n  hf_token: y\n";
        let config = about(text).config.expect("a config");
        for gone in ["abc", "\"x\"", "me:pw", "abcdefghijklmnop", "sk-a", "\"y\""] {
            assert!(!config.contains(gone), "{gone} in {config}");
        }
        for kept in ["4096", "gpt2", "host/v1"] {
            assert!(config.contains(kept), "{kept} in {config}");
        }
    }

    #[test]
    fn credentials_go_whatever_their_type_and_spelling() {
        for line in [
            "password: 12345678",
            "api_keys: [hush, hush]",
            "secrets: {openai: hush}",
            "api-key: hush",
            "x-api-key: hush",
            "accessToken: hush",
            "github-token: hush",
            "pwd: hush",
            "passphrase: hush",
            "openai_key: hush",
            "env: ['OPENAI_API_KEY=hush']",
            "url: https://h/v1?api_key=hush",
            "url: https://hush@host/x",
        ] {
            let config = about(line).config.expect("a config");
            assert!(!config.contains("hush") && !config.contains("12345678"), "{line}: {config}");
        }
        for line in [
            "max_tokens: 4096",
            "max_new_tokens: 7",
            "stop_token: end",
            "tokenizer: gpt2",
            "monkey: 1",
            "token_budget: 5",
        ] {
            let config = about(line).config.expect("a config");
            assert!(!config.contains(REMOVED), "{line}: {config}");
        }
    }
}

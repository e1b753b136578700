//! A mapping file, read: TOML to types, with the place of every mistake.

use serde_json::Value as Json;
use toml::de::DeValue;

use super::value::{TRANSFORMS, Transform, Value};
use super::{CandidateFields, Form, Mapping, ParentFields, Records, Rule, RunFields, Signature, Test};
use crate::catalog::Direction;
use crate::code::Code;
use crate::ingest::assess::Failure;
use crate::ingest::shape::Container;
use crate::spec::{Diagnostic, Reader};
use finch_core::Digest;

const FORMS: [(&str, Form); 5] = [
    ("json", Form::Json),
    ("jsonl", Form::Jsonl),
    ("csv", Form::Csv),
    ("parquet", Form::Parquet),
    ("sqlite", Form::Sqlite),
];

const CONTAINERS: [(&str, Container); 4] = [
    ("object", Container::Object),
    ("list", Container::Array),
    ("lines", Container::Lines),
    ("table", Container::Table),
];

const FAILURES: [(&str, Failure); 4] = [
    ("error", Failure::Error),
    ("timeout", Failure::Timeout),
    ("rejected", Failure::Rejected),
    ("infrastructure", Failure::Infrastructure),
];

pub(super) fn lower(root: &mut Reader<'_>, digest: Digest) -> Option<Mapping> {
    let scaffold = root.text("scaffold").unwrap_or_else(|| "mapped".to_owned());
    if scaffold.is_empty()
        || !scaffold.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    {
        let hint = "use lower-case letters, digits and `_`";
        root.reject("scaffold", Code::BadValue, format!("`{scaffold}` is no scaffold's name"), hint);
    }
    let detect = tables(root, "detect", |table| {
        let container = table.choice("container", &CONTAINERS).unwrap_or(Container::Object);
        let keys = texts(table, "keys");
        let telling = texts(table, "telling");
        Signature { container, keys, telling }
    });
    let records = root.table("records").map(|mut table| {
        let form = table.choice("form", &FORMS);
        let at = pointers(&mut table, "at");
        let by_key = table.boolean("by_key").unwrap_or(false);
        let name = table.text("table");
        table.finish();
        Records { form, at, by_key, table: name }
    });
    let (mut one_run, mut run) = (false, RunFields::default());
    if let Some(mut table) = root.table("run") {
        one_run = table.choice("of", &[("folder", true), ("roots", false)]).unwrap_or(false);
        run = RunFields {
            id: value(&mut table, "id"),
            task: value(&mut table, "task"),
            domain: value(&mut table, "domain"),
            maximize: None,
        };
        table.finish();
    }
    let (mut score_key, mut direction) = ("score".to_owned(), None);
    if let Some(mut table) = root.table("score") {
        score_key = table.text("key").unwrap_or(score_key);
        direction = table.choice("direction", &Direction::WORDS);
        run.maximize = value(&mut table, "maximize");
        table.finish();
    }
    let candidate = root.required_table("candidate").and_then(|mut table| {
        let candidate = candidate(&mut table);
        table.finish();
        candidate
    });
    let parent = root.table("parent").map(|mut table| {
        let parent = ParentFields {
            code: value(&mut table, "code"),
            metrics: value(&mut table, "metrics"),
            score: value(&mut table, "score"),
        };
        table.finish();
        parent
    });
    let failures = tables(root, "failure", rule).into_iter().flatten().collect();
    Some(Mapping {
        scaffold: intern(&scaffold),
        digest,
        detect,
        one_run: one_run || run.id.is_some(),
        score_key,
        direction,
        records: records.unwrap_or(Records { form: None, at: Vec::new(), by_key: false, table: None }),
        run,
        candidate: candidate?,
        parent,
        failures,
    })
}

fn candidate(table: &mut Reader<'_>) -> Option<CandidateFields> {
    let id = table.required("id", value);
    let code = table.required("code", value);
    let mut get = |key: &str| value(table, key);
    let fields = CandidateFields {
        parents: get("parents"),
        copy_of: get("copy_of"),
        language: get("language"),
        iteration: get("iteration"),
        island: get("island"),
        generation: get("generation"),
        metrics: get("metrics"),
        score: get("score"),
        error: get("error"),
        feedback: get("feedback"),
        eval_seconds: get("eval_seconds"),
        created_at: get("created_at"),
        system_prompt: get("system_prompt"),
        user_prompt: get("user_prompt"),
        reasoning: get("reasoning"),
        response: get("response"),
        model: get("model"),
        temperature: get("temperature"),
        prompt_tokens: get("prompt_tokens"),
        completion_tokens: get("completion_tokens"),
        cost: get("cost"),
        inspirations: get("inspirations"),
        id: id?,
        code: code?,
    };
    Some(fields)
}

fn rule(table: &mut Reader<'_>) -> Option<Rule> {
    let at = table.required("at", value);
    let failure = table.choice("failure", &FAILURES).unwrap_or(Failure::Error);
    let mut tests = Vec::new();
    if table.has("is") {
        tests.extend(constant(table, "is").map(Test::Is));
    }
    for (word, test) in [("missing", Test::Missing), ("present", Test::Present)] {
        if table.boolean(word) == Some(true) {
            tests.push(test);
        }
    }
    tests.extend(table.number("below").map(Test::Below));
    tests.extend(table.number("above").map(Test::Above));
    if tests.len() != 1 {
        let message = "a failure needs one test";
        table.reject("at", Code::BadValue, message, "one of `is`, `missing`, `present`, `below`, `above`");
        return None;
    }
    Some(Rule { at: at?, test: tests.pop()?, failure })
}

/// A list of tables, `[[key]]`.
fn tables<'a, T>(root: &mut Reader<'a>, key: &str, mut read: impl FnMut(&mut Reader<'a>) -> T) -> Vec<T> {
    let Some(items) = root.has(key).then(|| root.items(key)).flatten() else { return Vec::new() };
    let mut out = Vec::new();
    for item in items {
        match item.get_ref().as_table() {
            Some(table) => {
                let mut table = root.inner(table, item.span(), format!("`{key}`"));
                out.push(read(&mut table));
                table.finish();
            }
            None => root.reject(key, Code::WrongType, format!("`{key}` must be a list of tables"), None),
        }
    }
    out
}

fn texts(table: &mut Reader<'_>, key: &str) -> Vec<String> {
    let texts = table.has(key).then(|| table.texts(key)).flatten();
    texts.unwrap_or_default().into_iter().map(|(text, _)| text).collect()
}

/// One pointer, or a list of them.
fn pointers(table: &mut Reader<'_>, key: &str) -> Vec<Vec<String>> {
    let texts = match table.any(key).map(toml::Spanned::get_ref) {
        Some(DeValue::Array(_)) => texts(table, key),
        Some(_) => table.text(key).into_iter().collect(),
        None => Vec::new(),
    };
    let read = texts.iter().filter_map(|text| {
        pointer(text).map_err(|problem| table.reject(key, Code::BadValue, problem, None)).ok()
    });
    read.collect()
}

/// A value, in any of its forms; see [`parse`].
fn value(table: &mut Reader<'_>, key: &str) -> Option<Value> {
    let item = table.any(key)?;
    match parse(item.get_ref()) {
        Ok(value) => Some(value),
        Err(problem) => {
            table.problems().push(
                Diagnostic::new(
                    Code::BadValue,
                    item.span(),
                    format!("`{key}` in {}: {problem}", table.what()),
                )
                .with_hint(
                    "a column, a JSON Pointer such as \"/a/b\", a list of them, or { at = …, as = … }"
                        .to_owned(),
                ),
            );
            None
        }
    }
}

fn constant(table: &mut Reader<'_>, key: &str) -> Option<Json> {
    let item = table.any(key)?;
    let value = literal(item.get_ref());
    if value.is_none() {
        table.reject(key, Code::WrongType, format!("`{key}` must be text, a number, true or false"), None);
    }
    value
}

fn literal(value: &DeValue<'_>) -> Option<Json> {
    match value {
        DeValue::String(text) => Some(Json::from(text.as_ref())),
        DeValue::Boolean(flag) => Some(Json::from(*flag)),
        DeValue::Integer(digits) => i64::from_str_radix(digits.as_str(), digits.radix()).ok().map(Json::from),
        DeValue::Float(digits) => digits.as_str().parse::<f64>().ok().map(super::value::float),
        _ => None,
    }
}

/// `"column"`, `"/a/pointer"`, `"$key"`, `"$ordinal"`, `"$program"`, a list of alternatives, or a table with `at`,
/// `value` or `lookup`, and `as`.
fn parse(value: &DeValue<'_>) -> Result<Value, String> {
    match value {
        DeValue::String(text) => place(text),
        DeValue::Array(items) => {
            let all: Result<Vec<Value>, String> = items.iter().map(|item| parse(item.get_ref())).collect();
            all.map(Value::First)
        }
        DeValue::Table(table) => {
            let known = ["at", "value", "lookup", "key", "as"];
            if let Some((key, _)) = table.iter().find(|(key, _)| !known.contains(&key.get_ref().as_ref())) {
                return Err(format!("unknown key `{}`", key.get_ref()));
            }
            let get = |key: &str| table.get(key).map(toml::Spanned::get_ref);
            let mut value = match (get("at"), get("value"), get("lookup")) {
                (Some(at), None, None) => parse(at)?,
                (None, Some(value), None) => {
                    Value::Constant(literal(value).ok_or("`value` must be text, a number, true or false")?)
                }
                (None, None, Some(DeValue::String(path))) => {
                    let key = get("key").ok_or("`lookup` needs a `key`")?;
                    Value::Lookup(pointer(path)?, Box::new(parse(key)?))
                }
                _ => return Err("needs one of `at`, `value` and `lookup`".to_owned()),
            };
            let transforms: Vec<&str> = match get("as") {
                None => Vec::new(),
                Some(DeValue::String(word)) => vec![word.as_ref()],
                Some(DeValue::Array(words)) => {
                    words.iter().filter_map(|word| word.get_ref().as_str()).collect()
                }
                Some(_) => return Err("`as` must be a transform, or a list of them".to_owned()),
            };
            for word in transforms {
                value = Value::As(Box::new(value), transform(word)?);
            }
            Ok(value)
        }
        _ => Err("is no place".to_owned()),
    }
}

fn transform(word: &str) -> Result<Transform, String> {
    let known = TRANSFORMS.iter().find(|(name, _)| *name == word);
    known.map(|(_, transform)| *transform).ok_or_else(|| {
        let names: Vec<&str> = TRANSFORMS.iter().map(|(name, _)| *name).collect();
        format!("there is no transform `{word}`; there are {}", names.join(", "))
    })
}

fn place(text: &str) -> Result<Value, String> {
    match text {
        "$key" => Ok(Value::Key),
        "$ordinal" => Ok(Value::Ordinal),
        "$program" => Ok(Value::Program),
        _ if text.starts_with('$') => {
            Err(format!("there is no `{text}`; there are `$key`, `$ordinal` and `$program`"))
        }
        "" => Ok(Value::At(Vec::new())),
        _ if text.starts_with('/') => pointer(text).map(Value::At),
        column => Ok(Value::At(vec![column.to_owned()])),
    }
}

/// The parts of a JSON Pointer (RFC 6901).
pub(super) fn pointer(text: &str) -> Result<Vec<String>, String> {
    match text.strip_prefix('/') {
        _ if text.is_empty() => Ok(Vec::new()),
        None => Err(format!("`{text}` is no JSON Pointer: it must begin with `/`")),
        Some(rest) => Ok(rest.split('/').map(|part| part.replace("~1", "/").replace("~0", "~")).collect()),
    }
}

/// Names of scaffolds live as long as the program: there are a few, and every row of every run carries one.
fn intern(word: &str) -> &'static str {
    use std::sync::{Mutex, PoisonError};
    static WORDS: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());
    let mut words = WORDS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = words.iter().find(|known| **known == word) {
        return known;
    }
    let new: &'static str = Box::leak(word.to_owned().into_boxed_str());
    words.push(new);
    new
}

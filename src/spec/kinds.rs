//! How the table of each stage kind is read: its keys, their types, their defaults.

use std::path::Path;

use toml::Spanned;
use toml::de::DeValue;

use super::diagnostic::{Diagnostic, did_you_mean};
use super::stages::{Config, Ingest, OverLength, Pack, Render, SourceEntry, Sql, Tokenizer, TokenizerFrom};
use super::{Input, Reader, Stage};
use crate::code::Code;
use crate::ingest::format::scaffolds;
use crate::remote::Place;

type ReadKind = fn(&mut Reader<'_>, &Path) -> Option<Config>;

/// Every stage kind: its word, and how its table is read.
const KINDS: [(&str, ReadKind); 11] = [
    ("ingest", ingest),
    ("dedup", super::curation::dedup),
    ("label", super::curation::label),
    ("filter", super::curation::filter),
    ("balance", super::balance::balance),
    ("split", super::curation::split),
    ("tokenizer", tokenizer),
    ("render", render),
    ("pack", pack),
    ("train", super::training::train),
    ("sql", sql),
];

/// Names that SQL engines give to schemas of their own.
const RESERVED_SCHEMAS: [&str; 3] = ["public", "information_schema", "datafusion"];

/// Stage kinds that the design names and this version does not build.
const RESERVED: [&str; 1] = ["export"];

/// Reads all stages, in the order of the file.
pub(super) fn read_all(mut table: Reader<'_>, base: &Path) -> Vec<Stage> {
    let mut stages = Vec::new();
    for (name, mut reader) in table.tables(|name| format!("stage `{name}`")) {
        let span = reader.span();
        if RESERVED_SCHEMAS.contains(&name.as_str()) || !is_identifier(&name) {
            reader.problems().push(
                Diagnostic::new(
                    Code::BadValue,
                    span.clone(),
                    format!("stage name `{name}` cannot be a SQL schema"),
                )
                .with_hint("use lower-case letters, digits and `_`, and start with a letter".to_owned()),
            );
        }
        let Some(kind) = reader.required_text("kind") else {
            reader.abandon();
            continue;
        };
        match KINDS.iter().find(|(word, _)| *word == kind) {
            Some((_, read)) => {
                if let Some(config) = read(&mut reader, base) {
                    stages.push(Stage { name, span, config });
                }
                reader.finish();
            }
            None if RESERVED.contains(&kind.as_str()) => {
                reader.reject("kind", Code::NotYet, format!("stage kind `{kind}` is not built yet"), None);
            }
            None => reader.problems().push(
                Diagnostic::new(
                    Code::UnknownKind,
                    reader.span_of("kind"),
                    format!("unknown stage kind `{kind}`"),
                )
                .with_hint(did_you_mean(&kind, KINDS.map(|(word, _)| word))),
            ),
        }
    }
    if stages.is_empty() && table.problems().is_empty() {
        table.problems().push(Diagnostic::new(Code::MissingKey, table.span(), "the spec has no stage"));
    }
    stages
}

pub(super) fn is_identifier(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
}

/// The name of another stage.
pub(super) fn input(reader: &mut Reader<'_>, key: &str) -> Option<Input> {
    let stage = reader.required_text(key)?;
    Some(Input { stage, span: reader.span_of(key) })
}

fn ingest(reader: &mut Reader<'_>, base: &Path) -> Option<Config> {
    let max_quarantined = reader.fraction("max_quarantined").unwrap_or(0.001);
    let items = reader.required("sources", Reader::items)?;
    if items.is_empty() {
        reader.reject("sources", Code::BadValue, "`sources` is empty", None);
    }
    let infer_parents = reader.boolean("infer_parents").unwrap_or(false);
    let sources = items.into_iter().filter_map(|item| source(reader, item, base)).collect();
    Some(Config::Ingest(Ingest { sources, infer_parents, max_quarantined }))
}

/// One source: a path, or a table with one.
fn source(reader: &Reader<'_>, item: &Spanned<DeValue<'_>>, base: &Path) -> Option<SourceEntry> {
    let span = item.span();
    let problem = |code: Code, message: String| {
        reader.problems().push(Diagnostic::new(code, span.clone(), message));
        None
    };
    let mut source = SourceEntry {
        place: Place::Local(base.to_path_buf()),
        given: String::new(),
        scaffold: None,
        task: None,
        license: None,
        origin: None,
        mapping: None,
        span: span.clone(),
    };
    match item.get_ref() {
        DeValue::String(path) => source.given = path.to_string(),
        DeValue::Table(table) => {
            let mut entry = reader.inner(table, span.clone(), "a source".to_owned());
            let path = entry.required_text("path");
            let scaffolds: Vec<(&str, &str)> = scaffolds().into_iter().map(|word| (word, word)).collect();
            source.scaffold = entry.choice("scaffold", &scaffolds).map(str::to_owned);
            source.task = entry.text("task");
            source.license = entry.text("license");
            source.origin = entry.text("origin");
            source.mapping = entry.text("mapping").map(|path| base.join(path));
            if source.mapping.is_some() && source.scaffold.is_some() {
                let message = "a source with a `mapping` cannot name a `scaffold` too";
                entry.reject("scaffold", Code::BadValue, message, "the mapping names it");
            }
            entry.finish();
            source.given = path?;
        }
        _ => return problem(Code::WrongType, "a source must be a path or a table with `path`".to_owned()),
    }
    if source.given.trim().is_empty() {
        return problem(Code::BadValue, "a source's path is empty".to_owned());
    }
    match Place::read(&source.given, base) {
        Ok(place) => Some(SourceEntry { place, ..source }),
        Err(message) => problem(Code::BadValue, message),
    }
}

fn tokenizer(reader: &mut Reader<'_>, base: &Path) -> Option<Config> {
    let smallest = finch_core::tokens::MIN_VOCABULARY as i64;
    let path = reader.text("path");
    let from = match (path, reader.has("input")) {
        (Some(_), true) => {
            reader.text("input");
            reader.reject(
                "input",
                Code::BadValue,
                "a tokenizer is loaded (`path`) or trained (`input`), not both",
                None,
            );
            return None;
        }
        (Some(path), false) => {
            for key in ["vocabulary", "scrub"] {
                if reader.has(key) {
                    let message = format!("`{key}` is of a tokenizer that is trained; `path` loads one");
                    reader.reject(key, Code::BadValue, message, "remove one of the two keys");
                }
            }
            TokenizerFrom::Path { path: base.join(path), span: reader.span_of("path") }
        }
        (None, true) => {
            let input = input(reader, "input")?;
            let vocabulary = match reader.has("vocabulary") {
                true => reader.integer("vocabulary", smallest..=1_000_000)?,
                false => 4096,
            };
            TokenizerFrom::Trained { input, vocabulary, scrub: reader.boolean("scrub").unwrap_or(true) }
        }
        (None, false) => {
            reader.text("input");
            reader.boolean("scrub");
            reader.integer("vocabulary", smallest..=1_000_000);
            reader.problems().push(Diagnostic::new(
                Code::MissingKey,
                reader.span(),
                "a tokenizer needs `path` (to load one) or `input` (to train one)",
            ));
            return None;
        }
    };
    Some(Config::Tokenizer(Tokenizer { from }))
}

fn render(reader: &mut Reader<'_>, _base: &Path) -> Option<Config> {
    let source = input(reader, "input");
    let template = match reader.has("template") {
        true => reader.choice("template", &[("chatml", "chatml")]),
        false => Some("chatml"),
    };
    let tokenizer = input(reader, "tokenizer");
    let max_tokens = reader.required("max_tokens", |reader, key| reader.integer(key, 1..=i64::MAX));
    let over_length = reader.required("over_length", |reader, key| {
        reader.choice(key, &[("drop", OverLength::Drop), ("error", OverLength::Error)])
    });
    let scrub = reader.boolean("scrub").unwrap_or(true);
    let allow_empty = reader.boolean("allow_empty").unwrap_or(false);
    Some(Config::Render(Render {
        input: source?,
        template: template?.to_owned(),
        tokenizer: tokenizer?,
        max_tokens: max_tokens?,
        over_length: over_length?,
        scrub,
        allow_empty,
    }))
}

fn pack(reader: &mut Reader<'_>, _base: &Path) -> Option<Config> {
    let input = input(reader, "input");
    // No model attends over more, and a pack is built and read whole.
    let longest = 1..=1 << 24;
    let sequence_tokens =
        reader.required("sequence_tokens", |reader, key| reader.integer(key, longest.clone()));
    let shard_bytes = match reader.has("shard_bytes") {
        true => reader.bytes("shard_bytes"),
        false => Some(finch_core::shard::Cuts::default().shard_bytes as u64),
    };
    let allow_empty = reader.boolean("allow_empty").unwrap_or(false);
    Some(Config::Pack(Pack {
        input: input?,
        sequence_tokens: sequence_tokens?,
        shard_bytes: shard_bytes?,
        allow_empty,
    }))
}

fn sql(reader: &mut Reader<'_>, base: &Path) -> Option<Config> {
    let inputs = reader.required("inputs", Reader::texts);
    let query = reader.required("query", |reader, key| reader.query(key, base));
    let query_span = reader.span_of("query");
    let table = reader.text("table").unwrap_or_else(|| "rows".to_owned());
    if crate::contract::Contract::find(&table).is_some() {
        let message = format!("`{table}` is a table of finch's own; give the result another name");
        reader.reject("table", Code::BadValue, message, None);
    } else if !is_identifier(&table) {
        reader.reject("table", Code::BadValue, format!("`{table}` cannot be a table's name"), None);
    }
    let key = reader.texts("key").unwrap_or_default().into_iter().map(|(column, _)| column).collect();
    let query = query?;
    let inputs = inputs?.into_iter().map(|(stage, span)| Input { stage, span }).collect();
    let key_span = reader.span_of("key");
    Some(Config::Sql(Sql { inputs, query, query_span, table, key, key_span }))
}

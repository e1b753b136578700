//! Mappings: a TOML file that says where the parts of a log stand, so that a new scaffold needs no Rust.
//!
//! A mapping names the places of ids, parents, code, scores, prompts and times in records of JSON, JSON lines, CSV,
//! Parquet or SQLite, and a few named transforms. It cannot compute: what it cannot say needs a reader. The published
//! Finch Collection, LLM4AD, LLM-SR, AIDE and TTT-Discover are read by the mappings that are built in; `mappings/` has
//! them, and they are the examples to start from.

mod build;
mod rows;
mod spec;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::path::Path;
use std::sync::{Arc, LazyLock};

use finch_core::Digest;

use super::assess::Failure;
use super::record::{FileLog, Record};
use super::shape::{Container, Shape};
use super::{LogFile, Scratch};
use crate::catalog::Direction;
use crate::code::Code;
use crate::error::Result;
use crate::spec::{read_document, read_text};
pub(super) use rows::may_be;
use value::Value;
pub(crate) use value::{fence, float, seconds};

/// What a mapping file says.
#[derive(Debug)]
pub struct Mapping {
    /// The word of `runs.scaffold`.
    pub scaffold: &'static str,
    /// Digest of the file's text.
    pub digest: Digest,
    /// What files look like that it is for, when the user does not say so.
    pub detect: Vec<Signature>,
    /// Whether all that lies in one folder is one run. Otherwise descent decides.
    pub one_run: bool,
    /// The metric that candidates are judged by.
    pub score_key: String,
    /// Its direction, where it is always the same.
    pub direction: Option<Direction>,
    records: Records,
    run: RunFields,
    candidate: CandidateFields,
    parent: Option<ParentFields>,
    failures: Vec<Rule>,
}

/// How the head of a file shows that it is for a mapping.
#[derive(Clone, Debug)]
pub struct Signature {
    /// The outermost value.
    pub container: Container,
    /// Keys that the first object must have.
    pub keys: Vec<String>,
    /// Keys that make it more certain.
    pub telling: Vec<String>,
}

/// Where the records are.
#[derive(Debug)]
struct Records {
    form: Option<Form>,
    /// JSON Pointers to lists of records, to objects of records where `by_key`, or to one record.
    at: Vec<Vec<String>>,
    /// Whether an object holds records by their keys.
    by_key: bool,
    /// The table of a database.
    table: Option<String>,
}

/// The form of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Json,
    Jsonl,
    Csv,
    Parquet,
    Sqlite,
}

/// What is said of the run in every record.
#[derive(Debug, Default)]
struct RunFields {
    id: Option<Value>,
    task: Option<Value>,
    domain: Option<Value>,
    maximize: Option<Value>,
}

/// Where the parts of a candidate are.
#[derive(Debug)]
struct CandidateFields {
    id: Value,
    parents: Option<Value>,
    copy_of: Option<Value>,
    code: Value,
    language: Option<Value>,
    iteration: Option<Value>,
    island: Option<Value>,
    generation: Option<Value>,
    metrics: Option<Value>,
    score: Option<Value>,
    error: Option<Value>,
    feedback: Option<Value>,
    eval_seconds: Option<Value>,
    created_at: Option<Value>,
    system_prompt: Option<Value>,
    user_prompt: Option<Value>,
    reasoning: Option<Value>,
    response: Option<Value>,
    model: Option<Value>,
    temperature: Option<Value>,
    prompt_tokens: Option<Value>,
    completion_tokens: Option<Value>,
    cost: Option<Value>,
    inspirations: Option<Value>,
}

/// What a record of a step says of the parent.
#[derive(Debug)]
struct ParentFields {
    code: Option<Value>,
    metrics: Option<Value>,
    score: Option<Value>,
}

/// When a candidate counts as failed.
#[derive(Debug)]
struct Rule {
    at: Value,
    test: Test,
    failure: Failure,
}

/// A test of one value.
#[derive(Debug)]
enum Test {
    /// Equal to this.
    Is(serde_json::Value),
    /// Not there, or null.
    Missing,
    /// There, not null, and not an empty text or list.
    Present,
    /// A number less than this.
    Below(f64),
    /// A number greater than this.
    Above(f64),
}

/// The mappings that are built in, read once. Tests hold that they can be read.
pub fn built_in() -> &'static [Arc<Mapping>] {
    static MAPPINGS: LazyLock<Vec<Arc<Mapping>>> = LazyLock::new(|| {
        let texts = [
            ("finch.toml", include_str!("../../../mappings/finch.toml")),
            ("llm4ad.toml", include_str!("../../../mappings/llm4ad.toml")),
            ("llmsr.toml", include_str!("../../../mappings/llmsr.toml")),
            ("aide.toml", include_str!("../../../mappings/aide.toml")),
            ("tttdiscover.toml", include_str!("../../../mappings/tttdiscover.toml")),
            ("nanodiscover.toml", include_str!("../../../mappings/nanodiscover.toml")),
        ];
        let read = texts.map(|(name, text)| Mapping::parse(Path::new(name), text));
        read.into_iter().filter_map(Result::ok).map(Arc::new).collect()
    });
    &MAPPINGS
}

impl Mapping {
    /// Reads a mapping file.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(path, &read_text(path, "the mapping", Code::SpecUnreadable)?)
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let digest = Digest::of_bytes(text.as_bytes());
        Ok(read_document(path, text, "the mapping", |root| spec::lower(root, digest))?)
    }

    /// The signature that a shape fits best, with how certain it is: from 0.7 for its keys alone to 1.
    pub fn fits(&self, shape: &Shape) -> Option<(f64, &Signature)> {
        let fits = self.detect.iter().filter_map(|signature| {
            let container = signature.container == shape.container;
            let certainty = certainty(shape, &signature.keys, &signature.telling).filter(|_| container)?;
            Some((certainty, signature))
        });
        fits.max_by(|(a, _), (b, _)| a.total_cmp(b))
    }
}

/// How certain keys make it that a shape is what they are keys of; `None` where one that must be there is not.
pub fn certainty(shape: &Shape, keys: &[impl AsRef<str>], telling: &[impl AsRef<str>]) -> Option<f64> {
    let has = |key: &str| shape.keys.iter().any(|own| own == key);
    if !keys.iter().all(|key| has(key.as_ref())) {
        return None;
    }
    let told = telling.iter().filter(|key| has(key.as_ref())).count();
    let share = if telling.is_empty() { 1.0 } else { told as f64 / telling.len() as f64 };
    Some(0.7 + 0.3 * share)
}

/// Reads one log that has a mapping.
pub(super) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let Some(mapping) = &file.mapping else { return Ok(log) };
    rows::each(file, mapping, scratch, &mut log)?;
    // Those that are built in know that some files lack what others have.
    if mapping.detect.is_empty() {
        log.unfound = mapping.unfound(&log);
    }
    Ok(log)
}

impl Mapping {
    /// Fields that this mapping names and that no record of a file has: mistaken places, more often than not.
    fn unfound(&self, log: &FileLog) -> Vec<String> {
        let records: Vec<&Record> = log.records.iter().filter(|record| !record.stub).collect();
        let candidate = &self.candidate;
        type Has = fn(&Record) -> bool;
        let fields: [(&str, bool, Has); 6] = [
            ("parents", candidate.parents.is_some() && records.len() > 1, |one| !one.parents.is_empty()),
            ("user_prompt", candidate.user_prompt.is_some(), |one| one.user_prompt.is_some()),
            ("response", candidate.response.is_some(), |one| {
                one.response.is_some() || one.reasoning.is_some()
            }),
            ("created_at", candidate.created_at.is_some(), |one| one.created_at.is_some()),
            ("run.id", self.run.id.is_some(), |one| one.group.is_some()),
            ("run.task", self.run.task.is_some(), |one| one.task.is_some()),
        ];
        let named = fields.into_iter().filter(|(_, named, _)| *named && !records.is_empty());
        let unfound = named.filter(|(.., has)| !records.iter().any(|record| has(record)));
        let mut unfound: Vec<String> = unfound.map(|(name, ..)| name.to_owned()).collect();
        let scored = |record: &&Record| record.metrics.contains_key(&self.score_key);
        if candidate.score.is_some() && !records.is_empty() && !records.iter().any(scored) {
            unfound.push("score".to_owned());
        }
        unfound
    }
}

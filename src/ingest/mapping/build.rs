//! From a row to a record, as a mapping says.

use finch_core::Digest;
use serde_json::{Map, Value as Json};

use super::value::{Row, Value, float};
use super::{CandidateFields, Mapping, Rule, Test};
use crate::catalog::Direction;
use crate::code::Code;
use crate::error::Result;
use crate::ingest::assess::{self, Failure};
use crate::ingest::record::{Attempt, FileLog, Quarantined, Record, micros};
use crate::ingest::scaffold::read_answer;
use crate::ingest::{LogFile, Scratch};

/// Where a row stands.
pub(super) struct Place {
    pub(super) offset: u64,
    pub(super) digest: Digest,
}

/// Adds what a row says to a log.
pub(super) fn add(
    mapping: &Mapping,
    mut row: Row<'_>,
    place: &Place,
    file: &LogFile,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<()> {
    let fields = &mapping.candidate;
    let text = |value: &Option<Value>, row: &Row<'_>| value.as_ref().and_then(|value| value.text(row));
    let number = |value: &Option<Value>, row: &Row<'_>| value.as_ref().and_then(|value| value.number(row));
    let integer = |value: &Option<Value>, row: &Row<'_>| value.as_ref().and_then(|value| value.integer(row));
    let id = |value: &Option<Value>, row: &Row<'_>| value.as_ref().and_then(|value| value.id(row));
    let ids = |value: &Option<Value>, row: &Row<'_>| value.as_ref().map_or_else(Vec::new, |v| v.ids(row));
    let kept = |value: &Option<Value>, row: &Row<'_>| match text(value, row) {
        Some(text) => scratch.text(&text),
        None => Ok(None),
    };

    let code = fields.code.text(&row).filter(|code| !code.trim().is_empty());
    let program =
        code.map(|code| scratch.program(&code, text(&fields.language, &row).as_deref())).transpose()?;
    row.program = program.map(|program| program.id.to_string());
    let group = id(&mapping.run.id, &row);
    let error = text(&fields.error, &row);
    let metrics = metrics(&fields.metrics, &fields.score, &mapping.score_key, &row);
    let mut parents = ids(&fields.parents, &row);
    // How tables write that there is none.
    parents.retain(|id| !["NaN", "nan", "None", "null", "NULL"].contains(&id.as_str()));
    let Some(native_id) = fields.id.id(&row) else {
        let response = kept(&fields.response, &row)?;
        if program.is_none() && fields.is_proposal(&row) {
            // Without a program it has no id, and is a proposal that failed.
            log.attempts.push(Attempt {
                parent: parents.into_iter().next(),
                group,
                iteration: integer(&fields.iteration, &row),
                error: error.or_else(|| Some("no program".to_owned())),
                response,
                scores: metrics,
                source: file.source.clone(),
                offset: place.offset,
                digest: Some(place.digest),
                ..Attempt::default()
            });
            return Ok(());
        }
        let text = row.record.to_string();
        let reason = "the record has no id where the mapping says";
        log.quarantined.push(Quarantined::new(Code::BadRecord, reason, file, place.offset, text.as_bytes()));
        return Ok(());
    };
    let feedback = text(&fields.feedback, &row).or_else(|| error.clone());
    let by_rule = mapping.failures.iter().find(|rule| rule.holds(&row)).map(|rule| rule.failure);
    let texts = [error.as_deref(), feedback.as_deref()].map(Option::unwrap_or_default).join("\n");
    let said = mapping.failure(&metrics, &texts);
    // A rule says that it failed; the texts may say more of why.
    let failure = match (by_rule, error.as_deref()) {
        (Some(Failure::Error), Some(error)) => Some(assess::reason(error).unwrap_or(Failure::Error)),
        (Some(failure), _) => Some(failure),
        (None, _) => said,
    };
    let mut record = Record {
        copy_of: id(&fields.copy_of, &row),
        parents,
        program,
        iteration: integer(&fields.iteration, &row),
        island: integer(&fields.island, &row),
        generation: integer(&fields.generation, &row),
        metrics,
        failure,
        feedback: scratch.text(feedback.as_deref().unwrap_or(""))?,
        eval_seconds: number(&fields.eval_seconds, &row),
        created_at: number(&fields.created_at, &row).and_then(micros),
        system_prompt: kept(&fields.system_prompt, &row)?,
        user_prompt: kept(&fields.user_prompt, &row)?,
        model: text(&fields.model, &row),
        temperature: number(&fields.temperature, &row),
        prompt_tokens: integer(&fields.prompt_tokens, &row),
        completion_tokens: integer(&fields.completion_tokens, &row),
        cost: number(&fields.cost, &row),
        inspirations: ids(&fields.inspirations, &row),
        direction: mapping.run.maximize.as_ref().and_then(|value| match value.of(&row).as_deref() {
            Some(Json::Bool(true)) => Some(Direction::Maximize),
            Some(Json::Bool(false)) => Some(Direction::Minimize),
            _ => None,
        }),
        group: group.clone(),
        task: text(&mapping.run.task, &row),
        domain: text(&mapping.run.domain, &row),
        source: file.source.clone(),
        offset: place.offset,
        digest: Some(place.digest),
        native_id,
        ..Record::default()
    };
    if let Some(answer) = text(&fields.response, &row) {
        let before =
            mapping.parent.as_ref().and_then(|parent| parent.code.as_ref()).and_then(|at| at.text(&row));
        read_answer(&answer, before.as_deref(), &mut record, scratch)?;
        if let Some(reasoning) = text(&fields.reasoning, &row) {
            // Told apart by whoever logged it: nothing is to be taken off the answer.
            record.reasoning = scratch.text(&reasoning)?;
            record.response = scratch.text(&answer)?;
        }
    }
    parent(mapping, &row, &mut record, file, scratch, log)?;
    log.records.push(record);
    Ok(())
}

impl CandidateFields {
    /// Whether a record without an id and a program is of this mapping at all: something that it speaks of is there.
    fn is_proposal(&self, row: &Row<'_>) -> bool {
        let fields =
            [&self.iteration, &self.error, &self.response, &self.score, &self.metrics, &self.user_prompt];
        fields.into_iter().flatten().any(|field| field.of(row).is_some())
    }
}

/// What the record of a step says of the parent, as a record of its own.
fn parent(
    mapping: &Mapping,
    row: &Row<'_>,
    record: &mut Record,
    file: &LogFile,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<()> {
    let Some(fields) = &mapping.parent else { return Ok(()) };
    let Some(native_id) = record.parents.first().cloned() else { return Ok(()) };
    let code = fields.code.as_ref().and_then(|code| code.text(row));
    let metrics = metrics(&fields.metrics, &fields.score, &mapping.score_key, row);
    record.parent_metrics.clone_from(&metrics);
    log.records.push(Record {
        native_id,
        stub: true,
        program: code.map(|code| scratch.program(&code, None)).transpose()?,
        failure: mapping.failure(&metrics, ""),
        metrics,
        group: record.group.clone(),
        task: record.task.clone(),
        domain: record.domain.clone(),
        source: file.source.clone(),
        offset: record.offset,
        digest: record.digest,
        ..Record::default()
    });
    Ok(())
}

impl Mapping {
    /// What metrics and texts say of a failure. The mapping says what the score is, so its name says nothing of that, as
    /// `error` would.
    fn failure(&self, metrics: &Map<String, Json>, texts: &str) -> Option<Failure> {
        let mut others = metrics.clone();
        others.remove(&self.score_key);
        assess::failure(&others, None, texts)
    }
}

/// Metrics, with the score among them under its key.
fn metrics(all: &Option<Value>, score: &Option<Value>, key: &str, row: &Row<'_>) -> Map<String, Json> {
    let mut metrics = match all.as_ref().and_then(|all| all.of(row)).map(std::borrow::Cow::into_owned) {
        Some(Json::Object(metrics)) => metrics,
        _ => Map::new(),
    };
    match score.as_ref().and_then(|score| score.of(row)).map(std::borrow::Cow::into_owned) {
        // Tables of text write numbers as text.
        Some(Json::String(text)) if text.trim().parse::<f64>().is_ok() => {
            metrics.insert(key.to_owned(), text.trim().parse().map_or(Json::Null, float));
        }
        Some(value) => {
            metrics.insert(key.to_owned(), value);
        }
        None => {}
    }
    metrics
}

/// Whether a value is the expected one. Tables write truth and numbers as text, and SQLite has no truth values.
fn is(value: &Json, expected: &Json) -> bool {
    let number = |value: &Json| value.as_f64().or_else(|| value.as_str()?.trim().parse().ok());
    let truth = |value: &Json| match value {
        Json::Bool(flag) => Some(*flag),
        Json::Number(number) if number.as_f64() == Some(0.0) => Some(false),
        Json::Number(number) if number.as_f64() == Some(1.0) => Some(true),
        Json::String(text) => match text.trim().to_ascii_lowercase().as_str() {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        },
        _ => None,
    };
    value == expected
        || match expected {
            Json::Bool(flag) => truth(value) == Some(*flag),
            Json::Number(_) => number(value).is_some() && number(value) == number(expected),
            _ => false,
        }
}

impl Rule {
    fn holds(&self, row: &Row<'_>) -> bool {
        let value = self.at.of(row);
        let number = || self.at.number(row).or_else(|| crate::ingest::json::number(value.as_deref()?));
        match &self.test {
            Test::Is(expected) => value.as_deref().is_some_and(|value| is(value, expected)),
            Test::Missing => value.is_none(),
            Test::Present => match value.as_deref() {
                None => false,
                Some(Json::String(text)) => !text.is_empty(),
                Some(Json::Array(items)) => !items.is_empty(),
                Some(_) => true,
            },
            Test::Below(limit) => number().is_some_and(|number| number < *limit),
            Test::Above(limit) => number().is_some_and(|number| number > *limit),
        }
    }
}

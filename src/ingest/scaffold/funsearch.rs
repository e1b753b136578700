//! FunSearch by kitft: a folder of prompts and responses, and a pickled database of the functions that were kept.
//!
//! A prompt shows the functions that the answer is to improve on, by text and without ids, so parents are for
//! inference. Scores of single inputs lie in sandbox folders that are tied to no response: a response has none. The
//! database has scores, and not the prompts; its functions are candidates of their own.

use std::collections::{BTreeMap, HashSet};

use finch_core::{Digest, Kind};
use serde_json::{Map, Value as Json};

use super::pickled::Taker;
use super::read_answer;
use crate::code::Code;
use crate::error::Result;
use crate::ingest::assess::Failure;
use crate::ingest::mapping::{fence, float};
use crate::ingest::open;
use crate::ingest::pickle::{self, Value};
use crate::ingest::record::{Attempt, FileLog, Quarantined, Record};
use crate::ingest::{LogFile, Scratch};

/// The scaffold's own fitness.
const SCORE: &str = "score";

/// Reads one folder of prompts and responses.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let mut calls: BTreeMap<i64, [Option<u32>; 2]> = BTreeMap::new();
    for (part, of_file) in (0_u32..).zip(&file.parts) {
        let Some((kind, number)) = of_file.within.trim_end_matches(".log").split_once('_') else { continue };
        let Ok(number) = number.parse() else { continue };
        calls.entry(number).or_default()[usize::from(kind == "response")] = Some(part);
    }
    let run = file.digest.unwrap_or_else(|| Digest::of_bytes(&[]));
    for (number, [prompt, response]) in calls {
        let Some(part) = response else { continue };
        let Some(answer) = open::text(file, part, &mut log)? else { continue };
        let digest = Some(Kind::Unit.fields().digest(run).text(&number.to_string()).finish());
        let Some(code) = program(&answer) else {
            log.attempts.push(Attempt {
                iteration: Some(number),
                error: Some("no function in the answer".to_owned()),
                response: scratch.text(&answer)?,
                part,
                source: file.source_of(part),
                digest,
                ..Attempt::default()
            });
            continue;
        };
        let mut record = Record {
            native_id: number.to_string(),
            program: Some(scratch.program(&code, Some("python"))?),
            iteration: Some(number),
            failure: Some(Failure::NoScore),
            part,
            source: file.source_of(part),
            digest,
            ..Record::default()
        };
        if let Some(prompt) = prompt
            && let Some(text) = open::text(file, prompt, &mut log)?
        {
            record.user_prompt = scratch.text(&text)?;
        }
        read_answer(&answer, None, &mut record, scratch)?;
        log.records.push(record);
    }
    Ok(log)
}

/// The program of an answer: its first fenced block, or all of it where it is code without a fence. An answer may also
/// be the body of the function alone.
fn program(answer: &str) -> Option<String> {
    let code = fence(answer).unwrap_or_else(|| answer.to_owned());
    let is_code = code.lines().any(|line| {
        let line = line.trim_start();
        line.starts_with("def ") || line.starts_with("return ")
    });
    is_code.then_some(code)
}

/// Reads a database of functions.
pub(in crate::ingest) fn read_database(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let Some(bytes) = open::bytes(file, &mut log)? else { return Ok(log) };
    let pickle = match pickle::decode(&bytes) {
        Ok(pickle) => pickle,
        Err(error) => {
            log.quarantined.push(Quarantined::pickle(&error, file, &bytes));
            return Ok(log);
        }
    };
    let root = pickle.root();
    let Some(islands) = root.get("_islands").or_else(|| root.attribute("_islands")) else {
        let reason = "a pickle without FunSearch's `_islands`";
        log.quarantined.push(Quarantined::new(Code::BadRecord, reason, file, 0, &bytes));
        return Ok(log);
    };
    let mut taker = Taker::new(bytes.len());
    // One function stands in many clusters and islands, and is one candidate. Nor is one table read twice: a hostile
    // pickle mentions a few of them a million times.
    let mut seen = HashSet::new();
    let mut read = HashSet::new();
    for (island, of_island) in (0_i64..).zip(islands.items()) {
        let clusters = of_island.attribute("_clusters").filter(|clusters| read.insert(clusters.id()));
        for (scores, cluster) in clusters.into_iter().flat_map(Value::entries) {
            let score = cluster.attribute("_score").and_then(Value::as_f64);
            let functions = cluster.attribute("_programs").filter(|functions| read.insert(functions.id()));
            for function in functions.into_iter().flat_map(Value::items) {
                if !seen.insert(function.id()) {
                    continue;
                }
                let Some(code) = text_of(function, &mut taker) else {
                    log.quarantined.push(Quarantined::file(
                        Code::BadRecord,
                        "a function without a body",
                        file,
                    ));
                    continue;
                };
                let mut metrics = Map::new();
                metrics.insert(SCORE.to_owned(), score.map_or(Json::Null, float));
                metrics.insert("scores_per_test".to_owned(), taker.json(scores));
                let program = scratch.program(&code, Some("python"))?;
                log.records.push(Record {
                    native_id: format!("function {}", program.raw.short()),
                    program: Some(program),
                    island: Some(island),
                    failure: score.is_none().then_some(Failure::NoScore),
                    metrics,
                    source: file.source.clone(),
                    offset: log.records.len() as u64,
                    digest: Some(Kind::Unit.fields().digest(program.raw).int(island as u64).finish()),
                    ..Record::default()
                });
            }
        }
    }
    Ok(log)
}

/// A function as source text, as the scaffold prints it.
fn text_of(function: Value<'_>, taker: &mut Taker) -> Option<String> {
    let mut part = |name| taker.text(function.attribute(name));
    let (name, arguments, body) = (part("name")?, part("args")?, part("body")?);
    let returns = part("return_type").map_or_else(String::new, |kind| format!(" -> {kind}"));
    let docstring = part("docstring").filter(|text| !text.is_empty());
    let docstring = docstring.map_or_else(String::new, |text| format!("  \"\"\"{text}\"\"\"\n"));
    Some(format!("def {name}({arguments}){returns}:\n{docstring}{body}\n"))
}

#[cfg(test)]
mod tests {
    use super::program;

    #[test]
    fn prose_is_no_program() {
        assert_eq!(program("I cannot do that."), None);
        assert_eq!(
            program("Sure:\n```python\ndef f(x):\n    return x\n```\n").as_deref(),
            Some("def f(x):\n    return x")
        );
        assert_eq!(program("  return n - k\n").as_deref(), Some("  return n - k\n"));
    }
}

//! OpenEvolve's evolution trace: one search step a line.
//!
//! A line describes the child and, less fully, its parent. Lines are read one at a time, so a trace may be
//! larger than memory. A writer that fails in the middle of a line leaves a half record with the next one
//! glued to it; reading resumes at the next record's first key, and what is lost is quarantined.

use finch_core::manifest::canonical_json;
use finch_core::replay;
use serde_json::Value;

use super::{artifacts, read_answer};
use crate::code::Code;
use crate::error::Result;
use crate::ingest::assess;
use crate::ingest::lines::Lines;
use crate::ingest::open;
use crate::ingest::recognise;
use crate::ingest::record::{FileLog, ProgramRef, Quarantined, Record, micros};
use crate::ingest::{LogFile, Scratch, json, prompt};

/// Every record starts with this.
const RECORD_START: &[u8] = b"{\"iteration\":";

/// Reads one trace.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    // A document is one object around its steps; what it is called does not matter.
    if recognise::shape(&file.path).is_some_and(|shape| shape.has(&["traces"])) {
        return read_document(file, scratch);
    }
    let mut log = FileLog::default();
    let mut lines = match Lines::open(file)? {
        Ok(lines) => lines,
        Err(log) => return Ok(log),
    };
    while let Some(line) = lines.next(&mut log)? {
        read_line(line.bytes, line.offset, file, scratch, &mut log)?;
    }
    Ok(log)
}

/// The `.json` form: one document with a list `traces`.
fn read_document(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let Some(bytes) = open::bytes(file, &mut log)? else { return Ok(log) };
    let traces = match json::parse(&bytes) {
        Ok(Value::Object(mut document)) => match document.remove("traces") {
            Some(Value::Array(traces)) => traces,
            _ => {
                log.quarantined.push(Quarantined::new(Code::BadRecord, "no list `traces`", file, 0, &bytes));
                return Ok(log);
            }
        },
        Ok(_) => {
            log.quarantined.push(Quarantined::new(Code::BadRecord, "not a JSON object", file, 0, &bytes));
            return Ok(log);
        }
        Err(error) => {
            log.quarantined.push(Quarantined::not_json(&error, file, 0, &bytes));
            return Ok(log);
        }
    };
    for (ordinal, step) in traces.iter().enumerate() {
        // The document is parsed as a whole, so a record's place is its ordinal.
        let text = canonical_json(step);
        keep(step, text.as_bytes(), ordinal as u64, file, scratch, &mut log)?;
    }
    Ok(log)
}

fn read_line(line: &[u8], offset: u64, file: &LogFile, scratch: &Scratch, log: &mut FileLog) -> Result<()> {
    let text = line.trim_ascii();
    if text.is_empty() {
        return Ok(());
    }
    let offset = offset + (line.len() - line.trim_ascii_start().len()) as u64;
    match json::parse_counting(text, &mut log.replaced) {
        Ok(value) => keep(&value, text, offset, file, scratch, log),
        Err(error) => {
            let starts: Vec<usize> =
                (1..text.len()).filter(|&at| text[at..].starts_with(RECORD_START)).collect();
            if starts.is_empty() {
                log.bad_line(Quarantined::not_json(&error, file, offset, text));
                return Ok(());
            }
            let mut from = 0;
            for to in starts.into_iter().chain([text.len()]) {
                let piece = &text[from..to];
                match json::parse(piece) {
                    Ok(value) => keep(&value, piece, offset + from as u64, file, scratch, log)?,
                    Err(error) => {
                        let place = offset + from as u64;
                        log.quarantined.push(Quarantined::new(
                            Code::Truncated,
                            error.to_string(),
                            file,
                            place,
                            piece,
                        ));
                    }
                }
                from = to;
            }
            Ok(())
        }
    }
}

/// A step's child as a record, and its parent as a stub.
fn keep(
    value: &Value,
    bytes: &[u8],
    offset: u64,
    file: &LogFile,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<()> {
    let fields = value.as_object().and_then(|object| {
        let child = json::id(object, "child_id")?;
        let metrics = object.get("child_metrics")?.as_object()?;
        Some((object, child, metrics))
    });
    let Some((object, native_id, metrics)) = fields else {
        let reason = "a step needs `child_id` and `child_metrics`";
        log.quarantined.push(Quarantined::new(Code::BadRecord, reason, file, offset, bytes));
        return Ok(());
    };
    let code = |key: &str, scratch: &Scratch| -> Result<Option<ProgramRef>> {
        json::text(object, key).map(|code| scratch.program(code, None)).transpose()
    };
    let parent = json::id(object, "parent_id");
    let parent_metrics = json::object(object, "parent_metrics");
    let prompt = json::object(object, "prompt");
    let metadata = json::object(object, "metadata");
    let artifacts = artifacts(object.get("artifacts"));
    let asked = json::text(&prompt, "user").unwrap_or("");
    let answer = json::text(object, "llm_response");
    // The program that the answer was applied to: as logged, or as the prompt shows it.
    let before = json::text(object, "parent_code").or_else(|| prompt::current_program(asked));
    let logged = code("child_code", scratch)?;
    let rebuilt = match (logged, before, answer) {
        (None, Some(before), Some(answer)) => replay::rebuild(before, answer),
        _ => None,
    };
    let program = match &rebuilt {
        Some(text) => Some(scratch.program(text, None)?),
        None => logged,
    };
    let mut record = Record {
        native_id,
        parents: parent.iter().cloned().collect(),
        program,
        rebuilt: rebuilt.is_some(),
        iteration: json::integer(object, "iteration"),
        island: json::integer(object, "island_id"),
        generation: json::integer(object, "generation"),
        metrics: metrics.clone(),
        parent_metrics: parent_metrics.clone(),
        failure: assess::failure(metrics, None, &artifacts),
        feedback: scratch.text(&artifacts)?,
        eval_seconds: json::float(metrics, "eval_time"),
        created_at: json::float(object, "timestamp").and_then(micros),
        system_prompt: scratch.text(json::text(&prompt, "system").unwrap_or(""))?,
        user_prompt: scratch.text(asked)?,
        model: json::text(&metadata, "model").map(str::to_owned),
        source: file.source.clone(),
        offset,
        ..Record::default()
    };
    if let Some(text) = answer {
        read_answer(text, before, &mut record, scratch)?;
    }
    // Its texts are hashed already, so the line need not be.
    record.digest = Some(record.content());
    if let Some(parent) = parent {
        log.records.push(Record {
            native_id: parent,
            stub: true,
            program: before.map(|before| scratch.program(before, None)).transpose()?,
            rebuilt: !object.contains_key("parent_code"),
            failure: assess::failure(&parent_metrics, None, ""),
            metrics: parent_metrics,
            source: file.source.clone(),
            offset,
            digest: record.digest,
            ..Record::default()
        });
    }
    log.records.push(record);
    Ok(())
}

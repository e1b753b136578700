//! OpenEvolve: one candidate in one JSON file, in checkpoints of every version and in database folders.
//!
//! The same candidate stands in many checkpoints, with and without its prompts; each file is a record and the
//! best one wins later. Migration copies a program under a new id with its parent set to the source: such
//! records say `copy_of` and are no search steps. The same is done to fill an empty island, without saying so.

use finch_core::{Digest, answer};
use serde_json::{Map, Value};

use super::assess;
use super::discover::LogFile;
use super::json;
use super::record::{FileLog, Quarantined, Record, changed, micros, unreadable};
use super::scratch::Scratch;
use crate::code::Code;
use crate::error::Result;

/// The largest program file that is read; real ones reach 300 kB.
const MAX_BYTES: u64 = 32 << 20;

/// Reads one program file.
pub fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    if file.bytes > MAX_BYTES {
        log.quarantined.push(Quarantined::file(
            Code::TooLarge,
            format!("larger than {} MiB", MAX_BYTES >> 20),
            file,
        ));
        return Ok(log);
    }
    let bytes = match std::fs::read(&file.path) {
        Ok(bytes) => bytes,
        Err(error) => return unreadable(file, error),
    };
    let digest = Digest::of_bytes(&bytes);
    if file.digest.is_some_and(|hashed| hashed != digest) {
        return Err(changed(file));
    }
    let value = match json::parse_counting(&bytes, &mut log.replaced) {
        Ok(value) => value,
        Err(error) => {
            let code = if error.truncated { Code::Truncated } else { Code::NotJson };
            log.quarantined.push(Quarantined::new(code, error.to_string(), file, 0, &bytes));
            return Ok(log);
        }
    };
    match program(&value, scratch)? {
        Ok(record) => {
            log.records.push(Record { source: file.source.clone(), digest: Some(digest), ..record });
        }
        Err(reason) => {
            // SkyDiscover writes the same layout with other names; its reader is not here yet.
            let foreign = value.get("solution").is_some() && value.get("code").is_none();
            let quarantined = if foreign {
                let reason = "a SkyDiscover program; its reader is not built yet";
                Quarantined::new(Code::UnsupportedLog, reason, file, 0, &bytes)
            } else {
                Quarantined::new(Code::BadRecord, reason, file, 0, &bytes)
            };
            log.quarantined.push(quarantined);
        }
    }
    Ok(log)
}

/// A program file's object as a record, or why it is none.
fn program(value: &Value, scratch: &Scratch) -> Result<Result<Record, String>> {
    let Some(object) = value.as_object() else { return Ok(Err("not a JSON object".to_owned())) };
    let Some(native_id) = json::id(object, "id") else { return Ok(Err("no `id`".to_owned())) };
    let Some(code) = json::text(object, "code") else { return Ok(Err("no `code`".to_owned())) };
    let Some(metrics) = object.get("metrics").and_then(Value::as_object) else {
        return Ok(Err("no `metrics`".to_owned()));
    };
    let metadata = json::object(object, "metadata");
    let parent = json::id(object, "parent_id");
    let artifacts = artifacts(object.get("artifacts_json").or(object.get("artifacts")));
    let migrant =
        metadata.get("migrant").and_then(Value::as_bool).unwrap_or(false) || native_id.contains("_migrant_");
    let mut record = Record {
        copy_of: parent.clone().filter(|_| migrant),
        parents: parent.into_iter().filter(|_| !migrant).collect(),
        program: Some(scratch.program(code, json::text(object, "language"))?),
        iteration: json::integer(object, "iteration_found"),
        island: json::integer(&metadata, "island"),
        generation: json::integer(object, "generation"),
        metrics: metrics.clone(),
        parent_metrics: json::object(&metadata, "parent_metrics"),
        failure: assess::failure(metrics, None, &artifacts),
        feedback: scratch.text(&artifacts)?,
        eval_seconds: json::float(metrics, "eval_time"),
        created_at: json::float(object, "timestamp").and_then(micros),
        native_id,
        ..Record::default()
    };
    if let Some(prompts) = object.get("prompts").and_then(Value::as_object) {
        read_prompts(prompts, &mut record, scratch)?;
    }
    let step = record.user_prompt.is_some() || record.response.is_some();
    record.no_step = !step && !metadata.contains_key("changes") && record.parent_metrics.is_empty();
    Ok(Ok(record))
}

/// The prompt that made the program; the evaluator's own model calls stand beside it under `evaluation`.
fn read_prompts(prompts: &Map<String, Value>, record: &mut Record, scratch: &Scratch) -> Result<()> {
    let mut keys: Vec<&String> = prompts.keys().filter(|key| !key.starts_with("evaluation")).collect();
    keys.sort();
    let Some(prompt) = keys.first().and_then(|key| prompts[*key].as_object()) else { return Ok(()) };
    record.system_prompt = scratch.text(json::text(prompt, "system").unwrap_or(""))?;
    record.user_prompt = scratch.text(json::text(prompt, "user").unwrap_or(""))?;
    let first = prompt.get("responses").and_then(|responses| responses.get(0)).and_then(Value::as_str);
    if let Some(text) = first {
        read_answer(text, record, scratch)?;
    }
    Ok(())
}

/// A model's answer, taken apart.
pub(super) fn read_answer(text: &str, record: &mut Record, scratch: &Scratch) -> Result<()> {
    let parts = answer::split(text);
    record.reasoning = scratch.text(parts.reasoning.unwrap_or(""))?;
    record.response = scratch.text(parts.response)?;
    record.operator = Some(answer::operator(parts.response));
    Ok(())
}

/// Evaluator artifacts as one text: a heading for each, in name order. They come as an object, or as JSON
/// inside a string.
pub(super) fn artifacts(value: Option<&Value>) -> String {
    let parsed;
    let object = match value {
        Some(Value::Object(object)) => object,
        Some(Value::String(text)) => match json::parse(text.as_bytes()) {
            Ok(Value::Object(object)) => {
                parsed = object;
                &parsed
            }
            _ => return text.clone(),
        },
        _ => return String::new(),
    };
    let mut names: Vec<&String> = object.keys().collect();
    names.sort();
    let mut out = String::new();
    for name in names {
        let body = match &object[name] {
            Value::String(text) => text.clone(),
            Value::Null => continue,
            other => finch_core::manifest::canonical_json(other),
        };
        if !body.is_empty() {
            out.push_str(&format!("## {name}\n{body}\n"));
        }
    }
    out
}

//! OpenEvolve: one candidate in one JSON file, in checkpoints of every version and in database folders.
//!
//! The same candidate stands in many checkpoints, with and without its prompts; each file is a record and the
//! best one wins later. Migration copies a program under a new id with its parent set to the source: such
//! records say `copy_of` and are no search steps. The same is done to fill an empty island, without saying so.
//! ThetaEvolve, which grew out of it, writes the same.

use finch_core::Digest;
use serde_json::Value;

use super::{artifacts, read_prompts};
use crate::code::Code;
use crate::error::Result;
use crate::ingest::assess;
use crate::ingest::open;
use crate::ingest::record::{FileLog, Quarantined, Record, micros};
use crate::ingest::{LogFile, Scratch, json};

/// The largest program file that is read; real ones reach 300 kB.
pub(super) const MAX_BYTES: u64 = 32 << 20;

/// Reads one program file.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    read_with(file, scratch, program)
}

/// From a program's object to a record, or why it is none.
pub(super) type ReadProgram = fn(&Value, &Scratch) -> Result<Result<Record, String>>;

/// Reads a file that holds one program.
pub(super) fn read_with(file: &LogFile, scratch: &Scratch, program: ReadProgram) -> Result<FileLog> {
    let mut log = FileLog::default();
    let bytes = match open::whole(file, MAX_BYTES)? {
        Ok(bytes) => bytes,
        Err(bad) => {
            log.quarantined.push(bad);
            return Ok(log);
        }
    };
    let value = match json::parse_counting(&bytes, &mut log.replaced) {
        Ok(value) => value,
        Err(error) => {
            log.quarantined.push(Quarantined::not_json(&error, file, 0, &bytes));
            return Ok(log);
        }
    };
    match program(&value, scratch)? {
        Ok(record) => {
            let digest = file.digest.unwrap_or_else(|| Digest::of_bytes(&bytes));
            log.records.push(Record { source: file.source.clone(), digest: Some(digest), ..record });
        }
        Err(reason) => log.quarantined.push(Quarantined::new(Code::BadRecord, reason, file, 0, &bytes)),
    }
    Ok(log)
}

/// A program file's object as a record, or why it is none.
pub(super) fn program(value: &Value, scratch: &Scratch) -> Result<Result<Record, String>> {
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

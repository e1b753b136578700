//! SkyDiscover: one candidate in one JSON file, whatever search made it.
//!
//! The layout is OpenEvolve's with other names: the text is a `solution`, artifacts are an object, and prompts stand
//! under a diff's key also when the answer is a whole program. Migrants are copies under new ids. The initial program
//! exists once an island under ids of its own. EvoX keeps the code of its search strategies elsewhere; it is no program
//! of the task.

use serde_json::Value;

use super::openevolve::read_with;
use super::{artifacts, read_prompts};
use crate::error::Result;
use crate::ingest::assess;
use crate::ingest::record::{FileLog, Record, micros};
use crate::ingest::{LogFile, Scratch, json};

/// Reads one program file.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    read_with(file, scratch, program)
}

fn program(value: &Value, scratch: &Scratch) -> Result<Result<Record, String>> {
    let Some(object) = value.as_object() else { return Ok(Err("not a JSON object".to_owned())) };
    let Some(native_id) = json::id(object, "id") else { return Ok(Err("no `id`".to_owned())) };
    let Some(code) = json::text(object, "solution") else { return Ok(Err("no `solution`".to_owned())) };
    let Some(metrics) = object.get("metrics").and_then(Value::as_object) else {
        return Ok(Err("no `metrics`".to_owned()));
    };
    let metadata = json::object(object, "metadata");
    let artifacts = artifacts(object.get("artifacts"));
    let inspirations = object.get("other_context_ids").and_then(Value::as_array);
    let parent = json::id(object, "parent_id");
    // A migrant has an id of its own, and its source for a parent.
    let migrant = metadata.contains_key("migrated_from");
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
        inspirations: inspirations
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .map(str::to_owned)
            .collect(),
        native_id,
        ..Record::default()
    };
    if let Some(prompts) = object.get("prompts").and_then(Value::as_object) {
        read_prompts(prompts, &mut record, scratch)?;
    }
    Ok(Ok(record))
}

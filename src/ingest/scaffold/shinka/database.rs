//! ShinkaEvolve's database: a table of programs, both generations of its schema.

use finch_core::Digest;
use serde_json::{Map, Value};

use super::super::read_answer;
use crate::code::Code;
use crate::error::Result;
use crate::ingest::record::{FileLog, Quarantined, Record, micros};
use crate::ingest::sqlite::Database;
use crate::ingest::{Scratch, assess, json};

/// Columns that a candidate cannot do without.
const REQUIRED: [&str; 4] = ["id", "code", "parent_id", "combined_score"];

/// The largest program that is read; real ones reach 300 kB.
const MAX_CODE: usize = 32 << 20;

/// Reads all rows of a database.
pub(super) fn read(database: &Database<'_>, scratch: &Scratch, log: &mut FileLog) -> Result<()> {
    let (file, part) = (database.file, database.part);
    let take = &mut |cells: Map<String, Value>, offset: u64, log: &mut FileLog| {
        let cells = Cells(cells);
        let digest = cells.digest();
        match candidate(&cells, scratch)? {
            Ok(record) => {
                let source = file.source_of(part);
                log.records.push(Record { part, source, offset, digest: Some(digest), ..record });
            }
            Err(reason) => {
                let bytes = cells.text("code").unwrap_or_default();
                let mut bad = Quarantined::new(Code::BadRecord, reason, file, offset, bytes.as_bytes());
                bad.digest = digest;
                log.quarantined.push(bad.in_part(file, part));
            }
        }
        Ok(())
    };
    // Embeddings are 20 kB of numbers a row, and nothing reads them.
    database.rows("programs", &REQUIRED, |column| column.starts_with("embedding"), scratch, log, take)
}

/// The cells of a row by column name. SQLite types values, not columns, so each is read as what it is.
struct Cells(Map<String, Value>);

impl Cells {
    /// Digest of the row's content, without its place in the database.
    fn digest(&self) -> Digest {
        Digest::of_bytes(finch_core::manifest::canonical_json(&Value::Object(self.0.clone())).as_bytes())
    }

    fn text(&self, name: &str) -> Option<String> {
        json::text(&self.0, name).map(str::to_owned)
    }

    fn integer(&self, name: &str) -> Option<i64> {
        json::integer(&self.0, name)
    }

    /// A cell that holds JSON as text.
    fn json(&self, name: &str) -> Option<Value> {
        json::parse(json::text(&self.0, name)?.as_bytes()).ok()
    }

    fn object(&self, name: &str) -> Map<String, Value> {
        match self.json(name) {
            Some(Value::Object(object)) => object,
            _ => Map::new(),
        }
    }

    fn ids(&self, name: &str) -> Vec<String> {
        match self.json(name) {
            Some(Value::Array(items)) => {
                items.iter().filter_map(|item| item.as_str().map(str::to_owned)).collect()
            }
            _ => Vec::new(),
        }
    }
}

/// A row as a record, or why it is none.
fn candidate(cells: &Cells, scratch: &Scratch) -> Result<Result<Record, String>> {
    let Some(native_id) = json::id(&cells.0, "id") else { return Ok(Err("no `id`".to_owned())) };
    let Some(code) = cells.text("code") else { return Ok(Err("no `code`".to_owned())) };
    if code.len() > MAX_CODE {
        return Ok(Err(format!("a program larger than {} MiB", MAX_CODE >> 20)));
    }
    let metadata = cells.object("metadata");
    let copy = metadata.get("_is_island_copy").and_then(Value::as_bool).unwrap_or(false);
    let llm = json::object(&metadata, "llm_result");
    let kwargs = json::object(&llm, "kwargs");
    let score = cells.0.get("combined_score").cloned().unwrap_or(Value::Null);
    let correct = cells.integer("correct").map(|flag| flag != 0);

    // Public metrics are the task's own and keep their names; the scaffold's words go beside them.
    let mut metrics = cells.object("public_metrics");
    metrics.insert("combined_score".to_owned(), score);
    if let Some(correct) = correct {
        metrics.insert("correct".to_owned(), Value::from(correct));
    }
    let private = cells.object("private_metrics");
    if !private.is_empty() {
        metrics.insert("private".to_owned(), Value::Object(private));
    }

    let output = ["stderr_log", "stdout_log"].map(|name| json::text(&metadata, name).unwrap_or(""));
    let feedback = cells.text("text_feedback").unwrap_or_default();
    let inspirations =
        ["archive_inspiration_ids", "top_k_inspiration_ids"].map(|name| cells.ids(name)).concat();
    let mut record = Record {
        copy_of: json::id(&metadata, "_original_program_id").filter(|_| copy),
        parents: json::id(&cells.0, "parent_id").into_iter().filter(|_| !copy).collect(),
        program: Some(scratch.program(&code, cells.text("language").as_deref())?),
        iteration: cells.integer("generation"),
        generation: cells.integer("generation"),
        island: cells.integer("island_idx"),
        metrics,
        feedback: scratch.text(if feedback.is_empty() { output[0] } else { &feedback })?,
        eval_seconds: json::float(&metadata, "compute_time"),
        created_at: json::float(&cells.0, "timestamp").and_then(micros),
        system_prompt: scratch.text(json::text(&llm, "system_msg").unwrap_or(""))?,
        user_prompt: scratch.text(json::text(&llm, "msg").unwrap_or(""))?,
        model: json::text(&llm, "model_name").or(json::text(&metadata, "model_name")).map(model_name),
        temperature: json::float(&kwargs, "temperature").or(json::float(&metadata, "temperature")),
        prompt_tokens: json::integer(&llm, "input_tokens"),
        completion_tokens: json::integer(&llm, "output_tokens"),
        cost: json::float(&llm, "cost").or(json::float(&metadata, "api_costs")),
        inspirations,
        native_id,
        ..Record::default()
    };
    record.failure =
        assess::failure(&record.metrics, correct, &format!("{feedback}\n{}\n{}", output[0], output[1]));
    if let Some(content) = json::text(&llm, "content") {
        read_answer(content, None, &mut record, scratch)?;
        if let Some(thought) = json::text(&llm, "thought").filter(|thought| !thought.trim().is_empty()) {
            record.reasoning = scratch.text(thought)?;
        }
    }
    if json::text(&metadata, "patch_type") == Some("cross") {
        record.operator = Some("crossover");
    }
    Ok(Ok(record))
}

/// A model's name without the address that served it: `local/name@http://host:1/v1` is `name`.
fn model_name(name: &str) -> String {
    let name = name.strip_prefix("local/").unwrap_or(name);
    name.split_once("@http").map_or(name, |(name, _)| name).to_owned()
}

#[cfg(test)]
mod tests {
    use super::model_name;

    #[test]
    fn addresses_do_not_stay_in_model_names() {
        assert_eq!(model_name("local/qwen:7b@http://localhost:11434/v1"), "qwen:7b");
        assert_eq!(model_name("gpt-5"), "gpt-5");
    }
}

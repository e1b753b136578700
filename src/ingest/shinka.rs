//! ShinkaEvolve: a SQLite database of programs, both generations of its schema.
//!
//! A committed database is often a 4 kB file beside a write-ahead log that holds everything, and opening it
//! where it lies would either miss the log or write to the source. Database and log are copied to a temporary
//! folder and opened there, with SQLite told to trust nothing in the schema.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use finch_core::Digest;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, config::DbConfig};
use serde_json::{Map, Value};

use super::assess;
use super::discover::{Format, LogFile, hash};
use super::json;
use super::openevolve::read_answer;
use super::record::{FileLog, Quarantined, Record, changed, micros, unreadable};
use super::scratch::Scratch;
use crate::code::Code;
use crate::error::{Error, Result};

/// Columns that a candidate cannot do without.
const REQUIRED: [&str; 4] = ["id", "code", "parent_id", "combined_score"];

/// The largest program that is read; real ones reach 300 kB.
const MAX_CODE: usize = 32 << 20;

/// Reads one database.
pub fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    if file.bytes == 0 && !is_plain_file(&beside(&file.path, "-wal")) {
        return Ok(log);
    }
    let folder =
        tempfile::tempdir_in(scratch.folder()).map_err(Error::io("create a folder in", scratch.folder()))?;
    if let Err(error) = copy(&file.path, folder.path())? {
        return unreadable(file, error);
    }
    if file.digest.is_some() && hash(&folder.path().join("db"), Format::ShinkaDatabase) != file.digest {
        return Err(changed(file));
    }
    if let Err(error) = read_rows(folder.path(), file, scratch, &mut log)? {
        log.quarantined.push(error);
    }
    Ok(log)
}

/// A database's companion file.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Whether a path is a file itself: not a link that leads elsewhere, not a pipe that would never end.
pub(super) fn is_plain_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
}

/// Copies the database and its log; the shared-memory index is rebuilt and may be stale, so it stays. The inner error
/// is about the source; a disk of ours that is full is no damage to a log.
fn copy(path: &Path, folder: &Path) -> Result<std::io::Result<()>> {
    let log = beside(path, "-wal");
    let copied = copy_file(path, &folder.join("db"))?;
    if copied.is_err() || !is_plain_file(&log) {
        return Ok(copied);
    }
    copy_file(&log, &folder.join("db-wal"))
}

fn copy_file(from: &Path, to: &Path) -> Result<std::io::Result<()>> {
    let mut source = match File::open(from) {
        Ok(source) => source,
        Err(error) => return Ok(Err(error)),
    };
    let mut target = File::create(to).map_err(Error::io("create", to))?;
    let mut part = vec![0; 1 << 20];
    loop {
        match source.read(&mut part) {
            Ok(0) => return Ok(Ok(())),
            Ok(length) => target.write_all(&part[..length]).map_err(Error::io("write", to))?,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

/// An error of SQLite about a copy: damage to the log, unless it is the machine's.
fn failed(error: &rusqlite::Error, folder: &Path, file: &LogFile) -> Result<Result<(), Quarantined>> {
    if error.sqlite_error_code() == Some(rusqlite::ErrorCode::DiskFull) {
        return Err(Error::io("write", folder)(std::io::ErrorKind::StorageFull.into()));
    }
    Ok(Err(Quarantined::file(Code::BadDatabase, error.to_string(), file)))
}

/// Reads all rows; what makes the whole database unreadable is the inner error.
fn read_rows(
    folder: &Path,
    file: &LogFile,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<Result<(), Quarantined>> {
    let opened = Connection::open(folder.join("db")).and_then(|database| {
        database.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        database.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        let columns: Vec<String> = database
            .prepare("SELECT name FROM pragma_table_info('programs')")?
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let kind: Option<String> = database
            .prepare("SELECT type FROM sqlite_master WHERE name = 'programs'")?
            .query_map([], |row| row.get(0))?
            .next()
            .transpose()?;
        Ok((database, columns, kind))
    });
    let (database, columns, kind) = match opened {
        Ok(opened) => opened,
        Err(error) => return failed(&error, folder, file),
    };
    if kind.as_deref() != Some("table") || !REQUIRED.iter().all(|name| columns.iter().any(|c| c == name)) {
        let reason = "a SQLite database without ShinkaEvolve's table `programs`";
        return Ok(Err(Quarantined::file(Code::ForeignFile, reason, file)));
    }
    let mut statement = match database.prepare("SELECT rowid AS finch_row, * FROM programs ORDER BY rowid") {
        Ok(statement) => statement,
        Err(error) => return failed(&error, folder, file),
    };
    let mut rows = match statement.query([]) {
        Ok(rows) => rows,
        Err(error) => return failed(&error, folder, file),
    };
    loop {
        match rows.next() {
            Ok(Some(row)) => {
                let cells = Cells::read(row, &columns);
                let offset = cells.integer("finch_row").unwrap_or(0) as u64;
                let digest = cells.digest();
                match candidate(&cells, scratch)? {
                    Ok(record) => {
                        let source = file.source.clone();
                        log.records.push(Record { source, offset, digest: Some(digest), ..record });
                    }
                    Err(reason) => {
                        let bytes = cells.text("code").unwrap_or_default();
                        let mut bad =
                            Quarantined::new(Code::BadRecord, reason, file, offset, bytes.as_bytes());
                        bad.digest = digest;
                        log.quarantined.push(bad);
                    }
                }
            }
            Ok(None) => return Ok(Ok(())),
            Err(error) => return failed(&error, folder, file),
        }
    }
}

/// The cells of a row by column name. SQLite types values, not columns, so each is read as what it is.
struct Cells(Map<String, Value>);

impl Cells {
    fn read(row: &Row<'_>, columns: &[String]) -> Self {
        let mut cells = Map::new();
        for name in columns.iter().map(String::as_str).chain(["finch_row"]) {
            // Embeddings are 20 kB of numbers a row, and nothing reads them.
            if name.starts_with("embedding") {
                continue;
            }
            let value = match row.get_ref(name) {
                Ok(ValueRef::Integer(number)) => Value::from(number),
                Ok(ValueRef::Real(number)) => serde_json::Number::from_f64(number)
                    .map_or_else(|| Value::from(number.to_string()), Value::Number),
                Ok(ValueRef::Text(bytes)) => Value::from(String::from_utf8_lossy(bytes).into_owned()),
                Ok(ValueRef::Null | ValueRef::Blob(_)) | Err(_) => Value::Null,
            };
            cells.insert(name.to_owned(), value);
        }
        Self(cells)
    }

    /// Digest of the row's content, without its place in the database.
    fn digest(&self) -> Digest {
        let mut cells = self.0.clone();
        cells.remove("finch_row");
        Digest::of_bytes(finch_core::manifest::canonical_json(&Value::Object(cells)).as_bytes())
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
        read_answer(content, &mut record, scratch)?;
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

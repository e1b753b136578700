//! OpenEvolve's evolution trace: one search step a line.
//!
//! A line describes the child and, less fully, its parent. Lines are read one at a time, so a trace may be
//! larger than memory. A writer that fails in the middle of a line leaves a half record with the next one
//! glued to it; reading resumes at the next record's first key, and what is lost is quarantined.

use std::cell::RefCell;
use std::fs::File;
use std::io::{BufRead, BufReader, ErrorKind, Read};

use finch_core::Digest;
use serde_json::Value;

use super::assess;
use super::discover::LogFile;
use super::json;
use super::openevolve::{artifacts, read_answer};
use super::record::{FileLog, Quarantined, Record, changed, micros, unreadable};
use super::scratch::Scratch;
use crate::code::Code;
use crate::error::Result;

/// Every record starts with this.
const RECORD_START: &[u8] = b"{\"iteration\":";
/// The longest line that is read; real ones reach 1 MB.
const MAX_LINE: u64 = 32 << 20;
/// The largest trace in the form of one document, which must be parsed as a whole.
const MAX_DOCUMENT: u64 = 256 << 20;

/// Reads one trace.
pub fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let opened = match File::open(&file.path) {
        Ok(opened) => opened,
        Err(error) => return unreadable(file, error),
    };
    // What is read is hashed on the way, to be sure that it is what the fingerprint names.
    let hasher = RefCell::new(blake3::Hasher::new());
    let opened = Hashing { file: opened, hasher: &hasher };
    let plain: Box<dyn Read + '_> = if file.path.extension().is_some_and(|extension| extension == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(opened))
    } else {
        Box::new(opened)
    };
    let mut lines = BufReader::with_capacity(1 << 20, plain);
    if file.path.extension().is_some_and(|extension| extension == "json") {
        return read_document(&mut lines, file, scratch, log);
    }
    let mut offset = 0;
    let mut line = Vec::new();
    loop {
        line.clear();
        match lines.by_ref().take(MAX_LINE).read_until(b'\n', &mut line) {
            Ok(0) => {
                drop(lines);
                let whole = Digest::from_bytes(*hasher.borrow().finalize().as_bytes());
                return if file.digest.is_none_or(|hashed| hashed == whole) {
                    Ok(log)
                } else {
                    Err(changed(file))
                };
            }
            Ok(length) => {
                if length as u64 == MAX_LINE {
                    let reason = format!(
                        "a line longer than {} MiB; the rest of the file is not read",
                        MAX_LINE >> 20
                    );
                    log.quarantined.push(Quarantined::new(Code::TooLarge, reason, file, offset, &line));
                    return Ok(log);
                }
                read_line(&line, offset, file, scratch, &mut log)?;
                offset += length as u64;
            }
            // A compressed trace that is cut or damaged says so by these kinds; others are the machine's.
            Err(error)
                if !matches!(
                    error.kind(),
                    ErrorKind::UnexpectedEof | ErrorKind::InvalidData | ErrorKind::InvalidInput
                ) =>
            {
                return unreadable(file, error);
            }
            Err(error) => {
                // Offsets of a compressed trace count decompressed bytes, as far as it could be decompressed.
                let reason = format!("the file breaks off: {error}");
                log.quarantined.push(Quarantined::new(Code::Truncated, reason, file, offset, &line));
                return Ok(log);
            }
        }
    }
}

/// A file that is hashed as it is read.
struct Hashing<'a> {
    file: File,
    hasher: &'a RefCell<blake3::Hasher>,
}

impl Read for Hashing<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let length = self.file.read(buffer)?;
        self.hasher.borrow_mut().update(&buffer[..length]);
        Ok(length)
    }
}

/// The `.json` form: one document with a list `traces`.
fn read_document(
    reader: &mut impl Read,
    file: &LogFile,
    scratch: &Scratch,
    mut log: FileLog,
) -> Result<FileLog> {
    let mut bytes = Vec::new();
    if let Err(error) = reader.take(MAX_DOCUMENT + 1).read_to_end(&mut bytes) {
        return unreadable(file, error);
    }
    if bytes.len() as u64 > MAX_DOCUMENT {
        let reason = format!("a document larger than {} MiB; JSON lines have no limit", MAX_DOCUMENT >> 20);
        log.quarantined.push(Quarantined::file(Code::TooLarge, reason, file));
        return Ok(log);
    }
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
            let code = if error.truncated { Code::Truncated } else { Code::NotJson };
            log.quarantined.push(Quarantined::new(code, error.to_string(), file, 0, &bytes));
            return Ok(log);
        }
    };
    for (ordinal, step) in traces.iter().enumerate() {
        // The document is parsed as a whole, so a record's place is its ordinal.
        let text = finch_core::manifest::canonical_json(step);
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
                let code = if error.truncated { Code::Truncated } else { Code::NotJson };
                log.quarantined.push(Quarantined::new(code, error.to_string(), file, offset, text));
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
    let code = |key: &str, scratch: &Scratch| -> Result<Option<super::record::ProgramRef>> {
        json::text(object, key).map(|code| scratch.program(code, None)).transpose()
    };
    let parent = json::id(object, "parent_id");
    let parent_metrics = json::object(object, "parent_metrics");
    let prompt = json::object(object, "prompt");
    let metadata = json::object(object, "metadata");
    let artifacts = artifacts(object.get("artifacts"));
    let mut record = Record {
        native_id,
        parents: parent.iter().cloned().collect(),
        program: code("child_code", scratch)?,
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
        user_prompt: scratch.text(json::text(&prompt, "user").unwrap_or(""))?,
        model: json::text(&metadata, "model").map(str::to_owned),
        source: file.source.clone(),
        offset,
        digest: Some(Digest::of_bytes(bytes)),
        ..Record::default()
    };
    if let Some(text) = json::text(object, "llm_response") {
        read_answer(text, &mut record, scratch)?;
    }
    if let Some(parent) = parent {
        log.records.push(Record {
            native_id: parent,
            stub: true,
            program: code("parent_code", scratch)?,
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

//! OpenEvolve's evolution trace: one search step a line.
//!
//! A line describes the child and, less fully, its parent. A few megabytes of lines are read at a time, so a trace may be
//! larger than memory. A writer that fails in the middle of a line leaves a half record with the next one
//! glued to it; reading resumes at the next record's first key, and what is lost is quarantined.

use std::collections::HashSet;
use std::ops::Range;

use finch_core::manifest::canonical_json;
use finch_core::replay;
use rayon::prelude::*;
use serde_json::Value;

use super::{artifacts, read_answer};
use crate::code::Code;
use crate::error::Result;
use crate::ingest::assess;
use crate::ingest::lines::Lines;
use crate::ingest::open;
use crate::ingest::recognise;
use crate::ingest::record::{FileLog, Quarantined, Record, micros};
use crate::ingest::{LogFile, Scratch, json, prompt};

/// Every record starts with this.
const RECORD_START: &[u8] = b"{\"iteration\":";

/// Bytes of lines that are parsed together, by all threads: one trace may be most of a source.
pub(super) const LINES_AT_ONCE: usize = 4 << 20;

/// Reads one trace.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut trace = Trace::new(file, scratch);
    // A document is one object around its steps; what it is called does not matter.
    if recognise::shape(&file.path).is_some_and(|shape| shape.has(&["traces"])) {
        trace.read_document()?;
        return Ok(trace.finish());
    }
    let mut lines = match Lines::open(file)? {
        Ok(lines) => lines,
        Err(log) => return Ok(log),
    };
    let (mut bytes, mut places) = (Vec::new(), Vec::new());
    while let Some(line) = lines.next(&mut trace.log)? {
        let start = bytes.len();
        bytes.extend_from_slice(line.bytes);
        places.push((line.offset, start..bytes.len()));
        if bytes.len() >= LINES_AT_ONCE {
            trace.read_lines(&bytes, &places)?;
            bytes.clear();
            places.clear();
        }
    }
    trace.read_lines(&bytes, &places)?;
    Ok(trace.finish())
}

/// A trace that is being read.
pub(super) struct Trace<'a> {
    steps: Steps<'a>,
    log: FileLog,
    /// Candidates whose own record stands above with its program and metrics: what a later step says of them as a
    /// parent adds nothing.
    told: HashSet<String>,
}

impl<'a> Trace<'a> {
    pub(super) fn new(file: &'a LogFile, scratch: &'a Scratch) -> Self {
        Self { steps: Steps { file, scratch }, log: FileLog::default(), told: HashSet::new() }
    }

    /// Keeps something out.
    pub(super) fn keep_out(&mut self, bad: Quarantined) {
        self.log.quarantined.push(bad);
    }

    /// What was read.
    pub(super) fn finish(self) -> FileLog {
        self.log
    }

    /// The `.json` form: one document with a list `traces`.
    fn read_document(&mut self) -> Result<()> {
        let file = self.steps.file;
        let Some(bytes) = open::bytes(file, &mut self.log)? else { return Ok(()) };
        let bad = |reason: &str| Quarantined::new(Code::BadRecord, reason, file, 0, &bytes);
        let traces = match json::parse(&bytes) {
            Ok(Value::Object(mut document)) => match document.remove("traces") {
                Some(Value::Array(traces)) => Ok(traces),
                _ => Err(bad("no list `traces`")),
            },
            Ok(_) => Err(bad("not a JSON object")),
            Err(error) => Err(Quarantined::not_json(&error, file, 0, &bytes)),
        };
        match traces {
            Ok(traces) => {
                // The document is parsed as a whole, so a record's place is its ordinal.
                let traces: Vec<(u64, Value)> = (0..).zip(traces).collect();
                self.read_values(&traces)
            }
            Err(bad) => {
                self.log.quarantined.push(bad);
                Ok(())
            }
        }
    }

    /// Reads steps that are parsed already, with their places.
    pub(super) fn read_values(&mut self, values: &[(u64, Value)]) -> Result<()> {
        let steps = self.steps;
        self.read_all(values, |(place, value)| {
            let mut log = FileLog::default();
            steps.keep(value, canonical_json(value).as_bytes(), *place, &mut log)?;
            Ok((log, None))
        })
    }

    /// Reads lines, which lie in `bytes` at these places.
    fn read_lines(&mut self, bytes: &[u8], places: &[(u64, Range<usize>)]) -> Result<()> {
        let steps = self.steps;
        self.read_all(places, |(offset, range)| steps.line(&bytes[range.clone()], *offset))
    }

    /// Reads a few steps, on all threads, and puts what they say together in their order.
    fn read_all<T: Sync>(
        &mut self,
        steps: &[T],
        read: impl Fn(&T) -> Result<Step> + Sync + Send,
    ) -> Result<()> {
        // Short lines are not worth handing over one by one.
        let logs: Vec<Step> = steps.par_iter().with_min_len(8).map(read).collect::<Result<_>>()?;
        for (log, bad_line) in logs {
            self.log.replaced += log.replaced;
            self.log.quarantined.extend(log.quarantined);
            bad_line.into_iter().for_each(|bad| self.log.bad_line(bad));
            for record in log.records {
                if record.stub && self.told.contains(&record.native_id) {
                    continue;
                }
                if !record.stub && record.program.is_some() && !record.metrics.is_empty() {
                    self.told.insert(record.native_id.clone());
                }
                self.log.records.push(record);
            }
        }
        Ok(())
    }
}

/// What a step says, and the line that it is not.
type Step = (FileLog, Option<Quarantined>);

/// What reads single steps.
#[derive(Clone, Copy)]
struct Steps<'a> {
    file: &'a LogFile,
    scratch: &'a Scratch,
}

impl Steps<'_> {
    fn line(self, line: &[u8], offset: u64) -> Result<Step> {
        let mut log = FileLog::default();
        let text = line.trim_ascii();
        if text.is_empty() {
            return Ok((log, None));
        }
        let offset = offset + (line.len() - line.trim_ascii_start().len()) as u64;
        let error = match json::parse_counting(text, &mut log.replaced) {
            Ok(value) => {
                self.keep(&value, text, offset, &mut log)?;
                return Ok((log, None));
            }
            Err(error) => error,
        };
        let starts: Vec<usize> = (1..text.len()).filter(|&at| text[at..].starts_with(RECORD_START)).collect();
        if starts.is_empty() {
            return Ok((log, Some(Quarantined::not_json(&error, self.file, offset, text))));
        }
        let mut from = 0;
        for to in starts.into_iter().chain([text.len()]) {
            let (piece, place) = (&text[from..to], offset + from as u64);
            match json::parse(piece) {
                Ok(value) => self.keep(&value, piece, place, &mut log)?,
                Err(error) => {
                    let reason = error.to_string();
                    let bad = Quarantined::new(Code::Truncated, reason, self.file, place, piece);
                    log.quarantined.push(bad);
                }
            }
            from = to;
        }
        Ok((log, None))
    }

    /// A step's child as a record, and its parent as a stub.
    fn keep(self, value: &Value, bytes: &[u8], offset: u64, log: &mut FileLog) -> Result<()> {
        let Self { file, scratch } = self;
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
        let within = |key: &str, field: &str| object.get(key)?.as_object()?.get(field)?.as_str();
        let parent = json::id(object, "parent_id");
        let parent_metrics = json::object(object, "parent_metrics");
        let artifacts = artifacts(object.get("artifacts"));
        let asked = within("prompt", "user").unwrap_or("");
        let answer = json::text(object, "llm_response");
        // The program that the answer was applied to: as logged, or as the prompt shows it.
        let before = json::text(object, "parent_code").or_else(|| prompt::current_program(asked));
        let logged = json::text(object, "child_code").map(|code| scratch.program(code, None)).transpose()?;
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
            system_prompt: scratch.text(within("prompt", "system").unwrap_or(""))?,
            user_prompt: scratch.text(asked)?,
            model: within("metadata", "model").map(str::to_owned),
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
}

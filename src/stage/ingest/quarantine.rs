//! What ingest kept out: its rows, and the limit above which the stage fails.

use std::collections::BTreeMap;

use finch_core::manifest::Counts;
use finch_core::{Digest, Kind};

use super::rows::QuarantineRow;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::ingest::{Attempt, Quarantined, Record};
use crate::spec::Ingest;
use crate::stage::Context;

pub(super) fn without_program(record: &Record) -> Quarantined {
    Quarantined {
        code: Code::NoProgram,
        reason: format!("candidate `{}` has no program text in this log", record.native_id),
        bytes: 0,
        excerpt: String::new(),
        raw: Vec::new(),
        part: record.part,
        source: record.source.clone(),
        offset: record.offset,
        digest: record.digest.unwrap_or_else(|| Kind::Quarantine.of_text(&record.native_id)),
    }
}

pub(super) fn without_run(attempt: Attempt) -> Quarantined {
    let error = attempt.error.as_deref().unwrap_or("");
    Quarantined {
        code: Code::NoProgram,
        reason: format!("a proposal of a run of which no candidate is in the log: {error}"),
        bytes: 0,
        excerpt: String::new(),
        raw: Vec::new(),
        part: attempt.part,
        source: attempt.source,
        offset: attempt.offset,
        digest: attempt.digest.unwrap_or_else(|| Kind::Quarantine.of_text(error)),
    }
}

/// The codes of files that finch does not claim to read: they are listed and warned of, and lose no record of a log
/// that it reads.
const NOT_READ: [Code; 2] = [Code::ForeignFile, Code::UnsupportedLog];

/// The same gate for a dataset that is reused, under a limit that may have changed.
pub(crate) fn admit(config: &Ingest, stage: &str, counts: &Counts) -> Result<()> {
    let not_read: u64 = NOT_READ.iter().filter_map(|code| counts.reasons.get(&code.to_string())).sum();
    let lost = counts.quarantined - not_read.min(counts.quarantined);
    if lost as f64 <= config.max_quarantined * counts.input as f64 {
        return Ok(());
    }
    Err(Error::Quarantine {
        stage: stage.to_owned(),
        quarantined: lost,
        input: counts.input,
        allowed: config.max_quarantined,
        files: vec!["  they are in the table `quarantine` of the dataset that is in the store".to_owned()],
    })
}

/// Fails when too many records are unreadable.
pub(super) fn check_quarantine(
    config: &Ingest,
    context: &Context<'_>,
    all: &[Quarantined],
    records: u64,
) -> Result<()> {
    let lost: Vec<&Quarantined> = all.iter().filter(|bad| !NOT_READ.contains(&bad.code)).collect();
    if lost.is_empty() || lost.len() as f64 <= config.max_quarantined * records as f64 {
        return Ok(());
    }
    const SHOWN: usize = 20;
    let mut files: Vec<String> = lost
        .iter()
        // File names are a log's own words: control characters must not reach a terminal.
        .map(|bad| format!("  {}:{}: {}: {}", bad.source.escape_debug(), bad.offset, bad.code, bad.reason))
        .collect();
    files.sort();
    files.truncate(SHOWN);
    if lost.len() > SHOWN {
        files.push(format!("  and {} more", lost.len() - SHOWN));
    }
    Err(Error::Quarantine {
        stage: context.stage.name.clone(),
        quarantined: lost.len() as u64,
        input: records,
        allowed: config.max_quarantined,
        files,
    })
}

/// Quarantine rows in key order; equal records are told apart by an ordinal, not by their paths.
pub(super) fn quarantine_rows(mut all: Vec<Quarantined>) -> Vec<QuarantineRow> {
    all.sort_by(|a, b| (a.code, a.digest, &a.source, a.offset).cmp(&(b.code, b.digest, &b.source, b.offset)));
    let mut seen: BTreeMap<(Code, Digest), u64> = BTreeMap::new();
    let mut rows: Vec<QuarantineRow> = all
        .into_iter()
        .map(|bad| {
            let ordinal = seen.entry((bad.code, bad.digest)).or_default();
            *ordinal += 1;
            let fields = Kind::Quarantine.fields().text(&bad.code.to_string()).digest(bad.digest);
            QuarantineRow {
                quarantine_id: fields.int(*ordinal).finish().to_string(),
                code: bad.code.to_string(),
                reason: bad.reason,
                bytes: bad.bytes as i64,
                excerpt: bad.excerpt,
                raw: (!bad.raw.is_empty()).then(|| hex(&bad.raw)),
                source: bad.source,
                source_offset: bad.offset as i64,
            }
        })
        .collect();
    rows.sort_by(|a, b| a.quarantine_id.cmp(&b.quarantine_id));
    rows
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

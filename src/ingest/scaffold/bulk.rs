//! Programs in bulk: one JSON object with every program by its id, as OpenEvolve's `programs_bulk.json` and
//! ThetaEvolve's databases of a training step hold them.

use serde_json::Value;

use super::openevolve::program;
use crate::code::Code;
use crate::error::Result;
use crate::ingest::open;
use crate::ingest::record::{FileLog, Quarantined, Record};
use crate::ingest::{LogFile, Scratch, json};
use finch_core::Digest;
use finch_core::manifest::canonical_json;

/// Reads one such file.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let Some(bytes) = open::bytes(file, &mut log)? else { return Ok(log) };
    let document = match json::parse_counting(&bytes, &mut log.replaced) {
        Ok(document) => document,
        Err(error) => {
            log.quarantined.push(Quarantined::not_json(&error, file, 0, &bytes));
            return Ok(log);
        }
    };
    let programs = match document.get("programs") {
        Some(Value::Object(programs)) if programs.get("code").is_none() => Some(programs),
        _ => document.as_object(),
    };
    let Some(programs) = programs else {
        log.quarantined.push(Quarantined::new(Code::BadRecord, "not a JSON object", file, 0, &bytes));
        return Ok(log);
    };
    for (ordinal, (id, value)) in programs.iter().enumerate() {
        let text = canonical_json(value);
        // The document is parsed as a whole, so a record's place is its number.
        let offset = ordinal as u64;
        match program(value, scratch)? {
            Ok(record) => {
                let digest = Some(Digest::of_bytes(text.as_bytes()));
                log.records.push(Record { source: file.source.clone(), offset, digest, ..record });
            }
            Err(reason) => {
                let reason = format!("`{id}`: {reason}");
                log.quarantined.push(Quarantined::new(
                    Code::BadRecord,
                    reason,
                    file,
                    offset,
                    text.as_bytes(),
                ));
            }
        }
    }
    Ok(log)
}

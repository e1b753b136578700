//! The rows of a file that has a mapping, whatever form it has.

use std::cell::Cell;
use std::io::Read;

use finch_core::{Digest, Kind};
use serde_json::{Map, Value as Json};

use super::build::{Place, add};
use super::value::Row;
use super::{Form, Mapping, table};
use crate::code::Code;
use crate::error::{Error, Result};
use crate::ingest::archive::stream;
use crate::ingest::lines::Lines;
use crate::ingest::open;
use crate::ingest::record::{FileLog, Quarantined};
use crate::ingest::{LogFile, Scratch, json};

/// Reads all rows of a file.
pub(super) fn each(file: &LogFile, mapping: &Mapping, scratch: &Scratch, log: &mut FileLog) -> Result<()> {
    match mapping.records.form.unwrap_or_else(|| by_name(&file.source)) {
        Form::Json => document(file, mapping, scratch, log),
        Form::Jsonl => lines(file, mapping, scratch, log),
        Form::Csv => csv(file, mapping, scratch, log),
        Form::Parquet => table::parquet(file, mapping, scratch, log),
        Form::Sqlite => table::sqlite(file, mapping, scratch, log),
    }
}

/// The form of a file by its name, without what compressed it; JSON where that says nothing.
fn by_name(name: &str) -> Form {
    let name = name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    match name.rsplit_once('.').map_or("", |(_, extension)| extension) {
        "jsonl" | "ndjson" => Form::Jsonl,
        "csv" => Form::Csv,
        "parquet" => Form::Parquet,
        "sqlite" | "sqlite3" | "db" => Form::Sqlite,
        _ => Form::Json,
    }
}

impl Mapping {
    /// The form in which a file of this name is read.
    pub(in crate::ingest) fn form_of(&self, name: &str) -> &'static str {
        match self.records.form.unwrap_or_else(|| by_name(name)) {
            Form::Json => "json",
            Form::Jsonl => "jsonl",
            Form::Csv => "csv",
            Form::Parquet => "parquet",
            Form::Sqlite => "sqlite",
        }
    }

    /// Whether a file of this name is read as a database.
    pub(in crate::ingest) fn is_of_databases(&self, name: &str) -> bool {
        self.records.form.unwrap_or_else(|| by_name(name)) == Form::Sqlite
    }
}

/// Whether the forms of a mapping can be in a file: for folders that hold others too.
pub(in crate::ingest) fn may_be(file_name: &str, mapping: &Mapping) -> bool {
    let name = file_name.to_ascii_lowercase();
    let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
    let extension = name.rsplit_once('.').map_or("", |(_, extension)| extension);
    match mapping.records.form {
        None => ["json", "jsonl", "ndjson", "csv", "parquet", "sqlite", "sqlite3", "db"].contains(&extension),
        Some(Form::Json) => extension == "json",
        Some(Form::Jsonl) => ["jsonl", "ndjson", "json"].contains(&extension),
        Some(Form::Csv) => extension == "csv",
        Some(Form::Parquet) => extension == "parquet",
        Some(Form::Sqlite) => ["sqlite", "sqlite3", "db"].contains(&extension),
    }
}

/// One JSON document with records at places.
fn document(file: &LogFile, mapping: &Mapping, scratch: &Scratch, log: &mut FileLog) -> Result<()> {
    let Some(bytes) = open::bytes(file, log)? else { return Ok(()) };
    let document = match json::parse_counting(&bytes, &mut log.replaced) {
        Ok(document) => document,
        Err(error) => {
            log.quarantined.push(Quarantined::not_json(&error, file, 0, &bytes));
            return Ok(());
        }
    };
    drop(bytes);
    let root = Vec::new();
    let places: Vec<&Vec<String>> = match mapping.records.at.as_slice() {
        [] => vec![&root],
        at => at.iter().collect(),
    };
    let mut ordinal = 0;
    let mut missing = Vec::new();
    let all = places.len();
    for place in places {
        let found = place.iter().try_fold(&document, |at, part| match at {
            Json::Object(object) => object.get(part),
            Json::Array(items) => items.get(part.parse::<usize>().ok()?),
            _ => None,
        });
        let records: Vec<(Option<&str>, &Json)> = match found {
            Some(Json::Array(items)) => items.iter().map(|item| (None, item)).collect(),
            Some(Json::Object(object)) if mapping.records.by_key => {
                object.iter().map(|(key, item)| (Some(key.as_str()), item)).collect()
            }
            Some(record @ Json::Object(_)) => vec![(None, record)],
            Some(Json::Null) | None => {
                missing.push(format!("`/{}`", place.join("/")));
                Vec::new()
            }
            Some(_) => {
                let reason = format!("neither a list nor an object at `/{}`", place.join("/"));
                log.quarantined.push(Quarantined::file(Code::BadRecord, reason, file));
                continue;
            }
        };
        for (key, record) in records {
            if record.is_null() {
                continue;
            }
            let row = Row { record, document: Some(&document), key, ordinal, program: None };
            // The document is parsed as a whole, so a record's place is its number.
            let place = Place { offset: ordinal, digest: digest(mapping, file, record, key) };
            add(mapping, row, &place, file, scratch, log)?;
            ordinal += 1;
        }
    }
    if missing.len() == all {
        let reason = format!("nothing is at {}", missing.join(" or "));
        log.quarantined.push(Quarantined::file(Code::BadRecord, reason, file));
    }
    Ok(())
}

/// A record's digest. Where ids are counters, equal records of two logs are two records, so the log's is part of it.
pub(super) fn digest(mapping: &Mapping, file: &LogFile, record: &Json, key: Option<&str>) -> Digest {
    let text = finch_core::manifest::canonical_json(record);
    let plain = Digest::of_bytes(text.as_bytes());
    match file.digest.filter(|_| mapping.one_run) {
        None => plain,
        Some(log) => Kind::Unit.fields().digest(log).text(key.unwrap_or("")).digest(plain).finish(),
    }
}

/// One record a line.
fn lines(file: &LogFile, mapping: &Mapping, scratch: &Scratch, log: &mut FileLog) -> Result<()> {
    let mut lines = match Lines::open(file)? {
        Ok(lines) => lines,
        Err(log_of_failure) => {
            *log = log_of_failure;
            return Ok(());
        }
    };
    let mut ordinal = 0;
    while let Some(line) = lines.next(log)? {
        let text = line.bytes.trim_ascii();
        if text.is_empty() {
            continue;
        }
        match json::parse_counting(text, &mut log.replaced) {
            Ok(record) => {
                let row = Row { record: &record, document: None, key: None, ordinal, program: None };
                let place = Place { offset: line.offset, digest: Digest::of_bytes(text) };
                add(mapping, row, &place, file, scratch, log)?;
            }
            Err(error) => log.bad_line(Quarantined::not_json(&error, file, line.offset, text)),
        }
        ordinal += 1;
    }
    Ok(())
}

/// The longest row of a table of text, in bytes; a quote that is never closed would make one of the rest of the file.
const MAX_ROW: u64 = 64 << 20;

/// A table's bytes, which stop where a row is too long.
struct Bounded<'a> {
    plain: &'a mut open::Opened,
    /// Bytes since the last row began.
    since: &'a Cell<u64>,
}

impl Read for Bounded<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        if self.since.get() > MAX_ROW {
            let reason = format!("a row is longer than {} MiB", MAX_ROW >> 20);
            return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, reason));
        }
        let length = self.plain.read(buffer)?;
        self.since.set(self.since.get() + length as u64);
        Ok(length)
    }
}

/// A table of text with a header.
fn csv(file: &LogFile, mapping: &Mapping, scratch: &Scratch, log: &mut FileLog) -> Result<()> {
    let mut plain = match open::stream(file)? {
        Ok(plain) => plain,
        Err(bad) => {
            log.quarantined.push(bad);
            return Ok(());
        }
    };
    let since = Cell::new(0);
    let bounded = Bounded { plain: &mut plain, since: &since };
    let mut reader = csv::ReaderBuilder::new().flexible(true).from_reader(bounded);
    let header = match reader.byte_headers() {
        Ok(header) => header.clone(),
        Err(error) => {
            log.quarantined.push(Quarantined::file(Code::BadRecord, error.to_string(), file));
            return Ok(());
        }
    };
    let names: Vec<String> = header
        .iter()
        .enumerate()
        .map(|(at, name)| {
            let name = String::from_utf8_lossy(name).into_owned();
            if at == 0 { name.trim_start_matches('\u{feff}').to_owned() } else { name }
        })
        .collect();
    let mut cells = csv::ByteRecord::new();
    let mut ordinal = 0;
    loop {
        let offset = reader.position().byte();
        since.set(0);
        match reader.read_byte_record(&mut cells) {
            Ok(true) => {}
            Ok(false) => break,
            Err(error) => {
                if let csv::ErrorKind::Io(source) = error.kind()
                    && stream::damage(source).is_none()
                {
                    let again = std::io::Error::new(source.kind(), source.to_string());
                    return Err(Error::io("read", &file.path)(again));
                }
                // Of the rest nothing can be told apart.
                let mut bad = Quarantined::new(
                    Code::Truncated,
                    format!("the table breaks off: {error}"),
                    file,
                    offset,
                    &[],
                );
                bad.bytes = file.bytes.saturating_sub(offset);
                log.quarantined.push(bad);
                break;
            }
        }
        let mut record = Map::new();
        for (name, cell) in names.iter().zip(&cells) {
            // An empty cell is no value: CSV has no other word for that.
            if !cell.is_empty() {
                record.insert(name.clone(), Json::from(String::from_utf8_lossy(cell).into_owned()));
            }
        }
        let record = Json::Object(record);
        let row = Row { record: &record, document: None, key: None, ordinal, program: None };
        let place = Place { offset, digest: digest(mapping, file, &record, None) };
        add(mapping, row, &place, file, scratch, log)?;
        ordinal += 1;
    }
    drop(reader);
    plain.check(file)
}

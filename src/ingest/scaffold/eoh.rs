//! EoH: samples and populations, arrays of JSON.
//!
//! A sample has a number, a population only texts; where a run was interrupted before its samples were written there
//! are populations alone. So an entry of a population is the sample with its text, if there is one, and otherwise its
//! text is its id. Nobody names parents: they were in the population before, and [`Record::pool`] lists it. The
//! objective is minimised, and null where a program failed; a sample without code is a proposal that failed.

use std::collections::{BTreeMap, HashMap};

use finch_core::{Digest, Kind};
use serde_json::{Map, Value};

use crate::code::Code;
use crate::error::Result;
use crate::ingest::assess::Failure;
use crate::ingest::mapping::seconds;
use crate::ingest::open;
use crate::ingest::record::{Attempt, FileLog, ProgramRef, Quarantined, Record, micros};
use crate::ingest::{LogFile, Scratch, json};

/// The scaffold's own fitness, minimised.
const OBJECTIVE: &str = "objective";

/// Members of a population that are listed as possible parents, at most; real ones have a few dozen.
const MOST_POSSIBLE: usize = 256;

/// Reads one folder.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let series = series(file);
    let told = match file.part("run_log.txt") {
        Some(part) => open::text(file, part, &mut log)?.map(|text| console(&text)).unwrap_or_default(),
        None => HashMap::new(),
    };
    // The run and the number of the first sample with a text.
    let mut known: Known = HashMap::new();
    // Of several runs, the console log is the last one's.
    let last = if series.is_empty() { None } else { newest(file, &series) };
    let mut populations: BTreeMap<i64, Vec<String>> = BTreeMap::new();
    for samples in [true, false] {
        for (part, of_file) in (0_u32..).zip(&file.parts) {
            let name = of_file.within.rsplit('/').next().unwrap_or("");
            if name.starts_with("samples_") != samples || !name.ends_with(".json") {
                continue;
            }
            let generation = name.trim_end_matches(".json").rsplit('_').next().and_then(|g| g.parse().ok());
            for (ordinal, entry) in entries(file, part, &mut log)?.into_iter().enumerate() {
                let place =
                    Place { file, part, ordinal: ordinal as u64, generation, group: series.get(&part) };
                let id = match samples {
                    true if series.is_empty() || last.as_deref() == place.group.map(String::as_str) => {
                        sample(&entry, &place, &told, &mut known, scratch, &mut log)?
                    }
                    true => sample(&entry, &place, &HashMap::new(), &mut known, scratch, &mut log)?,
                    false => member(&entry, &place, &mut known, scratch, &mut log)?,
                };
                if let (Some(id), Some(generation)) = (id, generation.filter(|_| !samples)) {
                    populations.entry(generation).or_default().push(id);
                }
            }
        }
    }
    adopt(&mut log.records);
    first_seen(&mut log.records);
    // What is found in a generation was made from the one before it.
    for record in &mut log.records {
        let before = record.generation.and_then(|generation| generation.checked_sub(1));
        if let Some(before) = before.and_then(|before| populations.get(&before)) {
            let others = before.iter().filter(|id| **id != record.native_id);
            record.pool = others.take(MOST_POSSIBLE).cloned().collect();
            record.pool.dedup();
        }
    }
    Ok(log)
}

/// Texts that are known as samples, by run and number; or as members of populations, by their digest.
type Known = HashMap<ProgramRef, (Option<String>, String)>;

/// Runs that wrote their samples into one folder, by part; none where there is one. A restart begins again at number
/// one, and leaves the files of the run before it.
fn series(file: &LogFile) -> HashMap<u32, String> {
    let mut ranges: Vec<(u64, u64, u32)> = Vec::new();
    for (part, of_file) in (0_u32..).zip(&file.parts) {
        let name = of_file.within.rsplit('/').next().unwrap_or("");
        let range =
            name.strip_prefix("samples_").and_then(|rest| rest.strip_suffix(".json")?.split_once('~'));
        if let Some((Ok(first), Ok(last))) = range.map(|(first, last)| (first.parse(), last.parse())) {
            ranges.push((first, last, part));
        }
    }
    ranges.sort_unstable();
    // Each range goes to the first run that it continues, else it begins one.
    let mut ends: Vec<u64> = Vec::new();
    let mut of_part = HashMap::new();
    for (first, last, part) in ranges {
        let run = ends.iter().position(|end| end.checked_add(1) == Some(first)).unwrap_or(ends.len());
        if run == ends.len() {
            ends.push(last);
        } else {
            ends[run] = last;
        }
        of_part.insert(part, format!("samples {}", run + 1));
    }
    if ends.len() > 1 { of_part } else { HashMap::new() }
}

/// The run with the most samples, which wrote over the others' console log.
fn newest(file: &LogFile, series: &HashMap<u32, String>) -> Option<String> {
    let ends = series.iter().filter_map(|(part, run)| {
        let name = file.parts.get(*part as usize)?.within.rsplit('/').next()?;
        let last: u64 = name.strip_suffix(".json")?.rsplit_once('~')?.1.parse().ok()?;
        Some((last, run.clone()))
    });
    ends.max().map(|(_, run)| run)
}

/// A member of several populations was made for the first of them.
fn first_seen(records: &mut [Record]) {
    let mut first: HashMap<(Option<String>, String), i64> = HashMap::new();
    let key = |record: &Record| (record.group.clone(), record.native_id.clone());
    for record in records.iter() {
        if let Some(generation) = record.generation.filter(|_| record.iteration == record.generation) {
            let known = first.entry(key(record)).or_insert(generation);
            *known = (*known).min(generation);
        }
    }
    for record in records.iter_mut().filter(|record| record.iteration == record.generation) {
        if let Some(generation) = first.get(&key(record)) {
            record.generation = Some(*generation);
            record.iteration = Some(*generation);
        }
    }
}

/// Members of populations that are no sample belong to the run of most of those that are.
fn adopt(records: &mut [Record]) {
    let mut runs: BTreeMap<&str, usize> = BTreeMap::new();
    for group in records.iter().filter_map(|record| record.group.as_deref()) {
        *runs.entry(group).or_default() += 1;
    }
    let Some(largest) = runs.into_iter().max_by_key(|(_, count)| *count).map(|(run, _)| run.to_owned())
    else {
        return;
    };
    for record in records.iter_mut().filter(|record| record.group.is_none()) {
        record.group = Some(largest.clone());
    }
}

struct Place<'a> {
    file: &'a LogFile,
    part: u32,
    ordinal: u64,
    generation: Option<i64>,
    /// The run among several of the folder.
    group: Option<&'a String>,
}

impl Place<'_> {
    fn record(&self, entry: &Map<String, Value>) -> Record {
        // Numbers begin at one in every run, so a record is one of its run.
        let run = self.file.digest.unwrap_or_else(|| Digest::of_bytes(&[]));
        let text = finch_core::manifest::canonical_json(&Value::Object(entry.clone()));
        Record {
            group: self.group.cloned(),
            part: self.part,
            source: self.file.source_of(self.part),
            offset: self.ordinal,
            digest: Some(Kind::Unit.fields().digest(run).text(&text).finish()),
            ..Record::default()
        }
    }

    fn quarantine(&self, reason: &str, entry: &Map<String, Value>) -> Quarantined {
        let text = Value::Object(entry.clone()).to_string();
        let bad = Quarantined::new(Code::BadRecord, reason, self.file, self.ordinal, text.as_bytes());
        bad.in_part(self.file, self.part)
    }
}

/// The objects of an array, or one that stands alone.
fn entries(file: &LogFile, part: u32, log: &mut FileLog) -> Result<Vec<Map<String, Value>>> {
    let items = match open::document(file, part, log)? {
        Some(Value::Array(items)) => items,
        Some(one @ Value::Object(_)) => vec![one],
        Some(other) => {
            let text = other.to_string();
            let bad = Quarantined::new(Code::BadRecord, "not a list", file, 0, text.as_bytes());
            log.quarantined.push(bad.in_part(file, part));
            return Ok(Vec::new());
        }
        None => return Ok(Vec::new()),
    };
    let mut out = Vec::new();
    for (ordinal, item) in items.into_iter().enumerate() {
        match item {
            Value::Object(entry) => out.push(entry),
            other => {
                let text = other.to_string();
                let bad =
                    Quarantined::new(Code::BadRecord, "not an object", file, ordinal as u64, text.as_bytes());
                log.quarantined.push(bad.in_part(file, part));
            }
        }
    }
    Ok(out)
}

/// Score, operator, and whether it failed.
fn judge(entry: &Map<String, Value>, record: &mut Record, scratch: &Scratch) -> Result<()> {
    let objective = entry.get(OBJECTIVE).cloned().unwrap_or(Value::Null);
    record.failure = objective.is_null().then_some(Failure::Error);
    record.metrics.insert(OBJECTIVE.to_owned(), objective);
    for extra in ["operator", "other_inf", "first_obj"] {
        if let Some(value) = entry.get(extra).filter(|value| !value.is_null()) {
            record.metrics.insert(extra.to_owned(), value.clone());
        }
    }
    record.reasoning = scratch.text(json::text(entry, "algorithm").unwrap_or(""))?;
    Ok(())
}

/// A sample; its number.
fn sample(
    entry: &Map<String, Value>,
    place: &Place<'_>,
    told: &HashMap<i64, Told>,
    known: &mut Known,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<Option<String>> {
    let Some(order) = json::integer(entry, "sample_order") else {
        log.quarantined.push(place.quarantine("no `sample_order`", entry));
        return Ok(None);
    };
    let told = told.get(&order);
    let record = place.record(entry);
    let Some(code) = json::text(entry, "code").filter(|code| !code.trim().is_empty()) else {
        let mut scores = Map::new();
        for key in ["operator", OBJECTIVE] {
            scores.insert(key.to_owned(), entry.get(key).cloned().unwrap_or(Value::Null));
        }
        log.attempts.push(Attempt {
            iteration: Some(order),
            error: Some(told.and_then(|told| told.note.clone()).unwrap_or_else(|| "no code".to_owned())),
            scores,
            group: record.group,
            part: record.part,
            source: record.source,
            offset: record.offset,
            digest: record.digest,
            ..Attempt::default()
        });
        return Ok(None);
    };
    let program = scratch.program(code, None)?;
    let native_id = order.to_string();
    known.entry(program).or_insert_with(|| (place.group.cloned(), native_id.clone()));
    let mut record = Record {
        native_id: native_id.clone(),
        program: Some(program),
        iteration: Some(order),
        generation: told.map(|told| told.generation),
        created_at: told.and_then(|told| told.at).and_then(micros),
        ..record
    };
    judge(entry, &mut record, scratch)?;
    log.records.push(record);
    Ok(Some(native_id))
}

/// An entry of a population; the id of the candidate that it is.
fn member(
    entry: &Map<String, Value>,
    place: &Place<'_>,
    known: &mut Known,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<Option<String>> {
    let Some(code) = json::text(entry, "code").filter(|code| !code.trim().is_empty()) else {
        log.quarantined.push(place.quarantine("no `code`", entry));
        return Ok(None);
    };
    let program = scratch.program(code, None)?;
    let is_sample = known.get(&program).is_some_and(|(_, id)| id.parse::<i64>().is_ok());
    // The raw text tells two programs apart that differ in blanks alone; they are two candidates of one program.
    let (group, native_id) = known.entry(program).or_insert_with(|| (None, program.raw.to_string())).clone();
    let mut record = Record {
        group,
        native_id: native_id.clone(),
        program: Some(program),
        generation: place.generation.filter(|_| !is_sample),
        iteration: place.generation.filter(|_| !is_sample),
        ..place.record(entry)
    };
    judge(entry, &mut record, scratch)?;
    log.records.push(record);
    Ok(Some(native_id))
}

/// What the run log says of a sample.
struct Told {
    generation: i64,
    at: Option<f64>,
    note: Option<String>,
}

/// `[Gen 3/20]` opens a block; `[time]   #17   [m2]  15.03801   best=…` is a sample of it.
fn console(text: &str) -> HashMap<i64, Told> {
    let mut told = HashMap::new();
    let mut generation = 0;
    for line in text.lines() {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("[Gen ") {
            generation = rest.split('/').next().and_then(|g| g.parse().ok()).unwrap_or(generation);
            continue;
        }
        let Some((time, rest)) = line.strip_prefix('[').and_then(|rest| rest.split_once(']')) else {
            continue;
        };
        let Some(rest) = rest.trim_start().strip_prefix('#') else { continue };
        let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let Ok(order) = rest[..digits].parse() else { continue };
        let note =
            rest.split_once('(').and_then(|(_, note)| note.split_once(')')).map(|(note, _)| note.to_owned());
        told.insert(order, Told { generation, at: seconds(time), note });
    }
    told
}

#[cfg(test)]
mod tests {
    use super::console;

    #[test]
    fn samples_belong_to_the_generation_above_them() {
        let text = "[2026-05-18 22:40:29] \n[Init]  (8 samples)\n[2026-05-18 22:40:31]   #1    [i1]  6.6   best=6.6  *\n\
                    [Gen 3/20]\n[2026-05-18 22:40:43]   #11   [e2]  None (generation failed)  best=6.6\n";
        let told = console(text);
        assert_eq!((told[&1].generation, told[&11].generation), (0, 3));
        assert_eq!(told[&11].note.as_deref(), Some("generation failed"));
        assert_eq!(told[&1].at, Some(1_779_144_031.0));
    }
}

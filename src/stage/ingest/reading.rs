//! Reading the logs of a discovery: what the store remembers by content, and the rest from the files.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use finch_core::Digest;
use rayon::prelude::*;

use super::super::{Context, code_version};
use crate::error::Result;
use crate::ingest::record::About;
use crate::ingest::unite::UnitRecords;
use crate::ingest::{Discovery, FileLog, Format, LogFile, Parsed, Quarantined, Scratch, parsed};
use crate::store::ReadingRecord;

/// Bytes of logs that are read between two moments at which what was read is remembered.
const PART_BYTES: u64 = 512 << 20;

/// What all logs say.
pub(super) struct Reading {
    /// Records by unit, in the order of units, whatever thread was faster.
    pub(super) units: Vec<UnitRecords>,
    /// What could not be read.
    pub(super) quarantined: Vec<Quarantined>,
    /// Fields that mappings name and that no record has: in how many files, and one of them.
    pub(super) unfound: BTreeMap<String, (u64, String)>,
    /// Characters that were no text.
    pub(super) replaced: u64,
    /// Where the programs and texts are.
    pub(super) packs: Packs,
    /// How much was read.
    pub(super) record: ReadingRecord,
}

/// The folders that hold programs and texts, kept until they are used.
pub(super) struct Packs {
    cache: Parsed,
    known: Vec<PathBuf>,
    damaged: Vec<PathBuf>,
    new: Vec<PathBuf>,
    /// Hold what was read when the cache would not take it.
    _scratch: Vec<tempfile::TempDir>,
}

impl Packs {
    pub(super) fn folders(&self) -> Vec<PathBuf> {
        self.known.iter().chain(&self.new).cloned().collect()
    }

    /// Makes many packs one. A cache that cannot be tidied is one all the same.
    pub(super) fn tidy(self, context: &Context<'_>) -> Result<()> {
        let folder = context.store.scratch()?;
        if let Err(error) = self.cache.tidy(&self.known, &self.damaged, folder.path()) {
            context
                .progress
                .warning(&context.stage.name, &format!("what is known of logs was not tidied: {error}"));
        }
        Ok(())
    }
}

/// Reads all files that the store does not know, on all threads. When somebody asks for an end, what was read by then
/// is remembered.
pub(super) fn read(discovery: &Discovery, context: &Context<'_>) -> Result<Reading> {
    let version = code_version("ingest");
    let files: Vec<Listed<'_>> = discovery
        .units
        .iter()
        .enumerate()
        .flat_map(|(unit, found)| found.files.iter().map(move |file| (Some(unit), file)))
        .chain(discovery.foreign.iter().map(|file| (None, file)))
        .map(|(unit, file)| (unit, file, parsed::key(file, version)))
        .collect();
    let cache = Parsed::open(&context.store.cache())?;
    let wanted: HashSet<Digest> = files.iter().filter_map(|(.., key)| *key).collect();
    let known = cache.find(&wanted, |text| context.progress.warning(&context.stage.name, &text));

    let stopped = AtomicBool::new(false);
    let meter = context.progress.meter();
    // Checkpoints repeat most programs of those before: of equal files one is read.
    let mut uses = uses(&files);
    let repeats = repeats(&files);
    let is_known =
        |at: usize| repeats.contains(&at) || files[at].2.is_some_and(|key| known.logs.contains_key(&key));
    let left = |at: usize| if is_known(at) { 0 } else { files[at].1.bytes };
    meter.expect_bytes((0..files.len()).map(left).sum());
    let mut fresh: Vec<Option<FileLog>> = Vec::with_capacity(files.len());
    let (mut new, mut held) = (Vec::new(), Vec::new());
    for part in parts(files.len(), left) {
        let folder = context.store.scratch()?;
        let scratch = Scratch::create(folder.path())?;
        let logs: Vec<Option<FileLog>> = part
            .clone()
            .into_par_iter()
            .map(|at| {
                let (_, file, key) = &files[at];
                if is_known(at) || stopped.load(Ordering::Relaxed) {
                    return Ok(None);
                }
                if context.interrupt.asked().is_some() {
                    stopped.store(true, Ordering::Relaxed);
                    return Ok(None);
                }
                let mut log = file.format.read(file, &scratch)?;
                // A checkpoint's file is one record, in a vector with room for four; all are kept until the last is read.
                log.records.shrink_to_fit();
                if let Some(key) = key.filter(|_| !log.passing) {
                    scratch.log(key, &log)?;
                }
                meter.add(log.records.len() as u64, file.bytes);
                Ok(Some(log))
            })
            .collect::<Result<_>>()?;
        scratch.finish()?;
        let read = files[part]
            .iter()
            .zip(&logs)
            .any(|((_, file, _), log)| log.is_some() && file.format != Format::Foreign);
        fresh.extend(logs);
        // Without any pack there would be no table of programs.
        if read || (known.packs.is_empty() && new.is_empty()) {
            new.push(cache.keep(folder.path()).unwrap_or_else(|error| {
                let text = format!("what was read is not remembered: {error}");
                context.progress.warning(&context.stage.name, &text);
                folder.path().to_path_buf()
            }));
        }
        held.push(folder);
        context.interrupt.check()?;
    }
    // Foreign files are listed and not read.
    let logs = files.iter().filter(|(_, file, _)| file.format != Format::Foreign).count() as u64;
    let read = files
        .iter()
        .zip(&fresh)
        .filter(|((_, file, _), log)| log.is_some() && file.format != Format::Foreign);
    let read = read.count() as u64;
    let record = ReadingRecord { files_read: read, files_known: logs - read };
    let mut units: Vec<UnitRecords> = discovery
        .units
        .iter()
        .map(|unit| UnitRecords { scaffold: unit.scaffold, one_run: unit.one_run, ..UnitRecords::default() })
        .collect();
    let (mut quarantined, mut replaced) = (Vec::new(), 0);
    let mut unfound: BTreeMap<String, (u64, String)> = BTreeMap::new();
    let mut known_logs = known.logs;
    for ((_, file, key), log) in files.iter().zip(&mut fresh) {
        // What others repeat is handed out to all of them.
        let is_repeated = |key: &Digest| uses.get(key).is_some_and(|uses| *uses > 1);
        if let Some(key) = key.filter(|key| file.format.is_program_file() && is_repeated(key))
            && let Some(log) = log.take()
        {
            known_logs.insert(key, log);
        }
    }
    for ((unit, file, key), fresh) in files.iter().zip(fresh) {
        let log = match (fresh, key) {
            (Some(log), _) => log,
            (None, Some(key)) => from_cache(&mut known_logs, &mut uses, *key, file),
            (None, None) => FileLog::default(),
        };
        replaced += log.replaced;
        for field in log.unfound {
            unfound.entry(field).or_insert_with(|| (0, file.source.to_string())).0 += 1;
        }
        quarantined.extend(log.quarantined);
        if let Some(unit) = unit {
            let unit = &mut units[*unit];
            unit.records.extend(log.records);
            unit.attempts.extend(log.attempts);
            unit.abouts.extend(Some(log.about).filter(|about| *about != About::default()));
        }
    }
    let packs = Packs { cache, known: known.packs, damaged: known.damaged, new, _scratch: held };
    Ok(Reading { units, quarantined, unfound, replaced, packs, record })
}

/// A file of a unit, or of none, with the key of what it says.
type Listed<'a> = (Option<usize>, &'a LogFile, Option<Digest>);

/// Parts of the files with about so many bytes to read each: what a part said is remembered when it is read whole, so
/// that a build that is killed has that much to read again at most.
fn parts(files: usize, left: impl Fn(usize) -> u64) -> Vec<Range<usize>> {
    let (mut parts, mut start, mut bytes) = (Vec::new(), 0, 0);
    for at in 0..files {
        bytes += left(at);
        if bytes >= PART_BYTES {
            parts.push(start..at + 1);
            (start, bytes) = (at + 1, 0);
        }
    }
    if start < files || parts.is_empty() {
        parts.push(start..files);
    }
    parts
}

/// The files whose content stands in one before them. Programs of checkpoints alone: what may be written to while it is
/// read, such as a database, is read wherever it lies.
fn repeats(files: &[Listed<'_>]) -> HashSet<usize> {
    let mut seen = HashSet::new();
    let programs = files.iter().enumerate().filter(|(_, (_, file, _))| file.format.is_program_file());
    let keys = programs.filter_map(|(at, (.., key))| Some((at, (*key)?)));
    keys.filter(|(_, key)| !seen.insert(*key)).map(|(at, _)| at).collect()
}

/// How many files have each key: a log that lies in two places is two mentions.
fn uses(files: &[Listed<'_>]) -> HashMap<Digest, u64> {
    let mut uses = HashMap::new();
    for key in files.iter().filter_map(|(.., key)| *key) {
        *uses.entry(key).or_default() += 1;
    }
    uses
}

/// A remembered log, as if it had been read from this file.
fn from_cache(
    logs: &mut HashMap<Digest, FileLog>,
    left: &mut HashMap<Digest, u64>,
    key: Digest,
    file: &LogFile,
) -> FileLog {
    let uses = left.entry(key).or_insert(1);
    *uses = uses.saturating_sub(1);
    // The last one takes it; the others need a copy.
    let log = if *uses == 0 { logs.remove(&key) } else { logs.get(&key).cloned() };
    let mut log = log.unwrap_or_default();
    log.records.iter_mut().for_each(|record| record.source = file.source_of(record.part));
    log.attempts.iter_mut().for_each(|attempt| attempt.source = file.source_of(attempt.part));
    log.quarantined.iter_mut().for_each(|bad| bad.source = file.source_of(bad.part));
    log
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_all_files_in_order_and_bounded() {
        let sizes = [PART_BYTES / 2, PART_BYTES / 2, 1, PART_BYTES * 3, 0, 5];
        assert_eq!(parts(sizes.len(), |at| sizes[at]), [0..2, 2..4, 4..6]);
        assert_eq!(parts(sizes.len(), |_| 0), vec![0..6; 1], "what is known already is no reason for a part");
        assert_eq!(parts(0, |_| 1), vec![0..0; 1], "one part always, for its tables");
    }

    #[test]
    fn of_equal_files_the_first_is_read() {
        let file = LogFile {
            path: PathBuf::new(),
            source: "".into(),
            in_unit: String::new(),
            format: Format::OpenEvolveProgram,
            bytes: 1,
            digest: None,
            mapping: None,
            settled: None,
            parts: Vec::new(),
        };
        let key = |text: &str| Some(Digest::of_bytes(text.as_bytes()));
        let keys = [key("a"), None, key("b"), key("a"), None, key("a")];
        let files: Vec<Listed<'_>> = keys.iter().map(|key| (None, &file, *key)).collect();
        assert_eq!(repeats(&files), HashSet::from([3, 5]), "and one that cannot be hashed each time");
    }
}

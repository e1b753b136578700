//! What log files said, kept by their content: a tree of logs that grew by one file is read again by one file.
//!
//! ```text
//! cache/parsed/lock                                               shared while packs are used
//! cache/parsed/<digest>/{logs.parquet,programs.pile,texts.pile,pack.json}  what one reading of logs added
//! ```
//!
//! The cache is advice. A pack's files are checked against the digests in its `pack.json` before anything in them is
//! believed, so it is not synced; what is damaged or of another version is not used, and the logs are read again.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use finch_core::{Digest, Kind, digest};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::discover::LogFile;
use super::format::Format;
use super::record::FileLog;
use super::scratch::{LOGS, PROGRAMS, Scratch, TEXTS, sheet};
use crate::error::{Error, Result};

/// The version of a pack's files.
const VERSION: u32 = 2;
const ABOUT: &str = "pack.json";
/// More packs than this are made one.
const MOST_PACKS: usize = 16;

/// The cache of a store, held so that no other process removes what is being used.
pub struct Parsed {
    folder: PathBuf,
    /// Shared; none where the folder cannot be locked, and then nothing is removed.
    lock: Option<File>,
    packs: Vec<PathBuf>,
}

/// What a pack says of itself.
#[derive(Serialize, Deserialize)]
struct About {
    version: u32,
    /// Plain BLAKE3 by file name.
    files: BTreeMap<String, Digest>,
}

/// What the cache knew.
#[derive(Default)]
pub struct Found {
    /// Logs by key, without their sources.
    pub logs: HashMap<Digest, FileLog>,
    /// The packs that they came from, whose programs and texts they speak of.
    pub packs: Vec<PathBuf>,
    /// Packs that cannot be used.
    pub damaged: Vec<PathBuf>,
}

/// The key of a file's log: its content, and the version of what reads it. None for what is not worth keeping.
pub fn key(file: &LogFile, version: u32) -> Option<Digest> {
    let digest = file.digest.filter(|_| file.format != Format::Foreign)?;
    let fields = Kind::Unit.fields().text("parsed").int(u64::from(version)).text(file.format.word());
    // A mapping may leave the form of a file to its name.
    let fields = file
        .mapping
        .iter()
        .fold(fields, |fields, mapping| fields.digest(mapping.digest).text(mapping.form_of(&file.source)));
    Some(fields.digest(digest).finish())
}

impl Parsed {
    /// Opens the cache below a store's cache folder.
    pub fn open(cache: &Path) -> Result<Self> {
        let folder = cache.join("parsed");
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let path = folder.join("lock");
        let lock = File::options().read(true).write(true).create(true).truncate(false).open(&path);
        let lock = lock.map_err(Error::io("open", &path))?;
        // A file system without locks still has the cache; it only grows.
        let lock = lock.lock_shared().is_ok().then_some(lock);
        let mut packs = Vec::new();
        for entry in fs::read_dir(&folder).map_err(Error::io("list", &folder))? {
            let entry = entry.map_err(Error::io("list", &folder))?;
            if entry.file_name().to_str().is_some_and(|name| name.parse::<Digest>().is_ok()) {
                packs.push(entry.path());
            }
        }
        packs.sort();
        Ok(Self { folder, lock, packs })
    }

    /// The logs of these keys, as far as they are known. A pack that cannot be used is none, and said so by `tell`.
    pub fn find(&self, wanted: &HashSet<Digest>, tell: impl Fn(String)) -> Found {
        let mut found = Found::default();
        for pack in &self.packs {
            if wanted.len() == found.logs.len() {
                break;
            }
            match look(pack, wanted, &found.logs) {
                Ok(logs) if logs.is_empty() => {}
                Ok(logs) => {
                    found.logs.extend(logs);
                    found.packs.push(pack.clone());
                }
                Err(reason) => {
                    tell(format!("`{}` is not used: {reason}", pack.display()));
                    found.damaged.push(pack.clone());
                }
            }
        }
        found
    }

    /// Takes over the finished files of a scratch folder; the folder where they are now.
    pub fn keep(&self, scratch: &Path) -> Result<PathBuf> {
        let mut files = BTreeMap::new();
        let mut name = Kind::Unit.fields().text("pack");
        for file in [LOGS, PROGRAMS, TEXTS] {
            let digest = digest::of_file(&scratch.join(file))?;
            name = name.digest(digest);
            files.insert(file.to_owned(), digest);
        }
        let about = serde_json::json!(About { version: VERSION, files });
        let path = scratch.join(ABOUT);
        fs::write(&path, about.to_string()).map_err(Error::io("write", path))?;
        let target = self.folder.join(name.finish().to_string());
        match fs::rename(scratch, &target) {
            // Another build read the same.
            Err(_) if target.join(ABOUT).is_file() => Ok(target),
            result => result.map(|()| target).map_err(Error::io("move", scratch)),
        }
    }

    /// Removes damaged packs and makes many one, when nobody else uses the cache. Nothing is lost when this fails.
    pub fn tidy(self, used: &[PathBuf], damaged: &[PathBuf], scratch: &Path) -> Result<()> {
        let needed = used.len() > MOST_PACKS || !damaged.is_empty();
        let Some(lock) = self.lock.as_ref().filter(|_| needed) else { return Ok(()) };
        // Between the two, another process may tidy first: a pack that is gone then is passed over.
        let alone = lock.unlock().and_then(|()| lock.try_lock().map_err(std::io::Error::from));
        if alone.is_err() {
            return Ok(());
        }
        // What cannot be removed takes space and does no harm.
        damaged.iter().for_each(|pack| drop(fs::remove_dir_all(pack)));
        if used.len() <= MOST_PACKS {
            return Ok(());
        }
        let one = Scratch::create(scratch)?;
        for pack in used.iter().filter(|pack| pack.is_dir()) {
            one.add_pack(pack)?;
        }
        one.finish()?;
        let kept = self.keep(scratch)?;
        for pack in used.iter().filter(|pack| **pack != kept) {
            let _ = fs::remove_dir_all(pack);
        }
        Ok(())
    }
}

/// The wanted logs in a pack that are not known yet; why it cannot be used.
fn look(
    pack: &Path,
    wanted: &HashSet<Digest>,
    known: &HashMap<Digest, FileLog>,
) -> Result<HashMap<Digest, FileLog>, String> {
    let about = fs::read(pack.join(ABOUT)).map_err(|error| format!("`{ABOUT}`: {error}"))?;
    let about: About = serde_json::from_slice(&about).map_err(|error| format!("`{ABOUT}`: {error}"))?;
    if about.version < VERSION {
        return Err("an older finch made it".to_owned());
    }
    if about.version > VERSION {
        return Ok(HashMap::new());
    }
    let mut logs: HashMap<Digest, FileLog> = HashMap::new();
    let mut parts: HashMap<Digest, (i64, i64)> = HashMap::new();
    // The list of keys comes first: most packs of a store with many sources are of other ones.
    for batch in sheet::batches(&pack.join(LOGS)).map_err(|error| error.to_string())? {
        let batch = batch.map_err(|error| error.to_string())?;
        let rows = sheet::rows(&batch).ok_or("it has other columns")?;
        let parsed: Vec<(Digest, &sheet::Row<'_>, FileLog)> = rows
            .par_iter()
            .map(|row| Ok((row.key.parse().map_err(|_| "a key is none")?, row)))
            .filter(|row| {
                row.as_ref().map_or(true, |(key, _)| wanted.contains(key) && !known.contains_key(key))
            })
            .map(|row: Result<_, String>| {
                let (key, row) = row?;
                Ok((key, row, serde_json::from_str(row.log).map_err(|error| error.to_string())?))
            })
            .collect::<Result<_, String>>()?;
        for (key, row, log) in parsed {
            let (read, all) = parts.entry(key).or_insert((0, row.parts));
            if *read != row.part || *all != row.parts {
                return Err("the parts of a log are out of order".to_owned());
            }
            *read += 1;
            let whole = logs.entry(key).or_default();
            whole.records.extend(log.records);
            whole.attempts.extend(log.attempts);
            if row.part == 0 {
                whole.about = log.about;
                whole.unfound = log.unfound;
            }
            whole.quarantined.extend(log.quarantined);
            whole.replaced += log.replaced;
        }
    }
    if logs.is_empty() {
        return Ok(logs);
    }
    if parts.values().any(|(read, all)| read != all) {
        return Err("the parts of a log are not all there".to_owned());
    }
    let digests = [LOGS, PROGRAMS, TEXTS].par_iter().map(|file| {
        let found = digest::of_file(&pack.join(file)).map_err(|error| error.to_string())?;
        let as_said = about.files.get(*file) == Some(&found);
        as_said.then_some(()).ok_or_else(|| format!("`{file}` is damaged"))
    });
    digests.collect::<Result<(), String>>()?;
    Ok(logs)
}

//! Finding logs: which files of a folder hold records, which scaffold wrote them, which belong together.
//!
//! A unit is the folder that one scaffold wrote into. It is identified by its content: the digests of the
//! files that are read, under their paths inside the unit, and what the spec and the sidecar say of it. Moving
//! or renaming a unit changes nothing; links are not followed, so a log cannot lead out of its source.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use finch_core::{Digest, Kind};
use rayon::prelude::*;

use super::stat::{Known, Stamp, Stats};
use crate::catalog::Direction;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::spec::{Ingest, SourceEntry, read_document, read_text};

/// What a file is, to the readers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// OpenEvolve: one program as JSON, from a checkpoint or a database folder.
    OpenEvolveProgram,
    /// OpenEvolve: an evolution trace, JSON lines (plain or gzip) or one JSON document.
    OpenEvolveTrace,
    /// ShinkaEvolve: a SQLite database.
    ShinkaDatabase,
    /// Looks like a log and is none that is known.
    Foreign,
}

impl Format {
    /// The scaffold that writes it.
    pub fn scaffold(self) -> Option<&'static str> {
        match self {
            Self::OpenEvolveProgram | Self::OpenEvolveTrace => Some("openevolve"),
            Self::ShinkaDatabase => Some("shinka"),
            Self::Foreign => None,
        }
    }

    /// Its name.
    pub fn word(self) -> &'static str {
        match self {
            Self::OpenEvolveProgram => "openevolve program",
            Self::OpenEvolveTrace => "openevolve trace",
            Self::ShinkaDatabase => "shinka database",
            Self::Foreign => "foreign",
        }
    }
}

/// A file to read.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// Where it lies.
    pub path: PathBuf,
    /// Its path relative to the source entry, `/`-joined.
    pub source: String,
    /// Its path relative to the unit.
    pub in_unit: String,
    /// What it is.
    pub format: Format,
    /// Size in bytes.
    pub bytes: u64,
    /// Digest of its content, and of its write-ahead log's; `None` when it cannot be read.
    pub digest: Option<Digest>,
}

/// What a `finch.toml` in a run folder says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sidecar {
    /// The task.
    pub task: Option<String>,
    /// The logs' licence.
    pub license: Option<String>,
    /// Where the logs come from.
    pub origin: Option<String>,
    /// The metric to judge by.
    pub score_key: Option<String>,
    /// That metric's direction.
    pub direction: Option<Direction>,
}

/// A folder that one scaffold wrote into.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Identifies the unit by its content.
    pub digest: Digest,
    /// The scaffold.
    pub scaffold: &'static str,
    /// The folder, relative to the source entry.
    pub source: String,
    /// The folder itself.
    pub folder: PathBuf,
    /// The task that the spec's source entry names.
    pub task: Option<String>,
    /// The licence that the spec's source entry names.
    pub license: Option<String>,
    /// The sidecar's words.
    pub sidecar: Sidecar,
    /// The files to read, by their path in the unit.
    pub files: Vec<LogFile>,
}

/// Everything found in the sources of an ingest stage.
#[derive(Default)]
pub struct Discovery {
    /// Units in the order of their digests, so that the order of sources does not matter.
    pub units: Vec<Unit>,
    /// Files that look like logs and are none that is known.
    pub foreign: Vec<LogFile>,
    /// Other files that hold no records: best programs, console logs, pictures.
    pub ignored: u64,
    /// Folders of logs in a form whose reader is not built yet.
    pub unsupported: BTreeSet<String>,
    /// Sources, as the spec writes them, in which nothing is a log that finch knows.
    pub empty: Vec<String>,
    /// Digests that are remembered; what was hashed anew is in it, to be saved by whoever may write.
    pub stats: Stats,
}

impl Discovery {
    /// Walks all sources of an ingest stage, which lie at `paths`, and hashes what will be read, and has changed since
    /// a `cache` folder saw it.
    pub fn of(stage: &Ingest, paths: &[PathBuf], cache: Option<&Path>) -> Result<Self> {
        let mut found = Self::default();
        let mut seen = BTreeSet::new();
        // A source inside another one goes first and keeps its files, in whatever order they are listed.
        let mut entries: Vec<(PathBuf, &Path, &SourceEntry)> = Vec::new();
        for (entry, path) in stage.sources.iter().zip(paths) {
            let real = fs::canonicalize(path).map_err(|_| missing(entry))?;
            entries.push((real, path, entry));
        }
        entries.sort_by_key(|(real, _, entry)| {
            (std::cmp::Reverse(real.components().count()), real.clone(), entry.task.clone())
        });
        let roots = entries.iter().map(|(real, ..)| real.as_path());
        found.stats = cache.map_or_else(Stats::default, |cache| Stats::open(cache, roots));
        for (real, path, entry) in entries {
            found.walk_entry(&real, path, entry, &mut seen)?;
        }
        found.units.sort_by_key(|unit| (unit.digest, unit.source.clone()));
        found.foreign.sort_by_key(|file| (file.digest, file.source.clone()));
        Ok(found)
    }

    /// Digest of everything that will be read, independent of where it lies.
    pub fn digest(&self) -> Digest {
        let mut fields = Kind::Unit.fields().text("sources");
        for unit in &self.units {
            fields = fields.digest(unit.digest);
        }
        for file in &self.foreign {
            fields = fields.text("foreign").bytes(file.digest.as_ref().map_or(&[], |d| d.as_bytes()));
        }
        fields.finish()
    }

    /// Walks a source; `real` is the path `at` without links. Below it links are not followed, so what is below it is named
    /// without them too.
    fn walk_entry(
        &mut self,
        real: &Path,
        at: &Path,
        entry: &SourceEntry,
        seen: &mut BTreeSet<PathBuf>,
    ) -> Result<()> {
        let mut files = Vec::new();
        let root = if at.is_dir() {
            walk(at, &mut files)?;
            at.to_path_buf()
        } else {
            files.push(at.to_path_buf());
            at.parent().map_or_else(PathBuf::new, Path::to_path_buf)
        };
        // A folder that is listed twice, or inside another one, is read once.
        let (all, units_before) = (files.len(), self.units.len());
        files.retain(|path| seen.insert(real_path(path, real, at)));

        let unread = files.len();

        let mut formats: Vec<(PathBuf, Format, Seen)> = Vec::new();
        for path in files {
            let mut file = Seen::new(real_path(&path, real, at), &self.stats);
            match classify(&path, &root, entry.scaffold.as_deref(), &mut file) {
                Some(format) => formats.push((path, format, file)),
                None => {
                    self.ignored += 1;
                    self.unsupported.extend(unsupported(&path).map(|folder| relative(folder, &root)));
                }
            }
        }
        let program_roots: BTreeSet<PathBuf> = formats
            .iter()
            .filter(|(_, format, _)| *format == Format::OpenEvolveProgram)
            .map(|(path, ..)| program_root(path, &root))
            .collect();
        let mut groups: BTreeMap<(PathBuf, &'static str), Vec<LogFile>> = BTreeMap::new();
        let files: Vec<(PathBuf, LogFile)> = formats
            .into_par_iter()
            .map(|(path, format, seen)| {
                let unit_root = match format {
                    Format::OpenEvolveProgram => program_root(&path, &root),
                    Format::OpenEvolveTrace => path
                        .ancestors()
                        .skip(1)
                        .take_while(|folder| folder.starts_with(&root))
                        .find(|folder| program_roots.contains(*folder))
                        .or(path.parent())
                        .map_or_else(|| root.clone(), Path::to_path_buf),
                    Format::ShinkaDatabase | Format::Foreign => {
                        path.parent().map_or_else(|| root.clone(), Path::to_path_buf)
                    }
                };
                let file = LogFile {
                    source: relative(&path, &root),
                    in_unit: relative(&path, &unit_root),
                    format,
                    bytes: seen.bytes(),
                    digest: seen.hash(&path, format, &self.stats),
                    path,
                };
                (unit_root, file)
            })
            .collect();
        for (unit_root, file) in files {
            match file.format.scaffold() {
                Some(scaffold) => groups.entry((unit_root, scaffold)).or_default().push(file),
                None => self.foreign.push(file),
            }
        }
        for ((folder, scaffold), mut files) in groups {
            files.sort_by(|a, b| a.in_unit.cmp(&b.in_unit));
            let sidecar = sidecar(&folder, &root)?;
            let digest = unit_digest(scaffold, entry, &sidecar, &files);
            self.units.push(Unit {
                digest,
                scaffold,
                source: relative(&folder, &root),
                folder,
                task: entry.task.clone(),
                license: entry.license.clone(),
                sidecar,
                files,
            });
        }
        // A source whose files were all read through another one is not empty.
        if self.units.len() == units_before && !(all > 0 && unread == 0) {
            self.empty.push(entry.given.clone());
        }
        Ok(())
    }
}

/// The path of a file that was found below a source, without links.
fn real_path(path: &Path, real: &Path, entry: &Path) -> PathBuf {
    match path.strip_prefix(entry) {
        Ok(inside) if !inside.as_os_str().is_empty() => real.join(inside),
        _ => real.to_path_buf(),
    }
}

/// A file as it was found: where it really lies, its stamp, and what is remembered of it.
struct Seen {
    real: PathBuf,
    stamp: Option<Stamp>,
    known: Option<Known>,
    trace: Option<bool>,
}

impl Seen {
    fn new(real: PathBuf, stats: &Stats) -> Self {
        let stamp = fs::symlink_metadata(&real).ok().map(|meta| Stamp::of(&meta));
        let known = stamp.and_then(|stamp| stats.known(&real, stamp));
        Self { real, stamp, known, trace: known.and_then(|known| known.trace) }
    }

    fn bytes(&self) -> u64 {
        self.stamp.map_or(0, |stamp| stamp.bytes)
    }

    fn is_trace(&mut self, path: &Path) -> bool {
        *self.trace.get_or_insert_with(|| is_trace(path))
    }

    /// The file's digest; remembered anew where it had to be computed.
    fn hash(&self, path: &Path, format: Format, stats: &Stats) -> Option<Digest> {
        if let Some(known) = self.known.filter(|known| known.trace == self.trace) {
            return with_log(path, format, known.digest);
        }
        let began = SystemTime::now();
        let digest = plain(path)?;
        if let Some(stamp) = self.stamp {
            stats.add(&self.real, stamp, Known { digest, trace: self.trace }, began);
        }
        with_log(path, format, digest)
    }
}

fn missing(entry: &SourceEntry) -> Error {
    Error::Source {
        path: entry.given.clone(),
        reason: "does not exist".to_owned(),
        code: Code::MissingSource,
    }
}

/// All files below a folder, in name order; links are skipped.
fn walk(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let mut entries: Vec<_> = fs::read_dir(folder)
        .and_then(Iterator::collect::<Result<_, _>>)
        .map_err(Error::io("list", folder))?;
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let kind = entry.file_type().map_err(Error::io("examine", entry.path()))?;
        if kind.is_dir() {
            walk(&entry.path(), files)?;
        } else if kind.is_file() {
            files.push(entry.path());
        }
    }
    Ok(())
}

/// What a file is; `None` for a file that holds no records.
fn classify(path: &Path, root: &Path, scaffold: Option<&str>, file: &mut Seen) -> Option<Format> {
    let name = path.file_name()?.to_string_lossy();
    let folder =
        path.parent().and_then(Path::file_name).map(|name| name.to_string_lossy()).unwrap_or_default();
    let wanted = |format: Format| match scaffold {
        Some(scaffold) if format.scaffold() != Some(scaffold) => Format::Foreign,
        _ => format,
    };
    let has = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    if has(&[".json"]) && folder == "programs" {
        return Some(wanted(Format::OpenEvolveProgram));
    }
    if has(&[".sqlite", ".sqlite3", ".db"]) {
        return (name != "prompts.sqlite").then(|| wanted(Format::ShinkaDatabase));
    }
    if !has(&[".json", ".jsonl", ".jsonl.gz"]) {
        return None;
    }
    if file.is_trace(path) {
        return Some(wanted(Format::OpenEvolveTrace));
    }
    // Files of a known layout that repeat or summarise what the records say. Only names below the source count.
    let known = ["metadata.json", "best_program_info.json", "meta_memory.json"];
    let inside = path.strip_prefix(root).unwrap_or(path).ancestors().skip(1).filter_map(Path::file_name);
    let in_generation = inside
        .map(|name| name.to_string_lossy())
        .any(|name| name.starts_with("gen_") || name == "artifacts" || name == "best");
    (!known.contains(&name.as_ref()) && !in_generation).then_some(Format::Foreign)
}

/// The folder of a log in a form that is recognised and not read: ShinkaEvolve's generations without a database,
/// an OpenEvolve trace in HDF5.
fn unsupported(path: &Path) -> Option<&Path> {
    let name = path.file_name()?.to_string_lossy();
    let folder = path.parent()?;
    if name.starts_with("evolution_trace.h") {
        return Some(folder);
    }
    let generation = folder.file_name()?.to_string_lossy().starts_with("gen_") && name.starts_with("main.");
    let run = folder.parent()?;
    let has_database = ["programs.sqlite", "evolution_db.sqlite"].iter().any(|name| run.join(name).is_file());
    (generation && !has_database).then_some(run)
}

/// Whether a file starts like an evolution trace. A line's ids come before its long fields.
fn is_trace(path: &Path) -> bool {
    let Ok(file) = fs::File::open(path) else { return false };
    let mut head = Vec::new();
    let limit = 64 << 10;
    let read = if path.extension().is_some_and(|extension| extension == "gz") {
        flate2::read::MultiGzDecoder::new(file).take(limit).read_to_end(&mut head)
    } else {
        file.take(limit).read_to_end(&mut head)
    };
    let has = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
    // A file that is cut inside its gzip stream still shows its head.
    let _ = read;
    has(b"\"parent_id\"") && has(b"\"child_id\"")
}

/// The unit of a program file: above `checkpoints/checkpoint_N/programs`, `checkpoint_N/programs` or
/// `<database>/programs`, and never above the source.
fn program_root(path: &Path, root: &Path) -> PathBuf {
    let programs = path.parent().unwrap_or(root);
    let holder = programs.parent().filter(|folder| folder.starts_with(root)).unwrap_or(root);
    let above = |folder: &Path| folder.parent().filter(|up| up.starts_with(root)).map(Path::to_path_buf);
    let named = |folder: &Path, prefix: &str| {
        folder.file_name().is_some_and(|name| name.to_string_lossy().starts_with(prefix))
    };
    if named(holder, "checkpoint_") {
        let up = above(holder).unwrap_or_else(|| root.to_path_buf());
        return if named(&up, "checkpoints") { above(&up).unwrap_or(up) } else { up };
    }
    // A database folder belongs to the run that it lies in, with its checkpoints and its trace.
    let traces = ["evolution_trace.jsonl", "evolution_trace.jsonl.gz", "evolution_trace.json"];
    match above(holder) {
        Some(up)
            if named(holder, "db")
                || up.join("checkpoints").is_dir()
                || traces.iter().any(|trace| up.join(trace).is_file()) =>
        {
            up
        }
        _ => holder.to_path_buf(),
    }
}

/// A path below a root, `/`-joined; a root itself is `.`.
fn relative(path: &Path, root: &Path) -> String {
    let rest = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = rest.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

/// A file's digest; a database's covers its write-ahead log, which may hold everything.
pub(super) fn hash(path: &Path, format: Format) -> Option<Digest> {
    with_log(path, format, plain(path)?)
}

fn plain(path: &Path) -> Option<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path).ok()?).ok()?;
    Some(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

fn with_log(path: &Path, format: Format, main: Digest) -> Option<Digest> {
    if format != Format::ShinkaDatabase {
        return Some(main);
    }
    let log = Some(super::shinka::beside(path, "-wal"))
        .filter(|log| super::shinka::is_plain_file(log))
        .and_then(|log| plain(&log))
        .filter(|digest| *digest != Digest::of_bytes(b""));
    Some(log.map_or(main, |log| Kind::Unit.fields().digest(main).digest(log).finish()))
}

fn unit_digest(scaffold: &str, entry: &SourceEntry, sidecar: &Sidecar, files: &[LogFile]) -> Digest {
    let mut fields = Kind::Unit.fields().text(scaffold);
    for word in [
        entry.task.as_deref(),
        entry.license.as_deref(),
        sidecar.task.as_deref(),
        sidecar.license.as_deref(),
        sidecar.origin.as_deref(),
        sidecar.score_key.as_deref(),
        sidecar.direction.map(Direction::word),
    ] {
        // A presence byte tells an absent word from an empty one.
        fields = fields.int(u64::from(word.is_some())).text(word.unwrap_or(""));
    }
    for file in files {
        fields = fields.text(file.format.word()).text(&file.in_unit);
        fields = fields.bytes(file.digest.as_ref().map_or(&[], |digest| digest.as_bytes()));
    }
    fields.finish()
}

/// The sidecar of a unit: the nearest `finch.toml` from its folder up to the source.
fn sidecar(folder: &Path, root: &Path) -> Result<Sidecar> {
    let found = folder
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .map(|folder| folder.join("finch.toml"))
        .find(|path| super::shinka::is_plain_file(path));
    let Some(path) = found else { return Ok(Sidecar::default()) };
    let text = read_text(&path, "the sidecar", Code::MissingSource)?;
    let sidecar = read_document(&path, &text, "the sidecar", |reader| {
        let task = reader.text("task");
        if task.as_deref().is_some_and(|task| task.trim().is_empty()) {
            reader.reject("task", Code::BadValue, "`task` is empty", "name the task, or remove the key");
        }
        Some(Sidecar {
            task,
            license: reader.text("license"),
            origin: reader.text("origin"),
            score_key: reader.text("score_key"),
            direction: reader.choice("direction", &Direction::WORDS),
        })
    })?;
    Ok(sidecar)
}

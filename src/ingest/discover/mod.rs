//! Finding logs: which files hold records, which scaffold wrote them, which belong together.
//!
//! A unit is the folder that one scaffold wrote into. It is identified by its content: the digests of the
//! files that are read, under their paths inside the unit, and what the spec and the sidecar say of it. Moving
//! or renaming a unit changes nothing; links are not followed, so a log cannot lead out of its source.

mod groups;
mod layout;
mod sidecar;
mod tree;
mod unpack;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use finch_core::{Digest, Kind};

use super::format::Format;
use super::mapping::Mapping;
use super::record::Quarantined;
use super::stat::{Stamp, Stats};
use crate::catalog::Direction;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::spec::{Ingest, SourceEntry};
pub use sidecar::Sidecar;
use tree::Tree;
pub use unpack::Unpacking;

/// A log: one file, or the files of a folder that make up one.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// Where it lies: the file, or the folder.
    pub path: PathBuf,
    /// Its path relative to the source entry, `/`-joined.
    pub source: Arc<str>,
    /// Its path relative to the unit.
    pub in_unit: String,
    /// What it is.
    pub format: Format,
    /// The mapping that it is read by, for mapped records.
    pub mapping: Option<Arc<Mapping>>,
    /// Size in bytes, of all parts.
    pub bytes: u64,
    /// Digest of its content, of all parts; `None` when it cannot be read.
    pub digest: Option<Digest>,
    /// The file's stamp, where it had been at rest when it was looked at: while it is the same, so is the content.
    pub settled: Option<Stamp>,
    /// The files of a folder, by their paths in it; none for a log that is a file.
    pub parts: Vec<Part>,
}

/// A file of a log that has several.
#[derive(Clone, Debug)]
pub struct Part {
    /// Where it lies.
    pub path: PathBuf,
    /// Its path inside the log's folder, `/`-joined.
    pub within: String,
    /// Its path relative to the source entry, `/`-joined.
    pub source: Arc<str>,
    /// Size in bytes.
    pub bytes: u64,
    /// Digest of its content; `None` when it cannot be read.
    pub digest: Option<Digest>,
    /// Its stamp, where it had been at rest.
    pub settled: Option<Stamp>,
}

impl LogFile {
    /// The path of one of its files, relative to the source entry.
    pub fn source_of(&self, part: u32) -> Arc<str> {
        self.parts.get(part as usize).map_or(&self.source, |part| &part.source).clone()
    }

    /// The number of a part by its path inside the log.
    pub fn part(&self, within: &str) -> Option<u32> {
        // Parts are in the order of their paths.
        let found = self.parts.binary_search_by(|part| part.within.as_str().cmp(within));
        found.ok().and_then(|at| u32::try_from(at).ok())
    }
}

/// A folder that one scaffold wrote into.
#[derive(Clone, Debug)]
pub struct Unit {
    /// Identifies the unit by its content.
    pub digest: Digest,
    /// The scaffold.
    pub scaffold: &'static str,
    /// The scaffold's own fitness key, and the direction that its writer gave it.
    pub fitness: (String, Option<Direction>),
    /// Whether all that lies in it is one run.
    pub one_run: bool,
    /// The folder, relative to the source entry.
    pub source: String,
    /// The folder itself.
    pub folder: PathBuf,
    /// The task that the spec's source entry names.
    pub task: Option<String>,
    /// The licence that the spec's source entry names.
    pub license: Option<String>,
    /// Where the logs come from, as the spec's source entry says.
    pub origin: Option<String>,
    /// The sidecar's words.
    pub sidecar: Sidecar,
    /// The logs to read, by their path in the unit.
    pub files: Vec<LogFile>,
    /// How certain it is that the scaffold is this one, of its least certain log.
    pub certainty: f64,
    /// What that rests on, in words.
    pub evidence: String,
}

/// Files of one kind, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// How many.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Tally {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}

/// Everything found in the sources of an ingest stage.
#[derive(Default)]
pub struct Discovery {
    /// Units in the order of their digests, so that the order of sources does not matter.
    pub units: Vec<Unit>,
    /// Files that look like logs and are none that is known.
    pub foreign: Vec<LogFile>,
    /// Other files, which hold no records, by what they are.
    pub ignored: BTreeMap<&'static str, Tally>,
    /// What archives hold and finch does not take out, by the archive's digest.
    pub refused: Vec<(Digest, Vec<Quarantined>)>,
    /// Sources, as the spec writes them, in which nothing is a log that finch knows.
    pub empty: Vec<String>,
    /// Digests that are remembered; what was hashed anew is in it, to be saved by whoever may write.
    pub stats: Stats,
}

impl Discovery {
    /// Walks all sources of an ingest stage, which lie at `paths`, and hashes what will be read, and has changed since
    /// a `cache` folder saw it.
    pub fn of(
        stage: &Ingest,
        paths: &[PathBuf],
        cache: Option<&Path>,
        unpacking: &Unpacking<'_>,
    ) -> Result<Self> {
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
        let roots = entries.iter().map(|(real, ..)| real.as_path()).chain(unpacking.folder);
        found.stats = cache.map_or_else(Stats::default, |cache| Stats::open(cache, roots));
        for (real, path, entry) in entries {
            let mapping = entry.mapping.as_deref().map(Mapping::read).transpose()?.map(Arc::new);
            let tree = Tree::of(&real, path, &mut seen)?;
            let (files, units_before) = (tree.all, found.units.len());
            let unread = tree.paths.len();
            tree.add_to(entry, mapping.as_ref(), Some(unpacking), &mut found)?;
            // A source whose files were all read through another one is not empty.
            if found.units.len() == units_before && !(files > 0 && unread == 0) {
                found.empty.push(entry.given.clone());
            }
        }
        found.units.sort_by_key(|unit| (unit.digest, unit.source.clone()));
        found.foreign.sort_by_key(|file| (file.digest, file.source.clone()));
        found.refused.sort_by_key(|(archive, _)| *archive);
        Ok(found)
    }

    /// Digest of everything that will be read, independent of where it lies.
    pub fn digest(&self) -> Digest {
        let mut fields = Kind::Unit.fields().text("sources");
        for unit in &self.units {
            fields = fields.digest(unit.digest);
        }
        for (archive, _) in &self.refused {
            fields = fields.text("archive").digest(*archive);
        }
        for file in &self.foreign {
            fields = fields.text("foreign").bytes(file.digest.as_ref().map_or(&[], |d| d.as_bytes()));
        }
        fields.finish()
    }

    /// Files that hold no records.
    pub fn ignored_files(&self) -> u64 {
        self.ignored.values().map(|tally| tally.files).sum()
    }
}

fn missing(entry: &SourceEntry) -> Error {
    Error::Source {
        path: entry.given.clone(),
        reason: "does not exist".to_owned(),
        code: Code::MissingSource,
    }
}

/// A path below a root, `/`-joined; a root itself is `.`.
fn relative(path: &Path, root: &Path) -> String {
    let rest = path.strip_prefix(root).unwrap_or(path);
    let parts: Vec<_> = rest.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
}

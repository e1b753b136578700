//! A source, walked: its files looked at, made logs and units, and hashed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use finch_core::{Digest, Kind};
use rayon::prelude::*;

use super::groups::{Group, Groups, by_place};
use super::layout::FOLDER_LOGS;
use super::sidecar::{self, Sidecar};
use super::unpack::{self, Unpacking};
use super::{Discovery, LogFile, Part, Unit, relative};
use crate::catalog::Direction;
use crate::error::{Error, Result};
use crate::ingest::format::Format;
use crate::ingest::mapping::Mapping;
use crate::ingest::recognise::{Look, look};
use crate::ingest::sqlite;
use crate::ingest::stat::{Known, Stamp, Stats};
use crate::spec::SourceEntry;

/// The folder that paths are told from.
pub(super) struct Root {
    pub(super) path: PathBuf,
    /// Before the paths of what lies in an archive.
    prefix: String,
    /// What is said of the folder that an archive lies in.
    outside: Sidecar,
}

impl Root {
    /// A path as tables show it: relative to the source entry.
    fn source(&self, path: &Path) -> String {
        let inside = relative(path, &self.path);
        match (self.prefix.as_str(), inside.as_str()) {
            ("", _) => inside,
            (prefix, ".") => prefix.trim_end_matches('/').to_owned(),
            (prefix, _) => format!("{prefix}{inside}"),
        }
    }

    fn sidecar(&self, folder: &Path) -> Result<Sidecar> {
        let found = sidecar::find(folder, &self.path)?;
        Ok(if found == Sidecar::default() { self.outside.clone() } else { found })
    }
}

/// The files of a source.
pub(super) struct Tree {
    root: Root,
    /// Files that no other source has, with their paths without links.
    pub(super) paths: Vec<(PathBuf, PathBuf)>,
    /// How many there are in all.
    pub(super) all: usize,
}

/// A file that was looked at.
pub(super) struct Seen {
    pub(super) path: PathBuf,
    real: PathBuf,
    stamp: Option<Stamp>,
    settled: bool,
    known: Option<Known>,
    pub(super) look: Look,
    /// What it is was told by its place, which may change: that is not remembered.
    pub(super) placed: bool,
}

impl Seen {
    fn new(path: PathBuf, real: PathBuf, given: Option<&Arc<Mapping>>, stats: &Stats) -> Self {
        let stamp = fs::symlink_metadata(&real).ok().map(|meta| Stamp::of(&meta));
        let settled = stamp.is_some_and(|stamp| stamp.was_at_rest(SystemTime::now()));
        let known = stamp.and_then(|stamp| stats.known(&real, stamp));
        let remembered = known.as_ref().filter(|_| given.is_none()).and_then(Known::look);
        let look = remembered.unwrap_or_else(|| look(&path, given));
        Self { path, real, stamp, settled, known, look, placed: false }
    }

    fn settled(&self) -> Option<Stamp> {
        self.stamp.filter(|_| self.settled)
    }

    fn bytes(&self) -> u64 {
        self.stamp.map_or(0, |stamp| stamp.bytes)
    }

    /// The file's digest; remembered anew where it had to be computed.
    fn hash(&self, stats: &Stats) -> Option<Digest> {
        if let Some(known) = &self.known {
            return Some(known.digest);
        }
        let began = SystemTime::now();
        let digest = plain(&self.real)?;
        if let Some(stamp) = self.stamp {
            let look = if self.placed { &Look::Other } else { &self.look };
            stats.add(&self.real, stamp, Known::new(digest, look), began);
        }
        Some(digest)
    }
}

/// The digest of a file's bytes.
pub(super) fn plain(path: &Path) -> Option<Digest> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(fs::File::open(path).ok()?).ok()?;
    Some(Digest::from_bytes(*hasher.finalize().as_bytes()))
}

impl Tree {
    /// Lists a source; `real` is the path `at` without links. Below it links are not followed, so what is below it is
    /// named without them too. Files that were `seen` belong to another source.
    pub(super) fn of(real: &Path, at: &Path, seen: &mut BTreeSet<PathBuf>) -> Result<Self> {
        let mut files = Vec::new();
        let root = if at.is_dir() {
            walk(at, &mut files)?;
            at.to_path_buf()
        } else {
            files.push(at.to_path_buf());
            at.parent().map_or_else(PathBuf::new, Path::to_path_buf)
        };
        let all = files.len();
        // A folder that is listed twice, or inside another one, is read once.
        let paths = files.into_iter().map(|path| (real_path(&path, real, at), path));
        let paths = paths.filter(|(real, _)| seen.insert(real.clone())).map(|(real, path)| (path, real));
        let root = Root { path: root, prefix: String::new(), outside: Sidecar::default() };
        Ok(Self { root, paths: paths.collect(), all })
    }

    /// The files of an archive that lies unpacked in a folder.
    fn inside(folder: &Path, archive: &Path, outer: &Root) -> Result<Self> {
        let mut files = Vec::new();
        walk(folder, &mut files)?;
        let root = Root {
            path: folder.to_path_buf(),
            prefix: format!("{}!/", outer.source(archive)),
            outside: outer.sidecar(archive.parent().unwrap_or(&outer.path))?,
        };
        Ok(Self {
            root,
            all: files.len(),
            paths: files.into_iter().map(|path| (path.clone(), path)).collect(),
        })
    }

    /// Looks at all files and adds what they are to `found`.
    pub(super) fn add_to(
        self,
        entry: &SourceEntry,
        mapping: Option<&Arc<Mapping>>,
        unpacking: Option<&Unpacking<'_>>,
        found: &mut Discovery,
    ) -> Result<()> {
        let root = self.root;
        let stats = &found.stats;
        let looked = self.paths.into_par_iter().map(|(path, real)| Seen::new(path, real, mapping, stats));
        let mut files: Vec<Seen> = looked.collect();
        if mapping.is_none() {
            by_place(&mut files);
        }
        if let Some(unpacking) = unpacking {
            let archives = files.extract_if(.., |file| matches!(file.look, Look::Archive));
            for file in archives.collect::<Vec<_>>() {
                let Some(digest) = file.hash(&found.stats) else { continue };
                found.ignored.entry("archive, read from inside").or_default().add(file.bytes());
                let source = root.source(&file.path);
                let Some(opened) = unpack::open(&file.path, digest, &source, unpacking)? else {
                    return Ok(());
                };
                if !opened.refused.is_empty() {
                    found.refused.push((digest, opened.refused));
                }
                // What lies in it is not opened again.
                Self::inside(&opened.folder, &file.path, &root)?.add_to(entry, mapping, None, found)?;
            }
        }
        let stats = &found.stats;
        let groups = Groups::of(files, &root.path, entry.scaffold.as_deref());

        for (why, file) in &groups.ignored {
            found.ignored.entry(why).or_default().add(file.bytes());
        }
        let foreign: Vec<LogFile> = groups
            .foreign
            .par_iter()
            .map(|file| of_file(file, &root, &root.path, Format::Foreign, None, stats))
            .collect();
        let units: Vec<Unit> = groups
            .units
            .into_par_iter()
            .map(|((folder, scaffold), logs)| unit(&folder, scaffold, logs, &root, entry, stats))
            .collect::<Result<_>>()?;
        found.foreign.extend(foreign);
        found.units.extend(units);
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

fn unit(
    folder: &Path,
    scaffold: &'static str,
    logs: Vec<Group>,
    root: &Root,
    entry: &SourceEntry,
    stats: &Stats,
) -> Result<Unit> {
    let least = logs.iter().min_by(|a, b| a.finding.certainty.total_cmp(&b.finding.certainty));
    let certainty = least.map_or(0.0, |group| group.finding.certainty);
    let evidence = evidence(&logs, folder);
    let first = logs.iter().find_map(|group| group.finding.mapping.clone());
    let formats = || logs.iter().map(|group| group.format).filter(|format| *format != Format::Config);
    let (one_run, fitness) = match &first {
        Some(mapping) => (mapping.one_run, (mapping.score_key.clone(), mapping.direction)),
        None => {
            let (key, direction) = formats().next().unwrap_or(Format::Foreign).fitness();
            (formats().any(Format::is_one_run), (key.to_owned(), direction))
        }
    };
    let mut files: Vec<LogFile> = logs
        .into_par_iter()
        .map(|group| match FOLDER_LOGS.iter().any(|rule| rule.format == group.format) {
            true => of_folder(group, root, folder, stats),
            false => {
                let mapping = group.finding.mapping.clone();
                of_file(&group.files[0], root, folder, group.format, mapping, stats)
            }
        })
        .collect();
    files.sort_by(|a, b| (a.format, &a.in_unit).cmp(&(b.format, &b.in_unit)));
    let sidecar = root.sidecar(folder)?;
    Ok(Unit {
        digest: unit_digest(scaffold, entry, &sidecar, &files),
        scaffold,
        fitness,
        one_run,
        source: root.source(folder),
        folder: folder.to_path_buf(),
        task: entry.task.clone(),
        license: entry.license.clone(),
        origin: entry.origin.clone(),
        sidecar,
        files,
        certainty,
        evidence,
    })
}

/// What shows whose a unit is: an example for each form.
fn evidence(logs: &[Group], folder: &Path) -> String {
    let mut forms: BTreeMap<Format, (usize, &Group)> = BTreeMap::new();
    for group in logs.iter().filter(|group| group.format != Format::Config) {
        forms.entry(group.format).or_insert((0, group)).0 += 1;
    }
    let words = forms.values().map(|(count, group)| {
        let example = relative(&group.path, folder);
        let more = if *count > 1 { format!(" and {} more", count - 1) } else { String::new() };
        let at = if example == "." { String::new() } else { format!(" in {example}{more}") };
        format!("{}{at}", group.finding.evidence)
    });
    words.collect::<Vec<_>>().join("; ")
}

fn of_file(
    file: &Seen,
    root: &Root,
    unit: &Path,
    format: Format,
    mapping: Option<Arc<Mapping>>,
    stats: &Stats,
) -> LogFile {
    let mut log = LogFile {
        source: root.source(&file.path).into(),
        in_unit: relative(&file.path, unit),
        format,
        mapping,
        bytes: file.bytes(),
        digest: file.hash(stats),
        settled: file.settled(),
        path: file.path.clone(),
        parts: Vec::new(),
    };
    let beside = sqlite::log_of(&file.path);
    let is_database = log.mapping.as_ref().is_some_and(|mapping| mapping.is_of_databases(&log.source));
    if is_database && sqlite::is_plain_file(&beside) {
        // What was written last may be in the write-ahead log alone.
        let known = Seen::new(beside, sqlite::log_of(&file.real), None, stats);
        let part = |file: &Seen, digest| Part {
            within: relative(&file.path, unit),
            source: root.source(&file.path).into(),
            bytes: file.bytes(),
            digest,
            settled: file.settled(),
            path: file.path.clone(),
        };
        log.parts = vec![part(file, log.digest), part(&known, known.hash(stats))];
        log.bytes += known.bytes();
        log.digest = Some(digest_of(&log.parts));
    }
    log
}

/// The digest of a log's parts.
fn digest_of(parts: &[Part]) -> Digest {
    let fields = Kind::Unit.fields().text("parts");
    let fields = parts.iter().fold(fields, |fields, part| {
        fields.text(&part.within).bytes(part.digest.as_ref().map_or(&[], |digest| digest.as_bytes()))
    });
    fields.finish()
}

fn of_folder(group: Group, root: &Root, unit: &Path, stats: &Stats) -> LogFile {
    let mut parts: Vec<Part> = group
        .files
        .into_par_iter()
        .map(|file| Part {
            within: relative(&file.path, &group.path),
            source: root.source(&file.path).into(),
            bytes: file.bytes(),
            digest: file.hash(stats),
            settled: file.settled(),
            path: file.path,
        })
        .collect();
    parts.sort_by(|a, b| a.within.cmp(&b.within));
    LogFile {
        source: root.source(&group.path).into(),
        in_unit: relative(&group.path, unit),
        format: group.format,
        mapping: None,
        bytes: parts.iter().map(|part| part.bytes).sum(),
        digest: Some(digest_of(&parts)),
        settled: None,
        path: group.path,
        parts,
    }
}

fn unit_digest(scaffold: &str, entry: &SourceEntry, sidecar: &Sidecar, files: &[LogFile]) -> Digest {
    let mut fields = Kind::Unit.fields().text(scaffold);
    for word in [
        entry.task.as_deref(),
        entry.license.as_deref(),
        entry.origin.as_deref(),
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
        if let Some(mapping) = &file.mapping {
            fields = fields.digest(mapping.digest);
        }
    }
    fields.finish()
}

//! Archives among the logs: unpacked below the cache folder, under the digest of their content, and walked like folders.
//!
//! What is refused of an archive, and where it breaks off, becomes part of the quarantine. An archive inside an archive
//! stays closed: nobody's logs are so, and a bomb may be.

use std::fs;
use std::path::{Path, PathBuf};

use finch_core::{Digest, Kind};
use serde::{Deserialize, Serialize};

use super::tree::plain as digest_of;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::ingest::archive::stream::Damage;
use crate::ingest::archive::unpack::{self, Limits};
use crate::ingest::record::Quarantined;

/// Where archives are unpacked, and who may stop that.
pub struct Unpacking<'a> {
    /// The folder of all that is unpacked; none where there is no place for a cache.
    pub folder: Option<&'a Path>,
    /// Whether somebody asked for an end.
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
}

/// An archive that lies unpacked.
pub(super) struct Opened {
    pub(super) folder: PathBuf,
    /// What is not in the folder.
    pub(super) refused: Vec<Quarantined>,
}

/// What an archive gave, beside its files: an archive whose files are not all there as they were is unpacked again.
#[derive(Serialize, Deserialize)]
struct Report {
    refused: Vec<Quarantined>,
    files: u64,
    bytes: u64,
}

const FILES: &str = "files";
const REPORT: &str = "report.json";

/// Unpacks an archive, unless it was before. `None` when somebody asked for an end.
pub(super) fn open(
    archive: &Path,
    digest: Digest,
    source: &str,
    with: &Unpacking<'_>,
) -> Result<Option<Opened>> {
    let Some(folder) = with.folder else {
        let hint = "an archive needs a cache folder: set FINCH_CACHE, XDG_CACHE_HOME or HOME";
        return Err(Error::Usage(format!("`{source}`: {hint}")));
    };
    let home = folder.join(digest.to_string());
    if let Some(report) = whole(&home) {
        return Ok(Some(opened(&home, report, source)));
    }
    fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
    let aside = tempfile::Builder::new().prefix("unpacking-").tempdir_in(folder);
    let aside = aside.map_err(Error::io("create a folder in", folder))?;
    let files = aside.path().join(FILES);
    fs::create_dir(&files).map_err(Error::io("create", &files))?;
    let refused = match unpack::unpack(archive, &files, &Limits::default(), with.interrupted) {
        Ok(unpacked) => refused(&unpacked, digest),
        Err(unpack::Error::Interrupted) => return Ok(None),
        Err(unpack::Error::Io { path, source }) => return Err(Error::io("unpack to", path)(source)),
        Err(error) => vec![entry(Code::Truncated, error.to_string(), 0, 0, digest, 0)],
    };
    // It is kept under its digest, so what was unpacked must be what was hashed.
    if digest_of(archive) != Some(digest) {
        return Err(Error::Source {
            path: source.to_owned(),
            reason: "changed while it was read".to_owned(),
            code: Code::SourceChanged,
        });
    }
    let (number, bytes) = tally(&files);
    let report = Report { refused, files: number, bytes };
    let path = aside.path().join(REPORT);
    let text = serde_json::to_vec(&report).unwrap_or_default();
    fs::write(&path, text).map_err(Error::io("write", &path))?;
    // What is there and not whole gives way; another build may be faster with the same.
    if home.exists() && whole(&home).is_none() {
        fs::remove_dir_all(&home).map_err(Error::io("remove", &home))?;
    }
    match fs::rename(aside.path(), &home) {
        Err(error) if whole(&home).is_none() => Err(Error::io("create", &home)(error)),
        _ => Ok(Some(opened(&home, report, source))),
    }
}

fn opened(home: &Path, report: Report, source: &str) -> Opened {
    let mut refused = report.refused;
    refused.iter_mut().for_each(|bad| bad.source = source.into());
    Opened { folder: home.join(FILES), refused }
}

/// The report of an archive whose files are all there.
fn whole(home: &Path) -> Option<Report> {
    let report: Report = serde_json::from_slice(&fs::read(home.join(REPORT)).ok()?).ok()?;
    (tally(&home.join(FILES)) == (report.files, report.bytes)).then_some(report)
}

/// Files below a folder, and their bytes. What cannot be listed counts for nothing.
fn tally(folder: &Path) -> (u64, u64) {
    let (mut files, mut bytes) = (0, 0);
    let mut folders = vec![folder.to_path_buf()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            match entry.metadata() {
                Ok(meta) if meta.is_dir() => folders.push(entry.path()),
                Ok(meta) => {
                    files += 1;
                    bytes += meta.len();
                }
                Err(_) => {}
            }
        }
    }
    (files, bytes)
}

/// What of an archive was not unpacked.
fn refused(unpacked: &unpack::Unpacked, archive: Digest) -> Vec<Quarantined> {
    let mut out = Vec::new();
    for skipped in &unpacked.skipped {
        let name = String::from_utf8_lossy(&skipped.name);
        let reason = format!("`{}` in the archive: {}", name.escape_debug(), skipped.why);
        out.push(entry(Code::RefusedEntry, reason, skipped.offset, skipped.bytes, archive, out.len()));
    }
    if unpacked.unlisted > 0 {
        let reason = format!("{} more entries of the archive", unpacked.unlisted);
        out.push(entry(Code::RefusedEntry, reason, 0, 0, archive, out.len()));
    }
    if let Some(fault) = &unpacked.damage {
        let code = if fault.damage == Damage::Bomb { Code::TooLarge } else { Code::Truncated };
        let reason = format!("the archive is read no further: {fault}");
        out.push(entry(code, reason, fault.offset, 0, archive, out.len()));
    }
    out
}

fn entry(
    code: Code,
    reason: String,
    offset: u64,
    bytes: u64,
    archive: Digest,
    ordinal: usize,
) -> Quarantined {
    Quarantined {
        code,
        digest: Kind::Quarantine.fields().digest(archive).int(ordinal as u64).text(&reason).finish(),
        reason,
        bytes,
        excerpt: String::new(),
        raw: Vec::new(),
        part: 0,
        source: "".into(),
        offset,
    }
}

//! Archives among the logs: unpacked below the cache folder, under the digest of their content, and walked like folders.
//!
//! What is refused of an archive, and where it breaks off, becomes part of the quarantine. An archive inside an archive
//! stays closed: nobody's logs are so, and a bomb may be.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use finch_core::{Digest, Kind};

use crate::code::Code;
use crate::error::{Error, Result};
use crate::ingest::archive::stream::Damage;
use crate::ingest::archive::unpack::{self, Limits};
use crate::ingest::record::Quarantined;

/// Where archives are unpacked, and who may stop that.
pub struct Unpacking<'a> {
    /// The folder of all that is unpacked.
    pub folder: &'a Path,
    /// Whether somebody asked for an end.
    pub interrupted: &'a (dyn Fn() -> bool + Sync),
}

/// An archive that lies unpacked.
pub(super) struct Opened {
    pub(super) folder: PathBuf,
    /// What is not in the folder.
    pub(super) refused: Vec<Quarantined>,
}

const FILES: &str = "files";
const REFUSED: &str = "refused.json";

/// Unpacks an archive, unless it was before. `None` when somebody asked for an end.
pub(super) fn open(
    archive: &Path,
    digest: Digest,
    source: &str,
    with: &Unpacking<'_>,
) -> Result<Option<Opened>> {
    let home = with.folder.join(digest.to_string());
    let report = home.join(REFUSED);
    if !report.is_file() {
        fs::create_dir_all(with.folder).map_err(Error::io("create", with.folder))?;
        let aside = tempfile::Builder::new().prefix("unpacking-").tempdir_in(with.folder);
        let aside = aside.map_err(Error::io("create a folder in", with.folder))?;
        let files = aside.path().join(FILES);
        fs::create_dir(&files).map_err(Error::io("create", &files))?;
        let refused = match unpack::unpack(archive, &files, &Limits::default(), with.interrupted) {
            Ok(unpacked) => refused(&unpacked, digest),
            Err(unpack::Error::Interrupted) => return Ok(None),
            Err(unpack::Error::Io { path, source }) => return Err(Error::io("unpack to", path)(source)),
            Err(error) => vec![entry(Code::Truncated, error.to_string(), 0, 0, digest, 0)],
        };
        let text = serde_json::to_vec(&refused).unwrap_or_default();
        let path = aside.path().join(REFUSED);
        fs::write(&path, text).map_err(Error::io("write", &path))?;
        // Another build may have been faster with the same.
        if fs::rename(aside.path(), &home).is_err() && !report.is_file() {
            return Err(Error::io("create", &home)(std::io::ErrorKind::Other.into()));
        }
    }
    let text = File::open(&report).map_err(Error::io("read", &report))?;
    let mut refused: Vec<Quarantined> =
        serde_json::from_reader(std::io::BufReader::new(text)).unwrap_or_default();
    refused.iter_mut().for_each(|bad| source.clone_into(&mut bad.source));
    Ok(Some(Opened { folder: home.join(FILES), refused }))
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
        source: String::new(),
        offset,
    }
}

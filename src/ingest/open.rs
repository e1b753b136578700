//! Files of logs, opened: decompressed where their first bytes say so, bounded, and held against the digest under which
//! discovery found them.

use std::io::Read;
use std::path::Path;

use finch_core::{Digest, digest};
use serde_json::{Map, Value};

use super::archive::stream::{self, Damage, Plain};
use super::record::{FileLog, Quarantined, changed};
use super::stat::Stamp;
use super::{LogFile, json};
use crate::code::Code;
use crate::error::{Error, Result};

/// The largest document that is parsed as a whole.
pub(super) const MAX_DOCUMENT: u64 = 256 << 20;

/// A log that is being read from its beginning to its end.
pub(super) struct Opened {
    plain: Plain,
    settled: Option<Stamp>,
}

impl Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.plain.read(buffer)
    }
}

impl Opened {
    /// Opens a file. One that had been at rest is not hashed again: its stamp tells whether it is the same.
    fn open(path: &Path, settled: Option<Stamp>) -> std::io::Result<Self> {
        let settled = settled.filter(|stamp| Stamp::at(path) == Some(*stamp));
        let plain = if settled.is_some() { stream::open(path) } else { stream::open_hashed(path) };
        Ok(Self { plain: plain?, settled })
    }

    /// Ends reading: whether what was read is what was hashed before.
    fn ends_unchanged(self, path: &Path, digest: Option<Digest>) -> Result<bool> {
        if self.settled.is_some() && Stamp::at(path) == self.settled {
            return Ok(true);
        }
        let hash = match self.settled {
            None => self.plain.finish().map_err(Error::io("read", path))?,
            // It was written to while it was read.
            Some(_) => return Ok(false),
        };
        Ok(match (hash, digest) {
            (Some(hash), Some(digest)) => Digest::from_bytes(*hash.as_bytes()) == digest,
            _ => true,
        })
    }

    /// Ends reading: fails when what was read is not what was hashed.
    pub(super) fn check(self, file: &LogFile) -> Result<()> {
        if self.ends_unchanged(&file.path, file.digest)? { Ok(()) } else { Err(changed(file)) }
    }
}

/// Holds that a log which is read in any order stays what was hashed.
pub(super) struct Guard(Option<Stamp>);

impl Guard {
    /// Looks at the log before it is read; one that had not been at rest is hashed again.
    pub(super) fn of(file: &LogFile) -> Result<Self> {
        let stamp = Stamp::at(&file.path);
        let same = file.settled.is_some() && file.settled == stamp;
        if !same && file.digest.is_some() && digest::of_file(&file.path).ok() != file.digest {
            return Err(changed(file));
        }
        Ok(Self(stamp))
    }

    /// Looks again.
    pub(super) fn check(&self, file: &LogFile) -> Result<()> {
        if Stamp::at(&file.path) == self.0 { Ok(()) } else { Err(changed(file)) }
    }
}

/// Opens a log that is one file. The inner error is about the log.
pub(super) fn stream(file: &LogFile) -> Result<Result<Opened, Quarantined>> {
    match Opened::open(&file.path, file.settled) {
        Ok(opened) => Ok(Ok(opened)),
        Err(error) => failed(file, &file.path, file.digest.is_some(), error).map(Err),
    }
}

/// A log that is one file, as a whole. The inner error is about the log.
pub(super) fn whole(file: &LogFile, limit: u64) -> Result<Result<Vec<u8>, Quarantined>> {
    read(file, &file.path, (file.digest, file.settled), limit)
}

/// A log that is one document, as a whole; what cannot be read is put into quarantine, and is none.
pub(super) fn bytes(file: &LogFile, log: &mut FileLog) -> Result<Option<Vec<u8>>> {
    match whole(file, MAX_DOCUMENT)? {
        Ok(bytes) => Ok(Some(bytes)),
        Err(bad) => {
            log.quarantined.push(bad);
            Ok(None)
        }
    }
}

/// One file of a log that has several, as a whole.
pub(super) fn part(file: &LogFile, index: u32, limit: u64) -> Result<Result<Vec<u8>, Quarantined>> {
    match file.parts.get(index as usize) {
        Some(part) => {
            let bytes = read(file, &part.path, (part.digest, part.settled), limit)?;
            Ok(bytes.map_err(|bad| bad.in_part(file, index)))
        }
        None => Ok(Ok(Vec::new())),
    }
}

/// One file of a log as text; what cannot be read is put into quarantine, and is none.
pub(super) fn text(file: &LogFile, index: u32, log: &mut FileLog) -> Result<Option<String>> {
    match part(file, index, MAX_DOCUMENT)? {
        Ok(bytes) => Ok(Some(decode(&bytes, &mut log.replaced))),
        Err(bad) => {
            log.quarantined.push(bad);
            Ok(None)
        }
    }
}

/// One file of a log as JSON; what is none is put into quarantine.
pub(super) fn document(file: &LogFile, index: u32, log: &mut FileLog) -> Result<Option<Value>> {
    let bytes = match part(file, index, MAX_DOCUMENT)? {
        Ok(bytes) => bytes,
        Err(bad) => {
            log.quarantined.push(bad);
            return Ok(None);
        }
    };
    match json::parse_counting(&bytes, &mut log.replaced) {
        Ok(value) => Ok(Some(value)),
        Err(error) => {
            log.quarantined.push(Quarantined::not_json(&error, file, 0, &bytes).in_part(file, index));
            Ok(None)
        }
    }
}

/// One file of a log as a JSON object.
pub(super) fn object(file: &LogFile, index: u32, log: &mut FileLog) -> Result<Option<Map<String, Value>>> {
    match document(file, index, log)? {
        Some(Value::Object(object)) => Ok(Some(object)),
        Some(other) => {
            let text = other.to_string();
            let bad = Quarantined::new(Code::BadRecord, "not a JSON object", file, 0, text.as_bytes());
            log.quarantined.push(bad.in_part(file, index));
            Ok(None)
        }
        None => Ok(None),
    }
}

/// Bytes as text. What is no UTF-8 becomes U+FFFD and is counted.
pub(super) fn decode(bytes: &[u8], replaced: &mut u64) -> String {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    match String::from_utf8_lossy(bytes) {
        std::borrow::Cow::Borrowed(text) => text.to_owned(),
        std::borrow::Cow::Owned(text) => {
            *replaced += text.matches('\u{fffd}').count() as u64;
            text
        }
    }
}

fn read(
    file: &LogFile,
    path: &Path,
    (digest, settled): (Option<Digest>, Option<Stamp>),
    limit: u64,
) -> Result<Result<Vec<u8>, Quarantined>> {
    let mut opened = match Opened::open(path, settled) {
        Ok(opened) => opened,
        Err(error) => return failed(file, path, digest.is_some(), error).map(Err),
    };
    let mut bytes = Vec::new();
    let read = opened.by_ref().take(limit + 1).read_to_end(&mut bytes);
    let damage = match read {
        Ok(_) => None,
        Err(error) if stream::damage(&error).is_some() => Some(error),
        Err(error) => return failed(file, path, digest.is_some(), error).map(Err),
    };
    if !opened.ends_unchanged(path, digest)? {
        return Err(changed(file));
    }
    if let Some(error) = damage {
        return Ok(Err(broken(file, &error, 0, &bytes)));
    }
    if bytes.len() as u64 > limit {
        let reason = format!("larger than {} MiB", limit >> 20);
        let bad = Quarantined::new(Code::TooLarge, reason, file, 0, &bytes);
        // Of a compressed one, what it takes here; how much more it would be nobody looked.
        let whole = std::fs::metadata(path).map_or(bad.bytes, |meta| meta.len().max(bad.bytes));
        return Ok(Err(Quarantined { bytes: whole, digest: digest.unwrap_or(bad.digest), ..bad }));
    }
    Ok(Ok(bytes))
}

/// Runs a library that asserts what a file may get wrong, as that for Parquet does. `None` after a panic; what the
/// library made is not to be used again.
pub(super) fn guarded<T>(work: impl FnOnce() -> T) -> Option<T> {
    std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).ok()
}

/// A stretch of a log that ends in damage.
pub(super) fn broken(file: &LogFile, error: &std::io::Error, offset: u64, bytes: &[u8]) -> Quarantined {
    let code = match stream::damage(error) {
        Some(Damage::Bomb) => Code::TooLarge,
        _ => Code::Truncated,
    };
    Quarantined::new(code, format!("the file breaks off: {error}"), file, offset, bytes)
}

/// A file that cannot be opened or read. One that could be hashed a moment ago is no bad log: the machine is at fault,
/// and a dataset without it would be taken for the whole.
fn failed(file: &LogFile, path: &Path, was_hashed: bool, error: std::io::Error) -> Result<Quarantined> {
    if was_hashed {
        return Err(Error::io("read", path)(error));
    }
    Ok(Quarantined::file(Code::UnreadableFile, error.to_string(), file))
}

//! Files of logs, opened: decompressed where their first bytes say so, bounded, and held against the digest under which
//! discovery found them.

use std::io::Read;
use std::path::Path;

use finch_core::Digest;

use super::LogFile;
use super::archive::stream::{self, Damage, Plain};
use super::record::{FileLog, Quarantined, changed};
use crate::code::Code;
use crate::error::{Error, Result};

/// The largest document that is parsed as a whole.
pub(super) const MAX_DOCUMENT: u64 = 256 << 20;

/// A log that is being read from its beginning to its end.
pub(super) struct Opened(Plain);

impl Read for Opened {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Opened {
    /// Ends reading: fails when what was read is not what was hashed.
    pub(super) fn check(self, file: &LogFile) -> Result<()> {
        let hash = self.0.finish().map_err(Error::io("read", &file.path))?;
        match (hash, file.digest) {
            (Some(hash), Some(digest)) if Digest::from_bytes(*hash.as_bytes()) != digest => {
                Err(changed(file))
            }
            _ => Ok(()),
        }
    }
}

/// Opens a log that is one file. The inner error is about the log.
pub(super) fn stream(file: &LogFile) -> Result<Result<Opened, Quarantined>> {
    match stream::open_hashed(&file.path) {
        Ok(plain) => Ok(Ok(Opened(plain))),
        Err(error) => failed(file, &file.path, file.digest.is_some(), error).map(Err),
    }
}

/// A log that is one file, as a whole. The inner error is about the log.
pub(super) fn whole(file: &LogFile, limit: u64) -> Result<Result<Vec<u8>, Quarantined>> {
    read(file, &file.path, file.digest, limit)
}

/// One file of a log that has several, as a whole.
pub(super) fn part(file: &LogFile, index: u32, limit: u64) -> Result<Result<Vec<u8>, Quarantined>> {
    match file.parts.get(index as usize) {
        Some(part) => {
            let bytes = read(file, &part.path, part.digest, limit)?;
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
    digest: Option<Digest>,
    limit: u64,
) -> Result<Result<Vec<u8>, Quarantined>> {
    let mut plain = match stream::open_hashed(path) {
        Ok(plain) => plain,
        Err(error) => return failed(file, path, digest.is_some(), error).map(Err),
    };
    let mut bytes = Vec::new();
    let read = (&mut plain).take(limit + 1).read_to_end(&mut bytes);
    let damage = match read {
        Ok(_) => None,
        Err(error) if stream::damage(&error).is_some() => Some(error),
        Err(error) => return failed(file, path, digest.is_some(), error).map(Err),
    };
    let hash = plain.finish().map_err(Error::io("read", path))?;
    if let (Some(hash), Some(digest)) = (hash, digest)
        && Digest::from_bytes(*hash.as_bytes()) != digest
    {
        return Err(changed(file));
    }
    if let Some(error) = damage {
        return Ok(Err(broken(file, &error, 0, &bytes)));
    }
    if bytes.len() as u64 > limit {
        let reason = format!("larger than {} MiB", limit >> 20);
        return Ok(Err(Quarantined::new(Code::TooLarge, reason, file, 0, &bytes)));
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

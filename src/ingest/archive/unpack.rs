//! Unpacks an archive below a folder: regular files, and nothing that leads elsewhere.
//!
//! The names in an archive are what its maker wanted them to be. A name that points out of the folder, a link
//! that would lead the next file out of it, a second file for the same place: all are skipped, and said. What
//! could not be read is said too, so nothing is lost silently; what was whole before the damage is kept.
//!
//! It must not write outside the folder, follow or make a link, write more than its limits allow, or hold
//! more than a few megabytes whatever the archive says. It does not sync: what is unpacked can be unpacked
//! again.

use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::stream::{Bounds, Fault};
use super::writer::Writer;
use super::{Kind, kind_of, tarball, zipped};

/// The longest part of a name, and the longest name: what Linux allows.
const MAX_PART: usize = 255;
const MAX_NAME: usize = 4096;
/// How much of a skipped entry's name is kept.
const SHOWN: usize = 512;

/// How much an archive may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Bytes that are written in all.
    pub bytes: u64,
    /// Entries that are read, and folders that they need.
    pub entries: u64,
    /// Bytes out for bytes in.
    pub bounds: Bounds,
    /// Skipped entries that are listed; the rest is counted.
    pub listed: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { bytes: 64 << 30, entries: 2_000_000, bounds: Bounds::default(), listed: 10_000 }
    }
}

/// What became of an archive.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unpacked {
    /// Files that were written.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that were read: files, folders, skipped ones, and a tar's records for all entries.
    pub entries: u64,
    /// What was not written, the first of it.
    pub skipped: Vec<Skipped>,
    /// How many more were skipped than `skipped` lists.
    pub unlisted: u64,
    /// Why not all of it was read. What was whole before is there.
    pub damage: Option<Fault>,
}

/// An entry that was not written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Skipped {
    /// As the archive has it, and no more than 512 bytes of it: any bytes at all.
    pub name: Vec<u8>,
    /// Where the entry starts in the archive, decompressed if the archive is compressed as a whole.
    pub offset: u64,
    /// How large it says it is.
    pub bytes: u64,
    /// Why.
    pub why: String,
}

/// What stops unpacking that is not the archive's fault.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine failed.
    #[error("cannot unpack `{}`: {source}", path.display())]
    Io {
        /// The file or folder that it failed at.
        path: PathBuf,
        /// How.
        source: io::Error,
    },
    /// It is no archive, or is one that is read as a file.
    #[error("`{}` is not an archive", .0.display())]
    NotAnArchive(PathBuf),
    /// There is something there already.
    #[error("`{}` is not an empty folder", .0.display())]
    NotEmpty(PathBuf),
    /// Somebody wanted it to stop.
    #[error("interrupted")]
    Interrupted,
}

impl Error {
    pub(super) fn io(path: &Path, source: io::Error) -> Self {
        Self::Io { path: path.to_owned(), source }
    }
}

/// Unpacks an archive into an empty folder. `interrupted` is asked between entries, and within large ones.
pub fn unpack(
    archive: &Path,
    into: &Path,
    limits: &Limits,
    interrupted: &dyn Fn() -> bool,
) -> Result<Unpacked, Error> {
    let kind = kind_of(archive).map_err(|error| Error::io(archive, error))?;
    let mut entries = std::fs::read_dir(into).map_err(|error| Error::io(into, error))?;
    if entries.next().is_some() {
        return Err(Error::NotEmpty(into.to_owned()));
    }
    let mut writer = Writer::new(into, limits, interrupted);
    match kind {
        Some(Kind::Tar | Kind::TarGz | Kind::TarZst) => tarball::unpack(archive, limits.bounds, &mut writer)?,
        Some(Kind::Zip) => zipped::unpack(archive, limits.bounds, &mut writer)?,
        None => return Err(Error::NotAnArchive(archive.to_owned())),
    }
    Ok(writer.unpacked)
}

impl Unpacked {
    /// Adds an entry that is not written.
    pub(super) fn skip(
        &mut self,
        name: &[u8],
        offset: u64,
        bytes: u64,
        why: impl Into<String>,
        listed: usize,
    ) {
        if self.skipped.len() < listed {
            let name = name[..name.len().min(SHOWN)].to_vec();
            self.skipped.push(Skipped { name, offset, bytes, why: why.into() });
        } else {
            self.unlisted += 1;
        }
    }
}

/// Where an entry goes below the folder, or why nowhere. A folder itself is the empty path. `backslash` tells
/// whether that parts names too.
pub(super) fn place(name: &[u8], backslash: bool) -> Result<PathBuf, &'static str> {
    let parts_at = |byte: &u8| *byte == b'/' || (backslash && *byte == b'\\');
    if name.is_empty() {
        return Err("it has no name");
    }
    if name.contains(&0) {
        return Err("its name has a NUL in it");
    }
    if name.len() > MAX_NAME {
        return Err("its name is longer than 4096 bytes");
    }
    if name.first().is_some_and(parts_at) {
        return Err("its path is absolute");
    }
    // A colon alone is a fair name here.
    if let [drive, b':', rest @ ..] = name
        && drive.is_ascii_alphabetic()
        && rest.first().is_none_or(|byte| matches!(byte, b'/' | b'\\'))
    {
        return Err("its path starts with a drive");
    }
    let mut path = PathBuf::new();
    for part in name.split(parts_at) {
        match part {
            b"" | b"." => {}
            b".." => return Err("its path leads out with `..`"),
            part if part.len() > MAX_PART => return Err("a part of its name is longer than 255 bytes"),
            part => path.push(OsStr::from_bytes(part)),
        }
    }
    Ok(path)
}

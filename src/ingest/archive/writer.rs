//! Writes the files of an archive below one folder, and keeps the account.
//!
//! The file system is what knows which names are taken: a file is only ever created, never opened, and a
//! folder is only walked through if it is one. So no list of names is held, and a link cannot be followed,
//! for none is ever made.
//!
//! It must not guess: whatever an entry cannot have here is skipped with a reason, and only the machine's own
//! failures stop it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::SystemTime;

use super::stream::{Damage, Fault};
use super::unpack::{Error, Limits, Unpacked, place};

/// How much is copied at once, and how often somebody may interrupt.
const CHUNK: usize = 128 << 10;

/// Why an archive is not read further.
pub(super) enum Stop {
    /// The archive's fault: what was unpacked stays.
    Fault(Fault),
    /// Not its fault.
    Error(Error),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// What an archive says of an entry.
pub(super) struct Entry<'a> {
    pub(super) name: &'a [u8],
    pub(super) offset: u64,
    pub(super) bytes: u64,
    pub(super) modified: Option<SystemTime>,
    /// Whether `\` parts its name, as it does where it comes from.
    pub(super) backslash: bool,
}

/// What became of an entry's content.
pub(super) enum Content {
    /// It was written.
    Written,
    /// Nothing was read of it.
    Untouched,
    /// It could not be read to its end; what was written is gone again.
    Broken(io::Error),
}

/// Writes below one folder.
pub(super) struct Writer<'a> {
    pub(super) unpacked: Unpacked,
    into: &'a Path,
    limits: &'a Limits,
    interrupted: &'a dyn Fn() -> bool,
    /// Folders that were made without an entry of their own.
    folders: u64,
    /// Bytes that were ever written, those of files that are gone again too.
    written: u64,
    chunk: Vec<u8>,
}

impl<'a> Writer<'a> {
    pub(super) fn new(into: &'a Path, limits: &'a Limits, interrupted: &'a dyn Fn() -> bool) -> Self {
        let chunk = vec![0; CHUNK];
        Self { unpacked: Unpacked::default(), into, limits, interrupted, folders: 0, written: 0, chunk }
    }

    /// Counts an entry at a place.
    pub(super) fn entry(&mut self, offset: u64) -> Result<(), Stop> {
        self.check()?;
        if self.unpacked.entries + self.folders >= self.limits.entries {
            let why = format!("more than {} entries and folders", self.limits.entries);
            return Err(Stop::Fault(Fault::new(Damage::Bomb, offset, why)));
        }
        self.unpacked.entries += 1;
        Ok(())
    }

    pub(super) fn skip(&mut self, entry: &Entry, why: impl Into<String>) {
        self.unpacked.skip(entry.name, entry.offset, entry.bytes, why, self.limits.listed);
    }

    /// Makes the folder of an entry.
    pub(super) fn folder(&mut self, entry: &Entry) -> Result<(), Stop> {
        if entry.bytes > 0 {
            self.skip(entry, "it is a folder, and has content");
            return Ok(());
        }
        match place(entry.name, entry.backslash) {
            Ok(place) => {
                if let Some(why) = self.make(&place, entry.offset)? {
                    self.skip(entry, why);
                }
            }
            Err(why) => self.skip(entry, why),
        }
        Ok(())
    }

    /// Writes the file of an entry, if it has a place.
    pub(super) fn file(&mut self, entry: &Entry, content: &mut dyn Read) -> Result<Content, Stop> {
        let place = match place(entry.name, entry.backslash) {
            Ok(place) if place.as_os_str().is_empty() => Err("it has no name"),
            place => place,
        };
        let place = match place {
            Ok(place) => place,
            Err(why) => {
                self.skip(entry, why);
                return Ok(Content::Untouched);
            }
        };
        match self.create(&place, entry.offset)? {
            Ok(file) => self.copy(file, &place, entry, content),
            Err(why) => {
                self.skip(entry, why);
                Ok(Content::Untouched)
            }
        }
    }

    /// Reads what is not wanted.
    pub(super) fn drain(&mut self, content: &mut dyn Read) -> Result<io::Result<u64>, Stop> {
        let mut drained = 0;
        loop {
            self.check()?;
            match content.read(&mut self.chunk) {
                Ok(0) => return Ok(Ok(drained)),
                Ok(length) => drained += length as u64,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(error)),
            }
        }
    }

    pub(super) fn check(&self) -> Result<(), Error> {
        if (self.interrupted)() { Err(Error::Interrupted) } else { Ok(()) }
    }

    fn create(&mut self, place: &Path, offset: u64) -> Result<Result<File, &'static str>, Stop> {
        let path = self.into.join(place);
        let open = || OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
        let mut opened = open();
        // Most files find their folder there.
        if opened.as_ref().is_err_and(|error| error.kind() == ErrorKind::NotFound)
            && let Some(parent) = place.parent()
        {
            if let Some(why) = self.make(parent, offset)? {
                return Ok(Err(why));
            }
            opened = open();
        }
        match opened {
            Ok(file) => Ok(Ok(file)),
            Err(error) => match refused(&error) {
                Some(why) => Ok(Err(why)),
                None => Err(Error::io(&path, error).into()),
            },
        }
    }

    /// Makes a folder and those that it is in, or says why it cannot be.
    fn make(&mut self, place: &Path, offset: u64) -> Result<Option<&'static str>, Stop> {
        let mut path = self.into.to_owned();
        for part in place {
            path.push(part);
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) => {
                    self.folders += 1;
                    // A name of 4096 bytes is 2048 folders, so these count like entries.
                    if self.unpacked.entries + self.folders > self.limits.entries {
                        let why = format!("more than {} entries and folders", self.limits.entries);
                        return Err(Stop::Fault(Fault::new(Damage::Bomb, offset, why)));
                    }
                }
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    let meta = path.symlink_metadata().map_err(|error| Error::io(&path, error))?;
                    if !meta.is_dir() {
                        return Ok(Some("a file stands where a folder is needed"));
                    }
                }
                Err(error) => match refused(&error) {
                    Some(why) => return Ok(Some(why)),
                    None => return Err(Error::io(&path, error).into()),
                },
            }
        }
        Ok(None)
    }

    fn copy(
        &mut self,
        mut file: File,
        place: &Path,
        entry: &Entry,
        content: &mut dyn Read,
    ) -> Result<Content, Stop> {
        let path = self.into.join(place);
        let failed = |error| Stop::Error(Error::io(&path, error));
        let mut bytes = 0;
        loop {
            self.check()?;
            match content.read(&mut self.chunk) {
                Ok(0) => break,
                Ok(length) => {
                    bytes += length as u64;
                    self.written += length as u64;
                    if self.written > self.limits.bytes {
                        drop(file);
                        std::fs::remove_file(&path).map_err(failed)?;
                        let why = format!("more than {} bytes in all", self.limits.bytes);
                        self.skip(entry, "it does not fit");
                        return Err(Stop::Fault(Fault::new(Damage::Bomb, entry.offset, why)));
                    }
                    file.write_all(&self.chunk[..length]).map_err(failed)?;
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    drop(file);
                    std::fs::remove_file(&path).map_err(failed)?;
                    return Ok(Content::Broken(error));
                }
            }
        }
        if let Some(modified) = entry.modified {
            // Some file systems cannot hold some times, and nothing rests on it.
            let _ = file.set_modified(modified);
        }
        self.unpacked.files += 1;
        self.unpacked.bytes += bytes;
        Ok(Content::Written)
    }
}

/// Why a name cannot be had here, if the error is about the name.
fn refused(error: &io::Error) -> Option<&'static str> {
    match error.kind() {
        ErrorKind::AlreadyExists | ErrorKind::IsADirectory => Some("an earlier entry has its name"),
        ErrorKind::NotADirectory => Some("a file stands where a folder is needed"),
        ErrorKind::InvalidFilename | ErrorKind::InvalidInput => Some("the file system cannot have its name"),
        _ => None,
    }
}

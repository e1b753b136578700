//! Zips, read by their directory, or entry by entry if it is gone.
//!
//! A zip's directory comes last, so a zip that was cut has none; then its entries are read as they come,
//! which finds the same files if their sizes stand before them. The `zip` crate's usual reader holds the
//! whole directory and keeps one of two entries with one name. Its iterator does neither, at the price of an
//! exact version.
//!
//! It must not decompress what is encrypted, nor read the same bytes again and again because entries overlap.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use zip::read::{ArchiveOffset, Config, OwnedZipFileEntry, read_zipfile_from_stream_with_options};
use zip::result::ZipError;
use zip::unstable::read::ZipIterable;
use zip::{CompressionMethod, DateTime, HasZipMetadata, System, ZipReadOptions};

use super::stream::{self, Bounds, Damage, Fault};
use super::unpack::Error;
use super::writer::{Content, Entry, Stop, Writer};

/// What finding the directory may read.
const MAX_SEARCH: u64 = 64 << 20;
/// How much is read ahead: enough for an entry of usual size and its header.
const BUFFER: usize = 16 << 10;

/// The type of a file in a Unix mode.
const TYPE: u32 = 0o170_000;

/// Unpacks a zip.
pub(super) fn unpack(archive: &Path, bounds: Bounds, writer: &mut Writer) -> Result<(), Error> {
    let failed = |error| Error::io(archive, error);
    let file = super::regular(archive).map_err(failed)?;
    let length = file.metadata().map_err(failed)?.len();
    let source = Source {
        file: Rc::new(file),
        at: 0,
        buffer: Vec::new(),
        start: 0,
        read: Rc::default(),
        allowed: Rc::new(Cell::new(MAX_SEARCH)),
    };
    // Only a zip from its first byte on is one here, so offsets are true as they are.
    let config = Config { archive_offset: ArchiveOffset::Known(0) };
    let directory = ZipIterable::try_new(source.clone(), config);
    // An honest zip is read once, and its directory twice.
    source.allowed.set(source.read.get().saturating_add(length.saturating_mul(4)).saturating_add(MAX_SEARCH));
    let read = match directory {
        Ok(mut directory) => listed(&mut directory, &source, length, bounds, writer),
        Err(error) => match judge(error, length) {
            Ok(fault) if fault.damage == Damage::Bomb => Err(Halt::Fault(fault)),
            Ok(fault) => {
                writer.unpacked.damage = Some(fault);
                one_by_one(&source, length, bounds, writer)
            }
            Err(error) => Err(Halt::Machine(error)),
        },
    };
    match read {
        Ok(()) => Ok(()),
        Err(Halt::Fault(fault)) => {
            // A bomb hides what was wrong before it: it is why reading ended.
            if fault.damage == Damage::Bomb || writer.unpacked.damage.is_none() {
                writer.unpacked.damage = Some(fault);
            }
            Ok(())
        }
        Err(Halt::Machine(error)) => Err(failed(error)),
        Err(Halt::Error(error)) => Err(error),
    }
}

/// Why reading ended early.
enum Halt {
    Fault(Fault),
    Machine(io::Error),
    Error(Error),
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        match stop {
            Stop::Fault(fault) => Self::Fault(fault),
            Stop::Error(error) => Self::Error(error),
        }
    }
}

/// What an error says about the archive, or the machine's error.
fn judge(error: ZipError, offset: u64) -> Result<Fault, io::Error> {
    match error {
        ZipError::Io(error) => judge_io(error, offset),
        error => Ok(Fault::new(Damage::Corrupt, offset, error.to_string())),
    }
}

fn judge_io(error: io::Error, offset: u64) -> Result<Fault, io::Error> {
    if let Some(fault) = stream::fault(&error) {
        return Ok(fault.clone());
    }
    if error.raw_os_error().is_some() {
        return Err(error);
    }
    let damage = stream::damage(&error).unwrap_or(Damage::Corrupt);
    Ok(Fault::new(damage, offset, error.to_string()))
}

/// Reads the entries that the directory lists.
fn listed(
    directory: &mut ZipIterable<Source>,
    source: &Source,
    length: u64,
    bounds: Bounds,
    writer: &mut Writer,
) -> Result<(), Halt> {
    let mut reader = source.clone();
    let mut meter =
        Meter { read: Rc::clone(&source.read), before: source.read.get(), length, bounds, written: 0 };
    let mut last = length;
    let entries = match directory.files() {
        Ok(entries) => entries,
        Err(error) => return Err(fault_or_machine(judge(error, last))),
    };
    for entry in entries {
        let entry: OwnedZipFileEntry = match entry {
            Ok(entry) => entry.into(),
            Err(error) => return Err(fault_or_machine(judge(error, last))),
        };
        last = entry.central_header_start();
        writer.entry(last)?;
        let name = name(entry.name(), entry.name_raw());
        let told = told(&entry, &name, entry.header_start(), entry.system() != System::Unix);
        if let Some(why) = unwanted(entry.unix_mode(), entry.encrypted(), entry.compression()) {
            writer.skip(&told, why);
        } else if is_folder(&told, entry.unix_mode()) {
            writer.folder(&told)?;
        } else {
            // Borrowed: what is left unread of an entry that is owned would be read when it is dropped.
            match entry.as_ref().with_reader(&mut reader, ZipReadOptions::new()) {
                Ok(mut content) => write(&told, &mut content, &mut meter, writer)?,
                Err(error) => broken(&told, judge(error, told.offset), writer)?,
            }
        }
    }
    Ok(())
}

/// Reads entries as they come, without a directory. Links and devices cannot be told from files there.
fn one_by_one(source: &Source, length: u64, bounds: Bounds, writer: &mut Writer) -> Result<(), Halt> {
    let mut reader = source.clone();
    reader.at = 0;
    let mut meter =
        Meter { read: Rc::clone(&source.read), before: source.read.get(), length, bounds, written: 0 };
    loop {
        let offset = reader.at;
        // Encrypted entries are stepped over like others.
        let options = ZipReadOptions::new().ignore_encryption_flag(true);
        let mut entry = match read_zipfile_from_stream_with_options(&mut reader, options) {
            Ok(Some(entry)) => entry,
            Ok(None) => return Ok(()),
            Err(error) => {
                let fault = judge(error, offset);
                // The directory's loss is told already, and this is how far it reached.
                if let (Ok(fault), Some(known)) = (&fault, &mut writer.unpacked.damage)
                    && fault.damage != Damage::Bomb
                {
                    known.offset = offset;
                    known.damage = fault.damage;
                    known.why = format!("{}, then {}", known.why, fault.why);
                    return Ok(());
                }
                return Err(fault_or_machine(fault));
            }
        };
        writer.entry(offset)?;
        let name = name(entry.name(), entry.name_raw());
        let told = told(&entry, &name, offset, false);
        if let Some(why) = unwanted(None, entry.encrypted(), entry.compression()) {
            writer.skip(&told, why);
        } else if is_folder(&told, None) {
            writer.folder(&told)?;
        } else {
            write(&told, &mut entry, &mut meter, writer)?;
        }
    }
}

/// What an entry says of itself. Its time has no zone, so it is taken for UTC: the same on every machine.
fn told<'a>(entry: &impl HasZipMetadata, name: &'a [u8], offset: u64, backslash: bool) -> Entry<'a> {
    let data = entry.get_metadata();
    let modified = data.last_modified_time.and_then(time);
    Entry { name, offset, bytes: data.uncompressed_size, modified, backslash }
}

/// UTF-8, or else the code page of the first PCs; never other bytes.
fn name(decoded: Result<std::borrow::Cow<str>, ZipError>, raw: &[u8]) -> Vec<u8> {
    decoded.map_or_else(|_| raw.to_vec(), |name| name.into_owned().into_bytes())
}

fn unwanted(mode: Option<u32>, encrypted: bool, method: CompressionMethod) -> Option<String> {
    match mode.unwrap_or_default() & TYPE {
        // A regular file, a folder, or nothing said.
        0 | 0o100_000 | 0o040_000 => {}
        0o120_000 => return Some("it is a symbolic link".into()),
        0o020_000 | 0o060_000 => return Some("it is a device".into()),
        0o010_000 => return Some("it is a pipe".into()),
        _ => return Some("it is of an unknown type".into()),
    }
    if encrypted {
        return Some("it is encrypted".into());
    }
    let known = matches!(method, CompressionMethod::Stored | CompressionMethod::Deflated);
    (!known).then(|| format!("it is compressed by a method that is not read: {method:?}"))
}

fn is_folder(entry: &Entry, mode: Option<u32>) -> bool {
    let slash = entry.name.ends_with(b"/") || (entry.backslash && entry.name.ends_with(b"\\"));
    slash || mode.is_some_and(|mode| mode & TYPE == 0o040_000)
}

/// Writes one entry. A damaged one does not hide the others.
fn write(told: &Entry, content: &mut dyn Read, meter: &mut Meter, writer: &mut Writer) -> Result<(), Halt> {
    match writer.file(told, &mut Metered { content, meter })? {
        Content::Written | Content::Untouched => Ok(()),
        Content::Broken(error) => broken(told, judge_io(error, told.offset), writer),
    }
}

fn broken(told: &Entry, why: Result<Fault, io::Error>, writer: &mut Writer) -> Result<(), Halt> {
    let fault = why.map_err(Halt::Machine)?;
    writer.skip(told, format!("it cannot be read: {}", fault.why));
    if fault.damage == Damage::Bomb {
        return Err(Halt::Fault(fault));
    }
    writer.unpacked.damage.get_or_insert(fault);
    Ok(())
}

fn fault_or_machine(judged: Result<Fault, io::Error>) -> Halt {
    judged.map_or_else(Halt::Machine, Halt::Fault)
}

/// How much came out of how much, over all entries.
struct Meter {
    read: Rc<Cell<u64>>,
    /// What was read before the first entry.
    before: u64,
    /// The archive's size: bytes that many entries share are read for all of them, but are there once.
    length: u64,
    bounds: Bounds,
    written: u64,
}

/// An entry's content, as far as it is no bomb.
struct Metered<'a> {
    content: &'a mut dyn Read,
    meter: &'a mut Meter,
}

impl Read for Metered<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.content.read(buffer)?;
        let meter = &mut *self.meter;
        meter.written += length as u64;
        let read = (meter.read.get() - meter.before).min(meter.length);
        if meter.bounds.broken(read, meter.written) {
            return Err(Fault::new(Damage::Bomb, meter.written, meter.bounds.why(read)).into());
        }
        Ok(length)
    }
}

/// A file that is read at any place, a little ahead, and counted. Clones have places of their own.
struct Source {
    file: Rc<File>,
    at: u64,
    buffer: Vec<u8>,
    /// Where `buffer` starts in the file.
    start: u64,
    read: Rc<Cell<u64>>,
    /// How much may be read in all.
    allowed: Rc<Cell<u64>>,
}

impl Clone for Source {
    fn clone(&self) -> Self {
        let (file, read, allowed) = (Rc::clone(&self.file), Rc::clone(&self.read), Rc::clone(&self.allowed));
        Self { file, at: self.at, buffer: Vec::new(), start: 0, read, allowed }
    }
}

impl Read for Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let ahead = |source: &Self| {
            let skip = usize::try_from(source.at.checked_sub(source.start)?).ok()?;
            source.buffer.get(skip..).filter(|rest| !rest.is_empty()).map(<[u8]>::len)
        };
        if self.read.get() >= self.allowed.get() {
            let why = "a bomb: its entries share their bytes";
            return Err(Fault::new(Damage::Bomb, self.at, why).into());
        }
        if ahead(self).is_none() && buffer.len() < BUFFER {
            self.buffer.resize(BUFFER, 0);
            let filled = self.file.read_at(&mut self.buffer, self.at);
            self.buffer.truncate(*filled.as_ref().unwrap_or(&0));
            self.start = self.at;
            filled?;
        }
        let length = match ahead(self) {
            Some(rest) => {
                let from = self.buffer.len() - rest;
                let length = rest.min(buffer.len());
                buffer[..length].copy_from_slice(&self.buffer[from..from + length]);
                length
            }
            None if buffer.len() < BUFFER => 0,
            // A long read that the file cannot fill is cut, so that no more passes than is allowed.
            None => {
                let most = buffer.len().min(1 << 20);
                self.file.read_at(&mut buffer[..most], self.at)?
            }
        };
        self.at += length as u64;
        self.read.set(self.read.get() + length as u64);
        Ok(length)
    }
}

impl Seek for Source {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.file.metadata()?.len().checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        // Beyond what the system can name.
        let Some(at) = at.filter(|&at| i64::try_from(at).is_ok()) else {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "an offset beyond the end of any file"));
        };
        self.at = at;
        Ok(at)
    }
}

/// Seconds of a date without a zone, taken for UTC.
fn time(stamp: DateTime) -> Option<SystemTime> {
    let [year, month, day] = [i64::from(stamp.year()), i64::from(stamp.month()), i64::from(stamp.day())];
    // Days since 0000-03-01, so that the leap day is a year's last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = 365 * year + year / 4 - year / 100 + year / 400 + (153 * month + 2) / 5 + day - 1;
    let of_day = [stamp.hour(), stamp.minute(), stamp.second()]
        .iter()
        .fold(0, |sum, &part| sum * 60 + i64::from(part));
    // 719,468 of these days were before 1970.
    let seconds = u64::try_from((days - 719_468) * 86_400 + of_day).ok()?;
    UNIX_EPOCH.checked_add(Duration::from_secs(seconds))
}

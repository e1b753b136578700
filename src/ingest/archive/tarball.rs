//! Tars, compressed or not, read in one pass.
//!
//! The `tar` crate parses headers, long names and PAX records. It reads a long name or a PAX record into
//! memory whatever its size, so it is fed through a [`Meter`] that lets only so many bytes pass between two
//! entries.
//!
//! It must not seek: what was read is what the checksum of the compressed file covers.

use std::cell::Cell;
use std::io::{self, ErrorKind, Read};
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

use super::stream::{self, Bounds, Damage, Fault, Format, Plain, open_with};
use super::unpack::Error;
use super::writer::{Content, Entry, Stop, Writer};

/// Headers, long names, PAX records and maps of holes before one entry; real ones have a few kilobytes.
const MAX_HEADERS: u64 = 8 << 20;
/// How far zeros are followed behind the end of the archive.
const MAX_TAIL: u64 = 1 << 30;

/// Counts what the parser reads, and stops it.
struct Meter<'a> {
    plain: &'a mut Plain,
    place: &'a Place,
}

#[derive(Default)]
struct Place {
    at: Cell<u64>,
    /// How much may still pass.
    allowed: Cell<u64>,
    /// The archive's end was seen.
    ended: Cell<bool>,
}

impl Read for Meter<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Place { at, allowed, ended } = self.place;
        let most = usize::try_from(allowed.get()).unwrap_or(usize::MAX).min(buffer.len());
        if most == 0 && !buffer.is_empty() {
            let why = format!("more than {MAX_HEADERS} bytes of headers before one entry");
            return Err(Fault::new(Damage::Corrupt, at.get(), why).into());
        }
        let length = self.plain.read(&mut buffer[..most])?;
        ended.set(ended.get() || (length == 0 && !buffer.is_empty()));
        allowed.set(allowed.get().saturating_sub(length as u64));
        at.set(at.get() + length as u64);
        Ok(length)
    }
}

/// Unpacks a tar.
pub(super) fn unpack(archive: &Path, bounds: Bounds, writer: &mut Writer) -> Result<(), Error> {
    let mut plain = open_with(archive, bounds, false).map_err(|error| Error::io(archive, error))?;
    let place = Place::default();
    let read = entries(&mut plain, &place, writer).and_then(|()| tail(&mut plain, &place, writer));
    match read {
        Ok(()) => {}
        Err(Halt::Stop(Stop::Fault(fault))) => writer.unpacked.damage = Some(fault),
        Err(Halt::Stop(Stop::Error(error))) => return Err(error),
        Err(Halt::Read(error)) => match judge(&error, &place) {
            Some(fault) => writer.unpacked.damage = Some(fault),
            None => return Err(Error::io(archive, error)),
        },
    }
    Ok(())
}

/// Why reading ended early.
enum Halt {
    Stop(Stop),
    Read(io::Error),
}

impl From<Stop> for Halt {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<io::Error> for Halt {
    fn from(error: io::Error) -> Self {
        Self::Read(error)
    }
}

impl From<Fault> for Halt {
    fn from(fault: Fault) -> Self {
        Self::Stop(Stop::Fault(fault))
    }
}

/// What an error says about the archive, or nothing if it is the machine's. The parser's have no kind.
fn judge(error: &io::Error, place: &Place) -> Option<Fault> {
    if let Some(fault) = stream::fault(error) {
        return Some(fault.clone());
    }
    if error.raw_os_error().is_some() {
        return None;
    }
    let damage = if place.ended.get() || error.kind() == ErrorKind::UnexpectedEof {
        Damage::Truncated
    } else {
        Damage::Corrupt
    };
    Some(Fault::new(damage, place.at.get(), error.to_string()))
}

fn entries(plain: &mut Plain, place: &Place, writer: &mut Writer) -> Result<(), Halt> {
    let mut archive = tar::Archive::new(Meter { plain, place });
    let mut entries = archive.entries()?;
    place.allowed.set(MAX_HEADERS);
    while let Some(mut entry) = entries.next().transpose()? {
        place.allowed.set(u64::MAX);
        writer.entry(entry.raw_header_position())?;
        one(&mut entry, place, writer)?;
        if !is_sparse(&entry) {
            place.allowed.set(MAX_HEADERS);
        }
    }
    if place.ended.get() {
        return Err(Fault::new(Damage::Truncated, place.at.get(), "no end of the archive").into());
    }
    Ok(())
}

fn is_sparse<R: Read>(entry: &tar::Entry<R>) -> bool {
    entry.header().entry_type().is_gnu_sparse()
}

/// Reads one entry to its end.
fn one<R: Read>(entry: &mut tar::Entry<R>, place: &Place, writer: &mut Writer) -> Result<(), Halt> {
    let kind = entry.header().entry_type();
    // Records for all entries that follow: a commit's number, as a rule.
    if kind.is_pax_global_extensions() {
        writer.drain(entry)??;
        return Ok(());
    }
    let records = records(entry)?;
    let name = entry.path_bytes().into_owned();
    let modified =
        entry.header().mtime().ok().and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds)));
    let offset = entry.raw_header_position();
    let told = Entry { name: &name, offset, bytes: entry.size(), modified, backslash: false };
    let is_file = kind.is_file() || kind.is_contiguous();
    let why = if kind.is_gnu_sparse() || records.holes {
        Some("it is a file with holes")
    } else if kind.is_symlink() {
        Some("it is a symbolic link")
    } else if kind.is_hard_link() {
        Some("it is a hard link")
    } else if kind.is_block_special() || kind.is_character_special() {
        Some("it is a device")
    } else if kind.is_fifo() {
        Some("it is a pipe")
    } else if !is_file && !kind.is_dir() {
        Some("it is of an unknown type")
    } else {
        None
    };
    if kind.is_gnu_sparse() {
        // Reading it would yield its holes, which can be endless; the parser steps over what is stored.
        let stored = match records.size {
            Some(size) => size,
            None => entry.header().entry_size()?,
        };
        place.allowed.set(stored.saturating_add(MAX_HEADERS));
        writer.skip(&told, "it is a file with holes");
        return Ok(());
    }
    let before = place.at.get();
    if let Some(why) = why {
        writer.skip(&told, why);
    } else if kind.is_dir() || name.ends_with(b"/") {
        writer.folder(&told)?;
    } else {
        // Its end is where the file's end is, even if the archive ends before.
        let mut whole = Whole { entry, left: told.bytes };
        if let Content::Broken(error) = writer.file(&told, &mut whole)? {
            writer.skip(&told, format!("it cannot be read: {error}"));
            return Err(error.into());
        }
    }
    writer.drain(entry)??;
    let end = before.saturating_add(told.bytes);
    if place.at.get() < end {
        return Err(Fault::new(Damage::Truncated, place.at.get(), "the archive ends within an entry").into());
    }
    Ok(())
}

/// What PAX says of an entry that the parser does not act on.
struct Records {
    size: Option<u64>,
    holes: bool,
}

fn records<R: Read>(entry: &mut tar::Entry<R>) -> io::Result<Records> {
    let mut records = Records { size: None, holes: false };
    // Of an entry that is itself a list of records, asking would read it all, and this one describes nothing.
    if entry.header().entry_type().is_pax_local_extensions() {
        return Ok(records);
    }
    for record in entry.pax_extensions()?.into_iter().flatten().flatten() {
        records.holes |= record.key_bytes().starts_with(b"GNU.sparse.");
        if record.key_bytes() == b"size" && records.size.is_none() {
            records.size = record.value().ok().and_then(|size| size.parse().ok());
        }
    }
    Ok(records)
}

/// An entry whose early end is an error.
struct Whole<'a, R> {
    entry: &'a mut R,
    left: u64,
}

impl<R: Read> Read for Whole<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.entry.read(buffer)?;
        if length == 0 && self.left > 0 && !buffer.is_empty() {
            return Err(io::Error::new(ErrorKind::UnexpectedEof, "the archive ends within an entry"));
        }
        self.left = self.left.saturating_sub(length as u64);
        Ok(length)
    }
}

/// Reads on behind the end: a compressed archive's checksum comes last, and only zeros should come before it.
fn tail(plain: &mut Plain, place: &Place, writer: &Writer) -> Result<(), Halt> {
    let mut buffer = vec![0; 64 << 10];
    let mut followed = 0;
    while followed < MAX_TAIL {
        writer.check().map_err(Stop::Error)?;
        let length = match plain.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => length,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error.into()),
        };
        if let Some(zeros) = buffer[..length].iter().position(|&byte| byte != 0) {
            let why = "there is more behind the end of the archive, which is not read";
            return Err(Fault::new(Damage::Corrupt, place.at.get() + followed + zeros as u64, why).into());
        }
        followed += length as u64;
        if plain.format() == Format::Plain && followed >= 1 << 20 {
            break;
        }
    }
    Ok(())
}

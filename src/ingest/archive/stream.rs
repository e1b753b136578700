//! One file, decompressed on the way if its first bytes say so: gzip of many members, zstd of many frames, or
//! as it is.
//!
//! A reader must tell three things apart that all look like a failed read: the machine could not read, the
//! log is damaged, and the log is a bomb. What the decoders say is therefore turned into a [`Fault`], which
//! travels inside the `io::Error`; an error without one is the machine's. The raw bytes are hashed where they
//! are read, so that a reader can tell at the end whether it saw the file that was fingerprinted.
//!
//! It must not hold more than a decoder's window (128 MiB at most), and must not yield the bytes of a bomb
//! for ever.

use std::fs::File;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::path::Path;

use flate2::bufread::GzDecoder;
use zstd::stream::read::Decoder as ZstdDecoder;
use zstd::zstd_safe;

/// The largest window of zstd that is accepted, as a power of two: 128 MiB, which `--long` asks for.
pub const MAX_WINDOW_LOG: u32 = 27;
/// zstd's number for a window larger than that; its numbers are negative and part of its stable interface.
const WINDOW_TOO_LARGE: usize = 16;
/// How much compressed data is read at once.
const BUFFER: usize = 64 << 10;

/// What is wrong with a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Damage {
    /// It ends too early.
    Truncated,
    /// Its bytes are not what the format asks for, or not what their checksum says.
    Corrupt,
    /// It grows beyond its limits.
    Bomb,
}

/// Damage of a log: where and why.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why} (at byte {offset})")]
pub struct Fault {
    /// What kind.
    pub damage: Damage,
    /// Where: of a stream, how many decompressed bytes came before; of an archive, where its reading stopped.
    pub offset: u64,
    /// What was found.
    pub why: String,
}

impl Fault {
    /// A fault at a place.
    pub fn new(damage: Damage, offset: u64, why: impl Into<String>) -> Self {
        Self { damage, offset, why: why.into() }
    }
}

impl From<Fault> for io::Error {
    fn from(fault: Fault) -> Self {
        let kind = match fault.damage {
            Damage::Truncated => ErrorKind::UnexpectedEof,
            Damage::Corrupt | Damage::Bomb => ErrorKind::InvalidData,
        };
        Self::new(kind, fault)
    }
}

/// The fault inside an error of [`Plain`]. Without one, the error is the machine's.
pub fn fault(error: &io::Error) -> Option<&Fault> {
    error.get_ref()?.downcast_ref()
}

/// Whether an error is damage of the log, of which kind, or the machine's. What readers on top say of
/// themselves (`read_exact` at the end, `read_to_string` of other bytes) is damage too.
pub fn damage(error: &io::Error) -> Option<Damage> {
    match (fault(error), error.raw_os_error(), error.kind()) {
        (Some(fault), ..) => Some(fault.damage),
        (None, None, ErrorKind::UnexpectedEof) => Some(Damage::Truncated),
        (None, None, ErrorKind::InvalidData) => Some(Damage::Corrupt),
        _ => None,
    }
}

/// How much may come out of how little.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes out for each byte in. Deflate cannot do more than 1032.
    pub times: u64,
    /// Bytes out that are free.
    pub slack: u64,
}

impl Default for Bounds {
    fn default() -> Self {
        Self { times: 1000, slack: 64 << 20 }
    }
}

impl Bounds {
    /// Whether so much out of so much is a bomb.
    pub(super) fn broken(&self, read: u64, written: u64) -> bool {
        written > read.saturating_mul(self.times).saturating_add(self.slack)
    }

    /// What to say then.
    pub(super) fn why(&self, read: u64) -> String {
        format!("a bomb: {read} bytes grow more than {} times", self.times)
    }
}

/// How a file is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Not at all.
    Plain,
    /// gzip
    Gzip,
    /// zstd
    Zstd,
}

impl Format {
    /// Whether a frame comes first that zstd skips, so that the content's first bytes are behind it.
    pub(super) fn is_hidden(head: &[u8]) -> bool {
        matches!(head, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
    }

    /// What the first bytes say. Frames that zstd skips count if what they hide is there too.
    pub fn of(head: &[u8]) -> Self {
        let mut rest = head;
        while let [0x50..=0x5f, 0x2a, 0x4d, 0x18, a, b, c, d, behind @ ..] = rest {
            let length = u32::from_le_bytes([*a, *b, *c, *d]) as usize;
            let Some(next) = behind.get(length..) else { return Self::Plain };
            rest = next;
        }
        match (head, rest) {
            // Deflate is the only method there is, and three flags are reserved: plain bytes rarely get all
            // right.
            ([0x1f, 0x8b, 8, flags, ..], _) if flags & 0xe0 == 0 => Self::Gzip,
            (_, [0x28, 0xb5, 0x2f, 0xfd, ..]) => Self::Zstd,
            _ => Self::Plain,
        }
    }
}

/// A file's content, decompressed.
pub struct Plain {
    decoder: Decoder,
    bounds: Bounds,
    /// Decompressed bytes so far.
    written: u64,
    /// After a fault there is nothing but the fault: some decoders would say that they are at the end.
    fault: Option<Fault>,
}

enum Decoder {
    Plain(Raw),
    /// Empty only while one member follows another.
    Gzip(Option<Box<GzDecoder<BufReader<Raw>>>>),
    Zstd(Box<ZstdDecoder<'static, BufReader<Raw>>>),
    /// gzip, behind the last member.
    Behind(BufReader<Raw>),
}

/// Opens a file.
pub fn open(path: &Path) -> io::Result<Plain> {
    open_with(path, Bounds::default(), false)
}

/// Opens a file that is hashed as it is read.
pub fn open_hashed(path: &Path) -> io::Result<Plain> {
    open_with(path, Bounds::default(), true)
}

/// Opens a file with other bounds.
pub fn open_with(path: &Path, bounds: Bounds, hashed: bool) -> io::Result<Plain> {
    let file = super::regular(path)?;
    let mut head = super::read_head(&file, 4)?;
    if Format::is_hidden(&head) {
        head = super::read_head(&file, super::HEAD)?;
    }
    let raw = Raw { file, hasher: hashed.then(Box::default), bytes: 0, broken: false };
    let decoder = match Format::of(&head) {
        Format::Plain => Decoder::Plain(raw),
        Format::Gzip => Decoder::Gzip(Some(Box::new(GzDecoder::new(BufReader::with_capacity(BUFFER, raw))))),
        Format::Zstd => {
            let mut decoder = ZstdDecoder::with_buffer(BufReader::with_capacity(BUFFER, raw))?;
            decoder.window_log_max(MAX_WINDOW_LOG)?;
            Decoder::Zstd(Box::new(decoder))
        }
    };
    Ok(Plain { decoder, bounds, written: 0, fault: None })
}

impl Plain {
    /// How the file is compressed.
    pub fn format(&self) -> Format {
        match self.decoder {
            Decoder::Plain(_) => Format::Plain,
            Decoder::Gzip(_) | Decoder::Behind(_) => Format::Gzip,
            Decoder::Zstd(_) => Format::Zstd,
        }
    }

    /// Reads what is left of the raw file, damaged or not, and gives the plain BLAKE3 of all of it, if it was
    /// opened to be hashed.
    pub fn finish(self) -> io::Result<Option<blake3::Hash>> {
        let mut raw = match self.decoder {
            Decoder::Plain(raw) => raw,
            Decoder::Gzip(decoder) => match decoder {
                Some(decoder) => decoder.into_inner().into_inner(),
                None => return Ok(None),
            },
            Decoder::Zstd(decoder) => decoder.finish().into_inner(),
            Decoder::Behind(reader) => reader.into_inner(),
        };
        if raw.hasher.is_none() {
            return Ok(None);
        }
        let mut rest = vec![0; BUFFER];
        loop {
            match raw.read(&mut rest) {
                Ok(0) => return Ok(raw.hasher.map(|hasher| hasher.finalize())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Raw bytes that the decoder has taken; whether reading them failed.
    fn taken(&self) -> (u64, bool) {
        let buffered = |reader: &BufReader<Raw>| {
            let raw = reader.get_ref();
            (raw.bytes - reader.buffer().len() as u64, raw.broken)
        };
        match &self.decoder {
            Decoder::Plain(raw) => (raw.bytes, raw.broken),
            Decoder::Gzip(decoder) => {
                decoder.as_ref().map_or((0, false), |decoder| buffered(decoder.get_ref()))
            }
            Decoder::Zstd(decoder) => buffered(decoder.get_ref()),
            Decoder::Behind(reader) => buffered(reader),
        }
    }

    fn decode(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.decoder {
            Decoder::Plain(raw) => raw.read(buffer),
            Decoder::Zstd(decoder) => decoder.read(buffer),
            Decoder::Behind(reader) => behind(reader, self.written).map(|()| 0),
            Decoder::Gzip(member) => loop {
                let Some(decoder) = member else { return Ok(0) };
                let length = decoder.read(buffer)?;
                if length > 0 {
                    return Ok(length);
                }
                let more = decoder.get_mut().fill_buf()?.first() == Some(&0x1f);
                let Some(reader) = member.take().map(|decoder| decoder.into_inner()) else { return Ok(0) };
                if more {
                    *member = Some(Box::new(GzDecoder::new(reader)));
                } else {
                    self.decoder = Decoder::Behind(reader);
                    return self.decode(buffer);
                }
            },
        }
    }

    /// What a decoder's error means.
    fn judge(&self, error: &io::Error) -> Fault {
        if let Some(fault) = fault(error) {
            return fault.clone();
        }
        let why = error.to_string();
        let damage = match error.kind() {
            ErrorKind::UnexpectedEof => Damage::Truncated,
            // The decoder gives no numbers, only their names.
            _ if why == zstd_safe::get_error_name(0_usize.wrapping_sub(WINDOW_TOO_LARGE)) => Damage::Bomb,
            _ => Damage::Corrupt,
        };
        Fault::new(damage, self.written, why)
    }
}

impl Read for Plain {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(fault) = &self.fault {
            return Err(fault.clone().into());
        }
        if buffer.is_empty() {
            return Ok(0);
        }
        let fault = match self.decode(buffer) {
            Ok(length) => {
                let written = self.written + length as u64;
                let (read, _) = self.taken();
                if !self.bounds.broken(read, written) {
                    self.written = written;
                    return Ok(length);
                }
                Fault::new(Damage::Bomb, self.written, self.bounds.why(read))
            }
            Err(error) if error.kind() == ErrorKind::Interrupted || self.taken().1 => return Err(error),
            Err(error) => self.judge(&error),
        };
        self.fault = Some(fault.clone());
        Err(fault.into())
    }
}

/// What may follow the last member of a gzip file: nothing, or the zeros of a tape.
fn behind(reader: &mut BufReader<Raw>, written: u64) -> io::Result<()> {
    loop {
        let buffer = reader.fill_buf()?;
        if buffer.is_empty() {
            return Ok(());
        }
        if buffer.iter().any(|&byte| byte != 0) {
            let why = "what follows the gzip data is not gzip";
            return Err(Fault::new(Damage::Corrupt, written, why).into());
        }
        let length = buffer.len();
        reader.consume(length);
    }
}

/// A file that is counted and hashed as it is read.
struct Raw {
    file: File,
    hasher: Option<Box<blake3::Hasher>>,
    bytes: u64,
    /// The machine could not read it.
    broken: bool,
}

impl Read for Raw {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.file.read(buffer);
        self.broken = read.is_err();
        let length = read?;
        self.bytes += length as u64;
        if let Some(hasher) = &mut self.hasher {
            hasher.update(&buffer[..length]);
        }
        Ok(length)
    }
}

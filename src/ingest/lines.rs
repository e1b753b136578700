//! Lines of a log, one at a time, so that a log may be larger than memory.
//!
//! A line may be too long to hold. It is put into quarantine with its place, length and digest, and reading goes on
//! behind it: two gigabytes without a line break cost time and no memory.

use std::io::{BufRead, BufReader, Read};

use finch_core::Digest;

use super::LogFile;
use super::archive::stream;
use super::open::{self, Opened};
use super::record::{FileLog, Quarantined};
use crate::code::Code;
use crate::error::{Error, Result};

/// The longest line that is parsed; real ones reach 1 MB.
const MAX_LINE: u64 = 32 << 20;

/// A log's lines.
pub(super) struct Lines<'a> {
    file: &'a LogFile,
    reader: Option<BufReader<Opened>>,
    line: Vec<u8>,
    offset: u64,
}

/// One line, with its line break.
pub(super) struct Line<'a> {
    pub(super) bytes: &'a [u8],
    /// Of its first byte; of a compressed log, among the decompressed bytes.
    pub(super) offset: u64,
}

impl<'a> Lines<'a> {
    /// Opens a log. The inner error is what is known of one that cannot be opened.
    pub(super) fn open(file: &'a LogFile) -> Result<Result<Self, FileLog>> {
        Ok(match open::stream(file)? {
            Ok(opened) => {
                let reader = Some(BufReader::with_capacity(1 << 20, opened));
                Ok(Self { file, reader, line: Vec::new(), offset: 0 })
            }
            Err(bad) => Err(FileLog { quarantined: vec![bad], ..FileLog::default() }),
        })
    }

    /// The next line. At the end, what was read is held against the log's digest.
    pub(super) fn next(&mut self, log: &mut FileLog) -> Result<Option<Line<'_>>> {
        loop {
            let Some(reader) = &mut self.reader else { return Ok(None) };
            self.line.clear();
            let offset = self.offset;
            match reader.by_ref().take(MAX_LINE).read_until(b'\n', &mut self.line) {
                Ok(0) => {
                    if let Some(reader) = self.reader.take() {
                        reader.into_inner().check(self.file)?;
                    }
                    return Ok(None);
                }
                Ok(length) if (length as u64) < MAX_LINE || self.line.last() == Some(&b'\n') => {
                    self.offset += length as u64;
                    return Ok(Some(Line { bytes: &self.line, offset }));
                }
                Ok(_) => {
                    if let Err(error) = self.pass(offset, log) {
                        return self.end(&error, offset, log);
                    }
                }
                Err(error) => return self.end(&error, offset, log),
            }
        }
    }

    /// Passes over the rest of a line that is too long; what was read of it is kept, and its length and digest.
    fn pass(&mut self, offset: u64, log: &mut FileLog) -> std::io::Result<()> {
        let Some(reader) = &mut self.reader else { return Ok(()) };
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.line);
        let mut length = self.line.len() as u64;
        loop {
            let buffer = reader.fill_buf()?;
            let end = buffer.iter().position(|&byte| byte == b'\n').map(|at| at + 1);
            let used = end.unwrap_or(buffer.len());
            hasher.update(&buffer[..used]);
            length += used as u64;
            reader.consume(used);
            if end.is_some() || used == 0 {
                break;
            }
        }
        self.offset = offset + length;
        let reason = format!("a line longer than {} MiB", MAX_LINE >> 20);
        let mut bad = Quarantined::new(Code::TooLarge, reason, self.file, offset, &self.line);
        bad.bytes = length;
        bad.digest = Digest::from_bytes(*hasher.finalize().as_bytes());
        log.quarantined.push(bad);
        Ok(())
    }

    /// Ends at an error: damage is put into quarantine, with what was read of the line; the machine's is an error.
    fn end(&mut self, error: &std::io::Error, offset: u64, log: &mut FileLog) -> Result<Option<Line<'_>>> {
        if stream::damage(error).is_none() {
            let again = std::io::Error::new(error.kind(), error.to_string());
            return Err(Error::io("read", &self.file.path)(again));
        }
        log.quarantined.push(open::broken(self.file, error, offset, &self.line));
        if let Some(reader) = self.reader.take() {
            reader.into_inner().check(self.file)?;
        }
        Ok(None)
    }
}

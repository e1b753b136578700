//! The bytes of a pickle as its instructions take them.
//!
//! It must not believe a length: each is compared with what is left before anything is done with it.

use super::{PickleErrorKind, Span};

use PickleErrorKind::{Malformed, Truncated};

pub(super) type Step<T = ()> = Result<T, PickleErrorKind>;

pub(super) struct Input<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Input<'a> {
    /// At most `MAX_BYTES`.
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    /// Where the next byte is.
    pub(super) fn at(&self) -> usize {
        self.at
    }

    pub(super) fn take(&mut self, length: usize) -> Step<Span> {
        if length > self.bytes.len() - self.at {
            return Err(Truncated);
        }
        let span = Span { start: small(self.at), length: small(length) };
        self.at += length;
        Ok(span)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Step<[u8; N]> {
        let array = self.bytes[self.at..].first_chunk().ok_or(Truncated)?;
        self.at += N;
        Ok(*array)
    }

    pub(super) fn byte(&mut self) -> Step<u8> {
        self.array().map(|[byte]| byte)
    }

    pub(super) fn word(&mut self) -> Step<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub(super) fn signed_length(&mut self) -> Step<usize> {
        let length = i32::from_le_bytes(self.array()?);
        usize::try_from(length).map_err(|_| Malformed("a length below zero"))
    }

    /// Up to the next line feed, which is passed over.
    pub(super) fn line(&mut self) -> Step<Span> {
        let length = self.bytes[self.at..].iter().position(|&byte| byte == b'\n').ok_or(Truncated)?;
        let span = self.take(length)?;
        self.at += 1;
        Ok(span)
    }

    /// A line with a memo's key.
    pub(super) fn decimal(&mut self) -> Step<u64> {
        let line = self.line()?;
        let text = std::str::from_utf8(&self.bytes[line.start as usize..][..line.length as usize]).ok();
        text.and_then(|text| text.trim().parse().ok()).ok_or(Malformed("a memo key that is no number"))
    }
}

/// A line without the blanks around it, among them the carriage return of a file that was opened as text.
pub(super) fn trimmed(bytes: &[u8], line: Span) -> Span {
    let start = bytes.len() - bytes.trim_ascii_start().len();
    Span { start: line.start + small(start), length: small(bytes.trim_ascii().len()) }
}

/// A place or a length in one of the tables, or in the input.
pub(super) fn small(length: usize) -> u32 {
    u32::try_from(length).expect("the input's length and the tables, smaller than three `MAX_OPCODES`, fit")
}

//! BLAKE3-256 digests, domain-separated by what they identify.
//!
//! An identity comes from content, never from a path, a clock or a thread. Fields are hashed with their
//! length in front, so that ("ab", "c") and ("a", "bc") differ, and every kind of thing hashes under its own
//! key, so that a program and a prompt with the same text do not share an id.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::Error;

/// A BLAKE3-256 digest; shown as 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest([u8; 32]);

/// What a digest identifies. Each kind has its own hash key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A program: its canonical text.
    Program,
    /// A program without its comments and blank lines: a key of equality, never an id.
    Bare,
    /// A prompt, response, reasoning or feedback text.
    Text,
    /// A run: scaffold and root candidate.
    Run,
    /// A candidate: run and native id.
    Candidate,
    /// A transition: parent and child candidate.
    Transition,
    /// A proposal that never became a candidate.
    Attempt,
    /// A training example.
    Example,
    /// Examples that are trained on as one sequence.
    Pack,
    /// A quarantined record.
    Quarantine,
    /// One folder of logs: the content of everything that is read from it.
    Unit,
    /// The rows of a table.
    Rows,
    /// The files of a table.
    Bytes,
    /// The tables of a dataset.
    Dataset,
    /// A stage's code version, parameters and inputs.
    Fingerprint,
    /// A seeded choice: sampling and splitting.
    Choice,
    /// A build.
    Build,
}

impl Kind {
    /// The BLAKE3 key-derivation context. Changing one changes every id of its kind.
    fn context(self) -> &'static str {
        match self {
            Self::Program => "finch program v1",
            Self::Bare => "finch bare program v1",
            Self::Text => "finch text v1",
            Self::Run => "finch run v1",
            Self::Candidate => "finch candidate v1",
            Self::Transition => "finch transition v1",
            Self::Attempt => "finch attempt v1",
            Self::Example => "finch example v1",
            Self::Pack => "finch pack v1",
            Self::Quarantine => "finch quarantine v1",
            Self::Unit => "finch unit v1",
            Self::Rows => "finch rows v1",
            Self::Bytes => "finch bytes v1",
            Self::Dataset => "finch dataset v1",
            Self::Fingerprint => "finch fingerprint v1",
            Self::Choice => "finch choice v1",
            Self::Build => "finch build v1",
        }
    }

    /// Starts a digest of this kind; add fields, then [`Fields::finish`].
    pub fn fields(self) -> Fields {
        Fields(blake3::Hasher::new_derive_key(self.context()))
    }

    /// The digest of one text, such as a program's canonical form.
    pub fn of_text(self, text: &str) -> Digest {
        self.fields().text(text).finish()
    }
}

/// A digest in the making: fields are added in a fixed order, each with its length.
#[derive(Clone, Debug)]
pub struct Fields(blake3::Hasher);

impl Fields {
    /// Adds a byte field.
    #[must_use]
    pub fn bytes(mut self, field: &[u8]) -> Self {
        self.push(field);
        self
    }

    /// Adds a text field.
    #[must_use]
    pub fn text(self, field: &str) -> Self {
        self.bytes(field.as_bytes())
    }

    /// Adds a digest field.
    #[must_use]
    pub fn digest(self, field: Digest) -> Self {
        self.bytes(&field.0)
    }

    /// Adds an integer field.
    #[must_use]
    pub fn int(self, field: u64) -> Self {
        self.bytes(&field.to_le_bytes())
    }

    /// Adds a byte field in place, for loops.
    pub fn push(&mut self, field: &[u8]) {
        self.0.update(&(field.len() as u64).to_le_bytes());
        self.0.update(field);
    }

    /// Adds bytes that hold fields with their lengths already, for long streams of short fields: hashing is fastest in
    /// large pieces.
    pub(crate) fn extend(&mut self, fields: &[u8]) {
        self.0.update(fields);
    }

    /// The digest of all fields.
    pub fn finish(self) -> Digest {
        Digest(*self.0.finalize().as_bytes())
    }
}

impl Digest {
    /// A digest from its 32 bytes.
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The plain BLAKE3 of some bytes, as `b3sum` prints it: for files, whose digest others check too.
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }

    /// The 32 bytes.
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 12 hexadecimal digits: enough for people to tell things apart.
    pub fn short(&self) -> String {
        let mut hex = self.to_string();
        hex.truncate(12);
        hex
    }
}

/// The plain BLAKE3 of a file, as `b3sum` prints it.
pub fn of_file(path: &Path) -> Result<Digest, Error> {
    let mut hasher = blake3::Hasher::new();
    hasher.update_mmap_rayon(path).map_err(Error::io("read", path))?;
    Ok(Digest(*hasher.finalize().as_bytes()))
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 64];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.short())
    }
}

impl FromStr for Digest {
    type Err = Error;

    fn from_str(hex: &str) -> Result<Self, Error> {
        let bad = || Error::Digest(hex.chars().take(80).collect());
        let digits = hex.as_bytes();
        if digits.len() != 64 {
            return Err(bad());
        }
        let nibble = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(bad()),
        };
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            *byte = nibble(pair[0])? << 4 | nibble(pair[1])?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(deserializer)?;
        hex.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn field_boundaries_count() {
        let ab_c = Kind::Run.fields().text("ab").text("c").finish();
        let a_bc = Kind::Run.fields().text("a").text("bc").finish();
        assert_ne!(ab_c, a_bc);
    }

    #[test]
    fn kinds_do_not_collide() {
        assert_ne!(Kind::Program.of_text("x"), Kind::Text.of_text("x"));
    }

    #[test]
    fn hex_round_trips_and_bad_hex_is_refused() {
        let digest = Kind::Text.of_text("finch");
        assert_eq!(digest.to_string().parse::<Digest>().expect("round trip"), digest);
        for bad in ["", "ab", &"g".repeat(64), &"A".repeat(64), &"é".repeat(32)] {
            assert!(bad.parse::<Digest>().is_err(), "{bad} was taken for a digest");
        }
    }

    #[test]
    fn file_digests_are_plain_blake3() {
        // The empty-input vector of the BLAKE3 specification's test vectors.
        assert_eq!(
            Digest::of_bytes(b"").to_string(),
            "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        );
    }
}

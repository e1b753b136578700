//! A record: one mention of a candidate in a log, with its long texts replaced by their digests.

use std::path::Path;

use finch_core::{Digest, Kind, answer};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::assess::Failure;
use super::discover::LogFile;
use crate::code::Code;
use crate::error::{Error, Result};

/// A program as a record refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramRef {
    /// Digest of the canonical text.
    pub id: Digest,
    /// Plain BLAKE3 of the text as logged.
    pub raw: Digest,
}

/// How an answer edits a program: one of [`answer::OPERATORS`].
pub type Operator = &'static str;

/// One mention of a candidate. Serialized, it is what [`super::parsed`] keeps: all but where the file lies.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// The scaffold's own id.
    pub native_id: String,
    /// Ids of the parents; several after a crossover.
    pub parents: Vec<String>,
    /// Set when this is a migrant or an island copy of another candidate.
    pub copy_of: Option<String>,
    /// True when the record has a parent and no sign of a search step: no prompt, no change, no scores of the
    /// parent. With its parent's program, it is a copy that seeded an empty island.
    pub no_step: bool,
    /// True when the candidate is known only as somebody's parent.
    pub stub: bool,
    /// The program, where the record holds it.
    pub program: Option<ProgramRef>,
    /// The scaffold's iteration.
    pub iteration: Option<i64>,
    /// The island.
    pub island: Option<i64>,
    /// The scaffold's generation.
    pub generation: Option<i64>,
    /// What the evaluator reported, canonical.
    pub metrics: Map<String, Value>,
    /// What the child's record says of its parent.
    pub parent_metrics: Map<String, Value>,
    /// Why the evaluation failed, by flags, errors and metric keys; decided while the error texts are at hand.
    pub failure: Option<Failure>,
    /// The evaluator's messages.
    pub feedback: Option<Digest>,
    /// Evaluation time.
    #[serde(with = "bits")]
    pub eval_seconds: Option<f64>,
    /// Microseconds since 1970.
    pub created_at: Option<i64>,
    /// The system prompt.
    pub system_prompt: Option<Digest>,
    /// The user prompt.
    pub user_prompt: Option<Digest>,
    /// The model's thinking.
    pub reasoning: Option<Digest>,
    /// The model's answer after the thinking.
    pub response: Option<Digest>,
    /// How the answer edits the parent, by content.
    #[serde(deserialize_with = "operator")]
    pub operator: Option<Operator>,
    /// The model that answered.
    pub model: Option<String>,
    /// Its temperature.
    #[serde(with = "bits")]
    pub temperature: Option<f64>,
    /// Tokens, as the log counts them.
    pub prompt_tokens: Option<i64>,
    /// Tokens, as the log counts them.
    pub completion_tokens: Option<i64>,
    /// US dollars, as the log states them.
    #[serde(with = "bits")]
    pub cost: Option<f64>,
    /// Other candidates that the prompt showed.
    pub inspirations: Vec<String>,
    /// The file, relative to the source entry.
    #[serde(skip)]
    pub source: String,
    /// Byte offset or row id in it.
    pub offset: u64,
    /// Digest of the record's bytes: breaks ties by content, never by path.
    pub digest: Option<Digest>,
}

/// A record that could not be read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quarantined {
    /// What is wrong, as a code.
    #[serde(with = "code_word")]
    pub code: Code,
    /// What is wrong, in words.
    pub reason: String,
    /// Size of the record.
    pub bytes: u64,
    /// Its first bytes.
    pub excerpt: String,
    /// The file, relative to the source entry.
    #[serde(skip)]
    pub source: String,
    /// Byte offset or row id in it.
    pub offset: u64,
    /// Digest of the record.
    pub digest: Digest,
}

/// Everything that one file yields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileLog {
    /// Mentions of candidates.
    pub records: Vec<Record>,
    /// What could not be read.
    pub quarantined: Vec<Quarantined>,
    /// Characters that were no text and became U+FFFD.
    pub replaced: u64,
}

impl Quarantined {
    /// A quarantined stretch of a file.
    pub fn new(code: Code, reason: impl Into<String>, file: &LogFile, offset: u64, bytes: &[u8]) -> Self {
        let head = &bytes[..bytes.len().min(200)];
        Self {
            code,
            reason: reason.into(),
            bytes: bytes.len() as u64,
            excerpt: String::from_utf8_lossy(head).into_owned(),
            source: file.source.clone(),
            offset,
            digest: Digest::of_bytes(bytes),
        }
    }

    /// A quarantined file that was not read, or not to its end.
    pub fn file(code: Code, reason: impl Into<String>, file: &LogFile) -> Self {
        Self {
            code,
            reason: reason.into(),
            bytes: file.bytes,
            excerpt: String::new(),
            source: file.source.clone(),
            offset: 0,
            digest: file.digest.unwrap_or_else(|| Kind::Quarantine.of_text("no content")),
        }
    }
}

/// A file that looks like a log and is none that finch reads.
pub(super) fn foreign(file: &LogFile) -> FileLog {
    let extension = Path::new(&file.source).extension().and_then(|e| e.to_str()).unwrap_or("");
    let reason =
        format!("a .{extension} file that is no log finch knows, or not of the scaffold that the spec names");
    FileLog { quarantined: vec![Quarantined::file(Code::ForeignFile, reason, file)], ..FileLog::default() }
}

/// A file that cannot be read. One that could be hashed a moment ago is no bad log: the machine is at fault, and
/// a dataset without it would be taken for the whole.
pub(super) fn unreadable(file: &LogFile, source: std::io::Error) -> Result<FileLog> {
    if file.digest.is_some() {
        return Err(Error::io("read", &file.path)(source));
    }
    let quarantined = vec![Quarantined::file(Code::UnreadableFile, source.to_string(), file)];
    Ok(FileLog { quarantined, ..FileLog::default() })
}

/// What was read is not what was hashed: the fingerprint would name other rows.
pub(super) fn changed(file: &LogFile) -> Error {
    Error::Source {
        path: file.source.clone(),
        reason: "changed while it was read".to_owned(),
        code: Code::SourceChanged,
    }
}

/// Unix seconds, as scaffolds stamp them, in microseconds.
pub(super) fn micros(seconds: f64) -> Option<i64> {
    let micros = seconds * 1e6;
    (micros.is_finite() && micros.abs() < 9e18).then_some(micros.round() as i64)
}

/// One of the words that [`answer::operator`] gives.
fn operator<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Operator>, D::Error> {
    let Some(word) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let known = answer::OPERATORS.into_iter().find(|known| *known == word);
    known.map(Some).ok_or_else(|| serde::de::Error::custom(format!("`{word}` is no operator")))
}

/// Numbers by their bits: JSON has no word for those that are none.
mod bits {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(number: &Option<f64>, to: S) -> Result<S::Ok, S::Error> {
        number.map(f64::to_bits).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
        Ok(Option::<u64>::deserialize(from)?.map(f64::from_bits))
    }
}

/// Codes by their words, such as `F0301`.
mod code_word {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    use crate::code::Code;

    pub(super) fn serialize<S: Serializer>(code: &Code, to: S) -> Result<S::Ok, S::Error> {
        code.to_string().serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Code, D::Error> {
        let word = String::deserialize(from)?;
        Code::named(&word).ok_or_else(|| D::Error::custom(format!("`{word}` is no code")))
    }
}

//! A record: one mention of a candidate in a log, with its long texts replaced by their digests.

use std::path::Path;
use std::sync::Arc;

use finch_core::replay::How;
use finch_core::{Digest, Kind};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

use super::assess::Failure;
use super::{LogFile, json, pickle};
use crate::catalog::Direction;
use crate::code::Code;
use crate::error::{Error, Result};

/// A program as a record refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ProgramRef {
    /// Digest of the canonical text.
    pub id: Digest,
    /// Plain BLAKE3 of the text as logged.
    pub raw: Digest,
}

/// How a step was made: as [`finch_core::replay::Edit`] names it, or a crossover.
pub type Operator = &'static str;

/// Whether an answer, applied to a parent, gives the child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replayed {
    /// The program that it was applied to; none where it gives the same for all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<Digest>,
    /// The way that gives the child.
    #[serde(with = "how")]
    pub exact: Option<How>,
    /// Nothing in the answer edits.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub no_edit: bool,
    /// The answer holds marker-like text that is no block.
    pub marker_like: bool,
}

impl Replayed {
    /// Whether it says something of a parent.
    pub fn is_of(&self, parent: Option<Digest>) -> bool {
        self.parent.is_none() || self.parent == parent
    }
}

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
    /// Whether the answer makes the program, where the record has all that is needed to see it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub replayed: Option<Replayed>,
    /// True when the program was not logged, and was made from the answer and the program that its prompt shows.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rebuilt: bool,
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
    /// Candidates that may be its parents, where the scaffold names none: the population that it was made from.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub pool: Vec<String>,
    /// The direction of its score, where the log says it of each candidate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// The run that the log itself names; ids of one name do not meet those of another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The task that the log itself names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub task: Option<String>,
    /// That task's domain.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub domain: Option<String>,
    /// The file of the log that it stands in, where a log has several.
    #[serde(default, skip_serializing_if = "is_first")]
    pub part: u32,
    /// The file, relative to the source entry.
    #[serde(skip)]
    pub source: Arc<str>,
    /// Byte offset or row id in it.
    pub offset: u64,
    /// Digest of the record's bytes: breaks ties by content, never by path.
    pub digest: Option<Digest>,
}

impl Record {
    /// A digest of what it says, from its ids and scalars and the digests of its texts.
    pub(super) fn content(&self) -> Digest {
        let number = |number: Option<i64>| number.map_or(String::new(), |number| number.to_string());
        let mut fields = Kind::Unit.fields().text("record").text(&self.native_id);
        for id in self.parents.iter().chain(&self.copy_of) {
            fields = fields.text(id);
        }
        for scalar in [self.iteration, self.island, self.generation, self.created_at] {
            fields = fields.text(&number(scalar));
        }
        let texts = [self.feedback, self.system_prompt, self.user_prompt, self.reasoning, self.response];
        for id in texts.into_iter().chain([self.program.map(|program| program.raw)]) {
            fields = fields.bytes(id.as_ref().map_or(&[], |id| id.as_bytes()));
        }
        for metrics in [&self.metrics, &self.parent_metrics] {
            fields = fields.text(&finch_core::manifest::canonical_json(&Value::Object(metrics.clone())));
        }
        fields.finish()
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_first(part: &u32) -> bool {
    *part == 0
}

/// A proposal that was never evaluated, or not kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// The candidate that it started from.
    pub parent: Option<String>,
    /// A candidate that the same log speaks of, for logs that do not say which one it started from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub beside: Option<String>,
    /// The run that the log itself names.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// The scaffold's iteration.
    pub iteration: Option<i64>,
    /// Why it was not kept.
    pub error: Option<String>,
    /// The answer.
    pub response: Option<Digest>,
    /// Scores, where there are any.
    pub scores: Map<String, Value>,
    /// The file of the log that it stands in, where a log has several.
    #[serde(default, skip_serializing_if = "is_first")]
    pub part: u32,
    /// The file, relative to the source entry.
    #[serde(skip)]
    pub source: Arc<str>,
    /// Byte offset or row id in it.
    pub offset: u64,
    /// Digest of the attempt's bytes.
    pub digest: Option<Digest>,
}

/// What a log says of its whole run.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// The scaffold's version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// The scaffold's configuration as canonical JSON, without what may be a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config: Option<String>,
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
    /// Its first bytes, as text.
    pub excerpt: String,
    /// Its bytes, as many as are kept; none for a file that was not read.
    #[serde(with = "raw_bytes")]
    pub raw: Vec<u8>,
    /// The file of the log that it stands in, where a log has several.
    #[serde(default, skip_serializing_if = "is_first")]
    pub part: u32,
    /// The file, relative to the source entry.
    #[serde(skip)]
    pub source: Arc<str>,
    /// Byte offset or row id in it.
    pub offset: u64,
    /// Digest of the record.
    pub digest: Digest,
}

/// Bytes of a record that quarantine keeps; more of it is found by its place.
const RAW_BYTES: usize = 1 << 20;

/// Everything that one log yields.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FileLog {
    /// Mentions of candidates.
    pub records: Vec<Record>,
    /// Proposals that never became candidates.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Attempt>,
    /// What it says of its run.
    #[serde(default)]
    pub about: About,
    /// Fields that a user's mapping names and that no record has.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unfound: Vec<String>,
    /// What could not be read.
    pub quarantined: Vec<Quarantined>,
    /// Characters that were no text and became U+FFFD.
    pub replaced: u64,
    /// True when the file may say more another time, so that this is not worth remembering.
    #[serde(skip)]
    pub passing: bool,
}

/// Bad lines of one log that are told one by one; behind them, lines that follow each other are one stretch.
const TOLD: usize = 1000;

impl FileLog {
    /// Keeps out a line. A log may be millions of lines of something else.
    pub(super) fn bad_line(&mut self, bad: Quarantined) {
        let told = self.quarantined.len();
        let Some(last) = self.quarantined.last_mut().filter(|last| told >= TOLD && last.code == bad.code)
        else {
            self.quarantined.push(bad);
            return;
        };
        // What stands between two lines is their break; what was told before its turn is no neighbour.
        let end = last.offset + last.bytes;
        if bad.offset < end || bad.offset > end + 2 {
            self.quarantined.push(bad);
            return;
        }
        last.bytes = bad.offset + bad.bytes - last.offset;
        last.digest = Kind::Quarantine.fields().digest(last.digest).digest(bad.digest).finish();
        if last.raw.len() < RAW_BYTES {
            last.raw.push(b'\n');
            let room = (RAW_BYTES - last.raw.len()).min(bad.raw.len());
            last.raw.extend_from_slice(&bad.raw[..room]);
        }
    }
}

/// Levels of a value that JSON readers take inside another document; serde_json takes 128 in all.
const DEEPEST: u32 = 100;

impl FileLog {
    /// Whether a value in it is nested too deep to be read back from where it is kept.
    pub fn is_deep(&self) -> bool {
        let of_records = self.records.iter().flat_map(|record| [&record.metrics, &record.parent_metrics]);
        let mut all = of_records.chain(self.attempts.iter().map(|attempt| &attempt.scores));
        all.any(|values| values.values().any(|value| is_deeper(value, DEEPEST)))
    }
}

fn is_deeper(value: &Value, than: u32) -> bool {
    let inside = |value: &Value| than == 0 || is_deeper(value, than - 1);
    match value {
        Value::Array(items) => items.iter().any(inside),
        Value::Object(fields) => fields.values().any(inside),
        _ => false,
    }
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
            raw: bytes[..bytes.len().min(RAW_BYTES)].to_vec(),
            part: 0,
            source: file.source.clone(),
            offset,
            digest: Digest::of_bytes(bytes),
        }
    }

    /// The same, in another file of the log.
    #[must_use]
    pub fn in_part(mut self, file: &LogFile, part: u32) -> Self {
        self.source = file.source_of(part);
        self.part = part;
        self
    }

    /// A quarantined stretch that is no JSON.
    pub fn not_json(error: &json::JsonError, file: &LogFile, offset: u64, bytes: &[u8]) -> Self {
        let code = if error.truncated { Code::Truncated } else { Code::NotJson };
        Self::new(code, error.to_string(), file, offset, bytes)
    }

    /// A pickle that cannot be decoded.
    pub fn pickle(error: &pickle::PickleError, file: &LogFile, bytes: &[u8]) -> Self {
        let code = match error.kind {
            pickle::PickleErrorKind::Truncated => Code::Truncated,
            pickle::PickleErrorKind::TooLarge => Code::TooLarge,
            _ => Code::BadPickle,
        };
        Self::new(code, error.to_string(), file, 0, bytes)
    }

    /// A pickle that means more than is taken out of one.
    pub fn spent(file: &LogFile, bytes: &[u8]) -> Self {
        Self::new(
            Code::TooLarge,
            "the pickle means more than is taken out of one of its size",
            file,
            0,
            bytes,
        )
    }

    /// A quarantined file that was not read, or not to its end.
    pub fn file(code: Code, reason: impl Into<String>, file: &LogFile) -> Self {
        Self {
            code,
            reason: reason.into(),
            bytes: file.bytes,
            excerpt: String::new(),
            raw: Vec::new(),
            part: 0,
            source: file.source.clone(),
            offset: 0,
            digest: file.digest.unwrap_or_else(|| Kind::Quarantine.of_text("no content")),
        }
    }
}

/// A file that looks like a log and is none that finch reads.
pub(super) fn foreign(file: &LogFile) -> FileLog {
    let extension = Path::new(&*file.source).extension().and_then(|e| e.to_str()).unwrap_or("");
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
        path: file.source.to_string(),
        reason: "changed while it was read".to_owned(),
        code: Code::SourceChanged,
    }
}

/// Unix seconds, as scaffolds stamp them, in microseconds.
pub(super) fn micros(seconds: f64) -> Option<i64> {
    let micros = seconds * 1e6;
    (micros.is_finite() && micros.abs() < 9e18).then_some(micros.round() as i64)
}

/// One of the words for operators.
fn operator<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Operator>, D::Error> {
    let Some(word) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
    let known = ["diff", "rewrite", "crossover", "unknown"].into_iter().find(|known| *known == word);
    known.map(Some).ok_or_else(|| serde::de::Error::custom(format!("`{word}` is no operator")))
}

/// Bytes as text, one character a byte, so that what is text stays readable.
mod raw_bytes {
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&bytes.iter().map(|&byte| char::from(byte)).collect::<String>())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        let text = String::deserialize(from)?;
        text.chars().map(|c| u8::try_from(u32::from(c)).map_err(D::Error::custom)).collect()
    }
}

/// Ways by their names.
mod how {
    use finch_core::replay::How;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    pub(super) fn serialize<S: Serializer>(how: &Option<How>, to: S) -> Result<S::Ok, S::Error> {
        how.map(How::name).serialize(to)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<How>, D::Error> {
        let Some(word) = Option::<String>::deserialize(from)? else { return Ok(None) };
        let known = How::ALL.into_iter().find(|how| how.name() == word);
        known.map(Some).ok_or_else(|| D::Error::custom(format!("`{word}` is no way to read an answer")))
    }
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

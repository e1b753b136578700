//! The trainer's events as TensorBoard reads them: the numbers of steps and evaluations as scalars.
//!
//! The log says the same and more; this is a view of it for people who compare trainings, and nothing in finch reads
//! it. A file is a sequence of records (TFRecord): a length, its checksum, a protobuf `Event`, its checksum. Of
//! protobuf that takes seven fields, so they are written by hand. A process never writes into a file that is there:
//! one that was killed may have left half a record, behind which no reader finds anything. TensorBoard reads the files
//! of a folder in the order of their names, which begin with the time; what an earlier process did beyond the
//! checkpoint that a later one went on from is withdrawn by the record with which the later one begins.

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use finch_core::Digest;
use finch_core::training::{Eval, Event, Step};

use crate::error::{Error, Result};

/// The most characters of a name in a tag.
const LONGEST: usize = 120;

/// A folder of event files, and this process's file in it.
pub struct Board {
    folder: PathBuf,
    /// Made with the first scalars: a process that finds everything done must not withdraw any of it.
    file: Option<(File, PathBuf)>,
    resumed_from: Option<u64>,
}

impl Board {
    /// Makes the folder where it is missing.
    pub fn open(folder: &Path) -> Result<Self> {
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        Ok(Self { folder: folder.to_path_buf(), file: None, resumed_from: None })
    }

    /// Adds what an event has to show, whole: nothing is held back for a later write.
    pub fn event(&mut self, event: &Event) -> Result<()> {
        let (step, scalars) = match event {
            Event::Start(start) => {
                self.resumed_from = start.resumed_from;
                return Ok(());
            }
            Event::Step(step) => (step.step, of_step(step)),
            Event::Eval(eval) => (eval.step, of_eval(eval)),
            Event::Skipped(skipped) => (skipped.step, vec![("train/skipped".to_owned(), 1.0)]),
            Event::Checkpoint { .. } | Event::Finish(_) | Event::Error(_) => return Ok(()),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let mut bytes = Vec::new();
        let (file, path) = match &mut self.file {
            Some(open) => open,
            none => {
                bytes = beginning(now, self.resumed_from);
                none.insert(create(&self.folder, now.as_secs())?)
            }
        };
        let summary = scalars.iter().fold(Message::default(), |summary, (tag, value)| {
            // TensorBoard's scalars are single precision.
            summary.bytes(1, &Message::default().text(1, tag).float(2, *value as f32).0)
        });
        bytes.extend(record(Message::event(now).int(2, step).bytes(5, &summary.0)));
        file.write_all(&bytes).map_err(Error::io("write", path))
    }
}

/// What a file begins with: the version of the format, and from which step on earlier files are void.
fn beginning(now: Duration, resumed_from: Option<u64>) -> Vec<u8> {
    let mut bytes = record(Message::event(now).text(3, "brain.Event:2"));
    if let Some(step) = resumed_from {
        // A `SessionLog` with the status `START`: readers forget what they read of this step and later ones.
        let session = Message::default().int(1, 1);
        bytes.extend(record(Message::event(now).int(2, step.saturating_add(1)).bytes(7, &session.0)));
    }
    bytes
}

/// A new file. Where a process of the same number began in the same second, as in containers, it takes the next one.
fn create(folder: &Path, mut seconds: u64) -> Result<(File, PathBuf)> {
    loop {
        let path = folder.join(format!("events.out.tfevents.{seconds}.{}.finch", std::process::id()));
        match File::options().write(true).create_new(true).open(&path) {
            Ok(file) => return Ok((file, path)),
            Err(source) if source.kind() == ErrorKind::AlreadyExists => seconds += 1,
            Err(source) => return Err(Error::io("create", &path)(source)),
        }
    }
}

fn of_step(step: &Step) -> Vec<(String, f64)> {
    let mut scalars = vec![
        ("train/loss", step.loss),
        ("train/grad_norm", step.grad_norm),
        ("train/lr", step.lr),
        ("train/tokens_per_second", step.tokens_per_second),
        ("train/trained_tokens", step.trained_tokens as f64),
        ("train/tflops", step.tflops),
        ("memory/process", step.memory as f64),
    ];
    scalars.extend(step.mfu.map(|mfu| ("train/mfu", mfu)));
    scalars.extend(step.device_memory.map(|bytes| ("memory/device", bytes as f64)));
    let phases = step.phase_ms.iter().map(|(name, ms)| (format!("phase_ms/{}", safe(name)), *ms));
    scalars.into_iter().map(|(tag, value)| (tag.to_owned(), value)).chain(phases).collect()
}

fn of_eval(eval: &Eval) -> Vec<(String, f64)> {
    let tag = |kind: &str, split: &str, name: &str| format!("held_out/{kind}/{}/{}", safe(split), safe(name));
    let tasks = eval.tasks.iter().map(|task| (tag("task", &task.split, &task.task), task.loss));
    let outcomes =
        eval.outcomes.iter().map(|outcome| (tag("outcome", &outcome.split, &outcome.outcome), outcome.loss));
    let all = std::iter::once(("held_out/loss".to_owned(), eval.loss));
    all.chain(tasks).chain(outcomes).collect()
}

/// A name from a log as a part of a tag: without control characters, not too long, and still unlike any other's.
fn safe(name: &str) -> String {
    let escaped = name.escape_debug().to_string();
    if escaped.chars().count() <= LONGEST {
        return escaped;
    }
    let beginning: String = escaped.chars().take(LONGEST - 13).collect();
    format!("{beginning}~{}", Digest::of_bytes(name.as_bytes()).short())
}

/// A protobuf message in the making. Fields are written in the order of the calls.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    /// An `Event` with its time.
    fn event(now: Duration) -> Self {
        Self::default().key(1, 1).raw(&now.as_secs_f64().to_le_bytes())
    }

    fn int(self, field: u64, value: u64) -> Self {
        self.key(field, 0).varint(value)
    }

    fn float(self, field: u64, value: f32) -> Self {
        self.key(field, 5).raw(&value.to_le_bytes())
    }

    fn text(self, field: u64, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    fn bytes(self, field: u64, bytes: &[u8]) -> Self {
        self.key(field, 2).varint(bytes.len() as u64).raw(bytes)
    }

    /// The number of a field and how its value is encoded.
    fn key(self, field: u64, wire: u64) -> Self {
        self.varint(field << 3 | wire)
    }

    fn varint(mut self, mut value: u64) -> Self {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
        self
    }

    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }
}

/// A message with its length and checksums.
fn record(Message(message): Message) -> Vec<u8> {
    let length = (message.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend_from_slice(&masked(crc32c(&length)).to_le_bytes());
    record.extend_from_slice(&message);
    record.extend_from_slice(&masked(crc32c(&message)).to_le_bytes());
    record
}

/// A checksum as TFRecord stores it, so that a record inside a record does not have a checksum that is its own.
fn masked(crc: u32) -> u32 {
    crc.rotate_right(15).wrapping_add(0xa282_ead8)
}

/// CRC-32C (RFC 3720). The crates that have it come with the tests' S3 server; the trainer depends on none of them.
fn crc32c(bytes: &[u8]) -> u32 {
    const TABLE: [u32; 256] = {
        let mut table = [0; 256];
        let mut byte = 0;
        while byte < 256 {
            let (mut rest, mut bit) = (byte as u32, 0);
            while bit < 8 {
                rest = rest >> 1 ^ if rest & 1 == 1 { 0x82f6_3b78 } else { 0 };
                bit += 1;
            }
            table[byte] = rest;
            byte += 1;
        }
        table
    };
    !bytes.iter().fold(!0, |crc: u32, byte| crc >> 8 ^ TABLE[usize::from(crc as u8 ^ byte)])
}

#[cfg(test)]
mod tests;

//! Where long texts go while logs are read: programs and other texts, each once. Beside them what each log file said, for
//! [`super::parsed`].
//!
//! Readers run on all threads and hand over every program and prompt as soon as they see it, so memory holds
//! ids and scalars only. The order of arrival does not matter: the final tables are sorted by id.

pub mod pile;
pub mod sheet;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use finch_core::canon::{canonical, program_id, text_id};
use finch_core::{Digest, Error};

use super::language::language;
use super::record::{About, Attempt, FileLog, ProgramRef, Quarantined, Record};
use crate::error::Result;
use pile::{Blocks, Pile};
use sheet::Sheet;

/// The file of programs, labelled with their languages.
pub const PROGRAMS: &str = "programs.pile";
/// The file of other texts.
pub const TEXTS: &str = "texts.pile";
/// The file of what each log file said.
pub const LOGS: &str = "logs.parquet";

/// The programs and texts seen so far.
pub struct Scratch {
    folder: PathBuf,
    programs: Pile,
    texts: Pile,
    logs: Sheet,
    /// Programs by their raw text and label: a step repeats its parent's text, and most work on a text is for its first.
    seen: Mutex<HashMap<(Digest, Option<String>), Digest>>,
}

/// Records of a file that are one row of its sheet.
const RECORDS_A_ROW: usize = 500;

impl Scratch {
    /// Scratch files in a folder, which must exist.
    pub fn create(folder: &Path) -> Result<Self> {
        Ok(Self {
            folder: folder.to_path_buf(),
            programs: Pile::create(folder.join(PROGRAMS))?,
            texts: Pile::create(folder.join(TEXTS))?,
            logs: Sheet::create(folder.join(LOGS))?,
            seen: Mutex::default(),
        })
    }

    /// The folder, for readers that need files of their own.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps a program; the canonical text is what is stored. `label` is the scaffold's word for its language.
    pub fn program(&self, code: &str, label: Option<&str>) -> Result<ProgramRef> {
        let raw = Digest::of_bytes(code.as_bytes());
        let key = (raw, label.map(str::to_owned));
        let seen = || self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&id) = seen().get(&key) {
            return Ok(ProgramRef { id, raw });
        }
        let language = language(code, label);
        let text = canonical(code);
        let id = program_id(&text);
        // The language is part of the key, and the lowest wins in the end: which record came first must not
        // decide anything.
        if self.programs.is_new(id, language) {
            self.programs.add(id, language, &text)?;
        }
        seen().insert(key, id);
        Ok(ProgramRef { id, raw })
    }

    /// Keeps a text; nothing for an empty one.
    pub fn text(&self, text: &str) -> Result<Option<Digest>> {
        if text.is_empty() {
            return Ok(None);
        }
        let id = text_id(text);
        if self.texts.is_new(id, "") {
            self.texts.add(id, "", text)?;
        }
        Ok(Some(id))
    }

    /// Keeps what a file said, under the key of its content.
    pub fn log(&self, key: Digest, log: &FileLog) -> Result<()> {
        // One log that cannot be read back would make the whole pack unreadable; it is read again each time.
        if log.is_deep() {
            return Ok(());
        }
        let parts = log.records.len().div_ceil(RECORDS_A_ROW).max(1);
        if !self.logs.is_new(key) {
            return Ok(());
        }
        // The parts of a log follow each other in the file.
        let mut rows = Vec::with_capacity(parts);
        for part in 0..parts {
            let records = log.records.iter().skip(part * RECORDS_A_ROW).take(RECORDS_A_ROW).collect();
            let rest = part == 0;
            let part_of = LogPart {
                records,
                attempts: if rest { &log.attempts } else { &[] },
                about: rest.then_some(&log.about),
                unfound: if rest { &log.unfound } else { &[] },
                quarantined: if rest { &log.quarantined } else { &[] },
                replaced: if rest { log.replaced } else { 0 },
            };
            let text = serde_json::to_string(&part_of)
                .map_err(|source| Error::Manifest { path: self.folder.join(LOGS), source })?;
            rows.push(text);
        }
        let key = key.to_string();
        let parts = parts as i64;
        self.logs.add((0..).zip(&rows).map(|(part, log)| sheet::Row { key: &key, log, part, parts }))
    }

    /// Adds what another scratch folder holds, as far as it is new.
    pub(super) fn add_pack(&self, pack: &Path) -> Result<()> {
        for (file, pile) in [(PROGRAMS, &self.programs), (TEXTS, &self.texts)] {
            Blocks::open(&pack.join(file))?.each(|row| match pile.is_new(row.id, row.label) {
                true => pile.add(row.id, row.label, row.text),
                false => Ok(()),
            })?;
        }
        // The parts of a log follow each other; the first one decides for the rest.
        let mut taken = false;
        for batch in sheet::batches(&pack.join(LOGS))? {
            for row in sheet::rows(&batch?).unwrap_or_default() {
                if row.part == 0 {
                    taken = row.key.parse().is_ok_and(|key| self.logs.is_new(key));
                }
                if taken {
                    self.logs.add(std::iter::once(row))?;
                }
            }
        }
        Ok(())
    }

    /// Ends writing. The files are [`PROGRAMS`], [`TEXTS`] and [`LOGS`] in the folder.
    pub fn finish(self) -> Result<()> {
        self.programs.finish()?;
        self.texts.finish()?;
        self.logs.finish()
    }
}

/// A part of a [`FileLog`], in its form.
#[derive(serde::Serialize)]
struct LogPart<'a> {
    records: Vec<&'a Record>,
    #[serde(skip_serializing_if = "<[Attempt]>::is_empty")]
    attempts: &'a [Attempt],
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<&'a About>,
    #[serde(skip_serializing_if = "<[String]>::is_empty")]
    unfound: &'a [String],
    quarantined: &'a [Quarantined],
    replaced: u64,
}

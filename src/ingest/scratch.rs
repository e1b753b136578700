//! Where long texts go while logs are read: a file, each text once. Beside it what each log file said, for
//! [`super::parsed`].
//!
//! Readers run on all threads and hand over every program and prompt as soon as they see it, so memory holds
//! ids and scalars only. The order of arrival does not matter: the final tables are sorted by id.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, Int64Array, Int64Builder, RecordBatch, StringArray, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use finch_core::canon::{canonical, program_id, text_id};
use finch_core::shard::read;
use finch_core::{Digest, Error};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::language::language;
use super::record::{About, Attempt, FileLog, ProgramRef, Quarantined, Record};
use crate::error::Result;

/// The file of programs.
pub const PROGRAMS: &str = "programs.parquet";
/// The file of other texts.
pub const TEXTS: &str = "texts.parquet";
/// The file of what each log file said.
pub const LOGS: &str = "logs.parquet";

/// Bytes of text that are collected before they are written.
const FLUSH_BYTES: usize = 8 << 20;

/// The programs and texts seen so far.
pub struct Scratch {
    folder: PathBuf,
    programs: Sheet<(Digest, String)>,
    texts: Sheet<Digest>,
    logs: Sheet<Digest>,
    /// Programs by their raw text and label: a step repeats its parent's text, and most work on a text is for its first.
    seen: Mutex<HashMap<(Digest, Option<String>), Digest>>,
}

/// Takes the texts and the numbers of a row.
type Take<'a> = &'a mut dyn FnMut(&[&str], &[i64]) -> Result<()>;

/// Records of a file that are one row of its sheet.
const RECORDS_A_ROW: usize = 500;

impl Scratch {
    /// Scratch files in a folder, which must exist.
    pub fn create(folder: &Path) -> Result<Self> {
        let programs = ["program_id", "language", "code"];
        let texts = ["text_id", "text"];
        Ok(Self {
            folder: folder.to_path_buf(),
            programs: Sheet::create(folder.join(PROGRAMS), &programs, &["bytes", "lines"])?,
            texts: Sheet::create(folder.join(TEXTS), &texts, &[])?,
            logs: Sheet::create(folder.join(LOGS), &["key", "log"], &["part", "parts"])?,
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
        if self.programs.is_new((id, language.to_owned())) {
            let lines = text.lines().count() as i64;
            self.programs.add(&[&id.to_string(), language, &text], &[text.len() as i64, lines])?;
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
        if self.texts.is_new(id) {
            self.texts.add(&[&id.to_string(), text], &[])?;
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
            rows.push((text, [part as i64, parts as i64]));
        }
        let key = key.to_string();
        self.logs.add_all(rows.iter().map(|(text, numbers)| ([key.as_str(), text.as_str()], numbers)))
    }

    /// Adds what another scratch folder holds, as far as it is new.
    pub(super) fn add_pack(&self, pack: &Path) -> Result<()> {
        let each = |file: &str, take: Take<'_>| -> Result<()> {
            let path = pack.join(file);
            for batch in read(&path)? {
                let batch =
                    batch.map_err(|source| Error::Arrow { table: path.display().to_string(), source })?;
                let texts: Vec<&StringArray> =
                    batch.columns().iter().filter_map(|column| column.as_string_opt()).collect();
                let numbers: Vec<&Int64Array> =
                    batch.columns().iter().filter_map(|column| column.as_primitive_opt()).collect();
                for row in 0..batch.num_rows() {
                    let texts: Vec<&str> = texts.iter().map(|column| column.value(row)).collect();
                    let numbers: Vec<i64> = numbers.iter().map(|column| column.value(row)).collect();
                    take(&texts, &numbers)?;
                }
            }
            Ok(())
        };
        let id = |text: &str| text.parse::<Digest>().unwrap_or_else(|_| text_id(text));
        each(
            PROGRAMS,
            &mut |texts, numbers| match self.programs.is_new((id(texts[0]), texts[1].to_owned())) {
                true => self.programs.add(texts, numbers),
                false => Ok(()),
            },
        )?;
        each(TEXTS, &mut |texts, numbers| match self.texts.is_new(id(texts[0])) {
            true => self.texts.add(texts, numbers),
            false => Ok(()),
        })?;
        // The parts of a log follow each other; the first one decides for the rest.
        let mut taken = false;
        each(LOGS, &mut |texts, numbers| {
            taken = if numbers[0] == 0 { self.logs.is_new(id(texts[0])) } else { taken };
            if taken { self.logs.add(texts, numbers) } else { Ok(()) }
        })
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

/// One scratch table: text columns, then whole-number columns. Threads add rows at the same time: one that fills the
/// buffer encodes it, while the others go on with the next.
struct Sheet<K> {
    path: PathBuf,
    seen: Mutex<HashSet<K>>,
    schema: SchemaRef,
    rows: Mutex<Rows>,
    writer: Mutex<ArrowWriter<File>>,
}

/// Rows that are not written yet.
struct Rows {
    texts: Vec<StringBuilder>,
    numbers: Vec<Int64Builder>,
    bytes: usize,
}

impl Rows {
    fn new(texts: usize, numbers: usize) -> Self {
        Self {
            texts: (0..texts).map(|_| StringBuilder::new()).collect(),
            numbers: (0..numbers).map(|_| Int64Builder::new()).collect(),
            bytes: 0,
        }
    }

    fn add(&mut self, texts: &[&str], numbers: &[i64]) {
        for (builder, text) in self.texts.iter_mut().zip(texts) {
            builder.append_value(text);
            self.bytes += text.len();
        }
        for (builder, number) in self.numbers.iter_mut().zip(numbers) {
            builder.append_value(*number);
        }
    }
}

impl<K: Eq + std::hash::Hash> Sheet<K> {
    fn create(path: PathBuf, texts: &[&str], numbers: &[&str]) -> Result<Self> {
        let fields: Vec<Field> = texts
            .iter()
            .map(|name| Field::new(*name, DataType::Utf8, false))
            .chain(numbers.iter().map(|name| Field::new(*name, DataType::Int64, false)))
            .collect();
        let schema = Arc::new(Schema::new(fields));
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        let level = ZstdLevel::try_new(1).expect("1 is a zstd level");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_dictionary_enabled(false)
            .build();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(|source| Error::Parquet { path: path.clone(), source })?;
        Ok(Self {
            path,
            seen: Mutex::default(),
            schema,
            rows: Mutex::new(Rows::new(texts.len(), numbers.len())),
            writer: Mutex::new(writer),
        })
    }

    fn is_new(&self, key: K) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
    }

    fn add(&self, texts: &[&str], numbers: &[i64]) -> Result<()> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        rows.add(texts, numbers);
        self.write_full(rows)
    }

    /// Adds rows that stay next to each other.
    fn add_all<'a, const T: usize, const N: usize>(
        &self,
        all: impl Iterator<Item = ([&'a str; T], &'a [i64; N])>,
    ) -> Result<()> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for (texts, numbers) in all {
            rows.add(&texts, numbers);
        }
        self.write_full(rows)
    }

    /// Writes the rows when there are enough of them. The writer is taken before the rows are let go, so that what is
    /// added later is written later.
    fn write_full(&self, mut rows: MutexGuard<'_, Rows>) -> Result<()> {
        if rows.bytes < FLUSH_BYTES {
            return Ok(());
        }
        let next = Rows::new(rows.texts.len(), rows.numbers.len());
        let full = std::mem::replace(&mut *rows, next);
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        drop(rows);
        self.write(full, writer)
    }

    fn write(&self, mut rows: Rows, mut writer: MutexGuard<'_, ArrowWriter<File>>) -> Result<()> {
        let columns = rows
            .texts
            .iter_mut()
            .map(|builder| Arc::new(builder.finish()) as _)
            .chain(rows.numbers.iter_mut().map(|builder| Arc::new(builder.finish()) as _))
            .collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|source| Error::Arrow { table: "scratch".to_owned(), source })?;
        writer
            .write(&batch)
            .and_then(|()| writer.flush())
            .map_err(|source| Error::Parquet { path: self.path.clone(), source }.into())
    }

    fn finish(self) -> Result<()> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        let rest = std::mem::replace(&mut *rows, Rows::new(0, 0));
        drop(rows);
        self.write(rest, self.writer.lock().unwrap_or_else(PoisonError::into_inner))?;
        let writer = self.writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        let path = self.path;
        writer.close().map_err(|source| Error::Parquet { path, source })?;
        Ok(())
    }
}

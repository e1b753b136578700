//! Where long texts go while logs are read: a temporary file, each text once.
//!
//! Readers run on all threads and hand over every program and prompt as soon as they see it, so memory holds
//! ids and scalars only. The order of arrival does not matter: the final tables are sorted by id.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use finch_core::canon::{canonical, program_id, text_id};
use finch_core::{Digest, Error};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::language::language;
use super::record::ProgramRef;
use crate::error::Result;

/// Bytes of text that are collected before they are written.
const FLUSH_BYTES: usize = 8 << 20;

/// The programs and texts seen so far.
pub struct Scratch {
    folder: PathBuf,
    programs: Mutex<Sheet<(Digest, String)>>,
    texts: Mutex<Sheet<Digest>>,
}

impl Scratch {
    /// Scratch files in a folder, which must exist.
    pub fn create(folder: &Path) -> Result<Self> {
        let programs = ["program_id", "language", "code"];
        let texts = ["text_id", "text"];
        Ok(Self {
            folder: folder.to_path_buf(),
            programs: Mutex::new(Sheet::create(
                folder.join("programs.parquet"),
                &programs,
                &["bytes", "lines"],
            )?),
            texts: Mutex::new(Sheet::create(folder.join("texts.parquet"), &texts, &[])?),
        })
    }

    /// The folder, for readers that need files of their own.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Keeps a program; the canonical text is what is stored. `label` is the scaffold's word for its language.
    pub fn program(&self, code: &str, label: Option<&str>) -> Result<ProgramRef> {
        let language = language(code, label);
        let text = canonical(code);
        let id = program_id(&text);
        let mut programs = self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        // The language is part of the key, and the lowest wins in the end: which record came first must not
        // decide anything.
        if programs.is_new((id, language.to_owned())) {
            let lines = text.lines().count() as i64;
            programs.add(&[&id.to_string(), language, &text], &[text.len() as i64, lines])?;
        }
        Ok(ProgramRef { id, raw: Digest::of_bytes(code.as_bytes()) })
    }

    /// Keeps a text; nothing for an empty one.
    pub fn text(&self, text: &str) -> Result<Option<Digest>> {
        if text.is_empty() {
            return Ok(None);
        }
        let id = text_id(text);
        let mut texts = self.texts.lock().unwrap_or_else(PoisonError::into_inner);
        if texts.is_new(id) {
            texts.add(&[&id.to_string(), text], &[])?;
        }
        Ok(Some(id))
    }

    /// Ends writing; returns the files of programs and of texts.
    pub fn finish(self) -> Result<(PathBuf, PathBuf)> {
        let programs = self.programs.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
        let texts = self.texts.into_inner().unwrap_or_else(PoisonError::into_inner).finish()?;
        Ok((programs, texts))
    }
}

/// One scratch table: text columns, then whole-number columns.
struct Sheet<K> {
    path: PathBuf,
    seen: HashSet<K>,
    schema: SchemaRef,
    texts: Vec<StringBuilder>,
    numbers: Vec<Int64Builder>,
    bytes: usize,
    writer: ArrowWriter<File>,
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
            seen: HashSet::new(),
            texts: texts.iter().map(|_| StringBuilder::new()).collect(),
            numbers: numbers.iter().map(|_| Int64Builder::new()).collect(),
            schema,
            bytes: 0,
            writer,
        })
    }

    fn is_new(&mut self, key: K) -> bool {
        self.seen.insert(key)
    }

    fn add(&mut self, texts: &[&str], numbers: &[i64]) -> Result<()> {
        for (builder, text) in self.texts.iter_mut().zip(texts) {
            builder.append_value(text);
            self.bytes += text.len();
        }
        for (builder, number) in self.numbers.iter_mut().zip(numbers) {
            builder.append_value(*number);
        }
        if self.bytes >= FLUSH_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        self.bytes = 0;
        let columns = self
            .texts
            .iter_mut()
            .map(|builder| Arc::new(builder.finish()) as _)
            .chain(self.numbers.iter_mut().map(|builder| Arc::new(builder.finish()) as _))
            .collect();
        let batch = RecordBatch::try_new(self.schema.clone(), columns)
            .map_err(|source| Error::Arrow { table: "scratch".to_owned(), source })?;
        self.writer
            .write(&batch)
            .and_then(|()| self.writer.flush())
            .map_err(|source| Error::Parquet { path: self.path.clone(), source }.into())
    }

    fn finish(mut self) -> Result<PathBuf> {
        self.flush()?;
        let path = self.path;
        self.writer.close().map_err(|source| Error::Parquet { path: path.clone(), source })?;
        Ok(path)
    }
}

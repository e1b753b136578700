//! What each log file said, as rows of a Parquet file: a key, and a part of a [`FileLog`](super::FileLog) as JSON.

use std::collections::HashSet;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::{AsArray, Int64Builder, RecordBatch, StringBuilder};
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use finch_core::shard::read;
use finch_core::{Digest, Error};
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::Result;

/// Bytes of text that are collected before they are written.
const FLUSH_BYTES: usize = 8 << 20;

/// A part of what a file said.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The file's key.
    pub key: &'a str,
    /// The part as JSON.
    pub log: &'a str,
    /// Which part it is, from zero.
    pub part: i64,
    /// How many parts the file has.
    pub parts: i64,
}

/// The file being written. Threads add rows at the same time: one that fills the buffer encodes it, while the others go
/// on with the next.
pub(super) struct Sheet {
    path: PathBuf,
    seen: Mutex<HashSet<Digest>>,
    schema: SchemaRef,
    rows: Mutex<Rows>,
    writer: Mutex<ArrowWriter<File>>,
}

/// Rows that are not written yet.
#[derive(Default)]
struct Rows {
    keys: StringBuilder,
    logs: StringBuilder,
    part: Int64Builder,
    parts: Int64Builder,
    bytes: usize,
}

impl Sheet {
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        let text = |name: &str| Field::new(name, DataType::Utf8, false);
        let number = |name: &str| Field::new(name, DataType::Int64, false);
        let schema = Arc::new(Schema::new(vec![text("key"), text("log"), number("part"), number("parts")]));
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        let level = ZstdLevel::try_new(1).expect("1 is a zstd level");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_dictionary_enabled(false)
            .build();
        let writer = ArrowWriter::try_new(file, schema.clone(), Some(properties))
            .map_err(|source| Error::Parquet { path: path.clone(), source })?;
        let (rows, writer) = (Mutex::default(), Mutex::new(writer));
        Ok(Self { path, seen: Mutex::default(), schema, rows, writer })
    }

    pub(super) fn is_new(&self, key: Digest) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(key)
    }

    /// Adds rows, which stay next to each other.
    pub(super) fn add<'a>(&self, all: impl Iterator<Item = Row<'a>>) -> Result<()> {
        let mut rows = self.rows.lock().unwrap_or_else(PoisonError::into_inner);
        for row in all {
            rows.keys.append_value(row.key);
            rows.logs.append_value(row.log);
            rows.part.append_value(row.part);
            rows.parts.append_value(row.parts);
            rows.bytes += row.key.len() + row.log.len();
        }
        if rows.bytes < FLUSH_BYTES {
            return Ok(());
        }
        let full = std::mem::take(&mut *rows);
        // The writer is taken before the rows are let go, so that what is added later is written later.
        let writer = self.writer.lock().unwrap_or_else(PoisonError::into_inner);
        drop(rows);
        self.write(full, writer)
    }

    fn write(&self, mut rows: Rows, mut writer: MutexGuard<'_, ArrowWriter<File>>) -> Result<()> {
        let batch = RecordBatch::try_new(
            self.schema.clone(),
            vec![
                Arc::new(rows.keys.finish()),
                Arc::new(rows.logs.finish()),
                Arc::new(rows.part.finish()),
                Arc::new(rows.parts.finish()),
            ],
        )
        .map_err(|source| Error::Arrow { table: "logs".to_owned(), source })?;
        writer
            .write(&batch)
            .and_then(|()| writer.flush())
            .map_err(|source| Error::Parquet { path: self.path.clone(), source }.into())
    }

    pub(super) fn finish(self) -> Result<()> {
        let rest = std::mem::take(&mut *self.rows.lock().unwrap_or_else(PoisonError::into_inner));
        self.write(rest, self.writer.lock().unwrap_or_else(PoisonError::into_inner))?;
        let writer = self.writer.into_inner().unwrap_or_else(PoisonError::into_inner);
        let path = self.path;
        writer.close().map_err(|source| Error::Parquet { path, source })?;
        Ok(())
    }
}

/// The rows of a sheet, a batch at a time.
pub fn batches(path: &Path) -> Result<impl Iterator<Item = Result<RecordBatch>>> {
    let error = {
        let path = path.display().to_string();
        move |source| Error::Arrow { table: path.clone(), source }.into()
    };
    Ok(read(path)?.map(move |batch| batch.map_err(&error)))
}

/// The rows of a batch; `None` when it has other columns, or holes.
pub fn rows(batch: &RecordBatch) -> Option<Vec<Row<'_>>> {
    let text = |name: &str| batch.column_by_name(name)?.as_string_opt::<i32>();
    let number = |name: &str| batch.column_by_name(name)?.as_primitive_opt::<Int64Type>();
    let (keys, logs, part, parts) = (text("key")?, text("log")?, number("part")?, number("parts")?);
    let row = |at: usize| Row {
        key: keys.value(at),
        log: logs.value(at),
        part: part.value(at),
        parts: parts.value(at),
    };
    let whole = batch.columns().iter().all(|column| column.null_count() == 0);
    whole.then(|| (0..batch.num_rows()).map(row).collect())
}

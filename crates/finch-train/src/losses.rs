//! Losses as Parquet: one row an example and evaluation, or one row a token.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Float64Type, Int64Type};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use crate::error::{Error, Result};

/// The loss of one example at one point of training.
#[derive(Clone, Debug, PartialEq)]
pub struct ExampleLoss {
    /// The example.
    pub example_id: String,
    /// Steps done.
    pub step: u64,
    /// Trained tokens.
    pub tokens: u64,
    /// Mean negative log likelihood over them, in nats.
    pub loss: f64,
}

/// Writes examples' losses, sorted by step and example.
pub fn write(path: &Path, rows: &[ExampleLoss]) -> Result<()> {
    let mut sorted: Vec<&ExampleLoss> = rows.iter().collect();
    sorted.sort_by(|a, b| (a.step, &a.example_id).cmp(&(b.step, &b.example_id)));
    let columns: [(&str, ArrayRef); 4] = [
        ("example_id", Arc::new(StringArray::from_iter_values(sorted.iter().map(|row| &row.example_id)))),
        ("step", Arc::new(Int64Array::from_iter_values(sorted.iter().map(|row| row.step as i64)))),
        ("tokens", Arc::new(Int64Array::from_iter_values(sorted.iter().map(|row| row.tokens as i64)))),
        ("loss", Arc::new(Float64Array::from_iter_values(sorted.iter().map(|row| row.loss)))),
    ];
    let mut table = Table::create(path)?;
    table.add(columns)?;
    table.finish()
}

/// Reads what [`write()`] wrote.
pub fn read(path: &Path) -> Result<Vec<ExampleLoss>> {
    let error = |reason: String| Error::packs(format!("`{}`", path.display()), reason);
    let file = File::open(path).map_err(Error::io("open", path))?;
    let batches = ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|source| error(source.to_string()))?;
    let mut rows = Vec::new();
    for batch in batches {
        let batch = batch.map_err(|source| error(source.to_string()))?;
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| error(format!("it has no column `{name}`")))
        };
        let wrong = || error("a column has another type than it was written with".to_owned());
        let ids = column("example_id")?.as_string_opt::<i32>().ok_or_else(wrong)?;
        let steps = column("step")?.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let tokens = column("tokens")?.as_primitive_opt::<Int64Type>().ok_or_else(wrong)?;
        let losses = column("loss")?.as_primitive_opt::<Float64Type>().ok_or_else(wrong)?;
        rows.extend((0..batch.num_rows()).map(|row| ExampleLoss {
            example_id: ids.value(row).to_owned(),
            step: steps.value(row) as u64,
            tokens: tokens.value(row) as u64,
            loss: losses.value(row),
        }));
    }
    Ok(rows)
}

/// A file of tokens' losses in the making.
pub struct TokenLosses(Table);

impl TokenLosses {
    /// Starts a file; it appears under its name when it is finished.
    pub fn create(path: &Path) -> Result<Self> {
        Ok(Self(Table::create(path)?))
    }

    /// Adds the trained tokens of an example: position in the example, token id, negative log likelihood in nats.
    pub fn add(&mut self, example_id: &str, tokens: &[(i32, i32, f64)]) -> Result<()> {
        self.0.add([
            ("example_id", Arc::new(StringArray::from_iter_values(tokens.iter().map(|_| example_id)))),
            ("position", Arc::new(Int32Array::from_iter_values(tokens.iter().map(|token| token.0)))),
            ("token_id", Arc::new(Int32Array::from_iter_values(tokens.iter().map(|token| token.1)))),
            ("loss", Arc::new(Float64Array::from_iter_values(tokens.iter().map(|token| token.2)))),
        ])
    }

    /// Ends the file.
    pub fn finish(self) -> Result<()> {
        self.0.finish()
    }
}

/// A Parquet file that is written aside and renamed.
struct Table {
    path: PathBuf,
    aside: PathBuf,
    writer: Option<ArrowWriter<File>>,
}

impl Table {
    fn create(path: &Path) -> Result<Self> {
        let mut aside = path.as_os_str().to_owned();
        aside.push(".tmp");
        Ok(Self { path: path.to_path_buf(), aside: aside.into(), writer: None })
    }

    fn error(&self) -> impl Fn(parquet::errors::ParquetError) -> Error + use<> {
        let path = self.path.clone();
        move |source| Error::io("write", &path)(std::io::Error::other(source))
    }

    fn add<const N: usize>(&mut self, columns: [(&str, ArrayRef); N]) -> Result<()> {
        let batch = RecordBatch::try_from_iter(columns)
            .map_err(|source| Error::io("write", &self.path)(std::io::Error::other(source)))?;
        let error = self.error();
        if self.writer.is_none() {
            let file = File::create(&self.aside).map_err(Error::io("create", &self.aside))?;
            let level = ZstdLevel::try_new(3).map_err(&error)?;
            let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
            self.writer = Some(ArrowWriter::try_new(file, batch.schema(), Some(properties)).map_err(&error)?);
        }
        match &mut self.writer {
            Some(writer) => writer.write(&batch).map_err(error),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<()> {
        let error = self.error();
        let Some(writer) = self.writer.take() else { return Ok(()) };
        let file = writer.into_inner().map_err(error)?;
        file.sync_all().map_err(Error::io("sync", &self.aside))?;
        std::fs::rename(&self.aside, &self.path).map_err(Error::io("write", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses_come_back_sorted() {
        let folder = tempfile::tempdir().expect("temp dir");
        let path = folder.path().join("losses.parquet");
        let row = |id: &str, step| ExampleLoss { example_id: id.to_owned(), step, tokens: 3, loss: 0.5 };
        write(&path, &[row("b", 0), row("a", 9), row("a", 0)]).expect("write");
        let read = read(&path).expect("read");
        assert_eq!(read, [row("a", 0), row("b", 0), row("a", 9)]);
        write(&path, &[]).expect("an empty table is one");
        assert!(super::read(&path).expect("read").is_empty());
    }
}

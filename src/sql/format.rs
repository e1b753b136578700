//! Query results as text, for people and programs.

use std::io::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::csv;
use arrow::datatypes::{DataType, Field, Schema};
use arrow::json::writer::{JsonArray, LineDelimited, WriterBuilder};
use arrow::util::display::{ArrayFormatter, FormatOptions};
use arrow::util::pretty::pretty_format_batches;
use parquet::arrow::ArrowWriter;

use super::Session;
use crate::error::{Error, Result};

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// A table with borders; long cells are cut, and rows after the first thousand are counted
    Table,
    /// Comma-separated values with a header; lists as text
    Csv,
    /// One JSON array of objects
    Json,
    /// One JSON object a line
    Jsonl,
    /// A Parquet file
    Parquet,
    /// A Markdown table
    Markdown,
}

/// Rows as JSON, one a line.
pub fn json_line(batch: &RecordBatch, out: &mut impl Write) -> Result<()> {
    let mut writer = WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(out);
    writer.write(batch).and_then(|()| writer.finish()).map_err(arrow)
}

/// Rows of a table that are shown.
const SHOWN_ROWS: usize = 1000;
/// Characters of a table's cell that are shown.
const SHOWN_CHARS: usize = 72;

impl Format {
    /// Runs a query and writes its rows.
    pub fn write(self, session: &Session<'_>, query: &str, out: &mut (impl Write + Send)) -> Result<()> {
        match self {
            Self::Table => table(session, query, out),
            Self::Csv => {
                let mut writer = csv::WriterBuilder::new().with_header(true).build(&mut *out);
                // The header is written even when no row follows.
                let empty = flat(&RecordBatch::new_empty(session.columns_of(query)?), None)?;
                writer.write(&empty).map_err(arrow)?;
                session.each(query, &[], |batch| writer.write(&flat(batch, None)?).map_err(arrow))
            }
            Self::Json => {
                let mut writer =
                    WriterBuilder::new().with_explicit_nulls(true).build::<_, JsonArray>(&mut *out);
                session.each(query, &[], |batch| writer.write(batch).map_err(arrow))?;
                writer.finish().map_err(arrow)?;
                writeln!(out).map_err(closed)
            }
            Self::Jsonl => {
                let mut writer =
                    WriterBuilder::new().with_explicit_nulls(true).build::<_, LineDelimited>(&mut *out);
                session.each(query, &[], |batch| writer.write(batch).map_err(arrow))?;
                writer.finish().map_err(arrow)
            }
            Self::Parquet => {
                let schema = session.columns_of(query)?;
                let mut writer = ArrowWriter::try_new(&mut *out, schema, None).map_err(parquet)?;
                session.each(query, &[], |batch| writer.write(batch).map_err(parquet))?;
                writer.close().map_err(parquet)?;
                Ok(())
            }
            Self::Markdown => {
                let names: Vec<String> =
                    session.columns_of(query)?.fields().iter().map(|field| cell(field.name())).collect();
                writeln!(out, "| {} |\n|{}", names.join(" | "), " --- |".repeat(names.len()))
                    .map_err(closed)?;
                session.each(query, &[], |batch| {
                    let text = flat(batch, None)?;
                    for row in 0..text.num_rows() {
                        let cells: Vec<String> = text
                            .columns()
                            .iter()
                            .map(|column| cell(column.as_string::<i32>().value(row)))
                            .collect();
                        writeln!(out, "| {} |", cells.join(" | ")).map_err(closed)?;
                    }
                    Ok(())
                })
            }
        }
    }
}

/// A Markdown cell: no line breaks, no bars.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}

fn table(session: &Session<'_>, query: &str, out: &mut impl Write) -> Result<()> {
    let mut shown = vec![flat(&RecordBatch::new_empty(session.columns_of(query)?), Some(SHOWN_CHARS))?];
    let (mut rows, mut kept) = (0, 0);
    session.each(query, &[], |batch| {
        rows += batch.num_rows();
        let take = batch.num_rows().min(SHOWN_ROWS - kept);
        if take > 0 {
            shown.push(flat(&batch.slice(0, take), Some(SHOWN_CHARS))?);
            kept += take;
        }
        Ok(())
    })?;
    writeln!(out, "{}", pretty_format_batches(&shown).map_err(arrow)?).map_err(closed)?;
    if rows > kept {
        writeln!(out, "{} more rows; `--format csv` or `jsonl` prints them all", rows - kept)
            .map_err(closed)?;
    }
    Ok(())
}

/// All columns as text: numbers as they are, lists and structs as JSON-like text, cut at `limit` characters.
fn flat(batch: &RecordBatch, limit: Option<usize>) -> Result<RecordBatch> {
    let options = FormatOptions::default();
    let columns: Result<Vec<ArrayRef>> = batch
        .columns()
        .iter()
        .map(|column| {
            let formatter = ArrayFormatter::try_new(column.as_ref(), &options).map_err(arrow)?;
            let texts: StringArray = (0..column.len())
                .map(|row| {
                    if column.is_null(row) {
                        return Some(String::new());
                    }
                    let text = formatter.value(row).to_string();
                    Some(match limit {
                        Some(limit) => cut(&text, limit),
                        None => text,
                    })
                })
                .collect();
            Ok(Arc::new(texts) as ArrayRef)
        })
        .collect();
    let schema = batch.schema();
    let fields: Vec<Field> =
        schema.fields().iter().map(|field| Field::new(field.name(), DataType::Utf8, true)).collect();
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), columns?, &options).map_err(arrow)
}

/// The first characters of a text on one line, with the number of those left out.
fn cut(text: &str, limit: usize) -> String {
    let line: String = text.chars().take(limit).map(|c| if c.is_control() { ' ' } else { c }).collect();
    let all = text.chars().count();
    if all > limit { format!("{line}… ({} more)", all - limit) } else { line }
}

fn arrow(source: arrow::error::ArrowError) -> Error {
    match source {
        arrow::error::ArrowError::IoError(_, source) => closed(source),
        source => Error::Core(finch_core::Error::Arrow { table: "result".to_owned(), source }),
    }
}

fn parquet(source: parquet::errors::ParquetError) -> Error {
    Error::Core(finch_core::Error::Parquet { path: "result".into(), source })
}

fn closed(source: std::io::Error) -> Error {
    Error::io("write", "the result")(source)
}

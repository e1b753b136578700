//! Tables aside: narrow ones that a stage writes for its own statements, each as `side.<name>`.
//!
//! Their first column is a text that is never null, and their key.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use finch_core::Digest;
use finch_core::shard::{Cuts, TableWriter};
use serde::Serialize;

use crate::contract;
use crate::error::Result;
use crate::sql::Session;

/// Rows that are written together.
const ROWS_AT_ONCE: usize = 8192;

/// Writes what a statement finds, and binds it.
pub(super) fn side(
    session: &Session<'_>,
    folder: &Path,
    name: &str,
    columns: &[&str],
    query: &str,
) -> Result<()> {
    let columns = narrow(columns);
    let mut writer = writer(folder, name, &columns)?;
    session.write(query, &[], name, &columns, &mut writer)?;
    bind(session, folder, name, columns, writer)
}

/// Writes ids with the cluster of each, in the order of ids, and binds them.
pub(super) fn side_pairs(
    session: &Session<'_>,
    folder: &Path,
    name: &str,
    columns: &[&str],
    pairs: impl ExactSizeIterator<Item = (Digest, Digest)>,
) -> Result<()> {
    let columns = narrow(columns);
    let mut writer = writer(folder, name, &columns)?;
    let (mut pairs, mut left) = (pairs, true);
    while left {
        let (ids, others): (Vec<String>, Vec<String>) =
            pairs.by_ref().take(ROWS_AT_ONCE).map(|(id, other)| (id.to_string(), other.to_string())).unzip();
        left = ids.len() == ROWS_AT_ONCE;
        let arrays: Vec<ArrayRef> =
            vec![Arc::new(StringArray::from(ids)), Arc::new(StringArray::from(others))];
        let batch = RecordBatch::try_new(columns.clone(), arrays)
            .map_err(|source| finch_core::Error::Arrow { table: name.to_owned(), source })?;
        writer.write(&batch)?;
    }
    bind(session, folder, name, columns, writer)
}

/// Writes rows that are in memory, in the order of their first column, and binds them.
pub(super) fn side_rows<T: Serialize>(
    session: &Session<'_>,
    folder: &Path,
    name: &str,
    columns: &SchemaRef,
    rows: &[T],
) -> Result<()> {
    let mut writer = writer(folder, name, columns)?;
    for batch in contract::encode(name, columns, rows)? {
        writer.write(&batch)?;
    }
    bind(session, folder, name, columns.clone(), writer)
}

pub(super) fn narrow(columns: &[&str]) -> SchemaRef {
    let column = |name: &&str| Field::new(*name, DataType::Utf8, false);
    Arc::new(Schema::new(columns.iter().map(column).collect::<Vec<_>>()))
}

pub(super) fn writer(folder: &Path, name: &str, columns: &SchemaRef) -> Result<TableWriter> {
    let key = [columns.field(0).name().clone()];
    let cuts = Cuts { shard_bytes: usize::MAX, ..Cuts::default() };
    Ok(TableWriter::new(folder, name, columns.clone(), &key, cuts)?)
}

pub(super) fn bind(
    session: &Session<'_>,
    folder: &Path,
    name: &str,
    columns: SchemaRef,
    writer: TableWriter,
) -> Result<()> {
    let key = [columns.field(0).name().clone()];
    let file = folder.join(&writer.finish()?.files[0].name);
    session.bind(Some("side"), name, &[file], columns, &key)
}

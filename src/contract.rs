//! Column contracts: the Arrow schema of every table, read from `schemas/tables.toml`.
//!
//! The file is compiled in and is the single source of truth; no schema is written in code. Rows built in
//! Rust are serde structs whose fields are matched with the contract by name, so a column that one side
//! forgot is an error, not a null.

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType, Field, Fields, Schema, SchemaRef, TimeUnit};
use arrow::json::ReaderBuilder;
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::error::{Error, Result};

/// The text of `schemas/tables.toml`.
pub const TEXT: &str = include_str!("../schemas/tables.toml");

static CONTRACTS: LazyLock<BTreeMap<String, Contract>> = LazyLock::new(|| {
    let tables: BTreeMap<String, RawContract> =
        toml::from_str(TEXT).expect("schemas/tables.toml is checked by this module's tests");
    tables.into_iter().map(|(name, raw)| (name.clone(), Contract::new(name, raw))).collect()
});

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawContract {
    doc: String,
    key: Vec<String>,
    columns: Vec<Vec<String>>,
}

/// A table's columns and unique key.
#[derive(Clone, Debug)]
pub struct Contract {
    /// The table's name.
    pub name: String,
    /// What a row is.
    pub doc: String,
    /// The columns of the unique key, by which rows are sorted.
    pub key: Vec<String>,
    /// The columns, in order.
    pub columns: Vec<Column>,
}

/// A column of a contract.
#[derive(Clone, Debug)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The Arrow type.
    pub data_type: DataType,
    /// Whether nulls may occur.
    pub nullable: bool,
    /// What it means.
    pub doc: String,
    /// The stage kind that adds it, perhaps with the parameter that makes it do so; `None` for columns that are there from the start.
    pub added_by: Option<String>,
}

impl Contract {
    fn new(name: String, raw: RawContract) -> Self {
        let columns = raw
            .columns
            .into_iter()
            .map(|column| {
                let mut cells = column.into_iter();
                let mut next = || cells.next().unwrap_or_default();
                let (name, word, doc, added_by) = (next(), next(), next(), next());
                let nullable = word.ends_with('?');
                Column {
                    data_type: data_type(word.trim_end_matches('?')).unwrap_or_else(|| {
                        panic!("schemas/tables.toml: `{name}` has the unknown type `{word}`")
                    }),
                    name,
                    nullable,
                    doc,
                    added_by: (!added_by.is_empty()).then_some(added_by),
                }
            })
            .collect();
        Self { name, doc: raw.doc, key: raw.key, columns }
    }

    /// The contract of a table. Names come from this program's own code, so a missing one is a defect.
    pub fn of(table: &str) -> &'static Self {
        Self::find(table).unwrap_or_else(|| panic!("schemas/tables.toml has no table `{table}`"))
    }

    /// The contract of a table, if it has one.
    pub fn find(table: &str) -> Option<&'static Self> {
        CONTRACTS.get(table)
    }

    /// The schema with the columns that stages of these kinds add.
    pub fn schema(&self, kinds: &[&str]) -> SchemaRef {
        let keep = |column: &&Column| column.added_by.as_deref().is_none_or(|kind| kinds.contains(&kind));
        let fields: Vec<Field> = self
            .columns
            .iter()
            .filter(keep)
            .map(|column| Field::new(&column.name, column.data_type.clone(), column.nullable))
            .collect();
        Arc::new(Schema::new(fields))
    }

    /// The columns that stages of a kind add.
    pub fn added_by(&self, kind: &str) -> impl Iterator<Item = &Column> {
        self.columns.iter().filter(move |column| column.added_by.as_deref() == Some(kind))
    }
}

fn data_type(word: &str) -> Option<DataType> {
    Some(match word {
        "text" | "digest" | "json" => DataType::Utf8,
        "int" => DataType::Int64,
        "float" => DataType::Float64,
        "bool" => DataType::Boolean,
        "bytes" => DataType::Binary,
        "timestamp" => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        "list<text>" => list(DataType::Utf8),
        "list<int32>" => list(DataType::Int32),
        "list<bool>" => list(DataType::Boolean),
        "list<float>" => list(DataType::Float64),
        "messages" => {
            let fields = ["role", "content"].map(|name| Field::new(name, DataType::Utf8, false));
            list(DataType::Struct(Fields::from(fields.to_vec())))
        }
        _ => return None,
    })
}

fn list(item: DataType) -> DataType {
    DataType::List(Arc::new(Field::new("item", item, false)))
}

/// Rows per batch when tables are built from Rust structs.
const ENCODE_ROWS: usize = 1024;

/// Serde rows as record batches of a schema; field names must be the schema's columns.
pub fn encode<T: Serialize>(table: &str, schema: &SchemaRef, rows: &[T]) -> Result<Vec<RecordBatch>> {
    let error = |source| Error::Core(finch_core::Error::Arrow { table: table.to_owned(), source });
    let mut batches = Vec::new();
    for chunk in rows.chunks(ENCODE_ROWS) {
        let mut decoder = ReaderBuilder::new(schema.clone())
            .with_strict_mode(true)
            .with_batch_size(ENCODE_ROWS)
            .build_decoder()
            .map_err(error)?;
        decoder.serialize(chunk).map_err(error)?;
        while let Some(batch) = decoder.flush().map_err(error)? {
            batches.push(batch);
        }
    }
    Ok(batches)
}

/// A query's batch as a batch of a table: columns by name, cast to the declared types, nulls checked.
pub fn conform(table: &str, schema: &SchemaRef, batch: &RecordBatch) -> Result<RecordBatch> {
    let bad = |reason: String| Error::Sql {
        reason: format!("table `{table}`: {reason}"),
        code: Code::MissingColumn,
        hint: None,
    };
    let columns: Result<Vec<ArrayRef>> = schema
        .fields()
        .iter()
        .map(|field| {
            let column = batch
                .column_by_name(field.name())
                .ok_or_else(|| bad(format!("the rows lack the column `{}`", field.name())))?;
            let column = if column.data_type() == field.data_type() {
                column.clone()
            } else {
                // A value that does not fit is an error, not a null.
                let strict = CastOptions { safe: false, ..CastOptions::default() };
                cast_with_options(column, field.data_type(), &strict).map_err(|source| {
                    Error::Core(finch_core::Error::Arrow { table: table.to_owned(), source })
                })?
            };
            if !field.is_nullable() && column.null_count() > 0 {
                return Err(bad(format!(
                    "column `{}` must not be null, and is in {} rows",
                    field.name(),
                    column.null_count()
                )));
            }
            Ok(column)
        })
        .collect();
    RecordBatch::try_new(schema.clone(), columns?)
        .map_err(|source| Error::Core(finch_core::Error::Arrow { table: table.to_owned(), source }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_contract_is_well_formed() {
        let raw: BTreeMap<String, RawContract> = toml::from_str(TEXT).expect("tables.toml parses");
        assert!(raw.len() >= 13);
        for (name, raw) in raw {
            assert!(raw.columns.iter().all(|c| c.len() == 3 || c.len() == 4), "{name}: cells");
            let contract = Contract::of(&name);
            assert!(!contract.key.is_empty(), "{name} has no key");
            for key in &contract.key {
                assert!(contract.columns.iter().any(|c| c.name == *key), "{name}: key {key}");
            }
            let mut names: Vec<_> = contract.columns.iter().map(|c| &c.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), contract.columns.len(), "{name}: a column twice");
            assert!(contract.columns.iter().all(|c| !c.doc.is_empty()), "{name}: a column without doc");
        }
    }

    #[test]
    fn rows_that_do_not_fit_are_errors() {
        #[derive(Serialize)]
        struct Wrong {
            text_id: &'static str,
            txt: &'static str,
        }
        let schema = Contract::of("texts").schema(&[]);
        assert!(encode("texts", &schema, &[Wrong { text_id: "a", txt: "b" }]).is_err());
    }
}

//! `sql`: a transform that a user writes in SQL.
//!
//! It runs on one partition and its rows are ordered by the declared key, so that the same inputs always give
//! the same table. Functions that depend on more than their arguments are refused before anything runs.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef, TimeUnit};
use finch_core::manifest::Counts;

use super::{Context, Outcome};
use crate::code::Code;
use crate::error::Result;
use crate::spec::Sql;
use crate::sql::views::{self, Needed};
use crate::store::Draft;

pub(super) fn run(config: &Sql, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let needed = Needed::by(&config.query);
    let session = context.engine.single(needed.width());
    for (input, dataset) in config.inputs.iter().zip(context.inputs) {
        views::bind(&session, Some(&input.stage), dataset, &needed)?;
    }
    let schema = storable(session.columns_of(&config.query)?.as_ref());
    let key = key(config, &schema);
    if let Some(missing) = key.iter().find(|column| schema.column_with_name(column).is_none()) {
        let reason = format!("`key` names the column `{missing}`, which the query does not yield");
        return Err(context.error(Code::MissingColumn, reason, None));
    }
    let order: Vec<String> = key.iter().map(|column| format!("{} ASC NULLS FIRST", quoted(column))).collect();
    let query = format!("SELECT * FROM (\n{}\n) ORDER BY {}", trimmed(&config.query), order.join(", "));
    let mut writer = draft.keyed_writer(&config.table, &schema, &key)?;
    session.write(&query, &[], &config.table, &schema, &mut writer)?;
    let used = draft.finish(&config.table, writer)?;
    let input = context.inputs.iter().map(row_count).sum();
    if let Some(main) = context.inputs.first() {
        draft.pass_on(main, &["removed", "quarantine"]);
    }
    let counts = Counts { input, used, ..Counts::default() };
    let main = context.inputs.first().map(|main| main.manifest.row_table.as_str());
    // The row table stays the input's: a query adds a table beside it.
    let row_table = match main {
        Some("examples") => "examples",
        Some("transitions") => "transitions",
        _ => "",
    };
    Ok(Outcome { row_table, counts, warnings: vec![], training: None, reading: None })
}

/// A column's name as SQL takes it, whatever is in it.
fn quoted(column: &str) -> String {
    format!("\"{}\"", column.replace('"', "\"\""))
}

fn row_count(dataset: &crate::store::Dataset) -> u64 {
    dataset.table(&dataset.manifest.row_table).map_or(0, |table| table.rows)
}

/// A query without the semicolon that many end it with.
pub(crate) fn trimmed(query: &str) -> &str {
    query.trim_end().trim_end_matches(';')
}

/// The key's columns: the declared ones, else all.
fn key(config: &Sql, schema: &SchemaRef) -> Vec<String> {
    if config.key.is_empty() {
        schema.fields().iter().map(|field| field.name().clone()).collect()
    } else {
        config.key.clone()
    }
}

/// A query's columns in the types that datasets hold: whole numbers as Int64, text as Utf8, and so on.
pub(crate) fn storable(schema: &Schema) -> SchemaRef {
    let fields: Vec<Field> = schema
        .fields()
        .iter()
        .map(|field| {
            let data_type = match field.data_type() {
                DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::UInt8
                | DataType::UInt16
                | DataType::UInt32
                | DataType::UInt64 => DataType::Int64,
                DataType::Float16 | DataType::Float32 | DataType::Decimal128(_, _) => DataType::Float64,
                DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => DataType::Utf8,
                DataType::Date32 | DataType::Date64 | DataType::Timestamp(_, _) => {
                    DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into()))
                }
                other => other.clone(),
            };
            Field::new(field.name(), data_type, true)
        })
        .collect();
    Arc::new(Schema::new(fields))
}

//! Rows of Parquet files and SQLite tables, cell by cell as JSON values.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{
    DataType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow::util::display::array_value_to_string;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Map, Value as Json};

use super::build::{Place, add};
use super::value::{Row, Value, float};
use super::{Mapping, rows::digest};
use crate::code::Code;
use crate::error::Result;
use crate::ingest::open;
use crate::ingest::record::{FileLog, Quarantined, unreadable};
use crate::ingest::sqlite::Database;
use crate::ingest::{LogFile, Scratch};

/// Rows that are in memory together: a row of the collection is 140 kB.
const ROWS_AT_ONCE: usize = 64;

/// Reads the columns of a Parquet file that a mapping speaks of.
pub(super) fn parquet(file: &LogFile, mapping: &Mapping, scratch: &Scratch, log: &mut FileLog) -> Result<()> {
    let opened = match std::fs::File::open(&file.path) {
        Ok(opened) => opened,
        Err(error) => {
            *log = unreadable(file, error)?;
            return Ok(());
        }
    };
    let before = open::Guard::of(file)?;
    let wanted = columns(mapping);
    let open = || {
        let builder = ParquetRecordBatchReaderBuilder::try_new(opened)?;
        let roots = builder.schema().fields().iter().enumerate();
        let kept = roots.filter(|(_, field)| wanted.contains(&field.name().as_str())).map(|(at, _)| at);
        let mask = ProjectionMask::roots(builder.parquet_schema(), kept.collect::<Vec<_>>());
        builder.with_projection(mask).with_batch_size(ROWS_AT_ONCE).build()
    };
    let damaged = |reason: String| Quarantined::file(Code::BadDatabase, reason, file);
    let asserted = || "it says of itself what cannot be".to_owned();
    let reader = open::guarded(open).ok_or_else(asserted);
    let mut reader = match reader.and_then(|reader| reader.map_err(|error| error.to_string())) {
        Ok(reader) => reader,
        Err(reason) => {
            log.quarantined.push(damaged(reason));
            return Ok(());
        }
    };
    let mut ordinal = 0;
    loop {
        let batch = open::guarded(|| reader.next()).ok_or_else(asserted);
        let batch = match batch.and_then(|batch| batch.transpose().map_err(|error| error.to_string())) {
            Ok(Some(batch)) => batch,
            Ok(None) => return before.check(file),
            Err(reason) => {
                log.quarantined.push(damaged(format!("after row {ordinal}: {reason}")));
                return Ok(());
            }
        };
        for at in 0..batch.num_rows() {
            let record = row(&batch, at);
            let place = Place { offset: ordinal, digest: digest(mapping, file, &record, None) };
            let row = Row { record: &record, document: None, key: None, ordinal, program: None };
            add(mapping, row, &place, file, scratch, log)?;
            ordinal += 1;
        }
    }
}

/// Reads a table of a SQLite database, from a private copy.
pub(super) fn sqlite(file: &LogFile, mapping: &Mapping, scratch: &Scratch, log: &mut FileLog) -> Result<()> {
    let table = mapping.records.table.as_deref().unwrap_or("candidates");
    let take = &mut |cells: Map<String, Json>, ordinal: u64, log: &mut FileLog| {
        let record = Json::Object(cells);
        let place = Place { offset: ordinal, digest: digest(mapping, file, &record, None) };
        let row = Row { record: &record, document: None, key: None, ordinal, program: None };
        add(mapping, row, &place, file, scratch, log)
    };
    Database::of(file).rows(table, &[], |_| false, scratch, log, take)
}

/// The columns that a mapping reads.
fn columns(mapping: &Mapping) -> Vec<&str> {
    let mut out = Vec::new();
    let candidate = &mapping.candidate;
    let run = [&mapping.run.id, &mapping.run.task, &mapping.run.domain, &mapping.run.maximize];
    let of_candidate = [
        &candidate.parents,
        &candidate.copy_of,
        &candidate.language,
        &candidate.iteration,
        &candidate.island,
        &candidate.generation,
        &candidate.metrics,
        &candidate.score,
        &candidate.error,
        &candidate.feedback,
        &candidate.eval_seconds,
        &candidate.created_at,
        &candidate.system_prompt,
        &candidate.user_prompt,
        &candidate.reasoning,
        &candidate.response,
        &candidate.model,
        &candidate.temperature,
        &candidate.prompt_tokens,
        &candidate.completion_tokens,
        &candidate.cost,
        &candidate.inspirations,
    ];
    let optional: Vec<&Value> = run.into_iter().chain(of_candidate).flatten().collect();
    let parent = mapping.parent.iter().flat_map(|parent| [&parent.code, &parent.metrics, &parent.score]);
    let rules = mapping.failures.iter().map(|rule| &rule.at);
    for value in
        [&candidate.id, &candidate.code].into_iter().chain(optional).chain(parent.flatten()).chain(rules)
    {
        value.columns(&mut out);
    }
    out
}

fn row(batch: &RecordBatch, at: usize) -> Json {
    let schema = batch.schema();
    let cells = schema.fields().iter().zip(batch.columns());
    Json::Object(cells.map(|(field, column)| (field.name().clone(), cell(column, at))).collect())
}

/// A cell as JSON. Types that logs have no use for become text.
fn cell(array: &dyn Array, at: usize) -> Json {
    if array.is_null(at) {
        return Json::Null;
    }
    macro_rules! number {
        ($kind:ty) => {
            Json::from(array.as_primitive::<$kind>().value(at))
        };
    }
    let items = |items: &dyn Array| (0..items.len()).map(|at| cell(items, at)).collect::<Vec<_>>();
    match array.data_type() {
        DataType::Utf8 => Json::from(array.as_string::<i32>().value(at)),
        DataType::LargeUtf8 => Json::from(array.as_string::<i64>().value(at)),
        DataType::Utf8View => Json::from(array.as_string_view().value(at)),
        DataType::Boolean => Json::from(array.as_boolean().value(at)),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float32 => float(f64::from(array.as_primitive::<Float32Type>().value(at))),
        DataType::Float64 => float(array.as_primitive::<Float64Type>().value(at)),
        DataType::List(_) => Json::Array(items(&*array.as_list::<i32>().value(at))),
        DataType::LargeList(_) => Json::Array(items(&*array.as_list::<i64>().value(at))),
        DataType::Struct(fields) => {
            let columns = array.as_struct().columns();
            let cells =
                fields.iter().zip(columns).map(|(field, column)| (field.name().clone(), cell(column, at)));
            Json::Object(cells.collect())
        }
        _ => array_value_to_string(array, at).map_or(Json::Null, Json::from),
    }
}

//! The rows of one table in two builds, matched by the table's key.
//!
//! Each row becomes digests of its key and of its content where it is read, and only those are joined, so memory does
//! not grow with the tables: the join merges sorted rows and spills. `source` columns do not count, as in the `rows`
//! digest; a column that only one side has, or that changed its type, is a difference of the columns and not of every
//! row.

use std::collections::BTreeMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{DataType, SchemaRef};
use finch_core::manifest::Column;
use finch_core::rows::SOURCE_COLUMNS;
use serde::Serialize;
use serde_json::Value;

use super::{Change, Pair};
use crate::error::{Error, Result};
use crate::sql::{Engine, Session, Width};
use crate::store::Dataset;

const STATEMENT: &str = include_str!("../../sql/differing_rows.sql");

/// Keys that are shown for each kind of difference.
const EXAMPLES: usize = 3;

/// A table that differs.
#[derive(Clone, Debug, Serialize)]
pub struct TableDiff {
    /// Its name.
    pub table: String,
    /// The columns that its rows are matched by, when both sides have the same.
    pub key: Option<Vec<String>>,
    /// Its rows; null where there is no such table.
    pub rows: Pair<Option<u64>>,
    /// Columns that were added, removed or have another type; `?` marks one that may be null.
    pub columns: Vec<Change<String>>,
    /// How many rows differ.
    #[serde(flatten)]
    pub differing: Rows,
    /// The same by task, where the table has a column `task`.
    pub tasks: Vec<TaskRows>,
    /// A few of them, chosen by the hash of their key.
    pub examples: Vec<Example>,
}

/// Numbers of rows that differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Rows {
    /// Only in the new build.
    #[serde(rename = "in")]
    pub entered: u64,
    /// Only in the old build.
    pub out: u64,
    /// In both, with another content.
    pub changed: u64,
    /// In both with the same content, in another split.
    pub moved: u64,
}

/// Rows of a task that differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TaskRows {
    /// The task, in the new build where it has the row.
    pub task: Option<String>,
    /// How many.
    #[serde(flatten)]
    pub differing: Rows,
}

/// A row that differs.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Example {
    /// `in`, `out`, `changed` or `moved`.
    pub difference: Difference,
    /// Its key, by column.
    pub key: Value,
    /// Its splits, when it was moved.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub split: Option<Pair<Option<String>>>,
}

/// How a row differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Difference {
    /// Only in the new build.
    In,
    /// Only in the old build.
    Out,
    /// Another content.
    Changed,
    /// Another split.
    Moved,
}

impl Rows {
    fn count(&mut self, difference: Difference) {
        match difference {
            Difference::In => self.entered += 1,
            Difference::Out => self.out += 1,
            Difference::Changed => self.changed += 1,
            Difference::Moved => self.moved += 1,
        }
    }
}

/// What was counted so far.
#[derive(Default)]
struct Tally {
    differing: Rows,
    tasks: BTreeMap<Option<String>, Rows>,
    /// The lowest keys of each kind, by their digest.
    examples: BTreeMap<Difference, BTreeMap<Vec<u8>, Example>>,
}

/// Compares a table that at least one of two datasets has; none when its rows and columns are equal.
pub(super) fn compare(
    engine: &Engine,
    name: &str,
    [old, new]: [Option<&Dataset>; 2],
) -> Result<Option<TableDiff>> {
    let (before, after) = (old.and_then(|old| old.table(name)), new.and_then(|new| new.table(name)));
    let columns = match (before, after) {
        (Some(before), Some(after)) => changed_columns(&before.schema, &after.schema),
        _ => vec![],
    };
    let same_rows = matches!((before, after), (Some(a), Some(b)) if a.rows_digest == b.rows_digest);
    if same_rows && columns.is_empty() {
        return Ok(None);
    }
    let mut tally = Tally::default();
    let mut key = before.or(after).map(|table| table.key.clone());
    if let (Some(old), Some(new)) = (old, new) {
        if !same_rows {
            let sides = [old.schema(name)?, new.schema(name)?];
            if old.key(name) == new.key(name) && same_types(&sides, new.key(name)) {
                join(engine, name, [Some(old), Some(new)], &sides, &mut tally)?;
            } else {
                // Nothing says which rows belong together: all of one side went, all of the other came.
                key = None;
                let [before, after] = sides;
                join(engine, name, [Some(old), None], &[before.clone(), before], &mut tally)?;
                join(engine, name, [None, Some(new)], &[after.clone(), after], &mut tally)?;
            }
        }
    } else if let Some(dataset) = old.or(new) {
        let schema = dataset.schema(name)?;
        join(engine, name, [old, new], &[schema.clone(), schema], &mut tally)?;
    }
    let tasks = tally.tasks.into_iter().map(|(task, differing)| TaskRows { task, differing });
    Ok(Some(TableDiff {
        table: name.to_owned(),
        key,
        rows: Pair { before: before.map(|table| table.rows), after: after.map(|table| table.rows) },
        columns,
        differing: tally.differing,
        tasks: tasks.collect(),
        examples: tally.examples.into_values().flat_map(BTreeMap::into_values).collect(),
    }))
}

/// Columns that differ, in the order of the old table, then of the new one.
fn changed_columns(old: &[Column], new: &[Column]) -> Vec<Change<String>> {
    fn find<'a>(columns: &'a [Column], name: &str) -> Option<&'a Column> {
        columns.iter().find(|column| column.name == name)
    }
    let text = |column: &Column| format!("{}{}", column.data_type, if column.nullable { "?" } else { "" });
    let added = new.iter().filter(|column| find(old, &column.name).is_none());
    let names = old.iter().chain(added).map(|column| &column.name);
    names
        .filter(|name| find(old, name) != find(new, name))
        .map(|name| Change {
            name: name.clone(),
            before: find(old, name).map(text),
            after: find(new, name).map(text),
        })
        .collect()
}

/// Whether both sides have these columns with the same types.
fn same_types(sides: &[SchemaRef; 2], columns: &[String]) -> bool {
    columns.iter().all(|column| shared(sides, column).is_some())
}

/// A column's type, when both sides have it with the same.
fn shared<'a>(sides: &'a [SchemaRef; 2], column: &str) -> Option<&'a DataType> {
    let [before, after] = sides.each_ref().map(|schema| schema.column_with_name(column));
    match (before?.1.data_type(), after?.1.data_type()) {
        (before, after) if before == after => Some(before),
        _ => None,
    }
}

/// Joins the rows of a table; a side without a dataset has none.
fn join(
    engine: &Engine,
    name: &str,
    [old, new]: [Option<&Dataset>; 2],
    sides: &[SchemaRef; 2],
    tally: &mut Tally,
) -> Result<()> {
    let session = engine.merging(Width::Wide).with_row_digest();
    let Some(dataset) = old.or(new) else { return Ok(()) };
    let key = dataset.key(name);
    let is_text = |column: &str| shared(sides, column) == Some(&DataType::Utf8);
    let by_task = is_text("task");
    let split = is_text("split") && !key.iter().any(|column| column == "split");
    // The columns that a row's content is: none where there is nothing to compare it with.
    let mut content: Vec<String> = Vec::new();
    if old.is_some() && new.is_some() {
        let left_out: Vec<&str> = SOURCE_COLUMNS.into_iter().chain(split.then_some("split")).collect();
        let names = sides[0].fields().iter().map(|field| field.name());
        let names = names.filter(|name| shared(sides, name).is_some() && !key.contains(name));
        content.extend(names.filter(|name| !left_out.contains(&name.as_str())).cloned());
    }
    let digest = |columns: &[String]| match columns {
        [] => "''".to_owned(),
        _ => {
            let columns: Vec<String> = columns.iter().map(|column| quoted(column)).collect();
            format!("row_digest({})", columns.join(", "))
        }
    };
    let shown: Vec<String> =
        key.iter().map(|column| format!("'{}', {}", column.replace('\'', "''"), quoted(column))).collect();
    let column =
        |there: bool, name: &str| if there { quoted(name) } else { "CAST(NULL AS VARCHAR)".to_owned() };
    for (schema, dataset, columns) in [("before", old, &sides[0]), ("after", new, &sides[1])] {
        match dataset {
            Some(dataset) => {
                session.bind(Some(schema), "stored", &dataset.files(name)?, columns.clone(), &[])?;
            }
            None => session.bind_empty(Some(schema), "stored", columns.clone())?,
        }
        let keyed = format!(
            "SELECT {} AS key, named_struct({}) AS shown, {} AS task, {} AS split, {} AS content FROM {schema}.stored",
            digest(key),
            shown.join(", "),
            column(by_task, "task"),
            column(split, "split"),
            digest(&content)
        );
        session.view(Some(schema), "keyed", &keyed)?;
    }
    count(&session, by_task, tally)
}

/// A column's name as SQL takes it.
fn quoted(column: &str) -> String {
    format!("\"{}\"", column.replace('"', "\"\""))
}

/// Runs the statement and counts its rows.
fn count(session: &Session<'_>, by_task: bool, tally: &mut Tally) -> Result<()> {
    session.each(STATEMENT, &[], |batch| {
        let [difference, task, before, after] = ["difference", "task", "split_before", "split_after"]
            .map(|name| column(batch, name).map(AsArray::as_string::<i32>));
        let (difference, task, before, after) = (difference?, task?, before?, after?);
        let keys = column(batch, "key")?.as_fixed_size_binary();
        let shown = [column(batch, "shown_before")?, column(batch, "shown_after")?];
        for row in 0..batch.num_rows() {
            let (side, how) = match difference.value(row) {
                "in" => (shown[1], Difference::In),
                "out" => (shown[0], Difference::Out),
                "changed" => (shown[1], Difference::Changed),
                _ => (shown[1], Difference::Moved),
            };
            tally.differing.count(how);
            if by_task {
                tally.tasks.entry(text(task, row)).or_default().count(how);
            }
            let lowest = tally.examples.entry(how).or_default();
            let key = keys.value(row);
            if lowest.len() < EXAMPLES
                || lowest.last_key_value().is_some_and(|(last, _)| key < last.as_slice())
            {
                let moved = (how == Difference::Moved)
                    .then(|| Pair { before: text(before, row), after: text(after, row) });
                let example = Example { difference: how, key: object(side, row)?, split: moved };
                lowest.insert(key.to_vec(), example);
                while lowest.len() > EXAMPLES {
                    lowest.pop_last();
                }
            }
        }
        Ok(())
    })
}

fn column<'a>(batch: &'a RecordBatch, name: &str) -> Result<&'a ArrayRef> {
    batch.column_by_name(name).ok_or_else(|| {
        Error::Environment(format!("the statement of differing rows yields no column `{name}`"))
    })
}

fn text(column: &StringArray, row: usize) -> Option<String> {
    column.is_valid(row).then(|| column.value(row).to_owned())
}

/// A struct as a JSON object.
fn object(column: &ArrayRef, row: usize) -> Result<Value> {
    let failed =
        |source| Error::Core(finch_core::Error::Arrow { table: "differing rows".to_owned(), source });
    let one = RecordBatch::from(column.as_struct().slice(row, 1));
    let mut bytes = Vec::new();
    let mut writer = arrow::json::WriterBuilder::new()
        .with_explicit_nulls(true)
        .build::<_, arrow::json::writer::JsonArray>(&mut bytes);
    writer.write(&one).and_then(|()| writer.finish()).map_err(failed)?;
    let rows: Vec<Value> = serde_json::from_slice(&bytes).unwrap_or_default();
    Ok(rows.into_iter().next().unwrap_or(Value::Null))
}

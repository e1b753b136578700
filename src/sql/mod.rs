//! SQL on DataFusion: the only module that names its types.
//!
//! A session binds Parquet files to names, runs statements and hands back batches. Sessions are set up so that
//! the same statements later run distributed: no string views, a fixed number of partitions, sort-merge joins
//! and spilling operators, every stored result ordered by a total key. Statements only read; what is written is
//! written by [`finch_core::shard`].

mod code_key;
mod failure_rule;
pub mod format;
pub mod meta;
mod row_digest;
mod sample_unit;
pub mod views;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use datafusion::catalog::MemorySchemaProvider;
use datafusion::common::ScalarValue;
use datafusion::common::TableReference;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::dataframe::DataFrame;
use datafusion::datasource::empty::EmptyTable;
use datafusion::datasource::file_format::parquet::ParquetFormat;
use datafusion::datasource::listing::{ListingOptions, ListingTable, ListingTableConfig, ListingTableUrl};
use datafusion::error::DataFusionError;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::logical_expr::{Expr, Volatility};
use datafusion::prelude::{SQLOptions, SessionConfig, SessionContext, ident};
use finch_core::shard::TableWriter;
use futures::StreamExt;

use crate::code::Code;
use crate::contract::conform;
use crate::error::{Error, Result};
use crate::progress::Meter;

/// The most partitions of a plan: not the machine's cores, because plans should not differ between machines.
const MAX_PARTITIONS: usize = 4;
/// Memory that a partition gets at least; each of its sorts has a share of it.
const PARTITION_MEMORY: u64 = 512 << 20;
/// Bytes that each sort keeps free for merging what it spilled.
const SPILL_RESERVATION: usize = 4 << 20;
/// Rows per batch where rows are scalars.
const NARROW_BATCH: usize = 2048;
/// Rows per batch where rows hold programs or prompts, which reach 300 kB.
const WIDE_BATCH: usize = 128;

/// Threads, memory and scratch space shared by all sessions of a process.
pub struct Engine {
    runtime: tokio::runtime::Runtime,
    environment: Arc<RuntimeEnv>,
    partitions: usize,
    memory_limit: u64,
    meter: Arc<Meter>,
}

/// The shape of a session's rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Width {
    /// Keys and scalars.
    Narrow,
    /// Programs and prompts.
    Wide,
}

/// A value for a `$name` in a statement.
#[derive(Clone, Debug)]
pub enum Value {
    /// A number.
    Float(f64),
    /// A whole number.
    Int(i64),
    /// A text.
    Text(String),
}

impl Engine {
    /// An engine with so many threads; half of the memory limit goes to its operators, which spill to `scratch`.
    pub fn new(threads: usize, memory_limit: u64, scratch: &Path) -> Result<Self> {
        let environment =
            |source: &dyn std::fmt::Display| Error::Environment(format!("cannot set up SQL: {source}"));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads.max(1))
            .thread_stack_size(8 << 20)
            .build()
            .map_err(|e| environment(&e))?;
        let pool = FairSpillPool::new((memory_limit / 2) as usize);
        let disk = DiskManagerBuilder::default()
            .with_mode(DiskManagerMode::Directories(vec![scratch.to_path_buf()]));
        let environment = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(pool))
            .with_disk_manager_builder(disk)
            .build_arc()
            .map_err(|e| environment(&e))?;
        let partitions = (memory_limit / PARTITION_MEMORY).clamp(1, MAX_PARTITIONS as u64) as usize;
        Ok(Self { runtime, environment, partitions, memory_limit, meter: Arc::default() })
    }

    /// The same engine, which counts the rows of all results.
    #[must_use]
    pub fn metered(self, meter: &Arc<Meter>) -> Self {
        Self { meter: meter.clone(), ..self }
    }

    /// The memory limit, of which operators have half.
    pub fn memory_limit(&self) -> u64 {
        self.memory_limit
    }

    /// A session without tables.
    pub fn session(&self, width: Width) -> Session<'_> {
        // Sorts of wide rows share the pool; fewer of them at once spill instead of failing.
        self.with_partitions(width, if width == Width::Wide { 1 } else { self.partitions })
    }

    /// A session whose plans have one partition, so that even sums of floats have one order.
    pub fn single(&self, width: Width) -> Session<'_> {
        self.with_partitions(width, 1)
    }

    /// A session whose joins merge sorted rows and spill at every memory limit; with one partition, a join would hold a
    /// whole side.
    ///
    /// What lies in the order of the join's key, such as tables of transitions joined by their ids, is not sorted again.
    pub fn merging(&self, width: Width) -> Session<'_> {
        let session = self.with_partitions(width, self.partitions.max(2));
        {
            let state = session.context.state_ref();
            let mut state = state.write();
            let options = state.config_mut().options_mut();
            options.optimizer.prefer_existing_sort = true;
            // Files of one table follow each other, and so do those that one partition reads.
            options.execution.split_file_groups_by_statistics = true;
        }
        session
    }

    /// A session for wide rows whose joins hold their first side, which must be narrow, and stream the other one. It
    /// has one partition, so that one sort of wide rows has the memory.
    pub fn looking_up(&self) -> Session<'_> {
        let session = self.with_partitions(Width::Wide, 1);
        // Sides would be swapped by their numbers of rows, whatever the rows weigh.
        session.context.state_ref().write().config_mut().options_mut().optimizer.join_reordering = false;
        session
    }

    fn with_partitions(&self, width: Width, partitions: usize) -> Session<'_> {
        let mut config = SessionConfig::new()
            .with_target_partitions(partitions)
            .with_batch_size(if width == Width::Wide { WIDE_BATCH } else { NARROW_BATCH })
            .with_information_schema(false);
        let options = config.options_mut();
        options.execution.parquet.schema_force_view_types = false;
        options.sql_parser.map_string_types_to_utf8view = false;
        options.optimizer.prefer_hash_join = false;
        options.execution.sort_spill_reservation_bytes = SPILL_RESERVATION;
        options.optimizer.enable_dynamic_filter_pushdown = false;
        let context = SessionContext::new_with_config_rt(config, self.environment.clone());
        Session { engine: self, context }
    }
}

/// Tables by name, and statements over them.
pub struct Session<'e> {
    engine: &'e Engine,
    context: SessionContext,
}

impl Session<'_> {
    /// Names a table: the rows of Parquet files, in `schema` or, without one, unqualified. `key` is what the rows are
    /// sorted by, so that they need not be sorted again; empty when that is not known.
    pub fn bind(
        &self,
        schema: Option<&str>,
        table: &str,
        files: &[PathBuf],
        columns: SchemaRef,
        key: &[String],
    ) -> Result<()> {
        let order: Vec<_> = key.iter().map(|column| ident(column).sort(true, true)).collect();
        let urls: Result<Vec<ListingTableUrl>> = files.iter().map(|file| url(file)).collect();
        let options = ListingOptions::new(Arc::new(ParquetFormat::default()))
            .with_file_extension(".parquet")
            .with_file_sort_order(if key.is_empty() { vec![] } else { vec![order] });
        let config = ListingTableConfig::new_with_multi_paths(urls?)
            .with_listing_options(options)
            .with_schema(columns);
        let provider = ListingTable::try_new(config).map_err(failed)?;
        self.register(schema, table, Arc::new(provider))
    }

    /// Names a table that has columns and no rows: for checking statements before there is data.
    pub fn bind_empty(&self, schema: Option<&str>, table: &str, columns: SchemaRef) -> Result<()> {
        self.register(schema, table, Arc::new(EmptyTable::new(columns)))
    }

    fn register(
        &self,
        schema: Option<&str>,
        table: &str,
        provider: Arc<dyn datafusion::catalog::TableProvider>,
    ) -> Result<()> {
        let reference = self.reference(schema, table)?;
        self.context.register_table(reference, provider).map_err(failed)?;
        Ok(())
    }

    /// Names the result of a query.
    pub fn view(&self, schema: Option<&str>, table: &str, query: &str) -> Result<()> {
        let frame = self.plan(query, &[])?;
        self.register(schema, table, frame.into_view())
    }

    fn reference(&self, schema: Option<&str>, table: &str) -> Result<TableReference> {
        let Some(schema) = schema else { return Ok(TableReference::bare(table.to_owned())) };
        if let Some(catalog) = self.context.catalog("datafusion")
            && catalog.schema(schema).is_none()
        {
            catalog.register_schema(schema, Arc::new(MemorySchemaProvider::new())).map_err(failed)?;
        }
        Ok(TableReference::partial(schema.to_owned(), table.to_owned()))
    }

    /// Plans a statement that only reads.
    fn plan(&self, query: &str, values: &[(&str, Value)]) -> Result<DataFrame> {
        let options =
            SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        let planned = self.engine.runtime.block_on(self.context.sql_with_options(query, options));
        let frame = planned.map_err(|error| self.name_tables(failed(error)))?;
        if values.is_empty() {
            return Ok(frame);
        }
        let values: Vec<(&str, ScalarValue)> = values
            .iter()
            .map(|(name, value)| {
                let scalar = match value {
                    Value::Float(number) => ScalarValue::from(*number),
                    Value::Int(number) => ScalarValue::from(*number),
                    Value::Text(text) => ScalarValue::from(text.as_str()),
                };
                (*name, scalar)
            })
            .collect();
        frame.with_param_values(values).map_err(failed)
    }

    /// An error about an unknown table, with the name as it was written and the nearest one that exists.
    fn name_tables(&self, error: Error) -> Error {
        let text = error.to_string();
        let unknown =
            text.strip_prefix("table 'datafusion.").and_then(|rest| rest.strip_suffix("' not found"));
        let (Some(unknown), Some(catalog)) = (unknown, self.context.catalog("datafusion")) else {
            return error;
        };
        let name = unknown.trim_start_matches("public.");
        let mut known: Vec<String> = catalog
            .schema_names()
            .into_iter()
            .flat_map(|schema| {
                let names = catalog.schema(&schema).map(|tables| tables.table_names()).unwrap_or_default();
                let prefix = if schema == "public" { String::new() } else { format!("{schema}.") };
                names.into_iter().map(move |table| format!("{prefix}{table}"))
            })
            .collect();
        known.sort();
        Error::Sql {
            reason: format!("no table is named `{name}`"),
            code: Code::UnknownTable,
            hint: crate::spec::did_you_mean(name, known.iter().map(String::as_str).collect::<Vec<_>>()),
        }
    }

    /// The columns that a query yields.
    pub fn columns_of(&self, query: &str) -> Result<SchemaRef> {
        Ok(Arc::new(self.plan(query, &[])?.schema().as_arrow().clone()))
    }

    /// Refuses functions whose result depends on more than their arguments, such as `now()` or `random()`.
    pub fn check_deterministic(&self, query: &str) -> Result<()> {
        let frame = self.plan(query, &[])?;
        let mut found = None;
        let visited = frame.logical_plan().apply_with_subqueries(|node| {
            node.apply_expressions(|expression| {
                expression.apply(|part| {
                    if let Expr::ScalarFunction(call) = part
                        && call.func.signature().volatility != Volatility::Immutable
                    {
                        found = Some(call.func.name().to_owned());
                    }
                    Ok(TreeNodeRecursion::Continue)
                })
            })
        });
        visited.map_err(failed)?;
        match found {
            None => Ok(()),
            Some(name) => Err(Error::Sql {
                reason: format!("`{name}()` gives another result each time"),
                code: Code::Query,
                hint: Some("stages are pure functions of their inputs".to_owned()),
            }),
        }
    }

    /// Runs a query and hands over its batches, one at a time, in order.
    pub fn each(
        &self,
        query: &str,
        values: &[(&str, Value)],
        mut take: impl FnMut(&RecordBatch) -> Result<()>,
    ) -> Result<()> {
        let frame = self.plan(query, values)?;
        let runtime = &self.engine.runtime;
        let mut stream = runtime.block_on(frame.execute_stream()).map_err(failed)?;
        while let Some(batch) = runtime.block_on(stream.next()) {
            let batch = batch.map_err(failed)?;
            take(&batch)?;
            self.engine.meter.add(batch.num_rows() as u64, batch.get_array_memory_size() as u64);
        }
        Ok(())
    }

    /// All batches of a query, for small results.
    pub fn collect(&self, query: &str, values: &[(&str, Value)]) -> Result<Vec<RecordBatch>> {
        let mut batches = Vec::new();
        self.each(query, values, |batch| {
            batches.push(batch.clone());
            Ok(())
        })?;
        Ok(batches)
    }

    /// Writes a query's rows to a table; the query must order them by the table's key.
    pub fn write(
        &self,
        query: &str,
        values: &[(&str, Value)],
        table: &str,
        schema: &SchemaRef,
        writer: &mut TableWriter,
    ) -> Result<()> {
        self.each(query, values, |batch| Ok(writer.write(&conform(table, schema, batch)?)?))
    }

    /// The plan of a query, as text.
    pub fn explain(&self, query: &str) -> Result<String> {
        let frame = self.plan(query, &[])?;
        let plan = self.engine.runtime.block_on(frame.create_physical_plan()).map_err(failed)?;
        Ok(datafusion::physical_plan::displayable(plan.as_ref()).indent(false).to_string())
    }
}

/// A file's URL. Made from the path itself, because a path may hold `*`, `?` or `[` and is no pattern.
fn url(file: &Path) -> Result<ListingTableUrl> {
    let bad = || Error::Environment(format!("`{}` cannot be named as a URL", file.display()));
    // Links and `..` are resolved: a URL cannot hold the latter.
    let absolute = std::fs::canonicalize(file).map_err(Error::io("resolve", file))?;
    let url = url::Url::from_file_path(absolute).map_err(|()| bad())?;
    ListingTableUrl::try_new(url, None).map_err(|_| bad())
}

/// A statement without its comments, which name columns that it does not read.
fn without_comments(query: &str) -> String {
    let mut out = String::with_capacity(query.len());
    let mut rest = query;
    while let Some(at) = rest.find(['\'', '"', '-', '/']) {
        let (before, found) = rest.split_at(at);
        out.push_str(before);
        let length = match found.as_bytes() {
            [quote @ (b'\'' | b'"'), ..] => {
                let end = found[1..].find(char::from(*quote)).map_or(found.len(), |end| end + 2);
                out.push_str(&found[..end]);
                end
            }
            [b'-', b'-', ..] => found.find('\n').unwrap_or(found.len()),
            [b'/', b'*', ..] => {
                out.push(' ');
                found[2..].find("*/").map_or(found.len(), |end| end + 4)
            }
            _ => {
                out.push_str(&found[..1]);
                1
            }
        };
        rest = &found[length..];
    }
    out.push_str(rest);
    out
}

/// A text as SQL writes it.
pub fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// The words of a statement: what views it can possibly need.
pub fn words(query: &str) -> BTreeSet<String> {
    without_comments(query)
        .split(|c: char| !(c.is_alphanumeric() || c == '_'))
        .filter(|word| !word.is_empty())
        .map(str::to_lowercase)
        .collect()
}

/// DataFusion's error as ours, without its layers of context.
fn failed(error: DataFusionError) -> Error {
    let error = error.find_root();
    let (code, hint) = match error {
        DataFusionError::Plan(text)
            if ["DDL not", "DML not", "Statement not"].iter().any(|start| text.starts_with(start)) =>
        {
            (Code::ReadOnly, Some("queries only read; write results with `--format parquet`".to_owned()))
        }
        DataFusionError::ResourcesExhausted(_) => {
            (Code::Environment, Some("raise `--memory-limit`".to_owned()))
        }
        DataFusionError::IoError(_) | DataFusionError::ObjectStore(_) => (Code::Environment, None),
        _ => (Code::Query, None),
    };
    let (reason, near) = plain(&error.to_string());
    Error::Sql { reason, code, hint: hint.or(near) }
}

/// The engine's words without what it adds for its own developers, and what it thinks was meant.
fn plain(text: &str) -> (String, Option<String>) {
    // Whatever else went wrong, this says it best.
    let signature = text.split_once("No function matches the given name and argument types '");
    if let Some((call, _)) = signature.and_then(|(_, rest)| rest.split_once("'.")) {
        return (format!("no function fits `{call}`"), None);
    }
    if let Some((name, near)) =
        text.split_once("Invalid function '").and_then(|(_, rest)| rest.split_once("'."))
    {
        let near = near.trim().strip_prefix("Did you mean '").and_then(|near| near.split_once("'?"));
        return (
            format!("no function is named `{name}`"),
            near.map(|(near, _)| format!("did you mean `{near}`?")),
        );
    }
    if let Some((_, found)) =
        text.split_once("non-boolean predicate '").and_then(|(_, rest)| rest.split_once("' returning "))
    {
        return (format!("the condition is of the type {found}, not true or false"), None);
    }
    if text.contains("only supports a single SQL statement") {
        return ("there is more than one statement".to_owned(), None);
    }
    // The engine lists every column that it knows; the nearest one, which it names too, is enough.
    let ends = ["\nValid fields are", " Valid fields are", "\nThis issue was likely caused by a bug"];
    let mut text = ends.iter().fold(text, |text, end| text.split(end).next().unwrap_or(text));
    let starts =
        ["Internal error: ", "Error during planning: ", "Execution error: ", "SQL error: ", "Schema error: "];
    while let Some(rest) = starts.iter().find_map(|start| text.strip_prefix(start)) {
        text = rest;
    }
    let wrapped = ["ParserError(\"", "TokenizerError(\""].iter().find_map(|start| text.strip_prefix(start));
    let Some(text) = wrapped.and_then(|text| text.strip_suffix("\")")) else {
        return (text.trim().to_owned(), None);
    };
    let text = text.replace("\\\"", "\"").replace("found: EOF", "found: the end");
    match text.split_once(" at Line: ").map(|(what, place)| (what, place.split_once(", Column: "))) {
        Some((what, Some((line, column)))) => (format!("{what} (line {line}, column {column})"), None),
        _ => (text, None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_comments_are_not_needed() {
        let words = |query| words(query).into_iter().collect::<Vec<_>>().join(" ");
        assert_eq!(words("-- its response\nSELECT a-b/c -- d"), "a b c select");
        assert_eq!(words("SELECT/* the\nprompt */a, '--' AS \"/*b\", c"), "a as b c select");
        assert_eq!(words("SELECT 'it''s -- one', d FROM t --"), "d from it one s select t");
        assert_eq!(words("SELECT e /* open"), "e select");
    }
}

//! Reads rows of a build's tables as names and values.

use std::collections::BTreeSet;

use arrow::json::writer::{JsonArray, WriterBuilder};
use serde_json::{Map, Value};

use super::Facts;
use crate::error::{Error, Result};
use crate::sql::{self, Engine, Width};
use crate::store::{BuildRecord, Dataset, StageRecord, Store};

/// Memory for questions about one thing.
const MEMORY: u64 = 1 << 30;

/// A build's datasets, and SQL over them.
pub(super) struct Reader<'a> {
    pub(super) build: &'a BuildRecord,
    /// In build order.
    pub(super) stages: Vec<(&'a StageRecord, Dataset)>,
    engine: Engine,
    _scratch: tempfile::TempDir,
}

impl<'a> Reader<'a> {
    pub(super) fn new(store: &Store, build: &'a BuildRecord) -> Result<Self> {
        let stages: Result<Vec<_>> =
            build.stages.iter().map(|stage| Ok((stage, store.expect(stage.fingerprint)?))).collect();
        let scratch = tempfile::tempdir().map_err(Error::io("create a folder in", std::env::temp_dir()))?;
        let engine = Engine::new(1, MEMORY, scratch.path())?;
        Ok(Self { build, stages: stages?, engine, _scratch: scratch })
    }

    /// The datasets that wrote a table, each once.
    pub(super) fn writers(&self, table: &str) -> Vec<&Dataset> {
        let mut seen = BTreeSet::new();
        let datasets = self.stages.iter().map(|(_, dataset)| dataset);
        datasets.filter(|dataset| owns(dataset, table) && seen.insert(dataset.manifest.fingerprint)).collect()
    }

    /// The datasets that were read from logs.
    pub(super) fn logs(&self) -> Vec<&Dataset> {
        self.writers("candidates")
    }

    /// The dataset of a stage's main input.
    pub(super) fn input(&self, stage: &StageRecord) -> Option<&Dataset> {
        let name = stage.inputs.first()?;
        self.stages.iter().find(|(stage, _)| stage.name == *name).map(|(_, dataset)| dataset)
    }

    /// Rows of a statement over tables of datasets.
    pub(super) fn rows(
        &self,
        tables: &[(&Dataset, &str)],
        statement: &str,
        values: &[(&str, &str)],
    ) -> Result<Vec<Facts>> {
        let session = self.engine.session(Width::Narrow);
        for (dataset, table) in tables {
            session.bind(None, table, &dataset.files(table)?, dataset.schema(table)?, dataset.key(table))?;
        }
        let values: Vec<(&str, sql::Value)> =
            values.iter().map(|(name, value)| (*name, sql::Value::Text((*value).to_owned()))).collect();
        let mut rows = Vec::new();
        session.each(statement, &values, |batch| {
            let unreadable = |source: &dyn std::fmt::Display| {
                Error::Environment(format!("a row cannot be told as JSON: {source}"))
            };
            let mut text = Vec::new();
            let mut writer = WriterBuilder::new().build::<_, JsonArray>(&mut text);
            writer.write(batch).and_then(|()| writer.finish()).map_err(|e| unreadable(&e))?;
            let found: Vec<Map<String, Value>> = if text.is_empty() {
                vec![]
            } else {
                serde_json::from_slice(&text).map_err(|e| unreadable(&e))?
            };
            let schema = batch.schema();
            for mut row in found {
                let mut facts = Facts::default();
                for field in schema.fields() {
                    facts.add(field.name(), row.remove(field.name()).unwrap_or_default());
                }
                rows.push(facts);
            }
            Ok(())
        })?;
        Ok(rows)
    }

    /// Rows of one table, of each dataset that wrote it.
    pub(super) fn all(&self, table: &str, statement: &str, values: &[(&str, &str)]) -> Result<Vec<Facts>> {
        let mut rows = Vec::new();
        for dataset in self.writers(table) {
            rows.extend(self.rows(&[(dataset, table)], statement, values)?);
        }
        Ok(rows)
    }

    /// Rows of one table, as it was read from logs.
    pub(super) fn logged(&self, table: &str, statement: &str, values: &[(&str, &str)]) -> Result<Vec<Facts>> {
        let mut rows = Vec::new();
        for dataset in self.logs() {
            rows.extend(self.rows(&[(dataset, table)], statement, values)?);
        }
        Ok(rows)
    }
}

/// Whether a dataset wrote a table itself.
pub(super) fn owns(dataset: &Dataset, table: &str) -> bool {
    dataset.table(table).is_some_and(|table| table.from.is_none())
}

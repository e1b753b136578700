//! The stage kinds: what each reads, writes and promises.
//!
//! A stage is a pure function of its inputs' digests, its parameters and its code version. Each kind has a file
//! with a `run` that writes tables to a draft and returns counts; publishing is the engine's work. Relational
//! work is SQL, in `sql/`; Rust does what is not relational.

mod alike;
mod balance;
mod dedup;
mod filter;
mod ingest;
mod label;
mod pack;
mod render;
mod side;
mod split;
mod sql;
mod tokenizer;
mod train;

use std::collections::BTreeMap;

use finch_core::Digest;
use finch_core::manifest::Counts;

use crate::catalog::Catalog;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::ingest::Discovery;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::spec::{Config, Pipeline, Stage};
use crate::sql::{Engine, Session, Width};
use crate::store::{Dataset, Draft, ReadingRecord, Store, TrainingRecord};

pub(crate) use dedup::NEAR;
pub use filter::DEFAULT_CONDITION;
pub(crate) use filter::{judged, step_tokens};
pub(crate) use sql::{storable, trimmed};
pub(crate) use train::{find_trainer, goes_on_after};

/// What a stage can see.
pub struct Context<'a> {
    /// The stage.
    pub stage: &'a Stage,
    /// The pipeline that it is in.
    pub pipeline: &'a Pipeline,
    /// The task catalogue.
    pub catalog: &'a Catalog,
    /// SQL.
    pub engine: &'a Engine,
    /// The store, for scratch space.
    pub store: &'a Store,
    /// The datasets it reads, in the order of [`Config::inputs`].
    pub inputs: &'a [Dataset],
    /// The logs, for an ingest stage.
    pub discovery: Option<&'a Discovery>,
    /// The name of the dataset that is made.
    pub fingerprint: Digest,
    /// The digest of the file or base that the parameters name.
    pub file: Option<Digest>,
    /// Where to say what is going on.
    pub progress: &'a Progress,
    /// Whether to go on.
    pub interrupt: &'a Interrupt,
}

/// What a stage did.
pub struct Outcome {
    /// The row table of the dataset.
    pub row_table: &'static str,
    /// Records in and out.
    pub counts: Counts,
    /// Things the user should know and that are no errors.
    pub warnings: Vec<String>,
    /// What a training made besides tables.
    pub training: Option<Box<Trained>>,
    /// What an ingest stage had to read.
    pub reading: Option<ReadingRecord>,
}

/// What a training made besides tables.
pub struct Trained {
    /// The digest of the weights.
    pub weights: Digest,
    /// Versions of the trainer's parts, and the device: the weights depend on them.
    pub toolchain: BTreeMap<String, String>,
    /// For the build's record.
    pub record: TrainingRecord,
    /// Its work folder, held until the dataset is published and [`settle`] has cleared it.
    pub work: train::Work,
}

/// A row of a `removed` table.
#[derive(serde::Serialize)]
pub(crate) struct Removed {
    pub(crate) record_id: String,
    pub(crate) record_kind: &'static str,
    pub(crate) code: &'static str,
    pub(crate) reason: String,
}

/// The code version of a stage kind. Raise it when the same inputs and parameters give other rows.
pub fn code_version(kind: &str) -> u32 {
    match kind {
        // 3: the outcome of each example's step.
        "render" => 3,
        // 2: the outcome of each example.
        "pack" => 2,
        // 4: failures are recognised by rules, which know more messages.
        "ingest" => 4,
        // 2: which rule found a failure of the machine, and scores beyond the bound.
        "label" => 2,
        // 3: leaks in names and texts, proposals of alias groups, and groups whose names disagree are held out.
        "split" => 3,
        "dedup" | "filter" | "balance" | "tokenizer" | "train" | "sql" => 1,
        _ => 0,
    }
}

/// Whether a dataset that is in the store is good enough for this spec: limits are no part of a fingerprint.
pub fn admit(stage: &Stage, counts: &Counts) -> Result<()> {
    match &stage.config {
        Config::Ingest(config) => ingest::admit(config, &stage.name, counts),
        _ => Ok(()),
    }
}

/// Runs a stage into a draft.
pub fn run(context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    match &context.stage.config {
        Config::Ingest(config) => ingest::run(config, context, draft),
        Config::Dedup(config) => dedup::run(config, context, draft),
        Config::Label(config) => label::run(config, context, draft),
        Config::Filter(config) => filter::run(config, context, draft),
        Config::Balance(config) => balance::run(config, context, draft),
        Config::Split(config) => split::run(config, context, draft),
        Config::Tokenizer(config) => tokenizer::run(config, context, draft),
        Config::Render(config) => render::run(config, context, draft),
        Config::Pack(config) => pack::run(config, context, draft),
        Config::Train(config) => train::run(config, context, draft),
        Config::Sql(config) => sql::run(config, context, draft),
    }
}

/// Clears up after a stage whose dataset is published. What cannot be removed stays.
pub fn settle(stage: &Stage, store: &Store, fingerprint: Digest, work: Option<train::Work>) {
    if matches!(stage.config, Config::Train(_)) {
        train::settle(&store.training(fingerprint), work);
    }
}

impl Context<'_> {
    /// An error of this stage.
    pub(crate) fn error(&self, code: Code, reason: impl Into<String>, hint: Option<&str>) -> Error {
        Error::Stage {
            stage: self.stage.name.clone(),
            reason: reason.into(),
            code,
            hint: hint.map(str::to_owned),
        }
    }

    /// A session in which the main input is the schema `input`, with the texts that `query` speaks of.
    pub(crate) fn session(&self, query: &str) -> Result<Session<'_>> {
        let words = crate::sql::views::Needed::by(query);
        let width = if words.wide() { Width::Wide } else { Width::Narrow };
        let session = self.engine.session(width);
        crate::sql::views::bind(&session, Some("input"), &self.inputs[0], &words)?;
        Ok(session)
    }

    /// The columns of the input's transitions, without texts.
    pub(crate) fn transitions_schema(&self) -> Result<arrow::datatypes::SchemaRef> {
        self.inputs[0].schema("transitions")
    }

    /// Rows of the input's transitions.
    pub(crate) fn transitions_rows(&self) -> u64 {
        self.inputs[0].table("transitions").map_or(0, |table| table.rows)
    }
}

/// A table's columns with those that a stage kind adds.
pub(crate) fn extended(
    schema: &arrow::datatypes::SchemaRef,
    table: &str,
    kind: &str,
) -> arrow::datatypes::SchemaRef {
    let present: Vec<String> = schema.fields().iter().map(|field| field.name().clone()).collect();
    let contract = crate::contract::Contract::of(table);
    let added: Vec<arrow::datatypes::FieldRef> = contract
        .added_by(kind)
        .filter(|column| !present.contains(&column.name))
        .map(|column| {
            std::sync::Arc::new(arrow::datatypes::Field::new(
                &column.name,
                column.data_type.clone(),
                column.nullable,
            ))
        })
        .collect();
    let fields: Vec<_> = schema.fields().iter().cloned().chain(added).collect();
    std::sync::Arc::new(arrow::datatypes::Schema::new(fields))
}

//! What differs between two builds: stages, parameters and inputs, columns, and rows.
//!
//! Stages are matched by name, so builds of two pipelines in one store can be compared. What build records and
//! manifests say is compared first; of tables whose `rows` digests are equal nothing is read. A table that is passed on
//! from stage to stage is compared once, at the first stage that shows it. A training has no rows to compare: it
//! differs by its weights and by its held-out losses.

mod rows;

use std::collections::{BTreeMap, BTreeSet};

use finch_core::Digest;
use finch_core::manifest::{Counts, FileEntry, Manifest};
use serde::Serialize;

pub use rows::{Example, Rows, TableDiff, TaskRows};

use crate::code::Code;
use crate::error::{Error, Result};
use crate::evaluation::held_out;
use crate::sql::Engine;
use crate::store::{BuildRecord, Dataset, StageRecord, Store};

/// What to do about a dataset that is gone.
const AGAIN: &str = "a build of the same spec on the same logs makes it again";

/// What differs between two builds.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// The old build.
    pub before: BuildName,
    /// The new build.
    pub after: BuildName,
    /// Whether anything differs.
    pub differs: bool,
    /// Stages of the old build alone.
    pub removed: Vec<StageName>,
    /// Stages of the new build alone.
    pub added: Vec<StageName>,
    /// Stages of both, in the new build's order, also those that are equal.
    pub stages: Vec<StageDiff>,
}

/// Which build is meant.
#[derive(Clone, Debug, Serialize)]
pub struct BuildName {
    /// Its id.
    pub build_id: String,
    /// The pipeline's name.
    pub pipeline: String,
    /// RFC 3339, UTC.
    pub started_at: String,
    /// `ok`, `failed` or `interrupted`: one that did not finish lacks stages.
    pub status: String,
    /// The stage that was asked for with `--only`.
    pub only: Option<String>,
}

/// A stage of one build.
#[derive(Clone, Debug, Serialize)]
pub struct StageName {
    /// Its name.
    pub stage: String,
    /// Its kind.
    pub kind: String,
    /// Its dataset.
    pub fingerprint: Digest,
    /// Rows of its row table.
    pub rows: u64,
}

/// An old value and a new one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Pair<T> {
    /// In the old build.
    pub before: T,
    /// In the new build.
    pub after: T,
}

/// A named value that differs; one that is missing is null.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change<T> {
    /// What it is.
    pub name: String,
    /// In the old build.
    pub before: Option<T>,
    /// In the new build.
    pub after: Option<T>,
}

/// A stage that both builds have.
#[derive(Clone, Debug, Serialize)]
pub struct StageDiff {
    /// Its name.
    pub stage: String,
    /// Its kind, in the new build.
    pub kind: String,
    /// Whether anything below differs.
    pub differs: bool,
    /// Its datasets.
    pub fingerprint: Pair<Digest>,
    /// `reads` (the names of its inputs), `code`, `parameter.<name>`, `input.<n>`, `outside.<what>`, `pipeline.<name>`.
    pub parts: Vec<Change<String>>,
    /// Records in and out, and why.
    pub counts: Vec<Change<u64>>,
    /// A training's weights, when they differ.
    pub weights: Option<Pair<Option<Digest>>>,
    /// Files that are not tables, by their BLAKE3.
    pub artifacts: Vec<Change<Digest>>,
    /// Held-out losses of a training after its last step, by split and task, when they differ.
    pub held_out: Vec<LossDiff>,
    /// Tables that differ.
    pub tables: Vec<TableDiff>,
}

/// The held-out loss of a task, or of all, after the last step of two trainings, in nats a token.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LossDiff {
    /// `test` or `validation`; none for all.
    pub split: Option<String>,
    /// The task; none for all.
    pub task: Option<String>,
    /// Of the old build's model.
    pub before: Option<f64>,
    /// Of the new build's model.
    pub after: Option<f64>,
}

impl From<&BuildRecord> for BuildName {
    fn from(build: &BuildRecord) -> Self {
        Self {
            build_id: build.build_id.clone(),
            pipeline: build.pipeline.clone(),
            started_at: build.started_at.clone(),
            status: build.status.clone(),
            only: build.only.clone(),
        }
    }
}

/// Compares two builds of a store, the old one first.
pub fn diff(store: &Store, before: &BuildRecord, after: &BuildRecord, engine: &Engine) -> Result<Diff> {
    let lone = |build: &BuildRecord, other: &BuildRecord| -> Vec<StageName> {
        let stages = build.stages.iter().filter(|stage| other.stage(&stage.name).is_none());
        let name = |stage: &StageRecord| StageName {
            stage: stage.name.clone(),
            kind: stage.kind.clone(),
            fingerprint: stage.fingerprint,
            rows: stage.rows,
        };
        stages.map(name).collect()
    };
    let (removed, added) = (lone(before, after), lone(after, before));
    let mut compared = BTreeSet::new();
    let mut stages = Vec::new();
    for new in &after.stages {
        let Some(old) = before.stage(&new.name) else { continue };
        let mut found = of_records(old, new);
        // One fingerprint is one dataset: nothing is read, it may even be gone.
        if old.fingerprint != new.fingerprint {
            let (a, b) = (dataset(store, before, old)?, dataset(store, after, new)?);
            of_manifests(&mut found, &a.manifest, &b.manifest);
            of_tables(&mut found, engine, store, [&a, &b], &mut compared)
                .map_err(|error| error.in_stage(&new.name))?;
            if found.tables.iter().any(|table| table.table == "losses") {
                found.held_out = of_losses(&a, &b).map_err(|error| error.in_stage(&new.name))?;
            }
        }
        found.differs = !(found.parts.is_empty()
            && found.counts.is_empty()
            && found.weights.is_none()
            && found.artifacts.is_empty()
            && found.tables.is_empty());
        stages.push(found);
    }
    let differs = !removed.is_empty() || !added.is_empty() || stages.iter().any(|stage| stage.differs);
    Ok(Diff { before: before.into(), after: after.into(), differs, removed, added, stages })
}

/// The dataset of a build's stage, which may have been removed since.
fn dataset(store: &Store, build: &BuildRecord, stage: &StageRecord) -> Result<Dataset> {
    store.dataset(stage.fingerprint)?.ok_or_else(|| Error::Store {
        reason: format!(
            "build `{}`: the dataset {} of its stage `{}` is not in the store `{}`",
            build.build_id,
            stage.fingerprint.short(),
            stage.name,
            store.place()
        ),
        code: Code::Damaged,
        hint: Some(AGAIN.to_owned()),
    })
}

/// What two records of a stage say it was made from.
fn of_records(old: &StageRecord, new: &StageRecord) -> StageDiff {
    let reads = |stage: &StageRecord| (!stage.inputs.is_empty()).then(|| stage.inputs.join(", "));
    let mut parts = Vec::new();
    if old.inputs != new.inputs {
        parts.push(Change { name: "reads".to_owned(), before: reads(old), after: reads(new) });
    }
    parts.extend(changes(&old.parts, &new.parts));
    StageDiff {
        stage: new.name.clone(),
        kind: new.kind.clone(),
        differs: false,
        fingerprint: Pair { before: old.fingerprint, after: new.fingerprint },
        parts,
        counts: vec![],
        weights: None,
        artifacts: vec![],
        held_out: vec![],
        tables: vec![],
    }
}

/// What two manifests say besides their tables.
fn of_manifests(found: &mut StageDiff, old: &Manifest, new: &Manifest) {
    found.counts = changes(&figures(&old.counts), &figures(&new.counts));
    if old.weights != new.weights {
        found.weights = Some(Pair { before: old.weights, after: new.weights });
    }
    let digests = |files: &[FileEntry]| -> BTreeMap<String, Digest> {
        files.iter().map(|file| (file.name.clone(), file.blake3)).collect()
    };
    found.artifacts = changes(&digests(&old.artifacts), &digests(&new.artifacts));
}

/// Counts by name. A stage's own reasons come after a dot.
fn figures(counts: &Counts) -> BTreeMap<String, u64> {
    let totals = [
        ("input", counts.input),
        ("used", counts.used),
        ("merged", counts.merged),
        ("removed", counts.removed),
        ("quarantined", counts.quarantined),
    ];
    let totals = totals.map(|(name, count)| (name.to_owned(), count));
    let reasons = counts.reasons.iter().map(|(name, count)| (format!("reason.{name}"), *count));
    totals.into_iter().chain(reasons).collect()
}

/// The entries of two maps that differ, by name.
fn changes<T: Clone + PartialEq>(old: &BTreeMap<String, T>, new: &BTreeMap<String, T>) -> Vec<Change<T>> {
    let names: BTreeSet<&String> = old.keys().chain(new.keys()).collect();
    names
        .into_iter()
        .filter(|name| old.get(*name) != new.get(*name))
        .map(|name| Change {
            name: name.clone(),
            before: old.get(name).cloned(),
            after: new.get(name).cloned(),
        })
        .collect()
}

/// A table, and the datasets that hold its files.
type Compared = (String, Option<Digest>, Option<Digest>);

/// Compares the tables of two datasets, as far as they were not `compared` at another stage.
fn of_tables(
    found: &mut StageDiff,
    engine: &Engine,
    store: &Store,
    [old, new]: [&Dataset; 2],
    compared: &mut BTreeSet<Compared>,
) -> Result<()> {
    let names = old.manifest.tables.keys().chain(new.manifest.tables.keys());
    for name in names.collect::<BTreeSet<_>>() {
        let (before, after) = (old.table(name), new.table(name));
        if let (Some(before), Some(after)) = (before, after)
            && before.rows_digest == after.rows_digest
            && before.schema == after.schema
        {
            continue;
        }
        let holders = [holder(store, old, name)?, holder(store, new, name)?];
        if compared.insert((name.clone(), holders[0], holders[1])) {
            let sides = [before.map(|_| old), after.map(|_| new)];
            found.tables.extend(rows::compare(engine, name, sides)?);
        }
    }
    Ok(())
}

/// The dataset that holds a table's files, when there is such a table.
fn holder(store: &Store, dataset: &Dataset, name: &str) -> Result<Option<Digest>> {
    let Some(table) = dataset.table(name) else { return Ok(None) };
    let own = dataset.manifest.fingerprint;
    let Some(from) = table.from else { return Ok(Some(own)) };
    if store.dataset(from)?.is_some() {
        return Ok(Some(from));
    }
    Err(Error::Store {
        reason: format!(
            "dataset {}: its table `{name}` lies in dataset {}, which is not in the store `{}`",
            own.short(),
            from.short(),
            store.place()
        ),
        code: Code::Damaged,
        hint: Some(AGAIN.to_owned()),
    })
}

/// Held-out losses of two trainings that differ.
fn of_losses(old: &Dataset, new: &Dataset) -> Result<Vec<LossDiff>> {
    // All tasks come last.
    type Of = (bool, Option<String>, Option<String>);
    let losses = |dataset: &Dataset| -> Result<BTreeMap<Of, f64>> {
        if dataset.table("losses").is_none() {
            return Ok(BTreeMap::new());
        }
        let losses = held_out(dataset)?.tasks.into_iter();
        Ok(losses.map(|loss| ((loss.name.is_none(), loss.split, loss.name), loss.after)).collect())
    };
    let (old, new) = (losses(old)?, losses(new)?);
    let keys: BTreeSet<_> = old.keys().chain(new.keys()).collect();
    let rows = keys.into_iter().map(|key| LossDiff {
        split: key.1.clone(),
        task: key.2.clone(),
        before: old.get(key).copied(),
        after: new.get(key).copied(),
    });
    Ok(rows.filter(|row| row.before != row.after).collect())
}

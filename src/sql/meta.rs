//! `meta.builds`, `meta.stages`, `meta.files`, `meta.counts`: what finch did, as tables.
//!
//! They are made from build records and manifests, and only when a query names them: an ordinary question reads no old
//! build. A record or manifest that cannot be read is an error, never a row that is missing; a dataset that was removed
//! since has no files and no counts.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use datafusion::datasource::MemTable;
use finch_core::Digest;
use finch_core::manifest::{FileEntry, Manifest};
use serde::Serialize;

use super::{Session, failed, words};
use crate::contract::{Contract, encode};
use crate::error::Result;
use crate::store::{BuildRecord, Decision, Store};

/// The schema's name. A stage of this name hides it.
pub const SCHEMA: &str = "meta";

#[derive(Serialize)]
struct Build<'a> {
    build_id: &'a str,
    pipeline: &'a str,
    started_at: &'a str,
    seconds: f64,
    host: &'a str,
    threads: usize,
    only_stage: Option<&'a str>,
    status: &'a str,
    error: Option<&'a str>,
    stages: usize,
    computed: usize,
}

#[derive(Serialize)]
struct Stage<'a> {
    build_id: &'a str,
    ordinal: usize,
    stage: &'a str,
    kind: &'a str,
    inputs: &'a [String],
    decision: Decision,
    why: &'a str,
    rows: u64,
    seconds: f64,
    fingerprint: Digest,
    manifest: Digest,
    parts: String,
    training: Option<String>,
}

#[derive(Serialize)]
struct File<'a> {
    stage: &'a str,
    fingerprint: Digest,
    table_name: Option<&'a str>,
    file: &'a str,
    rows: u64,
    bytes: u64,
    blake3: Digest,
    sha256: Digest,
}

#[derive(Serialize)]
struct Count<'a> {
    build_id: &'a str,
    stage: &'a str,
    fingerprint: Digest,
    is_total: bool,
    reason: &'a str,
    records: u64,
}

/// Whether a query can mean these tables.
pub fn named(query: &str) -> bool {
    words(query).contains(SCHEMA)
}

/// Binds the tables that a query can mean; nothing is read when it names none.
pub fn bind(session: &Session<'_>, store: &Store, query: &str) -> Result<()> {
    if !named(query) {
        return Ok(());
    }
    let words = words(query);
    let builds = store.builds()?;
    register(session, "builds", &builds.iter().map(build).collect::<Vec<_>>())?;
    register(session, "stages", &builds.iter().flat_map(stages).collect::<Vec<_>>())?;
    // Without their names in the query these are only there for the message about a name that is nearly theirs.
    let needed = ["files", "counts"].map(|name| words.contains(name));
    let manifests = if needed.contains(&true) { manifests(store, &builds)? } else { BTreeMap::new() };
    register(session, "files", &files(&builds, &manifests))?;
    register(session, "counts", &counts(&builds, &manifests))
}

fn register<T: Serialize>(session: &Session<'_>, name: &str, rows: &[T]) -> Result<()> {
    let contract = format!("{SCHEMA}.{name}");
    let schema = Contract::of(&contract).schema(&[]);
    let batches = encode(&contract, &schema, rows)?;
    let table = MemTable::try_new(schema, vec![batches]).map_err(failed)?;
    session.register(Some(SCHEMA), name, Arc::new(table))
}

fn build(build: &BuildRecord) -> Build<'_> {
    Build {
        build_id: &build.build_id,
        pipeline: &build.pipeline,
        started_at: &build.started_at,
        seconds: build.seconds,
        host: &build.host,
        threads: build.threads,
        only_stage: build.only.as_deref(),
        status: &build.status,
        error: build.error.as_deref(),
        stages: build.stages.len(),
        computed: build.stages.iter().filter(|stage| stage.decision == Decision::Run).count(),
    }
}

fn stages(build: &BuildRecord) -> impl Iterator<Item = Stage<'_>> {
    build.stages.iter().enumerate().map(|(ordinal, stage)| Stage {
        build_id: &build.build_id,
        ordinal,
        stage: &stage.name,
        kind: &stage.kind,
        inputs: &stage.inputs,
        decision: stage.decision,
        why: &stage.why,
        rows: stage.rows,
        seconds: stage.seconds,
        fingerprint: stage.fingerprint,
        manifest: stage.manifest,
        parts: serde_json::json!(stage.parts).to_string(),
        training: stage.training.as_ref().map(|training| serde_json::json!(training).to_string()),
    })
}

/// The manifests of all datasets that builds name and that are still there.
fn manifests(store: &Store, builds: &[BuildRecord]) -> Result<BTreeMap<Digest, Manifest>> {
    let stages = builds.iter().flat_map(|build| &build.stages);
    let fingerprints: BTreeSet<Digest> = stages.map(|stage| stage.fingerprint).collect();
    let mut manifests = BTreeMap::new();
    for fingerprint in fingerprints {
        if let Some(dataset) = store.dataset(fingerprint)? {
            manifests.insert(fingerprint, dataset.manifest);
        }
    }
    Ok(manifests)
}

fn files<'a>(builds: &'a [BuildRecord], manifests: &'a BTreeMap<Digest, Manifest>) -> Vec<File<'a>> {
    let stages = builds.iter().flat_map(|build| &build.stages);
    let named: BTreeSet<(&str, Digest)> =
        stages.map(|stage| (stage.name.as_str(), stage.fingerprint)).collect();
    let mut rows = Vec::new();
    for (stage, fingerprint) in named {
        let Some(manifest) = manifests.get(&fingerprint) else { continue };
        let row = |table_name: Option<&'a str>, file: &'a FileEntry| File {
            stage,
            fingerprint,
            table_name,
            file: &file.name,
            rows: file.rows,
            bytes: file.bytes,
            blake3: file.blake3,
            sha256: file.sha256,
        };
        for (name, table) in manifest.tables.iter().filter(|(_, table)| table.from.is_none()) {
            rows.extend(table.files.iter().map(|file| row(Some(name), file)));
        }
        rows.extend(manifest.artifacts.iter().map(|file| row(None, file)));
    }
    rows
}

fn counts<'a>(builds: &'a [BuildRecord], manifests: &'a BTreeMap<Digest, Manifest>) -> Vec<Count<'a>> {
    let mut rows = Vec::new();
    for build in builds {
        for stage in &build.stages {
            let Some(manifest) = manifests.get(&stage.fingerprint) else { continue };
            let counts = &manifest.counts;
            let row = |is_total: bool, reason: &'a str, records: u64| Count {
                build_id: &build.build_id,
                stage: &stage.name,
                fingerprint: stage.fingerprint,
                is_total,
                reason,
                records,
            };
            let totals = [
                ("input", counts.input),
                ("used", counts.used),
                ("merged", counts.merged),
                ("removed", counts.removed),
                ("quarantined", counts.quarantined),
            ];
            rows.extend(totals.map(|(reason, records)| row(true, reason, records)));
            rows.extend(counts.reasons.iter().map(|(reason, records)| row(false, reason, *records)));
        }
    }
    rows
}

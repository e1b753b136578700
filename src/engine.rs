//! Builds a pipeline: each stage reused or run, published, and recorded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use finch_core::manifest::{self, Manifest};

use crate::code::Code;
use crate::error::{Error, Result};
use crate::plan::{Parts, Prepared, fingerprint, parameters, what_changed};
use crate::progress::Progress;
use crate::spec::Pipeline;
use crate::sql;
use crate::stage::{self, Context, code_version};
use crate::store::{BuildRecord, Dataset, Decision, Draft, StageRecord, Store, verify};

/// How much of the machine to use; it changes no row.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    /// Threads.
    pub threads: usize,
    /// Bytes of memory.
    pub memory: u64,
}

/// The smallest memory limit.
pub const MIN_MEMORY: u64 = 512 << 20;

impl Default for Budget {
    fn default() -> Self {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        Self { threads, memory: 4 << 30 }
    }
}

impl Budget {
    /// Sets up the thread pool that is shared by the whole process. Later calls change nothing.
    pub fn apply(&self) {
        // It fails only when a pool is there already.
        let _ = rayon::ThreadPoolBuilder::new().num_threads(self.threads).build_global();
    }
}

/// What to build.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// This stage and what it needs; everything when `None`.
    pub only: Option<String>,
    /// Compute this stage although its dataset is there, and compare.
    pub force: Option<String>,
}

/// A finished build.
pub struct Built {
    /// Its record.
    pub record: BuildRecord,
    /// The datasets in build order, by stage.
    pub datasets: Vec<(String, Dataset)>,
}

/// Builds a pipeline. A failure is recorded too, and harms nothing that is in the store.
pub fn run(pipeline: &Pipeline, selection: &Selection, budget: Budget, progress: &Progress) -> Result<Built> {
    let prepared = Prepared::new(pipeline)?;
    for name in selection.only.iter().chain(&selection.force) {
        if pipeline.stage(name).is_none() {
            return Err(Error::Usage(format!("the spec has no stage `{name}`")));
        }
    }
    let store = Store::create(&pipeline.store)?;
    let mut record = BuildRecord::start(&pipeline.name, budget.threads);
    record.only.clone_from(&selection.only);
    let started = Instant::now();
    let mut build = Build {
        prepared: &prepared,
        store: &store,
        budget,
        progress,
        datasets: BTreeMap::new(),
        engine: None,
    };
    let result = build.stages(selection, &mut record);
    let datasets = std::mem::take(&mut build.datasets);
    drop(build);
    record.seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok(()) => "ok".clone_into(&mut record.status),
        Err(error) => record.error = Some(error.to_string()),
    }
    store.record(&record)?;
    result?;
    let order = prepared.graph.order().iter().copied();
    let datasets: Vec<(String, Dataset)> = order
        .filter_map(|index| Some((pipeline.stages[index].name.clone(), datasets.get(&index)?.clone())))
        .collect();
    for (_, dataset) in &datasets {
        store.link_latest(dataset)?;
    }
    Ok(Built { record, datasets })
}

struct Build<'a> {
    prepared: &'a Prepared<'a>,
    store: &'a Store,
    budget: Budget,
    progress: &'a Progress,
    datasets: BTreeMap<usize, Dataset>,
    /// Set up when the first stage runs: a build that reuses everything needs no SQL. The folder takes spills.
    engine: Option<(sql::Engine, tempfile::TempDir)>,
}

impl Build<'_> {
    fn stages(&mut self, selection: &Selection, record: &mut BuildRecord) -> Result<()> {
        let pipeline = self.prepared.pipeline;
        let before = self.store.last_build();
        let only = selection
            .only
            .as_ref()
            .and_then(|name| pipeline.stages.iter().position(|stage| stage.name == *name));
        let order = match only {
            Some(stage) => self.prepared.graph.needed(stage),
            None => self.prepared.graph.order().to_vec(),
        };
        for index in order {
            let stage = &pipeline.stages[index];
            let started = Instant::now();
            let inputs: Vec<Dataset> = self
                .prepared
                .graph
                .inputs(index)
                .iter()
                .filter_map(|input| self.datasets.get(input).cloned())
                .collect();
            let parts = self.prepared.parts(index, &inputs.iter().collect::<Vec<_>>());
            let fingerprint = fingerprint(&parts);
            let mut there = self.store.dataset(fingerprint)?;
            if let Some(damage) = there.as_ref().and_then(Dataset::damage) {
                let aside = self.store.set_aside(fingerprint)?;
                let text =
                    format!("its dataset was damaged ({damage}) and is set aside in `{}`", aside.display());
                self.progress.warning(&stage.name, &text);
                there = None;
            }
            let forced = selection.force.as_ref() == Some(&stage.name);
            let (dataset, decision, why) = match there {
                Some(dataset) if !forced => {
                    (dataset, Decision::Reuse, "its dataset is in the store".to_owned())
                }
                there => {
                    let why = match &there {
                        Some(_) => "--force".to_owned(),
                        None => {
                            what_changed(&parts, before.as_ref().and_then(|build| build.stage(&stage.name)))
                        }
                    };
                    self.progress.started(&stage.name, stage.config.kind(), &why);
                    (self.compute(index, &inputs, &parts, there.as_ref())?, Decision::Run, why)
                }
            };
            stage::admit(stage, &dataset.manifest.counts)?;
            let rows = dataset.table(&dataset.manifest.row_table).map_or(0, |table| table.rows);
            let stage_record = StageRecord {
                name: stage.name.clone(),
                kind: stage.config.kind().to_owned(),
                inputs: stage.config.inputs().iter().map(|input| input.stage.clone()).collect(),
                fingerprint,
                manifest: self.store.manifest_digest(fingerprint)?,
                decision,
                why,
                rows,
                seconds: started.elapsed().as_secs_f64(),
                parts,
            };
            self.progress.finished(&stage_record, &dataset.manifest);
            record.stages.push(stage_record);
            self.datasets.insert(index, dataset);
        }
        Ok(())
    }

    /// Runs a stage and publishes its dataset; a forced one must come out as it was.
    fn compute(
        &mut self,
        index: usize,
        inputs: &[Dataset],
        parts: &Parts,
        there: Option<&Dataset>,
    ) -> Result<Dataset> {
        let pipeline = self.prepared.pipeline;
        let stage = &pipeline.stages[index];
        if self.engine.is_none() {
            let scratch = self.store.scratch()?;
            let engine = sql::Engine::new(self.budget.threads, self.budget.memory, scratch.path())?;
            self.engine = Some((engine, scratch));
        }
        let (engine, _) = self.engine.as_ref().expect("set up above");
        let mut draft = Draft::new(self.store)?;
        let context = Context {
            stage,
            pipeline,
            catalog: &self.prepared.catalog,
            engine,
            store: self.store,
            inputs,
            discovery: self.prepared.discoveries.get(&index),
        };
        let outcome = stage::run(&context, &mut draft).map_err(|error| error.in_stage(&stage.name))?;
        for warning in &outcome.warnings {
            self.progress.warning(&stage.name, warning);
        }
        if !outcome.counts.balanced() {
            return Err(Error::Stage {
                stage: stage.name.clone(),
                reason: format!("records went missing: {:?}", outcome.counts),
                code: Code::NotConserved,
                hint: Some("this is a defect of finch; please report it".to_owned()),
            });
        }
        let (folder, tables, artifacts) = draft.into_parts();
        let (rows, bytes) = manifest::digests(&tables, &artifacts);
        let manifest = Manifest {
            version: manifest::VERSION,
            fingerprint: fingerprint(parts),
            kind: stage.config.kind().to_owned(),
            code_version: code_version(stage.config.kind()),
            parameters: parameters(&stage.config),
            inputs: parts
                .iter()
                .filter(|(name, _)| name.starts_with("input.") || name.starts_with("outside."))
                .filter_map(|(name, value)| Some((name.clone(), value.parse().ok()?)))
                .collect(),
            row_table: outcome.row_table.to_owned(),
            tables,
            artifacts,
            rows,
            bytes,
            counts: outcome.counts,
            seed: parts.get("pipeline.seed").and_then(|seed| seed.parse().ok()),
            toolchain: crate::toolchain(),
        };
        if let Some(there) = there {
            let same = (manifest.rows, manifest.bytes) == (there.manifest.rows, there.manifest.bytes);
            if !same {
                return Err(Error::Stage {
                    stage: stage.name.clone(),
                    reason: "the forced run gave other rows than the dataset in the store".to_owned(),
                    code: Code::Damaged,
                    hint: Some("`finch verify` says whether the store is damaged".to_owned()),
                });
            }
            if verify::check_files(there).is_empty() {
                return Ok(there.clone());
            }
            // The rows are the same and the files are not: the store is damaged, and here is a good copy.
            let aside = self.store.set_aside(manifest.fingerprint)?;
            let text = format!(
                "its dataset was damaged and is replaced; the old files are in `{}`",
                aside.display()
            );
            self.progress.warning(&stage.name, &text);
        }
        self.store.publish(folder.path(), &manifest)
    }
}

/// Where a table of a build lies: (stage, shards). A name may be qualified by its stage.
pub fn locate(store: &Store, build: &BuildRecord, name: &str) -> Result<Option<(String, Vec<PathBuf>)>> {
    let (stage, table) = match name.split_once('.') {
        Some((stage, table)) => (Some(stage), table),
        None => (None, name),
    };
    let (stage, table) = match (stage, table.strip_prefix("removed_")) {
        (None, Some(owner)) if build.stage(owner).is_some() => (Some(owner), "removed"),
        _ => (stage, table),
    };
    for record in build.stages.iter().rev().filter(|record| stage.is_none_or(|stage| record.name == stage)) {
        let dataset = store.expect(record.fingerprint)?;
        // Unqualified, the stage that wrote the table last; qualified, also one that passes it on.
        if dataset.table(table).is_some_and(|table| stage.is_some() || table.from.is_none()) {
            return Ok(Some((record.name.clone(), dataset.files(table)?)));
        }
    }
    Ok(None)
}

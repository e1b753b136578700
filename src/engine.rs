//! Builds a pipeline: each stage reused or run, published, and recorded.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Instant;

use finch_core::Digest;
use finch_core::manifest::{self, Manifest};

use crate::code::Code;
use crate::data_tests;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::plan::{Action, Prepared, REUSED, Target, cut_off, parameters, plan, what_changed};
use crate::progress::Progress;
use crate::spec::{Config, DataTest, Input, Pipeline, Stage};
use crate::sql;
use crate::stage::{self, Context, code_version};
use crate::store::lease::{Lease, Work};
use crate::store::{BuildRecord, Dataset, Decision, Draft, ReadingRecord, StageRecord, Store, verify};

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
    /// Compute this stage although its dataset is there, and compare; train again, when it is a training.
    pub force: Option<String>,
}

/// A finished build.
pub struct Built {
    /// Its record.
    pub record: BuildRecord,
    /// The datasets in build order, by stage.
    pub datasets: Vec<(String, Dataset)>,
}

/// Builds a pipeline. A failure is recorded too, as is a signal, and harms nothing that is in the store.
pub fn run(
    pipeline: &Pipeline,
    selection: &Selection,
    budget: Budget,
    progress: &Progress,
    interrupt: &Interrupt,
) -> Result<Built> {
    run_prepared(&Prepared::new(pipeline, progress, interrupt)?, selection, budget, progress, interrupt)
}

/// Builds a pipeline whose sources were looked at already.
pub fn run_prepared(
    prepared: &Prepared<'_>,
    selection: &Selection,
    budget: Budget,
    progress: &Progress,
    interrupt: &Interrupt,
) -> Result<Built> {
    let pipeline = prepared.pipeline;
    for name in selection.only.iter().chain(&selection.force) {
        if pipeline.stage(name).is_none() {
            return Err(Error::Usage(format!("the spec has no stage `{name}`")));
        }
    }
    let store = Store::create(&pipeline.store, interrupt)?;
    for discovery in prepared.discoveries.values() {
        discovery.stats.save();
    }
    let mut lease = Lease::take(&store, Work::Build)?;
    early_trainer(prepared, selection, &store)?;
    let mut record = BuildRecord::start(&pipeline.name, budget.threads);
    record.only.clone_from(&selection.only);
    let started = Instant::now();
    let mut build = Build {
        prepared,
        store: &store,
        lease: &mut lease,
        budget,
        progress,
        interrupt,
        datasets: BTreeMap::new(),
        engine: None,
    };
    let result = build.stages(selection, &mut record);
    progress.ended();
    let datasets = std::mem::take(&mut build.datasets);
    drop(build);
    record.seconds = started.elapsed().as_secs_f64();
    match &result {
        Ok(()) => "ok".clone_into(&mut record.status),
        Err(error) => {
            if matches!(error, Error::Interrupted { .. }) {
                "interrupted".clone_into(&mut record.status);
            }
            record.error = Some(error.to_string());
        }
    }
    // What went wrong first says more than that it could not be recorded.
    let recorded = store.record(&record);
    result?;
    recorded?;
    let order = prepared.graph.order().iter().copied();
    let datasets: Vec<(String, Dataset)> = order
        .filter_map(|index| Some((pipeline.stages[index].name.clone(), datasets.get(&index)?.clone())))
        .collect();
    for (_, dataset) in &datasets {
        store.link_latest(dataset)?;
    }
    Ok(Built { record, datasets })
}

/// What a data test says of what a store has.
#[derive(Clone, Debug)]
pub enum Checked {
    /// It found nothing.
    Passed,
    /// It found rows.
    Failed(data_tests::Failed),
    /// Its stage's dataset, or one that this comes from, is not in the store.
    NotBuilt,
}

/// Runs all data tests of a pipeline over what its store has, and builds nothing.
pub fn check_data<'p>(
    prepared: &Prepared<'p>,
    budget: Budget,
    interrupt: &Interrupt,
) -> Result<Vec<(&'p DataTest, Checked)>> {
    let pipeline = prepared.pipeline;
    let store = Store::open(&pipeline.store, interrupt)?;
    let mut datasets: BTreeMap<usize, Dataset> = BTreeMap::new();
    for (index, planned) in prepared.graph.order().iter().zip(plan(prepared, &store, None)?) {
        if let (Action::Reuse, Some(fingerprint)) = (planned.action, planned.fingerprint) {
            datasets.insert(*index, store.expect(fingerprint)?);
        }
    }
    let scratch = store.scratch()?;
    let engine = sql::Engine::new(budget.threads, budget.memory, scratch.path())?;
    let mut checked = Vec::new();
    for test in &pipeline.tests {
        interrupt.check()?;
        let needed = pipeline.stages.iter().position(|stage| stage.name == test.stage.stage);
        let needed = needed.map(|index| prepared.graph.needed(index)).unwrap_or_default();
        let there: Vec<(&Stage, &Dataset)> = needed
            .iter()
            .filter_map(|stage| Some((&pipeline.stages[*stage], datasets.get(stage)?)))
            .collect();
        let found = match there.len() == needed.len() {
            false => Checked::NotBuilt,
            true => data_tests::run(&[test], &there, &engine, &store)?
                .pop()
                .map_or(Checked::Passed, Checked::Failed),
        };
        checked.push((test, found));
    }
    Ok(checked)
}

/// The stages to build, in order.
fn order(prepared: &Prepared<'_>, selection: &Selection) -> Vec<usize> {
    let stages = &prepared.pipeline.stages;
    let only = selection.only.as_ref().and_then(|name| stages.iter().position(|stage| stage.name == *name));
    match only {
        Some(stage) => prepared.graph.needed(stage),
        None => prepared.graph.order().to_vec(),
    }
}

/// Looks for the trainer before anything is computed, when it will be needed. A training that waits for its input and
/// was done before may come out reused, so its trainer is looked for when its turn comes.
fn early_trainer(prepared: &Prepared<'_>, selection: &Selection, store: &Store) -> Result<()> {
    let order = order(prepared, selection);
    let stages = order.iter().map(|&index| &prepared.pipeline.stages[index]);
    let trainings: Vec<&str> = stages
        .filter(|stage| matches!(stage.config, Config::Train(_)))
        .map(|stage| stage.name.as_str())
        .collect();
    if trainings.is_empty() {
        return Ok(());
    }
    let before = store.recent_builds();
    let planned = plan(prepared, store, selection.force.as_deref())?;
    for stage in planned.iter().filter(|planned| trainings.contains(&planned.stage.as_str())) {
        let needed = match stage.action {
            Action::Reuse | Action::CutOff => false,
            Action::Run => true,
            Action::Depends => before.iter().all(|build| build.stage(&stage.stage).is_none()),
        };
        if needed {
            stage::find_trainer(&stage.stage)?;
        }
    }
    Ok(())
}

struct Build<'a> {
    prepared: &'a Prepared<'a>,
    store: &'a Store,
    /// What the build uses, against a removal at the same time. It outlives the build until that is recorded.
    lease: &'a mut Lease,
    budget: Budget,
    progress: &'a Progress,
    interrupt: &'a Interrupt,
    datasets: BTreeMap<usize, Dataset>,
    /// Set up when the first stage runs: a build that reuses everything needs no SQL. The folder takes spills.
    engine: Option<(sql::Engine, tempfile::TempDir)>,
}

/// What a stage leaves for the build's record besides its dataset.
struct Beside {
    training: Option<stage::Trained>,
    reading: Option<ReadingRecord>,
}

impl Build<'_> {
    fn stages(&mut self, selection: &Selection, record: &mut BuildRecord) -> Result<()> {
        let pipeline = self.prepared.pipeline;
        let before = self.store.recent_builds();
        for index in order(self.prepared, selection) {
            self.interrupt.check()?;
            let stage = &pipeline.stages[index];
            let started = Instant::now();
            let inputs: Vec<Dataset> = self
                .prepared
                .graph
                .inputs(index)
                .iter()
                .filter_map(|input| self.datasets.get(input).cloned())
                .collect();
            let forced = selection.force.as_ref() == Some(&stage.name);
            let target = self.target(index, &inputs, forced)?;
            let fingerprint = target.fingerprint;
            let (mut training, mut work, mut reading) = (None, None, None);
            let (dataset, decision, why) = match &target.dataset {
                Some(dataset) if !forced => {
                    let ran = |input: &&Input| {
                        record.stage(&input.stage).is_some_and(|stage| stage.decision != Decision::Reuse)
                    };
                    match stage.config.inputs().into_iter().find(|input| ran(input)) {
                        None => (dataset.clone(), Decision::Reuse, REUSED.to_owned()),
                        Some(input) => (dataset.clone(), Decision::CutOff, cut_off(&input.stage)),
                    }
                }
                there => {
                    let why = match (forced, target.number()) {
                        (false, _) => {
                            let before = before.iter().find_map(|build| build.stage(&stage.name));
                            what_changed(&target.parts, before)
                        }
                        (true, 0) => "--force".to_owned(),
                        (true, attempt) => format!("--force, attempt {attempt} beside the first"),
                    };
                    self.progress.started(&stage.name, stage.config.kind(), &why);
                    let computed = self.compute(index, &inputs, &target, there.as_ref())?;
                    if let Some(trained) = computed.1.training {
                        (training, work) = (Some(trained.record), Some(trained.work));
                    }
                    reading = computed.1.reading;
                    (computed.0, Decision::Run, why)
                }
            };
            stage::settle(stage, self.store, fingerprint, work);
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
                parts: target.parts,
                tests: None,
                training,
                reading,
            };
            self.progress.finished(&stage_record, &dataset.manifest);
            record.stages.push(stage_record);
            self.datasets.insert(index, dataset);
            let tested = self.test(index, fingerprint, &before)?;
            if let Some(stage) = record.stages.last_mut() {
                stage.tests = tested;
            }
        }
        Ok(())
    }

    /// Runs the data tests of a stage, unless its dataset passed them in an earlier build; a digest of them.
    fn test(&mut self, index: usize, fingerprint: Digest, before: &[BuildRecord]) -> Result<Option<Digest>> {
        let stage = &self.prepared.pipeline.stages[index];
        let tests = data_tests::of(self.prepared.pipeline, &stage.name);
        let Some(digest) = data_tests::digest(&tests) else { return Ok(None) };
        if data_tests::passed(before, fingerprint, digest) {
            return Ok(Some(digest));
        }
        self.engine()?;
        let (engine, _) = self.engine.as_ref().expect("set up above");
        let needed = self.prepared.graph.needed(index).into_iter();
        let stages = &self.prepared.pipeline.stages;
        let datasets: Vec<(&Stage, &Dataset)> =
            needed.filter_map(|stage| Some((&stages[stage], self.datasets.get(&stage)?))).collect();
        let failed = data_tests::run(&tests, &datasets, engine, self.store)?;
        self.progress.tested(&stage.name, tests.len(), failed.len());
        if failed.is_empty() {
            return Ok(Some(digest));
        }
        let reasons: Vec<String> = failed.iter().map(data_tests::Failed::words).collect();
        Err(Error::Stage {
            stage: stage.name.clone(),
            reason: format!("{} of {} data tests failed: {}", failed.len(), tests.len(), reasons.join("; ")),
            code: Code::DataTest,
            hint: Some("nothing was made of these rows; mend the spec, the logs or the test".to_owned()),
        })
    }

    /// SQL, set up for the first who needs it.
    fn engine(&mut self) -> Result<()> {
        if self.engine.is_none() {
            let scratch = self.store.scratch()?;
            let engine = sql::Engine::new(self.budget.threads, self.budget.memory, scratch.path())?
                .metered(self.progress.meter());
            self.engine = Some((engine, scratch));
        }
        Ok(())
    }

    /// The dataset that a stage makes or has, with damage out of the way.
    fn target(&mut self, index: usize, inputs: &[Dataset], forced: bool) -> Result<Target> {
        let inputs: Vec<&Dataset> = inputs.iter().collect();
        let mut target = self.prepared.target(index, &inputs, self.store, forced)?;
        let tell = |text: &str| self.progress.warning(&self.prepared.pipeline.stages[index].name, text);
        // Written down, then looked at again: it may have been removed in between, and from here on cannot be.
        self.lease.claim(self.store, target.fingerprint, self.interrupt, tell)?;
        while target.dataset.is_some() && self.store.dataset(target.fingerprint)?.is_none() {
            target = self.prepared.target(index, &inputs, self.store, forced)?;
            self.lease.claim(self.store, target.fingerprint, self.interrupt, tell)?;
        }
        if target.damage.is_some() {
            // Another build may have mended it by now.
            target = self.prepared.target(index, &inputs, self.store, forced)?;
        }
        if let Some(damage) = target.damage.take() {
            let aside = self.store.set_aside(target.fingerprint)?;
            let text = format!("its dataset was damaged ({damage}) and is set aside in `{aside}`");
            self.progress.warning(&self.prepared.pipeline.stages[index].name, &text);
            target.dataset = None;
        }
        Ok(target)
    }

    /// Runs a stage and publishes its dataset; a forced one must come out as it was.
    fn compute(
        &mut self,
        index: usize,
        inputs: &[Dataset],
        target: &Target,
        there: Option<&Dataset>,
    ) -> Result<(Dataset, Beside)> {
        let pipeline = self.prepared.pipeline;
        let stage = &pipeline.stages[index];
        self.engine()?;
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
            fingerprint: target.fingerprint,
            file: self.prepared.file(index),
            progress: self.progress,
            interrupt: self.interrupt,
        };
        if let Some(input) = inputs.first() {
            let rows = input.table(&input.manifest.row_table).map_or(0, |table| table.rows);
            self.progress.meter().expect_rows(rows);
        }
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
        let mut toolchain = crate::toolchain();
        // What a training's tables say is no more reproducible than its weights, which stand for it.
        let beside = Beside { training: outcome.training.map(|trained| *trained), reading: outcome.reading };
        let (rows, weights) = match &beside.training {
            Some(trained) => {
                toolchain.extend(trained.toolchain.clone());
                (None, Some(trained.weights))
            }
            None => (Some(rows), None),
        };
        let manifest = Manifest {
            version: manifest::VERSION,
            fingerprint: target.fingerprint,
            kind: stage.config.kind().to_owned(),
            code_version: code_version(stage.config.kind()),
            parameters: parameters(&stage.config),
            inputs: target
                .parts
                .iter()
                .filter(|(name, _)| name.starts_with("input.") || name.starts_with("outside."))
                .filter_map(|(name, value)| Some((name.clone(), value.parse().ok()?)))
                .collect(),
            row_table: outcome.row_table.to_owned(),
            tables,
            artifacts,
            rows,
            weights,
            bytes,
            counts: outcome.counts,
            seed: target.parts.get("pipeline.seed").and_then(|seed| seed.parse().ok()),
            toolchain,
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
            if verify::check_files(there)?.is_empty() {
                return Ok((there.clone(), beside));
            }
            // The rows are the same and the files are not: the store is damaged, and here is a good copy.
            let aside = self.store.set_aside(manifest.fingerprint)?;
            let text = format!("its dataset was damaged and is replaced; the old files are in `{aside}`");
            self.progress.warning(&stage.name, &text);
        }
        Ok((self.store.publish(folder.path(), &manifest)?, beside))
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

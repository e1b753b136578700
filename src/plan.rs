//! What would run, and why: fingerprints, and what changed since the last build.
//!
//! A fingerprint covers a stage's code version, its resolved parameters and the `rows` digests of its inputs,
//! and nothing else: not names, paths, threads, or the store. A dataset with that fingerprint is never computed
//! twice. Because inputs count by what their rows say, a stage that ran again and came out the same leaves
//! everything after it untouched.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use finch_core::manifest::canonical_json;
use finch_core::training::digest_of_base;
use finch_core::{Digest, Kind};

use crate::catalog::Catalog;
use crate::check;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::ingest::Discovery;
use crate::ingest::discover::Unpacking;
use crate::interrupt::Interrupt;
use crate::progress::Progress;
use crate::remote::{self, Place};
use crate::spec::{Config, Diagnostic, Ingest, Pipeline, SourceEntry, TokenizerFrom};
use crate::stage::{code_version, goes_on_after};
use crate::store::{Dataset, StageRecord, Store};

/// A pipeline with everything from outside looked at: the catalogue read, logs found and hashed, files hashed.
pub struct Prepared<'a> {
    /// The spec.
    pub pipeline: &'a Pipeline,
    /// The order of stages.
    pub graph: Graph,
    /// The task catalogue.
    pub catalog: Catalog,
    /// What each ingest stage would read.
    pub discoveries: BTreeMap<usize, Discovery>,
    /// Digests of files that parameters name.
    files: BTreeMap<usize, Digest>,
}

/// What a fingerprint is made of, by name: `code`, `parameter.<name>`, `input.<n>`, `outside.<what>`.
pub type Parts = BTreeMap<String, String>;

impl<'a> Prepared<'a> {
    /// The digest of a file or base that a stage's parameters name.
    pub fn file(&self, index: usize) -> Option<Digest> {
        self.files.get(&index).copied()
    }

    /// Checks the spec against itself and the world; nothing runs and nothing is written.
    ///
    /// Remote sources are brought to this machine's cache first; `progress` says so.
    pub fn new(pipeline: &'a Pipeline, progress: &Progress, interrupt: &Interrupt) -> Result<Self> {
        let graph = Graph::new(pipeline)?;
        check::all(pipeline, &graph)?;
        let catalog = match &pipeline.tasks {
            Some((path, _)) => Catalog::read(path)?,
            None => Catalog::default(),
        };
        let mut discoveries = BTreeMap::new();
        let mut files = BTreeMap::new();
        let cache = Store::peek(&pipeline.store, interrupt)?.cache();
        for (index, stage) in pipeline.stages.iter().enumerate() {
            match &stage.config {
                Config::Ingest(config) => {
                    for source in &config.sources {
                        if let Some(path) = source.mapping.as_ref().filter(|path| !path.is_file()) {
                            let message = format!("there is no mapping `{}`", path.display());
                            let at = source.span.clone();
                            return Err(pipeline
                                .error(Diagnostic::new(Code::MissingSource, at, message))
                                .into());
                        }
                    }
                    let paths = located(&stage.name, config, progress, interrupt)?;
                    // Without a place for a cache, archives alone cannot be read.
                    let archives = remote::cache().map(|cache| cache.join("archives")).ok();
                    let interrupted = || interrupt.asked().is_some();
                    let unpacking = Unpacking { folder: archives.as_deref(), interrupted: &interrupted };
                    let found = Discovery::of(config, &paths, Some(&cache), &unpacking)?;
                    interrupt.check()?;
                    check::recognised(pipeline, config, &found)?;
                    discoveries.insert(index, found);
                }
                Config::Tokenizer(tokenizer) => {
                    if let TokenizerFrom::Path { path, span } = &tokenizer.from {
                        let bytes = std::fs::read(path).map_err(|error| {
                            let message = format!("cannot read the tokenizer: {error}");
                            pipeline.error(Diagnostic::new(Code::MissingSource, span.clone(), message))
                        })?;
                        files.insert(index, Digest::of_bytes(&bytes));
                    }
                }
                Config::Train(train) => {
                    files.insert(index, digest_of_base(&train.config.base)?);
                }
                _ => {}
            }
        }
        Ok(Self { pipeline, graph, catalog, discoveries, files })
    }

    /// The parts of a stage's fingerprint, given its inputs.
    pub fn parts(&self, index: usize, inputs: &[&Dataset]) -> Parts {
        let config = &self.pipeline.stages[index].config;
        let mut parts = Parts::new();
        parts.insert("code".to_owned(), format!("{} {}", config.kind(), code_version(config.kind())));
        if let serde_json::Value::Object(parameters) = parameters(config) {
            for (name, value) in parameters {
                parts.insert(format!("parameter.{name}"), canonical_json(&value));
            }
        }
        for (n, (input, name)) in inputs.iter().zip(config.inputs()).enumerate() {
            // A query speaks of its inputs by name, so there the names have a meaning.
            let role = if matches!(config, Config::Sql(_)) { name.stage.clone() } else { n.to_string() };
            parts.insert(format!("input.{role}"), input.manifest.content().to_string());
        }
        let seed = self.pipeline.seed.to_string();
        match config {
            Config::Ingest(_) => {
                if let Some(discovery) = self.discoveries.get(&index) {
                    parts.insert("outside.sources".to_owned(), discovery.digest().to_string());
                }
                parts.insert("outside.catalogue".to_owned(), self.catalog.ingest_digest().to_string());
                parts.insert("pipeline.sample".to_owned(), self.pipeline.sample.to_string());
                if self.pipeline.sample < 1.0 {
                    parts.insert("pipeline.seed".to_owned(), seed);
                }
            }
            Config::Split(split) => {
                if split.leak_ngram.is_some() {
                    let held = self.catalog.with_aliases(&split.hold_out_tasks, &split.hold_out_domains);
                    let statements = self.catalog.statements_digest(held);
                    parts.insert("outside.statements".to_owned(), statements.to_string());
                }
                parts.insert("pipeline.seed".to_owned(), seed);
                parts.insert("outside.alias_groups".to_owned(), self.catalog.alias_digest().to_string());
            }
            Config::Balance(_) | Config::Train(_) => {
                parts.insert("pipeline.seed".to_owned(), seed);
            }
            _ => {}
        }
        if let Some(file) = self.files.get(&index) {
            let what = if matches!(config, Config::Train(_)) { "outside.base" } else { "outside.file" };
            parts.insert(what.to_owned(), file.to_string());
        }
        parts
    }

    /// Which dataset of a stage a build means, given its inputs. Plans and builds both ask here.
    ///
    /// A stage that is a pure function has one. A training is none, so `--force` does not compare: it makes another
    /// attempt beside the earlier ones, whose number is a part of its fingerprint. A build means the newest attempt
    /// that is in the store, and the first one when none is. A damaged training is never replaced unasked.
    pub fn target(&self, index: usize, inputs: &[&Dataset], store: &Store, forced: bool) -> Result<Target> {
        let first = Target::new(self.parts(index, inputs));
        let stage = &self.pipeline.stages[index];
        if !matches!(stage.config, Config::Train(_)) {
            return first.looked_up(store, forced);
        }
        // Attempts may have been removed or set aside, so numbers can have gaps. Only names are compared here: a
        // thousand hashes take a millisecond, and nobody removes more attempts of one training than that.
        let stored = store.fingerprints()?;
        let mut attempts = (1..=stored.len() as u64 + 1000).rev().map(|attempt| first.attempt(attempt));
        let newest = attempts.find(|target| stored.binary_search(&target.fingerprint).is_ok());
        let target = newest.unwrap_or(first).looked_up(store, forced)?;
        match (&target.dataset, &target.damage) {
            (Some(_), _) if forced => target.next_attempt().looked_up(store, forced),
            (Some(_), Some(damage)) => Err(Error::Stage {
                stage: stage.name.clone(),
                reason: format!("its dataset is damaged: {damage}"),
                code: Code::Damaged,
                hint: Some(format!(
                    "`finch run --force {}` trains again, beside it; `finch verify` looks for more damage",
                    stage.name
                )),
            }),
            _ => Ok(target),
        }
    }
}

/// Where the sources of an ingest stage lie on this machine.
fn located(stage: &str, config: &Ingest, progress: &Progress, interrupt: &Interrupt) -> Result<Vec<PathBuf>> {
    let locate = |source: &SourceEntry| match &source.place {
        Place::Local(path) => Ok(path.clone()),
        Place::Remote(address) => {
            progress.staging(stage);
            let staged = remote::stage(address, &remote::cache()?, interrupt, progress.meter());
            progress.ended();
            let staged = staged?;
            progress.staged(stage, &source.given, &staged);
            Ok(staged.path)
        }
    };
    config.sources.iter().map(locate).collect()
}

/// A dataset that is meant, whether or not it is there.
#[derive(Clone, Debug)]
pub struct Target {
    /// What its fingerprint is made of.
    pub parts: Parts,
    /// Its name.
    pub fingerprint: Digest,
    /// The dataset, when it is in the store.
    pub dataset: Option<Dataset>,
    /// What is wrong with it at a glance.
    pub damage: Option<String>,
}

/// The part that tells attempts of one training from each other; the first one has none.
const ATTEMPT: &str = "attempt";

impl Target {
    fn new(parts: Parts) -> Self {
        Self { fingerprint: fingerprint(&parts), parts, dataset: None, damage: None }
    }

    /// A forced stage is made anew also when its manifest cannot be read; otherwise that is an error, and no absence.
    fn looked_up(mut self, store: &Store, forced: bool) -> Result<Self> {
        self.dataset = match store.dataset(self.fingerprint) {
            Err(error) if forced && error.code() == Code::BadManifest => {
                self.damage = Some(error.to_string());
                return Ok(self);
            }
            found => found?,
        };
        self.damage = self.dataset.as_ref().map(Dataset::damage).transpose()?.flatten();
        Ok(self)
    }

    fn attempt(&self, attempt: u64) -> Self {
        let mut parts = self.parts.clone();
        parts.insert(ATTEMPT.to_owned(), attempt.to_string());
        Self::new(parts)
    }

    /// How often the training was forced, up to this attempt.
    pub fn number(&self) -> u64 {
        self.parts.get(ATTEMPT).and_then(|number| number.parse().ok()).unwrap_or(0)
    }

    /// The attempt after this one.
    #[must_use]
    pub fn next_attempt(&self) -> Self {
        self.attempt(self.number() + 1)
    }
}

/// A stage's parameters as the manifest writes them, defaults included.
pub fn parameters(config: &Config) -> serde_json::Value {
    serde_json::to_value(config).unwrap_or(serde_json::Value::Null)
}

/// The digest of a stage's parts.
pub fn fingerprint(parts: &Parts) -> Digest {
    let fields = Kind::Fingerprint.fields().text("stage");
    parts.iter().fold(fields, |fields, (name, value)| fields.text(name).text(value)).finish()
}

/// What will happen to a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Its dataset is in the store.
    Reuse,
    /// What it reads runs again for the rows that it had, so its dataset still holds.
    CutOff,
    /// It must be computed.
    Run,
    /// It must be computed, unless what it reads comes out unchanged.
    Depends,
}

/// A stage in a plan.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Planned {
    /// The stage.
    pub stage: String,
    /// Its kind.
    pub kind: &'static str,
    /// What will happen.
    pub action: Action,
    /// Why.
    pub why: String,
    /// Its dataset, when it is known already.
    pub fingerprint: Option<Digest>,
}

/// The plan of a pipeline on a store, when a stage is `forced` or none is.
pub fn plan(prepared: &Prepared<'_>, store: &Store, forced: Option<&str>) -> Result<Vec<Planned>> {
    let builds = store.recent_builds();
    let mut datasets: BTreeMap<usize, Dataset> = BTreeMap::new();
    let mut planned = Vec::new();
    // Stages that run although their rows are known, and what is cut off behind them.
    let mut again = BTreeSet::new();
    for &index in prepared.graph.order() {
        let stage = &prepared.pipeline.stages[index];
        let inputs: Vec<&Dataset> =
            prepared.graph.inputs(index).iter().filter_map(|input| datasets.get(input)).collect();
        let kind = stage.config.kind();
        if inputs.len() < prepared.graph.inputs(index).len() {
            let waits = prepared.graph.inputs(index).iter().find(|input| !datasets.contains_key(input));
            let name = waits.map_or("", |&input| prepared.pipeline.stages[input].name.as_str());
            let why = format!("reads `{name}`, which must run first");
            planned.push(Planned {
                stage: stage.name.clone(),
                kind,
                action: Action::Depends,
                why,
                fingerprint: None,
            });
            continue;
        }
        let forced = forced == Some(stage.name.as_str());
        let Target { parts, fingerprint, dataset, damage } =
            prepared.target(index, &inputs, store, forced)?;
        let before = builds.iter().find_map(|build| build.stage(&stage.name));
        let (action, why) = match (&dataset, damage) {
            _ if forced => (Action::Run, "--force".to_owned()),
            (Some(_), None) => match prepared.graph.inputs(index).iter().find(|input| again.contains(*input))
            {
                None => (Action::Reuse, REUSED.to_owned()),
                Some(&input) => (Action::CutOff, cut_off(&prepared.pipeline.stages[input].name)),
            },
            (Some(_), Some(damage)) => (Action::Run, format!("its dataset is damaged: {damage}")),
            (None, _) => {
                let training = matches!(stage.config, Config::Train(_)).then(|| store.training(fingerprint));
                let why = match training.and_then(|work| goes_on_after(&work)) {
                    Some(step) => format!("it was interrupted, and goes on after step {step}"),
                    None => what_changed(&parts, before),
                };
                (Action::Run, why)
            }
        };
        if dataset.is_some() && action != Action::Reuse {
            again.insert(index);
        }
        // A stage that is run again for damage gives what its manifest says.
        datasets.extend(dataset.map(|dataset| (index, dataset)));
        planned.push(Planned {
            stage: stage.name.clone(),
            kind,
            action,
            why,
            fingerprint: Some(fingerprint),
        });
    }
    Ok(planned)
}

/// Why a stage is reused.
pub const REUSED: &str = "its dataset is in the store";

/// Why a stage is cut off, behind this one.
pub fn cut_off(input: &str) -> String {
    format!("`{input}` runs again for the same rows")
}

/// The first part that differs from the last build of a stage, old against new.
pub fn what_changed(parts: &Parts, before: Option<&StageRecord>) -> String {
    let Some(before) = before else { return "it was never built here".to_owned() };
    let short = |value: &str| {
        let digest = value.parse::<Digest>().map(|digest| digest.short());
        let text = digest.unwrap_or_else(|_| value.chars().take(60).collect());
        if text.is_empty() { "nothing".to_owned() } else { text }
    };
    for (name, new) in parts {
        match before.parts.get(name) {
            Some(old) if old == new => {}
            old => {
                let old = old.map_or("nothing".to_owned(), |old| short(old));
                return format!("`{name}` changed: {old} -> {}", short(new));
            }
        }
    }
    match before.parts.keys().find(|name| !parts.contains_key(*name)) {
        Some(gone) => format!("`{gone}` is gone"),
        None => "its dataset is not in the store".to_owned(),
    }
}

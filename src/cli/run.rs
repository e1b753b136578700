//! `check`, `plan` and `run`.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::BudgetArgs;
use super::output::{columns, print};
use super::training;
use crate::engine::{self, Built, Checked, Selection};
use crate::error::Result;
use crate::interrupt::Interrupt;
use crate::plan::{Action, Prepared, plan};
use crate::progress::Progress;
use crate::remote::Place;
use crate::spec::{self, Pipeline};
use crate::store::{Decision, Store};

#[derive(Args)]
pub(super) struct Check {
    /// The spec
    spec: PathBuf,
    /// Also run its data tests (`[tests]`) over what the store has
    #[arg(long)]
    data: bool,
    /// Another store than the spec's: a folder, or s3://, gs:// or az://
    #[arg(long, value_name = "STORE", requires = "data")]
    store: Option<OsString>,
    #[command(flatten)]
    budget: BudgetArgs,
}

impl Check {
    pub(super) fn run(self) -> Result<ExitCode> {
        let pipeline = read(&self.spec, self.store)?;
        let interrupt = Interrupt::listen()?;
        let budget = self.budget.budget();
        let prepared = Prepared::new(&pipeline, &Progress::lines(), &interrupt)?;
        let mut text = format!("{}: {} stages\n", self.spec.display(), pipeline.stages.len());
        for (index, found) in &prepared.discoveries {
            let files: usize = found.units.iter().map(|unit| unit.files.len()).sum();
            text += &format!(
                "{}: {} log folders with {files} files to read, {} files of unknown kind\n",
                pipeline.stages[*index].name,
                found.units.len(),
                found.foreign.len()
            );
        }
        let checks = match self.data {
            true => engine::check_data(&prepared, budget, &interrupt)?,
            false => vec![],
        };
        let rows = checks.iter().map(|(test, found)| {
            let (word, what) = match found {
                Checked::Passed => ("passed", String::new()),
                Checked::NotBuilt => ("not built", format!("`finch run` makes `{}`", test.stage.stage)),
                Checked::Failed(failed) => ("FAILED", failed.words()),
            };
            vec![test.stage.stage.clone(), test.name.clone(), word.to_owned(), what]
        });
        let rows: Vec<Vec<String>> = rows.collect();
        if self.data && rows.is_empty() {
            text += "the spec has no data tests; `[tests]` holds them\n";
        } else if !rows.is_empty() {
            text += &columns(&["stage", "test", "result", ""], &rows);
        }
        print(&text)?;
        let failed = checks.iter().any(|(_, found)| !matches!(found, Checked::Passed));
        Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
    }
}

#[derive(Args)]
pub(super) struct Plan {
    /// The spec
    spec: PathBuf,
    /// Another store than the spec's: a folder, or s3://, gs:// or az://
    #[arg(long, value_name = "STORE")]
    store: Option<OsString>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Plan {
    pub(super) fn run(self) -> Result<ExitCode> {
        let pipeline = read(&self.spec, self.store)?;
        let interrupt = Interrupt::listen()?;
        let prepared = Prepared::new(&pipeline, &Progress::lines(), &interrupt)?;
        let planned = plan(&prepared, &Store::peek(&pipeline.store, &interrupt)?, None)?;
        if self.json {
            print(&format!("{}\n", serde_json::json!(planned)))?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Vec<String>> = planned
            .iter()
            .map(|stage| {
                let action = match stage.action {
                    Action::Reuse => "reuse",
                    Action::CutOff => "cut off",
                    Action::Run => "run",
                    Action::Depends => "run?",
                };
                vec![stage.stage.clone(), stage.kind.to_owned(), action.to_owned(), stage.why.clone()]
            })
            .collect();
        let mut text = columns(&["stage", "kind", "action", "why"], &rows);
        if planned.iter().all(|stage| stage.action == Action::Reuse) {
            text += "nothing to do\n";
        }
        print(&text)?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args)]
pub(super) struct Run {
    /// The spec
    spec: PathBuf,
    /// Build this stage and what it needs, and nothing else
    #[arg(long, value_name = "STAGE")]
    only: Option<String>,
    /// Compute this stage although its dataset is there, and compare the two; a train stage trains again, beside it
    #[arg(long, value_name = "STAGE")]
    force: Option<String>,
    /// Another store than the spec's: a folder, or s3://, gs:// or az://
    #[arg(long, value_name = "STORE")]
    store: Option<OsString>,
    /// Print events as JSON lines on standard error
    #[arg(long)]
    log_json: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    budget: BudgetArgs,
}

impl Run {
    pub(super) fn run(self) -> Result<ExitCode> {
        let pipeline = read(&self.spec, self.store.clone())?;
        let selection = Selection { only: self.only, force: self.force };
        let progress = match (self.log_json, self.quiet) {
            (true, _) => Progress::json(),
            (false, true) => Progress::quiet(),
            (false, false) => Progress::lines(),
        };
        let interrupt = Interrupt::listen()?;
        let budget = self.budget.budget();
        let built = match engine::run(&pipeline, &selection, budget, &progress, &interrupt) {
            // Whoever reads JSON lines gets the last one in JSON too.
            Err(error) if self.log_json => {
                progress.failed(&error);
                return Ok(ExitCode::from(error.exit()));
            }
            built => built?,
        };
        if progress.is_lines() {
            print(&summary(&pipeline, &built, &self.spec, self.store.as_deref())?)?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// Reads a spec, with another store if one is named. A typed path is relative to where it was typed.
fn read(path: &Path, store: Option<OsString>) -> Result<Pipeline> {
    let mut pipeline = spec::read(path)?;
    if let Some(store) = store {
        pipeline.store = Place::store(&store)?;
    }
    Ok(pipeline)
}

/// What came in, what stayed, and why the rest did not.
fn summary(pipeline: &Pipeline, built: &Built, spec: &Path, typed: Option<&OsStr>) -> Result<String> {
    let rows: Vec<Vec<String>> = built
        .record
        .stages
        .iter()
        .zip(&built.datasets)
        .map(|(stage, (_, dataset))| {
            let counts = &dataset.manifest.counts;
            let show = |count: u64| if count == 0 { String::new() } else { count.to_string() };
            vec![
                stage.name.clone(),
                stage.kind.clone(),
                match stage.decision {
                    Decision::Run => "ran",
                    Decision::Reuse => "reused",
                    Decision::CutOff => "cut off",
                }
                .to_owned(),
                counts.input.to_string(),
                show(counts.used),
                show(counts.merged),
                show(counts.removed),
                show(counts.quarantined),
                reasons(&counts.reasons),
            ]
        })
        .collect();
    let header = ["stage", "kind", "", "in", "used", "merged", "removed", "quarantined", "of which"];
    let mut text = format!("\n{}", columns(&header, &rows));
    let here = display_store(&pipeline.store);
    let computed = built.record.stages.iter().filter(|stage| stage.decision == Decision::Run).count();
    text += &format!(
        "\n{} of {} stages computed, {:.2} s; build {} in {here}\n",
        computed,
        built.record.stages.len(),
        built.record.seconds,
        built.record.build_id
    );
    text += "tables:";
    let mut seen = Vec::new();
    for (_, dataset) in &built.datasets {
        for (name, table) in dataset.manifest.tables.iter().filter(|(_, table)| table.from.is_none()) {
            if !seen.contains(name) && table.rows > 0 {
                seen.push(name.clone());
            }
        }
    }
    text += &format!(" {}\n", seen.join(", "));
    for (stage, dataset) in &built.datasets {
        if dataset.manifest.weights.is_some() {
            text += &training::closing(stage, dataset)?;
        }
    }
    text += "\ntry next:\n";
    let finch = quoted(&std::env::args().next().unwrap_or_else(|| "finch".to_owned()));
    let store = quoted(&here);
    let labelled = built.record.stages.iter().any(|stage| stage.kind == "label");
    let question = if labelled {
        "SELECT outcome, count(*) AS steps FROM transitions GROUP BY 1 ORDER BY 2 DESC"
    } else {
        "SELECT task, count(*) AS steps FROM transitions GROUP BY 1 ORDER BY 2 DESC"
    };
    let table = if seen.iter().any(|name| name == "examples") { "examples" } else { "transitions" };
    let elsewhere = typed.map_or(String::new(), |_| format!(" --store {store}"));
    text += &format!(
        "  {finch} query --store {store} \"{question}\"\n  {finch} path --store {store} {table}\n  {finch} plan {}{elsewhere}\n",
        quoted(&spec.display().to_string())
    );
    Ok(text)
}

/// The store as a user would type it: relative to here when it is below here.
fn display_store(store: &Place) -> String {
    let Place::Local(path) = store else { return store.to_string() };
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

/// A word as a shell takes it.
fn quoted(word: &str) -> String {
    let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c));
    if plain && !word.is_empty() { word.to_owned() } else { format!("'{}'", word.replace('\'', "'\\''")) }
}

/// What is said although it is none: that nothing leaks is what a split is there to show.
const SHOWN_WHEN_NONE: [&str; 2] = ["leak", "leaks_reported"];

fn reasons(reasons: &std::collections::BTreeMap<String, u64>) -> String {
    let shown: Vec<String> = reasons
        .iter()
        .filter(|(name, count)| **count > 0 || SHOWN_WHEN_NONE.contains(&name.as_str()))
        .map(|(name, count)| format!("{name} {count}"))
        .collect();
    shown.join(", ")
}

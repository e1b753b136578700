//! `ingest`: logs become runs, candidates, transitions, programs and texts.
//!
//! Files are read on all threads; what they say is united by ids, judged, and written in key order. Scalars are
//! in memory, long texts are not.

mod contradiction;
mod judge;
mod quarantine;
mod reading;
mod rows;
mod shelf;
mod steps;
mod texts;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::path::PathBuf;

use arrow::array::AsArray;
use finch_core::manifest::Counts;
use finch_core::{Digest, sample};
use serde_json::{Map, Value};

use self::reading::Reading;
use super::{Context, Outcome, Removed};
use crate::catalog::Direction;
use crate::code::Code;
use crate::contract::{Contract, encode};
use crate::error::{Error, Result};
use crate::ingest::Discovery;
use crate::ingest::assess::{self, Failure, Objective};
use crate::ingest::unite::{self, Run};
use crate::spec::Ingest;
use crate::sql::Width;
use crate::store::Draft;
use judge::{name_task, objective, usual_keys};
pub(crate) use quarantine::admit;
use quarantine::{check_quarantine, quarantine_rows, without_program, without_run};
use rows::{AttemptRow, CandidateRow, ObjectiveRow, RunRow, TaskRow, TransitionRow};

/// Rows of a long table that are encoded together.
const ROWS_AT_ONCE: usize = 1024;

pub(super) fn run(config: &Ingest, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let nothing = Discovery::default();
    let discovery = context.discovery.unwrap_or(&nothing);
    if discovery.units.is_empty() {
        return Err(Error::Source {
            path: sources(config),
            reason: "nothing in it is a log that finch knows".to_owned(),
            code: Code::NothingRecognised,
        });
    }
    let Reading { units, mut quarantined, unfound, replaced, packs, record: reading } =
        reading::read(discovery, context)?;
    let read: u64 = units.iter().flat_map(|unit| &unit.records).filter(|record| !record.stub).count() as u64;

    let unreadable =
        quarantined.len() + discovery.refused.iter().map(|(_, refused)| refused.len()).sum::<usize>();
    let proposed = units.iter().map(|unit| unit.attempts.len() as u64).sum::<u64>();
    let (mut runs, stray) = unite::unite(units);
    steps::complete(&mut runs, config.infer_parents, &packs.folders(), context)?;
    for record in runs.iter().flat_map(|run| &run.without_program) {
        quarantined.push(without_program(record));
    }
    quarantined.extend(stray.into_iter().map(without_run));
    quarantined.extend(discovery.refused.iter().flat_map(|(_, refused)| refused.iter().cloned()));
    let records = read + proposed + unreadable as u64;
    check_quarantine(config, context, &quarantined, records)?;

    let mut tables = Tables::default();
    let mut counts = Counts { input: records, conserved: true, ..Counts::default() };
    let mut removed = Vec::new();
    for run in runs {
        let attempts = run.attempts.len() as u64;
        let of_run = attempts + run.candidates.values().map(|candidate| candidate.records).sum::<u64>();
        if sample::unit(context.pipeline.seed, "sample", &run.run_id.to_string()) >= context.pipeline.sample {
            counts.removed += of_run + run.repeated_attempts;
            removed.push(Removed {
                record_id: run.run_id.to_string(),
                record_kind: "run",
                code: "not_sampled",
                reason: format!("outside the sample of {}", context.pipeline.sample),
            });
            continue;
        }
        let used = run.candidates.values().filter(|candidate| candidate.records > 0).count() as u64;
        counts.used += used + attempts;
        counts.merged += of_run - used - attempts + run.repeated_attempts;
        tables.add(&run, context, discovery);
    }
    counts.quarantined = quarantined.len() as u64;
    for bad in &quarantined {
        *counts.reasons.entry(bad.code.to_string()).or_default() += 1;
    }
    let copies = tables.runs.iter().map(|run| run.copies).sum::<i64>();
    counts.reasons.insert("copies".to_owned(), copies as u64);
    counts.reasons.insert("attempts".to_owned(), tables.attempts.len() as u64);
    for row in &tables.transitions {
        *counts.reasons.entry(format!("replay_{}", row.replay)).or_default() += 1;
        if row.no_op {
            *counts.reasons.entry("no_op".to_owned()).or_default() += 1;
        }
        if row.marker_like {
            *counts.reasons.entry("marker_like".to_owned()).or_default() += 1;
        }
    }
    counts.reasons.insert("files_ignored".to_owned(), discovery.ignored_files());
    counts.reasons.insert("characters_replaced".to_owned(), replaced);

    let mut warnings = tables.warnings();
    warnings.extend(not_read(&counts));
    warnings.extend(unfound.iter().map(|(field, (files, example))| {
        let example = example.escape_debug();
        format!(
            "`{field}` is in no record of {files} files, such as `{example}`, where the mapping looks for it"
        )
    }));
    if tables.runs.is_empty() && removed.is_empty() {
        return Err(Error::Source {
            path: sources(config),
            reason: "no candidate could be read from it".to_owned(),
            code: Code::NothingRecognised,
        });
    }
    removed.sort_by(|a, b| a.record_id.cmp(&b.record_id));
    draft.write_rows("removed", &[], &removed)?;
    draft.write_rows("quarantine", &[], &quarantine_rows(quarantined))?;
    tables.write(context, draft, &packs.folders())?;
    packs.tidy(context)?;
    Ok(Outcome { row_table: "transitions", counts, warnings, training: None, reading: Some(reading) })
}

/// The sources as the spec writes them.
fn sources(config: &Ingest) -> String {
    let sources: Vec<&str> = config.sources.iter().map(|source| source.given.as_str()).collect();
    sources.join("`, `")
}

/// What was seen and is in no table, for the user to know.
fn not_read(counts: &Counts) -> Vec<String> {
    let mut warnings = Vec::new();
    for (code, what) in [
        (Code::UnsupportedLog, "are logs in a form that this finch does not read"),
        (Code::ForeignFile, "look like logs and are none"),
    ] {
        let files = counts.reasons.get(&code.to_string()).copied().unwrap_or(0);
        if files > 0 {
            warnings.push(format!("{files} files {what} ({code}): see the table `quarantine`"));
        }
    }
    warnings
}

/// The rows of all runs.
#[derive(Default)]
struct Tables {
    runs: Vec<RunRow>,
    candidates: Vec<CandidateRow>,
    transitions: Vec<TransitionRow>,
    attempts: Vec<AttemptRow>,
    objectives: BTreeMap<(String, &'static str, Option<String>), ObjectiveRow>,
    notes: BTreeSet<String>,
    tasks: BTreeMap<String, TaskRow>,
}

/// A candidate's validity and score.
struct Verdict {
    failure: Option<Failure>,
    score: Option<f64>,
}

impl Tables {
    fn add(&mut self, run: &Run, context: &Context<'_>, discovery: &Discovery) {
        let (task, task_origin) = name_task(run, context, discovery, &mut self.notes);
        let objective = objective(run, &task, context, discovery, &mut self.notes);
        let usual = usual_keys(run);
        let judge = |metrics: &Map<String, Value>, failure: Option<Failure>| {
            let fallback = assess::is_fallback(metrics, &usual).then_some(Failure::Error);
            let failure = failure.or(fallback);
            let score = assess::score(metrics, &objective).filter(|_| failure.is_none());
            Verdict { failure: failure.or(score.is_none().then_some(Failure::NoScore)), score }
        };
        let verdicts: BTreeMap<&str, Verdict> = run
            .candidates
            .iter()
            .map(|(id, candidate)| {
                let record = &candidate.merged;
                (id.as_str(), judge(&record.metrics, record.failure))
            })
            .collect();
        for (id, candidate) in &run.candidates {
            let verdict = &verdicts[id.as_str()];
            self.candidates.push(CandidateRow::new(
                run,
                candidate,
                verdict.failure,
                verdict.score,
                &objective,
            ));
            let Some(parent) = candidate.parents.first() else { continue };
            let logged = &candidate.merged.parent_metrics;
            let (origin, verdict_of_parent) = match (verdicts.get(parent.as_str()), run.evicted.get(parent)) {
                (Some(verdict), _) => ("candidate", Some(Verdict { ..*verdict })),
                (None, Some((metrics, failure))) if metrics == logged => {
                    ("logged", Some(judge(metrics, *failure)))
                }
                (None, _) if !logged.is_empty() => {
                    ("logged", Some(judge(logged, assess::failure(logged, None, ""))))
                }
                (None, Some((metrics, failure))) => ("logged", Some(judge(metrics, *failure))),
                (None, None) => ("none", None),
            };
            let mut row = TransitionRow::new(run, candidate, parent, &task, &objective);
            let known = context.catalog.tasks.get(&task).and_then(|known| known.domain.clone());
            row.domain = known.or_else(|| run.domain.clone());
            row.child_score = verdict.score;
            row.child_valid = verdict.failure.is_none();
            row.child_failure = verdict.failure.map(Failure::word);
            row.parent_score_origin = origin;
            row.parent_score = verdict_of_parent.as_ref().and_then(|verdict| verdict.score);
            row.parent_valid = verdict_of_parent.as_ref().map(|verdict| verdict.failure.is_none());
            row.parent_failure = verdict_of_parent.and_then(|verdict| verdict.failure).map(Failure::word);
            self.transitions.push(row);
        }
        let mut ordinals: BTreeMap<Digest, u64> = BTreeMap::new();
        for attempt in &run.attempts {
            let row = AttemptRow::new(run, attempt, &mut ordinals);
            self.attempts.push(row);
        }
        self.add_objective(ObjectiveRow::new(run.scaffold, &task, &objective));
        self.add_task(run, &task, context);
        self.runs.push(run_row(run, task, task_origin, &objective, discovery));
    }

    /// Several runs may say what a task is judged by; the strongest word stays, and a contradiction is told.
    fn add_objective(&mut self, row: ObjectiveRow) {
        let key = (row.task.clone(), row.scaffold, row.score_key.clone());
        let Some(known) = self.objectives.get_mut(&key) else {
            self.objectives.insert(key, row);
            return;
        };
        if known.direction != row.direction {
            self.notes
                .insert(format!("runs of task `{}` disagree on the direction of their score", row.task));
        }
        if row.strength() < known.strength() {
            *known = row;
        }
    }

    fn add_task(&mut self, run: &Run, task: &str, context: &Context<'_>) {
        let known = context.catalog.tasks.get(task).cloned().unwrap_or_default();
        let row = self.tasks.entry(task.to_owned()).or_insert_with(|| TaskRow {
            task: task.to_owned(),
            domain: known.domain.or_else(|| run.domain.clone()),
            upstream: known.upstream,
            languages: vec![],
            statement: known.statement,
            initial_program_id: None,
        });
        let root = run.root_program.map(|program| program.id.to_string());
        row.initial_program_id = [row.initial_program_id.take(), root].into_iter().flatten().min();
    }

    fn warnings(&self) -> Vec<String> {
        let mut warnings: Vec<String> = self.notes.iter().cloned().collect();
        let unnamed = self.runs.iter().filter(|run| run.task_origin == "unknown").count();
        if unnamed > 0 {
            warnings.push(format!(
                "{unnamed} runs have no task name: put `task = \"…\"` into a `finch.toml` in the run's folder (`finch \
                 inspect --write-sidecars` proposes names)"
            ));
        }
        warnings
    }

    /// The programs and texts that rows refer to.
    fn used(&self) -> (HashSet<Digest>, HashSet<Digest>) {
        let programs = self.candidates.iter().map(|row| row.program_id).collect();
        let feedback = self.candidates.iter().filter_map(|row| row.feedback_id);
        let feedback = feedback.chain(self.attempts.iter().filter_map(|row| row.response_id));
        let of_steps = self.transitions.iter().flat_map(|row| {
            [row.system_prompt_id, row.user_prompt_id, row.reasoning_id, row.response_id]
                .into_iter()
                .flatten()
        });
        (programs, feedback.chain(of_steps).collect())
    }

    fn write(mut self, context: &Context<'_>, draft: &mut Draft, packs: &[PathBuf]) -> Result<()> {
        self.runs.sort_by(|a, b| a.run_id.cmp(&b.run_id));
        let (programs, texts) = self.used();
        draft.write_rows("runs", &[], &self.runs)?;
        // Written and gone before SQL takes its share of the memory.
        let mut candidates = std::mem::take(&mut self.candidates);
        candidates.sort_unstable_by_key(|row| row.candidate_id);
        write_rows(draft, "candidates", candidates)?;
        let mut transitions = std::mem::take(&mut self.transitions);
        transitions.sort_unstable_by_key(|row| row.transition_id);
        write_rows(draft, "transitions", transitions)?;
        let mut attempts = std::mem::take(&mut self.attempts);
        attempts.sort_unstable_by_key(|row| row.attempt_id);
        write_rows(draft, "attempts", attempts)?;
        let objectives: Vec<ObjectiveRow> = std::mem::take(&mut self.objectives).into_values().collect();
        draft.write_rows("objectives", &[], &objectives)?;

        texts::write(packs, &programs, &texts, draft)?;
        let session = context.engine.session(Width::Wide);
        for name in ["transitions", "programs"] {
            session.bind(Some("made"), name, &draft.files(name), Contract::of(name).schema(&[]), &[])?;
        }
        let languages = "SELECT DISTINCT t.task, p.language FROM made.transitions t JOIN made.programs p \
                         ON p.program_id = t.child_program ORDER BY t.task, p.language";
        session.each(languages, &[], |batch| {
            let languages = batch.column(1).as_string::<i32>();
            for (task, language) in batch.column(0).as_string::<i32>().iter().zip(languages) {
                if let (Some(task), Some(language)) = (task, language)
                    && let Some(row) = self.tasks.get_mut(task)
                {
                    row.languages.push(language.to_owned());
                }
            }
            Ok(())
        })?;
        let tasks: Vec<TaskRow> = self.tasks.into_values().collect();
        draft.write_rows("tasks", &[], &tasks)?;
        Ok(())
    }
}

/// Writes a long table a few rows at a time, so that it is not in memory twice.
fn write_rows<T: serde::Serialize>(draft: &mut Draft, table: &str, rows: Vec<T>) -> Result<()> {
    let schema = Contract::of(table).schema(&[]);
    let mut writer = draft.writer(table, &schema)?;
    for chunk in rows.chunks(ROWS_AT_ONCE) {
        for batch in encode(table, &schema, chunk)? {
            writer.write(&batch)?;
        }
    }
    draft.finish(table, writer)?;
    Ok(())
}

fn run_row(
    run: &Run,
    task: String,
    task_origin: &'static str,
    objective: &Objective,
    discovery: &Discovery,
) -> RunRow {
    let units = || run.units.iter().map(|&unit| &discovery.units[unit]);
    let models: BTreeSet<&String> =
        run.candidates.values().filter_map(|candidate| candidate.merged.model.as_ref()).collect();
    RunRow {
        run_id: run.run_id.to_string(),
        scaffold: run.scaffold,
        scaffold_version: run.about.version.clone(),
        task,
        task_origin,
        models: models.into_iter().cloned().collect(),
        score_key: objective.score_key.clone(),
        direction: objective.direction.map(Direction::word),
        iterations: run.candidates.values().filter_map(|candidate| candidate.merged.iteration).max(),
        candidates: run.candidates.len() as i64,
        copies: run.candidates.values().map(|candidate| candidate.copies.len() as i64).sum(),
        attempts: run.attempts.len() as i64,
        started_at: run.started_at(),
        config: run.about.config.clone(),
        license: units().filter_map(|unit| unit.license.clone().or(unit.sidecar.license.clone())).min(),
        origin: units().filter_map(|unit| unit.origin.clone().or(unit.sidecar.origin.clone())).min(),
        source: units().map(|unit| unit.source.clone()).min().unwrap_or_default(),
    }
}

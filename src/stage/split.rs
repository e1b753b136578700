//! `split`: train, validation and test, by alias group, and the proof that no program is on both sides.
//!
//! Tasks that are one problem share an alias group and go together, so a held-out problem is held out under
//! all its names. Sides are chosen by hash of the group or the run: adding tasks moves none.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use finch_core::manifest::Counts;
use finch_core::shard::{Cuts, TableWriter};
use finch_core::{Digest, sample};
use serde::Serialize;

use super::alike::{NONE, Programs, Source, copy};
use super::side::side_pairs;
use super::{Context, Outcome, extended};
use crate::code::Code;
use crate::contract::Contract;
use crate::error::Result;
use crate::near::Likeness;
use crate::shelf::Shelf;
use crate::spec::{Diagnostic, OnLeak, Split, did_you_mean};
use crate::sql::{Session, Value};
use crate::store::Draft;

const ASSIGN: &str = include_str!("../../sql/split.sql");
const LEAKS: &str = include_str!("../../sql/leaks.sql");
const LEAKS_NEAR: &str = include_str!("../../sql/leaks_near.sql");
/// Tokens of a shingle and hashes of a sketch, where programs of both sides are compared.
const NGRAM: usize = 5;
const PERMUTATIONS: usize = 128;

#[derive(Serialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct SplitRow {
    alias_group: String,
    task: String,
    run_id: Option<String>,
    split: &'static str,
    reason: &'static str,
}

pub(super) fn run(config: &Split, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let runs = runs_by_task(context)?;
    let domains = domains(context)?;
    let mut warnings = check_hold_out(config, context, &runs, &domains)?;
    let rows = assign(config, context, &runs, &domains);
    draft.write_rows("splits", &[], &rows)?;
    let held: BTreeSet<&str> =
        rows.iter().filter(|row| row.split == "test").map(|row| row.task.as_str()).collect();

    // Everything assigned, before leaks are dropped, is a table aside: both the leak check and the final rows
    // read it.
    let scratch = context.store.scratch()?;
    let schema = extended(&context.transitions_schema()?, "transitions", "split");
    let session = context.session(ASSIGN)?;
    let splits = Contract::of("splits").schema(&[]);
    session.bind(Some("side"), "splits", &draft.files("splits"), splits, &[])?;
    let key = Contract::of("transitions").key.clone();
    let cuts = Cuts { shard_bytes: usize::MAX, ..Default::default() };
    let mut assigned = TableWriter::new(scratch.path(), "assigned", schema.clone(), &key, cuts)?;
    let query = format!("{ASSIGN} ORDER BY transition_id");
    session.write(&query, &[], "transitions", &schema, &mut assigned)?;
    let assigned = assigned.finish()?;
    let file = scratch.path().join(&assigned.files[0].name);
    session.bind(Some("side"), "assigned", &[file], schema.clone(), &key)?;

    let action = if config.on_leak == OnLeak::Report { "report" } else { "drop" };
    let leak_schema = Contract::of("leaks").schema(&[]);
    let mut writer = draft.writer("leaks", &leak_schema)?;
    if let Some(threshold) = config.leak_near {
        clusters(threshold, context, &session, scratch.path())?;
    }
    let near = if config.leak_near.is_some() { LEAKS_NEAR } else { "" };
    session.write(
        &LEAKS.replace("{near}", near),
        &[("action", Value::Text(action.to_owned()))],
        "leaks",
        &leak_schema,
        &mut writer,
    )?;
    let leaks = draft.finish("leaks", writer)?;
    session.bind(Some("side"), "leaks", &draft.files("leaks"), leak_schema.clone(), &[])?;
    let (leaked, pairs) = leaked(&session)?;
    if leaks > 0 && config.on_leak == OnLeak::Error {
        let reason = format!(
            "{leaked} transitions outside the test split share programs with it, or have almost the same: {pairs}"
        );
        let hint = "declare the tasks as one alias group, or set `on_leak = \"drop\"`";
        return Err(context.error(Code::Leak, reason, Some(hint)));
    }
    if leaks > 0 && config.on_leak == OnLeak::Report {
        warnings.push(format!("{leaked} transitions outside the test split share programs with it, or have almost the same: {pairs}"));
    }
    let dropped = if action == "drop" {
        "SELECT DISTINCT transition_id AS leaked_id FROM side.leaks"
    } else {
        "SELECT transition_id AS leaked_id FROM side.leaks WHERE FALSE"
    };

    let mut writer = draft.writer("transitions", &schema)?;
    let kept = format!(
        "SELECT a.* FROM side.assigned a LEFT JOIN ({dropped}) d ON d.leaked_id = a.transition_id \
         WHERE d.leaked_id IS NULL ORDER BY a.transition_id"
    );
    let mut counts = Counts { input: context.transitions_rows(), conserved: true, ..Counts::default() };
    session.each(&kept, &[], |batch| {
        let batch = crate::contract::conform("transitions", &schema, batch)?;
        if let Some(sides) = batch.column_by_name("split") {
            for side in sides.as_string::<i32>().iter().flatten() {
                *counts.reasons.entry(side.to_owned()).or_default() += 1;
            }
        }
        Ok(writer.write(&batch)?)
    })?;
    counts.used = draft.finish("transitions", writer)?;

    let removed_schema = Contract::of("removed").schema(&[]);
    let mut writer = draft.writer("removed", &removed_schema)?;
    let removed = format!(
        "SELECT leaked_id AS record_id, 'transition' AS record_kind, 'leak' AS code, \
         'a program of it is also on the held-out side, or almost' AS reason FROM ({dropped}) ORDER BY leaked_id"
    );
    session.write(&removed, &[], "removed", &removed_schema, &mut writer)?;
    counts.removed = draft.finish("removed", writer)?;
    let word = if action == "drop" { "leak" } else { "leaks_reported" };
    counts.reasons.insert(word.to_owned(), leaked);

    write_tasks(context, draft, &held, &rows)?;
    draft.pass_on(&context.inputs[0], &["removed", "quarantine"]);
    if !counts.reasons.contains_key("train") && counts.input > 0 {
        warnings.push("no transition is left for training".to_owned());
    }
    Ok(Outcome { row_table: "transitions", counts, warnings, training: None, reading: None })
}

/// Binds `side.clusters`: the programs of both sides that are almost the same as others.
fn clusters(threshold: f64, context: &Context<'_>, session: &Session<'_>, folder: &Path) -> Result<()> {
    let mut wanted: HashMap<Digest, u32> = HashMap::new();
    let query = "SELECT child_program, parent_program FROM side.assigned";
    session.each(query, &[], |batch| {
        for id in batch.columns().iter().flat_map(|column| column.as_string::<i32>().iter()).flatten() {
            wanted.insert(id.parse()?, NONE);
        }
        Ok(())
    })?;
    let mut shelf = Shelf::create(folder)?;
    copy(context, Source::Programs, &mut wanted, &mut shelf)?;
    let texts = shelf.finish()?;
    let likeness = Likeness { ngram: NGRAM, permutations: PERMUTATIONS, threshold };
    let found = Programs::new(&texts, &wanted, NGRAM).clusters(
        &likeness,
        context.engine.memory_limit() / 4,
        folder,
    )?;
    side_pairs(session, folder, "clusters", &["program_id", "cluster_id"], found.into_iter())
}

/// How many transitions leak, and between which tasks, for a message.
fn leaked(session: &Session<'_>) -> Result<(u64, String)> {
    let mut transitions = BTreeSet::new();
    let mut pairs = BTreeSet::new();
    session.each("SELECT transition_id, task, other_task FROM side.leaks", &[], |batch| {
        let cell = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
        for row in 0..batch.num_rows() {
            transitions.insert(cell(0, row));
            pairs.insert(format!("`{}` and `{}`", cell(1, row), cell(2, row)));
        }
        Ok(())
    })?;
    let shown: Vec<String> = pairs.into_iter().take(5).collect();
    Ok((transitions.len() as u64, shown.join(", ")))
}

/// The runs of each task that are left; none for a task that was filtered out.
fn runs_by_task(context: &Context<'_>) -> Result<BTreeMap<String, BTreeSet<String>>> {
    let mut runs: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let query = "SELECT DISTINCT task, run_id FROM input.transitions";
    let session = context.session(query)?;
    // Tasks without rows are assigned too: a side must not depend on what a filter left.
    session.each("SELECT task FROM input.tasks", &[], |batch| {
        for task in batch.column(0).as_string::<i32>().iter().flatten() {
            runs.entry(task.to_owned()).or_default();
        }
        Ok(())
    })?;
    session.each(query, &[], |batch| {
        let tasks = batch.column(0).as_string::<i32>().iter().flatten();
        for (task, run) in tasks.zip(batch.column(1).as_string::<i32>().iter().flatten()) {
            runs.entry(task.to_owned()).or_default().insert(run.to_owned());
        }
        Ok(())
    })?;
    Ok(runs)
}

/// The domain of each task that has one.
fn domains(context: &Context<'_>) -> Result<BTreeMap<String, String>> {
    let mut domains = BTreeMap::new();
    let query = "SELECT task, domain FROM input.tasks WHERE domain IS NOT NULL ORDER BY task";
    context.session(query)?.each(query, &[], |batch| {
        let cells = batch.column(0).as_string::<i32>().iter().zip(batch.column(1).as_string::<i32>());
        domains.extend(cells.filter_map(|(task, domain)| Some((task?.to_owned(), domain?.to_owned()))));
        Ok(())
    })?;
    Ok(domains)
}

/// A hold-out that names nothing is a mistake; one that names a known task without rows is a warning.
fn check_hold_out(
    config: &Split,
    context: &Context<'_>,
    runs: &BTreeMap<String, BTreeSet<String>>,
    domains: &BTreeMap<String, String>,
) -> Result<Vec<String>> {
    let mut warnings = Vec::new();
    let of_catalogue = context.catalog.tasks.values().filter_map(|task| task.domain.as_deref());
    let known: BTreeSet<&str> = domains.values().map(String::as_str).chain(of_catalogue).collect();
    for (domain, span) in config.hold_out_domains.iter().zip(&config.hold_out_domain_spans) {
        if !known.contains(domain.as_str()) {
            let message = format!("no task is of the held-out domain `{domain}`");
            let hint = did_you_mean(domain, known.iter().copied());
            let diagnostic = Diagnostic::new(Code::UnknownTask, span.clone(), message).with_hint(hint);
            return Err(context.pipeline.error(diagnostic).into());
        }
        if !domains.values().any(|seen| seen == domain) {
            warnings.push(format!("no task of the held-out domain `{domain}` is in the logs"));
        }
    }
    for (task, span) in config.hold_out_tasks.iter().zip(&config.hold_out_spans) {
        let known = context.catalog.tasks.contains_key(task);
        if !known && !runs.contains_key(task) {
            let hint = did_you_mean(task, runs.keys().map(String::as_str));
            let message = format!("held-out task `{task}` is neither in the logs nor in the catalogue");
            let diagnostic = Diagnostic::new(Code::UnknownTask, span.clone(), message).with_hint(hint);
            return Err(context.pipeline.error(diagnostic).into());
        }
        let group = context.catalog.alias_group(task);
        if !runs.iter().any(|(seen, runs)| !runs.is_empty() && context.catalog.alias_group(seen) == group) {
            warnings.push(format!("held-out task `{task}` has no transitions, under any of its names"));
        }
    }
    Ok(warnings)
}

/// The side of every task, and of the runs that are kept for validation.
fn assign(
    config: &Split,
    context: &Context<'_>,
    runs: &BTreeMap<String, BTreeSet<String>>,
    domains: &BTreeMap<String, String>,
) -> Vec<SplitRow> {
    let seed = context.pipeline.seed;
    let named: BTreeSet<&str> = config.hold_out_tasks.iter().map(String::as_str).collect();
    let is_in_domain =
        |task: &str| domains.get(task).is_some_and(|domain| config.hold_out_domains.contains(domain));
    let of_domains = runs.keys().map(String::as_str).filter(|task| is_in_domain(task));
    let all = named.iter().copied().chain(of_domains);
    let named_groups: BTreeSet<&str> = all.map(|task| context.catalog.alias_group(task)).collect();
    let mut rows = Vec::new();
    for (task, task_runs) in runs {
        let group = context.catalog.alias_group(task);
        let (split, reason) = if named.contains(task.as_str()) {
            ("test", "held_out_task")
        } else if is_in_domain(task) {
            ("test", "held_out_domain")
        } else if named_groups.contains(group) {
            ("test", "held_out_alias")
        } else if sample::unit(seed, "hold_out", group) < config.hold_out_fraction {
            ("test", "held_out_fraction")
        } else {
            ("train", "train")
        };
        let row = |run_id, split, reason| SplitRow {
            alias_group: group.to_owned(),
            task: task.clone(),
            run_id,
            split,
            reason,
        };
        rows.push(row(None, split, reason));
        let fraction = config.validation.map_or(0.0, |validation| validation.runs);
        if split == "train" {
            let chosen = task_runs.iter().filter(|run| sample::unit(seed, "validation", run) < fraction);
            rows.extend(chosen.map(|run| row(Some(run.clone()), "validation", "validation_run")));
        }
    }
    rows.sort();
    rows
}

/// The input's tasks, with their groups and whether they are held out.
fn write_tasks(
    context: &Context<'_>,
    draft: &mut Draft,
    held: &BTreeSet<&str>,
    rows: &[SplitRow],
) -> Result<()> {
    let schema = extended(&context.inputs[0].schema("tasks")?, "tasks", "split");
    let held_groups: BTreeSet<&str> = rows
        .iter()
        .filter(|row| held.contains(row.task.as_str()))
        .map(|row| row.alias_group.as_str())
        .collect();
    let mut writer = draft.writer("tasks", &schema)?;
    let query = "SELECT * FROM input.tasks ORDER BY task";
    context.session(query)?.each(query, &[], |batch| {
        let names = batch.column_by_name("task").map(|column| column.as_string::<i32>().clone());
        let names =
            names.into_iter().flat_map(|names| names.iter().flatten().map(str::to_owned).collect::<Vec<_>>());
        let groups: Vec<String> = names.map(|task| context.catalog.alias_group(&task).to_owned()).collect();
        let flags: arrow::array::BooleanArray =
            groups.iter().map(|group| Some(held_groups.contains(group.as_str()))).collect();
        let groups = StringArray::from(groups);
        let columns: Vec<arrow::array::ArrayRef> = schema
            .fields()
            .iter()
            .map(|field| match field.name().as_str() {
                "alias_group" => Ok(Arc::new(groups.clone()) as arrow::array::ArrayRef),
                "held_out" => Ok(Arc::new(flags.clone()) as arrow::array::ArrayRef),
                name => batch.column_by_name(name).cloned().ok_or_else(|| {
                    context.error(Code::MissingColumn, format!("tasks lack the column `{name}`"), None)
                }),
            })
            .collect::<Result<_>>()?;
        let batch = RecordBatch::try_new(schema.clone(), columns)
            .map_err(|source| finch_core::Error::Arrow { table: "tasks".to_owned(), source })?;
        Ok(writer.write(&batch)?)
    })?;
    draft.finish("tasks", writer)?;
    Ok(())
}

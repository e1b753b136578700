//! Which side each task and run is on.
//!
//! Tasks that are one problem share an alias group and go together, so a held-out problem is held out under all its
//! names. Sides are chosen by hash of names and runs: adding tasks moves none.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch, StringArray};
use finch_core::sample;
use serde::Serialize;

use crate::code::Code;
use crate::error::Result;
use crate::spec::{Diagnostic, Split, did_you_mean};
use crate::stage::{Context, extended};
use crate::store::Draft;

/// A row of `splits`.
#[derive(Serialize, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct SplitRow {
    pub(super) alias_group: String,
    pub(super) task: String,
    pub(super) run_id: Option<String>,
    pub(super) split: &'static str,
    pub(super) reason: &'static str,
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
    let mut empty = Vec::new();
    for (task, span) in config.hold_out_tasks.iter().zip(&config.hold_out_spans) {
        let is_group = context.catalog.names_of(task).next().is_some();
        if !is_group && !context.catalog.tasks.contains_key(task) && !runs.contains_key(task) {
            let known = runs.keys().chain(context.catalog.tasks.keys());
            let hint = did_you_mean(task, known.map(String::as_str));
            let message = format!("held-out task `{task}` is neither in the logs nor in the catalogue");
            let diagnostic = Diagnostic::new(Code::UnknownTask, span.clone(), message).with_hint(hint);
            return Err(context.pipeline.error(diagnostic).into());
        }
        let group = context.catalog.alias_group(task);
        if !runs.iter().any(|(seen, runs)| !runs.is_empty() && context.catalog.alias_group(seen) == group) {
            empty.push(format!("`{task}`"));
        }
    }
    warnings.extend(match empty.len() {
        0 => None,
        1 => Some(format!("held-out task {} has no transitions, under any of its names", empty[0])),
        more => {
            let names = empty.join(", ");
            Some(format!("{more} held-out tasks have no transitions, under any of their names: {names}"))
        }
    });
    Ok(warnings)
}

/// The sides of all tasks, and what the user should know of them.
pub(super) struct Sides {
    pub(super) rows: Vec<SplitRow>,
    pub(super) warnings: Vec<String>,
}

impl Sides {
    /// The side of every task, and of the runs that are kept for validation.
    pub(super) fn choose(config: &Split, context: &Context<'_>) -> Result<Self> {
        let runs = runs_by_task(context)?;
        let domains = domains(context)?;
        let mut warnings = check_hold_out(config, context, &runs, &domains)?;
        let rows = assign(config, context, &runs, &domains);
        warnings.extend(merged(config, context, &rows));
        Ok(Self { rows, warnings })
    }

    /// The side of each task, without those of single runs.
    pub(super) fn of_tasks(&self) -> impl Iterator<Item = &SplitRow> {
        self.rows.iter().filter(|row| row.run_id.is_none())
    }

    /// Tasks of the test split.
    pub(super) fn held_out(&self) -> BTreeSet<&str> {
        self.of_tasks().filter(|row| row.split == "test").map(|row| row.task.as_str()).collect()
    }
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
        } else if is_in_fraction(config, seed, group) || is_in_fraction(config, seed, task) {
            ("test", "held_out_fraction")
        } else if context.catalog.names_of(group).any(|name| is_in_fraction(config, seed, name)) {
            ("test", "held_out_alias")
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

/// Whether a name is held out by its hash. A group is when one of its names is, so a problem that was held out under
/// one name does not move to training when the catalogue says that another name means it too.
fn is_in_fraction(config: &Split, seed: u64, name: &str) -> bool {
    sample::unit(seed, "hold_out", name) < config.hold_out_fraction
}

/// Groups whose names do not agree about the side, which are held out.
fn merged(config: &Split, context: &Context<'_>, rows: &[SplitRow]) -> Option<String> {
    let chosen = |name: &&str| is_in_fraction(config, context.pipeline.seed, name);
    let by_chance = rows.iter().filter(|row| ["held_out_fraction", "held_out_alias"].contains(&row.reason));
    let groups: BTreeSet<&str> = by_chance.map(|row| row.alias_group.as_str()).collect();
    let split = groups.into_iter().filter_map(|group| {
        let (held, others): (Vec<&str>, Vec<&str>) =
            context.catalog.names_of(group).chain([group]).partition(chosen);
        let (held, other) = (held.first()?, others.first()?);
        Some(format!("`{group}` (`{held}` is, `{other}` would not be)"))
    });
    let split: Vec<String> = split.collect();
    let shown = split.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    (!split.is_empty()).then(|| {
        format!("{} alias groups are held out whole because one of their names is: {shown}", split.len())
    })
}

/// The input's tasks, with their groups and whether they are held out.
pub(super) fn write_tasks(context: &Context<'_>, draft: &mut Draft, sides: &Sides) -> Result<()> {
    let schema = extended(&context.inputs[0].schema("tasks")?, "tasks", "split");
    let held_groups: BTreeSet<&str> =
        sides.of_tasks().filter(|row| row.split == "test").map(|row| row.alias_group.as_str()).collect();
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

//! Tasks that look like one problem and that no alias group says to be one: proposals, for a person to decide.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use arrow::array::{Array, AsArray};
use arrow::datatypes::Float64Type;
use finch_core::Digest;
use rayon::prelude::*;
use serde::Serialize;

use super::assign::Sides;
use crate::error::Result;
use crate::identity::{Evidence, Profile, Sampled, Weights, words};
use crate::near::Components;
use crate::shelf::Shelf;
use crate::sql::{Session, Value, Width, views};
use crate::stage::Context;
use crate::stage::alike::{NONE, Source, copy};
use crate::store::Draft;

const PROGRAMS: &str = include_str!("../../../sql/task_programs.sql");
const PROMPTS: &str = include_str!("../../../sql/task_prompts.sql");
const SCORES: &str = include_str!("../../../sql/task_scores.sql");
/// Programs, and prompts, by which a task is known at most.
const SAMPLE: i64 = 64;

#[derive(Serialize)]
struct Proposal {
    task: String,
    other_task: String,
    proposed_group: String,
    split: &'static str,
    other_split: &'static str,
    points: u32,
    same_initial: bool,
    initial: f64,
    interface: f64,
    prompts: f64,
    metrics: Vec<String>,
    sizes: Vec<String>,
    scores: f64,
}

/// What was proposed.
pub(super) struct Proposals {
    /// Pairs of tasks.
    pub(super) pairs: u64,
    /// Those that are on different sides.
    pub(super) across: u64,
    /// What the user should know.
    pub(super) warning: Option<String>,
}

/// Writes `alias_proposals`.
pub(super) fn propose(context: &Context<'_>, sides: &Sides, draft: &mut Draft) -> Result<Proposals> {
    let profiles = profiles(context)?;
    let weights = Weights::of(&profiles);
    let side: BTreeMap<&str, (&str, &'static str)> =
        sides.of_tasks().map(|row| (row.task.as_str(), (row.alias_group.as_str(), row.split))).collect();
    let of = |task: &str| side.get(task).copied().unwrap_or(("", "train"));
    let declared = |task: &str| context.catalog.tasks.get(task)?.alias_group.as_deref();
    let found: Vec<(usize, usize, Evidence)> = (0..profiles.len())
        .into_par_iter()
        .flat_map_iter(|at| {
            let (profiles, weights, of, declared) = (&profiles, &weights, &of, &declared);
            (at + 1..profiles.len()).filter_map(move |other| {
                let (a, b) = (&profiles[at].task, &profiles[other].task);
                // Where somebody gave both a group, the question is answered.
                let is_open = of(a).0 != of(b).0 && !(declared(a).is_some() && declared(b).is_some());
                let evidence = is_open.then(|| weights.compare(at, other))?;
                evidence.is_enough().then_some((at, other, evidence))
            })
        })
        .collect();
    let linked = Components::new(profiles.len() as u32);
    found.iter().for_each(|(a, b, _)| linked.join(*a as u32, *b as u32));
    let lowest = linked.into_lowest();
    let name = |at: usize| profiles[at].task.clone();
    // A group that one of them has is the one to join.
    let mut known: BTreeMap<u32, &str> = BTreeMap::new();
    for (profile, low) in profiles.iter().zip(&lowest) {
        if let Some(group) = declared(&profile.task) {
            let lower = known.entry(*low).or_insert(group);
            *lower = group.min(lower);
        }
    }
    let group = |at: usize| {
        known.get(&lowest[at]).map_or_else(|| name(lowest[at] as usize), |group| (*group).to_owned())
    };
    let rows: Vec<Proposal> = found
        .into_iter()
        .map(|(at, other, evidence)| Proposal {
            task: name(at),
            other_task: name(other),
            proposed_group: group(at),
            split: of(&profiles[at].task).1,
            other_split: of(&profiles[other].task).1,
            points: evidence.points,
            same_initial: evidence.same_initial,
            initial: evidence.initial,
            interface: evidence.interface,
            prompts: evidence.prompts,
            metrics: evidence.metrics,
            sizes: evidence.sizes.iter().map(u64::to_string).collect(),
            scores: evidence.scores,
        })
        .collect();
    draft.write_rows("alias_proposals", &[], &rows)?;
    let is_across = |row: &&Proposal| (row.split == "test") != (row.other_split == "test");
    let across: Vec<&Proposal> = rows.iter().filter(is_across).collect();
    let shown: Vec<String> =
        across.iter().take(5).map(|row| format!("`{}` and `{}`", row.task, row.other_task)).collect();
    let warning = (!across.is_empty()).then(|| {
        format!(
            "{} pairs of tasks on different sides look like one problem: {} (table `alias_proposals`); if they are, \
             give them one `alias_group` in the catalogue",
            across.len(),
            shown.join(", ")
        )
    });
    Ok(Proposals { pairs: rows.len() as u64, across: across.len() as u64, warning })
}

/// The profiles of all tasks, in the order of their names.
fn profiles(context: &Context<'_>) -> Result<Vec<Profile>> {
    let session = context.engine.session(Width::Narrow);
    views::bind(&session, Some("input"), &context.inputs[0], &views::Needed::by(PROGRAMS))?;
    let mut initial: BTreeMap<String, Option<Digest>> = BTreeMap::new();
    session.each("SELECT task, initial_program_id FROM input.tasks ORDER BY task", &[], |batch| {
        let cells = batch.column(0).as_string::<i32>().iter().zip(batch.column(1).as_string::<i32>());
        for (task, id) in cells.filter_map(|(task, id)| Some((task?, id))) {
            initial.insert(task.to_owned(), id.map(str::parse).transpose()?);
        }
        Ok(())
    })?;
    let programs = sampled(&session, PROGRAMS)?;
    let prompts = sampled(&session, PROMPTS)?;

    let room = context.store.scratch()?;
    let mut shelf = Shelf::create(room.path())?;
    let of_sample = programs.values().flatten().map(|row| row.id);
    let mut codes: HashMap<Digest, u32> =
        of_sample.chain(initial.values().flatten().copied()).map(|id| (id, NONE)).collect();
    copy(context, Source::Programs, &mut codes, &mut shelf)?;
    let mut texts: HashMap<Digest, u32> = prompts.values().flatten().map(|row| (row.id, NONE)).collect();
    copy(context, Source::Texts, &mut texts, &mut shelf)?;
    let shelf = shelf.finish()?;
    let read = |numbers: &HashMap<Digest, u32>, id: &Digest| -> Result<Option<String>> {
        numbers.get(id).filter(|number| **number != NONE).map(|number| shelf.get(*number)).transpose()
    };

    let mut scores = scores(&session)?;
    let mut profiles = Vec::new();
    for (task, initial) in &initial {
        let mut all = Sampled::default();
        let mut has_initial = false;
        for row in programs.get(task).into_iter().flatten() {
            has_initial |= Some(row.id) == *initial;
            if let Some(code) = read(&codes, &row.id)? {
                all.program(&code, row.metrics.as_deref());
            }
        }
        let first = match initial {
            Some(id) => read(&codes, id)?.map(|code| (id.to_string(), code)),
            None => None,
        };
        if let Some((_, code)) = first.as_ref().filter(|_| !has_initial) {
            all.program(code, None);
        }
        for row in prompts.get(task).into_iter().flatten() {
            if let Some(text) = read(&texts, &row.id)? {
                all.prompt(&text);
            }
        }
        let (scaffolds, scores) = scores.remove(task).unwrap_or_default();
        let initial = first.map(|(id, code)| (id, words(&code)));
        profiles.push(Profile { scaffolds, scores, initial, ..all.profile(task) });
    }
    Ok(profiles)
}

/// A program or a prompt of the sample.
struct Row {
    id: Digest,
    metrics: Option<String>,
}

/// The rows of a sample, by task.
fn sampled(session: &Session<'_>, statement: &str) -> Result<BTreeMap<String, Vec<Row>>> {
    let mut rows: BTreeMap<String, Vec<Row>> = BTreeMap::new();
    session.each(statement, &[("most", Value::Int(SAMPLE))], |batch| {
        let cell = |name: &str, row: usize| {
            let column = batch.column_by_name(name)?.as_string::<i32>();
            column.is_valid(row).then(|| column.value(row))
        };
        let id = if batch.column_by_name("program_id").is_some() { "program_id" } else { "text_id" };
        for row in 0..batch.num_rows() {
            if let (Some(task), Some(id)) = (cell("task", row), cell(id, row)) {
                let metrics = cell("metrics", row).map(str::to_owned);
                rows.entry(task.to_owned()).or_default().push(Row { id: id.parse()?, metrics });
            }
        }
        Ok(())
    })?;
    Ok(rows)
}

/// The scaffolds of a task, and the range of its scores by metric.
type Scores = (BTreeSet<String>, BTreeMap<String, (f64, f64)>);

fn scores(session: &Session<'_>) -> Result<BTreeMap<String, Scores>> {
    let mut scores: BTreeMap<String, Scores> = BTreeMap::new();
    session.each(SCORES, &[], |batch| {
        let text = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
        let number =
            |column: usize, row: usize| batch.column(column).as_primitive::<Float64Type>().value(row);
        for row in 0..batch.num_rows() {
            let known = scores.entry(text(0, row)).or_default();
            known.0.insert(text(1, row));
            let (low, high) = (number(3, row), number(4, row));
            let range = known.1.entry(text(2, row)).or_insert((low, high));
            *range = (range.0.min(low), range.1.max(high));
        }
        Ok(())
    })?;
    Ok(scores)
}

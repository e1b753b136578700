//! What a run is called and what it is judged by: who said so, and who comes first.

use std::collections::{BTreeMap, BTreeSet};

use finch_core::Kind;

use super::contradiction;
use crate::catalog::Direction;
use crate::ingest::Discovery;
use crate::ingest::assess::{FITNESS, Objective};
use crate::ingest::unite::Run;
use crate::stage::Context;

/// The task's name and who gave it: the spec, a sidecar, the log itself, the catalogue, or nobody. Never a folder. Where the folders
/// of one run disagree, the first name in order stands and `notes` says so.
pub(super) fn name_task(
    run: &Run,
    context: &Context<'_>,
    discovery: &Discovery,
    notes: &mut BTreeSet<String>,
) -> (String, &'static str) {
    let units = || run.units.iter().map(|&unit| &discovery.units[unit]);
    let by_spec: BTreeSet<String> = units().filter_map(|unit| unit.task.clone()).collect();
    let by_sidecar: BTreeSet<String> = units().filter_map(|unit| unit.sidecar.task.clone()).collect();
    for (names, origin) in [(by_spec, "spec"), (by_sidecar, "sidecar")] {
        if names.len() > 1 {
            let all: Vec<&str> = names.iter().map(String::as_str).collect();
            notes.insert(format!(
                "one run has several task names by its {origin}: `{}`; the first stands",
                all.join("`, `")
            ));
        }
        if let Some(task) = names.into_iter().next() {
            return (task, origin);
        }
    }
    if let Some(task) = &run.task {
        return (task.clone(), "scaffold");
    }
    let root = run.root_program.map(|program| program.id);
    if let Some(task) = root.and_then(|program| context.catalog.by_initial_program(program)) {
        return (task.to_owned(), "catalogue");
    }
    let name = root.unwrap_or_else(|| Kind::Text.of_text(&run.root));
    (format!("unknown:{}", name.short()), "unknown")
}

/// What the run is judged by. A raw metric that the sidecar or the catalogue names comes first; the direction of a
/// scaffold's own fitness is its writer's, and nobody can say otherwise.
pub(super) fn objective(
    run: &Run,
    task: &str,
    context: &Context<'_>,
    discovery: &Discovery,
    notes: &mut BTreeSet<String>,
) -> Objective {
    let reported =
        |key: &str| run.candidates.values().any(|candidate| candidate.merged.metrics.contains_key(key));
    let (fitness, written) = run.units.first().map_or((FITNESS, Some(Direction::Maximize)), |&unit| {
        let (key, direction) = &discovery.units[unit].fitness;
        (key.as_str(), *direction)
    });
    // Some scaffolds say of each candidate which way its score goes.
    let said: BTreeSet<Direction> =
        run.candidates.values().filter_map(|candidate| candidate.merged.direction).collect();
    let own = match said.len() {
        0 => written,
        1 => said.first().copied(),
        _ => {
            notes.insert(format!("candidates of a run of `{task}` disagree on the direction of their score"));
            None
        }
    };
    let known = context.catalog.tasks.get(task);
    let known_key = known.map(|known| known.score_key.as_deref().unwrap_or(fitness));
    let bound_of = |key: &str| known.filter(|_| known_key == Some(key)).and_then(|known| known.bound);
    let catalogued = |key: &str| known.filter(|_| known_key == Some(key)).and_then(|known| known.direction);
    let direction_of = |key: &str| match key {
        key if key == fitness => own.or_else(|| catalogued(key)),
        key => catalogued(key),
    };
    if let (Some(said), Some(own)) = (catalogued(fitness), own)
        && said != own
    {
        notes.insert(format!(
            "the catalogue says `{}` for the metric `{fitness}` of `{task}`, but its scaffold goes by `{}`, which stands",
            said.word(),
            own.word()
        ));
    }
    let sidecars = run.units.iter().map(|&unit| &discovery.units[unit].sidecar);
    let named = sidecars.filter_map(|sidecar| Some((sidecar.score_key.clone()?, sidecar.direction))).min();
    if let Some((key, direction)) = named {
        if reported(&key) {
            let direction =
                direction.filter(|_| key != fitness || own.is_none()).or_else(|| direction_of(&key));
            return Objective { bound: bound_of(&key), score_key: Some(key), direction, origin: "sidecar" };
        }
        notes.insert(format!(
            "no candidate of task `{task}` reports the metric `{key}` that its sidecar names"
        ));
    }
    if let Some(key) = known_key.filter(|key| *key != fitness) {
        if reported(key) {
            let (direction, bound) = (direction_of(key), bound_of(key));
            if let (Some(direction), Some(own)) = (direction, own) {
                notes.extend(contradiction::of_fitness(run, task, key, direction, (fitness, own)));
            }
            return Objective { score_key: Some(key.to_owned()), direction, origin: "catalogue", bound };
        }
        notes.insert(format!(
            "no candidate of a run of `{task}` reports the metric `{key}` that the catalogue names"
        ));
    }
    if fitness != FITNESS {
        // The mean of all metrics is a rule of OpenEvolve and its relatives alone.
        let (direction, bound) = (direction_of(fitness), bound_of(fitness));
        let origin = if direction.is_some() { "scaffold" } else { "unknown" };
        return Objective { score_key: Some(fitness.to_owned()), direction, origin, bound };
    }
    let score_key = reported(FITNESS).then(|| FITNESS.to_owned());
    let bound = score_key.as_deref().and_then(bound_of);
    Objective { score_key, direction: Some(Direction::Maximize), origin: "scaffold", bound }
}

/// The metric keys that most candidates without a failure report; of equally common sets, the larger.
pub(super) fn usual_keys(run: &Run) -> Vec<String> {
    let mut sets: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for candidate in run.candidates.values() {
        let record = &candidate.merged;
        if record.failure.is_none() {
            let mut keys: Vec<String> = record.metrics.keys().cloned().collect();
            keys.sort();
            *sets.entry(keys).or_default() += 1;
        }
    }
    sets.into_iter()
        .max_by_key(|(keys, count)| (*count, keys.len()))
        .map(|(keys, _)| keys)
        .unwrap_or_default()
}

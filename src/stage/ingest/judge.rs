//! What a run is called and what it is judged by: who said so, and who comes first.

use std::collections::BTreeMap;

use finch_core::Kind;

use crate::catalog::Direction;
use crate::ingest::Discovery;
use crate::ingest::assess::{self, FITNESS, Objective};
use crate::ingest::unite::Run;
use crate::stage::Context;

/// The task's name and who gave it: the spec, a sidecar, the catalogue, or nobody. Never a folder.
pub(super) fn name_task(run: &Run, context: &Context<'_>, discovery: &Discovery) -> (String, &'static str) {
    let units = || run.units.iter().map(|&unit| &discovery.units[unit]);
    if let Some(task) = units().filter_map(|unit| unit.task.clone()).min() {
        return (task, "spec");
    }
    if let Some(task) = units().filter_map(|unit| unit.sidecar.task.clone()).min() {
        return (task, "sidecar");
    }
    let root = run.root_program.map(|program| program.id);
    if let Some(task) = root.and_then(|program| context.catalog.by_initial_program(program)) {
        return (task.to_owned(), "catalogue");
    }
    let name = root.unwrap_or_else(|| Kind::Text.of_text(&run.root));
    (format!("unknown:{}", name.short()), "unknown")
}

/// What the run is judged by. A raw metric that the sidecar or the catalogue names comes first; a scaffold's own
/// fitness is maximised, and nobody can say otherwise.
pub(super) fn objective(run: &Run, task: &str, context: &Context<'_>, discovery: &Discovery) -> Objective {
    let reported =
        |key: &str| run.candidates.values().any(|candidate| candidate.merged.metrics.contains_key(key));
    let known = context.catalog.tasks.get(task);
    let bound_for = |key: &str| {
        known
            .filter(|known| known.score_key.as_deref().unwrap_or(FITNESS) == key)
            .and_then(|known| known.bound)
    };
    let sidecars = run.units.iter().map(|&unit| &discovery.units[unit].sidecar);
    let named = sidecars
        .filter_map(|sidecar| Some((sidecar.score_key.clone()?, sidecar.direction)))
        .min_by(|a, b| a.0.cmp(&b.0));
    if let Some((key, direction)) = named.filter(|(key, _)| reported(key)) {
        let direction = if key == FITNESS { Some(Direction::Maximize) } else { direction };
        return Objective { bound: bound_for(&key), score_key: Some(key), direction, origin: "sidecar" };
    }
    if let Some(known) = known
        && let Some(key) = known.score_key.clone().filter(|key| key != FITNESS && reported(key))
    {
        return Objective {
            score_key: Some(key),
            direction: known.direction,
            origin: "catalogue",
            bound: known.bound,
        };
    }
    let score_key = reported(FITNESS).then(|| FITNESS.to_owned());
    let bound = score_key.as_deref().and_then(bound_for);
    Objective { score_key, direction: Some(Direction::Maximize), origin: "scaffold", bound }
}

/// The metric keys that most candidates without a failure report; of equally common sets, the larger.
pub(super) fn usual_keys(run: &Run) -> Vec<String> {
    let mut sets: BTreeMap<Vec<String>, usize> = BTreeMap::new();
    for candidate in run.candidates.values() {
        let record = &candidate.merged;
        if assess::failure(&record.metrics, record.correct, record.error.as_deref()).is_none() {
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

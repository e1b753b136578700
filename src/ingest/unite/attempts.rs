//! Proposals that never became candidates, and what logs say of their run: which run they belong to.

use std::collections::{HashMap, HashSet};

use super::Run;
use crate::ingest::record::{About, Attempt};

/// Gives each attempt to the run of its parent, else to the run of its unit; where a unit has several, to the first of
/// them in order. Those of units without a run come back. What a log says of its run goes to all runs of its unit that nothing else was said of.
pub(super) fn assign(
    runs: &mut [Run],
    attempts: Vec<(usize, Attempt)>,
    abouts: Vec<(usize, About)>,
) -> Vec<Attempt> {
    let mut order: Vec<usize> = (0..runs.len()).collect();
    order.sort_by_key(|&at| runs[at].run_id);
    let mut by_unit: HashMap<usize, Vec<usize>> = HashMap::new();
    for at in order {
        for unit in &runs[at].units {
            by_unit.entry(*unit).or_default().push(at);
        }
    }
    let mut stray = Vec::new();
    let mut seen = HashSet::new();
    for (unit, attempt) in attempts {
        let Some(near) = by_unit.get(&unit) else {
            stray.push(attempt);
            continue;
        };
        let of_group = |at: &&usize| runs[**at].group == attempt.group;
        let holds = |at: &&usize| {
            let named = attempt.parent.iter().chain(&attempt.beside);
            let run = &runs[**at];
            let mut known = named.map(|id| run.candidates.contains_key(id) || run.evicted.contains_key(id));
            known.any(|known| known)
        };
        let run = near.iter().find(holds).or_else(|| near.iter().find(of_group)).or(near.first());
        let Some(&run) = run else { continue };
        // A later checkpoint repeats the failures of an earlier one.
        let content = (run, attempt.digest, attempt.iteration, attempt.error.clone(), attempt.response);
        if attempt.digest.is_some() && !seen.insert(content) {
            runs[run].repeated_attempts += 1;
        } else {
            runs[run].attempts.push(attempt);
        }
    }
    for (unit, about) in abouts {
        for &at in by_unit.get(&unit).into_iter().flatten() {
            let known = &mut runs[at].about;
            known.version = [known.version.take(), about.version.clone()].into_iter().flatten().min();
            known.config = [known.config.take(), about.config.clone()].into_iter().flatten().min();
        }
    }
    stray
}

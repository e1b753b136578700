//! What the steps of a run need besides its records: answers seen again on their parents, and parents that nobody names.
//!
//! Most records hold all that a replay needs and were seen when they were read. What is left is done here, with the
//! texts at hand: parents that lie in other files than their children.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;

use finch_core::{Digest, answer};
use rayon::prelude::*;

use super::shelf::Wanted;
use crate::error::Result;
use crate::ingest::record::{Record, Replayed};
use crate::ingest::replayed;
use crate::ingest::unite::{Candidate, Run};
use crate::near::tokens;
use crate::stage::Context;

/// Candidates that a parent is looked for among, at most: the last ones before.
const MOST_POSSIBLE: usize = 64;

/// Similarity below which nobody is taken for a parent.
const LEAST_SIMILAR: f64 = 0.2;

/// Words that make up one item of a comparison.
const WORDS: usize = 3;

/// Completes the steps of all runs.
pub(super) fn complete(
    runs: &mut [Run],
    infer: bool,
    packs: &[PathBuf],
    context: &Context<'_>,
) -> Result<()> {
    if infer {
        infer_parents(runs, packs, context)?;
    }
    replay(runs, packs, context)
}

/// A step that was not seen again yet.
struct Step {
    run: usize,
    child: String,
    program: Digest,
    parent: Digest,
    reasoning: Option<Digest>,
    response: Digest,
}

fn replay(runs: &mut [Run], packs: &[PathBuf], context: &Context<'_>) -> Result<()> {
    let mut steps = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        for (id, candidate) in &run.candidates {
            let record = &candidate.merged;
            let parent = candidate.parents.first().and_then(|parent| program(run, parent));
            let (Some(parent), Some(response), Some(own)) = (parent, record.response, record.program) else {
                continue;
            };
            if record.rebuilt || record.replayed.is_some_and(|known| known.is_of(Some(parent))) {
                continue;
            }
            let (child, program, reasoning) = (id.clone(), own.id, record.reasoning);
            steps.push(Step { run: at, child, program, parent, reasoning, response });
        }
    }
    if steps.is_empty() {
        return Ok(());
    }
    let wanted = steps.iter().flat_map(|step| [Some(step.parent), step.reasoning, Some(step.response)]);
    let folder = context.store.scratch()?;
    let shelf = Wanted::of(packs, &wanted.flatten().collect(), folder.path())?;
    let seen: Vec<Option<(Replayed, Record)>> = steps
        .par_iter()
        .map(|step| {
            let (Some(parent), Some(response)) = (shelf.get(step.parent)?, shelf.get(step.response)?) else {
                return Ok(None);
            };
            let reasoning = step.reasoning.map(|id| shelf.get(id)).transpose()?.flatten();
            let whole = answer::assistant_turn(reasoning.as_deref(), &response);
            let mut record = Record::default();
            let seen = replayed(Some(&parent), &whole, step.program, &mut record);
            Ok(seen.map(|seen| (seen, record)))
        })
        .collect::<Result<_>>()?;
    for (step, seen) in steps.into_iter().zip(seen) {
        let Some(candidate) = runs[step.run].candidates.get_mut(&step.child) else { continue };
        candidate.merged.replayed = seen.as_ref().map(|(seen, _)| *seen);
        // A scaffold may know more of an answer than can be seen in it.
        let known = candidate.merged.operator;
        let is_better =
            |seen: &Replayed| known.is_none() || (seen.exact.is_some() && known != Some("crossover"));
        if let Some((_, record)) = seen.filter(|(seen, _)| is_better(seen)) {
            candidate.merged.operator = record.operator;
        }
    }
    Ok(())
}

fn program(run: &Run, id: &str) -> Option<Digest> {
    run.candidates.get(id)?.merged.program.map(|program| program.id)
}

/// Gives each candidate without a parent the most similar of those that it may come from. A run of a scaffold that
/// names parents is left as it is: who has none there is a root.
fn infer_parents(runs: &mut [Run], packs: &[PathBuf], context: &Context<'_>) -> Result<()> {
    let mut searches: Vec<(usize, String, Vec<String>)> = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        if run.candidates.values().any(|candidate| !candidate.parents.is_empty()) {
            continue;
        }
        let mut order: Vec<(&String, &Candidate)> = run.candidates.iter().collect();
        order.sort_by_key(|(id, one)| (one.merged.iteration, (*id).clone()));
        let places: HashMap<&String, usize> =
            order.iter().enumerate().map(|(place, (id, _))| (*id, place)).collect();
        for (place, (id, candidate)) in order.iter().enumerate() {
            if candidate.merged.generation == Some(0) {
                // Made from nothing but the task.
                continue;
            }
            let own = candidate.merged.iteration;
            let pool: Vec<String> = match candidate.merged.pool.as_slice() {
                [] => order[..place]
                    .iter()
                    .filter(|(_, other)| other.merged.iteration < own)
                    .rev()
                    .take(MOST_POSSIBLE)
                    .map(|(id, _)| (*id).clone())
                    .collect(),
                // Whoever stands in a population may also have come later; nobody descends from those.
                pool => {
                    let before = |id: &&String| places.get(*id).is_some_and(|other| *other < place);
                    pool.iter().filter(before).cloned().collect()
                }
            };
            if !pool.is_empty() {
                searches.push((at, (*id).clone(), pool));
            }
        }
    }
    let programs: HashSet<Digest> = searches
        .iter()
        .flat_map(|(at, id, pool)| std::iter::once(id).chain(pool).filter_map(|id| program(&runs[*at], id)))
        .collect();
    if programs.is_empty() {
        return Ok(());
    }
    let folder = context.store.scratch()?;
    let shelf = Wanted::of(packs, &programs, folder.path())?;
    let items: HashMap<Digest, Vec<u64>> = programs
        .par_iter()
        .map(|&id| Ok((id, shelf.get(id)?.map(|text| shingled(&text)).unwrap_or_default())))
        .collect::<Result<_>>()?;
    let found: Vec<Option<(String, f64)>> = searches
        .par_iter()
        .map(|(at, id, pool)| {
            let own = items.get(&program(&runs[*at], id)?)?;
            let compared = pool.iter().filter_map(|other| {
                let theirs = items.get(&program(&runs[*at], other)?)?;
                Some((tokens::jaccard(own, theirs), other))
            });
            // Of equally similar ones the lowest id, so that order decides nothing.
            let best = compared.max_by(|(a, left), (b, right)| a.total_cmp(b).then_with(|| right.cmp(left)));
            best.filter(|(similarity, _)| *similarity >= LEAST_SIMILAR).map(|(s, parent)| (parent.clone(), s))
        })
        .collect();
    for ((at, id, _), found) in searches.into_iter().zip(found) {
        if let (Some((parent, similarity)), Some(candidate)) = (found, runs[at].candidates.get_mut(&id)) {
            candidate.parents = vec![parent];
            candidate.inferred = Some(similarity);
        }
    }
    Ok(())
}

/// A program as the set of its word triples.
fn shingled(text: &str) -> Vec<u64> {
    let (mut words, mut set) = (Vec::new(), Vec::new());
    tokens::tokens(text, &mut words);
    tokens::shingles(&words, WORDS, 0, &mut set);
    tokens::as_set(&mut set);
    set
}

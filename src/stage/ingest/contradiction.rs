//! What the catalogue says of a metric, held against the logs.
//!
//! A scaffold maximises its own fitness. Where a better metric goes with a worse fitness in nearly all pairs of
//! programs, the catalogue most likely has the metric's direction wrong, and every label of the task with it.

use crate::catalog::Direction;
use crate::ingest::unite::Run;

/// Programs that are compared with each other, at most: the pairs of these are enough to tell.
const PROGRAMS: usize = 200;
/// Pairs that must differ in both numbers, before anything is said.
const LEAST_PAIRS: usize = 20;
/// The share of those pairs that contradict, from which it is said.
const CONTRADICTING: f64 = 0.9;

/// How a metric and its direction contradict the fitness that the scaffold goes by, in words; `None` where they agree, or
/// where there is too little to tell.
pub(super) fn of_fitness(
    run: &Run,
    task: &str,
    key: &str,
    direction: Direction,
    fitness: (&str, Direction),
) -> Option<String> {
    let number = |metrics: &serde_json::Map<String, serde_json::Value>, key: &str| metrics.get(key)?.as_f64();
    let scored: Vec<(f64, f64)> = run
        .candidates
        .values()
        .filter(|candidate| candidate.merged.failure.is_none())
        .filter_map(|candidate| {
            let metrics = &candidate.merged.metrics;
            Some((number(metrics, key)?, number(metrics, fitness.0)?))
        })
        .take(PROGRAMS)
        .collect();
    let better = |a: f64, b: f64, direction: Direction| match direction {
        Direction::Maximize => a > b,
        Direction::Minimize => a < b,
    };
    let (mut pairs, mut against) = (0_usize, 0_usize);
    for (at, a) in scored.iter().enumerate() {
        for b in scored[at + 1..].iter().filter(|b| b.0 != a.0 && b.1 != a.1) {
            pairs += 1;
            against += usize::from(better(a.0, b.0, direction) != better(a.1, b.1, fitness.1));
        }
    }
    let contradicts = pairs >= LEAST_PAIRS && against as f64 >= CONTRADICTING * pairs as f64;
    contradicts.then(|| {
        format!(
            "the catalogue says `{direction}` for the metric `{key}` of `{task}`, but in {against} of {pairs} pairs of \
             programs of a run the better one has the worse `{}`: look at its direction",
            fitness.0,
            direction = direction.word(),
        )
    })
}

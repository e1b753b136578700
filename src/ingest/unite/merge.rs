//! Records of one candidate become one: the best record, with its gaps filled from the others.
//!
//! Which record is best depends on what the records say, never on where they lie.

use std::sync::Arc;

use finch_core::Digest;

use crate::ingest::record::Record;

/// The parents that the best record names; a copy's parent is what it copies and says nothing.
pub(super) fn parents(group: &[(usize, bool, Box<Record>)]) -> Vec<(usize, String)> {
    group
        .iter()
        .filter(|(_, copy, _)| !copy)
        .find(|(_, _, record)| !record.parents.is_empty())
        .map(|(unit, _, record)| record.parents.iter().map(|id| (*unit, id.clone())).collect())
        .unwrap_or_default()
}

pub(super) type Rank =
    (bool, bool, bool, bool, bool, bool, bool, std::cmp::Reverse<Option<i64>>, Option<Digest>, Arc<str>, u64);

/// The order of a candidate's records, best first. The path comes last and only among equal contents.
pub(super) fn rank(record: &Record, copy: bool) -> Rank {
    (
        copy,
        record.stub,
        record.program.is_none(),
        record.rebuilt,
        record.user_prompt.is_none() || record.response.is_none(),
        record.metrics.is_empty(),
        // One text may stand in a log with its score and, as a duplicate, without.
        record.failure.is_some(),
        std::cmp::Reverse(record.created_at),
        record.digest,
        record.source.clone(),
        record.offset,
    )
}

/// The best record, the first of its group, with its gaps filled from the others, in order.
pub(super) fn merge(
    native_id: String,
    best: Box<Record>,
    group: &[(usize, bool, Box<Record>)],
) -> Box<Record> {
    let mut merged = best;
    merged.native_id = native_id;
    merged.copy_of = None;
    for (_, copy, other) in &group[1..] {
        macro_rules! fill {
            ($($field:ident),+) => { $(if merged.$field.is_none() { merged.$field.clone_from(&other.$field); })+ };
        }
        if merged.program.is_none() {
            merged.program = other.program;
            merged.rebuilt = other.rebuilt;
        }
        fill!(
            island,
            generation,
            feedback,
            eval_seconds,
            system_prompt,
            user_prompt,
            reasoning,
            response,
            operator,
            model,
            temperature,
            prompt_tokens,
            completion_tokens,
            cost,
            direction,
            task,
            domain
        );
        if merged.replayed.is_none() && other.program == merged.program {
            // The verdict belongs to the program that it was made for.
            merged.replayed = other.replayed;
        }
        if !copy && !other.stub {
            // A copy's iteration is zero and its time is the migration's.
            fill!(iteration, created_at);
        }
        if merged.metrics.is_empty() {
            // The verdict belongs to the metrics that it was made from.
            merged.metrics.clone_from(&other.metrics);
            merged.failure = other.failure;
        }
        if merged.parent_metrics.is_empty() {
            merged.parent_metrics.clone_from(&other.parent_metrics);
        }
        if merged.pool.is_empty() {
            merged.pool.clone_from(&other.pool);
        }
        if merged.inspirations.is_empty() {
            merged.inspirations.clone_from(&other.inspirations);
        }
    }
    if group[0].1 {
        // Known from copies alone: they do not say when it was found.
        merged.iteration = None;
        merged.created_at = None;
        merged.parents.clear();
    }
    merged
}

//! The rows that ingest writes, field for field as in `schemas/tables.toml`, which says what they mean.

use serde::Serialize;

use crate::catalog::Direction;
use crate::ingest::assess::Objective;

#[derive(Serialize)]
pub(super) struct RunRow {
    pub run_id: String,
    pub scaffold: &'static str,
    pub scaffold_version: Option<String>,
    pub task: String,
    pub task_origin: &'static str,
    pub models: Vec<String>,
    pub score_key: Option<String>,
    pub direction: Option<&'static str>,
    pub iterations: Option<i64>,
    pub candidates: i64,
    pub copies: i64,
    pub attempts: i64,
    pub started_at: Option<i64>,
    pub config: Option<String>,
    pub license: Option<String>,
    pub origin: Option<String>,
    pub source: String,
}

#[derive(Serialize)]
pub(super) struct CandidateRow {
    pub run_id: String,
    pub candidate_id: String,
    pub native_id: String,
    pub copy_native_ids: Vec<String>,
    pub parent_native_ids: Vec<String>,
    pub program_id: String,
    pub raw_blake3: String,
    pub iteration: Option<i64>,
    pub island: Option<i64>,
    pub generation: Option<i64>,
    pub score: Option<f64>,
    pub valid: bool,
    pub failure: Option<&'static str>,
    pub metrics: String,
    pub feedback_id: Option<String>,
    pub eval_seconds: Option<f64>,
    pub created_at: Option<i64>,
    pub bound_violation: Option<bool>,
    pub records: i64,
    pub source: String,
    pub source_offset: i64,
}

#[derive(Serialize)]
pub(super) struct TransitionRow {
    pub transition_id: String,
    pub run_id: String,
    pub scaffold: &'static str,
    pub task: String,
    pub domain: Option<String>,
    pub score_key: Option<String>,
    pub direction: Option<&'static str>,
    pub parent_candidate: String,
    pub child_candidate: String,
    pub parent_program: Option<String>,
    pub child_program: String,
    pub parent_raw_blake3: Option<String>,
    pub child_raw_blake3: String,
    pub parent_score: Option<f64>,
    pub child_score: Option<f64>,
    pub parent_score_origin: &'static str,
    pub parent_valid: Option<bool>,
    pub child_valid: bool,
    pub parent_failure: Option<&'static str>,
    pub child_failure: Option<&'static str>,
    pub operator: &'static str,
    pub parent_inferred: Option<f64>,
    pub replay: &'static str,
    pub model: Option<String>,
    pub temperature: Option<f64>,
    pub prompt_tokens: Option<i64>,
    pub completion_tokens: Option<i64>,
    pub cost: Option<f64>,
    pub system_prompt_id: Option<String>,
    pub user_prompt_id: Option<String>,
    pub reasoning_id: Option<String>,
    pub response_id: Option<String>,
    pub prompt_source: &'static str,
    pub iteration: Option<i64>,
    pub island: Option<i64>,
    pub generation: Option<i64>,
    pub inspirations: Vec<String>,
}

#[derive(Serialize)]
pub(super) struct TaskRow {
    pub task: String,
    pub domain: Option<String>,
    pub upstream: Option<String>,
    pub languages: Vec<String>,
    pub statement: Option<String>,
    pub initial_program_id: Option<String>,
}

/// Ordered by the table's key, so that a set of rows is in writing order.
#[derive(Serialize, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct ObjectiveRow {
    pub task: String,
    pub scaffold: &'static str,
    pub score_key: Option<String>,
    pub direction: Option<&'static str>,
    pub origin: &'static str,
    pub bound: Option<Bound>,
}

impl ObjectiveRow {
    pub(super) fn new(scaffold: &'static str, task: &str, objective: &Objective) -> Self {
        Self {
            task: task.to_owned(),
            scaffold,
            score_key: objective.score_key.clone(),
            direction: objective.direction.map(Direction::word),
            origin: objective.origin,
            bound: objective.bound.map(Bound),
        }
    }
}

/// A finite number with a total order; the catalogue refuses others.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Bound(pub f64);

impl PartialEq for Bound {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Bound {}

impl PartialOrd for Bound {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Bound {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0)
    }
}

#[derive(Serialize)]
pub(super) struct QuarantineRow {
    pub quarantine_id: String,
    pub code: String,
    pub reason: String,
    pub bytes: i64,
    pub excerpt: String,
    pub source: String,
    pub source_offset: i64,
}

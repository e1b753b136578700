//! The rows that ingest writes, field for field as in `schemas/tables.toml`, which says what they mean. Ids stay digests
//! until they are written: as texts they would be three times as long, and all rows of a table are in memory together.

use std::collections::BTreeMap;
use std::sync::Arc;

use finch_core::manifest::canonical_json;
use finch_core::replay::How;
use finch_core::{Digest, Kind};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::catalog::Direction;
use crate::ingest::Attempt;
use crate::ingest::assess::{self, Failure, Objective};
use crate::ingest::unite::{Candidate, Run};

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

fn text<S: Serializer>(text: &Arc<str>, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(text)
}

#[derive(Serialize)]
pub(super) struct CandidateRow {
    pub run_id: Digest,
    pub candidate_id: Digest,
    pub native_id: String,
    pub copy_native_ids: Vec<String>,
    pub parent_native_ids: Vec<String>,
    pub program_id: Digest,
    pub raw_blake3: Digest,
    pub rebuilt: bool,
    pub iteration: Option<i64>,
    pub island: Option<i64>,
    pub generation: Option<i64>,
    pub score: Option<f64>,
    pub valid: bool,
    pub failure: Option<&'static str>,
    pub metrics: String,
    pub feedback_id: Option<Digest>,
    pub eval_seconds: Option<f64>,
    pub created_at: Option<i64>,
    pub bound_violation: Option<bool>,
    pub records: i64,
    #[serde(serialize_with = "text")]
    pub source: Arc<str>,
    pub source_offset: i64,
}

#[derive(Serialize)]
pub(super) struct AttemptRow {
    pub attempt_id: Digest,
    pub run_id: Digest,
    pub parent_candidate: Option<Digest>,
    pub iteration: Option<i64>,
    pub error: Option<String>,
    pub response_id: Option<Digest>,
    pub scores: Option<String>,
    #[serde(serialize_with = "text")]
    pub source: Arc<str>,
    pub source_offset: i64,
}

impl AttemptRow {
    /// A row; `ordinals` tells equal attempts of a run apart.
    pub(super) fn new(run: &Run, attempt: &Attempt, ordinals: &mut BTreeMap<Digest, u64>) -> Self {
        let content = Kind::Attempt.fields().digest(run.run_id);
        let content =
            content.text(&attempt.iteration.map_or(String::new(), |iteration| iteration.to_string()));
        let content = content.bytes(attempt.response.as_ref().map_or(&[], |id| id.as_bytes()));
        let content = content.text(attempt.error.as_deref().unwrap_or(""));
        let content = content.bytes(attempt.digest.as_ref().map_or(&[], |digest| digest.as_bytes())).finish();
        let ordinal = ordinals.entry(content).or_default();
        *ordinal += 1;
        Self {
            attempt_id: Kind::Attempt.fields().digest(content).int(*ordinal).finish(),
            run_id: run.run_id,
            parent_candidate: attempt.parent.as_deref().map(|parent| run.candidate_id(parent)),
            iteration: attempt.iteration,
            error: attempt.error.clone(),
            response_id: attempt.response,
            scores: (!attempt.scores.is_empty())
                .then(|| canonical_json(&Value::Object(attempt.scores.clone()))),
            source: attempt.source.clone(),
            source_offset: attempt.offset as i64,
        }
    }
}

#[derive(Serialize)]
pub(super) struct TransitionRow {
    pub transition_id: Digest,
    pub run_id: Digest,
    pub scaffold: &'static str,
    pub task: String,
    pub domain: Option<String>,
    pub score_key: Option<String>,
    pub direction: Option<&'static str>,
    pub parent_candidate: Digest,
    pub child_candidate: Digest,
    pub parent_program: Option<Digest>,
    pub child_program: Digest,
    pub parent_raw_blake3: Option<Digest>,
    pub child_raw_blake3: Digest,
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
    pub replay_how: Option<&'static str>,
    pub no_op: bool,
    /// The answer holds marker-like text that is no block; counted, and in no column.
    #[serde(skip)]
    pub marker_like: bool,
    pub model: Option<String>,
    pub temperature: Option<f64>,
    pub prompt_tokens: Option<i64>,
    pub completion_tokens: Option<i64>,
    pub cost: Option<f64>,
    pub system_prompt_id: Option<Digest>,
    pub user_prompt_id: Option<Digest>,
    pub reasoning_id: Option<Digest>,
    pub response_id: Option<Digest>,
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

#[derive(Serialize)]
pub(super) struct ObjectiveRow {
    pub task: String,
    pub scaffold: &'static str,
    pub score_key: Option<String>,
    pub direction: Option<&'static str>,
    pub origin: &'static str,
    pub bound: Option<f64>,
}

impl ObjectiveRow {
    /// Whose word it is, the strongest first; equal words are ordered by what they say, never by who came first.
    pub(super) fn strength(&self) -> (usize, Option<&'static str>) {
        let order = ["sidecar", "catalogue", "scaffold"];
        let place = order.iter().position(|origin| *origin == self.origin).unwrap_or(order.len());
        (place, self.direction)
    }

    pub(super) fn new(scaffold: &'static str, task: &str, objective: &Objective) -> Self {
        Self {
            task: task.to_owned(),
            scaffold,
            score_key: objective.score_key.clone(),
            direction: objective.direction.map(Direction::word),
            origin: objective.origin,
            bound: objective.bound,
        }
    }
}

#[derive(Serialize)]
pub(super) struct QuarantineRow {
    pub quarantine_id: String,
    pub code: String,
    pub reason: String,
    pub bytes: i64,
    pub excerpt: String,
    /// In hexadecimal digits, which are bytes in the table.
    pub raw: Option<String>,
    #[serde(serialize_with = "text")]
    pub source: Arc<str>,
    pub source_offset: i64,
}

impl CandidateRow {
    pub(super) fn new(
        run: &Run,
        candidate: &Candidate,
        failure: Option<Failure>,
        score: Option<f64>,
        objective: &Objective,
    ) -> Self {
        let record = &candidate.merged;
        let program = record.program.expect("a run's candidates have programs");
        Self {
            run_id: run.run_id,
            candidate_id: run.candidate_id(&record.native_id),
            native_id: record.native_id.clone(),
            copy_native_ids: candidate.copies.clone(),
            parent_native_ids: candidate.parents.clone(),
            program_id: program.id,
            raw_blake3: program.raw,
            rebuilt: record.rebuilt,
            iteration: record.iteration,
            island: record.island,
            generation: record.generation,
            score,
            valid: failure.is_none(),
            failure: failure.map(Failure::word),
            metrics: canonical_json(&Value::Object(record.metrics.clone())),
            feedback_id: record.feedback,
            eval_seconds: record.eval_seconds,
            created_at: record.created_at,
            bound_violation: score.and_then(|score| assess::violates(score, objective)),
            records: candidate.records as i64,
            source: record.source.clone(),
            source_offset: record.offset as i64,
        }
    }
}

impl TransitionRow {
    /// A step without its scores, which the caller knows.
    pub(super) fn new(
        run: &Run,
        candidate: &Candidate,
        parent: &str,
        task: &str,
        objective: &Objective,
    ) -> Self {
        let record = &candidate.merged;
        let program = record.program.expect("a run's candidates have programs");
        let parent_program = run.candidates.get(parent).and_then(|parent| parent.merged.program);
        let seen = record.replayed.filter(|seen| seen.is_of(parent_program.map(|parent| parent.id)));
        let (parent_id, child_id) = (run.candidate_id(parent), run.candidate_id(&record.native_id));
        Self {
            transition_id: Kind::Transition.fields().digest(parent_id).digest(child_id).finish(),
            run_id: run.run_id,
            scaffold: run.scaffold,
            task: task.to_owned(),
            domain: None,
            score_key: objective.score_key.clone(),
            direction: objective.direction.map(Direction::word),
            parent_candidate: parent_id,
            child_candidate: child_id,
            parent_program: parent_program.map(|program| program.id),
            child_program: program.id,
            parent_raw_blake3: parent_program.map(|program| program.raw),
            child_raw_blake3: program.raw,
            parent_score: None,
            child_score: None,
            parent_score_origin: "none",
            parent_valid: None,
            child_valid: false,
            parent_failure: None,
            child_failure: None,
            operator: if candidate.parents.len() > 1 {
                "crossover"
            } else {
                record.operator.unwrap_or("unknown")
            },
            parent_inferred: candidate.inferred,
            replay: match seen {
                _ if record.rebuilt => "rebuilt",
                Some(seen) if seen.exact.is_some() => "exact",
                Some(seen) if seen.no_edit => "none",
                Some(_) => "inexact",
                None => "none",
            },
            replay_how: seen.and_then(|seen| seen.exact).map(How::name),
            no_op: parent_program.is_some_and(|parent| parent.id == program.id),
            marker_like: seen.is_some_and(|seen| seen.marker_like),
            model: record.model.clone(),
            temperature: record.temperature,
            prompt_tokens: record.prompt_tokens,
            completion_tokens: record.completion_tokens,
            cost: record.cost,
            system_prompt_id: record.system_prompt,
            user_prompt_id: record.user_prompt,
            reasoning_id: record.reasoning,
            response_id: record.response,
            prompt_source: if record.user_prompt.is_some() { "logged" } else { "none" },
            iteration: record.iteration,
            island: record.island,
            generation: record.generation,
            inspirations: record.inspirations.clone(),
        }
    }
}

//! Validity and score: decided by flags, errors and metric keys, never by the number alone.
//!
//! A failed program scores 0.0 in many scaffolds, which beats every valid score on a negative scale, or
//! infinity, which wins under maximisation. So validity comes first, and a score is read only from what was
//! accepted.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::json;
use crate::catalog::Direction;
use crate::rules::Rules;

/// Why a candidate is not valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Failure {
    /// The evaluation took too long.
    Timeout,
    /// The machine failed, not the program: a missing module, a rate limit, a full disk, a kill.
    Infrastructure,
    /// The program raised an error or did not compile.
    Error,
    /// The evaluator said that the result is not valid.
    Rejected,
    /// Nothing failed, and there is no finite score.
    NoScore,
}

impl Failure {
    /// The word of tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Infrastructure => "infrastructure",
            Self::Error => "error",
            Self::Rejected => "rejected",
            Self::NoScore => "no_score",
        }
    }
}

/// What the candidates of a run are judged by.
#[derive(Clone, Debug, PartialEq)]
pub struct Objective {
    /// The metric; `None` for the mean of all numeric ones, OpenEvolve's rule when there is no fitness key.
    pub score_key: Option<String>,
    /// Its direction, when somebody said it.
    pub direction: Option<Direction>,
    /// Who said it: `scaffold`, `sidecar`, `catalogue` or `unknown`.
    pub origin: &'static str,
    /// No valid score can be better.
    pub bound: Option<f64>,
}

/// The fitness key of OpenEvolve and ShinkaEvolve; both maximise it.
pub const FITNESS: &str = "combined_score";

/// Keys whose false or zero means that the evaluator did not accept the result.
const FLAGS: [&str; 5] = ["valid", "validity", "is_valid", "feasible", "runs_successfully"];
/// Keys that mean the same when they are booleans; as numbers they are shares, and zero is an honest value.
const BOOLEAN_FLAGS: [&str; 2] = ["correct", "success"];
/// Keys that a scaffold writes when an evaluation fails, and nothing else beside them.
const FAILURE_KEYS: [&str; 5] = ["error", "timeout", "stage1_passed", "stage2_passed", "stage3_passed"];

/// Why the metrics, the scaffold's verdict and the error text say that a candidate failed.
pub fn failure(metrics: &Map<String, Value>, correct: Option<bool>, error: &str) -> Option<Failure> {
    let said = metrics.get("error").and_then(Value::as_str).filter(|text| !text.trim().is_empty());
    let by_flag = FLAGS.iter().any(|flag| metrics.get(*flag).is_some_and(is_false))
        || BOOLEAN_FLAGS.iter().any(|flag| metrics.get(*flag) == Some(&Value::Bool(false)));
    let only_failure_keys =
        metrics.contains_key("error") && metrics.keys().all(|key| FAILURE_KEYS.contains(&key.as_str()));
    let timed_out = metrics.get("timeout").is_some_and(is_true);
    if correct != Some(false) && !by_flag && !only_failure_keys && !timed_out && said.is_none() {
        return None;
    }
    let said_timeout = said.is_some_and(|said| said.to_lowercase().contains("timeout"));
    if timed_out || said_timeout {
        return Some(Failure::Timeout);
    }
    let text = format!("{}\n{error}", said.unwrap_or(""));
    let otherwise = if said.is_some() || only_failure_keys { Failure::Error } else { Failure::Rejected };
    Some(reason(&text).unwrap_or(otherwise))
}

/// Why an evaluation failed, by what it printed; nothing where that speaks of no error.
pub fn reason(text: &str) -> Option<Failure> {
    if let Some(rule) = Rules::built_in().find(text) {
        return Some(rule.failure);
    }
    let text = text.to_lowercase();
    (text.contains("traceback") || text.contains("error")).then_some(Failure::Error)
}

/// The score under an objective; `None` when it is absent or not finite.
pub fn score(metrics: &Map<String, Value>, objective: &Objective) -> Option<f64> {
    match &objective.score_key {
        Some(key) => json::float(metrics, key),
        None => {
            let numbers: Vec<f64> =
                metrics.values().filter_map(json::number).filter(|n| n.is_finite()).collect();
            (!numbers.is_empty()).then(|| numbers.iter().sum::<f64>() / numbers.len() as f64)
        }
    }
}

/// Whether a score is better than the best that is possible.
pub fn violates(score: f64, objective: &Objective) -> Option<bool> {
    let bound = objective.bound?;
    Some(match objective.direction? {
        Direction::Maximize => score > bound,
        Direction::Minimize => score < bound,
    })
}

/// Whether metrics hold the fitness alone while the run's other candidates report more: the evaluator's
/// fallback for a program that it could not run. `usual` is the run's most common set of keys.
pub fn is_fallback(metrics: &Map<String, Value>, usual: &[String]) -> bool {
    usual.len() > 1
        && metrics.len() == 1
        && metrics.get(FITNESS).and_then(json::number).is_some_and(|score| score == 0.0)
        && usual.iter().any(|key| key == FITNESS)
}

fn is_false(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        _ => false,
    }
}

fn is_true(value: &Value) -> bool {
    match value {
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64().is_some_and(|number| number != 0.0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(metrics: Value, correct: Option<bool>, error: &str, expected: Option<Failure>) {
        let object = metrics.as_object().cloned().expect("an object");
        assert_eq!(failure(&object, correct, error), expected, "{metrics} {correct:?} {error:?}");
    }

    #[test]
    fn scaffold_failures_are_recognised() {
        check(json!({"error": 0.0}), None, "", Some(Failure::Error));
        check(json!({"error": 0.0, "timeout": true}), None, "", Some(Failure::Timeout));
        check(json!({"stage1_passed": 0.0, "error": 0.0, "timeout": true}), None, "", Some(Failure::Timeout));
        check(json!({"combined_score": 0.0}), Some(false), "", Some(Failure::Rejected));
        check(json!({"combined_score": 0.0}), Some(false), "Traceback (most", Some(Failure::Error));
    }

    #[test]
    fn evaluator_failures_are_recognised() {
        check(json!({"combined_score": 0.0, "error": "division by zero"}), None, "", Some(Failure::Error));
        check(
            json!({"combined_score": 0.0, "error": "Evaluation timed out after 5s"}),
            None,
            "",
            Some(Failure::Timeout),
        );
        check(
            json!({"combined_score": 0.0, "error": "No module named 'scipy'"}),
            None,
            "",
            Some(Failure::Infrastructure),
        );
        check(json!({"combined_score": 1e6, "validity": 0.0}), None, "", Some(Failure::Rejected));
        check(json!({"combined_score": 0.0, "feasible": false}), None, "", Some(Failure::Rejected));
    }

    #[test]
    fn a_number_alone_is_no_failure() {
        check(json!({"combined_score": 0.0}), None, "", None);
        check(json!({"combined_score": -1000.0, "rmse": 1000.0}), None, "", None);
        check(json!({"error": 0.013, "runtime": 2.0}), None, "", None);
        check(json!({"combined_score": 1.0, "error": ""}), None, "", None);
        check(json!({"combined_score": 1.0, "timeout": 0}), None, "", None);
        check(json!({"combined_score": 1.0, "success": 0.0}), None, "", None);
        check(
            json!({"error": 0.0}),
            None,
            "ModuleNotFoundError: No module named 'x'",
            Some(Failure::Infrastructure),
        );
    }

    #[test]
    fn a_lone_zero_is_a_fallback_only_beside_richer_metrics() {
        let lone = json!({"combined_score": 0.0}).as_object().cloned().expect("object");
        assert!(is_fallback(&lone, &["combined_score".into(), "hit_rate".into()]));
        assert!(!is_fallback(&lone, &["combined_score".into()]));
    }

    #[test]
    fn scores_must_be_finite() {
        let objective = Objective {
            score_key: Some("x".into()),
            direction: Some(Direction::Minimize),
            origin: "catalogue",
            bound: Some(1.0),
        };
        let metrics = json!({"x": "Infinity"}).as_object().cloned().expect("object");
        assert_eq!(score(&metrics, &objective), None);
        assert_eq!(violates(0.9, &objective), Some(true));
        assert_eq!(violates(1.0, &objective), Some(false));
    }
}

//! What a build says while it runs: one line an event, on standard error.

mod training;

use std::io::Write;

use finch_core::manifest::Manifest;

pub use self::training::TrainingLines;
use crate::store::{Decision, StageRecord};

/// Where events go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Lines on standard error.
    Lines,
    /// JSON lines on standard error.
    Json,
    /// Nowhere.
    Quiet,
}

impl Progress {
    /// A stage starts to compute.
    pub fn started(&self, stage: &str, kind: &str, why: &str) {
        match self {
            Self::Lines => say(&format!("run    {stage:<12} {kind}: {why}")),
            Self::Json => {
                event(&serde_json::json!({"event": "started", "stage": stage, "kind": kind, "why": why}));
            }
            Self::Quiet => {}
        }
    }

    /// A stage is done.
    pub fn finished(&self, stage: &StageRecord, manifest: &Manifest) {
        match self {
            Self::Lines if stage.decision == Decision::Reuse && manifest.weights.is_some() => {
                let weights = manifest.weights.map(|weights| weights.short()).unwrap_or_default();
                say(&format!(
                    "reuse  {:<12} trained weights {weights}, not trained again; `--force {}` trains again",
                    stage.name, stage.name
                ));
            }
            Self::Lines => {
                let verb = if stage.decision == Decision::Reuse { "reuse" } else { "done" };
                let rows = if manifest.row_table.is_empty() {
                    String::new()
                } else {
                    format!("{} {}, ", stage.rows, manifest.row_table)
                };
                say(&format!("{verb:<6} {:<12} {rows}{:.2} s", stage.name, stage.seconds));
            }
            Self::Json => event(&serde_json::json!({
                "event": "finished", "stage": stage.name, "decision": stage.decision, "rows": stage.rows,
                "seconds": stage.seconds, "fingerprint": stage.fingerprint, "weights": manifest.weights, "counts": manifest.counts,
            })),
            Self::Quiet => {}
        }
    }

    /// The lines of a training in a stage.
    pub fn training<'a>(&'a self, stage: &'a str) -> TrainingLines<'a> {
        TrainingLines::new(self, stage)
    }

    /// A line that another program of a stage wrote.
    pub fn output(&self, stage: &str, line: &str) {
        match self {
            Self::Lines => say(line),
            Self::Json => event(&serde_json::json!({"event": "output", "stage": stage, "text": line})),
            Self::Quiet => {}
        }
    }

    /// Something the user should know.
    pub fn warning(&self, stage: &str, text: &str) {
        match self {
            Self::Lines => say(&format!("warn   {stage:<12} {text}")),
            Self::Json => event(&serde_json::json!({"event": "warning", "stage": stage, "text": text})),
            Self::Quiet => {}
        }
    }
}

/// A line on standard error; a reader that has gone away is no error.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{line}");
}

fn event(value: &serde_json::Value) {
    say(&value.to_string());
}

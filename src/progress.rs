//! What a build says while it runs: one line an event, on standard error.

use std::io::Write;

use finch_core::manifest::Manifest;

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
                "seconds": stage.seconds, "fingerprint": stage.fingerprint, "counts": manifest.counts,
            })),
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

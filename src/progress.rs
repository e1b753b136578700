//! What a build says while it runs: one line an event, on standard error, and on a terminal a bar below the lines.

mod meter;
mod training;

use std::sync::Arc;

use finch_core::manifest::Manifest;

pub use self::meter::Meter;
pub use self::training::TrainingLines;
use crate::error::Error;
use crate::remote::Staged;
use crate::store::{Decision, StageRecord};

/// Where events go.
pub struct Progress {
    mode: Mode,
    meter: Arc<Meter>,
}

/// The form of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Lines,
    Json,
    Quiet,
}

impl Progress {
    /// Lines on standard error, with a bar where that is a terminal.
    pub fn lines() -> Self {
        Self { mode: Mode::Lines, meter: Arc::new(Meter::for_terminal()) }
    }

    /// JSON lines on standard error.
    pub fn json() -> Self {
        Self { mode: Mode::Json, meter: Arc::default() }
    }

    /// Nothing.
    pub fn quiet() -> Self {
        Self { mode: Mode::Quiet, meter: Arc::default() }
    }

    /// Whether people read it.
    pub fn is_lines(&self) -> bool {
        self.mode == Mode::Lines
    }

    /// Counts what the current stage has done.
    pub fn meter(&self) -> &Arc<Meter> {
        &self.meter
    }

    /// The build ended, well or not.
    pub fn ended(&self) {
        self.meter.end();
    }

    /// The build failed, for readers of JSON.
    pub fn failed(&self, error: &Error) {
        self.event(&serde_json::json!({
            "event": "failed", "code": error.code().to_string(), "reason": error.to_string(), "hint": error.hint(),
            "exit": error.exit(),
        }));
    }

    /// A remote source is about to be brought here.
    pub fn staging(&self, stage: &str) {
        self.meter.begin(stage);
    }

    /// A stage starts to compute.
    pub fn started(&self, stage: &str, kind: &str, why: &str) {
        match self.mode {
            Mode::Lines => self.say(&format!("run    {stage:<12} {kind}: {why}")),
            Mode::Json => {
                self.event(
                    &serde_json::json!({"event": "started", "stage": stage, "kind": kind, "why": why}),
                );
            }
            Mode::Quiet => {}
        }
        self.meter.begin(stage);
    }

    /// A remote source was brought here.
    pub fn staged(&self, stage: &str, source: &str, staged: &Staged) {
        self.meter.end();
        let Staged { files, bytes, fetched, .. } = staged;
        match self.mode {
            Mode::Lines => self.say(&format!(
                "fetch  {stage:<12} {source}: {files} files, {:.1} MB, {fetched} of them new",
                *bytes as f64 / 1e6
            )),
            Mode::Json => self.event(&serde_json::json!({
                "event": "staged", "stage": stage, "source": source, "files": files, "bytes": bytes, "fetched": fetched,
            })),
            Mode::Quiet => {}
        }
    }

    /// Data tests of a stage have run.
    pub fn tested(&self, stage: &str, tests: usize, failed: usize) {
        match self.mode {
            Mode::Lines => {
                self.say(&format!("test   {stage:<12} {} of {tests} data tests passed", tests - failed));
            }
            Mode::Json => self.event(&serde_json::json!({
                "event": "tested", "stage": stage, "tests": tests, "failed": failed,
            })),
            Mode::Quiet => {}
        }
    }

    /// A stage is done.
    pub fn finished(&self, stage: &StageRecord, manifest: &Manifest) {
        self.meter.end();
        match self.mode {
            Mode::Lines if stage.decision != Decision::Run && manifest.weights.is_some() => {
                let weights = manifest.weights.map(|weights| weights.short()).unwrap_or_default();
                self.say(&format!(
                    "reuse  {:<12} trained weights {weights}, not trained again; `--force {}` trains again",
                    stage.name, stage.name
                ));
            }
            Mode::Lines => {
                let verb = match stage.decision {
                    Decision::Run => "done",
                    Decision::Reuse => "reuse",
                    Decision::CutOff => "cut",
                };
                let rows = if manifest.row_table.is_empty() {
                    String::new()
                } else {
                    format!("{} {}, ", stage.rows, manifest.row_table)
                };
                self.say(&format!("{verb:<6} {:<12} {rows}{:.2} s", stage.name, stage.seconds));
            }
            Mode::Json => self.event(&serde_json::json!({
                "event": "finished", "stage": stage.name, "decision": stage.decision, "rows": stage.rows,
                "seconds": stage.seconds, "fingerprint": stage.fingerprint, "weights": manifest.weights, "counts": manifest.counts,
            })),
            Mode::Quiet => {}
        }
    }

    /// The lines of a training in a stage.
    pub fn training<'a>(&'a self, stage: &'a str) -> TrainingLines<'a> {
        // Its lines say how far it is.
        self.meter.end();
        TrainingLines::new(self, stage)
    }

    /// A line that another program of a stage wrote.
    pub fn output(&self, stage: &str, line: &str) {
        match self.mode {
            Mode::Lines => self.say(line),
            Mode::Json => self.event(&serde_json::json!({"event": "output", "stage": stage, "text": line})),
            Mode::Quiet => {}
        }
    }

    /// Something the user should know.
    pub fn warning(&self, stage: &str, text: &str) {
        match self.mode {
            Mode::Lines => self.say(&format!("warn   {stage:<12} {text}")),
            Mode::Json => self.event(&serde_json::json!({"event": "warning", "stage": stage, "text": text})),
            Mode::Quiet => {}
        }
    }

    fn say(&self, line: &str) {
        self.meter.line(line);
    }

    fn event(&self, value: &serde_json::Value) {
        self.say(&value.to_string());
    }
}

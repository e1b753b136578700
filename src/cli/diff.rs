//! `diff`: what differs between two builds, in words or as JSON.

use std::process::ExitCode;

use clap::Args;
use finch_core::Digest;
use serde_json::Value;

use super::output::print;
use super::{BudgetArgs, StoreArgs};
use crate::diff::{self, BuildName, Change, Example, Rows, StageDiff, TableDiff};
use crate::error::{Error, Result};
use crate::sql::Engine;

/// Characters of a value that are shown.
const SHOWN_CHARS: usize = 60;
/// Characters before the first difference of two long values.
const CONTEXT_CHARS: usize = 15;
/// Tasks of a table that are shown.
const SHOWN_TASKS: usize = 10;

#[derive(Args)]
pub(super) struct Diff {
    /// The old build: its id or a unique beginning of it, `latest` or `previous`
    #[arg(value_name = "BUILD")]
    before: String,
    /// The new build
    #[arg(value_name = "BUILD")]
    after: String,
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON, everything
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    budget: BudgetArgs,
}

impl Diff {
    pub(super) fn run(self) -> Result<ExitCode> {
        let budget = self.budget.budget();
        let (store, pipeline) = self.store.open_for()?;
        let before = store.build(&self.before, pipeline.as_deref())?;
        let after = store.build(&self.after, pipeline.as_deref())?;
        let scratch = tempfile::tempdir().map_err(Error::io("create a folder in", std::env::temp_dir()))?;
        let engine = Engine::new(budget.threads, budget.memory, scratch.path())?;
        let found = diff::diff(&store, &before, &after, &engine)?;
        print(&if self.json { format!("{}\n", serde_json::json!(found)) } else { words(&found) })?;
        Ok(if found.differs { ExitCode::from(1) } else { ExitCode::SUCCESS })
    }
}

fn words(found: &diff::Diff) -> String {
    let mut text = format!("before {}\nafter  {}\n", build(&found.before), build(&found.after));
    for (sign, stages) in [("-", &found.removed), ("+", &found.added)] {
        for stage in stages {
            text += &format!("{sign} stage {} ({}, {} rows)\n", stage.stage, stage.kind, stage.rows);
        }
    }
    for found in found.stages.iter().filter(|stage| stage.differs) {
        text += &format!("~ stage {} ({})\n", found.stage, found.kind);
        for line in stage(found) {
            text += &format!("    {line}\n");
        }
    }
    let equal: Vec<&str> =
        found.stages.iter().filter(|stage| !stage.differs).map(|stage| stage.stage.as_str()).collect();
    if !equal.is_empty() {
        text += &format!("= {}\n", equal.join(", "));
    }
    text + if found.differs { "" } else { "nothing differs\n" }
}

fn build(build: &BuildName) -> String {
    let only = build.only.as_ref().map_or(String::new(), |stage| format!(", --only {stage}"));
    format!("{} of {}, {}{only}", build.build_id, build.pipeline, build.status)
}

fn stage(found: &StageDiff) -> Vec<String> {
    let mut lines: Vec<String> = found.parts.iter().map(|change| values(change, "")).collect();
    if !found.counts.is_empty() {
        let show = |count: Option<u64>| count.map_or("none".to_owned(), |count| count.to_string());
        let counts = found.counts.iter().map(|change| {
            let name = change.name.trim_start_matches("reason.");
            format!("{name} {} -> {}", show(change.before), show(change.after))
        });
        lines.push(format!("records: {}", counts.collect::<Vec<_>>().join(", ")));
    }
    let short = |digest: Option<Digest>| digest.map_or("none".to_owned(), |digest| digest.short());
    if let Some(weights) = &found.weights {
        lines.push(format!("weights: {} -> {}", short(weights.before), short(weights.after)));
    }
    for file in &found.artifacts {
        lines.push(format!("file {}: {} -> {}", file.name, short(file.before), short(file.after)));
    }
    for loss in &found.held_out {
        let show = |loss: Option<f64>| loss.map_or("none".to_owned(), |loss| format!("{loss:.4}"));
        let of = [loss.split.as_deref(), Some(loss.task.as_deref().unwrap_or("all"))];
        let of: Vec<String> = of.into_iter().flatten().map(plain).collect();
        lines.push(format!("held-out loss, {}: {} -> {}", of.join(" "), show(loss.before), show(loss.after)));
    }
    lines.extend(found.tables.iter().flat_map(table));
    lines
}

fn table(found: &TableDiff) -> Vec<String> {
    let rows = match (found.rows.before, found.rows.after) {
        (None, Some(_)) => "a new table, ".to_owned(),
        (Some(_), None) => "the table is gone, ".to_owned(),
        _ => String::new(),
    };
    let key = if found.key.is_none() { ", matched by no key: it is another one now" } else { "" };
    let mut lines = vec![format!("table {}: {rows}{}{key}", found.table, numbers(&found.differing, "rows "))];
    for column in &found.columns {
        lines.push(match (&column.before, &column.after) {
            (None, Some(new)) => format!("  + column {}: {new}", plain(&column.name)),
            (Some(old), None) => format!("  - column {}: {old}", plain(&column.name)),
            _ => format!("  ~ {}", values(column, "column ")),
        });
    }
    for task in found.tasks.iter().take(SHOWN_TASKS) {
        let name = task.task.as_deref().map_or("no task".to_owned(), |name| format!("task {}", plain(name)));
        lines.push(format!("  {name}: {}", numbers(&task.differing, "")));
    }
    if let Some(more) = found.tasks.len().checked_sub(SHOWN_TASKS).filter(|more| *more > 0) {
        lines.push(format!("  {more} more tasks; `--json` lists them all"));
    }
    lines.extend(found.examples.iter().map(example));
    lines
}

fn numbers(rows: &Rows, what: &str) -> String {
    let named = [(rows.entered, "in"), (rows.out, "out"), (rows.changed, "changed"), (rows.moved, "moved")];
    let shown: Vec<String> =
        named.iter().filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    if shown.is_empty() { "no row differs".to_owned() } else { format!("{what}{}", shown.join(", ")) }
}

fn example(found: &Example) -> String {
    let value = |value: &Value| match value {
        Value::String(text) => plain(text),
        other => plain(&other.to_string()),
    };
    let key = match &found.key {
        Value::Object(columns) if columns.len() == 1 => columns.values().map(value).collect::<String>(),
        Value::Object(columns) => {
            let cells = columns.iter().map(|(name, cell)| format!("{} = {}", plain(name), value(cell)));
            cells.collect::<Vec<_>>().join(", ")
        }
        other => value(other),
    };
    let split = found.split.as_ref().map_or(String::new(), |split| {
        let name = |split: &Option<String>| split.as_deref().map_or("none".to_owned(), plain);
        format!(" ({} -> {})", name(&split.before), name(&split.after))
    });
    let word = serde_json::json!(found.difference);
    format!("  {} {key}{split}", word.as_str().unwrap_or_default())
}

/// An old value and a new one; long ones from where they differ.
fn values(change: &Change<String>, what: &str) -> String {
    let (old, new) = (change.before.as_deref(), change.after.as_deref());
    let common = match (old, new) {
        (Some(old), Some(new)) => old.chars().zip(new.chars()).take_while(|(a, b)| a == b).count(),
        _ => 0,
    };
    let show = |value: Option<&str>| {
        let Some(value) = value else { return "nothing".to_owned() };
        if let Ok(digest) = value.parse::<Digest>() {
            return digest.short();
        }
        let start = common.saturating_sub(CONTEXT_CHARS);
        if value.chars().count() > SHOWN_CHARS && start > 0 {
            let rest: String = value.chars().skip(start).collect();
            return format!("…{}", plain(&rest));
        }
        plain(value)
    };
    format!("{what}{}: {} -> {}", plain(&change.name), show(old), show(new))
}

/// A text from outside, on one line and not too long: names and keys come from logs and specs.
fn plain(text: &str) -> String {
    let line: String =
        text.chars().take(SHOWN_CHARS + 10).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().count() > SHOWN_CHARS + 10 { format!("{line}…") } else { line }
}

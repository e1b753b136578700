//! `show`: the history of one thing.

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use serde_json::Value;

use super::StoreArgs;
use super::output::{escaped, escaped_json, print};
use crate::error::Result;
use crate::history::{self, Did, Facts, History, Step};
use crate::spec;

#[derive(Args)]
pub(super) struct Show {
    /// The id of a program, candidate, transition, example, pack, run or text, or its first digits
    id: String,
    #[command(flatten)]
    store: StoreArgs,
    /// The build to ask, or its first characters [default: the newest finished one]
    #[arg(long, value_name = "ID")]
    build: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Show {
    pub(super) fn run(self) -> Result<ExitCode> {
        let (store, pipeline) = self.store.open_for()?;
        let build = history::build(&store, pipeline.as_deref(), self.build.as_deref())?;
        let spec = self.store.spec.as_ref().map(|path| spec::read(path)).transpose()?;
        let told = history::tell(&store, &build, &self.id, spec.as_ref())?;
        if self.json {
            print(&escaped_json(&serde_json::json!(told)))?;
        } else {
            print(&text(&told, &self.store))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn text(history: &History, store: &StoreArgs) -> String {
    let mut text = format!("{} {}\nbuild {}\n", history.kind.name(), history.id, escaped(&history.build));
    for (name, value) in
        history.facts.0.iter().filter(|(_, value)| !value.as_array().is_some_and(Vec::is_empty))
    {
        text += &format!("  {name}: {}\n", shown(value));
    }
    for place in &history.places {
        text += &format!("log {}", escaped(&place.source));
        text += &place.offset.map_or(String::new(), |offset| format!(", offset {offset}"));
        text += &place.files.iter().map(|file| format!("\n  {}", path(file))).collect::<String>();
        text.push('\n');
    }
    for related in &history.related {
        if let ([other], 1) = (related.first.as_slice(), related.total) {
            let kind = related.kind.name();
            // A role that is the kind's own name is said once.
            let role = if related.role == kind { String::new() } else { format!("{} ", related.role) };
            text += &format!("{role}{kind} {}{}\n", other.id, facts(&other.facts));
            continue;
        }
        text += &format!("{}: {}\n", related.role, related.total);
        for other in &related.first {
            text += &format!("  {} {}{}\n", related.kind.name(), other.id, facts(&other.facts));
        }
        let more = related.total.saturating_sub(related.first.len() as u64);
        if more > 0 {
            text += &format!("  and {more} more\n");
        }
    }
    for way in &history.paths {
        match &way.transition {
            Some(transition) if history.id != *transition => {
                text += &format!("stages, for transition {transition}\n");
            }
            _ => text += "stages\n",
        }
        text += &way.steps.iter().map(step).collect::<String>();
    }
    if let Some(query) = &history.query {
        let (flag, place) = match (&store.store, &store.spec) {
            (Some(place), _) => ("--store", place.clone()),
            (None, place) => ("--spec", place.clone().unwrap_or_default().into_os_string()),
        };
        text += &format!("whole texts: finch query {flag} {} \"{query}\"\n", path(Path::new(&place)));
    }
    text
}

fn step(step: &Step) -> String {
    let did = match step.did {
        Did::Read => "read from the logs",
        Did::Kept => "kept",
        Did::Removed => "removed",
        Did::Rendered => "rendered",
        Did::Packed => "packed",
        Did::Evaluated => "evaluated",
        Did::Leaked => "found a leak",
        Did::Counted => "has",
        Did::Made => "made here",
    };
    format!("  {} ({}): {did}{}\n", escaped(&step.stage), escaped(&step.stage_kind), facts(&step.facts))
}

/// Facts in a line, each after a comma.
fn facts(facts: &Facts) -> String {
    facts.0.iter().map(|(name, value)| format!(", {} {}", escaped(name), shown(value))).collect()
}

fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => escaped(text),
        other => escaped(&other.to_string()),
    }
}

fn path(path: &Path) -> String {
    escaped(&path.display().to_string())
}

//! The readers: one file a scaffold, each from the files of one log to records.
//!
//! A reader knows where its scaffold writes what, and which of it is true: whose copy a candidate is, whose child, and
//! whether it failed. It decides nothing that needs another log; that is [`super::unite`]'s work.

pub(super) mod bulk;
pub(super) mod codeevolve;
pub(super) mod console;
pub(super) mod dgm;
pub(super) mod eoh;
pub(super) mod funsearch;
pub(super) mod gepa;
pub(super) mod hdf5;
pub(super) mod openevolve;
mod pickled;
pub(super) mod reevo;
pub(super) mod shinka;
pub(super) mod skydiscover;
pub(super) mod trace;

use finch_core::canon::{canonical, program_id};
use finch_core::replay::{self, How, Replay};
use finch_core::{Digest, answer};
use serde_json::{Map, Value};

use super::record::{Record, Replayed};
use super::{Scratch, json, prompt};
use crate::error::Result;

/// A model's answer, taken apart, and applied to its parent where the record has that.
pub(super) fn read_answer(
    text: &str,
    parent: Option<&str>,
    record: &mut Record,
    scratch: &Scratch,
) -> Result<()> {
    let parts = answer::split(text);
    record.reasoning = scratch.text(parts.reasoning.unwrap_or(""))?;
    record.response = scratch.text(parts.response)?;
    match record.program {
        Some(program) => record.replayed = replayed(parent, text, program.id, record),
        None => record.operator = Some(replay::edit(parts.response).name()),
    }
    Ok(())
}

/// Whether an answer makes a program, and how it edits, by content and not by labels. Without a parent only what holds
/// for every one is kept.
pub(crate) fn replayed(
    parent: Option<&str>,
    answer: &str,
    child: Digest,
    record: &mut Record,
) -> Option<Replayed> {
    let outcome = replay::replay(parent, answer, |text| program_id(text) == child);
    let exact = match outcome.replay {
        Replay::Exact(how) => Some(how),
        Replay::Inexact | Replay::None => None,
    };
    if exact.is_some() || record.operator.is_none() {
        record.operator = Some(outcome.edit.name());
    }
    let free = exact.is_some_and(How::needs_no_parent);
    if parent.is_none() && !free {
        return None;
    }
    let parent = parent.filter(|_| !free).map(|parent| program_id(&canonical(parent)));
    // Where nothing in it edits, there is nothing to be exact about.
    let no_edit = outcome.replay == Replay::None;
    Some(Replayed { parent, exact, no_edit, marker_like: outcome.marker_like })
}

/// The prompt that made a program; the evaluator's own model calls stand beside it under `evaluation`.
fn read_prompts(prompts: &Map<String, Value>, record: &mut Record, scratch: &Scratch) -> Result<()> {
    let mut keys: Vec<&String> = prompts.keys().filter(|key| !key.starts_with("evaluation")).collect();
    keys.sort();
    let Some(asked) = keys.first().and_then(|key| prompts[*key].as_object()) else { return Ok(()) };
    record.system_prompt = scratch.text(json::text(asked, "system").unwrap_or(""))?;
    record.user_prompt = scratch.text(json::text(asked, "user").unwrap_or(""))?;
    let first = asked.get("responses").and_then(|responses| responses.get(0)).and_then(Value::as_str);
    if let Some(text) = first {
        let shown = prompt::current_program(json::text(asked, "user").unwrap_or(""));
        read_answer(text, shown, record, scratch)?;
    }
    Ok(())
}

/// Evaluator artifacts as one text: a heading for each, in name order. They come as an object, or as JSON
/// inside a string.
fn artifacts(value: Option<&Value>) -> String {
    let parsed;
    let object = match value {
        Some(Value::Object(object)) => object,
        Some(Value::String(text)) => match json::parse(text.as_bytes()) {
            Ok(Value::Object(object)) => {
                parsed = object;
                &parsed
            }
            _ => return text.clone(),
        },
        _ => return String::new(),
    };
    let mut names: Vec<&String> = object.keys().collect();
    names.sort();
    let mut out = String::new();
    for name in names {
        let body = match &object[name] {
            Value::String(text) => text.clone(),
            Value::Null => continue,
            other => finch_core::manifest::canonical_json(other),
        };
        if !body.is_empty() {
            out.push_str(&format!("## {name}\n{body}\n"));
        }
    }
    out
}

//! What is known of one thing, from the log that it came from to what became of it.
//!
//! A thing is named by the beginning of its id. Its facts are those of the tables; what each stage did about it is
//! read from the stages' own tables: a stage that has its row kept it, one whose `removed` has it kept it out. Only
//! the columns that are told are read, and long texts are told by their sizes. Nothing here prints: values come from
//! logs as they are, and whoever shows them must escape them.

mod find;
mod reader;
mod steps;
mod things;

use std::path::PathBuf;

use serde::ser::{Serialize, Serializer};
use serde_json::Value;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::spec::{Config, Pipeline};
use crate::store::{BuildRecord, Store};

/// How many of many things are told one by one.
const SHOWN: usize = 20;

/// What an id can be of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A search.
    Run,
    /// A source text.
    Program,
    /// An evaluated program in a run.
    Candidate,
    /// A search step.
    Transition,
    /// A transition rendered for training.
    Example,
    /// Examples that are trained on as one sequence.
    Pack,
    /// A prompt, an answer or an evaluator's messages.
    Text,
}

impl Kind {
    /// Its table, and the column that holds its id.
    fn place(self) -> (&'static str, &'static str) {
        match self {
            Self::Run => ("runs", "run_id"),
            Self::Program => ("programs", "program_id"),
            Self::Candidate => ("candidates", "candidate_id"),
            Self::Transition => ("transitions", "transition_id"),
            Self::Example => ("examples", "example_id"),
            Self::Pack => ("packs", "pack_id"),
            Self::Text => ("texts", "text_id"),
        }
    }

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Run => "run",
            Self::Program => "program",
            Self::Candidate => "candidate",
            Self::Transition => "transition",
            Self::Example => "example",
            Self::Pack => "pack",
            Self::Text => "text",
        }
    }
}

/// Names with values, in the order in which they are told. Nulls are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts(pub Vec<(String, Value)>);

impl Facts {
    fn add(&mut self, name: &str, value: impl Into<Value>) {
        match value.into() {
            Value::Null => {}
            value => self.0.push((name.to_owned(), value)),
        }
    }

    /// The value of a name.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value)
    }

    /// Removes a name; returns its text.
    fn take_text(&mut self, name: &str) -> Option<String> {
        let index = self.0.iter().position(|(known, _)| known == name)?;
        match self.0.remove(index).1 {
            Value::String(text) => Some(text),
            _ => None,
        }
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Value::as_str)
    }
}

impl Serialize for Facts {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(name, value)| (name, value)))
    }
}

/// Where a thing is in the logs.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Place {
    /// Relative to the spec's source entry.
    pub source: String,
    /// Byte offset, line start or row id.
    pub offset: Option<i64>,
    /// The files of that name below the spec's sources, where a spec is known.
    pub files: Vec<PathBuf>,
}

/// Other things of one role, such as a candidate's children.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Related {
    /// What they are to it.
    pub role: &'static str,
    /// What they are.
    pub kind: Kind,
    /// How many there are.
    pub total: u64,
    /// The first of them: the id, and what is known.
    pub first: Vec<Other>,
}

/// Another thing.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Other {
    /// Its id.
    pub id: String,
    /// What is told of it.
    pub facts: Facts,
}

/// What a stage did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Did {
    /// Read it from the logs.
    Read,
    /// Kept it, and may have added columns.
    Kept,
    /// Kept it out.
    Removed,
    /// Made an example of it.
    Rendered,
    /// Put its example into a pack.
    Packed,
    /// Measured the losses of its example.
    Evaluated,
    /// Found content of it on the other side of the split.
    Leaked,
    /// Counted some of its transitions in and others out.
    Counted,
    /// Made it.
    Made,
}

/// What one stage did about a thing.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Step {
    /// The stage.
    pub stage: String,
    /// Its kind.
    pub stage_kind: String,
    /// What it did.
    pub did: Did,
    /// What it added or made, and why it removed.
    pub facts: Facts,
}

/// What became of a transition, or of all transitions of a thing.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Path {
    /// The transition; none when a step is about many.
    pub transition: Option<String>,
    /// Stage by stage.
    pub steps: Vec<Step>,
}

/// Everything that is told of a thing.
#[derive(Clone, Debug, serde::Serialize)]
pub struct History {
    /// What it is.
    pub kind: Kind,
    /// Its id.
    pub id: String,
    /// The build that was asked.
    pub build: String,
    /// What the tables say.
    pub facts: Facts,
    /// Where it is in the logs.
    pub places: Vec<Place>,
    /// Things that it hangs together with.
    pub related: Vec<Related>,
    /// What became of it.
    pub paths: Vec<Path>,
    /// A query that prints the long texts.
    pub query: Option<String>,
}

/// The build whose id begins so, or the newest finished one.
pub fn build(store: &Store, pipeline: Option<&str>, beginning: Option<&str>) -> Result<BuildRecord> {
    let Some(beginning) = beginning else { return store.latest_build(pipeline) };
    let mut found: Vec<BuildRecord> = store.builds()?;
    found.retain(|build| build.build_id.starts_with(beginning));
    if found.len() == 1 {
        return Ok(found.remove(0));
    }
    let reason = match found.len() {
        0 => format!("no build's id begins with `{}`", beginning.escape_debug()),
        n => format!(
            "the ids of {n} builds begin with `{beginning}`, such as {} and {}",
            found[0].build_id, found[1].build_id
        ),
    };
    let hint = Some("`finch builds` lists them".to_owned());
    Err(Error::Store { reason, code: Code::UnknownId, hint })
}

/// Tells the history of the thing whose id begins so. With a spec, files of the logs are looked for.
pub fn tell(store: &Store, build: &BuildRecord, id: &str, spec: Option<&Pipeline>) -> Result<History> {
    let reader = reader::Reader::new(store, build)?;
    let (kind, id) = find::find(&reader, id)?;
    let mut history = things::tell(&reader, kind, &id)?;
    let entries = spec.into_iter().flat_map(|spec| &spec.stages).filter_map(|stage| match &stage.config {
        Config::Ingest(config) => Some(&config.sources),
        _ => None,
    });
    let entries: Vec<PathBuf> = entries.flatten().filter_map(|entry| entry.place.here()).collect();
    for place in &mut history.places {
        for entry in &entries {
            // An entry that is a file is a source in the folder around it.
            let root = if entry.is_dir() { Some(entry.as_path()) } else { entry.parent() };
            let file =
                root.map(|root| if place.source == "." { root.into() } else { root.join(&place.source) });
            place.files.extend(file.filter(|file| file.starts_with(root.unwrap_or(file)) && file.exists()));
        }
        place.files.dedup();
    }
    Ok(history)
}

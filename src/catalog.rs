//! The task catalogue: what is known about tasks besides their logs.
//!
//! It says domains, upstream benchmarks, the metric a task is judged by, and which tasks are the same problem
//! under two names. What nobody knows is absent, and stays null in the tables.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use finch_core::{Digest, Kind};
use serde::{Deserialize, Serialize};

use crate::code::Code;
use crate::error::Result;
use crate::spec::{Diagnostic, Reader, read_document, read_text};

/// Whether larger or smaller scores are better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Larger is better.
    Maximize,
    /// Smaller is better.
    Minimize,
}

impl Direction {
    /// The words of specs and tables.
    pub const WORDS: [(&'static str, Self); 2] = [("maximize", Self::Maximize), ("minimize", Self::Minimize)];

    /// The word of tables.
    pub fn word(self) -> &'static str {
        match self {
            Self::Maximize => "maximize",
            Self::Minimize => "minimize",
        }
    }
}

/// What the catalogue says of a task.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Task {
    /// The task's domain.
    pub domain: Option<String>,
    /// The benchmark it comes from.
    pub upstream: Option<String>,
    /// The problem in words.
    pub statement: Option<String>,
    /// Tasks with the same group are one problem; the task's own name when nobody said.
    #[serde(skip)]
    pub alias_group: Option<String>,
    /// The metric it is judged by.
    pub score_key: Option<String>,
    /// The metric's direction.
    pub direction: Option<Direction>,
    /// No valid score can be better.
    pub bound: Option<f64>,
    /// Program ids of known initial programs, by which a log without a name is recognised.
    pub initial_programs: Vec<String>,
}

/// The tasks by name.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// The tasks.
    pub tasks: BTreeMap<String, Task>,
}

impl Catalog {
    /// Reads a catalogue; all its mistakes are reported together.
    pub fn read(path: &Path) -> Result<Self> {
        let text = read_text(path, "the task catalogue", Code::MissingSource)?;
        let tasks = read_document(path, &text, "the catalogue", |root| {
            let mut table = root.required_table("tasks")?;
            Some(
                table
                    .tables(|name| format!("task `{name}`"))
                    .into_iter()
                    .map(|(name, r)| (name, task(r)))
                    .collect(),
            )
        })?;
        Ok(Self { tasks })
    }

    /// The group of tasks that a task belongs to.
    pub fn alias_group<'a>(&'a self, task: &'a str) -> &'a str {
        self.tasks.get(task).and_then(|known| known.alias_group.as_deref()).unwrap_or(task)
    }

    /// The tasks that are declared to be of a group.
    pub fn names_of<'a>(&'a self, group: &'a str) -> impl Iterator<Item = &'a str> {
        let declared = self.tasks.iter().filter(move |(_, task)| task.alias_group.as_deref() == Some(group));
        declared.map(|(name, _)| name.as_str())
    }

    /// These tasks and those of these domains, with all that are declared to be the same problems.
    pub fn with_aliases<'a>(&'a self, tasks: &'a [String], domains: &'a [String]) -> BTreeSet<&'a str> {
        let of_domain = |task: &Task| task.domain.as_ref().is_some_and(|domain| domains.contains(domain));
        let of_domains = self.tasks.iter().filter(|(_, task)| of_domain(task)).map(|(name, _)| name.as_str());
        let named: BTreeSet<&str> = tasks.iter().map(String::as_str).chain(of_domains).collect();
        let groups: BTreeSet<&str> = named.iter().map(|task| self.alias_group(task)).collect();
        let members =
            self.tasks.keys().map(String::as_str).filter(|task| groups.contains(self.alias_group(task)));
        named.iter().copied().chain(members).collect()
    }

    /// Digest of the statements of these tasks.
    pub fn statements_digest<'a>(&self, tasks: impl IntoIterator<Item = &'a str>) -> Digest {
        let statements =
            tasks.into_iter().filter_map(|name| Some((name, self.tasks.get(name)?.statement.as_ref()?)));
        let fields = Kind::Fingerprint.fields().text("statements");
        statements.fold(fields, |fields, (name, text)| fields.text(name).text(text)).finish()
    }

    /// The task whose initial program this is.
    pub fn by_initial_program(&self, program_id: Digest) -> Option<&str> {
        let id = program_id.to_string();
        self.tasks.iter().find(|(_, task)| task.initial_programs.contains(&id)).map(|(name, _)| name.as_str())
    }

    /// Digest of what ingest reads: everything but the alias groups, so that declaring one re-reads no log.
    pub fn ingest_digest(&self) -> Digest {
        let json = serde_json::json!(self.tasks);
        Kind::Fingerprint
            .fields()
            .text("catalogue")
            .text(&finch_core::manifest::canonical_json(&json))
            .finish()
    }

    /// Digest of the alias groups, which the split reads.
    pub fn alias_digest(&self) -> Digest {
        let groups = self.tasks.iter().filter_map(|(name, task)| Some((name, task.alias_group.as_ref()?)));
        let fields = Kind::Fingerprint.fields().text("alias groups");
        groups.fold(fields, |fields, (name, group)| fields.text(name).text(group)).finish()
    }
}

/// Program ids; a word that is none would never match, so it is a mistake.
fn initial_programs(reader: &mut Reader<'_>) -> Vec<String> {
    let ids = reader.texts("initial_programs").unwrap_or_default();
    for (id, span) in &ids {
        if id.parse::<Digest>().is_err() {
            let message =
                format!("`{id}` is not a program id: 64 lower-case hexadecimal digits are expected");
            reader.problems().push(Diagnostic::new(Code::BadValue, span.clone(), message));
        }
    }
    ids.into_iter().map(|(id, _)| id).collect()
}

fn task(mut reader: Reader<'_>) -> Task {
    let task = Task {
        domain: reader.text("domain"),
        upstream: reader.text("upstream"),
        statement: reader.text("statement"),
        alias_group: reader.text("alias_group"),
        score_key: reader.text("score_key"),
        direction: reader.choice("direction", &Direction::WORDS),
        bound: reader.number("bound"),
        initial_programs: initial_programs(&mut reader),
    };
    if task.score_key.is_some() && task.direction.is_none() && !reader.has("direction") {
        reader.reject("score_key", Code::MissingKey, "a task with `score_key` needs `direction`", None);
    }
    reader.finish();
    task
}

//! A `finch.toml` in a run folder: what its owner says of the logs in it.

use std::path::Path;

use crate::catalog::Direction;
use crate::code::Code;
use crate::error::Result;
use crate::ingest::sqlite::is_plain_file;
use crate::spec::{read_document, read_text};

/// What a `finch.toml` in a run folder says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sidecar {
    /// The task.
    pub task: Option<String>,
    /// The logs' licence.
    pub license: Option<String>,
    /// Where the logs come from.
    pub origin: Option<String>,
    /// The metric to judge by.
    pub score_key: Option<String>,
    /// That metric's direction.
    pub direction: Option<Direction>,
}

/// The sidecar of a unit: the nearest `finch.toml` from its folder up to the source.
pub(super) fn find(folder: &Path, root: &Path) -> Result<Sidecar> {
    let found = folder
        .ancestors()
        .take_while(|folder| folder.starts_with(root))
        .map(|folder| folder.join("finch.toml"))
        .find(|path| is_plain_file(path));
    let Some(path) = found else { return Ok(Sidecar::default()) };
    let text = read_text(&path, "the sidecar", Code::MissingSource)?;
    let sidecar = read_document(&path, &text, "the sidecar", |reader| {
        let task = reader.text("task");
        if task.as_deref().is_some_and(|task| task.trim().is_empty()) {
            reader.reject("task", Code::BadValue, "`task` is empty", "name the task, or remove the key");
        }
        Some(Sidecar {
            task,
            license: reader.text("license"),
            origin: reader.text("origin"),
            score_key: reader.text("score_key"),
            direction: reader.choice("direction", &Direction::WORDS),
        })
    })?;
    Ok(sidecar)
}

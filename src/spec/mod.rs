//! The spec: a TOML file that says everything that affects the result.
//!
//! Reading has two levels. [`read`] checks keys, types and words and yields a [`Pipeline`] of plain values,
//! with all mistakes of one file reported together. Whether the stages fit each other is the graph's business,
//! and whether the sources exist is the plan's.

mod balance;
mod curation;
mod data_tests;
mod diagnostic;
mod kinds;
mod reader;
mod secret;
mod size;
mod stages;
mod syntax;
mod training;

use std::path::{Path, PathBuf};

pub use balance::{Balance, Cap, Choose, Of, Weight};
pub use data_tests::{DataTest, TestRule};
pub use diagnostic::{Diagnostic, Span, SpecError};
pub(crate) use diagnostic::{did_you_mean, nearest};
pub(crate) use reader::{Reader, read_document};
pub(crate) use secret::masked;
pub use size::parse_bytes;
pub use stages::{
    Config, Dedup, Exact, Filter, Ingest, Label, Launcher, LeakNgram, Near, NearOf, OnLeak, OverLength, Pack,
    PerTask, Render, SourceEntry, Split, Sql, TaskLabel, TokenBudget, Tokenizer, TokenizerFrom, Train, Valid,
    ValidationRuns,
};
pub(crate) use training::COMMAND;

use crate::code::Code;
use crate::error::Result;
use crate::remote::Place;

/// A checked spec.
#[derive(Clone, Debug)]
pub struct Pipeline {
    /// The pipeline's name; it enters no digest.
    pub name: String,
    /// Seeds every choice by hash.
    pub seed: u64,
    /// Where datasets are kept.
    pub store: Place,
    /// The task catalogue, and where the spec names it.
    pub tasks: Option<(PathBuf, Span)>,
    /// The fraction of runs to use, chosen by hash.
    pub sample: f64,
    /// The stages, in the order of the file.
    pub stages: Vec<Stage>,
    /// What must be true of what stages make.
    pub tests: Vec<DataTest>,
    /// The spec's own path, as given.
    pub path: PathBuf,
    /// The folder that relative paths resolve against.
    pub base: PathBuf,
    /// The spec's text, for diagnostics; credentials in it are masked.
    pub text: String,
}

/// A stage of the spec.
#[derive(Clone, Debug)]
pub struct Stage {
    /// The stage's name.
    pub name: String,
    /// Where its table starts in the spec.
    pub span: Span,
    /// What it does.
    pub config: Config,
}

/// A name of another stage, with the place where it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Input {
    /// The stage that is read.
    pub stage: String,
    /// Where the spec says so.
    pub span: Span,
}

impl Pipeline {
    /// A stage by name.
    pub fn stage(&self, name: &str) -> Option<&Stage> {
        self.stages.iter().find(|stage| stage.name == name)
    }

    /// An error at a place in this spec.
    pub fn error(&self, diagnostic: Diagnostic) -> SpecError {
        SpecError::new(&self.path, &self.text, vec![diagnostic])
    }
}

/// Reads and checks a spec.
pub fn read(path: &Path) -> Result<Pipeline> {
    let text = read_text(path, "the spec", Code::SpecUnreadable)?;
    parse(path, &text, &base_of(path))
}

/// The text of a TOML file, without a byte order mark. `code` is what it means when there is no file.
pub(crate) fn read_text(path: &Path, what: &str, code: Code) -> Result<String, SpecError> {
    let bytes = std::fs::read(path).map_err(|source| {
        let diagnostic = Diagnostic::new(code, 0..0, format!("cannot read {what}: {source}"));
        SpecError::new(path, "", vec![diagnostic])
    })?;
    let mut text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let message = format!("{what} is not UTF-8");
        let hint = "save it as UTF-8; TOML knows no other encoding".to_owned();
        let diagnostic = Diagnostic::new(Code::SpecUnreadable, at..at + 1, message).with_hint(hint);
        SpecError::new(path, &String::from_utf8_lossy(error.as_bytes()), vec![diagnostic])
    })?;
    if text.starts_with(BYTE_ORDER_MARK) {
        text.remove(0);
    }
    Ok(text)
}

const BYTE_ORDER_MARK: char = '\u{feff}';

/// Checks a spec that is already in memory.
pub fn parse(path: &Path, text: &str, base: &Path) -> Result<Pipeline> {
    let pipeline = read_document(path, text, "the spec", |root| lower(root, base))?;
    Ok(Pipeline { path: path.to_path_buf(), text: masked(text), ..pipeline })
}

fn lower(root: &mut Reader<'_>, base: &Path) -> Option<Pipeline> {
    let pipeline = root.required_table("pipeline").map(|mut table| {
        let name = table.text("name").unwrap_or_else(|| "pipeline".to_owned());
        let seed = table.integer("seed", 0..=i64::MAX).unwrap_or(0) as u64;
        let store = table.required_place("store").and_then(|store| {
            let place = Place::read(&store, base).and_then(Place::for_store);
            place.map_err(|problem| table.reject("store", Code::BadValue, problem, None)).ok()
        });
        let tasks = table.text("tasks").map(|path| (base.join(path), table.span_of("tasks")));
        let sample = table.fraction("sample").unwrap_or(1.0);
        table.finish();
        (name, seed, store, tasks, sample)
    });
    let stages = root.required_table("stages").map(|table| kinds::read_all(table, base));
    let tests = root.table("tests").map(|table| data_tests::read_all(table, base));
    let (name, seed, store, tasks, sample) = pipeline?;
    Some(Pipeline {
        name,
        seed,
        store: store?,
        tasks,
        sample,
        stages: stages?,
        tests: tests.unwrap_or_default(),
        path: PathBuf::new(),
        base: base.to_path_buf(),
        text: String::new(),
    })
}

/// The folder that a spec's relative paths resolve against: the nearest parent with `finch.toml` or
/// `Cargo.toml`, else the spec's own folder.
pub fn base_of(path: &Path) -> PathBuf {
    let own = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let absolute = std::path::absolute(&own).unwrap_or_else(|_| own.clone());
    absolute
        .ancestors()
        .find(|folder| folder.join("finch.toml").is_file() || folder.join("Cargo.toml").is_file())
        .map_or(own, Path::to_path_buf)
}

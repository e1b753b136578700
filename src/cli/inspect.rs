//! `inspect`: what is this log?
//!
//! It reads the logs as `ingest` would, into a store that is thrown away, and says what came out. Nothing is
//! written, except sidecars when they are asked for.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::Int64Type;
use arrow::record_batch::RecordBatch;
use clap::Args;
use serde::Serialize;

use super::BudgetArgs;
use super::output::{columns, escaped, print};
use super::query::{inspected, is_address};
use crate::error::{Error, Result};
use crate::ingest::{Discovery, Unit};
use crate::sql::{Engine, Width, views};

#[derive(Args)]
pub(super) struct Inspect {
    /// Folders or files with logs
    #[arg(required = true)]
    paths: Vec<PathBuf>,
    /// The task catalogue, for names and directions
    #[arg(long, value_name = "FILE")]
    tasks: Option<PathBuf>,
    /// Write a `finch.toml` with the proposed task into each run folder that has none
    #[arg(long)]
    write_sidecars: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    budget: BudgetArgs,
}

/// What is said of a folder that one scaffold wrote into.
#[derive(Debug, Serialize)]
struct LogLine {
    folder: String,
    scaffold: &'static str,
    /// From 0, and 1 where all that tells the scaffold is there.
    certainty: f64,
    evidence: String,
    files: usize,
    bytes: u64,
}

/// Where the bytes of the inspected paths went.
#[derive(Debug, Default, Serialize)]
struct Account {
    /// Read by a reader.
    read: u64,
    /// Look like logs and are none that is known.
    foreign: u64,
    /// Hold no records, by what they are: files and bytes.
    known: BTreeMap<String, (u64, u64)>,
}

/// What is said of a run.
#[derive(Debug, Serialize)]
struct RunLine {
    folder: String,
    /// The folder, as it is below the path that was inspected.
    #[serde(skip)]
    short: String,
    scaffold: String,
    task: String,
    task_from: String,
    /// A name made from the folder, for runs that nobody named.
    proposed_task: Option<String>,
    candidates: i64,
    copies: i64,
    transitions: i64,
    invalid: i64,
    score_key: Option<String>,
    direction: Option<String>,
    iterations: Option<i64>,
}

/// A kind of problem.
#[derive(Debug, Serialize)]
struct Problem {
    code: String,
    records: i64,
    example: String,
    reason: String,
}

const RUNS: &str = "
    SELECT r.source, r.scaffold, r.task, r.task_origin, r.candidates, r.copies,
           coalesce(t.steps, 0) AS transitions, coalesce(c.invalid, 0) AS invalid,
           r.score_key, r.direction, r.iterations
    FROM runs r
    LEFT JOIN (SELECT run_id, count(*) AS steps FROM transitions GROUP BY run_id) t ON t.run_id = r.run_id
    LEFT JOIN (SELECT run_id, count(*) AS invalid FROM candidates WHERE NOT valid GROUP BY run_id) c
      ON c.run_id = r.run_id
    ORDER BY r.source, r.run_id";

const PROBLEMS: &str = "
    SELECT code, count(*) AS records, first_value(source ORDER BY source, quarantine_id) AS example,
           first_value(reason ORDER BY source, quarantine_id) AS reason
    FROM quarantine GROUP BY code ORDER BY code";

impl Inspect {
    pub(super) fn run(self) -> Result<ExitCode> {
        if self.write_sidecars && self.paths.iter().any(|path| is_address(path)) {
            return Err(Error::Usage(
                "sidecars are written into folders; name the tasks of remote logs in the spec: { path = \"…\", task = \"…\" }"
                    .to_owned(),
            ));
        }
        let budget = self.budget.budget();
        let (mut logs, mut runs, mut problems) = (Vec::new(), Vec::new(), Vec::new());
        let mut account = Account::default();
        for path in &self.paths {
            if !is_address(path) && !path.exists() {
                return Err(Error::Usage(format!("`{}` does not exist", path.display())));
            }
            let (store, _folder, found) =
                inspected(std::slice::from_ref(path), self.tasks.as_deref(), budget)?;
            account.add(&found);
            let mut lines: Vec<LogLine> = found.units.iter().map(log_line).collect();
            lines.sort_by(|a, b| (&a.folder, a.scaffold).cmp(&(&b.folder, b.scaffold)));
            logs.extend(lines);
            let build = store.latest_build(None)?;
            let scratch = tempfile::tempdir().map_err(Error::io("create", std::env::temp_dir()))?;
            let engine = Engine::new(budget.threads, budget.memory, scratch.path())?;
            let session = engine.session(Width::Narrow);
            views::bind_build(&session, &store, &build, RUNS)?;
            for batch in session.collect(RUNS, &[])? {
                runs.extend((0..batch.num_rows()).map(|row| run_line(&batch, row, path)));
            }
            for batch in session.collect(PROBLEMS, &[])? {
                problems.extend((0..batch.num_rows()).map(|row| Problem {
                    code: text(&batch, 0, row).unwrap_or_default(),
                    records: int(&batch, 1, row).unwrap_or(0),
                    example: text(&batch, 2, row).unwrap_or_default(),
                    reason: text(&batch, 3, row).unwrap_or_default(),
                }));
            }
        }
        let written = if self.write_sidecars { write_sidecars(&runs)? } else { Vec::new() };
        if self.json {
            let all = serde_json::json!({
                "logs": logs, "runs": runs, "bytes": account, "problems": problems, "sidecars_written": written
            });
            print(&format!("{all}\n"))?;
        } else {
            print(&describe(&logs, &runs, &account, &problems, &written))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn log_line(unit: &Unit) -> LogLine {
    LogLine {
        folder: unit.source.clone(),
        scaffold: unit.scaffold,
        certainty: unit.certainty,
        evidence: unit.evidence.clone(),
        files: unit.files.iter().map(|log| log.parts.len().max(1)).sum(),
        bytes: unit.files.iter().map(|log| log.bytes).sum(),
    }
}

impl Account {
    fn add(&mut self, found: &Discovery) {
        self.read += found.units.iter().flat_map(|unit| &unit.files).map(|log| log.bytes).sum::<u64>();
        self.foreign += found.foreign.iter().map(|file| file.bytes).sum::<u64>();
        for (why, tally) in &found.ignored {
            let known = self.known.entry((*why).to_owned()).or_default();
            known.0 += tally.files;
            known.1 += tally.bytes;
        }
    }

    fn describe(&self) -> String {
        let known: u64 = self.known.values().map(|(_, bytes)| bytes).sum();
        let mut out = format!(
            "bytes: {} read, {} of unknown files, {} of files without records\n",
            human(self.read),
            human(self.foreign),
            human(known)
        );
        for (why, (files, bytes)) in &self.known {
            out += &format!("  {files} files, {}: {why}\n", human(*bytes));
        }
        out
    }
}

/// The end of a path, which tells folders of one source apart; the whole is in the JSON.
fn tail(path: &str) -> String {
    const LONGEST: usize = 60;
    let path = escaped(path);
    match path.char_indices().rev().nth(LONGEST - 1) {
        Some((at, _)) if at > 0 => format!("…{}", &path[at..]),
        _ => path,
    }
}

/// A size as people read it.
fn human(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..1_000_000 => format!("{:.1} kB", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.1} GB", bytes as f64 / 1e9),
    }
}

fn run_line(batch: &RecordBatch, row: usize, entry: &Path) -> RunLine {
    let source = text(batch, 0, row).unwrap_or_default();
    // The files of an address that names one are in its folder, as on a disk; which it is, only the server knows.
    let root = if entry.is_dir() || is_address(entry) { entry } else { entry.parent().unwrap_or(entry) };
    let folder = if source == "." { root.to_path_buf() } else { root.join(&source) };
    let task_from = text(batch, 3, row).unwrap_or_default();
    RunLine {
        proposed_task: (task_from == "unknown").then(|| propose(&folder)),
        folder: folder.display().to_string(),
        short: source.clone(),
        scaffold: text(batch, 1, row).unwrap_or_default(),
        task: text(batch, 2, row).unwrap_or_default(),
        task_from,
        candidates: int(batch, 4, row).unwrap_or(0),
        copies: int(batch, 5, row).unwrap_or(0),
        transitions: int(batch, 6, row).unwrap_or(0),
        invalid: int(batch, 7, row).unwrap_or(0),
        score_key: text(batch, 8, row),
        direction: text(batch, 9, row),
        iterations: int(batch, 10, row),
    }
}

fn text(batch: &RecordBatch, column: usize, row: usize) -> Option<String> {
    let column: &ArrayRef = batch.column(column);
    let texts = column.as_string::<i32>();
    texts.is_valid(row).then(|| texts.value(row).to_owned())
}

fn int(batch: &RecordBatch, column: usize, row: usize) -> Option<i64> {
    let numbers = batch.column(column).as_primitive::<Int64Type>();
    numbers.is_valid(row).then(|| numbers.value(row))
}

/// A task's name from a folder: the nearest part of its path that is not a scaffold's own word.
fn propose(folder: &Path) -> String {
    let generic = [
        "openevolve_output",
        "outputs",
        "output",
        "results",
        "runs",
        "logs",
        "examples",
        "db",
        "database",
        "programs",
        "checkpoints",
    ];
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_path_buf());
    let parts = absolute.components().rev().map(|part| part.as_os_str().to_string_lossy().into_owned());
    let named = parts.into_iter().find(|part| {
        let plain = part.to_lowercase();
        !generic.contains(&plain.as_str()) && plain.chars().any(char::is_alphabetic)
    });
    let name = named.unwrap_or_else(|| "task".to_owned()).to_lowercase();
    let mut clean: String = name.chars().map(|c| if c.is_alphanumeric() { c } else { '_' }).collect();
    while clean.contains("__") {
        clean = clean.replace("__", "_");
    }
    clean.trim_matches('_').to_owned()
}

/// Writes a sidecar into each folder whose run nobody named; a folder with several runs is left to its user.
fn write_sidecars(runs: &[RunLine]) -> Result<Vec<String>> {
    let mut written = Vec::new();
    for run in runs {
        let Some(task) = &run.proposed_task else { continue };
        // Nothing is written into archives.
        if run.short.contains("!/") || run.short.ends_with('!') {
            continue;
        }
        let path = Path::new(&run.folder).join("finch.toml");
        if runs.iter().filter(|other| other.folder == run.folder).count() > 1 || path.exists() {
            continue;
        }
        let text = format!("task = {}\n", toml::Value::from(task.as_str()));
        // Only a new file: a link that lies there must not be written through.
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(Error::io("write", &path))?;
        written.push(path.display().to_string());
    }
    Ok(written)
}

fn describe(
    logs: &[LogLine],
    runs: &[RunLine],
    account: &Account,
    problems: &[Problem],
    written: &[String],
) -> String {
    let rows: Vec<Vec<String>> = logs
        .iter()
        .map(|log| {
            let sure = format!("{:.0} %", log.certainty * 100.0);
            vec![
                tail(&log.folder),
                log.scaffold.to_owned(),
                sure,
                log.files.to_string(),
                log.evidence.clone(),
            ]
        })
        .collect();
    let mut out = columns(&["log", "scaffold", "certain", "files", "by"], &rows) + "\n";
    let rows: Vec<Vec<String>> = runs
        .iter()
        .map(|run| {
            let score = run.score_key.clone().unwrap_or_else(|| "mean of metrics".to_owned());
            let task = match &run.proposed_task {
                Some(proposed) => format!("? (perhaps {proposed})"),
                None => format!("{} ({})", run.task, run.task_from),
            };
            vec![
                tail(&run.short),
                run.scaffold.clone(),
                escaped(&task),
                run.candidates.to_string(),
                run.copies.to_string(),
                run.transitions.to_string(),
                run.invalid.to_string(),
                format!("{score}, {}", run.direction.as_deref().unwrap_or("direction unknown")),
            ]
        })
        .collect();
    let header = ["run", "scaffold", "task", "candidates", "copies", "transitions", "invalid", "judged by"];
    out += &columns(&header, &rows);
    let sum = |of: fn(&RunLine) -> i64| runs.iter().map(of).sum::<i64>();
    out += &format!(
        "\n{} runs, {} candidates, {} copies merged, {} transitions\n",
        runs.len(),
        sum(|run| run.candidates),
        sum(|run| run.copies),
        sum(|run| run.transitions)
    );
    out += &account.describe();
    for problem in problems {
        out += &format!(
            "{}: {} records, such as {}: {}\n",
            problem.code,
            problem.records,
            escaped(&problem.example),
            escaped(&problem.reason)
        );
    }
    for path in written {
        out += &format!("wrote {path}\n");
    }
    if written.is_empty() && runs.iter().any(|run| run.proposed_task.is_some()) {
        out += "runs without a task name: write `task = \"…\"` into a finch.toml in the folder, or use --write-sidecars\n";
    }
    out
}

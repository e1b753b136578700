//! `query`: SQL over a store, or over raw logs without one.

use std::ffi::OsString;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use super::output::print;
use super::{BudgetArgs, StoreArgs};
use crate::code::Code;
use crate::engine::{self, Selection};
use crate::error::{Error, Result};
use crate::ingest::Discovery;
use crate::interrupt::Interrupt;
use crate::plan::Prepared;
use crate::progress::Progress;
use crate::spec;
use crate::sql::format::Format;
use crate::sql::{Engine, meta, views};
use crate::store::Store;

#[derive(Args)]
pub(super) struct Query {
    /// The query, or @NAME for the file sql/NAME.sql
    sql: Option<String>,
    /// A file that holds the query
    #[arg(short, long, value_name = "FILE", conflicts_with = "sql")]
    file: Option<PathBuf>,
    /// The store: a folder, or s3://, gs:// or az://
    #[arg(long, value_name = "STORE")]
    store: Option<OsString>,
    /// A spec; its store is read
    #[arg(long, value_name = "SPEC", conflicts_with = "store")]
    spec: Option<PathBuf>,
    /// Raw logs, read for this query alone
    #[arg(long, value_name = "PATH", conflicts_with_all = ["store", "spec"])]
    logs: Vec<PathBuf>,
    /// The catalogue for raw logs
    #[arg(long, value_name = "FILE", requires = "logs")]
    tasks: Option<PathBuf>,
    /// How results are printed
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Write results to a file instead
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Print the plan instead of running it
    #[arg(long)]
    explain: bool,
    #[command(flatten)]
    budget: BudgetArgs,
}

impl Query {
    pub(super) fn run(self) -> Result<ExitCode> {
        let text = self.text()?;
        let budget = self.budget.budget();
        // The temporary store of raw logs lives as long as the query.
        let mut pipeline = None;
        let (store, _temporary) = if self.logs.is_empty() {
            let named = StoreArgs { store: self.store.clone(), spec: self.spec.clone() };
            let (store, name) = named.open_for()?;
            pipeline = name;
            (store, None)
        } else {
            let (store, folder) = ingest(&self.logs, self.tasks.as_deref(), budget)?;
            (store, Some(folder))
        };
        // What finch says of builds is there also when none of them finished.
        let build = match store.latest_build(pipeline.as_deref()) {
            Err(error) if error.code() == Code::NothingBuilt && meta::named(&text) => None,
            found => Some(found?),
        };
        let scratch = tempfile::tempdir().map_err(Error::io("create", std::env::temp_dir()))?;
        let engine = Engine::new(budget.threads, budget.memory, scratch.path())?;
        let session = engine.session(views::Needed::by(&text).width());
        if let Some(build) = &build {
            views::bind_build(&session, &store, build, &text)?;
        }
        if build.is_none_or(|build| build.stage(meta::SCHEMA).is_none()) {
            meta::bind(&session, &store, &text)?;
        }
        if self.explain {
            print(&session.explain(&text)?)?;
            return Ok(ExitCode::SUCCESS);
        }
        match &self.output {
            Some(path) => {
                // Planned first: a mistake must not cost the file that is there.
                session.columns_of(&text)?;
                let mut file = File::create(path).map_err(Error::io("create", path))?;
                self.format.write(&session, &text, &mut file)?;
                file.flush().map_err(Error::io("write", path))?;
            }
            None => {
                use std::io::IsTerminal;
                let mut out = std::io::BufWriter::new(std::io::stdout());
                if self.format == Format::Parquet && std::io::stdout().is_terminal() {
                    return Err(Error::Usage(
                        "Parquet is not for a terminal; name a file with `--output`".to_owned(),
                    ));
                }
                let closed = Arc::new(AtomicBool::new(false));
                let mut watched = Watched { inner: &mut out, closed: closed.clone() };
                let written = self.format.write(&session, &text, &mut watched);
                if closed.load(Ordering::Relaxed) {
                    return Ok(ExitCode::SUCCESS);
                }
                written?;
                out.flush().map_err(Error::io("write", "the result"))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }

    /// The query's text.
    fn text(&self) -> Result<String> {
        let read = |path: &Path| {
            std::fs::read_to_string(path)
                .map_err(|source| Error::Usage(format!("cannot read `{}`: {source}", path.display())))
        };
        let text = match (&self.sql, &self.file) {
            (_, Some(path)) => read(path)?,
            (Some(sql), None) => match sql.strip_prefix('@') {
                Some(name) => read(&Path::new("sql").join(format!("{name}.sql")))?,
                None => sql.clone(),
            },
            (None, None) => {
                return Err(Error::Usage(
                    "write a query, as in `finch query --store DIR \"SELECT …\"`, or name a file with `-f`"
                        .to_owned(),
                ));
            }
        };
        let text = text.trim().trim_end_matches(';').to_owned();
        if text.is_empty() {
            return Err(Error::Sql {
                reason: "the query is empty".to_owned(),
                code: Code::Query,
                hint: None,
            });
        }
        Ok(text)
    }
}

/// A writer that notes when its reader has gone away; the formats' own errors no longer say so.
struct Watched<W> {
    inner: W,
    closed: Arc<AtomicBool>,
}

impl<W: Write> Watched<W> {
    fn note<T>(&self, result: std::io::Result<T>) -> std::io::Result<T> {
        if let Err(error) = &result
            && error.kind() == std::io::ErrorKind::BrokenPipe
        {
            self.closed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl<W: Write> Write for Watched<W> {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        let result = self.inner.write(buffer);
        self.note(result)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        let result = self.inner.flush();
        self.note(result)
    }
}

/// Whether logs are named by an address, and not by a path.
pub(super) fn is_address(logs: &Path) -> bool {
    logs.to_str().is_some_and(|text| text.contains("://"))
}

/// Ingests logs into a store of their own, which lives as long as the returned folder.
pub(super) fn ingest(
    logs: &[PathBuf],
    tasks: Option<&Path>,
    budget: engine::Budget,
) -> Result<(Store, tempfile::TempDir)> {
    let (store, folder, _) = inspected(logs, tasks, budget)?;
    Ok((store, folder))
}

/// The same, with what was found in the folders.
pub(super) fn inspected(
    logs: &[PathBuf],
    tasks: Option<&Path>,
    budget: engine::Budget,
) -> Result<(Store, tempfile::TempDir, Discovery)> {
    let folder = tempfile::tempdir().map_err(Error::io("create", std::env::temp_dir()))?;
    let sources: Result<Vec<toml::Value>> = logs
        .iter()
        .map(|path| {
            let text = |path: &Path| {
                let text = path.to_str().map(str::to_owned);
                text.ok_or_else(|| Error::Usage(format!("`{}` is not UTF-8", path.display())))
            };
            if is_address(path) {
                return Ok(toml::Value::from(text(path)?));
            }
            let absolute = std::path::absolute(path).map_err(Error::io("resolve", path))?;
            Ok(toml::Value::from(text(&absolute)?))
        })
        .collect();
    let mut pipeline = toml::Table::new();
    pipeline.insert("store".to_owned(), "store".into());
    if let Some(tasks) = tasks {
        let absolute = std::path::absolute(tasks).map_err(Error::io("resolve", tasks))?;
        pipeline.insert("tasks".to_owned(), absolute.to_string_lossy().into_owned().into());
    }
    let mut stage = toml::Table::new();
    stage.insert("kind".to_owned(), "ingest".into());
    stage.insert("sources".to_owned(), sources?.into());
    stage.insert("max_quarantined".to_owned(), 1.0.into());
    let mut stages = toml::Table::new();
    stages.insert("logs".to_owned(), stage.into());
    let mut document = toml::Table::new();
    document.insert("pipeline".to_owned(), pipeline.into());
    document.insert("stages".to_owned(), stages.into());
    let pipeline = spec::parse(Path::new("command line"), &document.to_string(), folder.path())?;
    let (progress, interrupt) = (Progress::quiet(), Interrupt::default());
    let mut prepared = Prepared::new(&pipeline, &progress, &interrupt)?;
    engine::run_prepared(&prepared, &Selection::default(), budget, &progress, &interrupt)?;
    let found = prepared.discoveries.remove(&0).unwrap_or_default();
    Ok((Store::open(&pipeline.store, &interrupt)?, folder, found))
}

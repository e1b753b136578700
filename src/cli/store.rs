//! `path`, `verify`, `builds` and `explain`.

use std::process::ExitCode;

use clap::Args;

use super::StoreArgs;
use super::output::{columns, print};
use crate::code::Code;
use crate::engine::locate;
use crate::error::{Error, Result};
use crate::references;
use crate::spec::did_you_mean;
use crate::store::verify::verify;

#[derive(Args)]
pub(super) struct PathOf {
    /// A table, such as examples or kept.transitions
    table: String,
    #[command(flatten)]
    store: StoreArgs,
}

impl PathOf {
    pub(super) fn run(self) -> Result<ExitCode> {
        let (store, pipeline) = self.store.open_for()?;
        let build = store.latest_build(pipeline.as_deref())?;
        let Some((_, files)) = locate(&store, &build, &self.table)? else {
            let mut names = Vec::new();
            for stage in &build.stages {
                names.extend(store.expect(stage.fingerprint)?.manifest.tables.into_keys());
            }
            names.sort();
            names.dedup();
            return Err(Error::Store {
                reason: format!("no table `{}` in the last build", self.table),
                code: Code::UnknownTable,
                hint: did_you_mean(&self.table, names.iter().map(String::as_str).collect::<Vec<_>>()),
            });
        };
        print(&files.iter().map(|file| format!("{}\n", file.display())).collect::<String>())?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args)]
pub(super) struct Verify {
    #[command(flatten)]
    store: StoreArgs,
    /// Compare sizes only, hash nothing
    #[arg(long)]
    quick: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What to do about a damaged dataset.
const REPAIR: &str = "`finch run SPEC --force STAGE` replaces a stage's damaged files";

impl Verify {
    pub(super) fn run(self) -> Result<ExitCode> {
        let store = self.store.open()?;
        let mut report = verify(&store, self.quick)?;
        if !self.quick {
            references::check(&store, &mut report)?;
        }
        if self.json {
            print(&format!("{}\n", serde_json::json!(report)))?;
        } else {
            let mut text = String::new();
            for finding in &report.findings {
                text += &format!("{}: {}\n", finding.place, finding.what);
            }
            let verb = if self.quick { "measured" } else { "hashed" };
            text += &format!(
                "{} datasets, {} files {verb}, {:.1} MB, {} references followed: {}\n",
                report.datasets,
                report.files,
                report.bytes as f64 / 1e6,
                report.references,
                match report.findings.len() {
                    0 => "all as the manifests say".to_owned(),
                    1 => format!("1 finding; {REPAIR}"),
                    n => format!("{n} findings; {REPAIR}"),
                }
            );
            print(&text)?;
        }
        Ok(if report.findings.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
    }
}

#[derive(Args)]
pub(super) struct Builds {
    #[command(flatten)]
    store: StoreArgs,
    /// Print JSON, whole records
    #[arg(long)]
    json: bool,
}

impl Builds {
    pub(super) fn run(self) -> Result<ExitCode> {
        let builds = self.store.open()?.builds()?;
        if self.json {
            print(&format!("{}\n", serde_json::json!(builds)))?;
            return Ok(ExitCode::SUCCESS);
        }
        let rows: Vec<Vec<String>> = builds
            .iter()
            .map(|build| {
                let ran =
                    build.stages.iter().filter(|stage| stage.decision == crate::store::Decision::Run).count();
                vec![
                    build.build_id.clone(),
                    build.pipeline.clone(),
                    build.status.clone(),
                    format!("{:.2}", build.seconds),
                    build.stages.len().to_string(),
                    ran.to_string(),
                    build.error.as_deref().and_then(|error| error.lines().next()).unwrap_or("").to_owned(),
                ]
            })
            .collect();
        print(&columns(&["build", "pipeline", "status", "seconds", "stages", "computed", "error"], &rows))?;
        Ok(ExitCode::SUCCESS)
    }
}

#[derive(Args)]
pub(super) struct Explain {
    /// A code, such as F0102; all codes without one
    code: Option<String>,
}

impl Explain {
    pub(super) fn run(self) -> Result<ExitCode> {
        let wanted: Vec<Code> = match &self.code {
            None => Code::ALL.to_vec(),
            Some(word) => {
                Code::ALL.iter().copied().filter(|code| code.to_string().eq_ignore_ascii_case(word)).collect()
            }
        };
        if wanted.is_empty() {
            return Err(Error::Usage(format!(
                "no code `{}`; `finch explain` lists all",
                self.code.unwrap_or_default()
            )));
        }
        print(&wanted.iter().map(|code| format!("{code}  {}\n", code.meaning())).collect::<String>())?;
        Ok(ExitCode::SUCCESS)
    }
}

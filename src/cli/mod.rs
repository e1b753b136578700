//! The command line: what was typed, turned into calls of the library, and results turned into text.
//!
//! Nothing here computes a row. Exit codes: 0 fine, 1 the checks found something, 2 usage or spec, 3 environment.

mod diff;
mod gc;
mod init;
mod inspect;
mod output;
mod query;
mod render;
mod run;
mod show;
mod store;
mod training;

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::engine::{Budget, MIN_MEMORY};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::remote::Place;
use crate::store::Store;

/// Rebuild an LLM training set from the raw logs of evolutionary program searches.
#[derive(Parser)]
#[command(name = "finch", version, long_version = long_version(), max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Make a small project that runs: a spec, sample logs, a query
    Init(init::Init),
    /// Say what a log is: scaffold, runs, candidates, task, score key, direction, problems
    Inspect(inspect::Inspect),
    /// Check a spec: keys, types, graph, sources, SQL; nothing runs
    Check(run::Check),
    /// Say what a run would do, and why
    Plan(run::Plan),
    /// Build a spec
    Run(run::Run),
    /// Ask questions in SQL, of a store or of raw logs
    Query(query::Query),
    /// Say where a table's Parquet files lie, one path a line
    Path(store::PathOf),
    /// Hash everything in a store again and compare with the manifests
    Verify(store::Verify),
    /// Say all that is known of a program, candidate, transition, example, pack, run or text
    Show(show::Show),
    /// Remove what the newest builds do not need
    Gc(gc::Gc),
    /// List past builds
    Builds(store::Builds),
    /// Say what differs between two builds: stages, parameters, columns, rows; exit 1 when anything does
    Diff(diff::Diff),
    /// Say what an error code means
    Explain(store::Explain),
}

/// Threads and memory; they change how fast a build is and never what it makes.
#[derive(Args, Clone, Debug)]
struct BudgetArgs {
    /// Threads to use [default: all cores]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    threads: Option<u16>,
    /// Memory to use, such as 2GiB; at least 512MiB [default: 4GiB]
    #[arg(long, value_name = "SIZE", value_parser = parse_size)]
    memory_limit: Option<u64>,
}

impl BudgetArgs {
    fn budget(&self) -> Budget {
        let default = Budget::default();
        let budget = Budget {
            threads: self.threads.map_or(default.threads, usize::from),
            memory: self.memory_limit.unwrap_or(default.memory),
        };
        budget.apply();
        budget
    }
}

/// Which store to read: named, or the one that a spec writes to.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = false)]
struct StoreArgs {
    /// The store: a folder, or s3://, gs:// or az://
    #[arg(long, value_name = "STORE")]
    store: Option<OsString>,
    /// A spec; its store is read
    #[arg(long, value_name = "SPEC")]
    spec: Option<PathBuf>,
}

impl StoreArgs {
    fn open(&self) -> Result<Store> {
        self.open_until(&Interrupt::default())
    }

    /// The store, for work that a signal ends in an orderly way.
    fn open_until(&self, interrupt: &Interrupt) -> Result<Store> {
        Ok(self.open_named(interrupt)?.0)
    }

    /// The store, and the pipeline whose builds are meant: the spec's, or any.
    fn open_for(&self) -> Result<(Store, Option<String>)> {
        self.open_named(&Interrupt::default())
    }

    fn open_named(&self, interrupt: &Interrupt) -> Result<(Store, Option<String>)> {
        match (&self.store, &self.spec) {
            (Some(store), _) => Ok((Store::open(&Place::store(store)?, interrupt)?, None)),
            (None, Some(spec)) => {
                let pipeline = crate::spec::read(spec)?;
                Ok((Store::open(&pipeline.store, interrupt)?, Some(pipeline.name)))
            }
            (None, None) => Err(Error::Usage("name a store with `--store` or `--spec`".to_owned())),
        }
    }
}

/// Reads the arguments, runs the command, and says how it went.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // clap prints help and version to standard output with success, mistakes to standard error with 2.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    let result = match cli.command {
        Command::Init(command) => command.run(),
        Command::Inspect(command) => command.run(),
        Command::Check(command) => command.run(),
        Command::Plan(command) => command.run(),
        Command::Run(command) => command.run(),
        Command::Query(command) => command.run(),
        Command::Path(command) => command.run(),
        Command::Verify(command) => command.run(),
        Command::Show(command) => command.run(),
        Command::Gc(command) => command.run(),
        Command::Builds(command) => command.run(),
        Command::Diff(command) => command.run(),
        Command::Explain(command) => command.run(),
    };
    match result {
        Ok(code) => code,
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            render::error(&error);
            ExitCode::from(error.exit())
        }
    }
}

/// A size with a unit, large enough to work with.
fn parse_size(text: &str) -> Result<u64, String> {
    let size = crate::spec::parse_bytes(text)?;
    if size < MIN_MEMORY {
        return Err(format!("must be at least {} MiB", MIN_MEMORY >> 20));
    }
    Ok(size)
}

/// The version with the facts that decide what is written.
fn long_version() -> &'static str {
    static TEXT: std::sync::LazyLock<String> = std::sync::LazyLock::new(|| {
        let mut versions = crate::toolchain();
        let own = versions.remove("finch").unwrap_or_default();
        let others: Vec<String> =
            versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let profile = if cfg!(debug_assertions) { "debug assertions on" } else { "release" };
        format!("{own} ({profile})\n{}", others.join("\n"))
    });
    &TEXT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn memory_has_a_floor() {
        assert_eq!(parse_size("536870912"), Ok(512 << 20));
        for bad in ["", "100MiB", "-1"] {
            assert!(parse_size(bad).is_err(), "{bad}");
        }
    }
}

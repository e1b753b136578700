//! Writes synthetic search logs of any size, and specs for them: what finch's benchmarks read.
//!
//! `cargo run --release --example generate -- build/logs --bytes 5GiB`. The same arguments give the same bytes. Nothing
//! is kept but the population of one search, so memory does not grow with the logs. The lengths are those of real
//! searches: programs of 1 to 30 kB, prompts of 5 to 60 kB that repeat programs, answers of 0.3 kB to a whole program;
//! a child differs from its parent in a few lines, and a program stands in about three checkpoints. It must not be
//! used to judge a training: no line means anything.

mod layout;
mod programs;
mod search;
mod text;

use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Parser, ValueEnum};

use crate::layout::{Limit, Written};
use crate::search::{Search, Setting};

/// Searches of one task, where there are enough.
const RUNS_OF_A_TASK: u64 = 4;

#[derive(Parser)]
#[command(about = "Write synthetic search logs, and specs for them", version)]
struct Arguments {
    /// A folder that does not exist, or is empty
    out: PathBuf,
    /// Bytes of logs, such as 5GiB
    #[arg(long, value_parser = finch::spec::parse_bytes, required_unless_present_any = ["files", "programs"], conflicts_with = "files")]
    bytes: Option<u64>,
    /// Program files, of checkpoints
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    files: Option<u64>,
    /// No logs but so many programs of 4 kB, most of them almost the same as another one, in `programs.parquet`
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), conflicts_with_all = ["files", "bytes"])]
    programs: Option<u64>,
    /// Searches; the size is divided among them
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// Another seed gives other logs
    #[arg(long, default_value_t = 33)]
    seed: u64,
    /// How searches are written down
    #[arg(long, value_enum, default_value = "checkpoints")]
    format: Format,
    /// A factor on the lengths of programs and prompts
    #[arg(long, default_value_t = 1.0, value_parser = parse_scale)]
    scale: f64,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Format {
    /// One JSON file a program and checkpoint
    Checkpoints,
    /// One JSON line a step
    Trace,
}

fn parse_scale(text: &str) -> Result<f64, String> {
    let scale: f64 = text.parse().map_err(|_| format!("`{text}` is not a number"))?;
    if (0.01..=10.0).contains(&scale) { Ok(scale) } else { Err("must lie between 0.01 and 10".to_owned()) }
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let limit = match (arguments.bytes, arguments.files) {
        (Some(bytes), _) => Limit::Bytes(bytes),
        (None, Some(_)) if arguments.format == Format::Trace => {
            return fail("a trace is one file a run; use `--runs` and `--bytes`", 2);
        }
        (None, files) => Limit::Files(files.unwrap_or(1)),
    };
    match generate(&arguments, limit) {
        Ok(text) => match io::stdout().write_all(text.as_bytes()) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => fail(&error.to_string(), 3),
        },
        Err(error) => fail(&format!("cannot write to `{}`: {error}", arguments.out.display()), 3),
    }
}

fn fail(reason: &str, code: u8) -> ExitCode {
    let _ = writeln!(io::stderr(), "error: {reason}");
    ExitCode::from(code)
}

/// Writes everything; returns what to say of it.
fn generate(arguments: &Arguments, limit: Limit) -> io::Result<String> {
    let out = &arguments.out;
    fs::create_dir_all(out)?;
    if fs::read_dir(out)?.next().is_some() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "the folder is not empty"));
    }
    if let Some(count) = arguments.programs {
        let bytes = programs::write(out, count, arguments.seed, arguments.scale)?;
        return Ok(format!("{count} programs, {:.1} MB\n", bytes as f64 / 1e6));
    }
    let (mut written, mut steps) = (Written::default(), 0);
    let tasks = (arguments.runs / RUNS_OF_A_TASK).max(2).min(arguments.runs);
    for run in 0..arguments.runs {
        let task = run % tasks;
        let folder = out.join(format!("logs/run_{run:04}"));
        fs::create_dir_all(&folder)?;
        fs::write(folder.join("finch.toml"), format!("task = \"task_{task:03}\"\n"))?;
        let setting = Setting {
            seed: arguments.seed,
            scale: arguments.scale,
            run,
            task,
            migrates: arguments.format == Format::Checkpoints,
        };
        let mut search = Search::new(setting);
        let part = limit.part(run + 1, arguments.runs);
        match arguments.format {
            Format::Checkpoints => layout::checkpoints(&mut search, &folder, part, &mut written)?,
            Format::Trace => layout::trace(&mut search, &folder, part, &mut written)?,
        }
        steps += search.iteration;
    }
    specs(out, tasks)?;
    Ok(format!(
        "{} files, {:.1} MB, {} runs, {steps} steps\n{}\n{}\n",
        written.files,
        written.bytes as f64 / 1e6,
        arguments.runs,
        out.join("spec.toml").display(),
        out.join("stages.toml").display()
    ))
}

/// The beginning of both specs.
const HEAD: &str = r#"[stages.logs]
kind = "ingest"
sources = ["logs"]

[stages.unique]
kind = "dedup"
input = "logs"
exact = "canonical"

[stages.labelled]
kind = "label"
input = "unique"

[stages.kept]
kind = "filter"
input = "labelled"
where = "outcome IN ('improvement', 'self_repair')"

[stages.split]
kind = "split"
input = "kept"
leak = { on_leak = "report" }
"#;

/// What follows in `spec.toml`: all the way to packs.
const PACKS: &str = r#"
[stages.tokenizer]
kind = "tokenizer"
input = "split"
vocabulary = 2048

[stages.sft]
kind = "render"
input = "split"
template = "chatml"
tokenizer = "tokenizer"
max_tokens = 32768
over_length = "drop"
scrub = true

[stages.packed]
kind = "pack"
input = "sft"
sequence_tokens = 32768
"#;

/// `spec.toml` makes packs; `stages.toml` has 20 cheap stages, for timing what finch does when there is nothing to do.
fn specs(out: &Path, tasks: u64) -> io::Result<()> {
    let pipeline = |name: &str| {
        format!(
            "# Written with the logs.\n\n[pipeline]\nname = \"{name}\"\nseed = 33\nstore = \"store-{name}\"\n\n"
        )
    };
    let held_out = if tasks > 1 { "hold_out = { tasks = [\"task_000\"] }\n" } else { "" };
    let head = format!("{HEAD}{held_out}");
    // Paths in the specs are relative to this folder, also below another project.
    fs::write(out.join("finch.toml"), "")?;
    fs::write(out.join("spec.toml"), pipeline("packs") + &head + PACKS)?;
    let mut stages = pipeline("stages") + &head;
    for island in 0..8 {
        stages += &format!(
            "\n[stages.island_{island}]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"iteration % 8 = {island}\"\n"
        );
    }
    for island in 0..7 {
        stages += &format!(
            "\n[stages.counts_{island}]\nkind = \"sql\"\ninputs = [\"island_{island}\"]\ntable = \"counts_{island}\"\nkey = [\"task\"]\n\
             query = \"SELECT t.task, count(*) AS steps FROM island_{island}.transitions t GROUP BY t.task\"\n"
        );
    }
    fs::write(out.join("stages.toml"), stages)
}

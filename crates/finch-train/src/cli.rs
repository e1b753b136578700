//! The command line of both executables: what was typed, turned into calls, and results turned into text.
//!
//! `plan` and `inspect` need no libtorch. `run` and `eval` check their config, find libtorch, and go on in the
//! executable that is linked with it, which shares [`start`].

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};
use finch_core::Code;
use finch_core::tokens::Tokenizer;
use finch_core::training::{Device, Event, STARTER};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::architecture::Architecture;
use crate::batch::Batches;
use crate::budget::Budget;
use crate::error::{Error, Result};
use crate::inspect::{self, Paint};
use crate::log::say;
use crate::packs::{Packs, by_example};
use crate::{config, held_out, libtorch};

/// Fine-tune a language model on the packs that finch makes.
#[derive(Parser, Debug)]
#[command(name = "finch-train", version, max_term_width = 100)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Subcommand, Debug)]
pub enum Command {
    /// Train, or go on with a training that was stopped
    Run(Run),
    /// Say what a training needs: parameters, memory, tokens, steps; nothing runs
    Plan(Plan),
    /// Show examples as the model sees them: tokens, masked or trained, segment by segment
    Inspect(Inspect),
    /// Held-out loss of a model, by task; with `--per-token` of every token
    Eval(Eval),
    /// Say what an error code means
    Explain {
        /// The code, such as F0805
        code: String,
    },
}

/// `run`.
#[derive(Args, Debug)]
pub struct Run {
    /// The config: TOML, or JSON as finch writes it
    pub config: PathBuf,
    /// The folder of a dataset of packs
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Where the model, the log and checkpoints go; a training that is in it goes on
    #[arg(long, value_name = "DIR")]
    pub out: PathBuf,
    /// One JSON object a line on standard output
    #[arg(long)]
    pub json: bool,
}

/// `plan`.
#[derive(Args, Debug)]
pub struct Plan {
    /// The config: TOML, or JSON as finch writes it
    pub config: PathBuf,
    /// The folder of a dataset of packs
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Tokens per second that were measured, for an estimate of hours
    #[arg(long, value_name = "N", value_parser = rate)]
    pub tokens_per_second: Option<f64>,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

/// `inspect`.
#[derive(Args, Debug)]
pub struct Inspect {
    /// The folder of a dataset of packs
    pub data: PathBuf,
    /// This example; a unique beginning of its id is enough
    #[arg(long, value_name = "ID", conflicts_with = "pack")]
    pub example: Option<String>,
    /// All examples of this pack; a unique beginning of its id is enough
    #[arg(long, value_name = "ID")]
    pub pack: Option<String>,
}

/// `eval`.
#[derive(Args, Debug)]
pub struct Eval {
    /// The folder of a model: config.json and safetensors
    pub model: PathBuf,
    /// The folder of a dataset of packs
    #[arg(long, value_name = "DIR")]
    pub data: PathBuf,
    /// Only this split; all but train when absent
    #[arg(long)]
    pub split: Option<String>,
    /// At most so many tokens of each task
    #[arg(long, value_name = "N")]
    pub tokens: Option<u64>,
    /// Seeds the choice of examples under `--tokens`
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    /// Write the loss of every token to this Parquet file
    #[arg(long, value_name = "FILE")]
    pub per_token: Option<PathBuf>,
    /// auto, cpu or cuda
    #[arg(long, default_value = "auto", value_parser = device)]
    pub device: Device,
    /// Threads of libtorch
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1024))]
    pub threads: u32,
    /// As JSON
    #[arg(long)]
    pub json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate: f64 = text.parse().map_err(|_| "is no number".to_owned())?;
    if rate.is_finite() && rate >= 1.0 { Ok(rate) } else { Err("must be at least 1".to_owned()) }
}

fn device(word: &str) -> Result<Device, String> {
    match word {
        "auto" => Ok(Device::Auto),
        "cpu" => Ok(Device::Cpu),
        "cuda" => Ok(Device::Cuda),
        other => Err(format!("`{other}` is not one of auto, cpu, cuda")),
    }
}

/// The entry of `finch-train`.
pub fn main() -> ExitCode {
    start(|command| match command {
        Command::Run(run) => {
            let config = config::read(&run.config)?;
            Err(libtorch::become_trainer(config.device))
        }
        Command::Eval(eval) => Err(libtorch::become_trainer(eval.device)),
        Command::Plan(command) => plan(command),
        Command::Inspect(command) => show(command),
        Command::Explain { code } => explain(code),
    })
}

/// Reads the arguments, performs the command, and says how it went.
pub fn start(perform: impl FnOnce(&Command) -> Result<()>) -> ExitCode {
    end_with_starter();
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2));
        }
    };
    match perform(&cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            report(&error, &cli.command);
            ExitCode::from(error.exit())
        }
    }
}

/// Asks the system for SIGTERM when the finch that started this ends. It is the first thing that both executables do:
/// until it is done, a finch that is killed leaves its trainer alone. One behind a launcher has another parent, and is
/// ended by its launcher or not at all.
fn end_with_starter() {
    let starter: Option<u32> = std::env::var(STARTER).ok().and_then(|pid| pid.parse().ok());
    if starter == Some(std::os::unix::process::parent_id()) {
        // Where this is not obeyed, the training merely goes on.
        let _ = set_parent_process_death_signal(Some(Signal::TERM));
        if starter != Some(std::os::unix::process::parent_id()) {
            std::process::exit(143);
        }
    }
}

/// Says an error: to a program as an event on standard output, to people in words on standard error.
fn report(error: &Error, command: &Command) {
    if matches!(command, Command::Run(Run { json: true, .. })) {
        let event = Event::Error(error.failure());
        if let Ok(line) = serde_json::to_string(&event) {
            return say(&(line + "\n"));
        }
    }
    let mut text = format!("error[{}]: {error}\n", error.code());
    if let Some(hint) = error.hint() {
        text += &format!("  help: {hint}\n");
    }
    let _ = std::io::stderr().write_all(text.as_bytes());
}

fn print(text: &str) {
    // A reader that has gone away, such as `head`, is no error.
    let _ = std::io::stdout().write_all(text.as_bytes());
}

fn plan(command: &Plan) -> Result<()> {
    let config = config::read(&command.config)?;
    let shape = Architecture::of(&config.base)?;
    let packs = Packs::open(&command.data)?;
    packs.fits(&shape)?;
    let mut batches = Batches::of(&config, &packs)?;
    let steps = batches.steps();
    let train = Packs::totals(packs.all().iter().filter(|pack| pack.is_train()));
    let chosen = held_out::choose(packs.all(), held_out::NOT_TRAINED, config.eval_tokens, config.seed);
    let held = held_out::totals(packs.all(), &chosen);
    let budget = Budget::new(&config, &shape, steps, train, held, packs.longest() as u64);
    if command.json {
        let text = serde_json::to_string_pretty(&budget)
            .map_err(|source| Error::io("write", "standard output")(std::io::Error::other(source)))?;
        print(&(text + "\n"));
        return Ok(());
    }
    let evals = 2 + steps.saturating_sub(1).checked_div(config.eval_every).unwrap_or(0);
    let index = packs.train();
    let trained = batches.tokens(|pack| packs.all()[index[pack]].tokens() as u64);
    let per_step = trained / steps.max(1) as f64;
    let seen = trained + held.tokens as f64 * evals as f64;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    let mut text = format!(
        "model        {} parameters ({} layers, hidden {}, vocabulary {}{})\n\
         data         {} examples in {} packs, {} tokens, {} of them trained ({:.1} %)\n\
         held out     {} examples, {} tokens, evaluated {evals} times\n\
         steps        {steps}, about {per_step:.0} tokens each; {seen:.0} tokens seen in all\n\
         in flight    {} tokens\n\
         weights      {}\n\
         gradients    {}\n\
         optimizer    {}\n\
         activations  {} (estimate)\n\
         logits       {}\n\
         in all       {}\n",
        budget.parameters,
        shape.num_hidden_layers,
        shape.hidden_size,
        shape.vocab_size,
        if shape.tie_word_embeddings { ", tied" } else { "" },
        train.examples,
        train.packs,
        train.tokens,
        train.trained_tokens,
        100.0 * train.trained_tokens as f64 / train.tokens.max(1) as f64,
        held.examples,
        held.tokens,
        budget.tokens_in_flight,
        mib(budget.weight_bytes),
        mib(budget.gradient_bytes),
        mib(budget.optimizer_bytes),
        mib(budget.activation_bytes),
        mib(budget.logit_bytes),
        mib(budget.total_bytes),
    );
    if let Some(rate) = command.tokens_per_second {
        let hours = seen / rate / 3600.0;
        let time =
            if hours < 1.0 { format!("{:.1} minutes", hours * 60.0) } else { format!("{hours:.1} hours") };
        text += &format!("time         {time} at {rate:.0} tokens/s\n");
    }
    print(&text);
    Ok(())
}

fn show(command: &Inspect) -> Result<()> {
    let mut packs = Packs::open(&command.data)?;
    let tokenizer = Tokenizer::load(&packs.tokenizer())?;
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let paint = if coloured { Paint::Colour } else { Paint::Plain };
    let wanted: Vec<(usize, usize)> = match (&command.example, &command.pack) {
        (Some(id), _) => {
            let examples = by_example(packs.all());
            vec![examples[unique(id, "example", examples.keys().copied())?]]
        }
        (None, Some(id)) => {
            let all = packs.all();
            let full = unique(id, "pack", all.iter().map(|pack| pack.pack_id.as_str()))?;
            let pack = all.iter().position(|pack| pack.pack_id == full).unwrap_or(0);
            (0..all[pack].documents.len()).map(|document| (pack, document)).collect()
        }
        (None, None) => vec![(packs.train().first().copied().unwrap_or(0), 0)],
    };
    if packs.all().is_empty() {
        return Err(Error::packs(format!("`{}`", command.data.display()), "it holds no pack"));
    }
    for (pack, document) in wanted {
        print(&inspect::document(&mut packs, &tokenizer, pack, document, paint)?);
    }
    Ok(())
}

/// The one id that begins so.
fn unique<'a>(beginning: &str, what: &str, ids: impl Iterator<Item = &'a str>) -> Result<&'a str> {
    let mut matches = ids.filter(|id| id.starts_with(beginning));
    match (matches.next(), matches.next()) {
        (Some(id), None) => Ok(id),
        (Some(_), Some(_)) => Err(Error::Usage(format!("several {what}s begin with `{beginning}`"))),
        (None, _) => Err(Error::Usage(format!("no {what} begins with `{beginning}`"))),
    }
}

fn explain(word: &str) -> Result<()> {
    let code = Code::ALL.iter().find(|code| code.to_string().eq_ignore_ascii_case(word));
    let code = code.ok_or_else(|| Error::Usage(format!("`{word}` is not a code; codes look like F0805")))?;
    print(&format!("{code}: {}\n", code.meaning()));
    Ok(())
}

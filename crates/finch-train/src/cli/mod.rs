//! The command line of both executables: what was typed, turned into calls, and results turned into text.
//!
//! `plan` and `inspect` need no libtorch. The others check what they can, find libtorch, and go on in the executable that
//! is linked with it, which shares [`start`].

mod arguments;
mod plan;
mod show;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use finch_core::Code;
use finch_core::training::{Device, Event, STARTER};
use rustix::process::{Signal, set_parent_process_death_signal};

use crate::error::{Error, Result};
use crate::log::say;
use crate::{config, libtorch};

pub use self::arguments::{Bench, Check, Cli, Command, Eval, Export, Inspect, Plan, Run};

/// The entry of `finch-train`.
pub fn main() -> ExitCode {
    start(|command| match command {
        Command::Run(run) => {
            let config = config::read(&run.config)?;
            Err(libtorch::become_trainer(config.device))
        }
        Command::Eval(eval) => Err(libtorch::become_trainer(eval.device)),
        Command::Export(_) => Err(libtorch::become_trainer(Device::Cpu)),
        Command::Check(check) => Err(libtorch::become_trainer(check.device)),
        Command::Bench(bench) => Err(libtorch::become_trainer(bench.device)),
        Command::Plan(command) => plan::plan(command),
        Command::Inspect(command) => show::show(command),
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

fn explain(word: &str) -> Result<()> {
    let code = Code::ALL.iter().find(|code| code.to_string().eq_ignore_ascii_case(word));
    let code = code.ok_or_else(|| Error::Usage(format!("`{word}` is not a code; codes look like F0805")))?;
    print(&format!("{code}: {}\n", code.meaning()));
    Ok(())
}

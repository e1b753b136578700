//! The trainer's log: every event as a JSON line in a file, and on standard output for people or for a program.

use std::fs::{File, TryLockError};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use finch_core::training::{Eval, Event, TaskLoss};

use crate::error::{Error, Result};

/// How standard output speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Voice {
    /// Lines for people.
    Words,
    /// JSON lines.
    Json,
}

/// Where events go.
pub struct Log {
    file: File,
    path: PathBuf,
    voice: Voice,
}

impl Log {
    /// Opens a log for appending: a resumed training goes on in the same file. It is held until the process ends, so
    /// that two trainings never share a folder.
    pub fn open(path: &Path, voice: Voice) -> Result<Self> {
        let options = File::options().read(true).create(true).append(true).open(path);
        let mut file = options.map_err(Error::io("open", path))?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let place = path.parent().unwrap_or(path).display();
                return Err(Error::Usage(format!("another finch-train is at work in `{place}`")));
            }
            Err(TryLockError::Error(source)) => return Err(Error::io("lock", path)(source)),
        }
        // Whoever was killed, or ran out of space, may have left half a line.
        if !ends_a_line(&mut file).map_err(Error::io("read", path))? {
            file.write_all(b"\n").map_err(Error::io("write", path))?;
        }
        Ok(Self { file, path: path.to_path_buf(), voice })
    }

    /// Adds an event, and says it.
    pub fn event(&mut self, event: &Event) -> Result<()> {
        let mut line = serde_json::to_string(event)
            .map_err(|source| Error::io("write", &self.path)(std::io::Error::other(source)))?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(Error::io("write", &self.path))?;
        match self.voice {
            Voice::Json => say(&line),
            Voice::Words => say(&words(event)),
        }
        Ok(())
    }
}

/// Whether a file is empty or ends with a line's end.
fn ends_a_line(file: &mut File) -> std::io::Result<bool> {
    if file.metadata()?.len() == 0 {
        return Ok(true);
    }
    file.seek(SeekFrom::End(-1))?;
    let mut last = [0];
    file.read_exact(&mut last)?;
    Ok(last == *b"\n")
}

/// Says on standard error what a person should know although the training goes on.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "warning: {text}");
}

/// Writes to standard output. A reader that has gone away is no error: the log has everything.
pub fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// An event in words.
fn words(event: &Event) -> String {
    match event {
        Event::Start(start) => {
            let environment = &start.environment;
            let resumed =
                start.resumed_from.map(|step| format!(", resumed after step {step}")).unwrap_or_default();
            format!(
                "start  {:.2} M parameters on {} ({}, {} threads), libtorch {}{resumed}\n       \
                 {} examples in {} packs, {} tokens, {} of them trained; {} steps\n",
                start.parameters as f64 / 1e6,
                environment.device,
                environment.device_name,
                environment.threads,
                environment.versions.get("libtorch").map_or("?", String::as_str),
                start.train.examples,
                start.train.packs,
                start.train.tokens,
                start.train.trained_tokens,
                start.steps
            )
        }
        Event::Eval(eval) => {
            format!("eval   step {}: held-out loss {:.4}\n{}", eval.step, eval.loss, by_task(eval))
        }
        Event::Step(step) => format!(
            "step   {:>5}  loss {:.4}  grad {:.3}  lr {:.2e}  {:.0} tokens/s\n",
            step.step, step.loss, step.grad_norm, step.lr, step.tokens_per_second
        ),
        Event::Checkpoint { step, path } => {
            format!("saved  checkpoint of step {step} in {path}\n")
        }
        Event::Finish(finish) if finish.already => {
            format!("done   all {} steps were done before; weights {}\n", finish.step, finish.weights.short())
        }
        Event::Finish(finish) => format!(
            "done   {} steps in {:.1} s, {} tokens seen, {:.0} MiB at most; weights {}\n",
            finish.step,
            finish.seconds,
            finish.tokens_seen,
            finish.memory as f64 / (1 << 20) as f64,
            finish.weights.short()
        ),
        Event::Error(_) => String::new(),
    }
}

/// The losses of tasks in words, one a line.
pub fn by_task(eval: &Eval) -> String {
    let line = |task: &TaskLoss| {
        let TaskLoss { split, task, loss, examples, tokens } = task;
        // Names come from logs.
        let task = task.escape_debug().to_string();
        format!("       {split:<10} {task:<28} {loss:.4}  ({examples} examples, {tokens} tokens)\n")
    };
    eval.tasks.iter().map(line).collect()
}

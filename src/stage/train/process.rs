//! The trainer's process: its lines as they come, and what its end means.
//!
//! It gets a process group of its own, with its launcher where there is one. A signal to finch is passed on to the whole
//! group, so a launcher's shell does not swallow it, and finch waits for the checkpoint. When finch gives up, the trainer is killed. When finch itself is killed, a trainer on this
//! machine ends after a checkpoint, because the system tells it; whatever still runs holds the work folder.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use finch_core::training::{Event, Failure, Finish, STARTER, Start};
use rustix::process::{Pid, kill_process_group};

use super::Context;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::interrupt::{Interrupt, Signal};

/// Lines that are remembered of what the trainer said in words.
const LAST_WORDS: usize = 20;

/// A training that came to its end.
pub(super) struct Done {
    pub(super) start: Start,
    pub(super) finish: Finish,
}

/// What was heard of a training.
#[derive(Default)]
struct Heard {
    start: Option<Start>,
    finish: Option<Finish>,
    failure: Option<Failure>,
    /// The step of the last checkpoint.
    checkpoint: Option<u64>,
    /// Lines that were no events, the newest last.
    words: VecDeque<String>,
}

/// A child that is killed when nobody waits for it any more.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.0.try_wait(), Ok(None)) {
            // With the group's leader goes the group: a launcher's trainer must not stay behind.
            let _ = kill_process_group(Pid::from_child(&self.0), rustix::process::Signal::KILL);
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }
}

/// Runs a training to its end.
pub(super) fn train(
    context: &Context<'_>,
    command: &[OsString],
    work: &Path,
    out: &Path,
    lock: &File,
) -> Result<Done> {
    let (heard, status) = listen(context, command, lock)?;
    judge(context, heard, status, work, out)
}

fn listen(context: &Context<'_>, command: &[OsString], lock: &File) -> Result<(Heard, ExitStatus)> {
    let (program, arguments) = command
        .split_first()
        .ok_or_else(|| context.error(Code::NoTrainer, "the launcher names no program", None))?;
    let name = program.to_string_lossy().into_owned();
    let lost = |source: std::io::Error| context.error(Code::TrainerDied, format!("`{name}`: {source}"), None);
    let input = lock.try_clone().map_err(lost)?;
    let child = Command::new(program)
        .args(arguments)
        .stdin(input)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .env(STARTER, std::process::id().to_string())
        .process_group(0)
        .spawn()
        .map_err(|source| {
            let reason = format!("`{name}` cannot be started: {source}");
            context.error(
                Code::NoTrainer,
                reason,
                Some("see `launcher` in the train stage, and `FINCH_TRAIN`"),
            )
        })?;
    let mut child = Running(child);
    let (events, words) = (child.0.stdout.take(), child.0.stderr.take());
    let (stage, progress) = (&context.stage.name, context.progress);
    let mut heard = Heard::default();
    let (pid, interrupt) = (Pid::from_child(&child.0), context.interrupt);
    let (listens, ended) = channel();
    std::thread::scope(|scope| {
        // It may not be waited for before this thread has ended: its number is its own until then.
        scope.spawn(move || pass_on_signals(pid, interrupt, &ended));
        let listening = scope.spawn(move || {
            let mut last = VecDeque::new();
            each_line(words, |line| {
                progress.output(stage, line);
                remember(&mut last, line);
            });
            last
        });
        let mut shown = progress.training(stage);
        each_line(events, |line| match serde_json::from_str::<Event>(line) {
            Ok(event) => {
                shown.event(&event);
                heard.event(event);
            }
            Err(_) => {
                progress.output(stage, line);
                remember(&mut heard.words, line);
            }
        });
        for line in listening.join().unwrap_or_default() {
            remember(&mut heard.words, &line);
        }
        drop(listens);
    });
    let status = child.0.wait().map_err(lost)?;
    Ok((heard, status))
}

/// Tells a trainer to stop when somebody told finch to, until nobody `listens` to it any more.
fn pass_on_signals(trainer: Pid, interrupt: &Interrupt, ended: &Receiver<()>) {
    let pause = Duration::from_millis(50);
    while ended.recv_timeout(pause) == Err(RecvTimeoutError::Timeout) {
        if let Some(signal) = interrupt.asked() {
            let same = match signal {
                Signal::Hangup => rustix::process::Signal::HUP,
                Signal::Interrupt => rustix::process::Signal::INT,
                Signal::Terminate => rustix::process::Signal::TERM,
            };
            // One that has ended already needs no telling.
            let _ = kill_process_group(trainer, same);
            let _ = ended.recv();
            return;
        }
    }
}

/// Hands over lines without their ends; bytes that are no text are replaced. A reader that fails has ended.
fn each_line(reader: Option<impl Read>, mut take: impl FnMut(&str)) {
    let Some(reader) = reader else { return };
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while let Ok(1..) = reader.read_until(b'\n', &mut line) {
        take(String::from_utf8_lossy(&line).trim_end());
        line.clear();
    }
}

fn remember(words: &mut VecDeque<String>, line: &str) {
    if line.is_empty() {
        return;
    }
    if words.len() == LAST_WORDS {
        words.pop_front();
    }
    words.push_back(line.chars().take(500).collect());
}

impl Heard {
    fn event(&mut self, event: Event) {
        match event {
            Event::Start(start) => self.start = Some(start),
            Event::Finish(finish) => self.finish = Some(finish),
            Event::Error(failure) => self.failure = Some(failure),
            Event::Checkpoint { step, .. } => self.checkpoint = Some(step),
            Event::Eval(_) | Event::Step(_) | Event::Skipped(_) => {}
        }
    }
}

/// What the end of the process means.
fn judge(context: &Context<'_>, heard: Heard, status: ExitStatus, work: &Path, out: &Path) -> Result<Done> {
    if let Some(signal) = context.interrupt.asked() {
        let stage = &context.stage.name;
        let (reason, hint) = match heard.failure {
            Some(failure) => (format!("stage `{stage}`: {}", failure.message), failure.hint),
            None => {
                let hint = format!("run the same command again: it {}", goes_on(heard.checkpoint, out));
                (format!("stage `{stage}`: stopped by {}", signal.name()), Some(hint))
            }
        };
        return Err(Error::Interrupted { signal, reason, hint });
    }
    if let Some(failure) = heard.failure {
        return Err(Error::Stage {
            stage: context.stage.name.clone(),
            reason: failure.message,
            code: Code::named(&failure.code).unwrap_or(Code::TrainerDied),
            hint: failure.hint,
        });
    }
    if let (true, Some(start), Some(finish)) = (status.success(), heard.start, heard.finish) {
        return Ok(Done { start, finish });
    }
    // 128 and the number of SIGHUP, SIGINT or SIGTERM: the trainer caught it and ended on purpose.
    let code = match status.code() {
        Some(129 | 130 | 143) => Code::Stopped,
        // The loader's own: a library is missing or damaged.
        Some(127) => Code::NoLibtorch,
        _ => Code::TrainerDied,
    };
    let mut reason = match (status.signal(), status.code()) {
        (Some(signal), _) => format!("the trainer was killed by {}", signal_words(signal)),
        (None, Some(0)) => "the trainer ended without a word of its success".to_owned(),
        (None, Some(129 | 130 | 143)) => "the trainer was stopped by a signal".to_owned(),
        (None, Some(127)) => "the trainer or a library that it needs cannot be loaded".to_owned(),
        (None, code) => format!("the trainer ended with exit code {}", code.unwrap_or(-1)),
    };
    if !heard.words.is_empty() {
        reason += "; its last words:";
        for line in &heard.words {
            reason += &format!("\n  {line}");
        }
    }
    if code == Code::NoLibtorch {
        let hint =
            "see `launcher` in the train stage, and `python3 scripts/libtorch.py`, which sets up libtorch";
        return Err(context.error(code, reason, Some(hint)));
    }
    let from = goes_on(heard.checkpoint, out);
    let hint = format!("run the same command again: it {from}; config and log are in `{}`", work.display());
    Err(context.error(code, reason, Some(&hint)))
}

/// What the next attempt will do, in words.
fn goes_on(checkpoint: Option<u64>, out: &Path) -> String {
    match checkpoint.or_else(|| last_checkpoint(out)) {
        Some(step) => format!("resumes after step {step}"),
        None => "starts from the beginning, because there is no checkpoint".to_owned(),
    }
}

fn signal_words(signal: i32) -> String {
    let name = match signal {
        2 => " (SIGINT)",
        6 => " (SIGABRT)",
        7 => " (SIGBUS)",
        9 => " (SIGKILL, which the system sends when memory runs out)",
        11 => " (SIGSEGV)",
        15 => " (SIGTERM)",
        _ => "",
    };
    format!("signal {signal}{name}")
}

/// The step of the newest checkpoint on disk, by the number that its folder's name ends with.
pub(super) fn last_checkpoint(out: &Path) -> Option<u64> {
    let entries = std::fs::read_dir(out.join("checkpoints")).ok()?;
    let step = |name: &str| {
        let digits = name.rfind(|c: char| !c.is_ascii_digit()).map_or(0, |at| at + 1);
        // A name that ends otherwise is one that is still being written.
        name.get(digits..)?.parse().ok()
    };
    entries.flatten().filter_map(|entry| step(&entry.file_name().to_string_lossy())).max()
}

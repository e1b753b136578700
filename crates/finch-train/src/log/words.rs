//! Events in words: one line each, or a few, that begin with a verb of six letters at most.
//!
//! What later lines need of earlier events is remembered here. Names and reasons come from logs, so control
//! characters are shown, never sent to a terminal.

use std::time::{Duration, Instant};

use finch_core::training::{Best, Eval, Event, Finish, Skipped, Start, Step};

/// The shortest time between two drawings of the progress.
const PAUSE: Duration = Duration::from_millis(100);

/// What was said of a training so far, as far as later lines need it.
#[derive(Default)]
pub(super) struct Words {
    /// Optimizer steps in all.
    steps: u64,
    /// The first step that this process counted, and when: what the rest is estimated from.
    began: Option<(u64, Instant)>,
    drawn: Option<Instant>,
    skipped: u64,
    /// Most memory of the device that a step reported.
    device_memory: Option<u64>,
    first: Option<Best>,
    last: Option<Best>,
    lowest: Option<Best>,
}

impl Words {
    /// An event in words.
    pub(super) fn lines(&mut self, event: &Event, now: Instant) -> String {
        match event {
            Event::Start(start) => {
                self.steps = start.steps;
                started(start)
            }
            Event::Eval(eval) => {
                self.remember(eval);
                let (tasks, outcomes) = (by_task(eval), by_outcome(eval));
                format!("eval   step {}: held-out loss {:.4}\n{tasks}{outcomes}", eval.step, eval.loss)
            }
            Event::Step(step) => {
                self.count(step, now);
                format!(
                    "step   {:>5}  loss {:.4}  grad {:.3}  lr {:.2e}  {:.0} tokens/s{}\n",
                    step.step,
                    step.loss,
                    step.grad_norm,
                    step.lr,
                    step.tokens_per_second,
                    utilisation(step)
                )
            }
            Event::Skipped(skipped) => {
                self.skipped += 1;
                let Skipped { step, reason, .. } = skipped;
                format!("SKIP   step {step} WAS NOT APPLIED: {}\n", plain(reason))
            }
            Event::Checkpoint { step, path } => {
                format!("saved  checkpoint of step {step} in {path}\n")
            }
            Event::Finish(finish) => self.finished(finish),
            // Whoever ends says it on standard error.
            Event::Error(_) => String::new(),
        }
    }

    /// Counts a step, whether or not it is shown.
    pub(super) fn count(&mut self, step: &Step, now: Instant) {
        self.began.get_or_insert((step.step, now));
        self.device_memory = self.device_memory.max(step.device_memory);
    }

    /// How far it is, when that is due: at the first step and the last, and some times a second.
    pub(super) fn progress(&mut self, step: &Step, now: Instant) -> Option<String> {
        let soon = self.drawn.is_some_and(|drawn| now.duration_since(drawn) < PAUSE);
        if soon && step.step != self.steps {
            return None;
        }
        self.drawn = Some(now);
        let (first, began) = self.began.unwrap_or((step.step, now));
        let done = step.step.saturating_sub(first);
        let left = self.steps.saturating_sub(step.step);
        let rest = match done > 0 && left > 0 {
            // With the evaluations and checkpoints that were between them.
            true => now.duration_since(began).as_secs_f64() / done as f64 * left as f64,
            false => 0.0,
        };
        let rest = if rest > 0.0 { format!("  {} left", time(rest)) } else { String::new() };
        let (count, steps, mfu) = (step.step, self.steps, utilisation(step));
        let width = steps.to_string().len();
        let rate = step.tokens_per_second;
        Some(format!("step   {count:>width$}/{steps}  loss {:.4}  {rate:.0} tokens/s{rest}{mfu}", step.loss))
    }

    fn remember(&mut self, eval: &Eval) {
        let this = Best { step: eval.step, loss: eval.loss };
        self.first.get_or_insert(this);
        self.last = Some(this);
        if self.lowest.is_none_or(|lowest| this.loss < lowest.loss) {
            self.lowest = Some(this);
        }
    }

    fn finished(&self, finish: &Finish) -> String {
        let weights = finish.weights.short();
        let after = |best: Best| format!("{:.4} after step {}", best.loss, best.step);
        if finish.already {
            let best = finish.best.map(|best| format!("       lowest held-out loss {}\n", after(best)));
            return format!(
                "done   all {} steps were done before; weights {weights}\n{}",
                finish.step,
                best.unwrap_or_default()
            );
        }
        let skipped = match self.skipped {
            0 => String::new(),
            skipped => format!(" ({skipped} NOT APPLIED)"),
        };
        let on_device =
            self.device_memory.map_or(String::new(), |bytes| format!(" and {} of the device", size(bytes)));
        let mut text = format!(
            "done   {} steps{skipped} in {}, weights {weights}\n       \
             {} tokens seen in this process, {:.0} tokens/s in the mean; {} of memory{on_device} at most\n",
            finish.step,
            time(finish.seconds),
            finish.tokens_seen,
            finish.tokens_seen as f64 / finish.seconds.max(1e-9),
            size(finish.memory),
        );
        if let (Some(first), Some(last)) = (self.first, self.last) {
            // The finish knows of evaluations before this process.
            let lowest = finish.best.or(self.lowest).unwrap_or(last);
            let last = if last.step == first.step { String::new() } else { format!(", {}", after(last)) };
            text += &format!("       held-out loss {}{last}; lowest {}\n", after(first), after(lowest));
        }
        text
    }
}

fn started(start: &Start) -> String {
    let environment = &start.environment;
    let device = environment.device.as_str();
    let mut text = format!(
        "start  {} on {device} ({}, {} threads), libtorch {}",
        parameters(start),
        environment.device_name,
        environment.threads,
        environment.versions.get("libtorch").map_or("?", String::as_str),
    );
    if let Some(driver) = &environment.driver {
        text += &format!(", driver {driver}");
    }
    if let Some(step) = start.resumed_from {
        text += &format!(", resumed after step {step}");
    }
    text += &format!(
        "\n       {} examples in {} packs, {} tokens, {} of them trained; {} steps\n",
        start.train.examples, start.train.packs, start.train.tokens, start.train.trained_tokens, start.steps
    );
    // On the processor that is how it is, and needs no line.
    if device.starts_with("cuda") {
        text += match environment.deterministic {
            true => "       deterministic: the same training on this machine gives the same weights\n",
            false => "       not deterministic: the same training may give slightly other weights\n",
        };
    }
    let kept = start.kept;
    if kept.lean + kept.inputs > 0 {
        let parts = [
            (kept.everything, "everything of"),
            (kept.lean, "the lean part of"),
            (kept.inputs, "the input of"),
        ];
        let parts = parts.into_iter().filter(|(layers, _)| *layers > 0);
        let parts: Vec<String> =
            parts.map(|(layers, what)| format!("{what} {}", layers_of(layers))).collect();
        text += &format!("       kept for the backward pass: {}\n", parts.join(", "));
    }
    if start.carried > 0 {
        text += &match start.carried {
            1 => "       1 tensor of the base is not read, and kept as it is\n".to_owned(),
            carried => format!("       {carried} tensors of the base are not read, and kept as they are\n"),
        };
    }
    if let Some(peak) = start.flops.peak_tflops {
        let source = start.flops.peak_source.as_deref().unwrap_or("of unknown source");
        text += &format!("       MFU of {peak} TFLOP/s ({source}), counted as {}\n", start.flops.convention);
    }
    text
}

/// How many weights there are, and how many are trained where that is another number.
fn parameters(start: &Start) -> String {
    let all = start.parameters as f64;
    if start.trainable == start.parameters {
        return format!("{:.2} M parameters", all / 1e6);
    }
    let (trained, share) = (start.trainable as f64, 100.0 * start.trainable as f64 / all.max(1.0));
    format!("{:.2} M parameters, {:.2} M trained ({share:.2} %),", all / 1e6, trained / 1e6)
}

fn layers_of(layers: u64) -> String {
    if layers == 1 { "1 layer".to_owned() } else { format!("{layers} layers") }
}

/// The share of the device's operations, where that is known.
fn utilisation(step: &Step) -> String {
    step.mfu.map_or(String::new(), |mfu| format!("  MFU {:.1} %", 100.0 * mfu))
}

/// The losses of tasks in words, one a line.
pub fn by_task(eval: &Eval) -> String {
    let line = |name: &str, split: &str, loss, examples, tokens| {
        measured(split, plain(name), loss, examples, tokens)
    };
    let tasks = eval.tasks.iter();
    tasks.map(|of| line(&of.task, &of.split, of.loss, of.examples, of.tokens)).collect()
}

/// The losses of outcomes in words, one a line.
pub fn by_outcome(eval: &Eval) -> String {
    let outcomes = eval.outcomes.iter();
    let line = |name: &str| format!("outcome {}", plain(name));
    outcomes.map(|of| measured(&of.split, line(&of.outcome), of.loss, of.examples, of.tokens)).collect()
}

fn measured(split: &str, what: String, loss: f64, examples: u64, tokens: u64) -> String {
    format!("       {split:<10} {what:<28} {loss:.4}  ({examples} examples, {tokens} tokens)\n")
}

/// A text from a log, with its control characters shown.
fn plain(text: &str) -> String {
    text.escape_debug().to_string()
}

/// Bytes for people.
fn size(bytes: u64) -> String {
    let mib = bytes as f64 / f64::from(1 << 20);
    if mib < 10_240.0 { format!("{mib:.0} MiB") } else { format!("{:.1} GiB", mib / 1024.0) }
}

/// Seconds for people: 4.2 s, 3 min 20 s, 2 h 5 min.
fn time(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        _ => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
    }
}

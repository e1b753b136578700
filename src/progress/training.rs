//! What a build says of a training: where it stands, about once a second.

use std::time::{Duration, Instant};

use finch_core::training::{Eval, Event, Finish, Start, Step};

use super::{Mode, Progress};

/// The shortest time between two lines about steps.
const PAUSE: Duration = Duration::from_secs(1);

/// The lines of one training.
pub struct TrainingLines<'a> {
    progress: &'a Progress,
    stage: &'a str,
    /// Optimizer steps in all.
    steps: u64,
    /// The first step that was heard of, and when: what the rest is estimated from.
    began: Option<(u64, Instant)>,
    shown: Option<Instant>,
}

impl<'a> TrainingLines<'a> {
    pub(super) fn new(progress: &'a Progress, stage: &'a str) -> Self {
        Self { progress, stage, steps: 0, began: None, shown: None }
    }

    /// Shows an event of the trainer.
    pub fn event(&mut self, record: &Event) {
        match self.progress.mode {
            Mode::Lines => {
                if let Some((verb, text)) = self.line(record, Instant::now()) {
                    self.progress.say(&format!("{verb:<6} {:<12} {text}", self.stage));
                }
            }
            Mode::Json => {
                self.progress
                    .event(&serde_json::json!({"event": "training", "stage": self.stage, "record": record}));
            }
            Mode::Quiet => {}
        }
    }

    /// A verb and what is said, when there is something to say now.
    fn line(&mut self, event: &Event, now: Instant) -> Option<(&'static str, String)> {
        match event {
            Event::Start(start) => {
                self.steps = start.steps;
                Some(("train", started(start)))
            }
            Event::Eval(eval) => Some(("eval", evaluated(eval))),
            Event::Step(step) => {
                let (first, began) = *self.began.get_or_insert((step.step, now));
                let ends = step.step == first || step.step == self.steps;
                if !ends && self.shown.is_some_and(|shown| now.duration_since(shown) < PAUSE) {
                    return None;
                }
                self.shown = Some(now);
                let done = step.step.saturating_sub(first);
                let left = self.steps.saturating_sub(step.step);
                let rest = now.duration_since(began).as_secs_f64() / done.max(1) as f64 * left as f64;
                Some(("step", stepped(step, self.steps, (done > 0 && left > 0).then_some(rest))))
            }
            Event::Skipped(skipped) => {
                Some(("warn", format!("step {} is left out: {}", skipped.step, skipped.reason)))
            }
            Event::Checkpoint { step, .. } => Some(("saved", format!("a checkpoint after step {step}"))),
            Event::Finish(finish) if finish.already => Some((
                "model",
                format!(
                    "weights {} after {} steps that were done before",
                    finish.weights.short(),
                    finish.step
                ),
            )),
            Event::Finish(finish) => Some((
                "model",
                format!(
                    "weights {} after {} steps, {}, {} tokens through the model{}",
                    finish.weights.short(),
                    finish.step,
                    duration(finish.seconds),
                    count(finish.tokens_seen),
                    best_before(finish)
                ),
            )),
            // The build ends with it, and says so.
            Event::Error(_) => None,
        }
    }
}

/// Which step was better than the last one, by the loss on what is held out.
fn best_before(finish: &Finish) -> String {
    let earlier = finish.best.filter(|best| best.step < finish.step);
    earlier.map_or(String::new(), |best| {
        format!("; the held-out loss was lowest after step {}, {:.4}", best.step, best.loss)
    })
}

fn started(start: &Start) -> String {
    let device = &start.environment;
    let from = start.resumed_from.map_or(String::new(), |step| format!("resumed after step {step}; "));
    let held_out = match start.held_out.examples {
        0 => "nothing held out".to_owned(),
        examples => format!("{examples} examples held out"),
    };
    let weights = match start.trainable == start.parameters {
        true => count(start.parameters),
        false => format!("{} of {}", count(start.trainable), count(start.parameters)),
    };
    format!(
        "{from}{weights} weights, {} steps over {} examples ({} tokens, {} of them trained), {held_out}; {} ({}), {} threads",
        start.steps,
        start.train.examples,
        count(start.train.tokens),
        count(start.train.trained_tokens),
        device.device,
        device.device_name,
        device.threads
    )
}

fn evaluated(eval: &Eval) -> String {
    let examples: u64 = eval.tasks.iter().map(|task| task.examples).sum();
    format!("held-out loss {:.4} after step {}, {examples} examples", eval.loss, eval.step)
}

fn stepped(step: &Step, steps: u64, rest: Option<f64>) -> String {
    let eta = rest.map_or(String::new(), |rest| format!("  {} left", duration(rest)));
    format!(
        "{}/{steps}  loss {:.4}  lr {:.2e}  {} tokens/s{eta}",
        step.step,
        step.loss,
        step.lr,
        count(step.tokens_per_second as u64)
    )
}

/// A number for people: 950, 12.3k, 1.06M.
fn count(number: u64) -> String {
    match number {
        0..1000 => number.to_string(),
        1000..1_000_000 => format!("{:.1}k", number as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.2}M", number as f64 / 1e6),
        _ => format!("{:.2}G", number as f64 / 1e9),
    }
}

/// Seconds for people: 42 s, 3 min 20 s, 2 h 5 min.
fn duration(seconds: f64) -> String {
    let seconds = seconds.round() as u64;
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3600, seconds % 3600 / 60),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use finch_core::Digest;
    use finch_core::training::{Best, Skipped};

    use super::*;

    fn step(step: u64) -> Event {
        Event::Step(Step {
            step,
            epoch: 0,
            loss: 2.5,
            grad_norm: 1.0,
            lr: 1e-3,
            examples: 4,
            tokens: 1000,
            trained_tokens: 100,
            batch: Digest::of_bytes(b"batch"),
            tokens_per_second: 12_345.0,
            tflops: 0.0,
            mfu: None,
            phase_ms: BTreeMap::new(),
            memory: 0,
            device_memory: None,
        })
    }

    #[test]
    fn steps_are_shown_first_last_and_once_a_second() {
        let quiet = Progress::quiet();
        let mut lines = TrainingLines::new(&quiet, "model");
        lines.steps = 100;
        let start = Instant::now();
        let mut shown = Vec::new();
        for n in 1..=100 {
            let now = start + Duration::from_millis(100 * n);
            shown.extend(lines.line(&step(n), now).map(|(_, text)| (n, text)));
        }
        let steps: Vec<u64> = shown.iter().map(|(n, _)| *n).collect();
        assert_eq!(steps, [1, 11, 21, 31, 41, 51, 61, 71, 81, 91, 100]);
        assert_eq!(shown[1].1, "11/100  loss 2.5000  lr 1.00e-3  12.3k tokens/s  9 s left");
        assert_eq!(shown[10].1, "100/100  loss 2.5000  lr 1.00e-3  12.3k tokens/s");
    }

    #[test]
    fn a_step_that_is_left_out_is_a_warning_whenever_it_comes() {
        let quiet = Progress::quiet();
        let mut lines = TrainingLines::new(&quiet, "model");
        let now = Instant::now();
        lines.line(&step(1), now);
        for n in [2, 3] {
            let skipped = Skipped {
                step: n,
                epoch: 0,
                reason: "the loss is NaN".to_owned(),
                batch: Digest::of_bytes(b"batch"),
            };
            let said = lines.line(&Event::Skipped(skipped), now);
            assert_eq!(said, Some(("warn", format!("step {n} is left out: the loss is NaN"))));
        }
    }

    #[test]
    fn an_evaluation_before_the_last_that_was_better_is_named() {
        let finish = |best| Finish {
            step: 40,
            weights: Digest::of_bytes(b"weights"),
            best,
            seconds: 1.0,
            tokens_seen: 1,
            memory: 1,
            already: false,
        };
        let words = "; the held-out loss was lowest after step 30, 1.2500";
        assert_eq!(best_before(&finish(Some(Best { step: 30, loss: 1.25 }))), words);
        assert_eq!(best_before(&finish(Some(Best { step: 40, loss: 1.25 }))), "");
        assert_eq!(best_before(&finish(None)), "");
    }

    #[test]
    fn numbers_are_short() {
        assert_eq!([count(950), count(12_345), count(1_064_192)], ["950", "12.3k", "1.06M"]);
        assert_eq!([duration(42.4), duration(200.0), duration(7500.0)], ["42 s", "3 min 20 s", "2 h 5 min"]);
    }
}

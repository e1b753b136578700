//! What the trainer says while it works: one JSON object a line, on standard output and in its log.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Digest;

/// One line of the trainer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// The data and the model are there; training begins.
    Start(Start),
    /// Held-out losses.
    Eval(Eval),
    /// One optimizer step.
    Step(Step),
    /// A step that was not applied, because its loss or gradient is no finite number.
    Skipped(Skipped),
    /// A checkpoint to resume from is on disk.
    Checkpoint {
        /// Steps done.
        step: u64,
        /// Its folder, for people: bytes that are no text are replaced.
        path: String,
    },
    /// Training is done and the model is written.
    Finish(Finish),
    /// Training failed.
    Error(Failure),
}

/// The first event: what will be done with what.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Start {
    /// Versions and device.
    pub environment: Environment,
    /// Weights in the model; a tied head counts once.
    pub parameters: u64,
    /// Weights that are trained: all, or those of adapters.
    pub trainable: u64,
    /// Tensors of the base that no formula of the model reads; the finished model holds them as they are.
    #[serde(default)]
    pub carried: u64,
    /// What is kept for the backward pass.
    #[serde(default)]
    pub kept: Kept,
    /// How operations are counted.
    #[serde(default)]
    pub flops: Flops,
    /// Optimizer steps in all.
    pub steps: u64,
    /// The step that a checkpoint was resumed after, when one was.
    pub resumed_from: Option<u64>,
    /// The `rows` digest of the table of packs.
    pub data: Digest,
    /// What there is to train on.
    pub train: Totals,
    /// What of it the steps reach, each pack counted once.
    pub reached: Totals,
    /// What is held out and will be evaluated.
    pub held_out: Totals,
}

/// How much of which layers is kept for the backward pass; see [`super::Activations`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Kept {
    /// Layers of which everything is kept.
    pub everything: u64,
    /// Layers of which the lean part is kept.
    pub lean: u64,
    /// Layers of which the input is kept.
    pub inputs: u64,
}

/// The convention by which `tflops` and `mfu` of a [`Step`] are counted.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Flops {
    /// The formula, in words.
    pub convention: String,
    /// Operations a second that the device is taken to be able to do, in 10^12; none where nobody measured it.
    pub peak_tflops: Option<f64>,
    /// Whose figure that is.
    pub peak_source: Option<String>,
}

/// What the weights depend on besides parameters and data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Environment {
    /// Versions of `finch-train`, `libtorch`, `tch`.
    pub versions: BTreeMap<String, String>,
    /// `cpu` or `cuda:0`.
    pub device: String,
    /// The processor's or the card's name.
    pub device_name: String,
    /// libtorch's threads.
    pub threads: u32,
    /// NVIDIA's driver, where a card is used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Whether the same training on the same machine gives the same weights, bit for bit.
    #[serde(default)]
    pub deterministic: bool,
}

/// Sums over packs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Totals {
    /// Packs.
    pub packs: u64,
    /// Examples.
    pub examples: u64,
    /// Tokens.
    pub tokens: u64,
    /// Tokens that count in the loss.
    pub trained_tokens: u64,
}

/// Held-out losses at one point of training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Eval {
    /// Steps done.
    pub step: u64,
    /// Mean over all trained tokens, in nats.
    pub loss: f64,
    /// The same by task, in the order of names.
    pub tasks: Vec<TaskLoss>,
    /// The same by outcome of the step that the example is of, in the order of names; empty where nothing labelled it.
    #[serde(default)]
    pub outcomes: Vec<OutcomeLoss>,
    /// Wall time.
    pub seconds: f64,
}

/// The held-out loss of one task.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct TaskLoss {
    /// The task.
    pub task: String,
    /// `test` or `validation`.
    pub split: String,
    /// Mean over the task's trained tokens, in nats.
    pub loss: f64,
    /// Examples evaluated.
    pub examples: u64,
    /// Trained tokens evaluated.
    pub tokens: u64,
}

/// The held-out loss of one outcome.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OutcomeLoss {
    /// The outcome, such as `improvement`.
    pub outcome: String,
    /// `test` or `validation`.
    pub split: String,
    /// Mean over the trained tokens of its examples, in nats.
    pub loss: f64,
    /// Examples evaluated.
    pub examples: u64,
    /// Trained tokens evaluated.
    pub tokens: u64,
}

/// A step that was not applied.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Skipped {
    /// The step, from 1.
    pub step: u64,
    /// The pass over the training packs, from 0.
    pub epoch: u64,
    /// What is not finite, where it shows first, and with which examples.
    pub reason: String,
    /// Digest of the example ids in their order.
    pub batch: Digest,
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Step {
    /// The step, from 1.
    pub step: u64,
    /// The pass over the training packs, from 0.
    pub epoch: u64,
    /// Mean over the step's trained tokens, before the update, in nats.
    pub loss: f64,
    /// Global norm of the gradient before clipping.
    pub grad_norm: f64,
    /// The learning rate of this step.
    pub lr: f64,
    /// Examples.
    pub examples: u64,
    /// Tokens.
    pub tokens: u64,
    /// Tokens in the loss.
    pub trained_tokens: u64,
    /// Digest of the example ids in their order.
    pub batch: Digest,
    /// Tokens per second, of this step.
    pub tokens_per_second: f64,
    /// Operations a second that the model needs, in 10^12, by the convention of [`Flops`]; what is computed again does
    /// not count.
    #[serde(default)]
    pub tflops: f64,
    /// The same, as a fraction of the device's; none where that is unknown.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mfu: Option<f64>,
    /// Wall time by phase, in milliseconds: `data`, `forward`, `head`, `backward`, `optimizer`.
    pub phase_ms: BTreeMap<String, f64>,
    /// Peak resident memory of the process, in bytes.
    pub memory: u64,
    /// Memory of the device that is in use after the step, libtorch's reserve included, in bytes; none on the CPU.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device_memory: Option<u64>,
}

/// The last event of a training that succeeded.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Finish {
    /// Steps done.
    pub step: u64,
    /// The digest of the model's weights: see [`super::digest_of_weights`].
    pub weights: Digest,
    /// The lowest held-out loss, and the steps after which it was measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Best>,
    /// Wall time of this process, start to end.
    pub seconds: f64,
    /// Tokens that went through the model in this process, evaluation included.
    pub tokens_seen: u64,
    /// Peak resident memory of the process, in bytes.
    pub memory: u64,
    /// Set when all of it was done by an earlier process, whose figures these are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub already: bool,
}

/// The evaluation with the lowest held-out loss.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Best {
    /// Steps done.
    pub step: u64,
    /// The loss, in nats.
    pub loss: f64,
}

/// The last event of a training that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Failure {
    /// The stable code, such as `F0805`.
    pub code: String,
    /// What happened.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    /// The exit code that follows.
    pub exit: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_tagged_line() {
        let event = Event::Checkpoint { step: 4, path: "out/step-4".into() };
        let line = serde_json::to_string(&event).expect("json");
        assert_eq!(line, r#"{"event":"checkpoint","step":4,"path":"out/step-4"}"#);
        assert_eq!(serde_json::from_str::<Event>(&line).expect("event"), event);
    }
}

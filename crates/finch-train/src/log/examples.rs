//! Events for tests.

use std::collections::BTreeMap;

use finch_core::Digest;
use finch_core::training::{Environment, Eval, Flops, Kept, Start, Step, TaskLoss, Totals};

/// A training of four steps on the processor.
pub(crate) fn start() -> Start {
    let train = Totals { packs: 3, examples: 12, tokens: 3000, trained_tokens: 900 };
    Start {
        environment: Environment {
            versions: BTreeMap::from([("libtorch".to_owned(), "2.11.0".to_owned())]),
            device: "cpu".to_owned(),
            device_name: "a processor".to_owned(),
            threads: 2,
            driver: None,
            deterministic: true,
        },
        parameters: 1_500_000,
        trainable: 1_500_000,
        carried: 0,
        kept: Kept { everything: 4, lean: 0, inputs: 0 },
        flops: Flops { convention: "6 a weight and token".to_owned(), peak_tflops: None, peak_source: None },
        steps: 4,
        resumed_from: None,
        data: Digest::of_bytes(b"data"),
        train,
        reached: train,
        held_out: Totals::default(),
    }
}

/// A step without anything that only a card has.
pub(crate) fn step(step: u64) -> Step {
    Step {
        step,
        epoch: 0,
        loss: 2.5,
        grad_norm: 1.5,
        lr: 1e-3,
        examples: 4,
        tokens: 1000,
        trained_tokens: 100,
        batch: Digest::of_bytes(b"batch"),
        tokens_per_second: 12_345.0,
        tflops: 3.25,
        mfu: None,
        phase_ms: BTreeMap::from([("forward".to_owned(), 12.5)]),
        memory: 1 << 30,
        device_memory: None,
    }
}

/// An evaluation of one task.
pub(crate) fn eval(step: u64, loss: f64) -> Eval {
    let task =
        TaskLoss { task: "circle".to_owned(), split: "test".to_owned(), loss, examples: 3, tokens: 300 };
    Eval { step, loss, tasks: vec![task], outcomes: Vec::new(), seconds: 0.5 }
}

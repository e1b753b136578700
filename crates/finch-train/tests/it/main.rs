//! finch-train as its users meet it, and its parts against `transformers`.

// Tests say what they skipped and what they measured.
#![allow(clippy::print_stdout)]

mod bad_input;
mod dataset;
#[cfg(feature = "torch")]
mod forms;
#[cfg(feature = "torch")]
mod limits;
mod plan;
#[cfg(feature = "torch")]
mod sums;
#[cfg(feature = "torch")]
mod training;

/// What is not tested without libtorch says so.
#[cfg(not(feature = "torch"))]
#[test]
fn training_is_tested_with_the_feature_torch() {
    println!("SKIPPED: training, evaluation and parity need `--features torch` and libtorch");
}

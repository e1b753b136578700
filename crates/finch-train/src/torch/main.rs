//! `finch-train-torch`: everything that names libtorch. The model, its loss and gradients, the optimizer, checkpoints,
//! the loop. `finch-train` starts it, once it has found a libtorch; nothing else should.
//!
//! It is a program and not a part of the library, because whatever links the library would otherwise need libtorch to
//! start, if only to say that there is none.
//!
//! tch's operators panic where libtorch refuses (out of memory, a shape that does not fit). Writing `?` behind
//! every addition would bury the formulas, so the operators are used as they are, and [`guarded`] is the one place
//! that turns a refusal into an error. Nothing else here may panic.

mod attention;
mod bench;
mod check;
mod checkpoint;
mod device;
mod dispatch;
mod evaluation;
mod export;
mod finished;
mod layer;
mod linear;
mod loss;
mod mlp;
mod model;
mod norm;
mod optimizer;
mod parameters;
mod publish;
mod reference;
mod segments;
mod self_attention;
mod split;
mod step;
mod stop;
mod tensors;
mod training;
mod weights;

#[cfg(test)]
mod gradients;
#[cfg(test)]
mod parity;

use std::process::ExitCode;

use finch_train::budget::Level;
use finch_train::cli::{self, Command};
use finch_train::{Error, Result};

use evaluation::measure;
use model::Model;
use optimizer::AdamW;
use segments::Segments;

fn main() -> ExitCode {
    cli::start(|command| match command {
        Command::Run(command) => guarded(|| training::run(command)),
        Command::Eval(command) => guarded(|| evaluation::run(command)),
        Command::Export(command) => guarded(|| export::run(command)),
        Command::Check(command) => guarded(|| check::run(command)),
        Command::Bench(command) => guarded(|| bench::run(command)),
        _ => Err(Error::Usage("this is a part of finch-train, which starts it".to_owned())),
    })
}

/// Runs with libtorch's refusals turned into errors. The process must end soon after one: libtorch's modes are not
/// restored.
fn guarded<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    let speak = std::panic::take_hook();
    // The panic's text becomes the error; printing it here would say it twice.
    std::panic::set_hook(Box::new(|_| {}));
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
    std::panic::set_hook(speak);
    result.unwrap_or_else(|payload| {
        let text = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("an operation failed without a word");
        Err(Error::Torch(first_sentence(text)))
    })
}

/// libtorch appends a C++ backtrace to its messages; the first line says what happened.
fn first_sentence(text: &str) -> String {
    let inner = text.split_once("Torch(\"").map_or(text, |(_, inner)| inner);
    inner.split("\\n").next().unwrap_or(inner).lines().next().unwrap_or(inner).to_owned()
}

/// libtorch's refusal as an error of ours; shaped for `map_err(torch)`.
pub(crate) fn torch(source: tch::TchError) -> Error {
    Error::Torch(first_sentence(&source.to_string()))
}

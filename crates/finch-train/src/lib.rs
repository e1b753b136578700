//! `finch-train` fine-tunes language models on the packs that finch makes, with libtorch.
//!
//! It reads a folder of packed shards with its manifest and a config, and nothing else: a GPU node needs this
//! program and libtorch, not finch. Two executables share this library. `finch-train` reads arguments, plans,
//! inspects, and finds libtorch; `finch-train-torch` (the folder `torch`, built with the feature of that name) is what
//! it then becomes, so that a missing library is an error message and not the loader's last word. Nothing in the
//! library names tch.

pub mod architecture;
pub mod batch;
pub mod budget;
pub mod cli;
pub mod config;
pub mod error;
pub mod flops;
pub mod held_out;
pub mod inspect;
pub mod libtorch;
pub mod log;
pub mod losses;
pub mod packs;
pub mod schedule;
pub mod sequence;
pub mod synthetic;
pub mod tensorboard;
pub mod tokenizer;

pub use error::{Error, Result};

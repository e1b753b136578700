//! finch as its users meet it: the real binary, in a temporary folder.

// Tests say what they skipped and what they measured.
#![allow(clippy::print_stdout)]

mod bad_input;
mod datasets;
mod demo;
mod diff;
mod faults;
mod gc;
mod house;
mod incremental;
mod meta;
mod pack;
mod project;
mod query;
mod real_logs;
mod regressions;
mod semantics;
mod show;
mod spec_errors;
mod split;
mod train;
mod train_spec;
mod training;
mod verify;

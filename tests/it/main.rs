//! finch as its users meet it: the real binary, in a temporary folder.

mod bad_input;
mod datasets;
mod demo;
mod house;
mod project;
mod query;
mod real_logs;
mod regressions;
mod semantics;
mod spec_errors;
mod split;
mod verify;

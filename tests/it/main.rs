//! finch as its users meet it: the real binary, in a temporary folder.

// Tests say what they skipped and what they measured.
#![allow(clippy::print_stdout)]

mod bad_input;
mod bad_specs;
mod balance;
mod data_tests;
mod datasets;
mod dedup;
mod demo;
mod diff;
mod faults;
mod fuzzed;
mod gc;
mod golden;
mod house;
mod incremental;
mod label;
mod leaks;
mod meta;
mod mutations;
mod pack;
mod pickles;
mod pipelines;
mod project;
mod query;
mod real_logs;
mod regressions;
mod remote;
mod remote_errors;
mod remote_sources;
#[path = "../s3/server.rs"]
mod s3;
mod scaffolds;
mod schemas;
mod semantics;
mod show;
mod spec_errors;
mod split;
mod train;
mod train_spec;
mod trained;
mod training;
mod verify;

//! Task identity by evidence: which tasks look like one problem under several names.
//!
//! A task is known by what its programs have in common, its initial program, its prompts, the metrics that its evaluator
//! reports and the range of its scores (`profile`). Two tasks are compared in all of these (`evidence`). What follows is
//! a proposal for a person: nothing is merged by it.

mod evidence;
mod profile;

pub use evidence::{Evidence, Weights};
pub use profile::{Profile, Sampled, words};

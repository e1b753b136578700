//! Reading logs: from folders of files to candidates that belong to runs.
//!
//! Four steps, each its own module. `discover` walks the sources, `recognise`s files by their content and groups them
//! into units, the folders that one scaffold wrote. The readers in `scaffold`, or a `mapping`, turn a log into records,
//! one per mention of a candidate, with long texts already moved to the `scratch`. `unite` finds out which records
//! speak of one candidate and which candidates form a run; it works on ids and scalars only. `assess` decides validity
//! and score. The stage then writes tables. `stat` and `parsed` remember digests and records, so that only what changed
//! is read again.
//!
//! Logs are hostile: nothing in them is executed, unpickled, or used as a path to write to.

pub mod archive;
pub mod assess;
mod config;
pub mod discover;
pub mod format;
pub mod json;
pub mod language;
mod lines;
pub mod mapping;
mod open;
pub mod parsed;
pub mod pickle;
pub mod prompt;
pub mod recognise;
pub mod record;
mod scaffold;
pub mod scratch;
pub mod shape;
mod sqlite;
pub mod stat;
pub mod unite;

pub use discover::{Discovery, LogFile, Tally, Unit};
pub use format::Format;
pub use parsed::Parsed;
pub use record::{Attempt, FileLog, Quarantined, Record};
pub(crate) use scaffold::replayed;
pub use scratch::Scratch;
pub use stat::Stats;

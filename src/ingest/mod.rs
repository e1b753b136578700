//! Reading logs: from folders of files to candidates that belong to runs.
//!
//! Four steps, each its own module. `discover` walks the sources and groups files into units, the folders that
//! one scaffold wrote. `openevolve`, `trace` and `shinka` turn a file into records, one per mention of a
//! candidate, with long texts already moved to the `scratch`. `unite` finds out which records speak of one
//! candidate and which candidates form a run; it works on ids and scalars only. `assess` decides validity and
//! score. The stage then writes tables. `stat` and `parsed` remember digests and records, so that only what changed
//! is read again.
//!
//! Logs are hostile: nothing in them is executed, unpickled, or used as a path to write to.

pub mod assess;
pub mod discover;
pub mod json;
pub mod language;
pub mod openevolve;
pub mod parsed;
pub mod record;
pub mod scratch;
pub mod shinka;
pub mod stat;
pub mod trace;
pub mod unite;

pub use discover::{Discovery, Format, LogFile, Unit};
pub use parsed::Parsed;
pub use record::{FileLog, Quarantined, Record};
pub use scratch::Scratch;
pub use stat::Stats;

/// Reads one file of a unit. What cannot be read is in the result, not an error: the rest goes on.
pub fn read_file(file: &LogFile, scratch: &Scratch) -> crate::error::Result<FileLog> {
    match file.format {
        Format::OpenEvolveProgram => openevolve::read(file, scratch),
        Format::OpenEvolveTrace => trace::read(file, scratch),
        Format::ShinkaDatabase => shinka::read(file, scratch),
        Format::Foreign => Ok(record::foreign(file)),
    }
}

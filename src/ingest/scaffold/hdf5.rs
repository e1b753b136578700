//! OpenEvolve's evolution trace in HDF5: recognised, and not read. The library for it is large and written in C, and
//! the same trace can be written as JSON lines.

use crate::code::Code;
use crate::error::Result;
use crate::ingest::record::{FileLog, Quarantined};
use crate::ingest::{LogFile, Scratch};

/// Says that the file is not read.
pub(in crate::ingest) fn read(file: &LogFile, _: &Scratch) -> Result<FileLog> {
    let reason = "an evolution trace in HDF5, which this finch cannot read; write it as jsonl";
    let quarantined = vec![Quarantined::file(Code::UnsupportedLog, reason, file)];
    Ok(FileLog { quarantined, ..FileLog::default() })
}

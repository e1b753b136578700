//! ShinkaEvolve: a results folder, with a database, with folders of generations, or both.
//!
//! The database says more and is believed first. Generations that it does not have, because it is damaged, empty, or
//! was never published, are read from their folders.

mod database;
mod generations;

use std::collections::BTreeMap;

use super::super::{LogFile, Scratch};
use crate::error::Result;
use crate::ingest::record::{FileLog, ProgramRef};
use crate::ingest::sqlite::Database;

/// Reads one results folder.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    for (part, of_file) in (0_u32..).zip(&file.parts) {
        if ![".sqlite", ".sqlite3", ".db"].iter().any(|end| of_file.within.ends_with(end)) {
            continue;
        }
        let wal = file.part(&format!("{}-wal", of_file.within)).map(|at| &file.parts[at as usize]);
        if of_file.bytes == 0 && wal.is_none() {
            continue;
        }
        let database = Database {
            file,
            part,
            path: &of_file.path,
            digest: of_file.digest,
            log: wal.map(|wal| (wal.path.as_path(), wal.digest)),
        };
        database::read(&database, scratch, &mut log)?;
    }
    // Of copies the original: what descends from either is a child of that.
    let originals = log.records.iter().filter(|record| record.copy_of.is_none());
    let known: BTreeMap<i64, (String, Option<ProgramRef>)> = originals
        .filter_map(|record| Some((record.generation?, (record.native_id.clone(), record.program))))
        .collect();
    generations::read(file, &known, scratch, &mut log)?;
    Ok(log)
}

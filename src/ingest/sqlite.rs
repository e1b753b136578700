//! SQLite databases of others: opened on a private copy, row by row, trusting nothing in them.
//!
//! A committed database is often a 4 kB file beside a write-ahead log that holds everything, and opening it
//! where it lies would either miss the log or write to the source. Database and log are copied to a temporary
//! folder and opened there. The shared-memory index is rebuilt and may be stale, so it is not copied.

use std::fs::File;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use finch_core::Digest;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, config::DbConfig};
use serde_json::{Map, Value};

use super::mapping::float;
use super::record::{FileLog, Quarantined};
use super::{LogFile, Scratch};
use crate::code::Code;
use crate::error::{Error, Result};

/// How often a copy is made again of a database that is written to in the meantime.
const TRIES: u32 = 3;
const BETWEEN_TRIES: Duration = Duration::from_millis(200);

/// Whether a path is a file itself: not a link that leads elsewhere, not a pipe that would never end.
pub(super) fn is_plain_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|meta| meta.is_file())
}

/// A database's write-ahead log.
pub(super) fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

/// A database to read, with the digests under which it was found.
pub(super) struct Database<'a> {
    /// The log that it is, or is a part of.
    pub(super) file: &'a LogFile,
    /// Which part, where the log has several.
    pub(super) part: u32,
    /// Where it lies.
    pub(super) path: &'a Path,
    /// Its digest.
    pub(super) digest: Option<Digest>,
    /// Its write-ahead log.
    pub(super) log: Option<(&'a Path, Option<Digest>)>,
}

/// Takes the cells of a row by column name, and its number.
pub(super) type Take<'a> = &'a mut dyn FnMut(Map<String, Value>, u64, &mut FileLog) -> Result<()>;

impl<'a> Database<'a> {
    /// A log that is a database.
    pub(super) fn of(file: &'a LogFile) -> Self {
        match file.parts.as_slice() {
            [] => Self { file, part: 0, path: &file.path, digest: file.digest, log: None },
            [main, rest @ ..] => {
                let log = rest.first().map(|log| (log.path.as_path(), log.digest));
                Self { file, part: 0, path: &main.path, digest: main.digest, log }
            }
        }
    }

    fn quarantine(&self, code: Code, reason: impl Into<String>) -> Quarantined {
        let bad = Quarantined::file(code, reason, self.file).in_part(self.file, self.part);
        Quarantined { digest: self.digest.unwrap_or(bad.digest), ..bad }
    }

    /// Reads all rows of a table in the order of their row ids. What makes it unreadable is put into quarantine.
    /// `unwanted` columns are passed over: embeddings are 20 kB of numbers a row, and nothing reads them.
    pub(super) fn rows(
        &self,
        table: &str,
        required: &[&str],
        unwanted: fn(&str) -> bool,
        scratch: &Scratch,
        log: &mut FileLog,
        take: Take<'_>,
    ) -> Result<()> {
        let folder = tempfile::tempdir_in(scratch.folder())
            .map_err(Error::io("create a folder in", scratch.folder()))?;
        match self.copy(folder.path())? {
            Ok(true) => {}
            Ok(false) => {
                let reason =
                    format!("the database is being written to: {TRIES} copies were not what was hashed");
                log.quarantined.push(self.quarantine(Code::SourceChanged, reason));
                log.passing = true;
                return Ok(());
            }
            Err(error) if self.digest.is_some() => return Err(Error::io("read", self.path)(error)),
            Err(error) => {
                log.quarantined.push(self.quarantine(Code::UnreadableFile, error.to_string()));
                return Ok(());
            }
        }
        let query = Query { table, required, unwanted };
        match self.read(folder.path(), &query, log, take)? {
            Ok(()) => {}
            Err(bad) => log.quarantined.push(bad),
        }
        Ok(())
    }

    /// Copies the database and its log, until both are what was hashed; false when they never are. The inner error is
    /// about the source; a disk of ours that is full is no damage to a log.
    fn copy(&self, folder: &Path) -> Result<std::io::Result<bool>> {
        for attempt in 1..=TRIES {
            let main = copy_file(self.path, &folder.join("db"))?;
            let log = match self.log {
                Some((path, _)) => copy_file(path, &folder.join("db-wal"))?,
                None => Ok(None),
            };
            let (main, log) = match (main, log) {
                (Ok(main), Ok(log)) => (main, log),
                (Err(error), _) | (_, Err(error)) => return Ok(Err(error)),
            };
            let as_hashed = |now: Option<Digest>, then: Option<Digest>| then.is_none() || now == then;
            if as_hashed(main, self.digest) && as_hashed(log, self.log.and_then(|(_, digest)| digest)) {
                return Ok(Ok(true));
            }
            if attempt < TRIES {
                std::thread::sleep(BETWEEN_TRIES);
            }
        }
        Ok(Ok(false))
    }

    fn read(
        &self,
        folder: &Path,
        query: &Query<'_>,
        log: &mut FileLog,
        take: Take<'_>,
    ) -> Result<Result<(), Quarantined>> {
        let failed = |error: &rusqlite::Error| match error.sqlite_error_code() {
            Some(rusqlite::ErrorCode::DiskFull) => {
                Err(Error::io("write", folder)(std::io::ErrorKind::StorageFull.into()))
            }
            _ => Ok(Err(self.quarantine(Code::BadDatabase, error.to_string()))),
        };
        let (database, columns, kind) = match query.open(folder) {
            Ok(opened) => opened,
            Err(error) => return failed(&error),
        };
        let missing = query.required.iter().any(|name| !columns.iter().any(|column| column == name));
        if kind.as_deref() != Some("table") || missing {
            let reason = format!("a SQLite database without the table `{}` that was looked for", query.table);
            return Ok(Err(self.quarantine(Code::ForeignFile, reason)));
        }
        // Columns by name: `*` would compute generated ones, which are not among them and can cost anything.
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let columns: Vec<String> = columns.into_iter().filter(|name| !(query.unwanted)(name)).collect();
        let wanted: String = columns.iter().map(|name| format!(", {}", quoted(name))).collect();
        let table = quoted(query.table);
        // A table without row ids has none to order by; its key orders it.
        let by_row = format!("SELECT rowid{wanted} FROM {table} ORDER BY rowid");
        let plain = format!("SELECT NULL{wanted} FROM {table}");
        let statement = database.prepare(&by_row).or_else(|_| database.prepare(&plain));
        let mut statement = match statement {
            Ok(statement) => statement,
            Err(error) => return failed(&error),
        };
        let mut rows = match statement.query([]) {
            Ok(rows) => rows,
            Err(error) => return failed(&error),
        };
        let mut ordinal = 0;
        loop {
            match rows.next() {
                Ok(Some(row)) => {
                    let number = row.get::<_, i64>(0).map_or(ordinal, |row| row as u64);
                    take(cells(row, &columns), number, log)?;
                    ordinal += 1;
                }
                Ok(None) => return Ok(Ok(())),
                Err(error) => return failed(&error),
            }
        }
    }
}

struct Query<'a> {
    table: &'a str,
    required: &'a [&'a str],
    unwanted: fn(&str) -> bool,
}

impl Query<'_> {
    /// The database, the table's columns, and whether it is a table or a view, which could compute anything.
    fn open(&self, folder: &Path) -> rusqlite::Result<(Connection, Vec<String>, Option<String>)> {
        let database = Connection::open(folder.join("db"))?;
        database.set_db_config(DbConfig::SQLITE_DBCONFIG_DEFENSIVE, true)?;
        database.set_db_config(DbConfig::SQLITE_DBCONFIG_TRUSTED_SCHEMA, false)?;
        let columns: Vec<String> = database
            .prepare("SELECT name FROM pragma_table_info(?1)")?
            .query_map([self.table], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        let kind: Option<String> = database
            .prepare("SELECT type FROM sqlite_master WHERE name = ?1")?
            .query_map([self.table], |row| row.get(0))?
            .next()
            .transpose()?;
        Ok((database, columns, kind))
    }
}

/// The cells of a row by column name. SQLite types values, not columns, so each is read as what it is.
fn cells(row: &Row<'_>, columns: &[String]) -> Map<String, Value> {
    let mut cells = Map::new();
    for (at, name) in columns.iter().enumerate() {
        // The row id stands before them.
        let value = match row.get_ref(at + 1) {
            Ok(ValueRef::Integer(number)) => Value::from(number),
            Ok(ValueRef::Real(number)) => float(number),
            Ok(ValueRef::Text(bytes)) => Value::from(String::from_utf8_lossy(bytes).into_owned()),
            Ok(ValueRef::Null | ValueRef::Blob(_)) | Err(_) => Value::Null,
        };
        cells.insert(name.clone(), value);
    }
    cells
}

/// Copies a file and says its digest.
fn copy_file(from: &Path, to: &Path) -> Result<std::io::Result<Option<Digest>>> {
    let mut source = match File::open(from) {
        Ok(source) => source,
        Err(error) => return Ok(Err(error)),
    };
    let mut target = File::create(to).map_err(Error::io("create", to))?;
    let mut hasher = blake3::Hasher::new();
    let mut part = vec![0; 1 << 20];
    loop {
        match source.read(&mut part) {
            Ok(0) => return Ok(Ok(Some(Digest::from_bytes(*hasher.finalize().as_bytes())))),
            Ok(length) => {
                hasher.update(&part[..length]);
                target.write_all(&part[..length]).map_err(Error::io("write", to))?;
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Ok(Err(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Format;

    #[test]
    fn a_database_that_is_being_written_to_is_kept_out_and_not_remembered() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("programs.sqlite");
        let database = Connection::open(&path).expect("a database");
        database
            .execute_batch("CREATE TABLE programs (id); INSERT INTO programs VALUES ('a')")
            .expect("a row");
        let scratch = Scratch::create(folder.path()).expect("scratch");
        let mut file = LogFile {
            source: "programs.sqlite".into(),
            in_unit: String::new(),
            format: Format::Mapped,
            bytes: 0,
            digest: Some(Digest::of_bytes(&std::fs::read(&path).expect("bytes"))),
            mapping: None,
            settled: None,
            parts: Vec::new(),
            path,
        };
        let read = |file: &LogFile| {
            let (mut log, mut rows) = (FileLog::default(), 0);
            let take: Take<'_> = &mut |_, _, _| {
                rows += 1;
                Ok(())
            };
            Database::of(file).rows("programs", &["id"], |_| false, &scratch, &mut log, take).expect("read");
            (rows, log.quarantined.first().map(|bad| bad.code), log.passing)
        };
        assert_eq!(read(&file), (1, None, false));
        // As if a writer had been there since it was hashed, and were still.
        file.digest = Some(Digest::of_bytes(b"another moment"));
        assert_eq!(read(&file), (0, Some(Code::SourceChanged), true));
    }
}

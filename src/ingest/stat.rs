//! Digests of source files, remembered by place, size and times: what has not changed is not read again to see that.
//!
//! A file counts as unchanged when its path, size, time of change, inode and device are those of a moment when it was
//! hashed, and it had been at rest then: an entry whose times are as young as its hashing is not kept, because a later
//! write could leave the same times. The cache is advice, in `cache/stat.sqlite` of the store: without it, or when it
//! cannot be read, everything is hashed.

use std::collections::HashMap;
use std::fs::Metadata;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use finch_core::Digest;

use super::format::Format;
use super::mapping;
use super::recognise::{Finding, Look};
use rusqlite::{Connection, OpenFlags, params};

/// A file's times must be older than its hashing by this much, in nanoseconds: the coarsest stamps of file systems are
/// two seconds apart.
const REST: i64 = 2_000_000_000;

/// Raised when what is remembered means something else: also when other files are found to be logs.
const VERSION: i64 = 2;

/// What tells a file from one that was written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Size.
    pub bytes: u64,
    modified: i64,
    changed: i64,
    inode: u64,
    device: u64,
}

/// What is known of a file's content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Plain BLAKE3.
    pub digest: Digest,
    /// What it was found to be, in a word; none for what is looked at again.
    look: Option<String>,
}

impl Known {
    /// What was learned of a file.
    pub fn new(digest: Digest, look: &Look) -> Self {
        let look = match look {
            Look::Log(finding) => Some(match &finding.mapping {
                None => finding.format.word().to_owned(),
                Some(mapping) => format!("{MAPPED}{}", mapping.digest),
            }),
            Look::Foreign => Some(Format::Foreign.word().to_owned()),
            Look::Archive | Look::Known(_) | Look::Other => None,
        };
        Self { digest, look }
    }

    /// What the file was found to be.
    pub fn look(&self) -> Option<Look> {
        let word = self.look.as_deref()?;
        let (format, mapping) = match word.strip_prefix(MAPPED) {
            None => (Format::named(word)?, None),
            Some(digest) => {
                let known = mapping::built_in().iter().find(|known| known.digest.to_string() == digest)?;
                (Format::Mapped, Some(known.clone()))
            }
        };
        let evidence = "what an earlier build saw in it".to_owned();
        Some(match format {
            Format::Foreign => Look::Foreign,
            format => Look::Log(Finding { format, mapping, certainty: 1.0, evidence }),
        })
    }
}

/// Before the digest of a mapping.
const MAPPED: &str = "mapped by ";

/// Digests of files at rest.
#[derive(Default)]
pub struct Stats {
    database: Option<PathBuf>,
    known: HashMap<PathBuf, (Stamp, Known)>,
    new: Mutex<Vec<(PathBuf, Stamp, Known)>>,
}

impl Stamp {
    /// The stamp of a file.
    pub fn of(meta: &Metadata) -> Self {
        let nanoseconds =
            |seconds: i64, rest: i64| seconds.saturating_mul(1_000_000_000).saturating_add(rest);
        Self {
            bytes: meta.len(),
            modified: nanoseconds(meta.mtime(), meta.mtime_nsec()),
            changed: nanoseconds(meta.ctime(), meta.ctime_nsec()),
            inode: meta.ino(),
            device: meta.dev(),
        }
    }

    /// The stamp of a file where it lies, if it is there.
    pub fn at(path: &Path) -> Option<Self> {
        std::fs::symlink_metadata(path).ok().map(|meta| Self::of(&meta))
    }

    /// Whether a file with this stamp had been at rest at a moment: from then on, no write leaves the same stamp.
    pub fn was_at_rest(&self, when: SystemTime) -> bool {
        self.at_rest(nanoseconds(when))
    }

    /// Whether a file with this stamp, hashed from `began` on, had been at rest.
    fn at_rest(&self, began: i64) -> bool {
        self.modified.max(self.changed).saturating_add(REST) < began
    }
}

impl Stats {
    /// What a store's cache folder remembers of the files below some folders. Nothing is written.
    pub fn open<'a>(cache: &Path, roots: impl IntoIterator<Item = &'a Path>) -> Self {
        let database = cache.join("stat.sqlite");
        let mut stats = Self { database: Some(database.clone()), ..Self::default() };
        if !database.is_file() {
            return stats;
        }
        for root in roots {
            // Unreadable is unknown: the worst is that everything is hashed.
            if let Ok(rows) = below(&database, root) {
                stats.known.extend(rows);
            }
        }
        stats
    }

    /// What is known of a file, if it is as it was.
    pub fn known(&self, path: &Path, stamp: Stamp) -> Option<Known> {
        self.known.get(path).filter(|(then, _)| *then == stamp).map(|(_, known)| known.clone())
    }

    /// Remembers a file whose hashing began at `began`, unless it was written about then.
    pub fn add(&self, path: &Path, stamp: Stamp, known: Known, began: SystemTime) {
        let began = nanoseconds(began);
        let same = std::fs::symlink_metadata(path).is_ok_and(|meta| Stamp::of(&meta) == stamp);
        if self.database.is_some() && same && stamp.at_rest(began) {
            let mut new = self.new.lock().unwrap_or_else(PoisonError::into_inner);
            new.push((path.to_path_buf(), stamp, known));
        }
    }

    /// Writes what was learned. What cannot be written is learned again.
    pub fn save(&self) {
        let new = std::mem::take(&mut *self.new.lock().unwrap_or_else(PoisonError::into_inner));
        let Some(database) = self.database.as_ref().filter(|_| !new.is_empty()) else { return };
        if write(database, &new).is_err() {
            // Damaged, or of another version.
            let _ = std::fs::remove_file(database);
            let _ = write(database, &new);
        }
    }
}

fn nanoseconds(time: SystemTime) -> i64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |age| i64::try_from(age.as_nanos()).unwrap_or(0))
}

/// The rows of files below a folder, or of the file itself.
fn below(database: &Path, root: &Path) -> rusqlite::Result<Vec<(PathBuf, (Stamp, Known))>> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(database, flags)?;
    check_version(&connection)?;
    let mut query = connection.prepare(
        "SELECT path, bytes, modified, changed, inode, device, digest, look FROM files WHERE path >= ?1 AND path < ?2",
    )?;
    let from = root.as_os_str().as_bytes().to_vec();
    let mut to = from.clone();
    // No byte of a path is 255 in any encoding that a file name is likely to have; one that has it is hashed again.
    to.push(u8::MAX);
    let rows = query.query_map([&from, &to], |row| {
        let path: Vec<u8> = row.get(0)?;
        let number = |column: usize| row.get::<_, i64>(column);
        let stamp = Stamp {
            bytes: number(1)? as u64,
            modified: number(2)?,
            changed: number(3)?,
            inode: number(4)? as u64,
            device: number(5)? as u64,
        };
        let digest = Digest::from_bytes(row.get::<_, [u8; 32]>(6)?);
        let known = Known { digest, look: row.get(7)? };
        Ok((PathBuf::from(std::ffi::OsString::from_vec(path)), (stamp, known)))
    })?;
    rows.collect()
}

fn check_version(connection: &Connection) -> rusqlite::Result<()> {
    match connection.query_row("PRAGMA user_version", [], |row| row.get::<_, i64>(0))? {
        VERSION => Ok(()),
        _ => Err(rusqlite::Error::InvalidQuery),
    }
}

fn write(database: &Path, new: &[(PathBuf, Stamp, Known)]) -> rusqlite::Result<()> {
    if let Some(folder) = database.parent() {
        // What goes wrong here, opening tells.
        let _ = std::fs::create_dir_all(folder);
    }
    let mut connection = Connection::open(database)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    let transaction = connection.transaction()?;
    transaction.execute_batch(
        "CREATE TABLE IF NOT EXISTS files (path BLOB PRIMARY KEY, bytes INTEGER NOT NULL, modified INTEGER NOT NULL, \
         changed INTEGER NOT NULL, inode INTEGER NOT NULL, device INTEGER NOT NULL, digest BLOB NOT NULL, \
         look TEXT) WITHOUT ROWID",
    )?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    {
        let mut insert =
            transaction.prepare("INSERT OR REPLACE INTO files VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")?;
        for (path, stamp, known) in new {
            insert.execute(params![
                path.as_os_str().as_bytes(),
                stamp.bytes as i64,
                stamp.modified,
                stamp.changed,
                stamp.inode as i64,
                stamp.device as i64,
                known.digest.as_bytes(),
                known.look,
            ])?;
        }
    }
    transaction.commit()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        Known { digest: Digest::from_bytes([7; 32]), look: Some("openevolve trace".to_owned()) }
    }

    fn stamp(path: &Path) -> Stamp {
        Stamp::of(&std::fs::metadata(path).expect("metadata"))
    }

    #[test]
    fn a_file_at_rest_is_known_until_it_changes() {
        let folder = tempfile::tempdir().expect("temp dir");
        let (cache, file) = (folder.path().join("cache"), folder.path().join("a"));
        std::fs::write(&file, "one").expect("write");
        let stats = Stats::open(&cache, [folder.path()]);
        let later = SystemTime::now() + std::time::Duration::from_secs(10);
        stats.add(&file, stamp(&file), known(), later);
        stats.save();
        let stats = Stats::open(&cache, [folder.path()]);
        assert_eq!(stats.known(&file, stamp(&file)), Some(known()));
        // The same size and the same time of modification, as a tool that restores times leaves them.
        let modified = std::fs::metadata(&file).expect("metadata").modified().expect("time");
        std::fs::write(&file, "two").expect("write");
        std::fs::File::options().write(true).open(&file).expect("open").set_modified(modified).expect("set");
        assert_eq!(stats.known(&file, stamp(&file)), None);
    }

    #[test]
    fn a_file_that_was_just_written_is_not_remembered() {
        let folder = tempfile::tempdir().expect("temp dir");
        let file = folder.path().join("a");
        std::fs::write(&file, "one").expect("write");
        let stats = Stats::open(folder.path(), [folder.path()]);
        stats.add(&file, stamp(&file), known(), SystemTime::now());
        stats.save();
        assert!(!folder.path().join("stat.sqlite").exists());
    }

    #[test]
    fn a_damaged_cache_is_made_anew() {
        let folder = tempfile::tempdir().expect("temp dir");
        let (file, database) = (folder.path().join("a"), folder.path().join("stat.sqlite"));
        std::fs::write(&file, "one").expect("write");
        for junk in ["junk", "SQLite format 3\0 and junk", ""] {
            std::fs::write(&database, junk).expect("write");
            let stats = Stats::open(folder.path(), [folder.path()]);
            assert_eq!(stats.known(&file, stamp(&file)), None);
            stats.add(&file, stamp(&file), known(), SystemTime::now() + std::time::Duration::from_secs(10));
            stats.save();
            let stats = Stats::open(folder.path(), [folder.path()]);
            assert_eq!(stats.known(&file, stamp(&file)), Some(known()), "{junk}");
        }
    }
}

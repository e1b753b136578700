//! Remote logs, brought here before they are read.
//!
//! Readers want files: databases are opened, traces are read twice. So what a source's address names is copied below
//! the cache folder, and what has not changed there since the last time, by size, time and etag, is not fetched again.
//! Keys become paths, so one that could lead elsewhere, or cannot be a path, is an error.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::{Address, Bucket, Fetch, Object, Wanted};
use crate::code::Code;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::progress::Meter;

/// How often a build that waits for another one's staging looks again.
const LOOK: Duration = Duration::from_millis(100);

/// A remote source as it lies here.
#[derive(Clone, Debug)]
pub struct Staged {
    /// The folder with its files, or the file when the address names one.
    pub path: PathBuf,
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
    /// Files that were fetched this time.
    pub fetched: usize,
}

/// What is known of the version of a file that lies here.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Version {
    bytes: u64,
    /// Nanoseconds since 1970, by the server's clock.
    modified: u64,
    etag: Option<String>,
}

impl Version {
    fn of(object: &Object) -> Self {
        let modified = object.modified.duration_since(UNIX_EPOCH).map_or(0, |age| age.as_nanos() as u64);
        Self { bytes: object.bytes, modified, etag: object.etag.clone() }
    }

    /// Whether the next look can tell another version from this one. Web servers may say nothing.
    fn is_telling(&self) -> bool {
        self.etag.is_some() || self.modified > 0
    }
}

fn folder(address: &Address, cache: &Path) -> PathBuf {
    cache.join("sources").join(address.folder_name())
}

/// The folder that the files of an address are brought to.
pub(super) fn files(address: &Address, cache: &Path) -> PathBuf {
    folder(address, cache).join("files")
}

/// Brings what an address names below `cache`.
pub fn stage(address: &Address, cache: &Path, interrupt: &Interrupt, meter: &Meter) -> Result<Staged> {
    let folder = folder(address, cache);
    fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
    let lock = File::create(folder.join("lock")).map_err(Error::io("create", folder.join("lock")))?;
    // One at a time: two would fetch the same files over each other. What is removed while another build reads it is
    // noticed there, by its digest.
    while matches!(lock.try_lock(), Err(TryLockError::WouldBlock)) {
        interrupt.check()?;
        std::thread::sleep(LOOK);
    }
    let bucket = Bucket::new(address, interrupt)?;
    let (objects, single) = found(&bucket)?;
    let files = folder.join("files");
    let index = folder.join("index.json");
    let known = index_at(&index);
    check_paths(&bucket, &objects, &files)?;
    remove_others(&files, &files, &objects)?;
    let mut fetches = Vec::new();
    let mut here: BTreeMap<String, Version> = BTreeMap::new();
    for object in &objects {
        let (to, version) = (files.join(&object.key), Version::of(object));
        let whole = fs::symlink_metadata(&to).is_ok_and(|meta| meta.is_file() && meta.len() == object.bytes);
        if whole && version.is_telling() && known.get(&object.key) == Some(&version) {
            here.insert(object.key.clone(), version);
            continue;
        }
        // A web server's listing is its own word about one file: it may not know how large that is.
        let wanted = match address.scheme().is_bucket() {
            true => Wanted::Version { bytes: object.bytes, etag: object.etag.clone() },
            false => Wanted::Anything,
        };
        let key =
            if address.scheme().is_bucket() && single.is_none() { object.key.clone() } else { String::new() };
        fetches.push((Fetch { key, to, wanted }, object.key.clone(), version));
    }
    let kept: u64 = here.values().map(|version| version.bytes).sum();
    let arrived = Mutex::new(here);
    let plain: Vec<Fetch> = fetches.iter().map(|(fetch, ..)| fetch.clone()).collect();
    let versions: BTreeMap<&Path, (&String, &Version)> =
        fetches.iter().map(|(fetch, key, version)| (fetch.to.as_path(), (key, version))).collect();
    meter.expect_bytes(fetches.iter().map(|(.., version)| version.bytes).sum());
    let result = bucket.fetch(&plain, meter, &|fetch, _| {
        if let Some((key, version)) = versions.get(fetch.to.as_path()) {
            let mut arrived = arrived.lock().unwrap_or_else(PoisonError::into_inner);
            arrived.insert((*key).clone(), (*version).clone());
        }
    });
    // What came before a failure need not come again.
    let here = arrived.into_inner().unwrap_or_else(PoisonError::into_inner);
    let text = serde_json::to_vec(&here).unwrap_or_default();
    let aside = folder.join("index.tmp");
    fs::write(&aside, text).and_then(|()| fs::rename(&aside, &index)).map_err(Error::io("write", &index))?;
    let bytes = result?.iter().map(|arrival| arrival.bytes).sum::<u64>();
    let path = single.map_or(files.clone(), |name| files.join(name));
    Ok(Staged { path, files: objects.len(), bytes: kept + bytes, fetched: fetches.len() })
}

/// The objects that an address names, with keys below it, and the file's name when it names one file.
fn found(bucket: &Bucket) -> Result<(Vec<Object>, Option<String>)> {
    let address = bucket.address();
    let name = address.path().rsplit('/').next().unwrap_or_default().to_owned();
    if address.scheme().is_bucket() {
        let mut objects = bucket.list("")?;
        if !objects.is_empty() {
            // Consoles mark folders with empty objects.
            let keys: BTreeSet<String> = objects.iter().map(|object| object.key.clone()).collect();
            let is_folder = |key: &str| {
                let below = format!("{key}/");
                keys.range(below.clone()..).next().is_some_and(|next| next.starts_with(&below))
            };
            objects.retain(|object| object.bytes > 0 || !is_folder(&object.key));
            return Ok((objects, None));
        }
    }
    let single = if address.path().is_empty() { None } else { bucket.head("")? };
    let Some(object) = single else {
        return Err(Error::Source {
            path: address.to_string(),
            reason: "does not exist".to_owned(),
            code: Code::MissingSource,
        });
    };
    // A name on a web server is percent-encoded, and what it is decoded to must be one name.
    let name = match address.scheme().is_bucket() {
        true => name,
        false => object.key.rsplit('/').next().unwrap_or(&name).to_owned(),
    };
    Ok((vec![Object { key: name.clone(), ..object }], Some(name)))
}

fn index_at(path: &Path) -> BTreeMap<String, Version> {
    // Unreadable is unknown: everything is fetched again.
    fs::read(path).ok().and_then(|text| serde_json::from_slice(&text).ok()).unwrap_or_default()
}

/// Checks that keys can be paths below a folder, and that none is a folder for another one.
fn check_paths(bucket: &Bucket, objects: &[Object], folder: &Path) -> Result<()> {
    let refused = |key: &str, why: &str| Error::Source {
        path: bucket.address().to_string(),
        reason: format!("holds the key `{}`, which {why}", key.escape_debug()),
        code: Code::MissingSource,
    };
    for object in objects {
        for part in object.key.split('/') {
            if part.is_empty() || part == "." || part == ".." || part.contains('\0') {
                return Err(refused(&object.key, "cannot be a path"));
            }
            if part.len() > 255 {
                return Err(refused(&object.key, "is too long for a file's name"));
            }
        }
        let deepest = folder.as_os_str().len() + object.key.len();
        if deepest > 4000 {
            return Err(refused(&object.key, "is too long for a path"));
        }
    }
    let keys: BTreeSet<&str> = objects.iter().map(|object| object.key.as_str()).collect();
    for object in objects {
        let above = object.key.match_indices('/').map(|(at, _)| &object.key[..at]);
        if let Some(file) = above.into_iter().find(|above| keys.contains(above)) {
            return Err(refused(file, "is a file and also a folder of others"));
        }
    }
    Ok(())
}

/// Removes files that are not among the objects, and the folders that they leave empty.
fn remove_others(root: &Path, folder: &Path, objects: &[Object]) -> Result<()> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(Error::io("list", folder)(error)),
    };
    for entry in entries {
        let entry = entry.map_err(Error::io("list", folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(Error::io("examine", &path))?;
        let key = path.strip_prefix(root).ok().and_then(Path::to_str).unwrap_or_default();
        if kind.is_dir() {
            remove_others(root, &path, objects)?;
            // Only an empty one goes.
            let _ = fs::remove_dir(&path);
        } else if !kind.is_file() || objects.binary_search_by(|object| object.key.as_str().cmp(key)).is_err()
        {
            fs::remove_file(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}

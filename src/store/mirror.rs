//! A store in a bucket: what is there, and what of it lies here.
//!
//! ```text
//! store.json                                            this is a store, of this version
//! datasets/<fingerprint>/manifest.json
//! datasets/<fingerprint>/<16 digits of `bytes`>/<table>/<table>-00000.parquet, …
//! builds/<build>.json, leases/<owner>.lease, damaged/<fingerprint>-<time>/…
//! ```
//!
//! A dataset is there once its manifest is, which is put last and only if none is there: of two builds one succeeds,
//! and the other one discards its work. Files lie below their own digest, so that no upload can write over what
//! another one put there. Here a folder below the cache mirrors the parts of the store that were needed, checked against
//! the manifest as they came.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use finch_core::manifest::{FileEntry, Manifest};
use finch_core::{Digest, shard};
use rayon::prelude::*;

use super::checked::Checked;
use super::write_synced;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::progress::Meter;
use crate::remote::{Address, Bucket, Fetch, Object, Wanted, cache};

/// Where damaged datasets are moved to.
pub(super) const DAMAGED: &str = "damaged";
/// The object that says that a folder of a bucket is a store.
const MARK: &str = "store.json";
/// What is in it. Another version will be another number.
const MARKED: &[u8] = b"{\"finch_store\":1}\n";

/// The bucket behind a store.
#[derive(Clone, Debug)]
pub(super) struct Mirror {
    pub(super) bucket: Bucket,
    /// Manifests as this process last saw them.
    seen: Arc<Mutex<HashMap<Digest, Vec<u8>>>>,
}

impl Mirror {
    pub(super) fn new(bucket: Bucket) -> Self {
        Self { bucket, seen: Arc::default() }
    }

    /// The folder that mirrors a store.
    pub(super) fn folder(address: &Address) -> Result<PathBuf> {
        Ok(cache()?.join("stores").join(address.folder_name()))
    }

    /// Whether the place is marked as a store; one of another version is an error.
    pub(super) fn is_store(&self) -> Result<bool> {
        match self.bucket.get(MARK)? {
            None => Ok(false),
            Some(mark) if mark == MARKED => Ok(true),
            Some(_) => Err(Error::Store {
                reason: format!("`{}` is a store of another version of finch", self.bucket.place(MARK)),
                code: Code::BadManifest,
                hint: None,
            }),
        }
    }

    /// Marks the place as a store, and finds out whether the server keeps its promise on what is put only if absent.
    pub(super) fn mark(&self) -> Result<()> {
        if self.is_store()? || !self.bucket.create(MARK, MARKED)? {
            return Ok(());
        }
        if self.bucket.create(MARK, MARKED)? {
            self.bucket.delete(&[MARK.to_owned()])?;
            return Err(Error::Store {
                reason: format!(
                    "the server of `{}` overwrites what should be put only if absent",
                    self.bucket.address()
                ),
                code: Code::Remote,
                hint: Some("a store needs conditional puts (If-None-Match); newer versions of most servers have them".to_owned()),
            });
        }
        Ok(())
    }

    /// The bytes of a dataset's manifest.
    pub(super) fn manifest(&self, fingerprint: Digest) -> Result<Option<Vec<u8>>> {
        let found = self.bucket.get(&manifest_key(fingerprint))?;
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).remove(&fingerprint);
        Ok(found)
    }

    /// Notes the bytes of a manifest that was read or published.
    pub(super) fn note(&self, fingerprint: Digest, text: &[u8]) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(fingerprint, text.to_vec());
    }

    /// The bytes of a dataset's manifest as this process last saw them.
    pub(super) fn seen(&self, fingerprint: Digest) -> Option<Vec<u8>> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(&fingerprint).cloned()
    }

    /// Keeps a manifest in the mirror. Files that belong to another one go: a training that was removed and made
    /// again has the same name and other weights.
    pub(super) fn keep(&self, folder: &Path, text: &[u8], tmp: &Path) -> Result<()> {
        let path = folder.join("manifest.json");
        match fs::read(&path) {
            Ok(here) if here == text => return Ok(()),
            Ok(_) => discard(folder, tmp)?,
            Err(_) => {}
        }
        fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let aside = tempfile::NamedTempFile::new_in(folder).map_err(Error::io("create a file in", folder))?;
        write_synced(aside.path(), text)?;
        aside.persist(&path).map_err(|error| Error::io("write", &path)(error.error))?;
        Ok(())
    }

    /// The files of a dataset as the bucket holds them, with keys relative to the dataset's files.
    pub(super) fn listed(&self, manifest: &Manifest) -> Result<Vec<Object>> {
        let folder = files_key(manifest);
        let mut objects = self.bucket.list(&folder)?;
        for object in &mut objects {
            object.key = object.key.strip_prefix(&format!("{folder}/")).unwrap_or(&object.key).to_owned();
        }
        Ok(objects)
    }

    /// Fetches those files of a dataset that are not in the mirror, or not as they were fetched: `checked` hashes one
    /// when this process has not done so yet.
    pub(super) fn fetch(
        &self,
        manifest: &Manifest,
        files: &[&FileEntry],
        folder: &Path,
        checked: &Checked,
    ) -> Result<()> {
        let missing: Vec<&&FileEntry> = files
            .par_iter()
            .filter(|file| {
                let here = folder.join(&file.name);
                let whole =
                    fs::symlink_metadata(&here).is_ok_and(|meta| meta.is_file() && meta.len() == file.bytes);
                !(whole && checked.is(&here, file.blake3))
            })
            .collect();
        let fetches: Vec<Fetch> = missing
            .into_iter()
            .map(|file| Fetch {
                key: format!("{}/{}", files_key(manifest), file.name),
                to: folder.join(&file.name),
                wanted: Wanted::Content { bytes: file.bytes, blake3: file.blake3 },
            })
            .collect();
        if fetches.is_empty() {
            return Ok(());
        }
        self.bucket
            .fetch(&fetches, &Meter::default(), &|fetch, arrival| checked.add(&fetch.to, arrival.blake3))
            .map(|_| ())
    }

    /// The names of all objects that lie with a dataset; those of another attempt at it with their folder.
    pub(super) fn names(&self, manifest: &Manifest) -> Result<Vec<String>> {
        let (folder, own) =
            (format!("datasets/{}/", manifest.fingerprint), format!("{}/", files_key(manifest)));
        let objects = self.bucket.list(folder.trim_end_matches('/'))?;
        let name = |key: &str| key.strip_prefix(&own).or(key.strip_prefix(&folder)).unwrap_or(key).to_owned();
        Ok(objects.iter().map(|object| name(&object.key)).collect())
    }

    /// The BLAKE3 and SHA-256 of a file, fetched anew; a right one is kept in the mirror.
    pub(super) fn hash(
        &self,
        manifest: &Manifest,
        file: &FileEntry,
        folder: &Path,
        tmp: &Path,
    ) -> Result<(Digest, Digest)> {
        let aside = scratch(tmp)?;
        let to = aside.path().join("file");
        let wanted = Wanted::Version { bytes: file.bytes, etag: None };
        let key = format!("{}/{}", files_key(manifest), file.name);
        let arrivals =
            self.bucket.fetch(&[Fetch { key, to: to.clone(), wanted }], &Meter::default(), &|_, _| {})?;
        let (blake3, sha256) =
            arrivals.first().map(|one| (one.blake3, one.sha256)).expect("one for each fetch");
        if (blake3, sha256) == (file.blake3, file.sha256) {
            let target = folder.join(&file.name);
            let above = target.parent().unwrap_or(folder);
            fs::create_dir_all(above).map_err(Error::io("create", above))?;
            fs::rename(&to, &target).map_err(Error::io("write", target))?;
        }
        Ok((blake3, sha256))
    }

    /// Sends a dataset's own files and then its manifest; says whether the manifest was the first. A file that is there
    /// already is sent again: its name says what it should be, and not whether it is.
    pub(super) fn publish(&self, manifest: &Manifest, text: &[u8], staging: &Path) -> Result<bool> {
        let key = |file: &FileEntry| format!("{}/{}", files_key(manifest), file.name);
        let files: Vec<(String, PathBuf)> =
            manifest.own_files().map(|file| (key(file), staging.join(&file.name))).collect();
        self.bucket.upload(&files)?;
        self.bucket.create(&manifest_key(manifest.fingerprint), text)
    }

    /// Removes what was sent for a dataset when another one of its name came first.
    pub(super) fn withdraw(&self, manifest: &Manifest) -> Result<()> {
        let objects = self.bucket.list(&files_key(manifest))?;
        self.bucket.delete(&objects.into_iter().map(|object| object.key).collect::<Vec<_>>())
    }

    /// Moves a dataset out of the way, its manifest first; returns where it lies.
    pub(super) fn set_aside(&self, fingerprint: Digest) -> Result<String> {
        let from = format!("datasets/{fingerprint}");
        let now = chrono::Utc::now().format("%Y%m%dT%H%M%S%3fZ");
        let to = format!("{DAMAGED}/{}-{now}-{}", fingerprint.short(), std::process::id());
        let manifest = manifest_key(fingerprint);
        let rest =
            self.bucket.list(&from)?.into_iter().map(|object| object.key).filter(|key| *key != manifest);
        for key in std::iter::once(manifest.clone()).chain(rest.collect::<Vec<_>>()) {
            let name = key.strip_prefix(&from).unwrap_or(&key);
            self.bucket.rename(&key, &format!("{to}{name}"))?;
        }
        Ok(self.bucket.place(&to))
    }

    /// The fingerprints of all datasets, and of what was sent and has no manifest.
    pub(super) fn fingerprints(&self) -> Result<Vec<Digest>> {
        Ok(self.bucket.folders("datasets")?.iter().filter_map(|name| name.parse().ok()).collect())
    }
}

/// A folder of `tmp` that is swept when this process is killed.
pub(super) fn scratch(tmp: &Path) -> Result<tempfile::TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("{}-{}-", super::host(), std::process::id()))
        .tempdir_in(tmp)
        .map_err(Error::io("create a folder in", tmp))
}

/// Where a dataset's manifest lies.
pub(super) fn manifest_key(fingerprint: Digest) -> String {
    format!("datasets/{fingerprint}/manifest.json")
}

/// Where a dataset's files lie.
pub(super) fn files_key(manifest: &Manifest) -> String {
    format!("datasets/{}/{}", manifest.fingerprint, &manifest.bytes.to_string()[..16])
}

/// Removes a folder in one step, as others see it.
pub(super) fn discard(folder: &Path, tmp: &Path) -> Result<()> {
    let aside = scratch(tmp)?;
    match fs::rename(folder, aside.path().join("old")) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", folder)(error)),
        _ => Ok(()),
    }?;
    shard::sync_folder(tmp)?;
    Ok(())
}

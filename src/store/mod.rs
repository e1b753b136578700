//! The store: immutable datasets named by fingerprint, and a record of every build.
//!
//! ```text
//! datasets/<fingerprint>/manifest.json, <table>/<table>-00000.parquet, tokenizer.json, model/model.safetensors
//! builds/<time>-<digest>.json
//! latest/<table> -> ../datasets/<fingerprint>/<table>             for people and other tools
//! tmp/<host>-<process>-<random>/                                  what is being written
//! cache/{stat.sqlite,parsed/}                                     what was learned of sources, to be forgotten at will
//! failed/<test>.parquet                                           what a data test found last
//! leases/<host>-<process>-<random>.lease                          what is at work here
//! training/<fingerprint>/                                         a training's config, log, and what it resumes from
//! ```
//!
//! A dataset is complete or absent: it is written aside, synced, and renamed into place with its manifest
//! inside. Two builds at once are correct without a lock, because a rename onto a finished dataset fails and
//! the loser discards its work, which was the same. In a bucket, where nothing can be renamed, the manifest is put
//! last and only if none is there: see `mirror`.

pub mod build;
mod checked;
pub mod dataset;
pub mod gc;
pub mod lease;
mod mirror;
mod names;
pub mod verify;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use finch_core::manifest::FileEntry;
use finch_core::shard::sync_folder;
use finch_core::{Digest, manifest};
use rayon::prelude::*;

use checked::Checked;

pub use build::{BestEvaluation, BuildRecord, Decision, ReadingRecord, StageRecord, TrainingRecord};
pub use dataset::{Dataset, Draft};
use mirror::Mirror;
pub(crate) use names::is_artifact;
use names::suspicious_name;

use crate::code::Code;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::remote::{Bucket, Place};

/// Tells the size of a dataset's file by its name.
type Sizes = Box<dyn Fn(&str) -> std::io::Result<u64> + Send + Sync>;

/// A store in a local folder, or in a bucket with a local folder that mirrors what was needed of it.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
    mirror: Option<Mirror>,
    checked: Checked,
    /// Whether files are hashed before they are read: their rows become other datasets.
    careful: bool,
}

impl Store {
    /// A store for building; its folders are created.
    pub fn create(place: &Place, interrupt: &Interrupt) -> Result<Self> {
        let store = Self { careful: true, ..Self::peek(place, interrupt)? };
        if let Some(mirror) = &store.mirror {
            mirror.mark()?;
        }
        store.folders()?;
        store.sweep();
        Ok(store)
    }

    /// Makes the local folders.
    fn folders(&self) -> Result<()> {
        for folder in ["datasets", "builds", "latest", "tmp"] {
            let folder = self.root.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("create", folder))?;
        }
        Ok(())
    }

    /// Removes what builds on this machine left behind when they were killed. What cannot be removed stays.
    fn sweep(&self) {
        let Ok(entries) = fs::read_dir(self.root.join("tmp")) else { return };
        for entry in entries.flatten() {
            if abandoned(&entry.path()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
    }

    /// A store for reading; it must exist.
    pub fn open(place: &Place, interrupt: &Interrupt) -> Result<Self> {
        let store = Self::peek(place, interrupt)?;
        let reason = match &store.mirror {
            Some(mirror) if mirror.is_store()? => {
                store.folders()?;
                return Ok(store);
            }
            None if store.root.join("datasets").is_dir() => return Ok(store),
            Some(_) => format!("`{place}` is not a store: it has no `store.json`"),
            None => format!("`{place}` is not a store: it has no folder `datasets`"),
        };
        Err(Error::Store {
            reason,
            code: Code::NothingBuilt,
            hint: Some("`finch run SPEC` builds one; the spec's `store` says where".to_owned()),
        })
    }

    /// A store that may not exist yet; nothing is created.
    pub fn peek(place: &Place, interrupt: &Interrupt) -> Result<Self> {
        Ok(match place {
            Place::Local(root) => {
                Self { root: root.clone(), mirror: None, checked: Checked::default(), careful: false }
            }
            Place::Remote(address) => Self {
                root: Mirror::folder(address)?,
                mirror: Some(Mirror::new(Bucket::new(address, interrupt)?)),
                checked: Checked::default(),
                careful: false,
            },
        })
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        match &self.mirror {
            Some(mirror) => mirror.bucket.address().to_string(),
            None => self.root.display().to_string(),
        }
    }

    /// The store's folder; of one in a bucket, the folder that mirrors it.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a dataset, whether or not it is there, and of one in a bucket whether or not it is whole here.
    pub(crate) fn folder(&self, fingerprint: Digest) -> PathBuf {
        self.root.join("datasets").join(fingerprint.to_string())
    }

    /// A dataset, if it is there; a corrupt manifest is an error and never a dataset that is absent.
    pub fn dataset(&self, fingerprint: Digest) -> Result<Option<Dataset>> {
        match self.manifest_text(fingerprint)? {
            Some(text) => self.understood(fingerprint, &text).map(Some),
            None => Ok(None),
        }
    }

    /// A dataset of which this is the manifest.
    fn understood(&self, fingerprint: Digest, text: &[u8]) -> Result<Dataset> {
        let path = self.manifest_path(fingerprint);
        let bad = |reason: String| Error::Store {
            reason,
            code: Code::BadManifest,
            hint: Some("`finch run SPEC --force STAGE` makes the stage's dataset anew".to_owned()),
        };
        let manifest: manifest::Manifest = serde_json::from_slice(text)
            .map_err(|error| bad(format!("manifest `{}` is corrupt: {error}", path.display())))?;
        if manifest.version != manifest::VERSION || manifest.fingerprint != fingerprint {
            return Err(bad(format!(
                "manifest `{}` is of another version or another dataset",
                path.display()
            )));
        }
        if let Some(name) = suspicious_name(&manifest) {
            return Err(bad(format!(
                "manifest `{}` names the file or table `{}`, which no stage writes",
                path.display(),
                name.escape_debug()
            )));
        }
        if let Some(mirror) = &self.mirror {
            // Only now: what is no manifest has no place in the mirror.
            mirror.keep(&self.folder(fingerprint), text, &self.tmp()?)?;
            mirror.note(fingerprint, text);
        }
        Ok(Dataset { store: self.clone(), manifest })
    }

    /// Where a manifest lies, for people.
    fn manifest_path(&self, fingerprint: Digest) -> PathBuf {
        match &self.mirror {
            Some(mirror) => PathBuf::from(mirror.bucket.place(&mirror::manifest_key(fingerprint))),
            None => self.folder(fingerprint).join("manifest.json"),
        }
    }

    /// The bytes of a dataset's manifest.
    fn manifest_text(&self, fingerprint: Digest) -> Result<Option<Vec<u8>>> {
        if let Some(mirror) = &self.mirror {
            return mirror.manifest(fingerprint);
        }
        let path = self.manifest_path(fingerprint);
        match fs::read(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::io("read", path)(error)),
        }
    }

    /// The digest of a dataset's manifest file, for the build record.
    pub fn manifest_digest(&self, fingerprint: Digest) -> Result<Digest> {
        let seen = self.mirror.as_ref().and_then(|mirror| mirror.seen(fingerprint));
        match seen.map_or_else(|| self.manifest_text(fingerprint), |text| Ok(Some(text)))? {
            Some(text) => Ok(Digest::of_bytes(&text)),
            None => Err(self.absent(fingerprint)),
        }
    }

    /// Moves a damaged dataset out of the way, to be looked at or removed; returns where it lies.
    pub fn set_aside(&self, fingerprint: Digest) -> Result<String> {
        let folder = self.folder(fingerprint);
        if let Some(mirror) = &self.mirror {
            mirror::discard(&folder, &self.tmp()?)?;
            return mirror.set_aside(fingerprint);
        }
        let aside = self.scratch()?.keep().join("damaged");
        fs::rename(&folder, &aside).map_err(Error::io("set aside", folder))?;
        Ok(aside.display().to_string())
    }

    /// A dataset that a build record names, and that must therefore be there.
    pub fn expect(&self, fingerprint: Digest) -> Result<Dataset> {
        self.held(fingerprint)?.ok_or_else(|| self.absent(fingerprint))
    }

    /// A dataset, if it is there or was a moment ago: what this process saw of a bucket is not asked for again.
    pub fn held(&self, fingerprint: Digest) -> Result<Option<Dataset>> {
        match self.mirror.as_ref().and_then(|mirror| mirror.seen(fingerprint)) {
            Some(text) => self.understood(fingerprint, &text).map(Some),
            None => self.dataset(fingerprint),
        }
    }

    fn absent(&self, fingerprint: Digest) -> Error {
        Error::Store {
            reason: format!("dataset {} is not in the store `{}`", fingerprint.short(), self.place()),
            code: Code::Damaged,
            hint: Some("`finch run` builds it again".to_owned()),
        }
    }

    /// Whether it lies in a bucket.
    fn is_far(&self) -> bool {
        self.mirror.is_some()
    }

    /// The sizes of a dataset's files where the dataset lies, by name.
    fn sizes(&self, manifest: &manifest::Manifest) -> Result<Sizes> {
        let folder = self.folder(manifest.fingerprint);
        let Some(mirror) = &self.mirror else {
            return Ok(Box::new(move |name| fs::metadata(folder.join(name)).map(|meta| meta.len())));
        };
        let listed: BTreeMap<String, u64> =
            mirror.listed(manifest)?.into_iter().map(|object| (object.key, object.bytes)).collect();
        let missing = || std::io::Error::new(std::io::ErrorKind::NotFound, "it is missing");
        Ok(Box::new(move |name| listed.get(name).copied().ok_or_else(missing)))
    }

    /// The BLAKE3 and SHA-256 of a dataset's file in a bucket, which is fetched for it, and kept when it is right.
    fn hash_far(&self, manifest: &manifest::Manifest, file: &FileEntry) -> Result<(Digest, Digest)> {
        let mirror = self.mirror.as_ref().expect("asked for stores in buckets alone");
        mirror.hash(manifest, file, &self.folder(manifest.fingerprint), &self.tmp()?)
    }

    /// The names of all files that lie with a dataset.
    fn names(&self, manifest: &manifest::Manifest) -> Result<Vec<String>> {
        let folder = self.folder(manifest.fingerprint);
        if let Some(mirror) = &self.mirror {
            return mirror.names(manifest);
        }
        let mut names = Vec::new();
        let mut pending = vec![folder.clone()];
        while let Some(at) = pending.pop() {
            let Ok(entries) = fs::read_dir(&at) else { continue };
            for path in entries.flatten().map(|entry| entry.path()) {
                if path.is_dir() {
                    pending.push(path);
                } else {
                    names.push(path.strip_prefix(&folder).unwrap_or(&path).to_string_lossy().into_owned());
                }
            }
        }
        Ok(names)
    }

    /// Own files of a dataset, here: those that a bucket holds are fetched.
    fn bring(&self, manifest: &manifest::Manifest, files: &[&FileEntry]) -> Result<PathBuf> {
        match &self.mirror {
            Some(mirror) => {
                let folder = self.folder(manifest.fingerprint);
                mirror.fetch(manifest, files, &folder, &self.checked)?;
                Ok(folder)
            }
            None => self.sound(manifest.fingerprint, files),
        }
    }

    /// The folder of a dataset of a local store, whose files are hashed where that matters.
    fn sound(&self, fingerprint: Digest, files: &[&FileEntry]) -> Result<PathBuf> {
        let folder = self.folder(fingerprint);
        let is_wrong = |file: &&&FileEntry| !self.checked.is(&folder.join(&file.name), file.blake3);
        if self.careful
            && let Some(file) = files.par_iter().find_first(is_wrong)
        {
            let path = folder.join(&file.name);
            let hint = "`finch verify` names everything that is damaged; `finch run SPEC --force STAGE` replaces a \
                        stage's damaged files";
            return Err(Error::Store {
                reason: format!("`{}` is damaged: it is not what the manifest says", path.display()),
                code: Code::Damaged,
                hint: Some(hint.to_owned()),
            });
        }
        Ok(folder)
    }

    /// Notes that a dataset's files are what its manifest says: they were hashed as they were written.
    fn note(&self, manifest: &manifest::Manifest) {
        let folder = self.folder(manifest.fingerprint);
        manifest.own_files().for_each(|file| self.checked.add(&folder.join(&file.name), file.blake3));
    }

    /// The fingerprints of all datasets, sorted. Folders that are not named by a digest are not datasets.
    pub fn fingerprints(&self) -> Result<Vec<Digest>> {
        if let Some(mirror) = &self.mirror {
            let mut found = mirror.fingerprints()?;
            found.sort();
            return Ok(found);
        }
        let folder = self.root.join("datasets");
        let mut found = Vec::new();
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(found),
            Err(error) => return Err(Error::io("list", folder)(error)),
        };
        for entry in entries {
            let entry = entry.map_err(Error::io("list", &folder))?;
            if let Some(digest) = entry.file_name().to_str().and_then(|name| name.parse().ok()) {
                found.push(digest);
            }
        }
        found.sort();
        Ok(found)
    }

    /// The work folder of a training. It outlives a build that was killed: the next one resumes from it.
    pub fn training(&self, fingerprint: Digest) -> PathBuf {
        self.root.join("training").join(fingerprint.to_string())
    }

    /// Where what was learned of sources is kept. It is advice: without it, more is read.
    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    /// The folder of what is being written.
    fn tmp(&self) -> Result<PathBuf> {
        let folder = self.root.join("tmp");
        if self.mirror.is_some() {
            // A mirror is a cache, which anybody may have emptied.
            fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        }
        Ok(folder)
    }

    /// A place to write a dataset to; removed when dropped.
    pub fn scratch(&self) -> Result<tempfile::TempDir> {
        mirror::scratch(&self.tmp()?)
    }

    /// Makes a dataset visible: its manifest is written, everything is synced, and the folder is renamed. When
    /// another build was faster, its dataset stays.
    pub fn publish(&self, staging: &Path, manifest: &manifest::Manifest) -> Result<Dataset> {
        let path = staging.join("manifest.json");
        let text = serde_json::to_vec_pretty(manifest)
            .map_err(|source| finch_core::Error::Manifest { path: path.clone(), source })?;
        write_synced(&path, &text)?;
        sync_folder(staging)?;
        if let Some(mirror) = &self.mirror {
            return self.publish_far(mirror, staging, manifest, &text);
        }
        let target = self.folder(manifest.fingerprint);
        if let Err(error) = fs::rename(staging, &target) {
            if let Some(there) = self.dataset(manifest.fingerprint)? {
                return there.in_place_of(manifest);
            }
            // A folder without a manifest is no dataset: nothing that finch publishes looks like this.
            let aside = self.scratch()?.keep().join("no-manifest");
            fs::rename(&target, &aside).map_err(|_| Error::io("publish to", &target)(error))?;
            fs::rename(staging, &target).map_err(Error::io("publish to", &target))?;
        }
        sync_folder(&self.root.join("datasets"))?;
        self.note(manifest);
        Ok(Dataset { store: self.clone(), manifest: manifest.clone() })
    }

    /// Publishes in a bucket, and keeps what was published in the mirror.
    fn publish_far(
        &self,
        mirror: &Mirror,
        staging: &Path,
        manifest: &manifest::Manifest,
        text: &[u8],
    ) -> Result<Dataset> {
        let target = self.folder(manifest.fingerprint);
        if !mirror.publish(manifest, text, staging)? {
            // Perhaps by this very call, when an answer was lost; then nothing is to be withdrawn.
            let there = self.expect(manifest.fingerprint)?.in_place_of(manifest)?;
            if there.manifest.bytes != manifest.bytes {
                mirror.withdraw(manifest)?;
            }
            return Ok(there);
        }
        mirror.note(manifest.fingerprint, text);
        // Another process of this machine may have brought it here already, and be reading it.
        if !fs::read(target.join("manifest.json")).is_ok_and(|here| here == text) {
            mirror::discard(&target, &self.tmp()?)?;
            match fs::rename(staging, &target) {
                Ok(()) => self.note(manifest),
                Err(_) => mirror.keep(&target, text, &self.tmp()?)?,
            }
        }
        Ok(Dataset { store: self.clone(), manifest: manifest.clone() })
    }

    /// Points `latest/<table>` at a dataset's tables, in local stores. For people: nothing in finch reads it.
    pub fn link_latest(&self, dataset: &Dataset) -> Result<()> {
        // A mirror may lack what a link leads to.
        if self.mirror.is_some() {
            return Ok(());
        }
        let folder = self.root.join("latest");
        for (name, table) in &dataset.manifest.tables {
            if table.from.is_some() {
                continue;
            }
            let target = format!("../datasets/{}/{name}", dataset.manifest.fingerprint);
            let aside = folder.join(format!(".{name}-{}", std::process::id()));
            let _ = fs::remove_file(&aside);
            std::os::unix::fs::symlink(&target, &aside).map_err(Error::io("link", &aside))?;
            fs::rename(&aside, folder.join(name)).map_err(Error::io("link", folder.join(name)))?;
        }
        Ok(())
    }
}

/// Whether a folder of `tmp` was left behind by a process of this machine that is gone.
fn abandoned(folder: &Path) -> bool {
    let name = folder.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let process = name.strip_prefix(&format!("{}-", host())).and_then(|rest| rest.split('-').next());
    process.is_some_and(|id| id.parse::<u32>().is_ok() && !Path::new("/proc").join(id).exists())
        && set_aside(folder).is_none()
}

/// What a folder of `tmp` keeps for people, if anything: a damaged dataset, or a folder that was none.
fn set_aside(folder: &Path) -> Option<&'static str> {
    ["damaged", "no-manifest"].into_iter().find(|name| folder.join(name).exists())
}

/// The machine's name, as far as it can be part of a file name.
pub(crate) fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect()
}

/// Writes a file whole and syncs it.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut file = fs::File::create(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

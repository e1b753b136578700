//! The store: immutable datasets named by fingerprint, and a record of every build.
//!
//! ```text
//! datasets/<fingerprint>/manifest.json, <table>/<table>-00000.parquet, tokenizer.json, model/model.safetensors
//! builds/<time>-<digest>.json
//! latest/<table> -> ../datasets/<fingerprint>/<table>      for people and other tools
//! tmp/<host>-<process>-<random>/                                  what is being written
//! cache/{stat.sqlite,parsed/}                                     what was learned of sources, to be forgotten at will
//! leases/<host>-<process>-<random>.lease                         what is at work here
//! training/<fingerprint>/                                         a training's config, log, and what it resumes from
//! ```
//!
//! A dataset is complete or absent: it is written aside, synced, and renamed into place with its manifest
//! inside. Two builds at once are correct without a lock, because a rename onto a finished dataset fails and
//! the loser discards its work, which was the same.

pub mod build;
pub mod dataset;
pub mod gc;
pub mod lease;
pub mod verify;

use std::fs;
use std::path::{Path, PathBuf};

use finch_core::shard::sync_folder;
use finch_core::{Digest, manifest};

pub use build::{BuildRecord, Decision, ReadingRecord, StageRecord, TrainingRecord};
pub use dataset::{Dataset, Draft};

use crate::code::Code;
use crate::error::{Error, Result};

/// A store in a local folder.
#[derive(Clone, Debug)]
pub struct Store {
    root: PathBuf,
}

impl Store {
    /// A store for building; its folders are created.
    pub fn create(root: &Path) -> Result<Self> {
        for folder in ["datasets", "builds", "latest", "tmp"] {
            let folder = root.join(folder);
            fs::create_dir_all(&folder).map_err(Error::io("create", folder))?;
        }
        let store = Self { root: root.to_path_buf() };
        store.sweep();
        Ok(store)
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
    pub fn open(root: &Path) -> Result<Self> {
        if root.join("datasets").is_dir() {
            return Ok(Self { root: root.to_path_buf() });
        }
        Err(Error::Store {
            reason: format!("`{}` is not a store: it has no folder `datasets`", root.display()),
            code: Code::NothingBuilt,
            hint: Some("`finch run SPEC` builds one; the spec's `store` says where".to_owned()),
        })
    }

    /// A store that may not exist yet; nothing is created.
    pub fn peek(root: &Path) -> Self {
        Self { root: root.to_path_buf() }
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The folder of a dataset, whether or not it is there.
    pub fn folder(&self, fingerprint: Digest) -> PathBuf {
        self.root.join("datasets").join(fingerprint.to_string())
    }

    /// A dataset, if it is there; a corrupt manifest is an error and never a dataset that is absent.
    pub fn dataset(&self, fingerprint: Digest) -> Result<Option<Dataset>> {
        let folder = self.folder(fingerprint);
        let path = folder.join("manifest.json");
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let manifest: manifest::Manifest = serde_json::from_slice(&text)
            .map_err(|source| finch_core::Error::Manifest { path: path.clone(), source })?;
        if manifest.version != manifest::VERSION || manifest.fingerprint != fingerprint {
            return Err(Error::Store {
                reason: format!("manifest `{}` is of another version or another dataset", path.display()),
                code: Code::BadManifest,
                hint: None,
            });
        }
        if let Some(name) = suspicious_name(&manifest) {
            return Err(Error::Store {
                reason: format!(
                    "manifest `{}` names the file or table `{}`, which no stage writes",
                    path.display(),
                    name.escape_debug()
                ),
                code: Code::BadManifest,
                hint: None,
            });
        }
        Ok(Some(Dataset { store: self.clone(), manifest }))
    }

    /// The digest of a dataset's manifest file, for the build record.
    pub fn manifest_digest(&self, fingerprint: Digest) -> Result<Digest> {
        let path = self.folder(fingerprint).join("manifest.json");
        Ok(Digest::of_bytes(&fs::read(&path).map_err(Error::io("read", &path))?))
    }

    /// Moves a damaged dataset out of the way, to be looked at or removed.
    pub fn set_aside(&self, fingerprint: Digest) -> Result<PathBuf> {
        let aside = self.scratch()?.keep().join("damaged");
        fs::rename(self.folder(fingerprint), &aside)
            .map_err(Error::io("set aside", self.folder(fingerprint)))?;
        Ok(aside)
    }

    /// A dataset that a build record names, and that must therefore be there.
    pub fn expect(&self, fingerprint: Digest) -> Result<Dataset> {
        self.dataset(fingerprint)?.ok_or_else(|| Error::Store {
            reason: format!("dataset {} is not in the store `{}`", fingerprint.short(), self.root.display()),
            code: Code::Damaged,
            hint: Some("`finch run` builds it again".to_owned()),
        })
    }

    /// The fingerprints of all datasets, sorted. Folders that are not named by a digest are not datasets.
    pub fn fingerprints(&self) -> Result<Vec<Digest>> {
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

    /// A place to write a dataset to; removed when dropped.
    pub fn scratch(&self) -> Result<tempfile::TempDir> {
        let folder = self.root.join("tmp");
        tempfile::Builder::new()
            .prefix(&format!("{}-{}-", host(), std::process::id()))
            .tempdir_in(&folder)
            .map_err(Error::io("create a folder in", folder))
    }

    /// Makes a dataset visible: its manifest is written, everything is synced, and the folder is renamed. When
    /// another build was faster, its dataset stays.
    pub fn publish(&self, staging: &Path, manifest: &manifest::Manifest) -> Result<Dataset> {
        let path = staging.join("manifest.json");
        let text = serde_json::to_vec_pretty(manifest)
            .map_err(|source| finch_core::Error::Manifest { path: path.clone(), source })?;
        write_synced(&path, &text)?;
        sync_folder(staging)?;
        let target = self.folder(manifest.fingerprint);
        if let Err(error) = fs::rename(staging, &target) {
            if let Some(there) = self.dataset(manifest.fingerprint)? {
                // Trainings have no `rows`: two of them may differ, and the first one stays.
                if there.manifest.rows != manifest.rows {
                    return Err(Error::Store {
                        reason: format!(
                            "two builds of dataset {} came out different",
                            manifest.fingerprint.short()
                        ),
                        code: Code::Damaged,
                        hint: Some("this is a defect of finch; please report it".to_owned()),
                    });
                }
                return Ok(there);
            }
            // A folder without a manifest is no dataset: nothing that finch publishes looks like this.
            let aside = self.scratch()?.keep().join("no-manifest");
            fs::rename(&target, &aside).map_err(|_| Error::io("publish to", &target)(error))?;
            fs::rename(staging, &target).map_err(Error::io("publish to", &target))?;
        }
        sync_folder(&self.root.join("datasets"))?;
        Ok(Dataset { store: self.clone(), manifest: manifest.clone() })
    }

    /// Points `latest/<table>` at a dataset's tables. For people: nothing in finch reads it.
    pub fn link_latest(&self, dataset: &Dataset) -> Result<()> {
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

/// A table or file name that finch itself would not write: a manifest is a file that anybody may have edited, and
/// names in it become paths.
fn suspicious_name(manifest: &manifest::Manifest) -> Option<&str> {
    let plain = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    };
    for (table, entry) in &manifest.tables {
        if !plain(table) {
            return Some(table);
        }
        for (n, file) in entry.files.iter().enumerate() {
            if file.name != format!("{table}/{table}-{n:05}.parquet") {
                return Some(&file.name);
            }
        }
    }
    manifest.artifacts.iter().map(|file| file.name.as_str()).find(|name| !is_artifact(name))
}

/// Whether finch would write an artifact of this name: a file of the dataset's folder, or of a model's below it.
pub(crate) fn is_artifact(name: &str) -> bool {
    let (stem_signs, file) = match name.strip_prefix("model/") {
        Some(file) => ("_-", file),
        None => ("_", name),
    };
    let plain = |part: &str, signs: &str| {
        !part.is_empty()
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || signs.contains(c))
    };
    file.split_once('.').is_some_and(|(stem, extension)| plain(stem, stem_signs) && plain(extension, "_"))
}

/// Writes a file whole and syncs it.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::io::Write;
    let mut file = fs::File::create(path).map_err(Error::io("create", path))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(Error::io("write", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn artifacts_lie_in_the_dataset_or_in_its_model() {
        for good in
            ["tokenizer.json", "model/model.safetensors", "model/tokenizer_config.json", "model/m-1.bin"]
        {
            assert!(is_artifact(good), "{good}");
        }
        for bad in [
            "",
            "x",
            "../x.json",
            "/x.json",
            "model/",
            "model/x",
            "model/../x.json",
            "model/a/b.json",
            "model//x.json",
            "other/x.json",
            "model/.json",
            "model/x.",
            "a-b.json",
            "model/X.json",
            "model/x.a.b",
            "model/..",
        ] {
            assert!(!is_artifact(bad), "{bad}");
        }
    }
}

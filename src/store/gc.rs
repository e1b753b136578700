//! Removal of what the newest builds do not need.
//!
//! Needed are the datasets of the builds that are kept and those whose tables they pass on. What a build at work has
//! written down in its lease is spared, and so is what is young: a build that was killed has no record, and the next
//! one goes on from what it published. A record that cannot be read ends the removal before it begins.
//!
//! Records go first, so that no record names a dataset that is gone. A dataset is moved out of `datasets` in one step
//! and deleted from `tmp` after that: at every moment it is whole or absent, and what a crash leaves in `tmp` the next
//! build sweeps. Builds wait only while things are moved; in a bucket, until they are removed.

mod far;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, Metadata};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use finch_core::Digest;
use finch_core::shard::sync_folder;
use serde::Serialize;

use super::lease::{Found, Lease, Work};
use super::{BuildRecord, Store, abandoned, set_aside};
use crate::code::Code;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::remote::Object;

/// What to keep.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Builds of each pipeline.
    pub keep: usize,
    /// Nothing younger is removed.
    pub grace: Duration,
}

/// What a thing in the store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Thing {
    /// A build's record.
    Build,
    /// A dataset.
    Dataset,
    /// The work folder of a training.
    Training,
    /// A folder of `tmp`.
    Scratch,
    /// A link of `latest`.
    Link,
    /// A lease.
    Lease,
}

/// A thing that is removed, or spared although no kept build needs it.
#[derive(Clone, Debug, Serialize)]
pub struct Item {
    /// What it is.
    pub thing: Thing,
    /// Its path below the store.
    pub place: String,
    /// The bytes of its files.
    pub bytes: u64,
    /// What else is to be said of it, and why it is removed or spared.
    pub why: String,
    #[serde(skip)]
    path: PathBuf,
    #[serde(skip)]
    dataset: Option<Digest>,
}

/// What a removal did, or would do.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Removal {
    /// Whether nothing was touched.
    pub dry_run: bool,
    /// The ids of the builds that are kept.
    pub kept_builds: Vec<String>,
    /// Datasets that they need.
    pub needed_datasets: usize,
    /// What is removed, in this order.
    pub removed: Vec<Item>,
    /// What is spared.
    pub spared: Vec<Item>,
    /// Bytes of what is removed.
    pub bytes: u64,
}

/// Says what a removal would do; touches nothing.
pub fn survey(store: &Store, policy: Policy) -> Result<Removal> {
    let objects = far::objects(store)?;
    // Nothing is written, so nobody tells the server's time; it is not before the newest object.
    let newest = objects.iter().map(|object| object.modified).max();
    let now = newest.map_or(SystemTime::now(), |newest| newest.max(SystemTime::now()));
    let survey = Survey { store, policy, now, leases: store.leases(now)?, objects };
    Ok(Removal { dry_run: true, ..survey.look()? })
}

/// Removes what [`survey`] says. Stopped by a signal, it has removed a part, and what is left is whole.
pub fn remove(store: &Store, policy: Policy, interrupt: &Interrupt) -> Result<Removal> {
    let lease = Lease::take(store, Work::Removal)?;
    let now = lease.time()?;
    let mut leases = store.leases(now)?;
    // By name: paths may be relative.
    leases.retain(|found| found.path.file_name() != lease.name());
    if let Some(other) = leases.iter().find(|found| found.live && found.works(Work::Removal)) {
        return Err(Error::Store {
            reason: format!("another removal is at work on this store: {}", other.described()),
            code: Code::Busy,
            hint: Some("wait until it is done".to_owned()),
        });
    }
    let removal = Survey { store, policy, now, leases, objects: far::objects(store)? }.look()?;
    if let Some(mirror) = &store.mirror {
        far::remove(store, mirror, &removal, &lease, interrupt)?;
        return Ok(removal);
    }
    let tmp = store.root().join("tmp");
    fs::create_dir_all(&tmp).map_err(Error::io("create", tmp))?;
    let aside = store.scratch()?;
    let by = |thing: Thing| removal.removed.iter().filter(move |item| item.thing == thing);
    for record in by(Thing::Build) {
        gone(fs::remove_file(&record.path)).map_err(Error::io("remove", &record.path))?;
    }
    sync(&store.root().join("builds"))?;
    for (n, item) in by(Thing::Dataset).chain(by(Thing::Training)).enumerate() {
        interrupt.check()?;
        let target = aside.path().join(n.to_string());
        gone(fs::rename(&item.path, target)).map_err(Error::io("remove", &item.path))?;
    }
    sync(&store.root().join("datasets"))?;
    for item in by(Thing::Link).chain(by(Thing::Lease)) {
        gone(fs::remove_file(&item.path)).map_err(Error::io("remove", &item.path))?;
    }
    drop(lease);
    let path = aside.path().to_path_buf();
    aside.close().map_err(Error::io("remove", path))?;
    for item in by(Thing::Scratch) {
        gone(fs::remove_dir_all(&item.path)).map_err(Error::io("remove", &item.path))?;
    }
    Ok(removal)
}

/// What is gone already is as well removed.
fn gone(result: std::io::Result<()>) -> std::io::Result<()> {
    match result {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

fn sync(folder: &Path) -> Result<()> {
    if folder.is_dir() { Ok(sync_folder(folder)?) } else { Ok(()) }
}

/// A time span, roughly.
fn in_words(duration: Duration) -> String {
    match duration.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

struct Survey<'a> {
    store: &'a Store,
    policy: Policy,
    now: SystemTime,
    leases: Vec<Found>,
    /// What the store's bucket holds, sorted by key.
    objects: Vec<Object>,
}

impl Survey<'_> {
    fn look(&self) -> Result<Removal> {
        let mut removal = Removal::default();
        let mut roots = self.builds(&mut removal)?;
        let fingerprints: BTreeSet<Digest> = self.store.fingerprints()?.into_iter().collect();
        if removal.kept_builds.is_empty() && !fingerprints.is_empty() {
            return Err(Error::Store {
                reason: format!(
                    "no build is recorded in the store `{}`, so nothing says what is needed",
                    self.store.place()
                ),
                code: Code::NothingBuilt,
                hint: Some("`finch run SPEC` makes one".to_owned()),
            });
        }
        removal.needed_datasets = self.closure(roots.clone())?.intersection(&fingerprints).count();
        self.leases(&mut removal, &mut roots)?;
        // What is young is spared with all that it needs.
        let mut young = BTreeSet::new();
        for &fingerprint in &fingerprints {
            if self.is_young(self.written(fingerprint)?) {
                young.insert(fingerprint);
            }
        }
        let needed = self.closure(roots)?;
        let spared = self.closure(young.clone())?;
        for &fingerprint in fingerprints.difference(&needed) {
            let path = self.store.folder(fingerprint);
            let kind = match self.store.dataset(fingerprint) {
                Ok(Some(dataset)) => format!("of kind `{}`", dataset.manifest.kind),
                Ok(None) => "without a manifest".to_owned(),
                Err(_) => "with a corrupt manifest".to_owned(),
            };
            let old = self.ago(self.written(fingerprint)?);
            if young.contains(&fingerprint) {
                let why = format!("{kind}, published {old} ago, in the grace period");
                self.item(&mut removal.spared, Thing::Dataset, path, why, Some(fingerprint))?;
            } else if spared.contains(&fingerprint) {
                let why = format!("{kind}, holds tables of a dataset in the grace period");
                self.item(&mut removal.spared, Thing::Dataset, path, why, Some(fingerprint))?;
            } else {
                let why = format!("{kind}, published {old} ago, needed by no kept build");
                self.item(&mut removal.removed, Thing::Dataset, path, why, Some(fingerprint))?;
            }
        }
        let removed: BTreeSet<Digest> = removal.removed.iter().filter_map(|item| item.dataset).collect();
        let stays =
            |fingerprint: &Digest| fingerprints.contains(fingerprint) && !removed.contains(fingerprint);
        self.trainings(&mut removal, &fingerprints, stays)?;
        self.links(&mut removal, stays)?;
        self.left_far(&mut removal, stays)?;
        self.scratch(&mut removal)?;
        removal.bytes = removal.removed.iter().map(|item| item.bytes).sum();
        Ok(removal)
    }

    /// The newest builds of each pipeline are kept, those of `--only` counted apart, and the last one when it did not
    /// finish: the next one goes on from it. Returns the datasets that they name.
    fn builds(&self, removal: &mut Removal) -> Result<BTreeSet<Digest>> {
        let mut counted: BTreeMap<(String, bool), usize> = BTreeMap::new();
        let mut seen = BTreeSet::new();
        let mut roots = BTreeSet::new();
        for path in self.store.build_files()?.into_iter().rev() {
            let record = self.store.read_build(&path)?;
            let newest = seen.insert(record.pipeline.clone());
            let keep = if record.status == "ok" {
                let count = counted.entry((record.pipeline.clone(), record.only.is_some())).or_default();
                *count += 1;
                *count <= self.policy.keep
            } else {
                newest
            };
            if keep {
                roots.extend(record.stages.iter().map(|stage| stage.fingerprint));
                removal.kept_builds.push(record.build_id);
                continue;
            }
            let why = reason(&record);
            self.item(&mut removal.removed, Thing::Build, path, why, None)?;
        }
        removal.removed.reverse();
        removal.kept_builds.reverse();
        Ok(roots)
    }

    /// Leases of builds at work spare what they name; leases of dead owners are removed.
    fn leases(&self, removal: &mut Removal, roots: &mut BTreeSet<Digest>) -> Result<()> {
        for found in &self.leases {
            if found.live {
                roots.extend(&found.datasets);
                let why = format!("{} datasets are in use: {}", found.datasets.len(), found.described());
                self.item(&mut removal.spared, Thing::Lease, found.path.clone(), why, None)?;
            } else {
                let why = format!("its owner is gone: {}", found.described());
                self.item(&mut removal.removed, Thing::Lease, found.path.clone(), why, None)?;
            }
        }
        Ok(())
    }

    /// Datasets with those that hold tables which they pass on.
    fn closure(&self, roots: BTreeSet<Digest>) -> Result<BTreeSet<Digest>> {
        let mut closed = BTreeSet::new();
        let mut open: Vec<Digest> = roots.into_iter().collect();
        while let Some(fingerprint) = open.pop() {
            if !closed.insert(fingerprint) {
                continue;
            }
            // One that is missing needs nothing, and `verify` names it.
            if let Some(dataset) = self.store.dataset(fingerprint)? {
                open.extend(dataset.manifest.tables.values().filter_map(|table| table.from));
            }
        }
        Ok(closed)
    }

    /// Work folders of trainings: one with a dataset goes with it, one without holds checkpoints of a training that
    /// did not end.
    fn trainings(
        &self,
        removal: &mut Removal,
        fingerprints: &BTreeSet<Digest>,
        stays: impl Fn(&Digest) -> bool,
    ) -> Result<()> {
        let used =
            |name: Digest| self.leases.iter().any(|found| found.live && found.datasets.contains(&name));
        for path in entries(&self.store.root().join("training"))? {
            let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.parse().ok());
            let Some(name) = name else { continue };
            if stays(&name) {
                continue;
            }
            let newest = newest_file(&path)?;
            let old = self.ago(newest);
            let trained = fingerprints.contains(&name);
            let said = if trained { "its dataset is removed" } else { "a training that did not end" };
            let (list, why) = if is_held(&path) || used(name) {
                (&mut removal.spared, "a trainer or a build is at work in it".to_owned())
            } else if self.is_young(newest) {
                (&mut removal.spared, format!("{said}, last written {old} ago, in the grace period"))
            } else {
                (&mut removal.removed, format!("{said}, last written {old} ago"))
            };
            self.item(list, Thing::Training, path, why, None)?;
        }
        Ok(())
    }

    /// Links of `latest` that lead nowhere, or will.
    fn links(&self, removal: &mut Removal, stays: impl Fn(&Digest) -> bool) -> Result<()> {
        for path in entries(&self.store.root().join("latest"))? {
            let Ok(target) = fs::read_link(&path) else { continue };
            let mut parts = target.components().rev().skip(1);
            let dataset: Option<Digest> =
                parts.next().and_then(|part| part.as_os_str().to_str()).and_then(|name| name.parse().ok());
            // A link of another kind is somebody else's.
            if dataset.is_some_and(|dataset| !stays(&dataset)) {
                let why = "leads to a dataset that is gone".to_owned();
                self.item(&mut removal.removed, Thing::Link, path, why, None)?;
            }
        }
        Ok(())
    }

    /// Damaged datasets that were set aside, and what killed builds of this machine left.
    fn scratch(&self, removal: &mut Removal) -> Result<()> {
        for path in entries(&self.store.root().join("tmp"))? {
            let kept = set_aside(&path);
            let why = match kept {
                Some("damaged") => "a damaged dataset that was set aside",
                Some(_) => "a folder without a manifest that was set aside",
                None if abandoned(&path) => "left by a process that was killed",
                None => continue,
            };
            let time = fs::symlink_metadata(&path).and_then(|meta| meta.modified());
            let time = time.map_err(Error::io("read the time of", &path))?;
            let old = self.ago(time);
            let (list, why) = if kept.is_some() && self.is_young(time) {
                (&mut removal.spared, format!("{why} {old} ago, in the grace period"))
            } else {
                (&mut removal.removed, format!("{why} {old} ago"))
            };
            self.item(list, Thing::Scratch, path, why, None)?;
        }
        self.damaged_far(removal)
    }

    fn item(
        &self,
        list: &mut Vec<Item>,
        thing: Thing,
        path: PathBuf,
        why: String,
        dataset: Option<Digest>,
    ) -> Result<()> {
        let place = path.strip_prefix(self.store.root()).unwrap_or(&path).to_string_lossy().into_owned();
        let bytes = match thing {
            Thing::Link => 0,
            Thing::Build | Thing::Dataset | Thing::Lease | Thing::Scratch if self.is_far(&place) => {
                let here = self.objects.iter().filter(|object| object.key == place).chain(self.below(&place));
                here.map(|object| object.bytes).sum()
            }
            _ => files(&path)?.iter().map(|(_, meta)| meta.len()).sum(),
        };
        list.push(Item { thing, place, bytes, why, path, dataset });
        Ok(())
    }

    /// A time in the future, after a clock was set back, is young.
    fn age(&self, time: SystemTime) -> Duration {
        self.now.duration_since(time).unwrap_or_default()
    }

    fn ago(&self, time: SystemTime) -> String {
        in_words(self.age(time))
    }

    fn is_young(&self, time: SystemTime) -> bool {
        self.age(time) < self.policy.grace
    }
}

/// Why a build's record is removed.
fn reason(record: &BuildRecord) -> String {
    match record.status.as_str() {
        "ok" => format!("newer builds of `{}` are kept", record.pipeline),
        status => format!("{status}, and `{}` was built since", record.pipeline),
    }
}

/// When a dataset was published in a folder: its manifest is written last.
fn written(folder: &Path) -> Result<SystemTime> {
    let time = |path: &Path| fs::symlink_metadata(path).and_then(|meta| meta.modified());
    time(&folder.join("manifest.json"))
        .or_else(|_| time(folder))
        .map_err(Error::io("read the time of", folder))
}

/// Whether another process holds a training's lock.
fn is_held(folder: &Path) -> bool {
    let Ok(lock) = File::open(folder.join("lock")) else { return false };
    lock.try_lock().is_err()
}

fn newest_file(folder: &Path) -> Result<SystemTime> {
    let own = fs::symlink_metadata(folder).map_err(Error::io("read", folder))?;
    let times = files(folder)?.into_iter().map(|(_, meta)| meta).chain([own]);
    let times: std::io::Result<Vec<SystemTime>> = times.map(|meta| meta.modified()).collect();
    let newest = times.map_err(Error::io("read the time of", folder))?.into_iter().max();
    Ok(newest.unwrap_or(SystemTime::UNIX_EPOCH))
}

/// The entries of a folder, sorted; none when it is not there.
fn entries(folder: &Path) -> Result<Vec<PathBuf>> {
    let listed = match fs::read_dir(folder) {
        Ok(listed) => listed,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
        Err(error) => return Err(Error::io("list", folder)(error)),
    };
    let paths: std::io::Result<Vec<PathBuf>> = listed.map(|entry| Ok(entry?.path())).collect();
    let mut paths = paths.map_err(Error::io("list", folder))?;
    paths.sort();
    Ok(paths)
}

/// All files below a path; links are not followed.
fn files(path: &Path) -> Result<Vec<(PathBuf, Metadata)>> {
    let mut pending = vec![path.to_path_buf()];
    let mut found = Vec::new();
    while let Some(path) = pending.pop() {
        match fs::symlink_metadata(&path) {
            Ok(meta) if meta.is_dir() => pending.extend(entries(&path)?),
            Ok(meta) => found.push((path, meta)),
            // Somebody else removed it meanwhile.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Error::io("read", path)(error)),
        }
    }
    Ok(found)
}

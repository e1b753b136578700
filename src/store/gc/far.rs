//! Removal from a bucket: the same decisions, on a listing instead of a folder.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::PathBuf;
use std::time::SystemTime;

use finch_core::Digest;

use super::{Removal, Survey, Thing, gone, written};
use crate::code::Code;
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::remote::Object;
use crate::store::Store;
use crate::store::lease::Lease;
use crate::store::mirror::{self, Mirror};

/// Removes from a bucket: a dataset's manifest first, so that it is whole or absent.
pub(super) fn remove(
    store: &Store,
    mirror: &Mirror,
    removal: &Removal,
    lease: &Lease,
    interrupt: &Interrupt,
) -> Result<()> {
    let by = |thing: Thing| removal.removed.iter().filter(move |item| item.thing == thing);
    let records: Vec<String> = by(Thing::Build).map(|item| item.place.clone()).collect();
    mirror.bucket.delete(&records)?;
    for record in by(Thing::Build) {
        gone(fs::remove_file(&record.path)).map_err(Error::io("remove", &record.path))?;
    }
    for item in by(Thing::Dataset) {
        interrupt.check()?;
        if is_wanted_again(store, removal, lease, item.dataset)? {
            continue;
        }
        if let Some(fingerprint) = item.dataset {
            mirror.bucket.delete(&[mirror::manifest_key(fingerprint)])?;
        }
        remove_below(mirror, &item.place)?;
        mirror::discard(&item.path, &store.tmp()?)?;
    }
    for item in by(Thing::Lease) {
        mirror.bucket.delete(std::slice::from_ref(&item.place))?;
    }
    for item in by(Thing::Scratch).chain(by(Thing::Training)) {
        interrupt.check()?;
        if item.place.starts_with(mirror::DAMAGED) || item.place.starts_with("datasets/") {
            remove_below(mirror, &item.place)?;
        } else {
            gone(fs::remove_dir_all(&item.path)).map_err(Error::io("remove", &item.path))?;
        }
    }
    Ok(())
}

/// Whether a build has come to use a dataset since the survey: a removal may have been held up, its lease have lapsed,
/// and a build have begun, or begun and ended. From here on builds see the lease, and wait.
fn is_wanted_again(store: &Store, removal: &Removal, lease: &Lease, dataset: Option<Digest>) -> Result<bool> {
    let now = lease.renew()?;
    let known = |path: &PathBuf| {
        let id = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        removal.kept_builds.contains(&id)
    };
    if !store.build_files()?.iter().all(known) {
        return Err(Error::Store {
            reason: "a build ended while this removal was at work, and may need what was to be removed"
                .to_owned(),
            code: Code::Busy,
            hint: Some("run it again".to_owned()),
        });
    }
    let leases = store.leases(now)?;
    Ok(leases
        .iter()
        .any(|found| found.live && dataset.is_some_and(|dataset| found.datasets.contains(&dataset))))
}

fn remove_below(mirror: &Mirror, folder: &str) -> Result<()> {
    let keys: Vec<String> = mirror.bucket.list(folder)?.into_iter().map(|object| object.key).collect();
    mirror.bucket.delete(&keys)
}

/// Everything in a store's bucket; empty for a local store.
pub(super) fn objects(store: &Store) -> Result<Vec<Object>> {
    let Some(mirror) = &store.mirror else { return Ok(vec![]) };
    let mut objects = Vec::new();
    // Other things may lie below a store's address; they are not ours.
    for folder in ["builds", mirror::DAMAGED, "datasets", "leases"] {
        objects.extend(mirror.bucket.list(folder)?);
    }
    Ok(objects)
}

impl Survey<'_> {
    /// Files of attempts at a dataset that another one came before.
    pub(super) fn left_far(&self, removal: &mut Removal, stays: impl Fn(&Digest) -> bool) -> Result<()> {
        let mut folders: BTreeMap<(Digest, &str), SystemTime> = BTreeMap::new();
        for object in self.below("datasets") {
            let mut parts = object.key.splitn(4, '/').skip(1);
            let (Some(name), Some(attempt), Some(_)) = (parts.next(), parts.next(), parts.next()) else {
                continue;
            };
            let Some(fingerprint) = name.parse().ok().filter(&stays) else { continue };
            let newest = folders.entry((fingerprint, attempt)).or_insert(object.modified);
            *newest = object.modified.max(*newest);
        }
        let mut several: BTreeMap<Digest, usize> = BTreeMap::new();
        folders.keys().for_each(|(fingerprint, _)| *several.entry(*fingerprint).or_default() += 1);
        for ((fingerprint, attempt), newest) in folders {
            if several[&fingerprint] < 2 {
                continue;
            }
            let Some(dataset) = self.store.dataset(fingerprint)? else { continue };
            let folder = format!("datasets/{fingerprint}/{attempt}");
            if folder == mirror::files_key(&dataset.manifest) || self.is_young(newest) {
                continue;
            }
            let why = format!("an attempt that another one came before, {} ago", self.ago(newest));
            self.item(&mut removal.removed, Thing::Scratch, self.store.root().join(folder), why, None)?;
        }
        Ok(())
    }

    /// Damaged datasets that were set aside in the bucket.
    pub(super) fn damaged_far(&self, removal: &mut Removal) -> Result<()> {
        for folder in self.damaged_folders() {
            let time = self.below(&folder).map(|object| object.modified).max().unwrap_or(self.now);
            let old = self.ago(time);
            let (list, grace) = match self.is_young(time) {
                true => (&mut removal.spared, ", in the grace period"),
                false => (&mut removal.removed, ""),
            };
            let why = format!("a damaged dataset that was set aside {old} ago{grace}");
            self.item(list, Thing::Scratch, self.store.root().join(folder), why, None)?;
        }
        Ok(())
    }

    /// The folders of damaged datasets that were set aside in a bucket.
    fn damaged_folders(&self) -> BTreeSet<String> {
        let below = self.below(mirror::DAMAGED);
        let names = below.filter_map(|object| object.key[mirror::DAMAGED.len() + 1..].split('/').next());
        names.map(|name| format!("{}/{name}", mirror::DAMAGED)).collect()
    }

    /// The objects below a folder of the bucket.
    pub(super) fn below(&self, folder: &str) -> impl Iterator<Item = &Object> {
        let folder = format!("{folder}/");
        self.objects.iter().filter(move |object| object.key.starts_with(&folder))
    }

    /// When a dataset was published: its manifest is written last.
    pub(super) fn written(&self, fingerprint: Digest) -> Result<SystemTime> {
        if self.store.mirror.is_none() {
            return written(&self.store.folder(fingerprint));
        }
        let manifest = mirror::manifest_key(fingerprint);
        let published = self.objects.iter().find(|object| object.key == manifest);
        let newest = || self.below(&format!("datasets/{fingerprint}")).map(|object| object.modified).max();
        // One that came after the bucket was listed is young.
        Ok(published.map(|object| object.modified).or_else(newest).unwrap_or(self.now))
    }

    /// Whether a place below the store is one in its bucket, and not in the folder that mirrors it.
    pub(super) fn is_far(&self, place: &str) -> bool {
        let far = ["builds", "datasets", "leases", mirror::DAMAGED];
        self.store.mirror.is_some() && far.iter().any(|folder| place.starts_with(folder))
    }
}

//! Removal from a bucket: the same decisions, on a listing instead of a folder.

use std::collections::BTreeSet;
use std::fs;
use std::time::SystemTime;

use finch_core::Digest;

use super::{Removal, Survey, Thing, gone, written};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;
use crate::remote::Object;
use crate::store::Store;
use crate::store::mirror::{self, Mirror};

/// Removes from a bucket: a dataset's manifest first, so that it is whole or absent.
pub(super) fn remove(store: &Store, mirror: &Mirror, removal: &Removal, interrupt: &Interrupt) -> Result<()> {
    let by = |thing: Thing| removal.removed.iter().filter(move |item| item.thing == thing);
    let records: Vec<String> = by(Thing::Build).map(|item| item.place.clone()).collect();
    mirror.bucket.delete(&records)?;
    for record in by(Thing::Build) {
        gone(fs::remove_file(&record.path)).map_err(Error::io("remove", &record.path))?;
    }
    for item in by(Thing::Dataset) {
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
        if item.place.starts_with(mirror::DAMAGED) {
            remove_below(mirror, &item.place)?;
        } else {
            gone(fs::remove_dir_all(&item.path)).map_err(Error::io("remove", &item.path))?;
        }
    }
    Ok(())
}

fn remove_below(mirror: &Mirror, folder: &str) -> Result<()> {
    let keys: Vec<String> = mirror.bucket.list(folder)?.into_iter().map(|object| object.key).collect();
    mirror.bucket.delete(&keys)
}

/// Everything in a store's bucket; empty for a local store.
pub(super) fn objects(store: &Store) -> Result<Vec<Object>> {
    store.mirror.as_ref().map_or(Ok(vec![]), |mirror| mirror.bucket.list(""))
}

impl Survey<'_> {
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

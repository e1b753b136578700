//! Which files this process knows to be what their manifests say.
//!
//! A dataset is trusted at a glance, by the sizes of its files; before its rows become the rows of another dataset
//! they are hashed, once a process. A shard that was replaced by hand, or a bit that a disk lost, must not be published
//! under a new name.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use finch_core::{Digest, digest};

use crate::ingest::stat::Stamp;

/// Files that were hashed, with what tells that they were written since.
#[derive(Clone, Debug, Default)]
pub(super) struct Checked(Arc<Mutex<HashMap<PathBuf, (Stamp, Digest)>>>);

impl Checked {
    /// Whether a file has this digest. One that cannot be read has none.
    pub(super) fn is(&self, path: &Path, wanted: Digest) -> bool {
        let Some(stamp) = stamp(path) else { return false };
        if self.known(path) == Some((stamp, wanted)) {
            return true;
        }
        match digest::of_file(path) {
            Ok(found) => {
                self.keep(path, stamp, found);
                found == wanted
            }
            Err(_) => false,
        }
    }

    /// Notes a file that was hashed while it was written.
    pub(super) fn add(&self, path: &Path, digest: Digest) {
        if let Some(stamp) = stamp(path) {
            self.keep(path, stamp, digest);
        }
    }

    fn known(&self, path: &Path) -> Option<(Stamp, Digest)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(path).copied()
    }

    fn keep(&self, path: &Path, stamp: Stamp, digest: Digest) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(path.to_path_buf(), (stamp, digest));
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::symlink_metadata(path).ok().map(|meta| Stamp::of(&meta))
}

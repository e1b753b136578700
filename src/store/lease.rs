//! Leases: what is at work on a store, so that `gc` removes nothing from under a build.
//!
//! A lease is a file below `leases/` that its owner holds locked, touches once a minute, and removes at its end: first
//! a line that says who, then a line for each dataset that is in use. Publishing needs none of it. Removing does, and
//! is kept apart from builds by order alone: a build writes down a dataset before it looks whether the dataset is
//! there, and waits for a removal that is under way; a removal says so before it reads what is written down. Whoever
//! comes second sees the other.
//!
//! On its own machine a lease ends with its owner, because the lock does. From other machines, where locks may not
//! be seen, it counts until it has not been touched for [`STALE`], by the file system's clock. In a bucket a lease is
//! an object: see `far`.

mod far;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use finch_core::Digest;
use serde::{Deserialize, Serialize};

use super::{Store, host};
use crate::error::{Error, Result};
use crate::interrupt::Interrupt;

/// How often a lease is touched.
const TOUCH: Duration = Duration::from_secs(60);
/// How long an untouched lease of another machine counts.
pub const STALE: Duration = Duration::from_secs(600);
/// How often a build looks whether a removal is over.
const LOOK: Duration = Duration::from_millis(50);
/// The folder below the store.
const FOLDER: &str = "leases";

/// What the owner of a lease does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// Builds.
    Build,
    /// Removes what is not needed.
    Removal,
}

/// Who holds a lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Owner {
    /// What it does.
    pub work: Work,
    /// The machine.
    pub host: String,
    /// The process on it.
    pub process: u32,
    /// RFC 3339, UTC.
    pub started_at: String,
}

/// A lease that this process holds.
pub struct Lease(Held);

enum Held {
    Near(Near),
    Far(far::Held),
}

/// A lease in a local store.
struct Near {
    path: PathBuf,
    file: File,
    touching: Option<(Sender<()>, JoinHandle<()>)>,
}

/// A lease that was found in a store.
#[derive(Clone, Debug)]
pub struct Found {
    /// Its file.
    pub path: PathBuf,
    /// Who holds it; none when the file does not say.
    pub owner: Option<Owner>,
    /// Whether the owner may still be at work.
    pub live: bool,
    /// The datasets that it uses.
    pub datasets: BTreeSet<Digest>,
}

impl Lease {
    /// Takes a lease on a store.
    pub fn take(store: &Store, work: Work) -> Result<Self> {
        let owner = Owner {
            work,
            host: host(),
            process: std::process::id(),
            started_at: chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        };
        Ok(Self(match &store.mirror {
            Some(mirror) => Held::Far(far::Held::take(&mirror.bucket, &owner)?),
            None => Held::Near(Near::take(store, &owner)?),
        }))
    }

    /// The name of its file or object.
    pub fn name(&self) -> Option<&OsStr> {
        match &self.0 {
            Held::Near(near) => near.path.file_name(),
            Held::Far(far) => Path::new(&far.key).file_name(),
        }
    }

    /// The time on the store's clock, the file system's or the server's, when it was last touched.
    pub fn time(&self) -> Result<SystemTime> {
        match &self.0 {
            Held::Near(near) => {
                let meta = near.file.metadata().and_then(|meta| meta.modified());
                meta.map_err(Error::io("read the time of", &near.path))
            }
            Held::Far(far) => far.time(),
        }
    }

    /// Makes it count from now on, also when it had lapsed; the time on the store's clock.
    pub fn renew(&self) -> Result<SystemTime> {
        match &self.0 {
            Held::Near(_) => self.time(),
            Held::Far(far) => far.renew(),
        }
    }

    /// Writes down that a dataset is in use, and waits for a removal that is under way. What was known of the dataset
    /// before is then to be looked at again.
    pub fn claim(
        &mut self,
        store: &Store,
        dataset: Digest,
        interrupt: &Interrupt,
        tell: impl Fn(&str),
    ) -> Result<()> {
        let line = format!("{dataset}\n");
        match &mut self.0 {
            // One write of a short line: a reader sees all of it or, before the claim is made, a part that it ignores.
            Held::Near(near) => {
                near.file.write_all(line.as_bytes()).map_err(Error::io("write", &near.path))?;
            }
            Held::Far(far) => far.add(&line)?,
        }
        let mut told = false;
        loop {
            let leases = store.leases(self.time()?)?;
            let Some(removal) = leases.iter().find(|found| found.live && found.works(Work::Removal)) else {
                return Ok(());
            };
            if !std::mem::replace(&mut told, true) {
                tell(&format!("waits for a removal at work on this store: {}", removal.described()));
            }
            interrupt.check()?;
            std::thread::sleep(LOOK);
        }
    }
}

impl Near {
    fn take(store: &Store, owner: &Owner) -> Result<Self> {
        let folder = store.root().join(FOLDER);
        fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        if owner.work == Work::Build {
            store.sweep_leases();
        }
        let aside = tempfile::Builder::new()
            .prefix(&format!("{}-{}-", owner.host, owner.process))
            .suffix(".tmp")
            .tempfile_in(&folder)
            .map_err(Error::io("create a file in", &folder))?;
        let path = aside.path().with_extension("lease");
        // Where files cannot be locked, leases end by their age alone.
        let _ = aside.as_file().lock();
        let line = format!("{}\n", serde_json::json!(owner));
        aside.as_file().write_all(line.as_bytes()).map_err(Error::io("write", aside.path()))?;
        // Locked and written before it has its name: nobody sees it without its owner.
        let file = aside.persist_noclobber(&path).map_err(|error| Error::io("create", &path)(error.error))?;
        let touching = file.try_clone().ok().and_then(touch);
        Ok(Self { path, file, touching })
    }
}

impl Drop for Near {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.touching.take() {
            drop(stop);
            let _ = thread.join();
        }
        // One that cannot be removed is no longer locked.
        let _ = fs::remove_file(&self.path);
    }
}

/// Touches a lease until told to stop. An empty line does it, so that the time is the file system's and not ours.
fn touch(mut file: File) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = mpsc::channel();
    let touching = move || {
        while stopped.recv_timeout(TOUCH) == Err(RecvTimeoutError::Timeout) {
            let _ = file.write_all(b"\n");
        }
    };
    let thread = std::thread::Builder::new().name("lease".to_owned()).spawn(touching).ok()?;
    Some((stop, thread))
}

/// Whether something that was touched then is fresh. A clock that was set back makes it a little younger than now;
/// what claims to be of another day is not.
fn is_fresh(touched: SystemTime, now: SystemTime, stale: Duration) -> bool {
    let apart = now.duration_since(touched).unwrap_or_else(|ahead| ahead.duration());
    apart < stale
}

impl Found {
    /// Who holds it, in words.
    pub fn described(&self) -> String {
        match &self.owner {
            Some(owner) => {
                format!("process {} on `{}`, since {}", owner.process, owner.host, owner.started_at)
            }
            None => format!("`{}`", self.path.display()),
        }
    }

    /// Whether the owner does this. One that does not say builds, for all that is known.
    pub fn works(&self, work: Work) -> bool {
        self.owner.as_ref().map_or(Work::Build, |owner| owner.work) == work
    }
}

impl Store {
    /// All leases in the store, judged at a time of the file system's clock.
    pub fn leases(&self, now: SystemTime) -> Result<Vec<Found>> {
        if let Some(mirror) = &self.mirror {
            return far::all(&mirror.bucket, &self.root, now);
        }
        let folder = self.root.join(FOLDER);
        let entries = match fs::read_dir(&folder) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(vec![]),
            Err(error) => return Err(Error::io("list", folder)(error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(Error::io("list", &folder))?.path();
            if path.extension().is_some_and(|extension| extension == "lease") {
                found.extend(look(&path, now)?);
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(found)
    }

    /// Removes what killed builds of this machine left. What cannot be removed stays.
    fn sweep_leases(&self) {
        let here = |found: &Found| found.owner.as_ref().is_some_and(|owner| owner.host == host());
        let leases = self.leases(SystemTime::now()).unwrap_or_default();
        for dead in leases.iter().filter(|found| !found.live && here(found)) {
            let _ = fs::remove_file(&dead.path);
        }
    }
}

/// A lease file; none when its owner has just removed it.
fn look(path: &Path, now: SystemTime) -> Result<Option<Found>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io("open", path)(error)),
    };
    // Read as bytes: a lease is a file that anybody may have edited.
    let text = fs::read(path).unwrap_or_default();
    let (owner, datasets) = parse(&text);
    let here = owner.as_ref().is_some_and(|owner| owner.host == host());
    let touched =
        file.metadata().and_then(|meta| meta.modified()).map_err(Error::io("read the time of", path))?;
    let fresh = is_fresh(touched, now, STALE);
    let live = match file.try_lock_shared() {
        Err(TryLockError::WouldBlock) => true,
        Ok(()) => !here && fresh,
        Err(TryLockError::Error(_)) => fresh,
    };
    Ok(Some(Found { path: path.to_path_buf(), owner, live, datasets }))
}

/// Who holds a lease, and the datasets that it uses.
fn parse(text: &[u8]) -> (Option<Owner>, BTreeSet<Digest>) {
    let mut lines = text.split(|&byte| byte == b'\n');
    let owner = lines.next().and_then(|line| serde_json::from_slice(line).ok());
    (owner, lines.filter_map(|line| std::str::from_utf8(line).ok()?.parse().ok()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::remote::Place;

    fn store() -> (tempfile::TempDir, Store) {
        let folder = tempfile::tempdir().expect("temp dir");
        let store =
            Store::create(&Place::Local(folder.path().to_path_buf()), &Interrupt::default()).expect("store");
        (folder, store)
    }

    #[test]
    fn a_lease_is_seen_with_its_datasets_until_it_is_dropped() {
        let (_folder, store) = store();
        let mut lease = Lease::take(&store, Work::Build).expect("lease");
        let dataset = Digest::of_bytes(b"a dataset");
        lease.claim(&store, dataset, &Interrupt::default(), |_| {}).expect("claim");
        let found = store.leases(lease.time().expect("time")).expect("leases");
        assert_eq!(found.len(), 1);
        assert!(found[0].live && found[0].works(Work::Build) && !found[0].works(Work::Removal));
        assert_eq!(found[0].datasets, BTreeSet::from([dataset]));
        drop(lease);
        assert!(store.leases(SystemTime::now()).expect("leases").is_empty());
    }

    #[test]
    fn a_dead_owner_counts_no_longer_here_and_for_a_while_elsewhere() {
        let (folder, store) = store();
        fs::create_dir_all(folder.path().join(FOLDER)).expect("folder");
        let now = SystemTime::now();
        for (host, live_now, live_later) in [(host(), false, false), (format!("{}x", host()), true, false)] {
            let path = folder.path().join(FOLDER).join("one.lease");
            let owner = format!(r#"{{"work":"build","host":"{host}","process":1,"started_at":""}}"#);
            fs::write(&path, format!("{owner}\nnot a digest\n")).expect("write");
            for (at, live) in [(now, live_now), (now + STALE + TOUCH, live_later)] {
                let found = store.leases(at).expect("leases");
                assert_eq!((found.len(), found[0].live, found[0].datasets.len()), (1, live, 0), "{host}");
            }
        }
    }

    #[test]
    fn a_claim_waits_for_a_removal() {
        let (_folder, store) = store();
        let removal = Lease::take(&store, Work::Removal).expect("lease");
        let mut build = Lease::take(&store, Work::Build).expect("lease");
        let (done, claimed) = mpsc::channel();
        let waiting = {
            let store = store.clone();
            std::thread::spawn(move || {
                build.claim(&store, Digest::of_bytes(b"x"), &Interrupt::default(), |_| {}).expect("claim");
                done.send(()).expect("the test listens");
            })
        };
        assert!(claimed.recv_timeout(4 * LOOK).is_err());
        drop(removal);
        claimed.recv().expect("claimed");
        waiting.join().expect("joined");
    }
}

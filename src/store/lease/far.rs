//! Leases in a bucket: objects that are written again and again.
//!
//! There are no locks, so a lease counts until it has not been written for [`STALE`], by the server's clock, wherever
//! its owner is: a build that was killed spares what it used for as long, and a removal that was killed keeps builds
//! waiting. A build that waits longer than that for its server may lose what it reused to a removal meanwhile.

use std::path::Path;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime};

use super::{FOLDER, Found, Owner};
use crate::error::Result;
use crate::remote::{Bucket, Object};

/// How often a lease is written, and how long one counts that is not.
const TOUCH: Duration = Duration::from_secs(20);
const STALE: Duration = Duration::from_secs(180);

/// A lease that this process holds.
pub(super) struct Held {
    bucket: Bucket,
    pub(super) key: String,
    text: Arc<Mutex<String>>,
    touching: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Held {
    /// Takes a lease.
    pub(super) fn take(bucket: &Bucket, owner: &Owner) -> Result<Self> {
        let line = format!("{}\n", serde_json::json!(owner));
        let nanoseconds =
            SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos();
        // Machines may share a name, and a process number with it.
        let key = format!("{FOLDER}/{}-{}-{nanoseconds:x}.lease", owner.host, owner.process);
        bucket.put(&key, line.as_bytes())?;
        let text = Arc::new(Mutex::new(line));
        // A stage that finishes after Ctrl-C still needs it.
        let touching = touch(bucket.released(), key.clone(), text.clone());
        Ok(Self { bucket: bucket.clone(), key, text, touching })
    }

    /// When it was last written, by the server's clock.
    pub(super) fn time(&self) -> Result<SystemTime> {
        match self.bucket.head(&self.key)? {
            Some(object) => Ok(object.modified),
            // Somebody took it for dead: written again, it counts again.
            None => {
                self.write()?;
                Ok(self.bucket.head(&self.key)?.map_or_else(SystemTime::now, |object| object.modified))
            }
        }
    }

    /// Writes it again, so that it counts from now on; the time on the server's clock.
    pub(super) fn renew(&self) -> Result<SystemTime> {
        self.write()?;
        self.time()
    }

    /// Adds a line.
    pub(super) fn add(&self, line: &str) -> Result<()> {
        self.text.lock().unwrap_or_else(PoisonError::into_inner).push_str(line);
        self.write()
    }

    fn write(&self) -> Result<()> {
        // Held while it is sent: an older text must not come after a newer one.
        let text = self.text.lock().unwrap_or_else(PoisonError::into_inner);
        self.bucket.put(&self.key, text.as_bytes())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Some((stop, thread)) = self.touching.take() {
            drop(stop);
            let _ = thread.join();
        }
        // One that cannot be removed grows old.
        let _ = self.bucket.released().delete(std::slice::from_ref(&self.key));
    }
}

fn touch(bucket: Bucket, key: String, text: Arc<Mutex<String>>) -> Option<(Sender<()>, JoinHandle<()>)> {
    let (stop, stopped) = mpsc::channel();
    let touching = move || {
        while stopped.recv_timeout(TOUCH) == Err(RecvTimeoutError::Timeout) {
            let text = text.lock().unwrap_or_else(PoisonError::into_inner);
            let _ = bucket.put(&key, text.as_bytes());
        }
    };
    let thread = std::thread::Builder::new().name("lease".to_owned()).spawn(touching).ok()?;
    Some((stop, thread))
}

/// All leases in a bucket, judged at a time of the server's clock; `root` is what their paths begin with.
pub(super) fn all(bucket: &Bucket, root: &Path, now: SystemTime) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    for object in bucket.list(FOLDER)?.into_iter().filter(|object| object.key.ends_with(".lease")) {
        // What a dead owner used is nobody's concern, and there may be many of them.
        if !is_live(&object, now) {
            found.push(look(&object, &[], root, now));
        } else if let Some(text) = bucket.get(&object.key)? {
            found.push(look(&object, &text, root, now));
        }
        // None: its owner has just removed it.
    }
    Ok(found)
}

fn is_live(object: &Object, now: SystemTime) -> bool {
    super::is_fresh(object.modified, now, STALE)
}

fn look(object: &Object, text: &[u8], root: &Path, now: SystemTime) -> Found {
    let (owner, datasets) = super::parse(text);
    let live = is_live(object, now);
    Found { path: root.join(&object.key), owner, live, datasets }
}

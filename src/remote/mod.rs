//! What is not on this machine: objects in buckets and files on web servers.
//!
//! The only module that names object_store. Everything here blocks its caller, tries again for a while when something
//! fails, ends early when the build is interrupted, and never says a credential: those come from the environment
//! and go no further. Keys are relative to the address that a [`Bucket`] was opened with.

mod address;
mod failure;
mod place;
mod staging;
mod transfer;

use std::future::Future;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime};

use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::http::HttpBuilder;
use object_store::path::Path as Key;
use object_store::{
    ClientConfigKey, ClientOptions, Error as Failure, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode,
    PutPayload,
};

pub use address::{Address, Scheme};
pub use place::Place;
pub use staging::{Staged, stage};
pub use transfer::{Arrival, Fetch, Wanted};

use crate::error::{Error, Result};
use crate::interrupt::Interrupt;

/// How long a connection may take to come about.
const CONNECT: &str = "5 seconds";
/// How many seconds a request may take to be answered whole, parts of files being 8 MiB: longer is not tried, and
/// shorter would cut slow lines.
const REQUEST: std::ops::RangeInclusive<u64> = 20..=120;
/// How long is tried what has to be done although the build was interrupted.
const HURRIED: Duration = Duration::from_secs(10);
/// How often a wait looks whether the build was interrupted.
const LOOK: Duration = Duration::from_millis(50);

/// The threads that speak to servers; they mostly wait.
static RUNTIME: LazyLock<std::io::Result<tokio::runtime::Runtime>> = LazyLock::new(|| {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).thread_name("remote").enable_all().build()
});

/// An object of a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its key.
    pub key: String,
    /// Size.
    pub bytes: u64,
    /// When it was written, by the server's clock.
    pub modified: SystemTime,
    /// What the server calls this version of its content, if it does.
    pub etag: Option<String>,
}

/// A part of a bucket, or the folder of a file on a web server.
#[derive(Clone)]
pub struct Bucket {
    address: Address,
    objects: Arc<dyn ObjectStore>,
    interrupt: Interrupt,
    patience: Duration,
}

impl std::fmt::Debug for Bucket {
    /// The address alone: the client knows credentials.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Bucket({})", self.address)
    }
}

impl Bucket {
    /// Prepares to speak to a bucket or server; nothing is asked yet.
    pub fn new(address: &Address, interrupt: &Interrupt) -> Result<Self> {
        check_environment()?;
        let objects = client(address).map_err(|failure| failure::unusable(&address.to_string(), &failure))?;
        Ok(Self {
            address: address.clone(),
            objects,
            interrupt: interrupt.clone(),
            patience: failure::patience(),
        })
    }

    /// The same bucket for what has to be done also when the build was interrupted. It is not tried for long.
    pub fn released(&self) -> Self {
        Self { interrupt: Interrupt::default(), patience: self.patience.min(HURRIED), ..self.clone() }
    }

    /// Its address.
    pub fn address(&self) -> &Address {
        &self.address
    }

    /// An object as a person would name it.
    pub fn place(&self, key: &str) -> String {
        if key.is_empty() { self.address.to_string() } else { format!("{}/{key}", self.address) }
    }

    /// A small object, whole; `None` when it is not there.
    pub fn get(&self, key: &str) -> Result<Option<Vec<u8>>> {
        let at = self.at(key)?;
        self.wait("read", key, || async {
            match self.objects.get(&at).await {
                Ok(found) => Ok(Some(found.bytes().await?.to_vec())),
                Err(Failure::NotFound { source, .. }) if !failure::is_bucket_gone(&source.to_string()) => {
                    Ok(None)
                }
                Err(failure) => Err(failure),
            }
        })
    }

    /// What a listing would say of an object; `None` when it is not there.
    pub fn head(&self, key: &str) -> Result<Option<Object>> {
        let at = self.at(key)?;
        let prefix = self.prefix()?;
        self.wait("look at", key, || async {
            match self.objects.head(&at).await {
                Ok(meta) => Ok(Some(object(&prefix, meta))),
                Err(Failure::NotFound { .. }) => Ok(None),
                Err(failure) => Err(failure),
            }
        })
    }

    /// Writes a small object over what is there.
    pub fn put(&self, key: &str, bytes: &[u8]) -> Result<()> {
        let at = self.at(key)?;
        let payload = PutPayload::from(bytes.to_vec());
        self.wait("write", key, || async { self.objects.put(&at, payload.clone()).await.map(|_| ()) })
    }

    /// Writes a small object unless one is there; says whether it did. When the server's answer was lost and the call
    /// was tried again, that one's `false` may speak of this caller's own object.
    pub fn create(&self, key: &str, bytes: &[u8]) -> Result<bool> {
        let at = self.at(key)?;
        let payload = PutPayload::from(bytes.to_vec());
        self.wait("create", key, || async {
            match self.objects.put_opts(&at, payload.clone(), PutMode::Create.into()).await {
                Ok(_) => Ok(true),
                // Some servers say the same of a removal at the same time; then it is tried again.
                Err(Failure::AlreadyExists { .. } | Failure::Precondition { .. }) => {
                    match self.objects.head(&at).await {
                        Ok(_) => Ok(false),
                        Err(Failure::NotFound { .. }) => Err(conflict()),
                        Err(failure) => Err(failure),
                    }
                }
                Err(failure) => Err(failure),
            }
        })
    }

    /// All objects below a folder, sorted by key; the folder may be empty, for everything.
    pub fn list(&self, folder: &str) -> Result<Vec<Object>> {
        let (at, prefix) = (self.at(folder)?, self.prefix()?);
        let mut found: Vec<Object> = self.wait("list", folder, || async {
            let metas = self.objects.list(Some(&at));
            metas.map_ok(|meta| object(&prefix, meta)).try_collect().await
        })?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    /// The names of the folders right below a folder, sorted.
    pub fn folders(&self, folder: &str) -> Result<Vec<String>> {
        let at = self.at(folder)?;
        let found =
            self.wait("list", folder, || async { self.objects.list_with_delimiter(Some(&at)).await })?;
        let names = found.common_prefixes.iter().filter_map(|key| key.filename().map(str::to_owned));
        let mut names: Vec<String> = names.collect();
        names.sort();
        Ok(names)
    }

    /// Removes objects; those that are gone already are as well removed.
    pub fn delete(&self, keys: &[String]) -> Result<()> {
        let keys: Vec<Key> = keys.iter().map(|key| self.at(key)).collect::<Result<_>>()?;
        self.wait("remove from", "", || async {
            let keys = futures::stream::iter(keys.clone()).map(Ok).boxed();
            let mut removed = self.objects.delete_stream(keys);
            while let Some(removal) = removed.next().await {
                match removal {
                    Ok(_) | Err(Failure::NotFound { .. }) => {}
                    Err(failure) => return Err(failure),
                }
            }
            Ok(())
        })
    }

    /// Copies an object within the bucket, on the server, and removes it where it was.
    pub fn rename(&self, from: &str, to: &str) -> Result<()> {
        let (source, target) = (self.at(from)?, self.at(to)?);
        self.wait("copy", from, || async {
            match self.objects.copy(&source, &target).await {
                // Somebody else moved it.
                Err(Failure::NotFound { .. }) => Ok(()),
                ended => ended,
            }
        })?;
        self.delete(&[from.to_owned()])
    }

    fn prefix(&self) -> Result<Key> {
        self.parsed(if self.address.scheme().is_bucket() { self.address.path() } else { "" })
    }

    fn at(&self, key: &str) -> Result<Key> {
        let path = match (self.address.path(), key) {
            ("", key) => key.to_owned(),
            (prefix, "") => prefix.to_owned(),
            (prefix, key) => format!("{prefix}/{key}"),
        };
        self.parsed(&path)
    }

    fn parsed(&self, path: &str) -> Result<Key> {
        let key = match self.address.scheme().is_bucket() {
            true => Key::parse(path),
            false => Key::from_url_path(path),
        };
        key.map_err(|failure| failure::explained("use", &self.place(path), &failure.into()))
    }

    /// Does something in the background until it works, fails, or the build is interrupted.
    fn wait<T, F, Done>(&self, action: &str, key: &str, attempt: F) -> Result<T>
    where
        F: Fn() -> Done,
        Done: Future<Output = Result<T, Failure>>,
    {
        // Small things: a whole upload may take longer than any answer.
        self.watched(failure::persistently(self.patience, || failure::answered(attempt())))?
            .map_err(|failure| failure::explained(action, &self.place(key), &failure))
    }

    /// Waits for something unless the build is interrupted.
    fn watched<T>(&self, work: impl Future<Output = T>) -> Result<T> {
        let runtime = RUNTIME
            .as_ref()
            .map_err(|error| Error::Environment(format!("cannot set up connections: {error}")))?;
        runtime.block_on(async {
            let mut work = pin!(work);
            loop {
                tokio::select! {
                    done = &mut work => return Ok(done),
                    () = tokio::time::sleep(LOOK) => self.interrupt.check()?,
                }
            }
        })
    }
}

/// Where what is fetched is kept on this machine: `FINCH_CACHE`, else the user's cache folder. It may be removed when
/// nothing runs: what is missing is fetched again, but for the checkpoints of trainings that have not ended.
pub fn cache() -> Result<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    folder("FINCH_CACHE")
        .or_else(|| folder("XDG_CACHE_HOME").map(|folder| folder.join("finch")))
        .or_else(|| folder("HOME").map(|home| home.join(".cache/finch")))
        .ok_or_else(|| {
            Error::Environment("no place for fetched files: set FINCH_CACHE to a folder".to_owned())
        })
}

fn conflict() -> Failure {
    Failure::Generic { store: "remote", source: "another request for it was under way".into() }
}

fn object(prefix: &Key, meta: ObjectMeta) -> Object {
    let key = match meta.location.prefix_match(prefix) {
        Some(parts) => parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/"),
        None => meta.location.to_string(),
    };
    Object { key, bytes: meta.size, modified: meta.last_modified.into(), etag: meta.e_tag }
}

/// What the client would not say well, or stumble over.
fn check_environment() -> Result<()> {
    for name in [
        "AWS_ENDPOINT_URL",
        "AWS_ENDPOINT",
        "AWS_ENDPOINT_URL_S3",
        "AZURE_STORAGE_ENDPOINT",
        "AZURE_ENDPOINT",
    ] {
        let Ok(value) = std::env::var(name) else { continue };
        let is_web = url::Url::parse(&value)
            .is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.host().is_some());
        if !value.is_empty() && !is_web {
            return Err(Error::Usage(format!(
                "{name} is no address of a server: write `https://…` or `http://…`"
            )));
        }
    }
    match std::env::var("FINCH_RETRY_SECONDS") {
        Ok(value) if value.parse::<u64>().is_err() => {
            Err(Error::Usage("FINCH_RETRY_SECONDS is a whole number of seconds".to_owned()))
        }
        _ => Ok(()),
    }
}

/// The client of an address, with everything else from the environment.
fn client(address: &Address) -> object_store::Result<Arc<dyn ObjectStore>> {
    let retries = failure::client_retries();
    let request = failure::patience().as_secs().clamp(*REQUEST.start(), *REQUEST.end());
    let timeouts = [
        (ClientConfigKey::ConnectTimeout, CONNECT.to_owned()),
        (ClientConfigKey::Timeout, format!("{request} seconds")),
    ];
    Ok(match address.scheme() {
        Scheme::S3 => {
            let builder = AmazonS3Builder::from_env().with_bucket_name(address.host()).with_retry(retries);
            let set = |builder: AmazonS3Builder, (key, value)| {
                builder.with_config(AmazonS3ConfigKey::Client(key), value)
            };
            Arc::new(timeouts.into_iter().fold(builder, set).build()?)
        }
        Scheme::Gs => {
            let builder =
                GoogleCloudStorageBuilder::from_env().with_bucket_name(address.host()).with_retry(retries);
            let set = |builder: GoogleCloudStorageBuilder, (key, value)| {
                builder.with_config(GoogleConfigKey::Client(key), value)
            };
            Arc::new(timeouts.into_iter().fold(builder, set).build()?)
        }
        Scheme::Az => {
            let builder =
                MicrosoftAzureBuilder::from_env().with_container_name(address.host()).with_retry(retries);
            let set = |builder: MicrosoftAzureBuilder, (key, value)| {
                builder.with_config(AzureConfigKey::Client(key), value)
            };
            Arc::new(timeouts.into_iter().fold(builder, set).build()?)
        }
        Scheme::Http | Scheme::Https => {
            // A file comes in one answer, however long that takes.
            let options = ClientOptions::new()
                .with_allow_http(address.scheme() == Scheme::Http)
                .with_config(ClientConfigKey::ConnectTimeout, CONNECT)
                .with_timeout_disabled();
            let url = format!("{}://{}", address.scheme().word(), address.host());
            Arc::new(
                HttpBuilder::new().with_url(url).with_client_options(options).with_retry(retries).build()?,
            )
        }
    })
}

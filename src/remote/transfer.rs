//! Files to and from a bucket: several at once, in parts, each byte hashed on its way.

use std::fs::File;
use std::io::{Seek, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use finch_core::Digest;
use finch_core::shard::HashingWriter;
use futures::{StreamExt, TryStreamExt};
use object_store::path::Path as Key;
use object_store::{Error as Failure, GetOptions, GetRange, ObjectStoreExt, PutPayload};
use tokio::sync::Semaphore;

use super::{Bucket, HURRIED, failure};
use crate::error::{Error, Result};
use crate::progress::Meter;

/// Bytes of a request.
const PART: u64 = 8 << 20;
/// Bytes of all requests of the process under way: a limit of memory, and of what shares a slow line.
const IN_FLIGHT: u64 = 32 << 20;
/// Parts of one file at once.
const PARTS: usize = 4;
/// Files at once; most are small, and wait for the server rather than for the line.
const FILES: usize = 32;

/// How long the next bytes of a web server's file may take.
const IDLE: Duration = Duration::from_secs(60);
/// Room for requests. A file's parts ask for it in their order, so the first one that is missing always has it.
static ROOM: Semaphore = Semaphore::const_new(IN_FLIGHT as usize);

/// A file to fetch.
#[derive(Clone, Debug)]
pub struct Fetch {
    /// The object.
    pub key: String,
    /// Where to.
    pub to: PathBuf,
    /// What it must be.
    pub wanted: Wanted,
}

/// What a fetched file must be.
#[derive(Clone, Debug)]
pub enum Wanted {
    /// Content that is known.
    Content {
        /// Size.
        bytes: u64,
        /// Plain BLAKE3.
        blake3: Digest,
    },
    /// The version that a listing spoke of.
    Version {
        /// Size.
        bytes: u64,
        /// Its etag, where it had one.
        etag: Option<String>,
    },
    /// Whatever is there.
    Anything,
}

/// A file as it came.
#[derive(Clone, Copy, Debug)]
pub struct Arrival {
    /// Size.
    pub bytes: u64,
    /// Plain BLAKE3.
    pub blake3: Digest,
    /// Plain SHA-256.
    pub sha256: Digest,
}

impl Bucket {
    /// Fetches files. Each is written aside, synced and renamed, so that one that is there is whole; one whose content
    /// is not what it must be is not put there. Results are in the order of `fetches`; the first failure ends the
    /// transfer.
    pub fn fetch(
        &self,
        fetches: &[Fetch],
        meter: &Meter,
        arrived: &(dyn Fn(&Fetch, &Arrival) + Sync),
    ) -> Result<Vec<Arrival>> {
        let transfers = fetches.iter().map(|fetch| async move {
            let arrival = self.fetch_one(fetch, meter).await?;
            meter.add(1, 0);
            arrived(fetch, &arrival);
            Ok(arrival)
        });
        self.watched(async { futures::stream::iter(transfers).buffered(FILES).try_collect().await })?
    }

    async fn fetch_one(&self, fetch: &Fetch, meter: &Meter) -> Result<Arrival> {
        let key = self.at(&fetch.key)?;
        let folder = fetch.to.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        let mut aside = tempfile::Builder::new()
            .prefix(".fetching-")
            .tempfile_in(folder)
            .map_err(Error::io("create a file in", folder))?;
        let (blake3, sha256) = match &fetch.wanted {
            Wanted::Content { bytes, .. } => {
                self.parts(fetch, &key, (*bytes, None), aside.as_file_mut(), meter).await
            }
            Wanted::Version { bytes, etag } => {
                self.parts(fetch, &key, (*bytes, etag.as_deref()), aside.as_file_mut(), meter).await
            }
            Wanted::Anything => self.stream(fetch, &key, aside.as_file_mut(), meter).await,
        }?;
        let file = aside.as_file();
        let bytes = file.metadata().map_err(Error::io("read the size of", aside.path()))?.len();
        if let Wanted::Content { blake3: wanted, bytes: size } = &fetch.wanted
            && (*wanted != blake3 || *size != bytes)
        {
            return Err(Error::Store {
                reason: format!(
                    "`{}` is damaged: its BLAKE3 is {}, the manifest says {}",
                    self.place(&fetch.key),
                    blake3.short(),
                    wanted.short()
                ),
                code: crate::code::Code::Damaged,
                hint: Some("`finch run SPEC --force STAGE` replaces a stage's damaged files".to_owned()),
            });
        }
        file.sync_all().map_err(Error::io("sync", aside.path()))?;
        aside.persist(&fetch.to).map_err(|error| Error::io("write", &fetch.to)(error.error))?;
        Ok(Arrival { bytes, blake3, sha256 })
    }

    /// A file whose size is known, in parts that are asked for at once and written in order; its digests.
    async fn parts(
        &self,
        fetch: &Fetch,
        key: &Key,
        (bytes, etag): (u64, Option<&str>),
        file: &mut File,
        meter: &Meter,
    ) -> Result<(Digest, Digest)> {
        let part = |at: u64| async move {
            let length = PART.min(bytes - at);
            let held = ROOM.acquire_many(length as u32).await;
            let part = failure::persistently(self.patience, || async {
                let options = GetOptions {
                    range: Some(GetRange::Bounded(at..at + length)),
                    if_match: etag.map(str::to_owned),
                    ..GetOptions::default()
                };
                self.objects.get_opts(key, options).await?.bytes().await
            });
            let part: Bytes = part
                .await
                .map_err(|failure| failure::explained("fetch", &self.place(&fetch.key), &failure))?;
            // Its room is given back when it is written: until then it takes memory.
            if part.len() as u64 == length { Ok((part, held)) } else { Err(self.cut(fetch)) }
        };
        let mut to = HashingWriter::new(file);
        let starts = (0..bytes).step_by(PART as usize);
        let mut parts = std::pin::pin!(futures::stream::iter(starts.map(part)).buffered(PARTS));
        while let Some(part) = parts.next().await {
            let (part, _held) = part?;
            to.write_all(&part).map_err(Error::io("write", &fetch.to))?;
            meter.add(0, part.len() as u64);
        }
        Ok(to.digests())
    }

    /// A file of any size, as a web server sends it; its digests. One that ends early is asked for again, whole.
    async fn stream(
        &self,
        fetch: &Fetch,
        key: &Key,
        file: &mut File,
        meter: &Meter,
    ) -> Result<(Digest, Digest)> {
        let mut tries = failure::Tries::new(self.patience);
        loop {
            file.set_len(0).and_then(|()| file.rewind()).map_err(Error::io("write", &fetch.to))?;
            let mut to = HashingWriter::new(&mut *file);
            match self.stream_once(fetch, key, &mut to, meter).await? {
                Ok(()) => return Ok(to.digests()),
                Err(failure) if tries.again(&failure).await => {}
                Err(failure) => return Err(failure::explained("fetch", &self.place(&fetch.key), &failure)),
            }
        }
    }

    /// The inner error is the server's.
    async fn stream_once(
        &self,
        fetch: &Fetch,
        key: &Key,
        to: &mut impl Write,
        meter: &Meter,
    ) -> Result<Result<(), Failure>> {
        let _room = ROOM.acquire_many(PART as u32).await;
        let got = match failure::answered(self.objects.get(key)).await {
            Ok(got) => got,
            Err(failure) => return Ok(Err(failure)),
        };
        let mut chunks = got.into_stream();
        loop {
            match tokio::time::timeout(IDLE, chunks.next()).await {
                Ok(Some(Ok(chunk))) => {
                    to.write_all(&chunk).map_err(Error::io("write", &fetch.to))?;
                    meter.add(0, chunk.len() as u64);
                }
                Ok(Some(Err(failure))) => return Ok(Err(failure)),
                Ok(None) => return Ok(Ok(())),
                Err(_) => {
                    let source = format!("nothing came for {} s", IDLE.as_secs()).into();
                    return Ok(Err(Failure::Generic { store: "web", source }));
                }
            }
        }
    }

    fn cut(&self, fetch: &Fetch) -> Error {
        Error::Store {
            reason: format!("`{}` was cut while it was read", self.place(&fetch.key)),
            code: crate::code::Code::SourceChanged,
            hint: None,
        }
    }

    /// Writes files over what is there.
    pub fn upload(&self, files: &[(String, PathBuf)]) -> Result<()> {
        let transfers = files.iter().map(|(key, path)| self.upload_one(key, path));
        self.watched(async { futures::stream::iter(transfers).buffered(FILES).try_collect().await })?
    }

    async fn upload_one(&self, key: &str, path: &Path) -> Result<()> {
        let at = self.at(key)?;
        let file = File::open(path).map_err(Error::io("open", path))?;
        let bytes = file.metadata().map_err(Error::io("read the size of", path))?.len();
        let failed = |failure: Failure| failure::explained("write", &self.place(key), &failure);
        if bytes <= PART {
            let _room = ROOM.acquire_many(bytes.max(1) as u32).await;
            let payload = PutPayload::from(chunk(&file, 0, bytes).map_err(Error::io("read", path))?);
            let put = failure::persistently(self.patience, || async {
                self.objects.put(&at, payload.clone()).await
            });
            return put.await.map(|_| ()).map_err(failed);
        }
        // Unreadable bytes of our own are no passing trouble of the server: they end the upload at once.
        let read = std::sync::Mutex::new(None);
        let whole = failure::persistently(self.patience, || async {
            let mut upload = self.objects.put_multipart(&at).await?;
            let mut sent = futures::stream::FuturesUnordered::new();
            let mut start = 0;
            let result = async {
                while start < bytes {
                    let length = PART.min(bytes - start);
                    // Waiting without looking after what is under way could wait for itself.
                    let held = loop {
                        match ROOM.try_acquire_many(length as u32) {
                            Ok(held) => break Some(held),
                            Err(_) => match sent.next().await {
                                Some(done) => done?,
                                None => break ROOM.acquire_many(length as u32).await.ok(),
                            },
                        }
                    };
                    let part = match chunk(&file, start, length) {
                        Ok(part) => part,
                        Err(error) => {
                            *read.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(error);
                            return Err(Failure::NotImplemented {
                                operation: "reading".to_owned(),
                                implementer: "the file system".to_owned(),
                            });
                        }
                    };
                    let part = upload.put_part(PutPayload::from(part));
                    sent.push(async move {
                        let done = part.await;
                        drop(held);
                        done
                    });
                    start += length;
                    while sent.len() >= PARTS {
                        sent.next().await.transpose()?;
                    }
                }
                while let Some(done) = sent.next().await {
                    done?;
                }
                Ok(())
            }
            .await;
            match result {
                Ok(()) => match upload.complete().await {
                    Ok(_) => Ok(()),
                    // The answer may have been lost, and the upload be unknown when it is asked for again.
                    Err(failure) => {
                        let there = failure::persistently(HURRIED, || async { self.objects.head(&at).await });
                        let same = there.await.is_ok_and(|meta| meta.size == bytes);
                        if same { Ok(()) } else { Err(failure) }
                    }
                },
                Err(failure) => {
                    // What the server keeps of it otherwise costs its owner money.
                    let _ = upload.abort().await;
                    Err(failure)
                }
            }
        })
        .await;
        match read.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner) {
            Some(error) => Err(Error::io("read", path)(error)),
            None => whole.map_err(failed),
        }
    }
}

/// A part of a file.
fn chunk(file: &File, start: u64, length: u64) -> std::io::Result<Bytes> {
    use std::os::unix::fs::FileExt;
    let mut part = vec![0; length as usize];
    file.read_exact_at(&mut part, start)?;
    Ok(Bytes::from(part))
}

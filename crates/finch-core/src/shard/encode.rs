//! The encoder of a table's shards: compression, hashes and files, in the caller's thread or in one of its own.
//!
//! Making rows and encoding them take about as long, so a table that is longer than a row group has a thread that encodes
//! while the next rows are made. It decides nothing: where a group or a file ends, the writer says.

use std::fs::File;
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;

use super::HashingWriter;
use crate::Error;
use crate::manifest::FileEntry;

/// What is to be done to a table's shards.
pub(super) enum Job {
    /// Add rows to the open row group.
    Chunk(RecordBatch),
    CloseGroup,
    CloseShard,
    /// There is no more. Without it, whoever made the rows has given up.
    End,
}

/// Chunks that may wait for the thread: a row group's worth.
const WAITING: usize = 4;

/// Where jobs are done.
pub(super) enum Sink {
    Here(Box<Shards>),
    There {
        jobs: SyncSender<Job>,
        thread: JoinHandle<Result<Vec<FileEntry>, Error>>,
    },
    /// The thread has failed, and said why.
    Failed,
}

impl Sink {
    /// An encoder of a table in a folder.
    pub(super) fn new(table: &str, folder: PathBuf, schema: SchemaRef) -> Self {
        let table = table.to_owned();
        Self::Here(Box::new(Shards { table, folder, schema, open: None, files: Vec::new() }))
    }

    /// Does a job, or hands it over.
    pub(super) fn take(&mut self, job: Job) -> Result<(), Error> {
        match self {
            Self::Here(shards) => {
                let group_ends = !matches!(job, Job::Chunk(_));
                shards.take(job)?;
                // A second row group follows: from here on it pays.
                if group_ends && let Self::Here(shards) = std::mem::replace(self, Self::Failed) {
                    *self = Self::start(shards);
                }
                Ok(())
            }
            Self::There { jobs, .. } => match jobs.send(job) {
                Ok(()) => Ok(()),
                // It is gone, and why is in its result.
                Err(_) => std::mem::replace(self, Self::Failed).finish().map(|_| ()),
            },
            Self::Failed => Ok(()),
        }
    }

    fn start(mut shards: Box<Shards>) -> Self {
        let (jobs, waiting) = sync_channel(WAITING);
        let thread = std::thread::spawn(move || {
            for job in waiting {
                if matches!(job, Job::End) {
                    return (*shards).finish();
                }
                shards.take(job)?;
            }
            Ok(Vec::new())
        });
        Self::There { jobs, thread }
    }

    /// Ends the table; its files.
    pub(super) fn finish(self) -> Result<Vec<FileEntry>, Error> {
        match self {
            Self::Here(shards) => shards.finish(),
            Self::There { jobs, thread } => {
                // A thread that has failed takes no more, and says why at once.
                let _ = jobs.send(Job::End);
                drop(jobs);
                thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
            }
            Self::Failed => Ok(Vec::new()),
        }
    }
}

/// A table's shards, one after another.
pub(super) struct Shards {
    table: String,
    folder: PathBuf,
    schema: SchemaRef,
    open: Option<Shard>,
    files: Vec<FileEntry>,
}

impl Shards {
    fn take(&mut self, job: Job) -> Result<(), Error> {
        match job {
            Job::Chunk(chunk) => {
                let shard = self.shard()?;
                shard.rows += chunk.num_rows() as u64;
                shard.writer.write(&chunk).map_err(|source| shard.error(source))
            }
            Job::CloseGroup => match &mut self.open {
                Some(shard) => shard.writer.flush().map_err(|source| shard.error(source)),
                None => Ok(()),
            },
            Job::CloseShard => self.close(),
            Job::End => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Vec<FileEntry>, Error> {
        if self.open.is_some() || self.files.is_empty() {
            self.shard()?;
            self.close()?;
        }
        Ok(self.files)
    }

    fn close(&mut self) -> Result<(), Error> {
        if let Some(shard) = self.open.take() {
            self.files.push(shard.close(&self.table)?);
        }
        Ok(())
    }

    /// The open shard; opens the next one when there is none.
    fn shard(&mut self) -> Result<&mut Shard, Error> {
        if self.open.is_none() {
            let name = format!("{}-{:05}.parquet", self.table, self.files.len());
            self.open = Some(Shard::create(self.folder.join(&name), name, &self.schema)?);
        }
        Ok(self.open.as_mut().expect("a shard was opened above"))
    }
}

/// One Parquet file being written.
struct Shard {
    path: PathBuf,
    name: String,
    rows: u64,
    writer: ArrowWriter<HashingWriter<File>>,
}

impl Shard {
    fn create(path: PathBuf, name: String, schema: &SchemaRef) -> Result<Self, Error> {
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        let level = ZstdLevel::try_new(3).expect("3 is a zstd level");
        let properties = WriterProperties::builder()
            .set_compression(Compression::ZSTD(level))
            .set_max_row_group_row_count(None)
            .build();
        let writer = ArrowWriter::try_new(HashingWriter::new(file), schema.clone(), Some(properties))
            .map_err(|source| Error::Parquet { path: path.clone(), source })?;
        Ok(Self { path, name, rows: 0, writer })
    }

    fn error(&self, source: parquet::errors::ParquetError) -> Error {
        Error::Parquet { path: self.path.clone(), source }
    }

    fn close(self, table: &str) -> Result<FileEntry, Error> {
        let path = self.path;
        let file =
            self.writer.into_inner().map_err(|source| Error::Parquet { path: path.clone(), source })?;
        let (bytes, blake3, sha256) = file.finish().map_err(Error::io("sync", &path))?;
        Ok(FileEntry { name: format!("{table}/{}", self.name), rows: self.rows, bytes, blake3, sha256 })
    }
}

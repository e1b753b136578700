//! The encoder of a table's shards: compression on all threads, hashes and files in order.
//!
//! A row group needs nothing from the one before it, so groups are compressed beside each other, by rayon's threads,
//! while the caller makes the next rows. What goes into a file is appended by the caller, in the order of rows. Nothing
//! is decided here: where a group or a file ends, the writer says.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_writer::{
    ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves,
};
use parquet::basic::{Compression, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;

use super::HashingWriter;
use crate::Error;
use crate::manifest::FileEntry;

/// Bytes of a page. Rows come in the order of digests, so that texts which are alike lie apart, and zstd finds more of
/// them in a longer page than the usual one of 1 MiB.
const PAGE_BYTES: usize = 4 << 20;

/// Groups of a table under way, beyond which whoever makes the rows waits: one alone keeps no more threads busy.
const MOST_AT_ONCE: usize = 8;

/// Encodes and writes one table.
pub(super) struct Encoder {
    table: String,
    folder: PathBuf,
    schema: SchemaRef,
    groups: ArrowRowGroupWriterFactory,
    /// The rows of the group that is not closed yet.
    chunks: Vec<RecordBatch>,
    /// What is to go into files, in order.
    queue: VecDeque<Step>,
    open: Option<Shard>,
    files: Vec<FileEntry>,
}

enum Step {
    /// A group that is being compressed.
    Group {
        rows: u64,
        columns: Receiver<std::thread::Result<Compressed>>,
    },
    CloseShard,
}

/// The columns of a row group.
type Compressed = Result<Vec<ArrowColumnChunk>, ParquetError>;

impl Encoder {
    /// An encoder of a table in a folder.
    pub(super) fn new(table: &str, folder: PathBuf, schema: SchemaRef) -> Result<Self, Error> {
        // All files of a table have the same columns, so what makes their groups comes from one that is nowhere.
        let pattern = ArrowWriter::try_new(io::sink(), schema.clone(), Some(properties()));
        let (_, groups) = pattern
            .and_then(ArrowWriter::into_serialized_writer)
            .map_err(|source| Error::Parquet { path: folder.clone(), source })?;
        let (chunks, queue) = (Vec::new(), VecDeque::new());
        Ok(Self { table: table.to_owned(), folder, schema, groups, chunks, queue, open: None, files: vec![] })
    }

    /// Adds rows to the open group.
    pub(super) fn add(&mut self, chunk: RecordBatch) {
        self.chunks.push(chunk);
    }

    /// Ends the open group, which begins to be compressed.
    pub(super) fn close_group(&mut self) -> Result<(), Error> {
        if self.chunks.is_empty() {
            return Ok(());
        }
        let chunks = std::mem::take(&mut self.chunks);
        let rows = rows(&chunks);
        let writers = self.writers()?;
        let (done, columns) = sync_channel(1);
        rayon::spawn(move || {
            let work = std::panic::AssertUnwindSafe(|| compress(writers, &chunks));
            // Nobody waits for it any more when the table was given up.
            let _ = done.send(std::panic::catch_unwind(work));
        });
        self.queue.push_back(Step::Group { rows, columns });
        while self.in_flight() > rayon::current_num_threads().min(MOST_AT_ONCE) {
            self.write_first()?;
        }
        Ok(())
    }

    /// Ends the open file, and the open group with it.
    pub(super) fn close_shard(&mut self) -> Result<(), Error> {
        self.close_group()?;
        self.queue.push_back(Step::CloseShard);
        Ok(())
    }

    /// Ends the table; its files.
    pub(super) fn finish(mut self) -> Result<Vec<FileEntry>, Error> {
        let chunks = std::mem::take(&mut self.chunks);
        // The last group is compressed here: most tables have no other.
        let last = match chunks.is_empty() {
            true => None,
            false => Some((rows(&chunks), compress(self.writers()?, &chunks))),
        };
        while !self.queue.is_empty() {
            self.write_first()?;
        }
        if let Some((rows, columns)) = last {
            self.append(rows, columns)?;
        }
        if self.open.is_some() || self.files.is_empty() {
            self.shard()?;
            self.end_shard()?;
        }
        Ok(self.files)
    }

    fn writers(&self) -> Result<Vec<ArrowColumnWriter>, Error> {
        // The number of a group matters to encrypted files alone.
        self.groups.create_column_writers(0).map_err(|source| self.error(source))
    }

    fn in_flight(&self) -> usize {
        self.queue.iter().filter(|step| matches!(step, Step::Group { .. })).count()
    }

    fn write_first(&mut self) -> Result<(), Error> {
        match self.queue.pop_front() {
            Some(Step::Group { rows, columns }) => self.append(rows, wait(&columns)),
            Some(Step::CloseShard) => self.end_shard(),
            None => Ok(()),
        }
    }

    fn append(&mut self, rows: u64, columns: Compressed) -> Result<(), Error> {
        let shard = self.shard()?;
        let appended = columns.and_then(|columns| {
            let mut group = shard.writer.next_row_group()?;
            columns.into_iter().try_for_each(|column| column.append_to_row_group(&mut group))?;
            group.close()
        });
        shard.rows += rows;
        appended.map(drop).map_err(|source| self.error(source))
    }

    fn end_shard(&mut self) -> Result<(), Error> {
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

    fn error(&self, source: ParquetError) -> Error {
        let path = self.open.as_ref().map_or(&self.folder, |shard| &shard.path).clone();
        Error::Parquet { path, source }
    }
}

fn rows(chunks: &[RecordBatch]) -> u64 {
    chunks.iter().map(|chunk| chunk.num_rows() as u64).sum()
}

fn compress(mut writers: Vec<ArrowColumnWriter>, chunks: &[RecordBatch]) -> Compressed {
    for chunk in chunks {
        let mut writers = writers.iter_mut();
        for (field, column) in chunk.schema_ref().fields().iter().zip(chunk.columns()) {
            for (leaf, writer) in compute_leaves(field, column)?.iter().zip(&mut writers) {
                writer.write(leaf)?;
            }
        }
    }
    writers.into_iter().map(ArrowColumnWriter::close).collect()
}

/// Waits for a group. One of rayon's own threads does other work meanwhile: if all of them slept here, nobody would
/// compress.
fn wait(columns: &Receiver<std::thread::Result<Compressed>>) -> Compressed {
    let done = loop {
        match columns.try_recv() {
            Ok(done) => break Ok(done),
            Err(TryRecvError::Empty) if rayon::yield_now() == Some(rayon::Yield::Executed) => {}
            Err(_) => break columns.recv(),
        }
    };
    match done {
        Ok(Ok(columns)) => columns,
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => Err(ParquetError::General("the thread that compressed a row group is gone".to_owned())),
    }
}

fn properties() -> WriterProperties {
    let level = ZstdLevel::try_new(3).expect("3 is a zstd level");
    WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_data_page_size_limit(PAGE_BYTES)
        .set_max_row_group_row_count(None)
        .build()
}

/// One Parquet file being written.
struct Shard {
    path: PathBuf,
    name: String,
    rows: u64,
    writer: SerializedFileWriter<HashingWriter<File>>,
}

impl Shard {
    fn create(path: PathBuf, name: String, schema: &SchemaRef) -> Result<Self, Error> {
        let file = File::create_new(&path).map_err(Error::io("create", &path))?;
        let writer = ArrowWriter::try_new(HashingWriter::new(file), schema.clone(), Some(properties()))
            .and_then(ArrowWriter::into_serialized_writer);
        let (writer, _) = writer.map_err(|source| Error::Parquet { path: path.clone(), source })?;
        Ok(Self { path, name, rows: 0, writer })
    }

    fn close(self, table: &str) -> Result<FileEntry, Error> {
        let path = self.path;
        let file =
            self.writer.into_inner().map_err(|source| Error::Parquet { path: path.clone(), source })?;
        let (bytes, blake3, sha256) = file.finish().map_err(Error::io("sync", &path))?;
        Ok(FileEntry { name: format!("{table}/{}", self.name), rows: self.rows, bytes, blake3, sha256 })
    }
}

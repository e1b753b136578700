//! One table on disk: Parquet shards whose bytes depend on the rows alone.
//!
//! Everything that a reader could notice is decided by canonical bytes (see [`crate::rows`]): which rows share
//! a page, a row group, a file. The same rows give the same files whatever the batch sizes, threads or memory
//! limit of the query that made them. Each byte is hashed as it is written, never read back for it.

mod encode;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use arrow::compute::concat_batches;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;
use arrow::row::{RowConverter, SortField};
use parquet::arrow::arrow_reader::{ParquetRecordBatchReader, ParquetRecordBatchReaderBuilder};
use sha2::{Digest as _, Sha256};

use crate::manifest::{FileEntry, Table};
use crate::rows::RowsDigest;
use crate::{Digest, Error, Kind};
use encode::Encoder;

/// Where a table is cut. The defaults are the contract of published datasets; tests use smaller ones.
#[derive(Clone, Copy, Debug)]
pub struct Cuts {
    /// Rows that are encoded together: at most this many, and at most [`Cuts::chunk_bytes`].
    pub chunk_rows: usize,
    /// Canonical bytes that are encoded together.
    pub chunk_bytes: usize,
    /// Canonical bytes of a row group: by bytes, because a row can be 300 kB.
    pub group_bytes: usize,
    /// Canonical bytes of a file.
    pub shard_bytes: usize,
}

impl Default for Cuts {
    fn default() -> Self {
        Self { chunk_rows: 8192, chunk_bytes: 4 << 20, group_bytes: 16 << 20, shard_bytes: 256 << 20 }
    }
}

/// Writes one table: rows in key order, cut into shards, hashed on the way.
///
/// Row groups are compressed by other threads, beside each other, so that whoever makes the rows need not wait. They
/// decide nothing: where to cut was decided here.
pub struct TableWriter {
    table: String,
    folder: PathBuf,
    schema: SchemaRef,
    cuts: Cuts,
    order: KeyOrder,
    rows_digest: RowsDigest,
    rows: u64,
    pending: Vec<RecordBatch>,
    pending_rows: usize,
    pending_bytes: usize,
    group_bytes: usize,
    shard_bytes: usize,
    encoder: Encoder,
}

impl TableWriter {
    /// Starts a table in `root/table`, which is created. `key` names the columns of its unique key.
    pub fn new(
        root: &Path,
        table: &str,
        schema: SchemaRef,
        key: &[String],
        cuts: Cuts,
    ) -> Result<Self, Error> {
        let folder = root.join(table);
        std::fs::create_dir_all(&folder).map_err(Error::io("create", &folder))?;
        let encoder = Encoder::new(table, folder.clone(), schema.clone())?;
        Ok(Self {
            order: KeyOrder::new(table, &schema, key)?,
            rows_digest: RowsDigest::new(&schema)?,
            table: table.to_owned(),
            folder,
            schema,
            cuts,
            rows: 0,
            pending: Vec::new(),
            pending_rows: 0,
            pending_bytes: 0,
            group_bytes: 0,
            shard_bytes: 0,
            encoder,
        })
    }

    /// Adds rows; they must follow all earlier ones in key order.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.order.check(batch, self.rows)?;
        let sizes = self.rows_digest.update(batch)?;
        let mut start = 0;
        for (row, size) in sizes.iter().enumerate() {
            self.pending_rows += 1;
            self.pending_bytes += size;
            self.group_bytes += size;
            self.shard_bytes += size;
            let group_full = self.group_bytes >= self.cuts.group_bytes;
            let shard_full = self.shard_bytes >= self.cuts.shard_bytes;
            let chunk_full =
                self.pending_rows >= self.cuts.chunk_rows || self.pending_bytes >= self.cuts.chunk_bytes;
            if group_full || shard_full || chunk_full {
                self.pending.push(batch.slice(start, row + 1 - start));
                start = row + 1;
                self.write_chunk()?;
            }
            if shard_full {
                self.group_bytes = 0;
                self.shard_bytes = 0;
                self.encoder.close_shard()?;
            } else if group_full {
                self.group_bytes = 0;
                self.encoder.close_group()?;
            }
        }
        if start < batch.num_rows() {
            self.pending.push(batch.slice(start, batch.num_rows() - start));
        }
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// Ends the table: everything is on disk and synced. An empty table has one shard without rows.
    pub fn finish(mut self) -> Result<Table, Error> {
        if self.pending_rows > 0 {
            self.write_chunk()?;
        }
        let files = self.encoder.finish()?;
        sync_folder(&self.folder)?;
        Ok(Table {
            key: self.order.key,
            rows: self.rows,
            rows_digest: self.rows_digest.finish(),
            bytes_digest: bytes_digest(&files),
            schema: crate::manifest::describe(&self.schema),
            files,
            from: None,
        })
    }

    fn write_chunk(&mut self) -> Result<(), Error> {
        let pending = std::mem::take(&mut self.pending);
        self.pending_rows = 0;
        self.pending_bytes = 0;
        let chunk = concat_batches(&self.schema, &pending)
            .map_err(|source| Error::Arrow { table: self.table.clone(), source })?;
        self.encoder.add(chunk);
        Ok(())
    }
}

/// A writer that hashes what passes through it.
pub struct HashingWriter<W> {
    inner: W,
    bytes: u64,
    blake3: blake3::Hasher,
    sha256: Sha256,
}

impl<W> HashingWriter<W> {
    /// Hashes everything written from here on.
    pub fn new(inner: W) -> Self {
        Self { inner, bytes: 0, blake3: blake3::Hasher::new(), sha256: Sha256::new() }
    }

    /// The plain BLAKE3 and SHA-256 of what was written.
    pub fn digests(&self) -> (Digest, Digest) {
        let blake3 = Digest::from_bytes(*self.blake3.finalize().as_bytes());
        (blake3, Digest::from_bytes(self.sha256.clone().finalize().into()))
    }
}

impl HashingWriter<File> {
    /// Syncs the file; returns its size, plain BLAKE3 and SHA-256.
    pub fn finish(self) -> io::Result<(u64, Digest, Digest)> {
        self.inner.sync_all()?;
        let (blake3, sha256) = self.digests();
        Ok((self.bytes, blake3, sha256))
    }
}

impl<W: Write> Write for HashingWriter<W> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(buffer)?;
        self.bytes += written as u64;
        self.blake3.update(&buffer[..written]);
        self.sha256.update(&buffer[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// What a table's rows say, checked while they are read again.
pub struct TableCheck {
    order: KeyOrder,
    digest: RowsDigest,
    rows: u64,
}

impl TableCheck {
    /// Starts to check a table.
    pub fn new(table: &str, schema: &SchemaRef, key: &[String]) -> Result<Self, Error> {
        Ok(Self { order: KeyOrder::new(table, schema, key)?, digest: RowsDigest::new(schema)?, rows: 0 })
    }

    /// Adds rows; disorder and duplicates are errors.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        self.order.check(batch, self.rows)?;
        self.digest.update(batch)?;
        self.rows += batch.num_rows() as u64;
        Ok(())
    }

    /// The number of rows and their digest.
    pub fn finish(self) -> (u64, Digest) {
        (self.rows, self.digest.finish())
    }
}

/// The digest of a table's files.
pub fn bytes_digest(files: &[FileEntry]) -> Digest {
    let fields = Kind::Bytes.fields();
    files.iter().fold(fields, |fields, file| fields.int(file.bytes).digest(file.blake3)).finish()
}

/// Checks that rows ascend by a key, nulls first, and that no key comes twice.
struct KeyOrder {
    table: String,
    key: Vec<String>,
    columns: Vec<usize>,
    converter: RowConverter,
    last: Option<Vec<u8>>,
}

impl KeyOrder {
    fn new(table: &str, schema: &SchemaRef, key: &[String]) -> Result<Self, Error> {
        let arrow = |source| Error::Arrow { table: table.to_owned(), source };
        let columns: Vec<usize> =
            key.iter().map(|name| schema.index_of(name)).collect::<Result<_, _>>().map_err(arrow)?;
        let fields = columns.iter().map(|&i| SortField::new(schema.field(i).data_type().clone())).collect();
        Ok(Self {
            table: table.to_owned(),
            key: key.to_vec(),
            columns,
            converter: RowConverter::new(fields).map_err(arrow)?,
            last: None,
        })
    }

    fn check(&mut self, batch: &RecordBatch, first_row: u64) -> Result<(), Error> {
        let columns: Vec<_> = self.columns.iter().map(|&i| batch.column(i).clone()).collect();
        let keys = self
            .converter
            .convert_columns(&columns)
            .map_err(|source| Error::Arrow { table: self.table.clone(), source })?;
        for (row, key) in keys.iter().enumerate() {
            if let Some(last) = &mut self.last {
                let what = match last.as_slice().cmp(key.as_ref()) {
                    std::cmp::Ordering::Less => "",
                    std::cmp::Ordering::Equal => "is a duplicate",
                    std::cmp::Ordering::Greater => "is out of order",
                };
                if !what.is_empty() {
                    return Err(Error::Key {
                        table: self.table.clone(),
                        row: first_row + row as u64,
                        what,
                        key: self.key.join(", "),
                    });
                }
                last.clear();
                last.extend_from_slice(key.as_ref());
            } else {
                self.last = Some(key.as_ref().to_vec());
            }
        }
        Ok(())
    }
}

/// Reads one shard, batch by batch.
pub fn read(path: &Path) -> Result<ParquetRecordBatchReader, Error> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .and_then(ParquetRecordBatchReaderBuilder::build)
        .map_err(|source| Error::Parquet { path: path.to_path_buf(), source })
}

/// Makes a folder's entries durable.
pub fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("sync", folder))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatchReader, StringArray};

    use super::*;

    const SMALL: Cuts = Cuts { chunk_rows: 7, chunk_bytes: 4000, group_bytes: 6000, shard_bytes: 20_000 };

    fn batch(rows: std::ops::Range<i64>) -> RecordBatch {
        let ids = Int64Array::from_iter_values(rows.clone());
        let texts =
            StringArray::from_iter_values(rows.map(|i| format!("{i} ").repeat(1 + (i as usize * 37) % 90)));
        RecordBatch::try_from_iter(vec![
            ("id", Arc::new(ids) as ArrayRef),
            ("text", Arc::new(texts) as ArrayRef),
        ])
        .expect("batch")
    }

    fn write(batches: &[RecordBatch]) -> Result<(Table, tempfile::TempDir), Error> {
        let folder = tempfile::tempdir().expect("temp dir");
        let schema = batch(0..1).schema();
        let mut writer = TableWriter::new(folder.path(), "t", schema, &["id".into()], SMALL)?;
        for batch in batches {
            writer.write(batch)?;
        }
        Ok((writer.finish()?, folder))
    }

    #[test]
    fn files_do_not_depend_on_batch_sizes() {
        let (one, folder) = write(&[batch(0..500)]).expect("write");
        let many: Vec<_> = (0..100).map(|i| batch(i * 5..i * 5 + 5)).collect();
        let (other, _other_folder) = write(&many).expect("write");
        assert!(one.files.len() > 2, "the cuts were not exercised: {:?}", one.files);
        assert_eq!(one, other);
        let rows: usize = one
            .files
            .iter()
            .flat_map(|file| read(&folder.path().join(&file.name)).expect("open"))
            .map(|batch| batch.expect("read").num_rows())
            .sum();
        assert_eq!(rows, 500);
        let file = &one.files[0];
        let bytes = std::fs::read(folder.path().join(&file.name)).expect("read");
        assert_eq!(file.blake3, Digest::of_bytes(&bytes));
        assert_eq!(file.sha256, Digest::from_bytes(Sha256::digest(&bytes).into()));
    }

    #[test]
    fn an_empty_table_has_a_shard_with_its_schema() {
        let (table, folder) = write(&[]).expect("write");
        assert_eq!((table.rows, table.files.len()), (0, 1));
        let mut reader = read(&folder.path().join(&table.files[0].name)).expect("open");
        assert_eq!(reader.schema().fields().len(), 2);
        assert!(reader.next().is_none());
    }

    #[test]
    fn disorder_and_duplicates_are_refused() {
        for (batches, what) in
            [([batch(5..9), batch(0..2)], "out of order"), ([batch(0..3), batch(2..4)], "a duplicate")]
        {
            let error = write(&batches).expect_err("bad order").to_string();
            assert!(error.contains(what) && error.contains("(id)"), "{error}");
        }
    }
}

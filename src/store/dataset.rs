//! A dataset: a set of tables with a manifest; and the draft of one while a stage writes it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use arrow::datatypes::SchemaRef;
use finch_core::manifest::{FileEntry, Manifest, Table};
use finch_core::shard::{Cuts, HashingWriter, TableWriter, read};

use super::Store;
use crate::code::Code;
use crate::contract::{Contract, encode};
use crate::error::{Error, Result};

/// A finished dataset.
#[derive(Clone, Debug)]
pub struct Dataset {
    pub(super) store: Store,
    /// What it is.
    pub manifest: Manifest,
}

impl Dataset {
    /// The folder that holds its own files, all of them.
    pub fn folder(&self) -> Result<PathBuf> {
        self.store.bring(&self.manifest, &self.manifest.own_files().collect::<Vec<_>>())
    }

    /// Itself, instead of another dataset of its name that came later.
    pub(super) fn in_place_of(self, late: &Manifest) -> Result<Self> {
        // Trainings have no `rows`: two of them may differ, and the first one stays.
        if self.manifest.rows == late.rows {
            return Ok(self);
        }
        Err(Error::Store {
            reason: format!("two builds of dataset {} came out different", late.fingerprint.short()),
            code: Code::Damaged,
            hint: Some("this is a defect of finch; please report it".to_owned()),
        })
    }

    /// A table's entry.
    pub fn table(&self, name: &str) -> Option<&Table> {
        self.manifest.tables.get(name)
    }

    /// The columns that a table's rows are sorted by.
    pub fn key(&self, name: &str) -> &[String] {
        self.table(name).map_or(&[], |table| &table.key)
    }

    /// The shards of a table, in row order, in whichever dataset they lie.
    pub fn files(&self, name: &str) -> Result<Vec<PathBuf>> {
        let table = self.table(name).ok_or_else(|| Error::Store {
            reason: format!("dataset {} has no table `{name}`", self.manifest.fingerprint.short()),
            code: Code::UnknownTable,
            hint: None,
        })?;
        let files: Vec<&FileEntry> = table.files.iter().collect();
        let folder = match table.from {
            Some(holder) if self.store.is_far() => {
                self.store.bring(&self.store.expect(holder)?.manifest, &files)?
            }
            Some(holder) => self.store.sound(holder, &files)?,
            None => self.store.bring(&self.manifest, &files)?,
        };
        Ok(files.iter().map(|file| folder.join(&file.name)).collect())
    }

    /// The columns of a table, from its first shard.
    pub fn schema(&self, name: &str) -> Result<SchemaRef> {
        let files = self.files(name)?;
        let first = files.first().ok_or_else(|| Error::Store {
            reason: format!("table `{name}` of dataset {} has no file", self.manifest.fingerprint.short()),
            code: Code::Damaged,
            hint: None,
        })?;
        Ok(arrow::array::RecordBatchReader::schema(&read(first)?))
    }

    /// What is wrong with the dataset's own files at a glance: one that is missing or has another size. Hashing is
    /// `verify`'s work, and tables that are passed on are the matter of the stage that wrote them.
    pub fn damage(&self) -> Result<Option<String>> {
        let sizes = self.store.sizes(&self.manifest)?;
        Ok(self.manifest.own_files().find_map(|file| match sizes(&file.name) {
            Ok(bytes) if bytes == file.bytes => None,
            Ok(bytes) => Some(format!("`{}` has {bytes} bytes, not {}", file.name, file.bytes)),
            Err(error) => Some(format!("`{}`: {error}", file.name)),
        }))
    }

    /// An artifact's path.
    pub fn artifact(&self, name: &str) -> Result<Option<PathBuf>> {
        let Some(entry) = self.manifest.artifacts.iter().find(|file| file.name == name) else {
            return Ok(None);
        };
        Ok(Some(self.store.bring(&self.manifest, &[entry])?.join(&entry.name)))
    }
}

/// A dataset being written.
pub struct Draft {
    folder: tempfile::TempDir,
    tables: BTreeMap<String, Table>,
    artifacts: Vec<FileEntry>,
}

impl Draft {
    /// An empty draft in a store.
    pub fn new(store: &Store) -> Result<Self> {
        Ok(Self { folder: store.scratch()?, tables: BTreeMap::new(), artifacts: Vec::new() })
    }

    /// Starts a table under its contract's key.
    pub fn writer(&self, table: &str, schema: &SchemaRef) -> Result<TableWriter> {
        self.keyed_writer(table, schema, &Contract::of(table).key)
    }

    /// Starts a table under a key.
    pub fn keyed_writer(&self, table: &str, schema: &SchemaRef, key: &[String]) -> Result<TableWriter> {
        self.cut_writer(table, schema, key, Cuts::default())
    }

    /// Starts a table under a key, with its own cuts.
    pub fn cut_writer(
        &self,
        table: &str,
        schema: &SchemaRef,
        key: &[String],
        cuts: Cuts,
    ) -> Result<TableWriter> {
        Ok(TableWriter::new(self.folder.path(), table, schema.clone(), key, cuts)?)
    }

    /// Ends a table; returns its number of rows.
    pub fn finish(&mut self, name: &str, writer: TableWriter) -> Result<u64> {
        let table = writer.finish()?;
        let rows = table.rows;
        self.tables.insert(name.to_owned(), table);
        Ok(rows)
    }

    /// The shards of a table that is finished here.
    pub fn files(&self, name: &str) -> Vec<PathBuf> {
        let files = self.tables.get(name).into_iter().flat_map(|table| &table.files);
        files.map(|file| self.folder.path().join(&file.name)).collect()
    }

    /// Writes a whole table from rows that are sorted by its key.
    pub fn write_rows<T: serde::Serialize>(&mut self, name: &str, kinds: &[&str], rows: &[T]) -> Result<u64> {
        let schema = Contract::of(name).schema(kinds);
        let mut writer = self.writer(name, &schema)?;
        for batch in encode(name, &schema, rows)? {
            writer.write(&batch)?;
        }
        self.finish(name, writer)
    }

    /// Passes on the tables of an input that this stage did not write itself, `except` some.
    pub fn pass_on(&mut self, input: &Dataset, except: &[&str]) {
        for (name, table) in &input.manifest.tables {
            if !except.contains(&name.as_str()) && !self.tables.contains_key(name) {
                let from = table.from.or(Some(input.manifest.fingerprint));
                self.tables.insert(name.clone(), Table { from, ..table.clone() });
            }
        }
    }

    /// Writes a file that is not a table.
    pub fn artifact(&mut self, name: &str, bytes: &[u8]) -> Result<()> {
        use std::io::Write;
        let path = self.folder.path().join(name);
        let file = std::fs::File::create_new(&path).map_err(Error::io("create", &path))?;
        let mut file = HashingWriter::new(file);
        file.write_all(bytes).map_err(Error::io("write", &path))?;
        let (bytes, blake3, sha256) = file.finish().map_err(Error::io("sync", &path))?;
        self.artifacts.push(FileEntry { name: name.to_owned(), rows: 0, bytes, blake3, sha256 });
        Ok(())
    }

    /// Takes over a file that is finished elsewhere in the store, without copying it where links are possible; returns
    /// its entry. The other name stays until its owner removes it.
    pub fn adopt(&mut self, name: &str, from: &Path) -> Result<&FileEntry> {
        let path = self.folder.path().join(name);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(Error::io("create", folder))?;
        }
        if std::fs::hard_link(from, &path).is_err() {
            std::fs::copy(from, &path).map_err(Error::io("copy", from))?;
        }
        let file = std::fs::File::open(&path).map_err(Error::io("open", &path))?;
        let mut hashing = HashingWriter::new(std::io::sink());
        let bytes = std::io::copy(&mut &file, &mut hashing).map_err(Error::io("read", &path))?;
        let (blake3, sha256) = hashing.digests();
        file.sync_all().map_err(Error::io("sync", &path))?;
        if let Some(folder) = path.parent() {
            finch_core::shard::sync_folder(folder)?;
        }
        self.artifacts.push(FileEntry { name: name.to_owned(), rows: 0, bytes, blake3, sha256 });
        Ok(self.artifacts.last().expect("it was pushed above"))
    }

    /// The draft's tables and artifacts, for its manifest; the folder is published by the caller.
    pub fn into_parts(self) -> (tempfile::TempDir, BTreeMap<String, Table>, Vec<FileEntry>) {
        (self.folder, self.tables, self.artifacts)
    }
}

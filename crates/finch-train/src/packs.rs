//! A dataset of packs: its manifest, an index of all packs, and their tokens when they are asked for.
//!
//! Opening reads every shard once, hashes it against the manifest and checks that rows are what packs are, so
//! that training never meets a surprise in the middle. Tokens stay on disk: a row group is decoded when one of
//! its packs is wanted, and a few of them are kept.

mod rows;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::path::{Path, PathBuf};

use finch_core::manifest::{self, Manifest};
use finch_core::training::{Totals, files};
use finch_core::{Code, Digest};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::architecture::Architecture;
use crate::error::{Error, Result};
use crate::sequence::Sequence;

/// Row groups that are kept decoded. A group holds 16 MiB in the canonical encoding, about a million tokens.
const CACHED_GROUPS: usize = 16;

/// An example's place and size in a pack.
#[derive(Clone, Debug, PartialEq)]
pub struct Document {
    /// The example.
    pub example_id: String,
    /// Its task.
    pub task: String,
    /// The outcome of the step that it is of; none where nothing labelled it.
    pub outcome: Option<String>,
    /// Its weight in the loss.
    pub weight: f64,
    /// Its first token in the pack.
    pub start: usize,
    /// Its tokens.
    pub tokens: usize,
    /// Its tokens that count in the loss.
    pub trained: usize,
}

/// A pack without its tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct Pack {
    /// Its id.
    pub pack_id: String,
    /// `train`, `validation`, `test`, or none where nothing was split.
    pub split: Option<String>,
    /// Its examples in order.
    pub documents: Vec<Document>,
    place: Place,
}

/// Where a pack's tokens lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    shard: usize,
    group: usize,
    row: usize,
}

/// A pack's tokens.
struct Tokens {
    ids: Vec<i32>,
    trained: Vec<bool>,
}

/// A dataset of packs.
pub struct Packs {
    folder: PathBuf,
    shards: Vec<PathBuf>,
    packs: Vec<Pack>,
    digest: Digest,
    largest_id: i32,
    /// Decoded row groups, least recently used first.
    cache: Vec<((usize, usize), Vec<Tokens>)>,
}

impl Pack {
    /// Whether the pack is trained on: it is of the split `train`, or nothing was split.
    pub fn is_train(&self) -> bool {
        self.split.as_deref().is_none_or(|split| split == "train")
    }

    /// Its tokens.
    pub fn tokens(&self) -> usize {
        self.documents.iter().map(|document| document.tokens).sum()
    }

    /// Its tokens that count in the loss.
    pub fn trained(&self) -> usize {
        self.documents.iter().map(|document| document.trained).sum()
    }
}

impl Packs {
    /// Opens a dataset's folder and checks all of it.
    pub fn open(folder: &Path) -> Result<Self> {
        let path = folder.join("manifest.json");
        let text = std::fs::read(&path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => Error::Data {
                place: format!("`{}`", folder.display()),
                reason: "it is not a dataset: it has no `manifest.json`".to_owned(),
                code: Code::BadPacks,
                hint: Some(
                    "name the folder that holds `manifest.json`: two above the files that `finch path packs --spec \
                     SPEC` prints"
                        .to_owned(),
                ),
            },
            _ => Error::io("read", &path)(source),
        })?;
        let manifest: Manifest = serde_json::from_slice(&text)
            .map_err(|source| finch_core::Error::Manifest { path: path.clone(), source })?;
        let place = format!("`{}`", path.display());
        if manifest.version != manifest::VERSION {
            return Err(Error::packs(place, format!("it is of version {}", manifest.version)));
        }
        let table = match manifest.tables.get("packs") {
            Some(table) if table.from.is_none() => table,
            Some(_) => return Err(Error::packs(place, "its packs lie in another dataset; name that one")),
            None => {
                return Err(Error::packs(
                    place,
                    "the dataset has no table `packs`; a `pack` stage makes one",
                ));
            }
        };
        let mut packs = Self {
            folder: folder.to_path_buf(),
            shards: Vec::new(),
            packs: Vec::new(),
            digest: table.rows_digest,
            largest_id: -1,
            cache: Vec::new(),
        };
        for entry in &table.files {
            let inside = Path::new(&entry.name)
                .components()
                .all(|part| matches!(part, std::path::Component::Normal(_)));
            if !inside {
                return Err(Error::packs(
                    place,
                    format!("it names the file `{}`", entry.name.escape_debug()),
                ));
            }
            packs.add_shard(folder.join(&entry.name), entry)?;
        }
        // The tokenizer goes with the model, so it must be the one that the ids are of.
        for entry in manifest.artifacts.iter().filter(|entry| entry.name == files::TOKENIZER) {
            let path = packs.tokenizer();
            if finch_core::digest::of_file(&path)? != entry.blake3 {
                let place = format!("`{}`", path.display());
                return Err(Error::packs(
                    place,
                    "its BLAKE3 is not the manifest's: the file was changed or damaged",
                ));
            }
        }
        let mut examples = BTreeSet::new();
        let documents = packs.packs.iter().flat_map(|pack| &pack.documents);
        if let Some(twice) = documents.map(|document| &document.example_id).find(|id| !examples.insert(*id)) {
            return Err(Error::packs(place, format!("the example {} is in it twice", twice.escape_debug())));
        }
        if packs.packs.len() as u64 != table.rows {
            let reason = format!("it says {} packs, and the shards hold {}", table.rows, packs.packs.len());
            return Err(Error::packs(place, reason));
        }
        Ok(packs)
    }

    /// Hashes a shard, checks its rows and indexes them.
    fn add_shard(&mut self, path: PathBuf, entry: &manifest::FileEntry) -> Result<()> {
        let place = format!("`{}`", path.display());
        let digest = finch_core::digest::of_file(&path)?;
        if digest != entry.blake3 {
            return Err(Error::packs(
                place,
                "its BLAKE3 is not the manifest's: the file was changed or damaged",
            ));
        }
        let shard = self.shards.len();
        let groups = reader(&path)?.metadata().num_row_groups();
        for group in 0..groups {
            let mut first = 0;
            for batch in rows::open(reader(&path)?, &path, group, None)? {
                let batch = batch.map_err(|source| Error::packs(place.clone(), source.to_string()))?;
                let table = rows::Rows::new(&batch).map_err(|reason| Error::packs(place.clone(), reason))?;
                for row in 0..batch.num_rows() {
                    let (documents, largest) = table.check(row).map_err(|(code, reason)| Error::Data {
                        place: format!("{place}, pack {}", table.pack_id(row)),
                        reason,
                        code,
                        hint: None,
                    })?;
                    self.largest_id = self.largest_id.max(largest);
                    self.packs.push(Pack {
                        pack_id: table.pack_id(row).to_owned(),
                        split: table.split(row),
                        documents,
                        place: Place { shard, group, row: first + row },
                    });
                }
                first += batch.num_rows();
            }
        }
        self.shards.push(path);
        Ok(())
    }

    /// The dataset's folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The tokenizer that the ids are of.
    pub fn tokenizer(&self) -> PathBuf {
        self.folder.join(files::TOKENIZER)
    }

    /// All packs, in the order of their ids.
    pub fn all(&self) -> &[Pack] {
        &self.packs
    }

    /// The `rows` digest of the table: what the packs say, whatever their files.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Indices of the packs to train on.
    pub fn train(&self) -> Vec<usize> {
        (0..self.packs.len()).filter(|&pack| self.packs[pack].is_train()).collect()
    }

    /// The longest pack in tokens.
    pub fn longest(&self) -> usize {
        self.packs.iter().map(Pack::tokens).max().unwrap_or(0)
    }

    /// Sums over some packs.
    pub fn totals<'a>(packs: impl IntoIterator<Item = &'a Pack>) -> Totals {
        packs.into_iter().fold(Totals::default(), |sum, pack| Totals {
            packs: sum.packs + 1,
            examples: sum.examples + pack.documents.len() as u64,
            tokens: sum.tokens + pack.tokens() as u64,
            trained_tokens: sum.trained_tokens + pack.trained() as u64,
        })
    }

    /// The smallest vocabulary that has every token id.
    pub fn vocabulary(&self) -> i64 {
        i64::from(self.largest_id) + 1
    }

    /// Checks that a model knows every token and every position.
    pub fn fits(&self, shape: &Architecture) -> Result<()> {
        let (vocabulary, positions) = (shape.vocab_size, shape.max_position_embeddings);
        let mut documents = self.packs.iter().flat_map(|pack| &pack.documents);
        if let Some(long) = documents.find(|document| document.tokens as i64 > positions) {
            return Err(Error::Data {
                place: format!("`{}`", self.folder.display()),
                reason: format!(
                    "example {} has {} tokens, and the model was made for {positions}",
                    long.example_id, long.tokens
                ),
                code: Code::LongDocument,
                hint: Some("lower `max_tokens` of the render stage".to_owned()),
            });
        }
        if self.vocabulary() <= vocabulary {
            return Ok(());
        }
        Err(Error::Data {
            place: format!("`{}`", self.folder.display()),
            reason: format!(
                "the packs hold the token id {}, and the model's vocabulary ends at {}",
                self.largest_id,
                vocabulary - 1
            ),
            code: Code::Vocabulary,
            hint: Some(
                "render with the tokenizer of the base model, or raise `vocab_size` in its config".to_owned(),
            ),
        })
    }

    /// Adds a pack's documents to a sequence.
    pub fn append(&mut self, pack: usize, sequence: &mut Sequence) -> Result<()> {
        for document in 0..self.packs[pack].documents.len() {
            self.append_document(pack, document, sequence)?;
        }
        Ok(())
    }

    /// Adds one document of a pack to a sequence.
    pub fn append_document(&mut self, pack: usize, document: usize, sequence: &mut Sequence) -> Result<()> {
        let (ids, trained, entry) = self.document(pack, document)?;
        sequence.push(ids, trained, entry.weight);
        Ok(())
    }

    /// A document's token ids and mask.
    pub fn document(&mut self, pack: usize, document: usize) -> Result<(&[i32], &[bool], &Document)> {
        let place = self.packs[pack].place;
        let group = self.group(place.shard, place.group)?;
        let tokens = &self.cache[group].1[place.row];
        let document = &self.packs[pack].documents[document];
        let range = document.start..document.start + document.tokens;
        Ok((&tokens.ids[range.clone()], &tokens.trained[range], document))
    }

    /// The place of a row group in the cache; decodes it when it is not there.
    fn group(&mut self, shard: usize, group: usize) -> Result<usize> {
        if let Some(at) = self.cache.iter().position(|(key, _)| *key == (shard, group)) {
            let entry = self.cache.remove(at);
            self.cache.push(entry);
            return Ok(self.cache.len() - 1);
        }
        let path = self.shards[shard].clone();
        let error = |reason: String| Error::packs(format!("`{}`", path.display()), reason);
        let mut tokens = Vec::new();
        for batch in rows::open(reader(&path)?, &path, group, Some(&["input_ids", "loss_mask"]))? {
            let batch = batch.map_err(|source| error(source.to_string()))?;
            tokens.extend(rows::tokens(&batch).map_err(error)?.map(|(ids, trained)| Tokens { ids, trained }));
        }
        // The file was hashed when it was opened; what changed since is not the data that was asked for.
        let indexed = self.packs.iter().filter(|pack| (pack.place.shard, pack.place.group) == (shard, group));
        let whole = indexed
            .map(Pack::tokens)
            .eq(tokens.iter().map(|tokens| tokens.ids.len().min(tokens.trained.len())));
        if !whole {
            return Err(error("the file changed while it was being used".to_owned()));
        }
        if self.cache.len() >= CACHED_GROUPS {
            self.cache.remove(0);
        }
        self.cache.push(((shard, group), tokens));
        Ok(self.cache.len() - 1)
    }
}

fn reader(path: &Path) -> Result<ParquetRecordBatchReaderBuilder<File>> {
    let file = File::open(path).map_err(Error::io("open", path))?;
    ParquetRecordBatchReaderBuilder::try_new(file)
        .map_err(|source| Error::packs(format!("`{}`", path.display()), source.to_string()))
}

/// Which columns to read; all when `None`.
fn projection(builder: &ParquetRecordBatchReaderBuilder<File>, columns: Option<&[&str]>) -> ProjectionMask {
    match columns {
        Some(columns) => ProjectionMask::columns(builder.parquet_schema(), columns.iter().copied()),
        None => ProjectionMask::all(),
    }
}

/// Examples by id, for commands that name one.
pub fn by_example(packs: &[Pack]) -> BTreeMap<&str, (usize, usize)> {
    let mut found = BTreeMap::new();
    for (p, pack) in packs.iter().enumerate() {
        for (d, document) in pack.documents.iter().enumerate() {
            found.insert(document.example_id.as_str(), (p, d));
        }
    }
    found
}

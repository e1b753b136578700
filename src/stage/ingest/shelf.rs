//! Texts at hand: those of all programs and answers that a step needs to be seen again.
//!
//! The readers put texts away compressed and unordered, and what comes next wants them one by one. The wanted ones are
//! copied to a file once, in one pass, and read from there by place; memory holds where each is.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use arrow::array::AsArray;
use finch_core::Digest;
use finch_core::shard::read;

use crate::error::{Error, Result};
use crate::ingest::scratch;

/// Texts in a file that is nowhere else.
pub(super) struct Shelf {
    file: File,
    path: PathBuf,
    places: HashMap<Digest, (u64, usize)>,
}

impl Shelf {
    /// Takes the wanted texts out of the folders that hold all.
    pub(super) fn of(packs: &[PathBuf], wanted: &HashSet<Digest>, folder: &Path) -> Result<Self> {
        let path = folder.join("shelf");
        let file = File::options().read(true).write(true).create_new(true).open(&path);
        let file = file.map_err(Error::io("create", &path))?;
        let mut shelf = Self { file, path, places: HashMap::new() };
        let mut out = BufWriter::with_capacity(1 << 20, &shelf.file);
        let mut end = 0;
        for (pack, table, column) in
            packs.iter().flat_map(|pack| [(pack, scratch::PROGRAMS, "code"), (pack, scratch::TEXTS, "text")])
        {
            if shelf.places.len() == wanted.len() {
                break;
            }
            let from = pack.join(table);
            for batch in read(&from)? {
                let error = |source| finch_core::Error::Arrow { table: from.display().to_string(), source };
                let batch = batch.map_err(error)?;
                let Some(texts) =
                    batch.column_by_name(column).and_then(|column| column.as_string_opt::<i32>())
                else {
                    continue;
                };
                let ids = batch.column(0).as_string::<i32>();
                for (id, text) in ids.iter().zip(texts) {
                    let (Some(id), Some(text)) = (id.and_then(|id| id.parse::<Digest>().ok()), text) else {
                        continue;
                    };
                    if wanted.contains(&id) && !shelf.places.contains_key(&id) {
                        out.write_all(text.as_bytes()).map_err(Error::io("write", &shelf.path))?;
                        shelf.places.insert(id, (end, text.len()));
                        end += text.len() as u64;
                    }
                }
            }
        }
        out.flush().map_err(Error::io("write", &shelf.path))?;
        drop(out);
        Ok(shelf)
    }

    /// A text; `None` when nobody wanted it.
    pub(super) fn get(&self, id: Digest) -> Result<Option<String>> {
        let Some(&(offset, length)) = self.places.get(&id) else { return Ok(None) };
        let mut bytes = vec![0; length];
        self.file.read_exact_at(&mut bytes, offset).map_err(Error::io("read", &self.path))?;
        Ok(Some(String::from_utf8_lossy(&bytes).into_owned()))
    }
}

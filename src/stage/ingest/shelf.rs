//! Texts at hand: those of all programs and answers that a step needs to be seen again.
//!
//! The readers put texts away compressed and unordered, and what comes next wants them one by one. The wanted ones are
//! copied to a file once, in one pass, and read from there by place; memory holds where each is.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use finch_core::Digest;

use crate::error::{Error, Result};
use crate::ingest::scratch::pile::Blocks;
use crate::ingest::scratch::{PROGRAMS, TEXTS};

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
        for pile in packs.iter().flat_map(|pack| [pack.join(PROGRAMS), pack.join(TEXTS)]) {
            if shelf.places.len() == wanted.len() {
                break;
            }
            Blocks::open(&pile)?.each(|row| {
                if wanted.contains(&row.id) && !shelf.places.contains_key(&row.id) {
                    out.write_all(row.text.as_bytes()).map_err(Error::io("write", &shelf.path))?;
                    shelf.places.insert(row.id, (end, row.text.len()));
                    end += row.text.len() as u64;
                }
                Ok(())
            })?;
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

//! The texts of programs and answers that a step needs to be seen again, by their ids.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use finch_core::Digest;

use crate::error::Result;
use crate::ingest::scratch::pile::Blocks;
use crate::ingest::scratch::{PROGRAMS, TEXTS};
use crate::shelf::{Shelf, Texts};

/// Texts by id.
pub(super) struct Wanted {
    texts: Texts,
    numbers: HashMap<Digest, u32>,
}

impl Wanted {
    /// Takes the wanted texts out of the folders that hold all, in one pass.
    pub(super) fn of(packs: &[PathBuf], wanted: &HashSet<Digest>, folder: &Path) -> Result<Self> {
        let (mut shelf, mut numbers) = (Shelf::create(folder)?, HashMap::new());
        for pile in packs.iter().flat_map(|pack| [pack.join(PROGRAMS), pack.join(TEXTS)]) {
            if numbers.len() == wanted.len() {
                break;
            }
            Blocks::open(&pile)?.each(|row| {
                if wanted.contains(&row.id) && !numbers.contains_key(&row.id) {
                    numbers.insert(row.id, shelf.add(row.text)?);
                }
                Ok(())
            })?;
        }
        Ok(Self { texts: shelf.finish()?, numbers })
    }

    /// A text; `None` when nobody wanted it.
    pub(super) fn get(&self, id: Digest) -> Result<Option<String>> {
        self.numbers.get(&id).map(|number| self.texts.get(*number)).transpose()
    }
}

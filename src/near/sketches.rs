//! The sketches of all items: in memory, or, beyond a budget, in a file.

use std::fs::File;
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use rayon::prelude::*;

use super::search::Items;
use super::sketch::{Likeness, Sketcher};
use crate::error::{Error, Result};

/// Sketches by item.
pub(super) struct Sketches {
    bytes: usize,
    /// Sketches of a file that are in memory together.
    at_once: usize,
    place: Place,
}

enum Place {
    Memory(Vec<u8>),
    File { file: File, path: PathBuf, items: usize },
}

impl Sketches {
    /// Makes the sketches of all items, on all threads. Those that take more than `budget` bytes go into a file in
    /// `scratch`, `at_once` of them at a time.
    pub(super) fn make(
        items: &impl Items,
        likeness: &Likeness,
        budget: u64,
        at_once: usize,
        scratch: &Path,
    ) -> Result<Self> {
        let (count, bytes) = (items.count() as usize, likeness.bytes());
        let sketch_all = |start: usize, out: &mut [u8]| {
            let new = || (Sketcher::new(likeness), Vec::new());
            out.par_chunks_mut(bytes).enumerate().with_min_len(16).try_for_each_init(
                new,
                |(sketcher, hashes), (at, sketch)| {
                    let item = (start + at) as u32;
                    hashes.clear();
                    items.hashes(item, hashes)?;
                    sketcher.sketch(hashes, items.group(item), sketch);
                    Ok::<(), Error>(())
                },
            )
        };
        if (count * bytes) as u64 <= budget {
            let mut all = vec![0; count * bytes];
            sketch_all(0, &mut all)?;
            return Ok(Self { bytes, at_once, place: Place::Memory(all) });
        }
        let path = scratch.join("sketches");
        let opened = File::options().read(true).write(true).create_new(true).open(&path);
        let mut file = opened.map_err(Error::io("create", &path))?;
        let mut batch = vec![0; at_once.min(count) * bytes];
        for start in (0..count).step_by(at_once) {
            let batch = &mut batch[..at_once.min(count - start) * bytes];
            sketch_all(start, batch)?;
            file.write_all(batch).map_err(Error::io("write", &path))?;
        }
        Ok(Self { bytes, at_once, place: Place::File { file, path, items: count } })
    }

    /// An item's sketch; `room` is where it is put if it has to be read.
    pub(super) fn get<'a>(&'a self, item: u32, room: &'a mut Vec<u8>) -> Result<&'a [u8]> {
        let start = item as usize * self.bytes;
        match &self.place {
            Place::Memory(all) => Ok(&all[start..start + self.bytes]),
            Place::File { file, path, .. } => {
                room.resize(self.bytes, 0);
                file.read_exact_at(room, start as u64).map_err(Error::io("read", path))?;
                Ok(room)
            }
        }
    }

    /// All sketches, in order.
    pub(super) fn each(&self, mut take: impl FnMut(u32, &[u8])) -> Result<()> {
        match &self.place {
            Place::Memory(all) => {
                (0..).zip(all.chunks_exact(self.bytes)).for_each(|(item, sketch)| take(item, sketch));
            }
            Place::File { file, path, items } => {
                let mut batch = vec![0; self.at_once.min(*items) * self.bytes];
                for start in (0..*items).step_by(self.at_once) {
                    let batch = &mut batch[..self.at_once.min(items - start) * self.bytes];
                    let at = (start * self.bytes) as u64;
                    file.read_exact_at(batch, at).map_err(Error::io("read", path))?;
                    let sketches = batch.chunks_exact(self.bytes);
                    (start as u32..).zip(sketches).for_each(|(item, sketch)| take(item, sketch));
                }
            }
        }
        Ok(())
    }
}

//! A pile: long texts in a file of compressed blocks, each block of one bucket of ids.
//!
//! Texts come in any order and are wanted in the order of their ids. Each goes into a bucket by its id's first byte; a
//! bucket that has enough becomes a block, compressed and appended. To have all in order, buckets are taken out one
//! after another: each text is written once and read once, and memory holds a few buckets. A bucket that is too large for
//! that is decompressed several times, each time for a part of its ids.
//!
//! ```text
//! file   mark, blocks
//! block  bucket: u8, bytes: u64, compressed bytes: u64, one zstd frame
//! frame  rows: id: 32 bytes, label: length u64 and UTF-8, text: length u64 and UTF-8
//! ```
//!
//! Numbers are little-endian. Damage is an error; nothing in a file is believed before it was looked at.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, ErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use finch_core::Digest;
use rayon::prelude::*;
use zstd::bulk::{Compressor, Decompressor};

use crate::error::{Error, Result};

const MARK: &[u8; 8] = b"finchpl1";
const BUCKETS: usize = 256;
/// Bytes of a block's header.
const HEAD: usize = 17;
const ID: usize = 32;
/// Bytes of a bucket that become a block. All buckets of a pile together hold half as much for each, on average.
const BLOCK_BYTES: usize = 128 << 10;
/// Bytes that one compressed byte can stand for, at most: what says more is damaged, and nothing is allocated for it.
const MOST_RATIO: usize = 1 << 16;
/// A pile is written once and read once or twice, so the fastest of the levels that still compress well.
const LEVEL: i32 = 1;

/// A pile that is being written, by any number of threads.
pub(super) struct Pile {
    path: PathBuf,
    /// The ids and labels that it has. The order of arrival decides nothing, so the first text stays.
    seen: Mutex<HashSet<(Digest, Box<str>)>>,
    buckets: Vec<Mutex<Vec<u8>>>,
    file: Mutex<File>,
    /// What compresses blocks, at rest.
    idle: Mutex<Vec<Tools>>,
}

/// What it takes to compress a block; to make it costs about as much as to use it.
struct Tools {
    compressor: Compressor<'static>,
    block: Vec<u8>,
    /// Has room for a bucket.
    spare: Vec<u8>,
}

impl Pile {
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        let mut file = File::create_new(&path).map_err(Error::io("create", &path))?;
        file.write_all(MARK).map_err(Error::io("write", &path))?;
        let buckets = (0..BUCKETS).map(|_| Mutex::default()).collect();
        Ok(Self { path, seen: Mutex::default(), buckets, file: Mutex::new(file), idle: Mutex::default() })
    }

    /// Whether the id with this label comes for the first time.
    pub(super) fn is_new(&self, id: Digest, label: &str) -> bool {
        lock(&self.seen).insert((id, label.into()))
    }

    /// Adds a text, which is new.
    pub(super) fn add(&self, id: Digest, label: &str, text: &str) -> Result<()> {
        let bucket = id.as_bytes()[0];
        let mut rows = lock(&self.buckets[usize::from(bucket)]);
        if rows.capacity() == 0 {
            rows.reserve(BLOCK_BYTES + BLOCK_BYTES / 2);
        }
        rows.extend_from_slice(id.as_bytes());
        for part in [label, text] {
            rows.extend_from_slice(&(part.len() as u64).to_le_bytes());
            rows.extend_from_slice(part.as_bytes());
        }
        if rows.len() < BLOCK_BYTES {
            return Ok(());
        }
        let mut tools = self.tools().map_err(Error::io("write", &self.path))?;
        tools.spare.clear();
        std::mem::swap(&mut *rows, &mut tools.spare);
        drop(rows);
        self.write(bucket, tools).map_err(Error::io("write", &self.path))
    }

    fn tools(&self) -> io::Result<Tools> {
        let new = || Ok(Tools { compressor: Compressor::new(LEVEL)?, block: Vec::new(), spare: Vec::new() });
        lock(&self.idle).pop().map_or_else(new, Ok)
    }

    /// Writes the rows of a bucket, which are in the spare buffer.
    fn write(&self, bucket: u8, mut tools: Tools) -> io::Result<()> {
        let Tools { compressor, block, spare: rows } = &mut tools;
        let bound = HEAD + zstd::zstd_safe::compress_bound(rows.len());
        if block.len() < bound {
            block.resize(bound, 0);
        }
        let length = compressor.compress_to_buffer(rows, &mut block[HEAD..])?;
        block[0] = bucket;
        block[1..9].copy_from_slice(&(rows.len() as u64).to_le_bytes());
        block[9..HEAD].copy_from_slice(&(length as u64).to_le_bytes());
        lock(&self.file).write_all(&block[..HEAD + length])?;
        // One large text is no reason to keep room for more.
        if tools.spare.capacity() <= 8 * BLOCK_BYTES {
            lock(&self.idle).push(tools);
        }
        Ok(())
    }

    /// Ends writing.
    pub(super) fn finish(self) -> Result<()> {
        let rest = self.buckets.par_iter().enumerate().filter_map(|(bucket, rows)| {
            let rows = std::mem::take(&mut *lock(rows));
            (!rows.is_empty()).then_some((bucket as u8, rows))
        });
        let write = |(bucket, rows)| self.write(bucket, Tools { spare: rows, ..self.tools()? });
        rest.try_for_each(write).map_err(Error::io("write", &self.path))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A text of a pile, with its id and label.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    /// The id.
    pub id: Digest,
    /// The label; empty for texts that have none.
    pub label: &'a str,
    /// The text.
    pub text: &'a str,
}

/// A pile that is read. Blocks are read whole and in any order.
pub struct Blocks {
    path: PathBuf,
    file: File,
    blocks: Vec<Block>,
    idle: Mutex<Vec<Decompressor<'static>>>,
}

#[derive(Clone, Copy)]
struct Block {
    bucket: u8,
    bytes: usize,
    offset: u64,
    compressed: usize,
}

impl Blocks {
    /// Opens a finished pile and lists its blocks.
    pub fn open(path: &Path) -> Result<Self> {
        let read = || {
            let file = File::open(path)?;
            let end = file.metadata()?.len();
            let mut mark = [0; MARK.len()];
            file.read_exact_at(&mut mark, 0)?;
            if mark != *MARK {
                return Err(damaged());
            }
            let (mut blocks, mut at) = (Vec::new(), MARK.len() as u64);
            while at < end {
                let mut head = [0; HEAD];
                file.read_exact_at(&mut head, at)?;
                let number = |range: Range<usize>| {
                    let bytes = head[range].try_into().map_err(|_| damaged())?;
                    usize::try_from(u64::from_le_bytes(bytes)).map_err(|_| damaged())
                };
                let (bytes, compressed, offset) = (number(1..9)?, number(9..HEAD)?, at + HEAD as u64);
                if bytes / MOST_RATIO > compressed {
                    return Err(damaged());
                }
                at = offset.checked_add(compressed as u64).filter(|next| *next <= end).ok_or_else(damaged)?;
                blocks.push(Block { bucket: head[0], bytes, offset, compressed });
            }
            Ok((file, blocks))
        };
        let (file, blocks) = read().map_err(Error::io("read", path))?;
        Ok(Self { path: path.to_path_buf(), file, blocks, idle: Mutex::default() })
    }

    /// Every text, one block after another; all threads decompress.
    pub fn each(&self, mut take: impl FnMut(Row<'_>) -> Result<()>) -> Result<()> {
        for blocks in self.blocks.chunks(4 * rayon::current_num_threads()) {
            let blocks: Vec<Vec<u8>> =
                blocks.par_iter().map(|block| self.block(block)).collect::<Result<_>>()?;
            for bytes in &blocks {
                for row in rows(bytes) {
                    take(row.and_then(|place| place.row(bytes)).map_err(Error::io("read", &self.path))?)?;
                }
            }
        }
        Ok(())
    }

    fn block(&self, block: &Block) -> Result<Vec<u8>> {
        let read = || {
            let mut compressed = vec![0; block.compressed];
            self.file.read_exact_at(&mut compressed, block.offset)?;
            let known = lock(&self.idle).pop();
            let mut decompressor = known.map_or_else(Decompressor::new, Ok)?;
            let bytes = decompressor.decompress(&compressed, block.bytes)?;
            lock(&self.idle).push(decompressor);
            if bytes.len() == block.bytes { Ok(bytes) } else { Err(damaged()) }
        };
        read().map_err(Error::io("read", &self.path))
    }
}

fn damaged() -> io::Error {
    io::Error::new(ErrorKind::InvalidData, "the file is damaged")
}

/// Where a row's parts stand in a block.
struct Place {
    id: Digest,
    label: Range<usize>,
    text: Range<usize>,
}

impl Place {
    /// Copies the row's parts, and points to the copy.
    fn move_to(&mut self, target: &mut Vec<u8>, block: &[u8]) {
        for part in [&mut self.label, &mut self.text] {
            let start = target.len();
            target.extend_from_slice(&block[part.clone()]);
            *part = start..target.len();
        }
    }

    fn row<'a>(&self, block: &'a [u8]) -> io::Result<Row<'a>> {
        let part = |range: &Range<usize>| std::str::from_utf8(&block[range.clone()]).map_err(|_| damaged());
        Ok(Row { id: self.id, label: part(&self.label)?, text: part(&self.text)? })
    }
}

/// The rows of a block; after damage there is no other.
fn rows(block: &[u8]) -> impl Iterator<Item = io::Result<Place>> {
    let mut at = 0;
    std::iter::from_fn(move || {
        if at == block.len() {
            return None;
        }
        let row = place(block, at);
        at = row.as_ref().map_or(block.len(), |row| row.text.end);
        Some(row.ok_or_else(damaged))
    })
}

fn place(block: &[u8], at: usize) -> Option<Place> {
    let part = |at: usize| {
        let start = at.checked_add(8)?;
        let length = u64::from_le_bytes(block.get(at..start)?.try_into().ok()?);
        let end = start.checked_add(usize::try_from(length).ok()?)?;
        (end <= block.len()).then_some(start..end)
    };
    let id = block.get(at..at.checked_add(ID)?)?.try_into().ok()?;
    let label = part(at + ID)?;
    let text = part(label.end)?;
    Some(Place { id: Digest::from_bytes(id), label, text })
}

/// A stretch of ids, by their first two bytes.
pub type Stretch = Range<u32>;

/// Ids of one bucket.
const IN_BUCKET: u32 = 1 << 8;

/// Cuts all ids into stretches, in order, of about so many bytes of the piles' texts each.
pub fn stretches(piles: &[Blocks], bytes: usize) -> Vec<Stretch> {
    let mut buckets = [0_usize; BUCKETS];
    for block in piles.iter().flat_map(|pile| &pile.blocks) {
        buckets[usize::from(block.bucket)] += block.bytes;
    }
    let mut all: Vec<(Stretch, usize)> = Vec::new();
    for (bucket, &size) in (0..).step_by(IN_BUCKET as usize).zip(&buckets) {
        match all.last_mut() {
            Some((last, before)) if *before + size <= bytes => {
                last.end = bucket + IN_BUCKET;
                *before += size;
            }
            _ => {
                // A bucket that is too large is read several times, each time for a part of its ids.
                let parts = size.div_ceil(bytes.max(1)).clamp(1, IN_BUCKET as usize) as u32;
                let cut = |part: u32| bucket + part * IN_BUCKET / parts;
                all.extend((0..parts).map(|part| (cut(part)..cut(part + 1), size / parts as usize)));
            }
        }
    }
    all.into_iter().map(|(stretch, _)| stretch).collect()
}

/// The texts of a stretch of ids, from all piles, in memory.
pub struct Sorted {
    path: PathBuf,
    blocks: Vec<Vec<u8>>,
    /// By id and label; of equal ones, one.
    places: Vec<(usize, Place)>,
}

impl Sorted {
    /// Reads a stretch; of its ids, those that are wanted.
    pub fn read(piles: &[Blocks], stretch: &Stretch, wanted: impl Fn(Digest) -> bool) -> Result<Self> {
        let path = piles.first().map_or_else(PathBuf::new, |pile| pile.path.clone());
        let mut sorted = Self { path, blocks: Vec::new(), places: Vec::new() };
        let is_part = stretch.end - stretch.start < IN_BUCKET;
        let buckets = stretch.start / IN_BUCKET..stretch.end.div_ceil(IN_BUCKET);
        for pile in piles {
            for block in pile.blocks.iter().filter(|block| buckets.contains(&u32::from(block.bucket))) {
                let bytes = pile.block(block)?;
                let at = sorted.blocks.len();
                let mut kept = Vec::new();
                for row in rows(&bytes) {
                    let mut row = row.map_err(Error::io("read", &pile.path))?;
                    let [first, second, ..] = *row.id.as_bytes();
                    let prefix = u32::from(u16::from_be_bytes([first, second]));
                    if !stretch.contains(&prefix) || !wanted(row.id) {
                        continue;
                    }
                    if is_part {
                        row.move_to(&mut kept, &bytes);
                    }
                    sorted.places.push((at, row));
                }
                // Of a bucket that is read for a part of its ids, no more than that part stays in memory.
                sorted.blocks.push(if is_part { kept } else { bytes });
            }
        }
        let Self { blocks, places, .. } = &mut sorted;
        let label = |(block, place): &(usize, Place)| &blocks[*block][place.label.clone()];
        places.sort_unstable_by(|a, b| a.1.id.cmp(&b.1.id).then_with(|| label(a).cmp(label(b))));
        places.dedup_by(|a, b| a.1.id == b.1.id && label(a) == label(b));
        Ok(sorted)
    }

    /// How many texts there are, and about how many bytes.
    pub fn size(&self) -> (usize, usize) {
        (self.places.len(), self.places.iter().map(|(_, place)| place.text.len()).sum())
    }

    /// The texts in order.
    pub fn rows(&self) -> impl Iterator<Item = Result<Row<'_>>> {
        self.places
            .iter()
            .map(|(block, place)| place.row(&self.blocks[*block]).map_err(Error::io("read", &self.path)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pile(
        folder: &Path,
        name: &str,
        texts: impl Iterator<Item = (Digest, &'static str, String)>,
    ) -> Blocks {
        let pile = Pile::create(folder.join(name)).expect("pile");
        for (id, label, text) in texts {
            if pile.is_new(id, label) {
                pile.add(id, label, &text).expect("add");
            }
        }
        pile.finish().expect("finish");
        Blocks::open(&folder.join(name)).expect("open")
    }

    fn text(number: u64) -> (Digest, &'static str, String) {
        let label = if number.is_multiple_of(3) { "python" } else { "" };
        (Digest::of_bytes(&number.to_le_bytes()), label, format!("{number} ").repeat(2000))
    }

    fn read(piles: &[Blocks], bytes: usize) -> Vec<(Digest, String, String)> {
        let mut all = Vec::new();
        for stretch in stretches(piles, bytes) {
            let sorted = Sorted::read(piles, &stretch, |_| true).expect("read");
            all.extend(sorted.rows().map(|row| {
                let row = row.expect("a row");
                (row.id, row.label.to_owned(), row.text.to_owned())
            }));
        }
        all
    }

    #[test]
    fn texts_come_out_in_order_and_once_however_memory_is_cut() {
        let folder = tempfile::tempdir().expect("folder");
        // Three thousand texts of 12 kB, in two piles that share a third.
        let piles =
            [pile(folder.path(), "a", (0..2000).map(text)), pile(folder.path(), "b", (1000..3000).map(text))];
        let mut expected: Vec<_> =
            (0..3000).map(text).map(|(id, label, text)| (id, label.to_owned(), text)).collect();
        expected.sort();
        for bytes in [1, 10_000, 1 << 20, usize::MAX] {
            assert!(read(&piles, bytes) == expected, "with {bytes} bytes at once");
        }
        assert!(piles.iter().all(|pile| pile.blocks.iter().any(|block| block.bytes >= BLOCK_BYTES)));
        let mut count = 0;
        let each = piles[0].each(|_| {
            count += 1;
            Ok(())
        });
        each.expect("each");
        assert_eq!(count, 2000);
    }

    #[test]
    fn a_part_of_a_bucket_holds_no_more_than_its_texts() {
        let folder = tempfile::tempdir().expect("folder");
        let piles = [pile(folder.path(), "a", (0..3000).map(text))];
        let stretches = stretches(&piles, 10_000);
        assert!(stretches.len() > BUCKETS, "buckets of 140 kB are cut");
        for stretch in stretches {
            let sorted = Sorted::read(&piles, &stretch, |_| true).expect("read");
            let held: usize = sorted.blocks.iter().map(Vec::len).sum();
            assert!(
                held <= sorted.size().1 + sorted.size().0 * "python".len(),
                "{held} bytes for {:?}",
                sorted.size()
            );
        }
    }

    #[test]
    fn stretches_are_all_ids_in_order() {
        let folder = tempfile::tempdir().expect("folder");
        let piles = [pile(folder.path(), "a", (0..2000).map(text))];
        for bytes in [1, 1000, 1 << 20, usize::MAX] {
            let stretches = stretches(&piles, bytes);
            assert_eq!((stretches[0].start, stretches[stretches.len() - 1].end), (0, 1 << 16));
            assert!(stretches.windows(2).all(|pair| pair[0].end == pair[1].start));
        }
        assert_eq!(stretches(&[], 1), vec![0..1 << 16; 1], "nothing is one stretch");
    }

    #[test]
    fn damage_is_an_error_wherever_it_is() {
        let folder = tempfile::tempdir().expect("folder");
        let texts = || [(Digest::of_bytes(b"a"), "python", "some text".to_owned())].into_iter();
        drop(pile(folder.path(), "whole", texts()));
        let whole = std::fs::read(folder.path().join("whole")).expect("read");
        let path = folder.path().join("damaged");
        let all = |bytes: &[u8]| {
            std::fs::write(&path, bytes).expect("write");
            Blocks::open(&path).and_then(|pile| {
                let sorted = Sorted::read(&[pile], &(0..1 << 16), |_| true)?;
                sorted.rows().map(|row| row.map(|row| row.text.to_owned())).collect::<Result<Vec<_>>>()
            })
        };
        assert_eq!(all(&whole).expect("whole"), ["some text"]);
        for end in MARK.len() + 1..whole.len() {
            assert!(all(&whole[..end]).is_err(), "cut at {end}");
        }
        for at in 0..whole.len() {
            for change in [1, 0x80, 0xff] {
                let mut damaged = whole.clone();
                damaged[at] ^= change;
                // Without a panic and without much memory; that texts are right is what the digests of files are for.
                let _ = all(&damaged);
            }
        }
    }
}

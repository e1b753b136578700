//! The tables of programs and texts: what readers put away, in the order of ids.
//!
//! A few stretches of ids are taken out at the same time, by all threads, while the rows of the ones before are hashed
//! and compressed; so each text is in memory once, and not for long.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Builder, RecordBatch, StringBuilder};
use finch_core::Digest;
use finch_core::shard::TableWriter;
use rayon::prelude::*;

use crate::contract::{Contract, conform};
use crate::error::Result;
use crate::ingest::scratch::pile::{Blocks, Sorted, stretches};
use crate::ingest::scratch::{PROGRAMS, TEXTS};
use crate::store::Draft;

/// Bytes of texts that a thread takes out at once.
const STRETCH_BYTES: usize = 16 << 20;
/// Bytes of texts that are one batch; a column takes 2 GiB.
const BATCH_BYTES: usize = 64 << 20;

/// Writes both tables, of what rows refer to.
pub(super) fn write(
    packs: &[PathBuf],
    programs: &HashSet<Digest>,
    texts: &HashSet<Digest>,
    draft: &mut Draft,
) -> Result<()> {
    table::<Programs>("programs", PROGRAMS, packs, programs, draft)?;
    table::<Texts>("texts", TEXTS, packs, texts, draft)
}

fn table<R: Rows>(
    name: &str,
    file: &str,
    packs: &[PathBuf],
    used: &HashSet<Digest>,
    draft: &mut Draft,
) -> Result<()> {
    let piles: Vec<Blocks> =
        packs.iter().map(|pack| Blocks::open(&pack.join(file))).collect::<Result<_>>()?;
    let schema = Contract::of(name).schema(&[]);
    let mut writer = draft.writer(name, &schema)?;
    let add = |writer: &mut TableWriter, rows: R| -> Result<()> {
        let batch = RecordBatch::try_from_iter(rows.finish())
            .map_err(|source| finch_core::Error::Arrow { table: name.to_owned(), source })?;
        Ok(writer.write(&conform(name, &schema, &batch)?)?)
    };
    for some in stretches(&piles, STRETCH_BYTES).chunks(rayon::current_num_threads()) {
        let sorted: Vec<Sorted> = some
            .par_iter()
            .map(|stretch| Sorted::read(&piles, stretch, |id| used.contains(&id)))
            .collect::<Result<_>>()?;
        for sorted in sorted {
            let (all, size) = sorted.size();
            let empty = || R::with_capacity(all, size.min(BATCH_BYTES));
            let (mut rows, mut bytes, mut last) = (empty(), 0, None);
            for row in sorted.rows() {
                let row = row?;
                // Scaffolds may label one text with several languages: the lowest label comes first and stays.
                if last.replace(row.id) == Some(row.id) {
                    continue;
                }
                rows.add(row.id, row.label, row.text);
                bytes += row.text.len();
                if bytes >= BATCH_BYTES {
                    add(&mut writer, std::mem::replace(&mut rows, empty()))?;
                    bytes = 0;
                }
            }
            drop(sorted);
            add(&mut writer, rows)?;
        }
    }
    draft.finish(name, writer)?;
    Ok(())
}

fn ids(rows: usize) -> StringBuilder {
    StringBuilder::with_capacity(rows, rows * 64)
}

/// Rows of a table in the making.
trait Rows {
    /// For so many rows with so many bytes of text.
    fn with_capacity(rows: usize, bytes: usize) -> Self;
    fn add(&mut self, id: Digest, label: &str, text: &str);
    fn finish(self) -> Vec<(&'static str, ArrayRef)>;
}

struct Programs {
    ids: StringBuilder,
    languages: StringBuilder,
    codes: StringBuilder,
    bytes: Int64Builder,
    lines: Int64Builder,
}

impl Rows for Programs {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self {
            ids: ids(rows),
            languages: StringBuilder::with_capacity(rows, rows * "python".len()),
            codes: StringBuilder::with_capacity(rows, bytes),
            bytes: Int64Builder::with_capacity(rows),
            lines: Int64Builder::with_capacity(rows),
        }
    }

    fn add(&mut self, id: Digest, label: &str, text: &str) {
        self.ids.append_value(id.to_string());
        self.languages.append_value(label);
        self.codes.append_value(text);
        self.bytes.append_value(text.len() as i64);
        // A canonical text ends its last line too.
        self.lines.append_value(memchr::memchr_iter(b'\n', text.as_bytes()).count() as i64);
    }

    fn finish(mut self) -> Vec<(&'static str, ArrayRef)> {
        vec![
            ("program_id", Arc::new(self.ids.finish())),
            ("language", Arc::new(self.languages.finish())),
            ("code", Arc::new(self.codes.finish())),
            ("bytes", Arc::new(self.bytes.finish())),
            ("lines", Arc::new(self.lines.finish())),
        ]
    }
}

struct Texts {
    ids: StringBuilder,
    texts: StringBuilder,
}

impl Rows for Texts {
    fn with_capacity(rows: usize, bytes: usize) -> Self {
        Self { ids: ids(rows), texts: StringBuilder::with_capacity(rows, bytes) }
    }

    fn add(&mut self, id: Digest, _: &str, text: &str) {
        self.ids.append_value(id.to_string());
        self.texts.append_value(text);
    }

    fn finish(mut self) -> Vec<(&'static str, ArrayRef)> {
        vec![("text_id", Arc::new(self.ids.finish())), ("text", Arc::new(self.texts.finish()))]
    }
}

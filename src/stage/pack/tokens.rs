//! Examples as token ids: written to a scratch file once, with an index in memory.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::Float64Type;
use finch_core::Digest;
use finch_core::example::Message;
use finch_core::template::Template;
use finch_core::tokens::{Encoded, Tokenizer};
use rayon::prelude::*;

use super::Context;
use crate::code::Code;
use crate::error::{Error, Result};
use crate::spec::Pack;

/// Every example, in the order of its key; its ids and mask are in the scratch file.
pub(super) struct Index {
    /// The examples.
    pub(super) examples: Vec<Entry>,
    /// The names of splits, tasks and outcomes.
    pub(super) words: Words,
    file: File,
    path: PathBuf,
}

/// One example of the index.
pub(super) struct Entry {
    pub(super) example_id: Digest,
    pub(super) split: Option<u32>,
    pub(super) task: u32,
    pub(super) outcome: u32,
    pub(super) weight: f64,
    pub(super) tokens: u32,
    /// Targets among them.
    pub(super) trained: u32,
    offset: u64,
}

/// Names that come again and again, as numbers.
#[derive(Default)]
pub(super) struct Words {
    numbers: BTreeMap<String, u32>,
    names: Vec<String>,
}

impl Words {
    fn number(&mut self, name: &str) -> u32 {
        if let Some(number) = self.numbers.get(name) {
            return *number;
        }
        let number = self.names.len() as u32;
        self.numbers.insert(name.to_owned(), number);
        self.names.push(name.to_owned());
        number
    }

    /// The name of a number that was given out here.
    pub(super) fn name(&self, number: u32) -> &str {
        self.names.get(number as usize).map_or("", String::as_str)
    }
}

/// A token in the scratch file: its id, little-endian, and whether it is a target.
const TOKEN_BYTES: usize = 5;

impl Index {
    /// Reads an example's ids and mask back.
    pub(super) fn read(&self, place: usize, mut take: impl FnMut(u32, bool)) -> Result<()> {
        let entry = &self.examples[place];
        let mut bytes = vec![0; entry.tokens as usize * TOKEN_BYTES];
        self.file.read_exact_at(&mut bytes, entry.offset).map_err(Error::io("read", &self.path))?;
        for token in bytes.chunks_exact(TOKEN_BYTES) {
            take(u32::from_le_bytes([token[0], token[1], token[2], token[3]]), token[4] != 0);
        }
        Ok(())
    }
}

/// An example as a query yields it.
struct Row {
    example_id: String,
    transition_id: String,
    split: Option<String>,
    task: String,
    /// Empty where nothing labelled the step.
    outcome: String,
    weight: f64,
    messages: Vec<Message>,
}

/// Tokenizes every example of the input into a scratch file.
pub(super) fn tokenize(
    config: &Pack,
    context: &Context<'_>,
    template: Template,
    tokenizer: &Tokenizer,
    scratch: &Path,
) -> Result<Index> {
    let path = scratch.join("tokens");
    let file = File::options().read(true).write(true).create_new(true).open(&path);
    let file = file.map_err(Error::io("create", &path))?;
    let mut index = Index { examples: Vec::new(), words: Words::default(), file, path };
    let clone = index.file.try_clone().map_err(Error::io("open", &index.path))?;
    let mut out = BufWriter::with_capacity(1 << 20, clone);
    let mut offset = 0;
    let query = "SELECT example_id, transition_id, split, task, weight, messages, outcome FROM input.examples \
                 ORDER BY transition_id";
    context.session(query)?.each(query, &[], |batch| {
        let encoded: Vec<(Row, Result<Encoded, finch_core::Error>)> = rows(batch)
            .into_par_iter()
            .map(|row| {
                let encoded = tokenizer.encode_pieces(&template.render(&row.messages));
                (row, encoded)
            })
            .collect();
        for (row, encoded) in encoded {
            let mut encoded = encoded?;
            // Nothing comes before the first token, so nothing can predict it.
            if let Some(first) = encoded.trained.first_mut() {
                *first = false;
            }
            let trained = encoded.trained.iter().filter(|trained| **trained).count() as u32;
            check(config, context, &row, encoded.ids.len(), trained)?;
            let bytes: Vec<u8> = encoded
                .ids
                .iter()
                .zip(&encoded.trained)
                .flat_map(|(id, trained)| {
                    let [a, b, c, d] = id.to_le_bytes();
                    [a, b, c, d, u8::from(*trained)]
                })
                .collect();
            out.write_all(&bytes).map_err(Error::io("write", &index.path))?;
            index.examples.push(Entry {
                example_id: row.example_id.parse()?,
                split: row.split.as_deref().map(|split| index.words.number(split)),
                task: index.words.number(&row.task),
                outcome: index.words.number(&row.outcome),
                weight: row.weight,
                tokens: encoded.ids.len() as u32,
                trained,
                offset,
            });
            offset += bytes.len() as u64;
        }
        Ok(())
    })?;
    out.flush().map_err(Error::io("write", &index.path))?;
    Ok(index)
}

/// Refuses an example that fits no pack, and one that teaches nothing.
fn check(config: &Pack, context: &Context<'_>, row: &Row, tokens: usize, trained: u32) -> Result<()> {
    let place = format!("transition {}", row.transition_id);
    if tokens as i64 > config.sequence_tokens {
        let reason =
            format!("{place}: its example has {tokens} tokens, a pack holds {}", config.sequence_tokens);
        let hint = "raise `sequence_tokens`, or lower `max_tokens` of the render stage";
        return Err(context.error(Code::OverPack, reason, Some(hint)));
    }
    if trained == 0 {
        let reason = format!("{place}: its example has no token to learn");
        let hint = "an example needs an assistant's turn; keep it out with a filter";
        return Err(context.error(Code::NothingTrained, reason, Some(hint)));
    }
    Ok(())
}

fn rows(batch: &RecordBatch) -> Vec<Row> {
    let text = |column: usize| batch.column(column).as_string::<i32>();
    let (splits, outcomes, weights) = (text(2), text(6), batch.column(4).as_primitive::<Float64Type>());
    let messages = batch.column(5).as_list::<i32>();
    (0..batch.num_rows())
        .map(|row| Row {
            example_id: text(0).value(row).to_owned(),
            transition_id: text(1).value(row).to_owned(),
            split: splits.is_valid(row).then(|| splits.value(row).to_owned()),
            task: text(3).value(row).to_owned(),
            outcome: if outcomes.is_valid(row) { outcomes.value(row).to_owned() } else { String::new() },
            weight: weights.value(row),
            messages: of_list(messages.value(row).as_ref()),
        })
        .collect()
}

fn of_list(messages: &dyn Array) -> Vec<Message> {
    let messages = messages.as_struct();
    let text = |column: usize| messages.column(column).as_string::<i32>();
    (0..messages.len()).map(|i| Message::new(text(0).value(i), text(1).value(i))).collect()
}

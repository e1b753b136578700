//! `tokenizer`: loads one, or trains a byte-level BPE on the train rows of a dataset.

use std::collections::HashSet;
use std::sync::mpsc::sync_channel;

use arrow::array::AsArray;
use finch_core::Digest;
use finch_core::manifest::Counts;
use finch_core::scrub::scrub;
use finch_core::tokens::Tokenizer;

use super::{Context, Outcome};
use crate::error::Result;
use crate::spec::{self, Input, TokenizerFrom};
use crate::store::Draft;

/// The artifact's name.
pub(crate) const FILE: &str = "tokenizer.json";

pub(super) fn run(config: &spec::Tokenizer, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let (tokenizer, texts) = match &config.from {
        TokenizerFrom::Path { path, .. } => (Tokenizer::load(path)?, 0),
        TokenizerFrom::Trained { vocabulary, input, scrub } => {
            train(context, input, *vocabulary as usize, *scrub)?
        }
    };
    draft.artifact(FILE, tokenizer.to_json()?.as_bytes())?;
    let entries = tokenizer.vocabulary() as u64;
    let counts = Counts {
        input: texts,
        used: texts,
        reasons: [("vocabulary".to_owned(), entries)].into(),
        ..Counts::default()
    };
    let mut warnings = Vec::new();
    if let TokenizerFrom::Trained { vocabulary, .. } = config.from
        && entries < vocabulary as u64
    {
        warnings.push(format!("the texts gave {entries} tokens only, of {vocabulary} that were asked for"));
    }
    Ok(Outcome { row_table: "", counts, warnings, training: None, reading: None })
}

/// Trains on every distinct text of the train rows; returns the number of texts.
fn train(context: &Context<'_>, input: &Input, vocabulary: usize, clean: bool) -> Result<(Tokenizer, u64)> {
    let columns = context.transitions_schema()?;
    let train_rows = if columns.column_with_name("split").is_some() { "WHERE split = 'train'" } else { "" };
    let ids = "system_prompt_id, user_prompt_id, reasoning_id, response_id";
    let query = format!("SELECT {ids} FROM input.transitions {train_rows}");
    let mut used = HashSet::new();
    context.session(&query)?.each(&query, &[], |batch| {
        for column in batch.columns() {
            used.extend(
                column.as_string::<i32>().iter().flatten().filter_map(|id| id.parse::<Digest>().ok()),
            );
        }
        Ok(())
    })?;
    let query = "SELECT text_id, text FROM input.texts";
    let session = context.session(query)?;
    let stage = &input.stage;
    // The trainer pulls texts while the query runs, so neither side holds them all.
    let (sender, receiver) = sync_channel::<String>(256);
    std::thread::scope(|scope| {
        let reading = scope.spawn(move || {
            let mut texts = 0;
            session.each(query, &[], |batch| {
                let ids = batch.column(0).as_string::<i32>().iter().flatten();
                let rows = ids.zip(batch.column(1).as_string::<i32>().iter().flatten());
                let wanted = rows.filter(|(id, _)| id.parse().is_ok_and(|id: Digest| used.contains(&id)));
                for (_, text) in wanted {
                    texts += 1;
                    // A vocabulary must not remember what examples do not say.
                    let text = if clean { scrub(text).into_owned() } else { text.to_owned() };
                    if sender.send(text).is_err() {
                        break;
                    }
                }
                Ok(())
            })?;
            Ok::<u64, crate::Error>(texts)
        });
        let tokenizer = Tokenizer::train(receiver.into_iter(), vocabulary);
        let texts = reading.join().map_err(|_| {
            crate::Error::Environment(format!("reading the texts of `{stage}` ended unexpectedly"))
        })??;
        Ok((tokenizer?, texts))
    })
}

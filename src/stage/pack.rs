//! `pack`: examples put into sequences of bounded length, tokenized and masked, ready for a trainer.
//!
//! Each example is tokenized once. Its ids wait in a scratch file while the packing is found from lengths alone,
//! so that memory holds a batch and an index, not the tokens. A pack never mixes splits and never cuts an example.

mod rows;
mod tokens;

use std::collections::BTreeMap;

use finch_core::digest::Fields;
use finch_core::manifest::Counts;
use finch_core::shard::Cuts;
use finch_core::template::Template;
use finch_core::tokens::Tokenizer;
use finch_core::{Digest, Kind, packing};

use self::rows::Rows;
use self::tokens::{Index, tokenize};
use super::{Context, Outcome, tokenizer};
use crate::code::Code;
use crate::contract::Contract;
use crate::error::{Error, Result};
use crate::spec::Pack;
use crate::store::Draft;

/// Rows are handed to the writer when they hold so many tokens: about 4 MiB in the canonical encoding.
const BATCH_TOKENS: u64 = (4 << 20) / 20;

/// A pack: its id, its split, and its examples as places in the index.
struct Packed {
    pack_id: Digest,
    split: Option<u32>,
    examples: Vec<usize>,
}

pub(super) fn run(config: &Pack, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let rendered = &context.inputs[0];
    let unrendered = || {
        let stage = &config.input.stage;
        context.error(Code::BadTokenizer, format!("`{stage}` holds no tokenizer of its examples"), None)
    };
    let template = rendered.manifest.parameters.get("template").and_then(serde_json::Value::as_str);
    let template = template.and_then(Template::named).ok_or_else(unrendered)?;
    let file = rendered.artifact(tokenizer::FILE)?.ok_or_else(unrendered)?;
    let bytes = std::fs::read(&file).map_err(Error::io("read", &file))?;
    let tokenizer = Tokenizer::from_json(&bytes)?;
    draft.artifact(tokenizer::FILE, &bytes)?;

    let scratch = context.store.scratch()?;
    let index = tokenize(config, context, template, &tokenizer, scratch.path())?;
    if index.examples.is_empty() && !config.allow_empty {
        let hint = "set `allow_empty = true` if an empty result is fine";
        return Err(context.error(Code::EmptyOutput, "there is no example to pack", Some(hint)));
    }
    let packs = place(&index, config.sequence_tokens as u64);

    let contract = Contract::of("packs");
    let schema = contract.schema(&[]);
    let cuts = Cuts::default();
    let shard_bytes = config.shard_bytes as usize;
    let cuts = Cuts { shard_bytes, group_bytes: cuts.group_bytes.min(shard_bytes), ..cuts };
    let mut writer = draft.cut_writer("packs", &schema, &contract.key, cuts)?;
    let mut rows = Rows::new(&schema);
    for pack in &packs {
        rows.push(pack, &index)?;
        if rows.tokens() >= BATCH_TOKENS {
            writer.write(&rows.take()?)?;
        }
    }
    writer.write(&rows.take()?)?;
    draft.finish("packs", writer)?;
    draft.pass_on(rendered, &["removed", "quarantine"]);

    let used = packs.iter().map(|pack| pack.examples.len() as u64).sum();
    let sum = |of: fn(&tokens::Entry) -> u32| index.examples.iter().map(|entry| u64::from(of(entry))).sum();
    let counts = Counts {
        input: rendered.table("examples").map_or(0, |table| table.rows),
        used,
        conserved: true,
        reasons: BTreeMap::from([
            ("packs".to_owned(), packs.len() as u64),
            ("tokens".to_owned(), sum(|entry| entry.tokens)),
            ("trained_tokens".to_owned(), sum(|entry| entry.trained)),
            ("longest".to_owned(), index.examples.iter().map(|e| u64::from(e.tokens)).max().unwrap_or(0)),
            ("capacity".to_owned(), config.sequence_tokens as u64 * packs.len() as u64),
        ]),
        ..Counts::default()
    };
    Ok(Outcome { row_table: "packs", counts, warnings: vec![], training: None, reading: None })
}

/// Finds the packs of every split, in the order of their ids.
fn place(index: &Index, capacity: u64) -> Vec<Packed> {
    let mut splits: BTreeMap<Option<u32>, Vec<usize>> = BTreeMap::new();
    for (place, entry) in index.examples.iter().enumerate() {
        splits.entry(entry.split).or_default().push(place);
    }
    let mut packs = Vec::new();
    for (split, places) in splits {
        let items: Vec<(u64, Digest)> = places
            .iter()
            .map(|&place| (u64::from(index.examples[place].tokens), index.examples[place].example_id))
            .collect();
        for bin in packing::pack(&items, capacity) {
            let examples: Vec<usize> = bin.into_iter().map(|item| places[item]).collect();
            // The split's name, and whether there is one: "null" could be a name.
            let name = split.map(|split| index.words.name(split));
            let fields = Kind::Pack.fields().int(u64::from(name.is_some())).text(name.unwrap_or_default());
            let ids = examples.iter().map(|&place| index.examples[place].example_id);
            let pack_id = ids.fold(fields, Fields::digest).finish();
            packs.push(Packed { pack_id, split, examples });
        }
    }
    packs.sort_by_key(|pack| pack.pack_id);
    packs
}

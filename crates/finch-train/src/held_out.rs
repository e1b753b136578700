//! Which held-out examples are evaluated: whole examples of every task, chosen by hash.

use std::collections::BTreeMap;

use finch_core::training::Totals;
use finch_core::{Digest, Kind};

use crate::packs::{Document, Pack};

/// A held-out example.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Chosen {
    /// Its pack.
    pub pack: usize,
    /// Its place in the pack.
    pub document: usize,
}

/// Which packs [`choose`] looks at: those of every split but `train`.
pub const NOT_TRAINED: fn(&Pack) -> bool = |pack| !pack.is_train();

/// Examples of the packs that are `wanted`, at most `budget` tokens of each task and split; in the order of packs.
///
/// Examples are taken in the order of their hash under the seed, each one that still fits. A task whose examples
/// are all longer than the budget is represented by its shortest one, so that no task goes unmeasured.
pub fn choose(packs: &[Pack], wanted: impl Fn(&Pack) -> bool, budget: Option<u64>, seed: u64) -> Vec<Chosen> {
    /// An example's hash, place and tokens.
    type Keyed = (Digest, Chosen, u64);
    let mut tasks: BTreeMap<(&str, &str), Vec<Keyed>> = BTreeMap::new();
    for (p, pack) in packs.iter().enumerate().filter(|(_, pack)| wanted(pack)) {
        for (d, document) in pack.documents.iter().enumerate() {
            let key = Kind::Choice.fields().text("held out").int(seed).text(&document.example_id).finish();
            let chosen = Chosen { pack: p, document: d };
            let split = pack.split.as_deref().unwrap_or_default();
            tasks.entry((split, &document.task)).or_default().push((key, chosen, document.tokens as u64));
        }
    }
    let mut chosen = Vec::new();
    for mut examples in tasks.into_values() {
        examples.sort_unstable();
        let mut left = budget.unwrap_or(u64::MAX);
        let before = chosen.len();
        for (_, example, tokens) in &examples {
            if *tokens <= left {
                left -= tokens;
                chosen.push(*example);
            }
        }
        if chosen.len() == before {
            let shortest = examples.iter().min_by_key(|(key, _, tokens)| (*tokens, *key));
            chosen.extend(shortest.map(|(_, example, _)| *example));
        }
    }
    chosen.sort_unstable();
    chosen
}

/// Consecutive examples that go through the model together: at most `tokens` tokens, at least one example.
pub fn group(packs: &[Pack], chosen: &[Chosen], tokens: usize) -> Vec<Vec<Chosen>> {
    let mut groups: Vec<Vec<Chosen>> = Vec::new();
    let mut room = 0;
    for &example in chosen {
        let length = packs[example.pack].documents[example.document].tokens;
        match groups.last_mut() {
            Some(group) if length <= room => {
                group.push(example);
                room -= length;
            }
            _ => {
                groups.push(vec![example]);
                room = tokens.saturating_sub(length);
            }
        }
    }
    groups
}

/// Sums over chosen examples.
pub fn totals(packs: &[Pack], chosen: &[Chosen]) -> Totals {
    let documents: Vec<&Document> =
        chosen.iter().map(|example| &packs[example.pack].documents[example.document]).collect();
    let mut touched: Vec<usize> = chosen.iter().map(|example| example.pack).collect();
    touched.dedup();
    Totals {
        packs: touched.len() as u64,
        examples: documents.len() as u64,
        tokens: documents.iter().map(|document| document.tokens as u64).sum(),
        trained_tokens: documents.iter().map(|document| document.trained as u64).sum(),
    }
}

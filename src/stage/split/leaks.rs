//! What is on both sides of the split, and how that is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use arrow::array::AsArray;
use finch_core::Digest;
use serde::Serialize;

use super::assign::Sides;
use super::contained;
use crate::contract::Contract;
use crate::error::Result;
use crate::near::Likeness;
use crate::shelf::Shelf;
use crate::spec::Split;
use crate::sql::{Session, Value};
use crate::stage::Context;
use crate::stage::alike::{NONE, Programs, Source, copy};
use crate::stage::side::{narrow, side_pairs, side_rows};
use crate::store::Draft;

const LEAKS: &str = include_str!("../../../sql/leaks.sql");
const NEAR: &str = include_str!("../../../sql/leaks_near.sql");
const NGRAM: &str = include_str!("../../../sql/leaks_ngram.sql");
/// Tokens of a shingle and hashes of a sketch, where programs of both sides are compared.
const SHINGLE: usize = 5;
const PERMUTATIONS: usize = 128;

/// What leaks.
pub(super) struct Leaks {
    /// Transitions outside the test split that leak in one way or more.
    pub(super) transitions: u64,
    /// The same by kind, for every kind that was looked for.
    pub(super) by_kind: BTreeMap<&'static str, u64>,
    /// Some of the pairs of tasks, in words.
    pub(super) pairs: String,
    /// What the user should know of the search.
    pub(super) warnings: Vec<String>,
}

/// Finds and writes what leaks, and binds it as `side.leaks`. `side.assigned` and `side.splits` are bound.
pub(super) fn find(
    config: &Split,
    context: &Context<'_>,
    session: &Session<'_>,
    sides: &Sides,
    folder: &Path,
    draft: &mut Draft,
    action: &str,
) -> Result<Leaks> {
    side_rows(session, folder, "same_names", &narrow(&["task", "other_task"]), &same_names(sides))?;
    let mut by_kind = BTreeMap::from([("program", 0), ("task", 0)]);
    let mut warnings = Vec::new();
    if let Some(threshold) = config.leak_near {
        clusters(threshold, context, session, folder)?;
        by_kind.insert("near_program", 0);
    }
    if let Some(measure) = config.leak_ngram {
        warnings.extend(contained::find(measure, context, session, sides, folder)?);
        by_kind.insert("ngram", 0);
    }
    let part = |is_asked: bool, text: &'static str| if is_asked { text } else { "" };
    let statement = LEAKS
        .replace("{near}", part(config.leak_near.is_some(), NEAR))
        .replace("{ngram}", part(config.leak_ngram.is_some(), NGRAM));
    let schema = Contract::of("leaks").schema(&[]);
    let mut writer = draft.writer("leaks", &schema)?;
    session.write(
        &statement,
        &[("action", Value::Text(action.to_owned()))],
        "leaks",
        &schema,
        &mut writer,
    )?;
    draft.finish("leaks", writer)?;
    session.bind(Some("side"), "leaks", &draft.files("leaks"), schema, &[])?;

    let counted = "SELECT kind, count(DISTINCT transition_id) AS n FROM side.leaks GROUP BY kind";
    session.each(counted, &[], |batch| {
        let counts = batch.column(1).as_primitive::<arrow::datatypes::Int64Type>();
        for (kind, count) in batch.column(0).as_string::<i32>().iter().flatten().zip(counts.values()) {
            if let Some(known) = by_kind.get_mut(kind) {
                *known = *count as u64;
            }
        }
        Ok(())
    })?;
    let mut transitions = 0;
    session.each("SELECT count(DISTINCT transition_id) AS n FROM side.leaks", &[], |batch| {
        transitions = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>().value(0) as u64;
        Ok(())
    })?;
    let mut pairs = Vec::new();
    let between = "SELECT DISTINCT task, other_task FROM side.leaks ORDER BY task, other_task LIMIT 5";
    session.each(between, &[], |batch| {
        let cell = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
        pairs.extend((0..batch.num_rows()).map(|row| format!("`{}` and `{}`", cell(0, row), cell(1, row))));
        Ok(())
    })?;
    Ok(Leaks { transitions, by_kind, pairs: pairs.join(", "), warnings })
}

/// A task outside the test split and one inside it whose names, or groups', differ in case and punctuation alone.
#[derive(Serialize)]
struct SameName {
    task: String,
    other_task: String,
}

fn same_names(sides: &Sides) -> Vec<SameName> {
    let bare = |name: &str| -> String {
        name.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
    };
    // Of a name that has nothing else, its punctuation is the name.
    let names = |task: &str, group: &str| -> BTreeSet<String> {
        [bare(task), bare(group)].into_iter().filter(|name| !name.is_empty()).collect()
    };
    let mut held: BTreeMap<String, &str> = BTreeMap::new();
    for row in sides.of_tasks().filter(|row| row.split == "test") {
        for name in names(&row.task, &row.alias_group) {
            held.entry(name).or_insert(&row.task);
        }
    }
    let others = sides.of_tasks().filter(|row| row.split != "test");
    let same = others.filter_map(|row| {
        let other = names(&row.task, &row.alias_group).iter().find_map(|name| held.get(name).copied())?;
        Some(SameName { task: row.task.clone(), other_task: other.to_owned() })
    });
    let mut same: Vec<SameName> = same.collect();
    same.sort_by(|a, b| a.task.cmp(&b.task));
    same
}

/// Binds `side.clusters`: the programs of both sides that are almost the same as others.
fn clusters(threshold: f64, context: &Context<'_>, session: &Session<'_>, folder: &Path) -> Result<()> {
    let mut wanted: HashMap<Digest, u32> = HashMap::new();
    let query = "SELECT child_program, parent_program FROM side.assigned";
    session.each(query, &[], |batch| {
        for id in batch.columns().iter().flat_map(|column| column.as_string::<i32>().iter()).flatten() {
            wanted.insert(id.parse()?, NONE);
        }
        Ok(())
    })?;
    let room = context.store.scratch()?;
    let mut shelf = Shelf::create(room.path())?;
    copy(context, Source::Programs, &mut wanted, &mut shelf)?;
    let texts = shelf.finish()?;
    let likeness = Likeness { ngram: SHINGLE, permutations: PERMUTATIONS, threshold };
    let budget = context.engine.memory_limit() / 4;
    let found = Programs::new(&texts, &wanted, SHINGLE).clusters(&likeness, budget, room.path())?;
    side_pairs(session, folder, "clusters", &["program_id", "cluster_id"], found.into_iter())
}

#[cfg(test)]
mod tests {
    use super::super::assign::SplitRow;
    use super::*;

    #[test]
    fn a_name_in_another_spelling_is_found_on_the_other_side() {
        let row = |task: &str, group: &str, split| SplitRow {
            alias_group: group.to_owned(),
            task: task.to_owned(),
            run_id: None,
            split,
            reason: "train",
        };
        let rows = vec![
            row("circle_packing_26", "cp26", "test"),
            row("Circle-Packing 26", "Circle-Packing 26", "train"),
            row("CP_26", "CP_26", "train"),
            row("circle_packing_2", "circle_packing_2", "train"),
            row("???", "???", "test"),
            row("!", "!", "train"),
        ];
        let found = same_names(&Sides { rows, warnings: vec![] });
        let found: Vec<(&str, &str)> =
            found.iter().map(|same| (same.task.as_str(), same.other_task.as_str())).collect();
        assert_eq!(found, [("CP_26", "circle_packing_26"), ("Circle-Packing 26", "circle_packing_26")]);
    }
}

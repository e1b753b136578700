//! What is on both sides of the split, and how that is told.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;

use arrow::array::AsArray;
use finch_core::Digest;
use serde::Serialize;

use super::assign::Sides;
use super::contained;
use crate::catalog::Catalog;
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
    let known = context.catalog.with_aliases(&config.hold_out_tasks, &config.hold_out_domains);
    let same = same_names(sides, &known, context.catalog);
    side_rows(session, folder, "same_names", &narrow(&["task", "other_task"]), &same)?;
    let held: Vec<Held> = sides.held_out().iter().map(|task| Held { task: (*task).to_owned() }).collect();
    side_rows(session, folder, "held", &narrow(&["task"]), &held)?;
    let mut by_kind = BTreeMap::from([("program", 0), ("task", 0)]);
    let mut warnings = Vec::new();
    if let Some(threshold) = config.leak_near {
        clusters(threshold, context, session, folder)?;
        by_kind.insert("near_program", 0);
    }
    if let Some(measure) = config.leak_ngram {
        warnings.extend(contained::find(measure, context, session, sides, &known, folder)?);
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
    warnings.extend(emptied(session)?);
    let mut pairs = Vec::new();
    let between = "SELECT DISTINCT task, other_task FROM side.leaks ORDER BY task, other_task LIMIT 5";
    session.each(between, &[], |batch| {
        let cell = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
        pairs.extend((0..batch.num_rows()).map(|row| format!("`{}` and `{}`", cell(0, row), cell(1, row))));
        Ok(())
    })?;
    Ok(Leaks { transitions, by_kind, pairs: pairs.join(", "), warnings })
}

/// A task of the test split.
#[derive(Serialize)]
struct Held {
    task: String,
}

/// Tasks of which everything leaks: most likely they are one problem with a held-out task, or of one family.
fn emptied(session: &Session<'_>) -> Result<Option<String>> {
    let query = "SELECT a.task, count(*) AS n FROM side.assigned a \
         LEFT JOIN (SELECT DISTINCT transition_id AS leaked_id FROM side.leaks) d ON d.leaked_id = a.transition_id \
         WHERE a.split <> 'test' GROUP BY a.task HAVING count(*) = count(d.leaked_id) ORDER BY a.task";
    let mut tasks = Vec::new();
    session.each(query, &[], |batch| {
        tasks.extend(batch.column(0).as_string::<i32>().iter().flatten().map(|task| format!("`{task}`")));
        Ok(())
    })?;
    let shown = tasks.iter().take(5).cloned().collect::<Vec<_>>().join(", ");
    Ok((!tasks.is_empty()).then(|| {
        format!(
            "every transition of {} tasks outside the test split leaks: {shown} (table `leaks`)",
            tasks.len()
        )
    }))
}

/// A task outside the test split and one inside it whose names, or groups', differ in case and punctuation alone.
#[derive(Serialize)]
struct SameName {
    task: String,
    other_task: String,
}

/// `known` names tasks that are held out and may have no logs. Two that the catalogue puts into different groups are two.
fn same_names(sides: &Sides, known: &BTreeSet<&str>, catalog: &Catalog) -> Vec<SameName> {
    let names = |task: &str, group: &str| -> BTreeSet<String> {
        [bare(task), bare(group)].into_iter().filter(|name| !name.is_empty()).collect()
    };
    let of_logs = sides.of_tasks().filter(|row| row.split == "test");
    let of_logs = of_logs.map(|row| (row.task.as_str(), row.alias_group.as_str()));
    let of_catalogue = known.iter().map(|task| (*task, catalog.alias_group(task)));
    let mut held: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for (task, group) in of_logs.chain(of_catalogue) {
        for name in names(task, group) {
            held.entry(name).or_default().insert(task);
        }
    }
    let declared = |task: &str| catalog.tasks.get(task)?.alias_group.as_deref();
    let others = sides.of_tasks().filter(|row| row.split != "test");
    let same = others.filter_map(|row| {
        let own = names(&row.task, &row.alias_group);
        let mut alike = own.iter().filter_map(|name| held.get(name)).flatten();
        let other = alike.find(|other| declared(other).is_none() || declared(&row.task).is_none())?;
        Some(SameName { task: row.task.clone(), other_task: (*other).to_owned() })
    });
    let mut same: Vec<SameName> = same.collect();
    same.sort_by(|a, b| a.task.cmp(&b.task));
    same
}

/// A name without case and punctuation, but for `+` and `#`, which make other names of some, and for what parts digits.
fn bare(name: &str) -> String {
    let mut bare = String::new();
    let mut is_parted = false;
    for c in name.chars() {
        if !c.is_alphanumeric() && c != '+' && c != '#' {
            is_parted = true;
            continue;
        }
        if is_parted && c.is_numeric() && bare.ends_with(char::is_numeric) {
            bare.push('_');
        }
        is_parted = false;
        bare.extend(c.to_lowercase());
    }
    bare
}

/// Binds `side.clusters`: the programs of both sides that are almost the same as others.
fn clusters(threshold: f64, context: &Context<'_>, session: &Session<'_>, folder: &Path) -> Result<()> {
    let mut wanted: HashMap<Digest, u32> = HashMap::new();
    let of_held = "SELECT c.program_id FROM input.candidates c JOIN input.runs r ON r.run_id = c.run_id \
                   JOIN side.held h ON h.task = r.task";
    for query in ["SELECT child_program, parent_program FROM side.assigned", of_held] {
        session.each(query, &[], |batch| {
            for id in batch.columns().iter().flat_map(|column| column.as_string::<i32>().iter()).flatten() {
                wanted.insert(id.parse()?, NONE);
            }
            Ok(())
        })?;
    }
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
    use crate::catalog::Task;

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
            row("circlepacking26", "another", "train"),
            row("Ghost", "Ghost", "train"),
            row("???", "???", "test"),
            row("!", "!", "train"),
        ];
        let group = |name: &str| Task { alias_group: Some(name.to_owned()), ..Task::default() };
        let tasks = [("circle_packing_26", "cp26"), ("circlepacking26", "another")];
        let catalog = Catalog { tasks: tasks.map(|(task, name)| (task.to_owned(), group(name))).into() };
        let found = same_names(&Sides { rows, warnings: vec![] }, &["ghost"].into(), &catalog);
        let found: Vec<(&str, &str)> =
            found.iter().map(|same| (same.task.as_str(), same.other_task.as_str())).collect();
        let expected =
            [("CP_26", "circle_packing_26"), ("Circle-Packing 26", "circle_packing_26"), ("Ghost", "ghost")];
        assert_eq!(found, expected);
    }

    #[test]
    fn punctuation_that_makes_another_name_counts() {
        for (a, b) in
            [("knapsack_1_10", "knapsack_11_0"), ("sort_c", "sort_c++"), ("f", "f#"), ("x_2", "x_2_1")]
        {
            assert_ne!(bare(a), bare(b));
        }
        for (a, b) in [("Knapsack-1-10", "knapsack 1_10"), ("TSP_60", "tsp60"), ("Größe!", "größe")] {
            assert_eq!(bare(a), bare(b));
        }
    }
}

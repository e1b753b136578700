//! References between tables: every id that a row names is a row of the table that it points to.
//!
//! Files that hash as they should can still disagree, when a dataset was put together by hand or by a defect. Only
//! id columns are read, and joined by sorting, so that memory does not grow with the tables.

use std::collections::BTreeSet;

use arrow::array::{Array, AsArray};
use arrow::datatypes::Int64Type;
use finch_core::Digest;

use crate::error::{Error, Result};
use crate::sql::{Engine, Session, Width};
use crate::store::verify::{Finding, Report};
use crate::store::{Dataset, Store};

const STATEMENT: &str = include_str!("../sql/unresolved.sql");

/// Memory for joining ids. It makes two partitions: with one, the engine would hold a side of each join whole.
const MEMORY: u64 = 1 << 30;

/// A column that names rows of another table.
struct Reference {
    table: &'static str,
    column: &'static str,
    /// Which rows must resolve; null ids never need to.
    condition: Option<&'static str>,
    /// The table and its column.
    parent: (&'static str, &'static str),
}

const fn to(table: &'static str, column: &'static str, parent: (&'static str, &'static str)) -> Reference {
    Reference { table, column, condition: None, parent }
}

const RUNS: (&str, &str) = ("runs", "run_id");
const TASKS: (&str, &str) = ("tasks", "task");
const PROGRAMS: (&str, &str) = ("programs", "program_id");
const TEXTS: (&str, &str) = ("texts", "text_id");
const CANDIDATES: (&str, &str) = ("candidates", "candidate_id");
const EXAMPLES: (&str, &str) = ("examples", "example_id");

/// All references. A parent that the scaffold evicted is in no log: it has an id and no program.
const REFERENCES: [Reference; 22] = [
    to("clusters", "program_id", PROGRAMS),
    to("clusters", "cluster_id", PROGRAMS),
    to("runs", "task", TASKS),
    to("tasks", "initial_program_id", PROGRAMS),
    to("objectives", "task", TASKS),
    to("candidates", "run_id", RUNS),
    to("candidates", "program_id", PROGRAMS),
    to("candidates", "feedback_id", TEXTS),
    to("attempts", "run_id", RUNS),
    to("attempts", "response_id", TEXTS),
    to("transitions", "run_id", RUNS),
    to("transitions", "task", TASKS),
    to("transitions", "child_candidate", CANDIDATES),
    Reference {
        table: "transitions",
        column: "parent_candidate",
        condition: Some("parent_program IS NOT NULL"),
        parent: CANDIDATES,
    },
    to("transitions", "child_program", PROGRAMS),
    to("transitions", "parent_program", PROGRAMS),
    to("transitions", "system_prompt_id", TEXTS),
    to("transitions", "user_prompt_id", TEXTS),
    to("transitions", "reasoning_id", TEXTS),
    to("transitions", "response_id", TEXTS),
    to("examples", "transition_id", ("transitions", "transition_id")),
    to("losses", "example_id", EXAMPLES),
];

/// The references of lists, which are unnested: packs name their examples.
const LISTS: [Reference; 1] = [to("packs", "example_ids", EXAMPLES)];

/// Adds what does not resolve to a report. Datasets in which something is wrong already are not read.
pub fn check(store: &Store, report: &mut Report) -> Result<()> {
    let scratch = tempfile::tempdir().map_err(Error::io("create a folder in", std::env::temp_dir()))?;
    let engine = Engine::new(1, MEMORY, scratch.path())?;
    let places: BTreeSet<String> = report.findings.iter().map(|finding| finding.place.clone()).collect();
    let damaged = |dataset: Digest| {
        let folder = format!("datasets/{dataset}/");
        places.range(folder.clone()..).next().is_some_and(|place| place.starts_with(&folder))
    };
    let mut seen = BTreeSet::new();
    for fingerprint in store.fingerprints()? {
        if damaged(fingerprint) {
            continue;
        }
        let Some(dataset) = store.dataset(fingerprint)? else { continue };
        let holder = |table: &str| dataset.table(table).map(|table| table.from.unwrap_or(fingerprint));
        for (reference, list) in
            REFERENCES.iter().map(|one| (one, false)).chain(LISTS.iter().map(|one| (one, true)))
        {
            let Some(own) = holder(reference.table) else { continue };
            let Some(parent) = holder(reference.parent.0) else {
                let what = format!(
                    "table `{}` names rows of `{}`, which it has not",
                    reference.table, reference.parent.0
                );
                report
                    .findings
                    .push(Finding { place: format!("datasets/{fingerprint}/manifest.json"), what });
                continue;
            };
            // Tables are passed on by reference: a pair is checked once, in whichever dataset it is met first.
            let pair = (own, reference.table, reference.column, parent);
            if damaged(own) || damaged(parent) || !seen.insert(pair) {
                continue;
            }
            let Some(what) = unresolved(&engine, &dataset, reference, list)? else { continue };
            report.findings.push(Finding { place: format!("datasets/{own}/{}", reference.table), what });
        }
    }
    report.references = seen.len();
    report.findings.sort();
    report.findings.dedup();
    Ok(())
}

/// What does not resolve, in words.
fn unresolved(
    engine: &Engine,
    dataset: &Dataset,
    reference: &Reference,
    list: bool,
) -> Result<Option<String>> {
    let Reference { table, column, condition, parent } = reference;
    let has = |table: &str, column: &str| {
        dataset.table(table).is_some_and(|table| table.schema.iter().any(|known| known.name == column))
    };
    // A query may have made a table of its own under one of these names.
    if !has(table, column) || !has(parent.0, parent.1) {
        return Ok(None);
    }
    let session = engine.session(Width::Narrow);
    bind(&session, dataset, "children", table)?;
    bind(&session, dataset, "parents", parent.0)?;
    let id = if list { format!("unnest({column})") } else { (*column).to_owned() };
    let condition = condition.map(|condition| format!("WHERE {condition}")).unwrap_or_default();
    let child = format!("SELECT id FROM (SELECT {id} AS id FROM children {condition}) WHERE id IS NOT NULL");
    session.view(None, "child", &child)?;
    session.view(None, "parent", &format!("SELECT {} AS id FROM parents", parent.1))?;
    let mut found = None;
    session.each(STATEMENT, &[], |batch| {
        for row in 0..batch.num_rows() {
            let rows = batch.column(0).as_primitive::<Int64Type>().value(row);
            let lowest = batch.column(1).as_string::<i32>();
            if rows > 0 && lowest.is_valid(row) {
                let id: String = lowest.value(row).chars().take(80).flat_map(char::escape_debug).collect();
                found = Some(format!(
                    "{rows} times `{column}` names what is not in `{}`, such as `{id}`",
                    parent.0
                ));
            }
        }
        Ok(())
    })?;
    Ok(found)
}

fn bind(session: &Session<'_>, dataset: &Dataset, name: &str, table: &str) -> Result<()> {
    session.bind(None, name, &dataset.files(table)?, dataset.schema(table)?, dataset.key(table))
}

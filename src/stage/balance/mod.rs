//! `balance`: at most so many transitions of each task, run, domain, alias group or outcome, and weights for the rest.
//!
//! Caps go from the narrow to the wide: a run gives up its surplus before its task does. What stays under a cap is spread
//! over changes, iterations and scores, and otherwise chosen by hash, so the same transitions stay whatever the order
//! of anything; raising the last cap only adds. Only what is trained on is balanced: after a split, its train rows.

mod weights;

use std::path::Path;

use arrow::array::AsArray;
use finch_core::manifest::Counts;

use super::side::{bind, writer};
use super::{Context, Outcome, extended};
use crate::contract::Contract;
use crate::error::Result;
use crate::spec::{Balance, Cap, Choose, Of, did_you_mean};
use crate::sql::{Session, Value, Width, literal, views};
use crate::store::Draft;

const ROWS: &str = include_str!("../../../sql/balance_rows.sql");
const CAP: &str = include_str!("../../../sql/balance_cap.sql");
const KEPT: &str = include_str!("../../../sql/balance_kept.sql");

pub(super) fn run(config: &Balance, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let session = context.engine.merging(Width::Narrow).with_sample_unit();
    let columns = context.transitions_schema()?;
    let has = |name: &str| columns.column_with_name(name).is_some();
    let statement = rows(has, context.inputs[0].schema("tasks")?.column_with_name("alias_group").is_some());
    views::bind(&session, Some("input"), &context.inputs[0], &views::Needed::by(ROWS))?;
    let scratch = context.store.scratch()?;
    let folder = scratch.path();
    let seed = Value::Text(context.pipeline.seed.to_string());
    table(&session, folder, "rows", &statement, &[("seed", seed)])?;
    let mut warnings = unknown(config, &session)?;

    // One table aside after each cap: what it leaves is what the next one sees.
    let mut counts = Counts { input: context.transitions_rows(), conserved: true, ..Counts::default() };
    let removed_schema = Contract::of("removed").schema(&[]);
    let mut removed = Vec::new();
    let mut left = "rows".to_owned();
    for (of, cap) in &config.caps {
        let judged = capped(*of, cap, config.choose, &left);
        let code = format!("cap_{}", of.key());
        let gone = format!(
            "SELECT transition_id AS record_id, 'transition' AS record_kind, '{code}' AS code, \
             concat('number ', number, ' of its {}, ', cap, ' are kept') AS reason \
             FROM ({judged}) WHERE number > cap ORDER BY transition_id",
            of.key().replace('_', " ")
        );
        let mut part = writer(folder, &code, &removed_schema)?;
        let mut rows = 0;
        session.each(&gone, &[], |batch| {
            rows += batch.num_rows() as u64;
            Ok(part.write(&crate::contract::conform("removed", &removed_schema, batch)?)?)
        })?;
        bind(&session, folder, &code, removed_schema.clone(), part)?;
        counts.reasons.insert(code.clone(), rows);
        removed.push(format!("SELECT * FROM side.{code}"));
        let next = format!("after_{}", of.key());
        let columns = "transition_id, run_id, task, domain, alias_group, outcome, change_cluster, iteration_part, \
                       score_part, place";
        let kept = format!("SELECT {columns} FROM ({judged}) WHERE number <= cap ORDER BY transition_id");
        table(&session, folder, &next, &kept, &[])?;
        left = next;
    }

    weights::bind(config, context, &session, folder, &left)?;
    let schema = extended(&columns, "transitions", "balance");
    let mut writer = draft.writer("transitions", &schema)?;
    let others = if has("split") { "t.split <> 'train'" } else { "FALSE" };
    let kept = KEPT.replace("{left}", &left).replace("{others}", others);
    session.write(&kept, &[], "transitions", &schema, &mut writer)?;
    counts.used = draft.finish("transitions", writer)?;
    let mut writer = draft.writer("removed", &removed_schema)?;
    if !removed.is_empty() {
        let all = format!("SELECT * FROM ({}) ORDER BY record_id, code", removed.join(" UNION ALL "));
        session.write(&all, &[], "removed", &removed_schema, &mut writer)?;
    }
    counts.removed = draft.finish("removed", writer)?;
    if counts.removed == 0 && config.weights.is_empty() && counts.input > 0 {
        warnings.push("it changed nothing: no cap was reached".to_owned());
    }
    draft.pass_on(&context.inputs[0], &["removed", "quarantine"]);
    Ok(Outcome { row_table: "transitions", counts, warnings, training: None, reading: None })
}

/// The statement that finds what is balanced, and what it is chosen by.
fn rows(has: impl Fn(&str) -> bool, has_groups: bool) -> String {
    let or = |name: &str, other: &str| match has(name) {
        true => format!("t.{name}"),
        false => other.to_owned(),
    };
    ROWS.replace("{outcome}", &or("outcome", "'unknown'"))
        .replace("{change_cluster}", &or("change_cluster", "t.transition_id"))
        .replace("{alias_group}", if has_groups { "k.alias_group" } else { "t.task" })
        .replace("{balanced}", if has("split") { "t.split = 'train'" } else { "TRUE" })
}

/// Every row that is left with its number within what is capped, and the cap.
fn capped(of: Of, cap: &Cap, choose: Choose, left: &str) -> String {
    let limit = match cap {
        Cap::Each(most) => most.to_string(),
        Cap::Named(caps) => {
            let whens: Vec<String> =
                caps.iter().map(|(name, most)| format!("WHEN {} THEN {most}", literal(name))).collect();
            format!("CASE {} {} ELSE {} END", of.column(), whens.join(" "), i64::MAX)
        }
    };
    let (round, cell_round) = match choose {
        Choose::Spread => ("round", "cell_round"),
        Choose::Hash => ("1", "1"),
    };
    CAP.replace("{key}", of.column())
        .replace("{from}", &format!("side.{left}"))
        .replace("{round}", round)
        .replace("{cell_round}", cell_round)
        .replace("{cap}", &limit)
}

/// Writes what a statement finds as a table aside, with the statement's own types.
fn table(
    session: &Session<'_>,
    folder: &Path,
    name: &str,
    statement: &str,
    values: &[(&str, Value)],
) -> Result<()> {
    let columns = weights::ROWS.clone();
    let mut writer = writer(folder, name, &columns)?;
    session.write(statement, values, name, &columns, &mut writer)?;
    bind(session, folder, name, columns, writer)
}

/// Names in the spec that no balanced transition has: most often misspelt.
fn unknown(config: &Balance, session: &Session<'_>) -> Result<Vec<String>> {
    let mut warnings = std::collections::BTreeSet::new();
    for (of, names) in config.named() {
        let query = format!("SELECT DISTINCT {0} FROM side.rows ORDER BY {0}", of.column());
        let mut known: Vec<String> = Vec::new();
        session.each(&query, &[], |batch| {
            known.extend(batch.column(0).as_string::<i32>().iter().flatten().map(str::to_owned));
            Ok(())
        })?;
        for name in names.into_iter().filter(|name| !known.contains(name)) {
            let near = did_you_mean(&name, known.iter().map(String::as_str));
            let near = near.map(|near| format!(" ({near})")).unwrap_or_default();
            warnings.insert(format!(
                "nothing that is balanced has the {} `{name}`{near}",
                of.key().replace('_', " ")
            ));
        }
    }
    Ok(warnings.into_iter().collect())
}

//! `split`: train, validation and test, by alias group, and the proof that nothing is on both sides.
//!
//! [`assign`] chooses sides, [`leaks`] looks for what is on both nevertheless, in names, programs and texts
//! ([`contained`]), and [`aliases`] proposes which tasks may be one problem that nobody declared.

mod aliases;
mod assign;
mod contained;
mod leaks;

use arrow::array::AsArray;
use finch_core::manifest::Counts;
use finch_core::shard::{Cuts, TableWriter};

use self::assign::Sides;
use self::leaks::Leaks;
use super::side::side;
use super::{Context, Outcome, extended};
use crate::code::Code;
use crate::contract::Contract;
use crate::error::Result;
use crate::spec::{OnLeak, Split};
use crate::sql::{Session, Width, views};
use crate::store::Draft;

const SIDES: &str = include_str!("../../../sql/split.sql");
const ASSIGN: &str = include_str!("../../../sql/split_wide.sql");

pub(super) fn run(config: &Split, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let sides = Sides::choose(config, context)?;
    let mut warnings = sides.warnings.clone();
    draft.write_rows("splits", &[], &sides.rows)?;

    // Everything assigned, before leaks are dropped, is a table aside: both the leak check and the final rows
    // read it.
    let scratch = context.store.scratch()?;
    let schema = extended(&context.transitions_schema()?, "transitions", "split");
    let session = context.engine.merging(Width::Narrow);
    views::bind(&session, Some("input"), &context.inputs[0], &views::Needed::by(ASSIGN))?;
    let splits = Contract::of("splits").schema(&[]);
    session.bind(Some("side"), "splits", &draft.files("splits"), splits, &[])?;
    side(&session, scratch.path(), "sides", &["transition_id", "split"], SIDES)?;
    let key = Contract::of("transitions").key.clone();
    let cuts = Cuts { shard_bytes: usize::MAX, ..Default::default() };
    let mut assigned = TableWriter::new(scratch.path(), "assigned", schema.clone(), &key, cuts)?;
    session.write(ASSIGN, &[], "transitions", &schema, &mut assigned)?;
    let assigned = assigned.finish()?;
    let file = scratch.path().join(&assigned.files[0].name);
    session.bind(Some("side"), "assigned", &[file], schema.clone(), &key)?;

    let action = if config.on_leak == OnLeak::Report { "report" } else { "drop" };
    let leaks = leaks::find(config, context, &session, &sides, scratch.path(), draft, action)?;
    warnings.extend(leaks.warnings.iter().cloned());
    judge(config, context, &leaks, &mut warnings)?;
    let mut counts = write(context, &session, &schema, action, draft)?;
    let word = if action == "drop" { "leak" } else { "leaks_reported" };
    counts.reasons.insert(word.to_owned(), leaks.transitions);
    counts.reasons.extend(leaks.by_kind.iter().map(|(kind, count)| (format!("leak_{kind}"), *count)));
    if config.propose_aliases {
        let proposals = aliases::propose(context, &sides, draft)?;
        counts.reasons.insert("alias_proposals".to_owned(), proposals.pairs);
        counts.reasons.insert("alias_proposals_across".to_owned(), proposals.across);
        warnings.extend(proposals.warning);
    }

    assign::write_tasks(context, draft, &sides)?;
    draft.pass_on(&context.inputs[0], &["removed", "quarantine"]);
    if !counts.reasons.contains_key("train") && counts.input > 0 {
        warnings.push("no transition is left for training".to_owned());
    }
    Ok(Outcome { row_table: "transitions", counts, warnings, training: None, reading: None })
}

/// Fails where leaks are an error, and says so where they are only reported.
fn judge(config: &Split, context: &Context<'_>, leaks: &Leaks, warnings: &mut Vec<String>) -> Result<()> {
    if leaks.transitions == 0 || config.on_leak == OnLeak::Drop {
        return Ok(());
    }
    let kinds = leaks.by_kind.iter().filter(|(_, count)| **count > 0);
    let kinds: Vec<String> = kinds.map(|(kind, count)| format!("{kind} {count}")).collect();
    let reason = format!(
        "{} transitions outside the test split have what is also inside it ({}): {}",
        leaks.transitions,
        kinds.join(", "),
        leaks.pairs
    );
    if config.on_leak == OnLeak::Error {
        let hint = "declare the tasks as one alias group, or set `on_leak = \"drop\"`";
        return Err(context.error(Code::Leak, reason, Some(hint)));
    }
    warnings.push(reason);
    Ok(())
}

/// Writes the transitions that stay and those that leak, with their numbers.
fn write(
    context: &Context<'_>,
    session: &Session<'_>,
    schema: &arrow::datatypes::SchemaRef,
    action: &str,
    draft: &mut Draft,
) -> Result<Counts> {
    let dropped = if action == "drop" {
        "SELECT transition_id AS leaked_id, string_agg(DISTINCT kind, ', ' ORDER BY kind) AS kinds FROM side.leaks \
         GROUP BY transition_id"
    } else {
        "SELECT transition_id AS leaked_id, kind AS kinds FROM side.leaks WHERE FALSE"
    };
    let mut writer = draft.writer("transitions", schema)?;
    let kept = format!(
        "SELECT a.* FROM side.assigned a LEFT JOIN ({dropped}) d ON d.leaked_id = a.transition_id \
         WHERE d.leaked_id IS NULL ORDER BY a.transition_id"
    );
    let mut counts = Counts { input: context.transitions_rows(), conserved: true, ..Counts::default() };
    session.each(&kept, &[], |batch| {
        let batch = crate::contract::conform("transitions", schema, batch)?;
        if let Some(sides) = batch.column_by_name("split") {
            for side in sides.as_string::<i32>().iter().flatten() {
                *counts.reasons.entry(side.to_owned()).or_default() += 1;
            }
        }
        Ok(writer.write(&batch)?)
    })?;
    counts.used = draft.finish("transitions", writer)?;

    let removed_schema = Contract::of("removed").schema(&[]);
    let mut writer = draft.writer("removed", &removed_schema)?;
    let removed = format!(
        "SELECT leaked_id AS record_id, 'transition' AS record_kind, 'leak' AS code, \
         concat('also on the held-out side: ', kinds) AS reason FROM ({dropped}) ORDER BY leaked_id"
    );
    session.write(&removed, &[], "removed", &removed_schema, &mut writer)?;
    counts.removed = draft.finish("removed", writer)?;
    Ok(counts)
}

//! `dedup`: of transitions of a task that are equal, or changed almost the same, one stays, with their number.
//!
//! Programs are never removed: children resemble their parents, and many are almost the same. What is compared is the
//! step. Ids do not change; a stronger form of a text is a key here and nothing else.

mod near;

use std::path::Path;

use finch_core::manifest::Counts;

use super::side::{bind, narrow, side, writer};
use super::{Context, Outcome, extended};
use crate::contract::Contract;
use crate::error::Result;
use crate::spec::{Dedup, Exact, Near};
use crate::sql::{Session, Width, views};
use crate::store::Draft;

/// Which transition stands for each.
const STANDS: &str = include_str!("../../../sql/dedup.sql");
/// Those that stay.
const KEPT: &str = include_str!("../../../sql/dedup_kept.sql");
const KEPT_NEAR: &str = include_str!("../../../sql/dedup_kept_near.sql");
const REMOVED: &str = include_str!("../../../sql/dedup_removed.sql");
const REMOVED_NEAR: &str = include_str!("../../../sql/dedup_removed_near.sql");

/// What adds the columns of the near form.
pub(crate) const NEAR: &str = "dedup near";

pub(super) fn run(config: &Dedup, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let session = context.engine.merging(Width::Narrow);
    views::bind(&session, Some("input"), &context.inputs[0], &views::Needed::by(STANDS))?;
    // What is kept and what is removed are both read off narrow tables, which are found once.
    let scratch = context.store.scratch()?;
    if config.exact == Exact::Code {
        code_keys(context, &session, scratch.path())?;
    }
    side(&session, scratch.path(), "stands", &["transition_id", "kept_id"], &stands(config.exact))?;
    let schema = extended(&context.transitions_schema()?, "transitions", "dedup");
    let (schema, kept, removed) = match &config.near {
        None => (schema, KEPT, REMOVED),
        Some(likeness) => {
            near::find(likeness, context, &session, scratch.path(), draft)?;
            (extended(&schema, "transitions", NEAR), KEPT_NEAR, REMOVED_NEAR)
        }
    };

    let mut writer = draft.writer("transitions", &schema)?;
    session.write(kept, &[], "transitions", &schema, &mut writer)?;
    let used = draft.finish("transitions", writer)?;

    let mut counts = Counts { input: context.transitions_rows(), used, conserved: true, ..Counts::default() };
    let schema = Contract::of("removed").schema(&[]);
    let mut writer = draft.writer("removed", &schema)?;
    session.each(removed, &[], |batch| {
        let batch = crate::contract::conform("removed", &schema, batch)?;
        for code in arrow::array::AsArray::as_string::<i32>(batch.column(2)).iter().flatten() {
            *counts.reasons.entry(code.to_owned()).or_default() += 1;
        }
        Ok(writer.write(&batch)?)
    })?;
    counts.removed = draft.finish("removed", writer)?;
    counts.reasons.entry("duplicate".to_owned()).or_default();
    let warnings = match counts.removed {
        0 if counts.input > 0 => vec![nothing(config.near.as_ref())],
        _ => vec![],
    };
    draft.pass_on(&context.inputs[0], &["removed", "quarantine"]);
    Ok(Outcome { row_table: "transitions", counts, warnings, training: None, reading: None })
}

fn nothing(near: Option<&Near>) -> String {
    let what = if near.is_some() { "equal or changed almost the same" } else { "equal" };
    format!("it removed nothing: no two transitions of a task are {what}")
}

/// The statement that finds equal transitions.
fn stands(exact: Exact) -> String {
    let (parent, child, keys) = match exact {
        Exact::Raw => ("t.parent_raw_blake3", "t.child_raw_blake3", ""),
        Exact::Canonical => ("t.parent_program", "t.child_program", ""),
        Exact::Code => (
            "p.code_key",
            "c.code_key",
            "JOIN side.code_keys c ON c.program_id = t.child_program\n  \
             LEFT JOIN side.code_keys p ON p.program_id = t.parent_program",
        ),
    };
    STANDS.replace("{parent_key}", parent).replace("{child_key}", child).replace("{keys}", keys)
}

/// Writes the key of every program: its digest without comments and blank lines.
fn code_keys(context: &Context<'_>, session: &Session<'_>, folder: &Path) -> Result<()> {
    let wide = context.engine.session(Width::Wide).with_code_key();
    let query =
        "SELECT program_id, code_key(code, language) AS code_key FROM input.programs ORDER BY program_id";
    views::bind(&wide, Some("input"), &context.inputs[0], &views::Needed::by(query))?;
    let columns = narrow(&["program_id", "code_key"]);
    let mut writer = writer(folder, "code_keys", &columns)?;
    wide.write(query, &[], "code_keys", &columns, &mut writer)?;
    bind(session, folder, "code_keys", columns, writer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Engine;

    /// `WindowAggExec` concatenates all rows before it computes one, whatever the memory limit says, and hands them
    /// on as one batch, which no sort can spill.
    #[test]
    fn no_window_holds_the_whole_table() {
        let scratch = tempfile::tempdir().expect("temp dir");
        for limit in [512 << 20, 4 << 30] {
            let engine = Engine::new(1, limit, scratch.path()).expect("engine");
            let session = engine.merging(Width::Narrow);
            let columns = Contract::of("transitions").schema(&[]);
            session.bind_empty(Some("input"), "transitions", columns).expect("bind");
            session.bind_empty(Some("side"), "code_keys", narrow(&["program_id", "code_key"])).expect("bind");
            session
                .bind_empty(Some("side"), "changes", narrow(&["transition_id", "change_cluster"]))
                .expect("bind");
            let clusters = Contract::of("clusters").schema(&[]);
            session.bind_empty(Some("side"), "clusters", clusters).expect("bind");
            let near = near::statement(false);
            for query in [stands(Exact::Canonical), stands(Exact::Raw), stands(Exact::Code), near] {
                let plan = session.explain(&query).expect("plan");
                let windows: Vec<&str> = plan.lines().filter(|line| line.contains("WindowAggExec")).collect();
                assert!(windows.iter().all(|line| line.trim().starts_with("BoundedWindowAggExec")), "{plan}");
                assert_eq!(windows.len(), 1, "{plan}");
            }
        }
    }
}

//! `dedup`: of equal transitions of a task, one stays, with their number.

use arrow::datatypes::{DataType, Field, Schema};
use finch_core::manifest::Counts;
use finch_core::shard::{Cuts, TableWriter};

use super::{Context, Outcome, extended};
use crate::contract::Contract;
use crate::error::Result;
use crate::spec::{Dedup, Exact};
use crate::sql::{Value, Width, views};
use crate::store::Draft;

/// Which transition stands for each.
const STANDS: &str = include_str!("../../sql/dedup.sql");
/// Those that stay.
const KEPT: &str = include_str!("../../sql/dedup_kept.sql");

pub(super) fn run(config: &Dedup, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let session = context.engine.merging(Width::Narrow);
    views::bind(&session, Some("input"), &context.inputs[0], &views::Needed::by(STANDS))?;

    // What is kept and what is removed are both read off one narrow table, which is found once.
    let scratch = context.store.scratch()?;
    let column = |name: &str| Field::new(name, DataType::Utf8, false);
    let narrow = std::sync::Arc::new(Schema::new(vec![column("transition_id"), column("kept_id")]));
    let key = Contract::of("transitions").key.clone();
    let cuts = Cuts { shard_bytes: usize::MAX, ..Cuts::default() };
    let mut writer = TableWriter::new(scratch.path(), "stands", narrow.clone(), &key, cuts)?;
    let values = [("raw", Value::Int(i64::from(config.exact == Exact::Raw)))];
    session.write(STANDS, &values, "stands", &narrow, &mut writer)?;
    let file = scratch.path().join(&writer.finish()?.files[0].name);
    session.bind(Some("side"), "stands", &[file], narrow, &key)?;

    let schema = extended(&context.transitions_schema()?, "transitions", "dedup");
    let mut writer = draft.writer("transitions", &schema)?;
    session.write(KEPT, &[], "transitions", &schema, &mut writer)?;
    let used = draft.finish("transitions", writer)?;

    let schema = Contract::of("removed").schema(&[]);
    let mut writer = draft.writer("removed", &schema)?;
    let removed = "SELECT transition_id AS record_id, 'transition' AS record_kind, 'duplicate' AS code, \
                   concat('equal to ', kept_id) AS reason FROM side.stands WHERE kept_id <> transition_id \
                   ORDER BY transition_id";
    session.write(removed, &[], "removed", &schema, &mut writer)?;
    let removed = draft.finish("removed", writer)?;

    draft.pass_on(&context.inputs[0], &["removed", "quarantine"]);
    let counts = Counts {
        input: context.transitions_rows(),
        used,
        removed,
        conserved: true,
        reasons: [("duplicate".to_owned(), removed)].into(),
        ..Counts::default()
    };
    Ok(Outcome { row_table: "transitions", counts, warnings: vec![], training: None, reading: None })
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
            let plan = session.explain(&STANDS.replace("$raw", "0")).expect("plan");
            let windows: Vec<&str> = plan.lines().filter(|line| line.contains("WindowAggExec")).collect();
            assert!(windows.iter().all(|line| line.trim().starts_with("BoundedWindowAggExec")), "{plan}");
            assert_eq!(windows.len(), 1, "{plan}");
        }
    }
}

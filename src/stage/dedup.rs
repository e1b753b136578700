//! `dedup`: of equal transitions of a task, one stays, with their number.

use finch_core::manifest::Counts;

use super::{Context, Outcome, extended};
use crate::contract::Contract;
use crate::error::Result;
use crate::spec::{Dedup, Exact};
use crate::sql::Value;
use crate::store::Draft;

const STATEMENT: &str = include_str!("../../sql/dedup.sql");

pub(super) fn run(config: &Dedup, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let session = context.session(STATEMENT)?;
    let values = [("raw", Value::Int(i64::from(config.exact == Exact::Raw)))];

    let schema = extended(&context.transitions_schema()?, "transitions", "dedup");
    let mut writer = draft.writer("transitions", &schema)?;
    let kept = format!("SELECT * FROM ({STATEMENT}) WHERE place = 1 ORDER BY transition_id");
    session.write(&kept, &values, "transitions", &schema, &mut writer)?;
    let used = draft.finish("transitions", writer)?;

    let schema = Contract::of("removed").schema(&[]);
    let mut writer = draft.writer("removed", &schema)?;
    let removed = format!(
        "SELECT transition_id AS record_id, 'transition' AS record_kind, 'duplicate' AS code, \
         concat('equal to ', kept_id) AS reason FROM ({STATEMENT}) WHERE place > 1 ORDER BY transition_id"
    );
    session.write(&removed, &values, "removed", &schema, &mut writer)?;
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

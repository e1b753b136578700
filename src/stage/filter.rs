//! `filter`: keeps the transitions that satisfy a condition, at most so many a task.

use finch_core::manifest::Counts;

use super::{Context, Outcome};
use crate::code::Code;
use crate::contract::Contract;
use crate::error::Result;
use crate::spec::Filter;
use crate::store::Draft;

/// What a filter without `where` keeps: the last column of the design's outcome table.
pub const DEFAULT_CONDITION: &str = "outcome IN ('self_repair', 'improvement', 'unchanged', 'regression')";

pub(super) fn run(config: &Filter, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let judged = judged(config);
    let session = context.session(&judged)?;
    let cap = config.per_task.as_ref().map_or(i64::MAX, |cap| cap.max);

    let schema = context.transitions_schema()?;
    let mut writer = draft.writer("transitions", &schema)?;
    let kept =
        format!("SELECT * FROM ({judged}) WHERE finch_hit AND finch_place <= {cap} ORDER BY transition_id");
    session.write(&kept, &[], "transitions", &schema, &mut writer)?;
    let used = draft.finish("transitions", writer)?;

    let schema = Contract::of("removed").schema(&[]);
    let mut writer = draft.writer("removed", &schema)?;
    let removed = format!(
        "SELECT transition_id AS record_id, 'transition' AS record_kind, \
         CASE WHEN finch_hit THEN 'per_task' ELSE 'where' END AS code, \
         CASE WHEN finch_hit THEN concat('number ', finch_place, ' of its task') \
              ELSE 'the condition is false or null' END AS reason \
         FROM ({judged}) WHERE NOT (finch_hit AND finch_place <= {cap}) ORDER BY transition_id"
    );
    let mut counts = Counts { input: context.transitions_rows(), used, conserved: true, ..Counts::default() };
    session.each(&removed, &[], |batch| {
        let batch = crate::contract::conform("removed", &schema, batch)?;
        for code in arrow::array::AsArray::as_string::<i32>(batch.column(2)).iter().flatten() {
            *counts.reasons.entry(code.to_owned()).or_default() += 1;
        }
        Ok(writer.write(&batch)?)
    })?;
    counts.removed = draft.finish("removed", writer)?;

    if used == 0 && counts.input > 0 && !config.allow_empty {
        let hint = "set `allow_empty = true` if an empty result is fine";
        return Err(context.error(Code::EmptyOutput, "the filter kept nothing", Some(hint)));
    }
    let mut warnings = vec![];
    if counts.removed == 0 && counts.input > 0 {
        warnings.push("the filter removed nothing".to_owned());
    }
    draft.pass_on(&context.inputs[0], &["removed", "quarantine"]);
    Ok(Outcome { row_table: "transitions", counts, warnings, training: None, reading: None })
}

/// Every transition with whether it satisfies the condition and its place within its task.
pub(crate) fn judged(config: &Filter) -> String {
    // The condition stands on lines of its own, so that a trailing comment ends with it.
    let condition = config.condition.as_deref().unwrap_or(DEFAULT_CONDITION);
    let order = config
        .per_task
        .as_ref()
        .and_then(|cap| cap.order_by.as_deref())
        .map_or(String::new(), |order| format!("{order}\n, "));
    format!(
        "SELECT *, row_number() OVER (PARTITION BY task, finch_hit ORDER BY {order}transition_id) AS finch_place \
         FROM (SELECT *, coalesce((\n{condition}\n), FALSE) AS finch_hit FROM input.transitions)"
    )
}

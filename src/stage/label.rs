//! `label`: what each step did to the score. It annotates; removing is the filter's work.

use finch_core::manifest::Counts;

use super::{Context, Outcome, extended};
use crate::error::Result;
use crate::spec::Label;
use crate::sql::Value;
use crate::store::Draft;

const STATEMENT: &str = include_str!("../../sql/label.sql");

pub(super) fn run(config: &Label, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let session = context.session(STATEMENT)?;
    let values = [("absolute", Value::Float(config.absolute)), ("relative", Value::Float(config.relative))];
    let schema = extended(&context.transitions_schema()?, "transitions", "label");
    let mut writer = draft.writer("transitions", &schema)?;
    let mut counts = Counts { input: context.transitions_rows(), conserved: true, ..Counts::default() };
    session.each(STATEMENT, &values, |batch| {
        let batch = crate::contract::conform("transitions", &schema, batch)?;
        let outcomes = batch.column_by_name("outcome").map(arrow::array::AsArray::as_string::<i32>);
        for outcome in outcomes.into_iter().flatten() {
            *counts.reasons.entry(outcome.unwrap_or("unknown_direction").to_owned()).or_default() += 1;
        }
        Ok(writer.write(&batch)?)
    })?;
    counts.used = draft.finish("transitions", writer)?;
    draft.pass_on(&context.inputs[0], &["removed", "quarantine"]);

    let unknown = counts.reasons.get("unknown_direction").copied().unwrap_or(0);
    let warnings = if unknown > 0 {
        vec![format!(
            "{unknown} transitions have no label: nobody said whether their score is maximised or minimised (add \
             `score_key` and `direction` to the catalogue)"
        )]
    } else {
        vec![]
    };
    Ok(Outcome { row_table: "transitions", counts, warnings, training: None, reading: None })
}

//! `filter`: keeps the transitions that satisfy a condition, are valid, fit a budget of tokens, and are among so many of
//! their task.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use finch_core::Digest;
use finch_core::manifest::Counts;
use finch_core::tokens::Tokenizer;
use rayon::prelude::*;

use super::side::{bind, writer};
use super::{Context, Outcome, tokenizer};
use crate::code::Code;
use crate::contract::Contract;
use crate::error::Result;
use crate::spec::{Filter, TokenBudget, Valid};
use crate::sql::{Session, Value, Width, views};
use crate::store::Draft;

const KEPT: &str = include_str!("../../sql/filter.sql");

/// What a filter without `where` keeps: the last column of the design's outcome table.
pub const DEFAULT_CONDITION: &str = "outcome IN ('self_repair', 'improvement', 'unchanged', 'regression')";

pub(super) fn run(config: &Filter, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let judged = judged(config);
    let words = views::Needed::by(&judged);
    // A condition may speak of prompts, and then one partition has the memory.
    let session = match words.wide() {
        true => context.engine.session(Width::Wide),
        false => context.engine.merging(Width::Narrow),
    };
    views::bind(&session, Some("input"), &context.inputs[0], &words)?;
    let scratch = context.store.scratch()?;
    if let Some(budget) = &config.tokens {
        tokens(budget, context, &session, scratch.path())?;
    }
    let cap = config.per_task.as_ref().map_or(i64::MAX, |cap| cap.max);

    // What is decided is a narrow table aside, found once; rows are joined with it in the order of ids.
    let columns = decisions();
    let mut aside = writer(scratch.path(), "judged", &columns)?;
    let query = format!(
        "SELECT transition_id, finch_where, finch_valid, finch_fits, finch_tokens, finch_hit, finch_place \
         FROM ({judged}) ORDER BY transition_id"
    );
    session.write(&query, &[], "judged", &columns, &mut aside)?;
    let session = context.engine.merging(Width::Narrow);
    views::bind(&session, Some("input"), &context.inputs[0], &views::Needed::by(KEPT))?;
    bind(&session, scratch.path(), "judged", columns, aside)?;

    let schema = context.transitions_schema()?;
    let mut writer = draft.writer("transitions", &schema)?;
    session.write(KEPT, &[("cap", Value::Int(cap))], "transitions", &schema, &mut writer)?;
    let used = draft.finish("transitions", writer)?;

    let schema = Contract::of("removed").schema(&[]);
    let mut writer = draft.writer("removed", &schema)?;
    let removed = format!(
        "SELECT transition_id AS record_id, 'transition' AS record_kind, \
         CASE WHEN NOT finch_where THEN 'where' WHEN NOT finch_valid THEN 'invalid' \
              WHEN NOT finch_fits THEN 'tokens' ELSE 'per_task' END AS code, \
         CASE WHEN NOT finch_where THEN 'the condition is false or null' \
              WHEN NOT finch_valid THEN 'a program of it is not valid' \
              WHEN NOT finch_fits THEN concat(finch_tokens, ' tokens') \
              ELSE concat('number ', finch_place, ' of its task') END AS reason \
         FROM side.judged WHERE NOT (finch_hit AND finch_place <= {cap}) ORDER BY transition_id"
    );
    let mut counts = Counts { input: context.transitions_rows(), used, conserved: true, ..Counts::default() };
    session.each(&removed, &[], |batch| {
        let batch = crate::contract::conform("removed", &schema, batch)?;
        for code in batch.column(2).as_string::<i32>().iter().flatten() {
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

/// Every transition with whether it satisfies each part of the filter, and its place within its task among those that
/// satisfy all.
pub(crate) fn judged(config: &Filter) -> String {
    // The condition stands on lines of its own, so that a trailing comment ends with it.
    let condition = config.condition.as_deref().unwrap_or(DEFAULT_CONDITION);
    let order = config
        .per_task
        .as_ref()
        .and_then(|cap| cap.order_by.as_deref())
        .map_or(String::new(), |order| format!("{order}\n, "));
    let valid = match config.valid {
        None => "TRUE",
        Some(Valid::Child) => "child_valid",
        Some(Valid::Both) => "child_valid AND coalesce(parent_valid, FALSE)",
    };
    let where_and_valid = format!(
        "SELECT *, coalesce((\n{condition}\n), FALSE) AS finch_where, {valid} AS finch_valid FROM input.transitions"
    );
    let with_tokens = match &config.tokens {
        None => format!("SELECT j.*, 0 AS finch_tokens, TRUE AS finch_fits FROM ({where_and_valid}) j"),
        Some(budget) => format!(
            "SELECT j.*, k.finch_tokens, k.finch_tokens BETWEEN {} AND {} AS finch_fits \
             FROM ({where_and_valid}) j JOIN side.step_tokens k ON k.finch_id = j.transition_id",
            budget.min, budget.max
        ),
    };
    format!(
        "SELECT *, row_number() OVER (PARTITION BY task, finch_hit ORDER BY {order}transition_id) AS finch_place \
         FROM (SELECT *, finch_where AND finch_valid AND finch_fits AS finch_hit FROM ({with_tokens}))"
    )
}

/// The columns of `side.judged`: whether a transition satisfies each part of the filter, and its place in its task.
fn decisions() -> SchemaRef {
    let flag = |name: &str| Field::new(name, DataType::Boolean, false);
    let number = |name: &str| Field::new(name, DataType::Int64, false);
    Arc::new(Schema::new(vec![
        Field::new("transition_id", DataType::Utf8, false),
        flag("finch_where"),
        flag("finch_valid"),
        flag("finch_fits"),
        number("finch_tokens"),
        flag("finch_hit"),
        number("finch_place"),
    ]))
}

/// The columns of `side.step_tokens`: a transition, and the tokens of its texts.
pub(crate) fn step_tokens() -> SchemaRef {
    Arc::new(Schema::new(vec![
        Field::new("finch_id", DataType::Utf8, false),
        Field::new("finch_tokens", DataType::Int64, false),
    ]))
}

/// Binds `side.step_tokens`. Each text is counted once, however many transitions have it.
fn tokens(budget: &TokenBudget, context: &Context<'_>, session: &Session<'_>, folder: &Path) -> Result<()> {
    let file = context.inputs[1].artifact(tokenizer::FILE)?.ok_or_else(|| {
        let reason = format!("stage `{}` makes no tokenizer", budget.tokenizer.stage);
        context.error(Code::BadTokenizer, reason, None)
    })?;
    let tokenizer = Tokenizer::load(&file)?;
    let ids = "system_prompt_id, user_prompt_id, reasoning_id, response_id";
    let query = format!("SELECT transition_id, {ids} FROM input.transitions ORDER BY transition_id");
    let mut tokens: HashMap<Digest, i64> = HashMap::new();
    session.each(&query, &[], |batch| {
        for column in &batch.columns()[1..] {
            for id in column.as_string::<i32>().iter().flatten() {
                tokens.insert(id.parse()?, 0);
            }
        }
        Ok(())
    })?;
    let texts = "SELECT text_id, text FROM input.texts";
    context.session(texts)?.each(texts, &[], |batch| {
        let (ids, texts) = (batch.column(0).as_string::<i32>(), batch.column(1).as_string::<i32>());
        let rows: Vec<(Digest, &str)> = ids
            .iter()
            .zip(texts)
            .filter_map(|(id, text)| id?.parse::<Digest>().ok().zip(text))
            .filter(|(id, _)| tokens.contains_key(id))
            .collect();
        let counted: Vec<(Digest, i64)> = rows
            .into_par_iter()
            .map(|(id, text)| Ok((id, tokenizer.count(text)? as i64)))
            .collect::<Result<_, finch_core::Error>>()?;
        tokens.extend(counted);
        Ok(())
    })?;
    let columns = step_tokens();
    let mut writer = writer(folder, "step_tokens", &columns)?;
    session.each(&query, &[], |batch| {
        let of = |column: usize, row: usize| -> Result<i64> {
            let ids = batch.column(column).as_string::<i32>();
            let id = ids.is_valid(row).then(|| ids.value(row).parse::<Digest>()).transpose()?;
            Ok(id.and_then(|id| tokens.get(&id).copied()).unwrap_or_default())
        };
        let sum = |row: usize| (1..=4).map(|column| of(column, row)).sum::<Result<i64>>();
        let sums: Vec<i64> = (0..batch.num_rows()).map(sum).collect::<Result<_>>()?;
        let ids: StringArray = batch.column(0).as_string::<i32>().iter().collect();
        let rows =
            RecordBatch::try_new(columns.clone(), vec![Arc::new(ids), Arc::new(Int64Array::from(sums))])
                .map_err(|source| finch_core::Error::Arrow { table: "step_tokens".to_owned(), source })?;
        Ok(writer.write(&rows)?)
    })?;
    bind(session, folder, "step_tokens", columns, writer)
}

//! `label`: what each step did to the score. It annotates; removing is the filter's work.

use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use finch_core::manifest::Counts;

use super::side::{bind, narrow, side, writer};
use super::{Context, Outcome, extended};
use crate::code::Code;
use crate::error::Result;
use crate::rules::Rules;
use crate::spec::{Diagnostic, Label, did_you_mean};
use crate::sql::{Value, Width, literal, views};
use crate::store::Draft;

const STATEMENT: &str = include_str!("../../sql/label.sql");
const OUTCOME: &str = include_str!("../../sql/outcome.sql");
const FAILURES: &str = include_str!("../../sql/label_failures.sql");
const RULES: &str = include_str!("../../sql/label_rules.sql");
const WIDE: &str = include_str!("../../sql/label_wide.sql");
/// What a label is made of: the columns of transitions that pass the joins.
const JUDGED: &str = "(SELECT transition_id, task, scaffold, score_key, direction, parent_score, child_score, \
                      parent_valid, child_valid, parent_failure, child_failure FROM input.transitions)";

pub(super) fn run(config: &Label, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    check_tasks(config, context)?;
    let session = context.engine.merging(Width::Narrow);
    let statement = STATEMENT.replace("{judged}", &judged(config));
    // By the statement as it is written: a task may be called `response`.
    views::bind(&session, Some("input"), &context.inputs[0], &views::Needed::by(STATEMENT))?;
    let scratch = context.store.scratch()?;
    failures(config, context, &session, scratch.path())?;
    side(&session, scratch.path(), "rules", &["transition_id", "rule"], RULES)?;

    let schema = extended(&context.transitions_schema()?, "transitions", "label");
    let judged = labels(&schema)?;
    let mut aside = writer(scratch.path(), "judged", &judged)?;
    session.write(&statement, &[], "judged", &judged, &mut aside)?;
    bind(&session, scratch.path(), "judged", judged, aside)?;
    let mut writer = draft.writer("transitions", &schema)?;
    let mut counts = Counts { input: context.transitions_rows(), conserved: true, ..Counts::default() };
    session.each(WIDE, &[], |batch| {
        let batch = crate::contract::conform("transitions", &schema, batch)?;
        let texts = |name: &str| {
            let column = batch.column_by_name(name).map(arrow::array::AsArray::as_string::<i32>);
            column.into_iter().flatten()
        };
        for outcome in texts("outcome") {
            *counts.reasons.entry(outcome.unwrap_or("unknown_direction").to_owned()).or_default() += 1;
        }
        for rule in texts("systematic").flatten() {
            *counts.reasons.entry(format!("rule_{rule}")).or_default() += 1;
        }
        let beyond = batch.column_by_name("beyond_bound").map(arrow::array::AsArray::as_boolean);
        let beyond = beyond.map_or(0, arrow::array::BooleanArray::true_count);
        if beyond > 0 {
            *counts.reasons.entry("beyond_bound".to_owned()).or_default() += beyond as u64;
        }
        Ok(writer.write(&batch)?)
    })?;
    counts.used = draft.finish("transitions", writer)?;
    draft.pass_on(&context.inputs[0], &["removed", "quarantine"]);
    let warnings = warnings(&counts);
    Ok(Outcome { row_table: "transitions", counts, warnings, training: None, reading: None })
}

/// The columns that a label adds, behind the id.
fn labels(schema: &SchemaRef) -> Result<SchemaRef> {
    let added =
        ["transition_id", "delta", "relative_delta", "outcome", "label", "systematic", "beyond_bound"];
    let places: Vec<usize> = added.iter().filter_map(|name| Some(schema.column_with_name(name)?.0)).collect();
    let columns = schema.project(&places);
    let error = |source| finch_core::Error::Arrow { table: "judged".to_owned(), source };
    Ok(Arc::new(columns.map_err(error)?))
}

fn warnings(counts: &Counts) -> Vec<String> {
    let count = |reason: &str| counts.reasons.get(reason).copied().unwrap_or(0);
    let mut warnings = Vec::new();
    if count("unknown_direction") > 0 {
        warnings.push(format!(
            "{} transitions have no label: nobody said whether their score is maximised or minimised (add \
             `score_key` and `direction` to the catalogue)",
            count("unknown_direction")
        ));
    }
    if count("beyond_bound") > 0 {
        warnings.push(format!(
            "{} transitions have a score that is better than their task's bound (column `beyond_bound`): look at the \
             evaluator, or at the bound",
            count("beyond_bound")
        ));
    }
    warnings
}

/// A task that is judged otherwise and that nobody knows is a mistake.
fn check_tasks(config: &Label, context: &Context<'_>) -> Result<()> {
    if config.tasks.is_empty() {
        return Ok(());
    }
    let query = "SELECT task FROM input.tasks ORDER BY task";
    let mut known: Vec<String> = Vec::new();
    context.session(query)?.each(query, &[], |batch| {
        let tasks = arrow::array::AsArray::as_string::<i32>(batch.column(0));
        known.extend(tasks.iter().flatten().map(str::to_owned));
        Ok(())
    })?;
    let unknown = config
        .tasks
        .keys()
        .find(|task| !known.contains(task) && !context.catalog.tasks.contains_key(task.as_str()));
    let Some(task) = unknown else { return Ok(()) };
    let span = config.task_spans.get(task).cloned().unwrap_or(context.stage.span.clone());
    let message = format!("task `{task}` is neither in the logs nor in the catalogue");
    let all = known.iter().chain(context.catalog.tasks.keys());
    let hint = did_you_mean(task, all.map(String::as_str));
    Err(context.pipeline.error(Diagnostic::new(Code::UnknownTask, span, message).with_hint(hint)).into())
}

/// Binds `side.failures`: which candidates failed for no fault of their program's, and by which rule that is known.
fn failures(
    config: &Label,
    context: &Context<'_>,
    session: &crate::sql::Session<'_>,
    folder: &std::path::Path,
) -> Result<()> {
    let own = Rules::new(config.rules.clone());
    let all = own.as_ref().ok().and_then(|own| own.before(Rules::built_in()).ok());
    // The spec was refused if they were wrong.
    let all = all.as_ref().unwrap_or(Rules::built_in());
    let json = |rules| Value::Text(serde_json::to_string(rules).unwrap_or_default());
    let values = [("all", json(all.all())), ("own", json(&config.rules))];
    let wide = context.engine.session(Width::Wide).with_failure_rule();
    views::bind(&wide, Some("input"), &context.inputs[0], &views::Needed::by(FAILURES))?;
    let columns = narrow(&["candidate_id", "rule"]);
    let mut writer = writer(folder, "failures", &columns)?;
    wide.write(FAILURES, &values, "failures", &columns, &mut writer)?;
    bind(session, folder, "failures", columns, writer)
}

/// The failures that are not the program's, by the words of the readers.
const BY_WORD: &str = "CASE \
    WHEN t.child_failure IN ('timeout', 'infrastructure') THEN t.child_failure \
    WHEN t.parent_failure IN ('timeout', 'infrastructure') THEN t.parent_failure \
    END";

/// The statement that judges the transitions of the input; it reads `side.failures`.
fn judged(config: &Label) -> String {
    let rows: Vec<String> = config
        .tasks
        .iter()
        .map(|(task, own)| {
            let bound = own.bound.map_or(NO_BOUND.to_owned(), |bound| format!("{bound:?}"));
            format!("({}, {:?}, {:?}, {bound})", literal(task), own.absolute, own.relative)
        })
        .collect();
    let (absolute, relative) = (config.absolute, config.relative);
    let failures = "LEFT JOIN side.rules r ON r.transition_id = t.transition_id";
    let systematic = format!("coalesce(r.rule, {BY_WORD})");
    if rows.is_empty() {
        let (absolute, relative) = (format!("{absolute:?}"), format!("{relative:?}"));
        return filled(JUDGED, &absolute, &relative, NO_BOUND, &systematic, failures);
    }
    let joins = format!(
        "{failures}\n  LEFT JOIN (VALUES {}) o (task, absolute, relative, bound) ON o.task = t.task",
        rows.join(", ")
    );
    let own = |name: &str, other: f64| format!("coalesce(o.{name}, {other:?})");
    filled(JUDGED, &own("absolute", absolute), &own("relative", relative), "o.bound", &systematic, &joins)
}

const NO_BOUND: &str = "CAST(NULL AS DOUBLE)";

/// The statement that judges the transitions of the input as a label stage without parameters would.
pub(super) fn judged_plainly() -> String {
    let (absolute, relative) = (format!("{:?}", Label::ABSOLUTE), format!("{:?}", Label::RELATIVE));
    filled("input.transitions", &absolute, &relative, NO_BOUND, BY_WORD, "")
}

fn filled(
    transitions: &str,
    absolute: &str,
    relative: &str,
    bound: &str,
    systematic: &str,
    joins: &str,
) -> String {
    let filled = [
        ("{transitions}", transitions),
        ("{absolute}", absolute),
        ("{relative}", relative),
        ("{bound}", bound),
        ("{systematic}", systematic),
        ("{joins}", joins),
    ];
    // Comments go first: a value of several lines would end one in its middle.
    let bare: Vec<&str> = OUTCOME.lines().filter(|line| !line.starts_with("--")).collect();
    filled.iter().fold(bare.join("\n"), |text, (name, value)| text.replace(name, value))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::Contract;
    use crate::sql::Engine;

    /// They were sorted at each join, and did not keep the memory limit.
    #[test]
    fn wide_rows_are_joined_in_their_order() {
        let scratch = tempfile::tempdir().expect("temp dir");
        let engine = Engine::new(2, 2 << 30, scratch.path()).expect("engine");
        let session = engine.merging(Width::Narrow);
        let transitions = Contract::of("transitions").schema(&[]);
        let judged = labels(&extended(&transitions, "transitions", "label")).expect("labels");
        for (schema, name, columns) in [("input", "transitions", transitions), ("side", "judged", judged)] {
            let key = ["transition_id".to_owned()];
            let mut writer = writer(scratch.path(), name, &columns).expect("writer");
            writer.write(&arrow::array::RecordBatch::new_empty(columns.clone())).expect("write");
            let files: Vec<_> = writer
                .finish()
                .expect("finish")
                .files
                .iter()
                .map(|file| scratch.path().join(&file.name))
                .collect();
            session.bind(Some(schema), name, &files, columns, &key).expect("bind");
        }
        let plan = session.explain(WIDE).expect("plan");
        assert!(plan.contains("SortMergeJoinExec") && !plan.contains("SortExec"), "{plan}");
    }
}

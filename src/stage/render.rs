//! `render`: transitions as chat messages, with their tokens counted.
//!
//! Rows stream in key order; texts of one batch are in memory at a time, and rayon spreads the tokenizing.

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int64Type};
use finch_core::answer::assistant_turn;
use finch_core::example::{Example, Message};
use finch_core::manifest::Counts;
use finch_core::scrub::scrub;
use finch_core::template::Template;
use finch_core::tokens::Tokenizer;
use finch_core::{Error as CoreError, Kind};
use rayon::prelude::*;

use super::{Context, Outcome, Removed, tokenizer};
use crate::code::Code;
use crate::contract::{Contract, encode};
use crate::error::Result;
use crate::spec::{OverLength, Render};
use crate::sql::views;
use crate::store::Draft;

/// Transitions and their texts, as rows of parts.
const PARTS: &str = include_str!("../../sql/render.sql");
/// Steps that are rendered together: with their texts they reach 1 MB each.
const STEPS: usize = 128;

/// A transition with its texts.
#[derive(Default)]
struct Step {
    transition_id: String,
    task: String,
    split: Option<String>,
    label: Option<String>,
    outcome: Option<String>,
    weight: Option<f64>,
    system: Option<String>,
    user: Option<String>,
    reasoning: Option<String>,
    response: Option<String>,
}

pub(super) fn run(config: &Render, context: &Context<'_>, draft: &mut Draft) -> Result<Outcome> {
    let template = Template::named(&config.template)
        .ok_or_else(|| context.error(Code::BadValue, format!("no template `{}`", config.template), None))?;
    let file = context.inputs[1].artifact(tokenizer::FILE)?.ok_or_else(|| {
        let reason = format!("stage `{}` makes no tokenizer", config.tokenizer.stage);
        context.error(Code::BadTokenizer, reason, None)
    })?;
    let bytes = std::fs::read(&file).map_err(crate::Error::io("read", &file))?;
    let tokenizer = Tokenizer::from_json(&bytes)?;
    tokenizer.supports(template)?;
    // Later stages need this dataset alone.
    draft.artifact(tokenizer::FILE, &bytes)?;

    let columns = context.transitions_schema()?;
    let or_null = |name: &str| match columns.column_with_name(name) {
        Some(_) => format!("t.{name}"),
        None => "CAST(NULL AS VARCHAR)".to_owned(),
    };
    let weight = match columns.column_with_name("weight") {
        Some(_) => "t.weight",
        None => "CAST(1.0 AS DOUBLE)",
    };
    let query = PARTS
        .replace("{split}", &or_null("split"))
        .replace("{label}", &or_null("label"))
        .replace("{outcome}", &or_null("outcome"))
        .replace("{weight}", weight);
    let schema = Contract::of("examples").schema(&[]);
    let mut writer = draft.writer("examples", &schema)?;
    let mut removed = Vec::new();
    let mut counts = Counts { input: context.transitions_rows(), conserved: true, ..Counts::default() };
    let session = context.engine.looking_up();
    views::bind(&session, Some("input"), &context.inputs[0], &views::Needed::by(&query))?;
    let mut steps: Vec<Step> = Vec::new();
    let mut render_all = |steps: Vec<Step>| -> Result<()> {
        let rendered: Vec<Result<Example, Removed>> = steps
            .into_par_iter()
            .map(|step| render(step, config, template, &tokenizer))
            .collect::<Result<_, CoreError>>()?;
        let mut examples = Vec::new();
        for result in rendered {
            match result {
                Ok(example) => examples.push(example),
                Err(row) if row.code == "over_length" && config.over_length == OverLength::Error => {
                    let reason = format!("transition {}: {}", row.record_id, row.reason);
                    let hint = "raise `max_tokens`, or set `over_length = \"drop\"`";
                    return Err(context.error(Code::OverLength, reason, Some(hint)));
                }
                Err(row) => {
                    *counts.reasons.entry(row.code.to_owned()).or_default() += 1;
                    removed.push(row);
                }
            }
        }
        for batch in encode("examples", &schema, &examples)? {
            writer.write(&batch)?;
        }
        Ok(())
    };
    session.each(&query, &[], |batch| {
        add(batch, &mut steps);
        // The last one may go on in the next batch.
        if steps.len() <= STEPS {
            return Ok(());
        }
        let last = steps.pop();
        render_all(std::mem::replace(&mut steps, last.into_iter().collect()))
    })?;
    render_all(steps)?;
    counts.used = draft.finish("examples", writer)?;
    counts.removed = draft.write_rows("removed", &[], &removed)?;
    if counts.used == 0 && counts.input > 0 && !config.allow_empty {
        let hint = "set `allow_empty = true` if an empty result is fine";
        return Err(context.error(Code::EmptyOutput, "no transition could be rendered", Some(hint)));
    }
    draft.pass_on(&context.inputs[0], &["removed", "quarantine"]);
    Ok(Outcome { row_table: "examples", counts, warnings: vec![], training: None, reading: None })
}

/// Adds the parts of a batch to the steps that they are of; part 0 begins one.
fn add(batch: &RecordBatch, steps: &mut Vec<Step>) {
    let cell = |column: usize, row: usize| {
        let column = batch.column(column).as_string::<i32>();
        column.is_valid(row).then(|| column.value(row).to_owned())
    };
    let weights = batch.column(6).as_primitive::<Float64Type>();
    for (row, part) in batch.column(1).as_primitive::<Int64Type>().values().iter().enumerate() {
        if *part == 0 {
            steps.push(Step {
                transition_id: cell(0, row).unwrap_or_default(),
                task: cell(2, row).unwrap_or_default(),
                split: cell(3, row),
                label: cell(4, row),
                outcome: cell(5, row),
                weight: weights.is_valid(row).then(|| weights.value(row)),
                ..Step::default()
            });
        } else if let Some(step) = steps.last_mut() {
            let text = match part {
                1 => &mut step.system,
                2 => &mut step.user,
                3 => &mut step.reasoning,
                _ => &mut step.response,
            };
            *text = cell(7, row);
        }
    }
}

/// One step as an example, or why it is none.
fn render(
    step: Step,
    config: &Render,
    template: Template,
    tokenizer: &Tokenizer,
) -> Result<Result<Example, Removed>, CoreError> {
    let clean = |text: String| if config.scrub { scrub(&text).into_owned() } else { text };
    let removed = |code, reason: String| {
        let record_id = step.transition_id.clone();
        Ok(Err(Removed { record_id, record_kind: "transition", code, reason }))
    };
    let Some(user) = step.user.map(clean) else {
        return removed("no_prompt", "the log has no prompt for it".to_owned());
    };
    let Some(response) = step.response.map(clean) else {
        return removed("no_response", "the log has no response for it".to_owned());
    };
    let system = step.system.map(clean);
    let reasoning = step.reasoning.map(clean);

    let tokens = |text: Option<&String>| text.map_or(Ok(0), |text| tokenizer.count(text)).map(|n| n as i64);
    let (system_tokens, user_tokens) = (tokens(system.as_ref())?, tokens(Some(&user))?);
    let (reasoning_tokens, response_tokens) = (tokens(reasoning.as_ref())?, tokens(Some(&response))?);
    let assistant = assistant_turn(reasoning.as_deref(), &response);
    let messages: Vec<Message> = system
        .map(|system| Message::new("system", system))
        .into_iter()
        .chain([Message::new("user", user), Message::new("assistant", assistant)])
        .collect();
    let total_tokens = tokenizer.count_pieces(&template.render(&messages))? as i64;
    if total_tokens > config.max_tokens {
        return removed("over_length", format!("{total_tokens} tokens, {} are allowed", config.max_tokens));
    }
    let fields = Kind::Example.fields().text(&step.transition_id);
    let example_id = messages
        .iter()
        .fold(fields, |fields, message| fields.text(&message.role).text(&message.content))
        .finish();
    Ok(Ok(Example {
        example_id: example_id.to_string(),
        transition_id: step.transition_id,
        split: step.split,
        task: step.task,
        messages,
        system_tokens,
        user_tokens,
        reasoning_tokens,
        response_tokens,
        total_tokens,
        weight: step.weight.unwrap_or(1.0),
        desirable: match step.label.as_deref() {
            Some("improved") => Some(true),
            Some("regressed") => Some(false),
            _ => None,
        },
        outcome: step.outcome,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sql::Engine;

    /// A hash join holds its first side, so that must be keys; and a text must pass one join and one sort.
    #[test]
    fn texts_are_streamed_past_keys() {
        let scratch = tempfile::tempdir().expect("temp dir");
        let engine = Engine::new(1, 512 << 20, scratch.path()).expect("engine");
        let session = engine.looking_up();
        for table in ["transitions", "texts"] {
            session.bind_empty(Some("input"), table, Contract::of(table).schema(&[])).expect("bind");
        }
        let query = PARTS.replace("{weight}", "1.0");
        let query = ["{split}", "{label}", "{outcome}"].iter().fold(query, |q, name| q.replace(name, "NULL"));
        let plan = session.explain(&query).expect("plan");
        let lines: Vec<&str> = plan.lines().collect();
        let joins: Vec<usize> = (0..lines.len()).filter(|&line| lines[line].contains("JoinExec")).collect();
        assert!(joins.len() == 1 && lines[joins[0]].contains("HashJoinExec: mode=CollectLeft"), "{plan}");
        // Its first side is the union of the four ids.
        assert!(lines[joins[0] + 1..joins[0] + 3].iter().any(|line| line.contains("UnionExec")), "{plan}");
    }
}

//! What training did to held-out losses, by task and by outcome: before the first step and after the last.
//!
//! Computed from the table `losses` each time, so that a training that is reused is shown like one that ran.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};

use crate::error::{Error, Result};
use crate::sql::views::{self, Needed};
use crate::sql::{Engine, Session, Width};
use crate::store::Dataset;

const STATEMENT: &str = include_str!("../sql/held_out_losses.sql");

/// Memory for a question about scalars.
const MEMORY: u64 = 512 << 20;

/// The held-out loss of a task or an outcome, or of all of them, in nats a token.
#[derive(Clone, Debug, PartialEq)]
pub struct LossOf {
    /// `test` or `validation`.
    pub split: Option<String>,
    /// The task or the outcome; none for all of them.
    pub name: Option<String>,
    /// Examples evaluated.
    pub examples: i64,
    /// Before the first step.
    pub before: f64,
    /// After the last step.
    pub after: f64,
}

/// The held-out losses of a training.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeldOut {
    /// By split and task, then over all.
    pub tasks: Vec<LossOf>,
    /// By split and outcome; empty where nothing labelled the examples.
    pub outcomes: Vec<LossOf>,
}

/// The losses of a training's dataset.
pub fn held_out(dataset: &Dataset) -> Result<HeldOut> {
    let scratch = tempfile::tempdir().map_err(Error::io("create a folder in", std::env::temp_dir()))?;
    let engine = Engine::new(1, MEMORY, scratch.path())?;
    let session = engine.single(Width::Narrow);
    views::bind(&session, Some("input"), dataset, &Needed::by(STATEMENT))?;
    let tasks = losses_by(&session, "task")?;
    // Stores have trainings of a finch that wrote no outcomes.
    let known =
        dataset.table("examples").is_some_and(|table| table.schema.iter().any(|c| c.name == "outcome"));
    let mut outcomes = if known { losses_by(&session, "outcome")? } else { vec![] };
    // The sum over all is there already, and what nobody labelled has no name.
    outcomes.retain(|loss| loss.name.is_some());
    Ok(HeldOut { tasks, outcomes })
}

/// The losses by a column of the examples.
fn losses_by(session: &Session<'_>, column: &str) -> Result<Vec<LossOf>> {
    let mut losses = Vec::new();
    session.each(&STATEMENT.replace("{of}", column), &[], |batch| {
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| {
                Error::Environment(format!("the statement of held-out losses yields no column `{name}`"))
            })
        };
        let (split, name) = (column("split")?.as_string::<i32>(), column("name")?.as_string::<i32>());
        let examples = column("examples")?.as_primitive::<Int64Type>();
        let float = |name: &str| Ok::<_, Error>(column(name)?.as_primitive::<Float64Type>());
        let (before, after) = (float("before")?, float("after")?);
        let text = |column: &arrow::array::StringArray, row: usize| {
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        // Without a single loss there is a row over all, and nothing in it.
        losses.extend((0..batch.num_rows()).filter(|&row| examples.value(row) > 0).map(|row| LossOf {
            split: text(split, row),
            name: text(name, row),
            examples: examples.value(row),
            before: before.value(row),
            after: after.value(row),
        }));
        Ok(())
    })?;
    Ok(losses)
}

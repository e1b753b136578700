//! What training did to held-out losses, by task: before the first step and after the last.
//!
//! Computed from the table `losses` each time, so that a training that is reused is shown like one that ran.

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int64Type};

use crate::error::{Error, Result};
use crate::sql::views::{self, Needed};
use crate::sql::{Engine, Width};
use crate::store::Dataset;

const STATEMENT: &str = include_str!("../sql/held_out_losses.sql");

/// Memory for a question about scalars.
const MEMORY: u64 = 512 << 20;

/// The held-out loss of a task, or of all tasks, in nats a token.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskLoss {
    /// `test` or `validation`.
    pub split: Option<String>,
    /// The task; none for all of them.
    pub task: Option<String>,
    /// Examples evaluated.
    pub examples: i64,
    /// Before the first step.
    pub before: f64,
    /// After the last step.
    pub after: f64,
}

/// The losses of a training's dataset: by split and task, then over all.
pub fn held_out(dataset: &Dataset) -> Result<Vec<TaskLoss>> {
    let scratch = tempfile::tempdir().map_err(Error::io("create a folder in", std::env::temp_dir()))?;
    let engine = Engine::new(1, MEMORY, scratch.path())?;
    let session = engine.single(Width::Narrow);
    views::bind(&session, Some("input"), dataset, &Needed::by(STATEMENT))?;
    let mut losses = Vec::new();
    session.each(STATEMENT, &[], |batch| {
        let column = |name: &str| {
            batch.column_by_name(name).ok_or_else(|| {
                Error::Environment(format!("the statement of held-out losses yields no column `{name}`"))
            })
        };
        let (split, task) = (column("split")?.as_string::<i32>(), column("task")?.as_string::<i32>());
        let examples = column("examples")?.as_primitive::<Int64Type>();
        let float = |name: &str| Ok::<_, Error>(column(name)?.as_primitive::<Float64Type>());
        let (before, after) = (float("before")?, float("after")?);
        let text = |column: &arrow::array::StringArray, row: usize| {
            column.is_valid(row).then(|| column.value(row).to_owned())
        };
        // Without a single loss there is a row over all, and nothing in it.
        losses.extend((0..batch.num_rows()).filter(|&row| examples.value(row) > 0).map(|row| TaskLoss {
            split: text(split, row),
            task: text(task, row),
            examples: examples.value(row),
            before: before.value(row),
            after: after.value(row),
        }));
        Ok(())
    })?;
    Ok(losses)
}

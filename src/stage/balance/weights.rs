//! The weight of each transition that is left: by how many others there are of its kind, or as the spec says.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use arrow::array::AsArray;
use arrow::datatypes::{DataType, Field, Int64Type, Schema, SchemaRef};
use serde::Serialize;

use crate::code::Code;
use crate::error::Result;
use crate::spec::{Balance, Of, Weight};
use crate::sql::Session;
use crate::stage::Context;
use crate::stage::side::side_rows;

/// The columns of the tables aside: what is balanced, and what it is chosen by.
pub(super) static ROWS: LazyLock<SchemaRef> = LazyLock::new(|| {
    let text = ["transition_id", "run_id", "task", "domain", "alias_group", "outcome", "change_cluster"];
    let text = text.map(|name| Field::new(name, DataType::Utf8, false));
    let parts = ["iteration_part", "score_part"].map(|name| Field::new(name, DataType::Int64, false));
    let place = Field::new("place", DataType::Float64, false);
    Arc::new(Schema::new(text.into_iter().chain(parts).chain([place]).collect::<Vec<_>>()))
});

/// What transitions of one kind have in common: its task, domain and alias group are those of its run.
struct Kind {
    values: BTreeMap<Of, String>,
    count: i64,
}

/// A row of `side.weights`.
#[derive(Serialize)]
struct Row {
    /// The run and the outcome.
    kind: String,
    weight: f64,
}

/// Binds `side.weights`: the weight of each run and outcome, so that the mean over all that is left is 1.
pub(super) fn bind(
    config: &Balance,
    context: &Context<'_>,
    session: &Session<'_>,
    folder: &Path,
    left: &str,
) -> Result<()> {
    let mut kinds: Vec<Kind> = Vec::new();
    let query = format!(
        "SELECT run_id, outcome, min(task) AS task, min(domain) AS domain, min(alias_group) AS alias_group, \
         count(*) AS n FROM side.{left} GROUP BY run_id, outcome ORDER BY run_id, outcome"
    );
    session.each(&query, &[], |batch| {
        let cell = |column: usize, row: usize| batch.column(column).as_string::<i32>().value(row).to_owned();
        let counts = batch.column(5).as_primitive::<Int64Type>();
        for row in 0..batch.num_rows() {
            let order = [Of::Run, Of::Outcome, Of::Task, Of::Domain, Of::AliasGroup];
            let values = order.into_iter().enumerate().map(|(column, of)| (of, cell(column, row))).collect();
            kinds.push(Kind { values, count: counts.value(row) });
        }
        Ok(())
    })?;
    let weights = weights(config, &kinds).ok_or_else(|| {
        let hint = "a weight of 0 for all that is there is none; `filter` removes";
        context.error(Code::BadValue, "all that is balanced weighs nothing", Some(hint))
    })?;
    let rows: Vec<Row> = kinds
        .iter()
        .zip(weights)
        .map(|(kind, weight)| Row {
            kind: format!("{} {}", kind.values[&Of::Run], kind.values[&Of::Outcome]),
            weight,
        })
        .collect();
    let columns = Schema::new(vec![
        Field::new("kind", DataType::Utf8, false),
        Field::new("weight", DataType::Float64, false),
    ]);
    side_rows(session, folder, "weights", &Arc::new(columns), &rows)
}

/// The weight of each kind. A power p weighs what there are n of by n^-p: with 0 all transitions weigh the same, with 1
/// all tasks (or domains, or others) do, whatever their size.
///
/// `None` where all weigh nothing: there is no mean to keep.
fn weights(config: &Balance, kinds: &[Kind]) -> Option<Vec<f64>> {
    let mut counts: BTreeMap<(Of, &str), i64> = BTreeMap::new();
    for kind in kinds {
        for (of, value) in &kind.values {
            *counts.entry((*of, value)).or_default() += kind.count;
        }
    }
    let raw = |kind: &Kind| -> f64 {
        let factor = |(of, weight): (&Of, &Weight)| match weight {
            Weight::Power(power) => (counts[&(*of, kind.values[of].as_str())] as f64).powf(-power),
            Weight::Named(named) => named.get(&kind.values[of]).copied().unwrap_or(1.0),
        };
        config.weights.iter().map(factor).product()
    };
    let raw: Vec<f64> = kinds.iter().map(raw).collect();
    let all: i64 = kinds.iter().map(|kind| kind.count).sum();
    let sum: f64 = raw.iter().zip(kinds).map(|(weight, kind)| weight * kind.count as f64).sum();
    if kinds.is_empty() {
        return Some(vec![]);
    }
    let scale = (sum > 0.0).then(|| all as f64 / sum)?;
    // To six digits, because powers differ in their last bit between machines, and weights are part of a dataset.
    let rounded = |weight: &f64| format!("{:.5e}", weight * scale).parse().unwrap_or(0.0);
    Some(raw.iter().map(rounded).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Choose, Input};

    fn kind(run: &str, outcome: &str, task: &str, count: i64) -> Kind {
        let values = [
            (Of::Run, run),
            (Of::Outcome, outcome),
            (Of::Task, task),
            (Of::Domain, "d"),
            (Of::AliasGroup, task),
        ];
        Kind { values: values.map(|(of, value)| (of, value.to_owned())).into(), count }
    }

    fn config(weights: impl Into<BTreeMap<Of, Weight>>) -> Balance {
        let input = Input { stage: "x".to_owned(), span: 0..0 };
        Balance { input, caps: BTreeMap::new(), weights: weights.into(), choose: Choose::Spread }
    }

    #[test]
    fn a_power_of_one_gives_every_task_the_same_total_and_the_mean_stays_one() {
        let kinds = [kind("a", "improvement", "large", 90), kind("b", "improvement", "small", 10)];
        let check = |power: f64, expected: [f64; 2]| {
            let weights = weights(&config([(Of::Task, Weight::Power(power))]), &kinds);
            assert_eq!(weights.as_deref(), Some(&expected[..]));
        };
        check(0.0, [1.0, 1.0]);
        check(1.0, [0.555_556, 5.0]);
        check(0.5, [0.833_333, 2.5]);
    }

    #[test]
    fn named_weights_multiply_and_what_is_not_named_weighs_one() {
        let kinds = [kind("a", "improvement", "t", 50), kind("a", "self_repair", "t", 50)];
        let named = |value: f64| Weight::Named([("self_repair".to_owned(), value)].into());
        let of = |named: Weight, kinds: &[Kind]| weights(&config([(Of::Outcome, named)]), kinds);
        assert_eq!(of(named(0.5), &kinds), Some(vec![1.333_33, 0.666_667]));
        assert_eq!(of(named(0.0), &kinds), Some(vec![2.0, 0.0]));
        assert_eq!(of(named(0.0), &kinds[1..]), None);
        assert_eq!(of(named(0.0), &[]), Some(vec![]));
        // Small ones are not rounded away.
        let kinds = [kind("a", "improvement", "t", 1_000_000), kind("a", "self_repair", "t", 1)];
        assert_eq!(of(named(1e6), &kinds), Some(vec![0.5, 500_000.0]));
    }
}

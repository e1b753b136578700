//! What each stage did about a transition, a program or a run.

use serde_json::Value;

use super::reader::{Reader, owns};
use super::{Did, Facts, Path, Step};
use crate::error::Result;
use crate::store::{Dataset, StageRecord};

const SPLIT: &str = include_str!("../../sql/show_split.sql");
const PACKED: &str = include_str!("../../sql/show_packed.sql");
const LOSSES: &str = include_str!("../../sql/show_losses.sql");
const COUNTS: &str = include_str!("../../sql/show_counts.sql");
const REMOVED_COUNTS: &str = include_str!("../../sql/show_removed_counts.sql");
const REMOVED: &str = "SELECT code, reason FROM removed WHERE record_id = $id ORDER BY code";
const RENDERED: &str = "SELECT example_id, split, total_tokens, weight, desirable FROM examples \
                        WHERE transition_id = $id ORDER BY example_id";
const MERGED: &str = "SELECT record_id, count(*) OVER () AS total FROM removed \
                      WHERE code = 'duplicate' AND reason = concat('equal to ', $id) ORDER BY record_id LIMIT 20";
const LEAKS: &str = "SELECT kind, other_task, evidence, action FROM leaks WHERE transition_id = $id \
                     ORDER BY kind, evidence LIMIT 20";

/// What became of a transition. `facts` are what the logs say of it.
pub(super) fn of_transition(reader: &Reader<'_>, id: &str, facts: &Facts) -> Result<Path> {
    let mut steps = Vec::new();
    let mut examples: Vec<String> = Vec::new();
    for (stage, dataset) in &reader.stages {
        let mut add = |did, facts| steps.push(step(stage, did, facts));
        let own = |table| owns(dataset, table);
        let rows = |table: &str, statement: &str| reader.rows(&[(dataset, table)], statement, &[("id", id)]);
        if own("transitions") {
            let known = reader.input(stage);
            for mut added in rows("transitions", &added(known, dataset))? {
                added.0.retain(|(name, _)| name != "transition_id");
                if own("removed") && stage.kind == "dedup" {
                    let merged = rows("removed", MERGED)?;
                    let ids: Vec<Value> =
                        merged.iter().filter_map(|row| row.get("record_id").cloned()).collect();
                    if !ids.is_empty() {
                        added.add("stands for", ids);
                    }
                }
                if own("splits") {
                    let (task, run) =
                        (facts.text("task").unwrap_or_default(), facts.text("run_id").unwrap_or_default());
                    let values = [("task", task), ("run", run)];
                    for side in reader.rows(&[(dataset, "splits")], SPLIT, &values)? {
                        added.add("reason", side.get("reason").cloned().unwrap_or_default());
                        added.add("alias_group", side.get("alias_group").cloned().unwrap_or_default());
                    }
                }
                add(if known.is_some() { Did::Kept } else { Did::Read }, added);
            }
        }
        if own("leaks") {
            for leak in rows("leaks", LEAKS)? {
                add(Did::Leaked, leak);
            }
        }
        if own("removed") {
            for row in rows("removed", REMOVED)? {
                add(Did::Removed, row);
            }
        }
        if own("examples") {
            for row in rows("examples", RENDERED)? {
                examples.extend(row.text("example_id").map(str::to_owned));
                add(Did::Rendered, row);
            }
        }
        for example in &examples {
            let rows = |table: &str, statement: &str| {
                reader.rows(&[(dataset, table)], statement, &[("id", example)])
            };
            if own("packs") {
                for row in rows("packs", PACKED)? {
                    add(Did::Packed, row);
                }
            }
            if own("losses") {
                for row in rows("losses", LOSSES)? {
                    if row.get("evaluations").and_then(Value::as_i64).unwrap_or(0) > 0 {
                        add(Did::Evaluated, row);
                    }
                }
            }
        }
    }
    Ok(Path { transition: Some(id.to_owned()), steps })
}

/// How many transitions of a program or a run each stage kept and removed.
pub(super) fn of_many(reader: &Reader<'_>, id: &str) -> Result<Path> {
    let mut steps = Vec::new();
    for (stage, dataset) in &reader.stages {
        let mut facts = Facts::default();
        if owns(dataset, "transitions") {
            for row in reader.rows(&[(dataset, "transitions")], COUNTS, &[("id", id)])? {
                for (name, said) in
                    [("to_it", "transitions to it"), ("from_it", "from it"), ("of_it", "transitions of it")]
                {
                    let count = row.get(name).and_then(Value::as_i64).unwrap_or(0);
                    if count > 0 {
                        facts.add(said, count);
                    }
                }
            }
        }
        if let Some(input) = reader.input(stage).filter(|_| owns(dataset, "removed"))
            && input.table("transitions").is_some()
        {
            let tables = [(dataset, "removed"), (input, "transitions")];
            for row in reader.rows(&tables, REMOVED_COUNTS, &[("id", id)])? {
                let code = row.text("code").unwrap_or_default();
                facts.add(&format!("removed as {code}"), row.get("rows").cloned().unwrap_or_default());
            }
        }
        if owns(dataset, "removed") && reader.input(stage).is_none() {
            for row in reader.rows(&[(dataset, "removed")], REMOVED, &[("id", id)])? {
                steps.push(step(stage, Did::Removed, row));
            }
        }
        if !facts.0.is_empty() {
            steps.push(step(stage, Did::Counted, facts));
        }
    }
    Ok(Path { transition: None, steps })
}

/// The stages that made a thing: whose own table has it.
pub(super) fn makers(reader: &Reader<'_>, table: &str, column: &str, id: &str) -> Result<Path> {
    let mut steps = Vec::new();
    let statement = format!("SELECT {column} FROM {table} WHERE {column} = $id LIMIT 1");
    for (stage, dataset) in reader.stages.iter().filter(|(_, dataset)| owns(dataset, table)) {
        if !reader.rows(&[(dataset, table)], &statement, &[("id", id)])?.is_empty() {
            let did = if stage.inputs.is_empty() { Did::Read } else { Did::Made };
            steps.push(step(stage, did, Facts::default()));
        }
    }
    Ok(Path { transition: None, steps })
}

fn step(stage: &StageRecord, did: Did, facts: Facts) -> Step {
    Step { stage: stage.name.clone(), stage_kind: stage.kind.clone(), did, facts }
}

/// Selects what a stage added to a transition: the columns that its input does not have.
fn added(input: Option<&Dataset>, dataset: &Dataset) -> String {
    let columns = |dataset: &Dataset| -> Vec<String> {
        let table = dataset.table("transitions");
        table.into_iter().flat_map(|table| &table.schema).map(|column| column.name.clone()).collect()
    };
    let known = input.map_or_else(|| columns(dataset), columns);
    let added = columns(dataset).into_iter().filter(|column| !known.contains(column));
    let picked: String = added.map(|column| format!(", \"{}\"", column.replace('"', "\"\""))).collect();
    format!("SELECT transition_id{picked} FROM transitions WHERE transition_id = $id")
}

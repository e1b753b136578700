//! What is told of each kind of thing.

use serde_json::Value;

use super::reader::Reader;
use super::{Facts, History, Kind, Other, Place, Related, SHOWN, steps};
use crate::error::Result;

const RUN: &str = include_str!("../../sql/show_run.sql");
const CANDIDATE: &str = include_str!("../../sql/show_candidate.sql");
const TRANSITION: &str = include_str!("../../sql/show_transition.sql");
const EXAMPLE: &str = include_str!("../../sql/show_example.sql");
const PACK: &str = include_str!("../../sql/show_pack.sql");
const PARENTS: &str = include_str!("../../sql/show_parents.sql");
const CHILDREN: &str = include_str!("../../sql/show_children.sql");
const PROGRAM_CANDIDATES: &str = include_str!("../../sql/show_program_candidates.sql");
const RUN_CANDIDATES: &str = include_str!("../../sql/show_run_candidates.sql");
const TEXT_USES: &str = include_str!("../../sql/show_text_uses.sql");
const PROGRAM: &str = "SELECT language, bytes, lines FROM programs WHERE program_id = $id";
const TEXT: &str = "SELECT octet_length(text) AS bytes FROM texts WHERE text_id = $id";
const FEEDBACK: &str = "SELECT candidate_id AS id, count(*) OVER () AS total FROM candidates WHERE feedback_id = $id \
                        ORDER BY id LIMIT 20";
const ROOT_OF: &str = "SELECT task FROM tasks WHERE initial_program_id = $id ORDER BY task LIMIT 20";

/// Transitions of a candidate whose stages are told; a crossover has few parents.
const PATHS: usize = 5;

/// The columns of a transition that name long texts.
const LONG: [&str; 4] = ["system_prompt", "user_prompt", "reasoning", "response"];

pub(super) fn tell(reader: &Reader<'_>, kind: Kind, id: &str) -> Result<History> {
    let mut history = History {
        kind,
        id: id.to_owned(),
        build: reader.build.build_id.clone(),
        facts: Facts::default(),
        places: vec![],
        related: vec![],
        paths: vec![],
        query: None,
    };
    match kind {
        Kind::Run => run(reader, &mut history)?,
        Kind::Program => program(reader, &mut history)?,
        Kind::Candidate => candidate(reader, &mut history)?,
        Kind::Transition => transition(reader, &mut history)?,
        Kind::Example => example(reader, &mut history)?,
        Kind::Pack => pack(reader, &mut history)?,
        Kind::Text => text(reader, &mut history)?,
    }
    Ok(history)
}

fn run(reader: &Reader<'_>, history: &mut History) -> Result<()> {
    let id = history.id.clone();
    history.facts = first(reader.logged("runs", RUN, &[("id", &id)])?);
    history.places.extend(place(&mut history.facts));
    let candidates = reader.logged("candidates", RUN_CANDIDATES, &[("id", &id)])?;
    history.related.extend(related("candidates", Kind::Candidate, candidates));
    history.paths.push(steps::of_many(reader, &id)?);
    Ok(())
}

fn program(reader: &Reader<'_>, history: &mut History) -> Result<()> {
    let id = history.id.clone();
    history.facts = first(reader.logged("programs", PROGRAM, &[("id", &id)])?);
    for row in reader.logged("tasks", ROOT_OF, &[("id", &id)])? {
        history.facts.add("initial program of", row.get("task").cloned().unwrap_or_default());
    }
    let mut candidates = reader.logged("candidates", PROGRAM_CANDIDATES, &[("id", &id)])?;
    history.places.extend(candidates.iter_mut().filter_map(place).take(1));
    history.related.extend(related("candidates", Kind::Candidate, candidates));
    history.paths.push(steps::of_many(reader, &id)?);
    history.query = Some(format!("SELECT code FROM programs WHERE program_id = '{id}'"));
    Ok(())
}

fn candidate(reader: &Reader<'_>, history: &mut History) -> Result<()> {
    let id = history.id.clone();
    history.facts = first(reader.logged("candidates", CANDIDATE, &[("id", &id)])?);
    history.places.extend(place(&mut history.facts));
    if let Some(program) = history.facts.text("program_id").map(str::to_owned) {
        let facts = first(reader.logged("programs", PROGRAM, &[("id", &program)])?);
        history.related.extend(one("program", Kind::Program, program, facts));
    }
    if let Some(run) = history.facts.text("run_id").map(str::to_owned) {
        let mut facts = first(reader.logged("runs", RUN, &[("id", &run)])?);
        facts.0.retain(|(name, _)| ["scaffold", "task", "source"].contains(&name.as_str()));
        history.related.extend(one("run", Kind::Run, run, facts));
    }
    if let Some(feedback) = history.facts.text("feedback_id").map(str::to_owned) {
        let facts = first(reader.logged("texts", TEXT, &[("id", &feedback)])?);
        history.related.extend(one("feedback", Kind::Text, feedback, facts));
    }
    history.facts.0.retain(|(name, _)| !["program_id", "run_id", "feedback_id"].contains(&name.as_str()));
    let parents = reader.logged("transitions", PARENTS, &[("id", &id)])?;
    let steps: Vec<String> =
        parents.iter().filter_map(|row| row.text("transition_id").map(str::to_owned)).collect();
    history.related.extend(related("parents", Kind::Candidate, parents));
    let children = reader.logged("transitions", CHILDREN, &[("id", &id)])?;
    history.related.extend(related("children", Kind::Candidate, children));
    for transition in steps.iter().take(PATHS) {
        let facts = first(reader.logged("transitions", TRANSITION, &[("id", transition)])?);
        history.paths.push(steps::of_transition(reader, transition, &facts)?);
    }
    if steps.is_empty() {
        history.paths.push(steps::makers(reader, "candidates", "candidate_id", &id)?);
    }
    history.query = Some(format!(
        "SELECT code FROM candidates JOIN programs USING (program_id) WHERE candidate_id = '{id}'"
    ));
    Ok(())
}

fn transition(reader: &Reader<'_>, history: &mut History) -> Result<()> {
    let id = history.id.clone();
    history.facts = first(reader.logged("transitions", TRANSITION, &[("id", &id)])?);
    history.paths.push(steps::of_transition(reader, &id, &history.facts)?);
    for (role, side) in [("parent", "parent_candidate"), ("child", "child_candidate")] {
        let Some(candidate) = history.facts.take_text(side) else { continue };
        let mut facts = first(reader.logged("candidates", CANDIDATE, &[("id", &candidate)])?);
        let found = place(&mut facts);
        if role == "child" {
            history.places.extend(found);
        }
        let told = ["native_id", "iteration", "score", "valid", "failure"];
        facts.0.retain(|(name, _)| told.contains(&name.as_str()));
        if facts.0.is_empty() {
            facts.add("in the logs", false);
        }
        history.related.extend(one(role, Kind::Candidate, candidate, facts));
    }
    for (role, side) in [("parent's program", "parent_program"), ("child's program", "child_program")] {
        let Some(program) = history.facts.take_text(side) else { continue };
        let facts = first(reader.logged("programs", PROGRAM, &[("id", &program)])?);
        history.related.extend(one(role, Kind::Program, program, facts));
    }
    let mut texts = Vec::new();
    for role in LONG {
        let Some(text) = history.facts.take_text(&format!("{role}_id")) else { continue };
        let facts = first(reader.logged("texts", TEXT, &[("id", &text)])?);
        history.related.extend(one(role, Kind::Text, text, facts));
        texts.push(role);
    }
    if !texts.is_empty() {
        history.query =
            Some(format!("SELECT {} FROM transitions WHERE transition_id = '{id}'", texts.join(", ")));
    }
    Ok(())
}

fn example(reader: &Reader<'_>, history: &mut History) -> Result<()> {
    let id = history.id.clone();
    history.facts = first(reader.all("examples", EXAMPLE, &[("id", &id)])?);
    if let Some(transition) = history.facts.take_text("transition_id") {
        let mut facts = first(reader.logged("transitions", TRANSITION, &[("id", &transition)])?);
        history.paths.push(steps::of_transition(reader, &transition, &facts)?);
        if let Some(child) = facts.text("child_candidate").map(str::to_owned) {
            let mut candidate = first(reader.logged("candidates", CANDIDATE, &[("id", &child)])?);
            history.places.extend(place(&mut candidate));
        }
        let told =
            ["run_id", "parent_candidate", "child_candidate", "parent_score", "child_score", "operator"];
        facts.0.retain(|(name, _)| told.contains(&name.as_str()));
        history.related.extend(one("transition", Kind::Transition, transition, facts));
    }
    history.query = Some(format!("SELECT messages FROM examples WHERE example_id = '{id}'"));
    Ok(())
}

fn pack(reader: &Reader<'_>, history: &mut History) -> Result<()> {
    let id = history.id.clone();
    history.facts = first(reader.all("packs", PACK, &[("id", &id)])?);
    let list =
        |facts: &Facts, name: &str| facts.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let (ids, tasks) = (list(&history.facts, "example_ids"), list(&history.facts, "tasks"));
    history.facts.0.retain(|(name, _)| !["example_ids", "tasks"].contains(&name.as_str()));
    let total = ids.len() as u64;
    let mut others = Vec::new();
    for (place, example) in ids.iter().enumerate().take(SHOWN) {
        let mut facts = Facts::default();
        facts.add("task", tasks.get(place).cloned().unwrap_or_default());
        others.push(Other { id: example.as_str().unwrap_or_default().to_owned(), facts });
    }
    history.related.push(Related { role: "examples", kind: Kind::Example, total, first: others });
    history.paths.push(steps::makers(reader, "packs", "pack_id", &id)?);
    history.query =
        Some(format!("SELECT input_ids, loss_mask, cu_seqlens FROM packs WHERE pack_id = '{id}'"));
    Ok(())
}

fn text(reader: &Reader<'_>, history: &mut History) -> Result<()> {
    let id = history.id.clone();
    history.facts = first(reader.logged("texts", TEXT, &[("id", &id)])?);
    let uses = reader.logged("transitions", TEXT_USES, &[("id", &id)])?;
    history.related.extend(related("transitions", Kind::Transition, uses));
    let feedback = reader.logged("candidates", FEEDBACK, &[("id", &id)])?;
    history.related.extend(related("feedback of", Kind::Candidate, feedback));
    history.paths.push(steps::makers(reader, "texts", "text_id", &id)?);
    history.query = Some(format!("SELECT text FROM texts WHERE text_id = '{id}'"));
    Ok(())
}

fn first(rows: Vec<Facts>) -> Facts {
    rows.into_iter().next().unwrap_or_default()
}

/// Takes the place in the logs out of a row.
fn place(facts: &mut Facts) -> Option<Place> {
    let offset = facts.get("source_offset").and_then(Value::as_i64);
    facts.0.retain(|(name, _)| name != "source_offset");
    let source = facts.take_text("source")?;
    Some(Place { source, offset, files: vec![] })
}

fn one(role: &'static str, kind: Kind, id: String, facts: Facts) -> Option<Related> {
    Some(Related { role, kind, total: 1, first: vec![Other { id, facts }] })
}

/// Rows with an `id` and a `total` as related things; none without rows.
fn related(role: &'static str, kind: Kind, rows: Vec<Facts>) -> Option<Related> {
    let total = rows.first()?.get("total").and_then(Value::as_u64).unwrap_or(rows.len() as u64);
    let first = rows.into_iter().filter_map(|mut facts| {
        facts.0.retain(|(name, _)| name != "total");
        Some(Other { id: facts.take_text("id")?, facts })
    });
    Some(Related { role, kind, total, first: first.collect() })
}

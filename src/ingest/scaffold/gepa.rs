//! GEPA: the state of a run, a pickle or JSON of the same names.
//!
//! Candidates are numbered and have several components, each a text; a step changes one as a rule. Their scores are
//! those of single validation examples, and the mean of them ranks. A proposal that was not accepted left its scores
//! and not its text. Prompts are not in the state; an adapter that logs its calls to the proposer lets them be found by
//! the text that came out.

use std::collections::HashMap;

use finch_core::{Digest, Kind};
use serde_json::{Map, Value};

use super::pickled::Taker;
use super::read_answer;
use crate::code::Code;
use crate::error::Result;
use crate::ingest::mapping::float;
use crate::ingest::open::{self, MAX_DOCUMENT};
use crate::ingest::pickle;
use crate::ingest::record::{Attempt, FileLog, Quarantined, Record};
use crate::ingest::{LogFile, Scratch, assess, json};

/// The name of the mean over the validation examples.
const SCORE: &str = "val_score";

/// The parts of a state that are read.
const KEYS: [&str; 6] = [
    "program_candidates",
    "parent_program_for_candidate",
    "prog_candidate_val_subscores",
    "prog_candidate_objective_scores",
    "num_metric_calls_by_discovery",
    "full_program_trace",
];

/// Reads one run.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let Some((part, mut state)) = state(file, &mut log)? else { return Ok(log) };
    let list = |state: &mut Map<String, Value>, key: &str| match state.remove(key) {
        Some(Value::Array(items)) => items,
        _ => Vec::new(),
    };
    let [candidates, parents, scores, objectives, calls, trace] = KEYS.map(|key| list(&mut state, key));
    let texts: Vec<String> = candidates.iter().map(whole).collect();
    let mut asked = proposals(file, &mut log)?;
    let found: HashMap<i64, &Value> = trace
        .iter()
        .flat_map(|step| {
            let one = step.get("new_program_idx").and_then(Value::as_i64);
            let several = step.get("new_program_indices").and_then(Value::as_array);
            let several = several.into_iter().flatten().filter_map(Value::as_i64);
            one.into_iter().chain(several).map(move |candidate| (candidate, step))
        })
        .collect();
    for (index, candidate) in candidates.iter().enumerate() {
        let is_text = |components: &&Map<String, Value>| {
            !components.is_empty() && components.values().all(Value::is_string)
        };
        let Some(components) = candidate.as_object().filter(is_text) else {
            let text = candidate.to_string();
            let reason = format!("candidate {index} is no map of components to texts");
            let bad = Quarantined::new(Code::BadRecord, reason, file, index as u64, text.as_bytes());
            log.quarantined.push(bad.in_part(file, part));
            continue;
        };
        let step = found.get(&(index as i64)).copied();
        let of_parents = parents.get(index).and_then(Value::as_array);
        let of_parents: Vec<String> = match of_parents {
            // Nobody descends from what came later.
            Some(ids) => {
                let before = ids.iter().filter_map(Value::as_u64).filter(|id| *id < index as u64);
                before.map(|id| id.to_string()).collect()
            }
            // JSON layouts of 2026 name the parent in the step alone.
            None => step
                .and_then(|step| step.get("selected_program_candidate")?.as_i64())
                .iter()
                .map(i64::to_string)
                .collect(),
        };
        let mut metrics = metrics(scores.get(index), objectives.get(index));
        if let Some(calls) = calls.get(index) {
            metrics.insert("metric_calls".to_owned(), calls.clone());
        }
        let language = if components.contains_key("code") { None } else { Some("text") };
        let digest = Kind::Unit.fields().digest(file.digest.unwrap_or_else(|| Digest::of_bytes(&[])));
        let mut record = Record {
            native_id: index.to_string(),
            parents: of_parents,
            program: Some(scratch.program(&texts[index], language)?),
            iteration: step.and_then(|step| step.get("i")?.as_i64()).or_else(|| (index == 0).then_some(0)),
            failure: assess::failure(&metrics, None, ""),
            metrics,
            part,
            source: file.source_of(part),
            offset: index as u64,
            // A restart begins with the same candidate: what makes it another one is the run that it is in.
            digest: Some(digest.int(index as u64).finish()),
            ..Record::default()
        };
        if let Some(call) =
            components.values().filter_map(Value::as_str).find_map(|text| asked.remove(text.trim()))
        {
            record.user_prompt = scratch.text(&call.prompt)?;
            read_answer(&call.answer, None, &mut record, scratch)?;
        }
        log.records.push(record);
    }
    for (ordinal, step) in trace.iter().enumerate() {
        rejected(step, ordinal, part, file, scratch, &mut log)?;
    }
    unused(asked, &candidates, file, scratch, &mut log)?;
    Ok(log)
}

/// The run's state and the part that holds it: the pickle, else its twin in JSON, else candidates and steps alone.
fn state(file: &LogFile, log: &mut FileLog) -> Result<Option<(u32, Map<String, Value>)>> {
    if let Some(part) = file.part("gepa_state.bin") {
        let bytes = match open::part(file, part, MAX_DOCUMENT)? {
            Ok(bytes) => bytes,
            Err(bad) => {
                log.quarantined.push(bad);
                return Ok(None);
            }
        };
        match pickle::decode(&bytes) {
            Ok(pickle) if pickle.root().get(KEYS[0]).is_some() => {
                let mut taker = Taker::new(bytes.len());
                let known = KEYS.iter().filter_map(|key| Some((*key, pickle.root().get(key)?)));
                let state = known.map(|(key, value)| (key.to_owned(), taker.json(value))).collect();
                if taker.is_spent() {
                    log.quarantined.push(Quarantined::spent(file, &bytes).in_part(file, part));
                    return Ok(None);
                }
                return Ok(Some((part, state)));
            }
            Ok(_) => {
                let reason = "a pickle without GEPA's `program_candidates`";
                let bad = Quarantined::new(Code::BadRecord, reason, file, 0, &bytes);
                log.quarantined.push(bad.in_part(file, part));
            }
            Err(error) => log.quarantined.push(Quarantined::pickle(&error, file, &bytes).in_part(file, part)),
        }
    }
    if let Some(part) = file.part("gepa_state.json")
        && let Some(Value::Object(state)) = open::document(file, part, log)?
    {
        return Ok(Some((part, state)));
    }
    let Some(part) = file.part("candidates.json") else { return Ok(None) };
    let Some(candidates) = open::document(file, part, log)? else { return Ok(None) };
    let mut state = Map::new();
    state.insert(KEYS[0].to_owned(), candidates);
    if let Some(trace) = file.part("run_log.json")
        && let Some(trace) = open::document(file, trace, log)?
    {
        state.insert(KEYS[5].to_owned(), trace);
    }
    Ok(Some((part, state)))
}

/// A candidate as one text: its only component, or all of them under headings, in the order of their names.
fn whole(candidate: &Value) -> String {
    let components = candidate.as_object().map(|components| {
        let mut components: Vec<(&String, &str)> =
            components.iter().filter_map(|(name, text)| Some((name, text.as_str()?))).collect();
        components.sort();
        components
    });
    match components.unwrap_or_default().as_slice() {
        [(_, text)] => (*text).to_owned(),
        several => {
            several.iter().map(|(name, text)| format!("## {name}\n\n{}\n\n", text.trim_end())).collect()
        }
    }
}

/// The mean over the validation examples, and what it is the mean of.
fn metrics(scores: Option<&Value>, objectives: Option<&Value>) -> Map<String, Value> {
    let mut metrics = match objectives {
        Some(Value::Object(objectives)) => objectives.clone(),
        _ => Map::new(),
    };
    let all: Vec<&Value> = match scores {
        Some(Value::Object(scores)) => scores.values().collect(),
        Some(Value::Array(scores)) => scores.iter().collect(),
        _ => return metrics,
    };
    let number = |score: &Value| score.as_bool().map(f64::from).or_else(|| json::number(score));
    let numbers: Vec<f64> = all.into_iter().filter_map(number).collect();
    if !numbers.is_empty() {
        metrics.insert(SCORE.to_owned(), float(numbers.iter().sum::<f64>() / numbers.len() as f64));
    }
    metrics.insert("val_subscores".to_owned(), scores.cloned().unwrap_or_default());
    metrics
}

/// A proposal that was not accepted.
fn rejected(
    step: &Value,
    ordinal: usize,
    part: u32,
    file: &LogFile,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<()> {
    let accepted = ["new_program_idx", "new_program_indices"].iter().any(|key| match step.get(*key) {
        Some(Value::Array(indices)) => !indices.is_empty(),
        Some(value) => !value.is_null(),
        None => false,
    });
    let Some(step) = step.as_object().filter(|_| !accepted) else { return Ok(()) };
    let kept = ["subsample_ids", "subsample_scores", "new_subsample_scores"];
    let scores: Map<String, Value> =
        kept.iter().filter_map(|key| Some(((*key).to_owned(), step.get(*key)?.clone()))).collect();
    let proposed = scores.contains_key("new_subsample_scores");
    let error = if proposed { "not better on its examples" } else { "nothing was proposed" };
    let text = finch_core::manifest::canonical_json(&Value::Object(step.clone()));
    log.attempts.push(Attempt {
        parent: step.get("selected_program_candidate").and_then(Value::as_i64).map(|id| id.to_string()),
        iteration: step.get("i").and_then(Value::as_i64),
        error: Some(error.to_owned()),
        // Since 2026 the text that was proposed is there too.
        response: step.get("proposed_candidate").map_or(Ok(None), |text| scratch.text(&whole(text)))?,
        scores,
        part,
        source: file.source_of(part),
        offset: ordinal as u64,
        digest: Some(Digest::of_bytes(text.as_bytes())),
        ..Attempt::default()
    });
    Ok(())
}

/// A call to the proposer, as adapters log it.
struct Call {
    prompt: String,
    answer: String,
    before: String,
    part: u32,
}

/// Calls to the proposer by the text that came out.
fn proposals(file: &LogFile, log: &mut FileLog) -> Result<HashMap<String, Call>> {
    let mut calls = HashMap::new();
    for (part, of_file) in (0_u32..).zip(&file.parts) {
        if !of_file.within.starts_with("proposer_calls/") {
            continue;
        }
        let Some(Value::Object(call)) = open::document(file, part, log)? else { continue };
        let text = |key: &str| json::text(&call, key).map(str::to_owned);
        let after = call.iter().find(|(key, _)| key.starts_with("new_")).and_then(|(_, text)| text.as_str());
        let before =
            call.iter().find(|(key, _)| key.starts_with("current_")).and_then(|(_, text)| text.as_str());
        if let (Some(after), Some(answer)) = (after, text("llm_response")) {
            let prompt = text("full_prompt").unwrap_or_default();
            let before = before.unwrap_or_default().trim().to_owned();
            calls.insert(after.trim().to_owned(), Call { prompt, answer, before, part });
        }
    }
    Ok(calls)
}

/// Calls whose text became no candidate.
fn unused(
    calls: HashMap<String, Call>,
    candidates: &[Value],
    file: &LogFile,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<()> {
    let mut calls: Vec<Call> = calls.into_values().collect();
    calls.sort_by_key(|call| call.part);
    for call in calls {
        let of = |candidate: &Value| {
            candidate.as_object().is_some_and(|components| {
                components.values().filter_map(Value::as_str).any(|text| text.trim() == call.before)
            })
        };
        log.attempts.push(Attempt {
            parent: candidates.iter().position(of).map(|index| index.to_string()),
            error: Some("the proposal became no candidate".to_owned()),
            response: scratch.text(&call.answer)?,
            part: call.part,
            source: file.source_of(call.part),
            digest: Some(Digest::of_bytes(call.answer.as_bytes())),
            ..Attempt::default()
        });
    }
    Ok(())
}

//! CodeEvolve: the checkpoint of an island, a pickle of every program that was ever made on it.
//!
//! A program that migrates keeps its id, and the island that it comes to forgets its parent; the island that it was
//! found on knows it, if its checkpoint is there. The first programs of an island are made from the initial one, and
//! are stored without a parent: theirs is the initial program of the island. Answers are kept, the chats that they
//! answer are not; of the prompt only the part that evolved is.

use std::collections::HashMap;

use finch_core::Kind;

use super::pickled::Taker;
use super::read_answer;
use crate::code::Code;
use crate::error::Result;
use crate::ingest::assess;
use crate::ingest::mapping::float;
use crate::ingest::open;
use crate::ingest::pickle::{self, Value};
use crate::ingest::record::{Attempt, FileLog, Quarantined, Record};
use crate::ingest::{LogFile, Scratch};

/// The scaffold's own fitness.
const FITNESS: &str = "fitness";

/// Reads one checkpoint.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let Some(bytes) = open::bytes(file, &mut log)? else { return Ok(log) };
    let pickle = match pickle::decode(&bytes) {
        Ok(pickle) => pickle,
        Err(error) => {
            log.quarantined.push(Quarantined::pickle(&error, file, &bytes));
            return Ok(log);
        }
    };
    let root = pickle.root();
    let Some(solutions) = root.get("sol_db").filter(|db| db.attribute("programs").is_some()) else {
        let reason = "a pickle without CodeEvolve's `sol_db`";
        log.quarantined.push(Quarantined::new(Code::BadRecord, reason, file, 0, &bytes));
        return Ok(log);
    };
    let mut taker = Taker::new(bytes.len());
    let prompts = prompts(root.get("prompt_db"), &mut taker);
    let state = root.get("evolve_state");
    let usage = usage(state, &mut taker);
    let island = solutions.attribute("id").and_then(Value::as_i64);
    let programs =
        || solutions.attribute("programs").into_iter().flat_map(Value::entries).map(|(_, item)| item);
    let initial = programs().find(|program| {
        let number = |name| program.attribute(name).and_then(Value::as_i64);
        number("iteration_found") == Some(0)
            && number("island_found") == island
            && is_none(*program, "model_msg")
    });
    let seed = initial.and_then(|program| taker.text(program.attribute("id")));
    for (ordinal, program) in programs().enumerate() {
        if taker.is_spent() {
            break;
        }
        let place = Place { file, ordinal: ordinal as u64 };
        match record(program, island, seed.as_deref(), &mut taker, scratch)? {
            Ok(mut record) => {
                let prompt = taker.text(program.attribute("prompt_id"));
                if let Some(text) = prompt.and_then(|id| prompts.get(&id)) {
                    record.system_prompt = scratch.text(text)?;
                }
                if let Some(used) =
                    record.iteration.and_then(|epoch| usage.get(&epoch)).filter(|_| record.island == island)
                {
                    record.model = used.model.clone();
                    record.prompt_tokens = used.prompt;
                    record.completion_tokens = used.completion;
                }
                log.records.push(place.of(record));
            }
            Err(reason) => {
                let mut bad = Quarantined::file(Code::BadRecord, reason, file);
                bad.offset = place.ordinal;
                log.quarantined.push(bad);
            }
        }
    }
    for error in state.and_then(|state| state.get("errors")).into_iter().flat_map(Value::items) {
        attempt(error, file, &mut taker, scratch, &mut log)?;
    }
    if taker.is_spent() {
        return Ok(FileLog { quarantined: vec![Quarantined::spent(file, &bytes)], ..FileLog::default() });
    }
    Ok(log)
}

struct Place<'a> {
    file: &'a LogFile,
    ordinal: u64,
}

impl Place<'_> {
    fn of(&self, record: Record) -> Record {
        // A later checkpoint repeats the programs of an earlier one, so what a record is comes from what it says.
        let fields = Kind::Unit.fields().text(&record.native_id).text(&format!("{record:?}"));
        Record {
            source: self.file.source.clone(),
            offset: self.ordinal,
            digest: Some(fields.finish()),
            ..record
        }
    }
}

/// A program as a record, or why it is none.
fn record(
    program: Value<'_>,
    island: Option<i64>,
    seed: Option<&str>,
    taker: &mut Taker,
    scratch: &Scratch,
) -> Result<Result<Record, String>> {
    let Some(native_id) = taker.text(program.attribute("id")) else { return Ok(Err("no `id`".to_owned())) };
    let Some(code) = taker.text(program.attribute("code")) else { return Ok(Err("no `code`".to_owned())) };
    let number = |name| program.attribute(name).and_then(Value::as_i64);
    let home = number("island_found");
    let parent = taker.text(program.attribute("parent_id")).or_else(|| {
        // Of the initial population, unless it came from another island, which knows its parent.
        let at_home = home == island && !is_none(program, "model_msg");
        seed.filter(|seed| at_home && *seed != native_id).map(str::to_owned)
    });
    let mut metrics = taker.object(program.attribute("eval_metrics"));
    if let Some(fitness) = program.attribute(FITNESS).and_then(Value::as_f64) {
        metrics.insert(FITNESS.to_owned(), float(fitness));
    }
    let error = taker.text(program.attribute("error")).unwrap_or_default();
    let output = taker.text(program.attribute("output")).unwrap_or_default();
    let returned = number("returncode").map(|code| code == 0);
    let language = taker.text(program.attribute("language"));
    let inspirations = taker.texts(program.attribute("inspiration_ids"));
    let mut record = Record {
        parents: parent.into_iter().collect(),
        program: Some(scratch.program(&code, language.as_deref())?),
        iteration: number("iteration_found"),
        generation: number("generation"),
        island: home,
        failure: assess::failure(&metrics, returned, &format!("{error}\n{output}")),
        metrics,
        feedback: scratch.text(if error.is_empty() { &output } else { &error })?,
        eval_seconds: program
            .attribute("eval_metrics")
            .and_then(|all| all.get("eval_time"))
            .and_then(Value::as_f64)
            .filter(|seconds| seconds.is_finite()),
        inspirations,
        native_id,
        ..Record::default()
    };
    if let Some(answer) = taker.text(program.attribute("model_msg")) {
        read_answer(&answer, None, &mut record, scratch)?;
    }
    Ok(Ok(record))
}

fn is_none(program: Value<'_>, name: &str) -> bool {
    program.attribute(name).is_none_or(Value::is_none)
}

/// An answer whose blocks did not fit its parent.
fn attempt(
    error: Value<'_>,
    file: &LogFile,
    taker: &mut Taker,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<()> {
    let motive = taker.text(error.get("motive")).unwrap_or_default();
    // Prompts evolve too; an answer that was to change a prompt is no proposal of a program.
    if motive.contains("prompt") {
        return Ok(());
    }
    let answer = taker.text(error.get("sol_diff"));
    let parent = error.get("parent_sol").and_then(|parent| parent.attribute("id"));
    let message = taker.text(error.get("error_msg"));
    let fields =
        Kind::Unit.fields().text(answer.as_deref().unwrap_or("")).text(message.as_deref().unwrap_or(""));
    log.attempts.push(Attempt {
        parent: taker.text(parent),
        iteration: error.get("epoch").and_then(Value::as_i64),
        response: scratch.text(answer.as_deref().unwrap_or(""))?,
        error: message.or(Some(motive)),
        source: file.source.clone(),
        digest: Some(fields.finish()),
        ..Attempt::default()
    });
    Ok(())
}

/// The texts of the prompts that evolved, by id.
fn prompts(database: Option<Value<'_>>, taker: &mut Taker) -> HashMap<String, String> {
    let programs = database.and_then(|database| database.attribute("programs"));
    let mut out = HashMap::new();
    for (id, prompt) in programs.into_iter().flat_map(Value::entries) {
        if let (Some(id), Some(text)) = (taker.text(Some(id)), taker.text(prompt.attribute("code"))) {
            out.insert(id, text);
        }
    }
    out
}

/// What an epoch's program cost.
struct Usage {
    model: Option<String>,
    prompt: Option<i64>,
    completion: Option<i64>,
}

fn usage(state: Option<Value<'_>>, taker: &mut Taker) -> HashMap<i64, Usage> {
    let all = state.and_then(|state| state.get("tok_usage"));
    let mut out = HashMap::new();
    for used in all.into_iter().flat_map(Value::items) {
        if taker.text(used.get("motive")).as_deref() != Some("generate_prog") {
            continue;
        }
        let Some(epoch) = used.get("epoch").and_then(Value::as_i64) else { continue };
        let count = |name| used.get(name).and_then(Value::as_i64);
        let model = taker.text(used.get("model_name"));
        out.insert(epoch, Usage { model, prompt: count("prompt_tok"), completion: count("compl_tok") });
    }
    out
}

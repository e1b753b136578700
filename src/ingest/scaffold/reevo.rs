//! ReEvo: a working folder with one text file for each answer, and one for what its evaluation printed.
//!
//! The last line that was printed is the objective; a traceback, or no number, is a failure. It is minimised, except
//! where the configuration says that the problem is one of maximising. Parents were drawn at random and never written
//! down; they were in the iteration before. Prompts are lost, but for a sample in a console log.

use std::collections::BTreeMap;

use finch_core::Digest;
use finch_core::Kind;
use serde_json::{Map, Value};

use super::read_answer;
use crate::catalog::Direction;
use crate::error::Result;
use crate::ingest::assess::{self, Failure};
use crate::ingest::config;
use crate::ingest::mapping::{fence, float};
use crate::ingest::open;
use crate::ingest::record::{Attempt, FileLog, Record};
use crate::ingest::{LogFile, Scratch};

/// The scaffold's own fitness.
const OBJECTIVE: &str = "objective";

/// Answers that are listed as possible parents, at most; real iterations have a few dozen.
const MOST_POSSIBLE: usize = 256;

/// The files of one answer, as parts of the log.
#[derive(Default)]
struct Files {
    response: Option<u32>,
    output: Option<u32>,
    code: Option<u32>,
}

/// Reads one folder.
pub(in crate::ingest) fn read(file: &LogFile, scratch: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let direction = direction(file, &mut log)?;
    let mut answers: BTreeMap<(i64, i64), Files> = BTreeMap::new();
    for (part, of_file) in (0_u32..).zip(&file.parts) {
        let Some((iteration, kind, number)) = name(&of_file.within) else { continue };
        let files = answers.entry((iteration, number)).or_default();
        match kind {
            What::Response => files.response = Some(part),
            What::Output => files.output = Some(part),
            What::Code => files.code = Some(part),
        }
    }
    let ids = |iteration: i64| {
        let all = answers.range((iteration, i64::MIN)..=(iteration, i64::MAX));
        all.take(MOST_POSSIBLE).map(|((iteration, number), _)| id(*iteration, *number)).collect::<Vec<_>>()
    };
    for (&(iteration, number), files) in &answers {
        let Some(part) = files.response else { continue };
        let Some(answer) = open::text(file, part, &mut log)? else { continue };
        let code = match files.code {
            Some(code) => open::text(file, code, &mut log)?,
            None => fence(&answer),
        };
        let run = file.digest.unwrap_or_else(|| Digest::of_bytes(&[]));
        let digest = Some(Kind::Unit.fields().digest(run).text(&id(iteration, number)).finish());
        let Some(code) = code.filter(|code| !code.trim().is_empty()) else {
            log.attempts.push(Attempt {
                iteration: Some(iteration),
                error: Some("no program in the answer".to_owned()),
                response: scratch.text(&answer)?,
                part,
                source: file.source_of(part),
                digest,
                ..Attempt::default()
            });
            continue;
        };
        let output = match files.output {
            Some(output) => open::text(file, output, &mut log)?,
            None => None,
        };
        let (objective, failure) = judge(output.as_deref());
        let mut metrics = Map::new();
        metrics.insert(OBJECTIVE.to_owned(), objective.map_or(Value::Null, float));
        let mut record = Record {
            native_id: id(iteration, number),
            program: Some(scratch.program(&code, None)?),
            iteration: Some(iteration),
            generation: Some(iteration),
            metrics,
            failure,
            feedback: scratch.text(output.as_deref().unwrap_or(""))?,
            direction,
            pool: if iteration > 0 { ids(iteration - 1) } else { Vec::new() },
            part,
            source: file.source_of(part),
            digest,
            ..Record::default()
        };
        read_answer(&answer, None, &mut record, scratch)?;
        log.records.push(record);
    }
    Ok(log)
}

fn id(iteration: i64, number: i64) -> String {
    format!("iter{iteration}_response{number}")
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Response,
    Output,
    Code,
}

/// `problem_iter<g>_response<i>.txt`, `problem_iter<g>_stdout<i>.txt` or `…response<i>.txt_stdout.txt`, and
/// `problem_iter<g>_code<i>.py`.
fn name(name: &str) -> Option<(i64, What, i64)> {
    let rest = name.strip_prefix("problem_iter")?;
    let (iteration, rest) = rest.split_once('_')?;
    let kinds = [("response", What::Response), ("stdout", What::Output), ("code", What::Code)];
    let (rest, kind) = kinds.into_iter().find_map(|(word, kind)| Some((rest.strip_prefix(word)?, kind)))?;
    let (number, end) = rest.split_once('.')?;
    let kind = if end.ends_with("_stdout.txt") { What::Output } else { kind };
    Some((iteration.parse().ok()?, kind, number.parse().ok()?))
}

/// The objective that an evaluation printed, and why there is none.
fn judge(output: Option<&str>) -> (Option<f64>, Option<Failure>) {
    let Some(output) = output else { return (None, Some(Failure::NoScore)) };
    let last = output.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or("");
    match last.parse::<f64>() {
        // What a handler printed behind a traceback is no objective.
        Ok(_) if output.contains("Traceback (most recent call last)") => (None, assess::reason(output)),
        Ok(number) => (Some(number), None),
        Err(_) if last.is_empty() => (None, Some(Failure::NoScore)),
        Err(_) => (None, Some(assess::reason(output).unwrap_or(Failure::Error))),
    }
}

/// The direction that the configuration beside the answers names.
fn direction(file: &LogFile, log: &mut FileLog) -> Result<Option<Direction>> {
    for within in [".hydra/config.yaml", "config.yaml"] {
        let Some(part) = file.part(within) else { continue };
        let Some(text) = open::text(file, part, log)? else { continue };
        log.about = config::about(&text);
        let word = text.lines().find_map(|line| line.trim().strip_prefix("obj_type:")).map(str::trim);
        return Ok(match word {
            Some("max") => Some(Direction::Maximize),
            Some("min") => Some(Direction::Minimize),
            _ => None,
        });
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_numberings_of_outputs_are_known() {
        assert_eq!(name("problem_iter2_response13.txt"), Some((2, What::Response, 13)));
        assert_eq!(name("problem_iter2_stdout13.txt"), Some((2, What::Output, 13)));
        assert_eq!(name("problem_iter2_response13.txt_stdout.txt"), Some((2, What::Output, 13)));
        assert_eq!(name("problem_iter2_code13.py"), Some((2, What::Code, 13)));
        assert_eq!(name("problem_iter2_short_term_reflections.txt"), None);
    }

    #[test]
    fn the_last_line_is_the_objective() {
        assert_eq!(judge(Some("[*] Average:\n10.5\n\n")), (Some(10.5), None));
        assert_eq!(judge(Some("Traceback (most recent call last):\nValueError: x")).1, Some(Failure::Error));
        assert_eq!(judge(Some("ModuleNotFoundError: No module named 'x'")).1, Some(Failure::Infrastructure));
        assert_eq!(
            judge(Some("Traceback (most recent call last):\nValueError: x\n0.0")).1,
            Some(Failure::Error)
        );
        assert_eq!(judge(None).1, Some(Failure::NoScore));
    }
}

//! What OpenEvolve printed: the last resort for programs that it evicted before a checkpoint was written.
//!
//! A line names a child, its parent and its metrics, rounded to four digits; never a text. So these are no candidates:
//! they say whose child a candidate is and how an evicted parent scored, where no better record does. Iterations that
//! failed are printed too, and stand nowhere else. Lines of several workers interleave, and the bytes may be of any
//! encoding.

use finch_core::Digest;
use serde_json::{Map, Value};

use crate::error::Result;
use crate::ingest::assess;
use crate::ingest::lines::Lines;
use crate::ingest::mapping::float;
use crate::ingest::record::{Attempt, FileLog, Record};
use crate::ingest::{LogFile, Scratch};

/// Reads one console log.
pub(in crate::ingest) fn read(file: &LogFile, _: &Scratch) -> Result<FileLog> {
    let mut log = FileLog::default();
    let mut lines = match Lines::open(file)? {
        Ok(lines) => lines,
        Err(log) => return Ok(log),
    };
    // The place in `records` of the step whose metrics the next such line holds.
    let mut waiting: Option<usize> = None;
    while let Some(line) = lines.next(&mut log)? {
        let text = String::from_utf8_lossy(line.bytes);
        let Some(said) = Said::of(text.trim_end()) else { continue };
        let (offset, digest) = (line.offset, Some(Digest::of_bytes(line.bytes)));
        match said {
            Said::Step { iteration, child, parent, metrics } => {
                waiting = metrics.is_empty().then_some(log.records.len());
                log.records.push(Record {
                    native_id: child.to_owned(),
                    parents: parent.map(str::to_owned).into_iter().collect(),
                    stub: true,
                    iteration,
                    failure: assess::failure(&metrics, None, ""),
                    metrics,
                    source: file.source.clone(),
                    offset,
                    digest,
                    ..Record::default()
                });
            }
            Said::Metrics(metrics) => {
                let step = waiting.take().and_then(|at| log.records.get_mut(at));
                if let Some(step) = step {
                    step.failure = assess::failure(&metrics, None, "");
                    step.metrics = metrics;
                }
            }
            Said::Failed { iteration, error } => log.attempts.push(Attempt {
                iteration: Some(iteration),
                error: Some(error.to_owned()),
                source: file.source.clone(),
                offset,
                digest,
                ..Attempt::default()
            }),
        }
    }
    // A folder may hold several runs; a log is of the one whose programs it names.
    let beside = log.records.first().map(|record| record.native_id.clone());
    log.attempts.iter_mut().for_each(|attempt| attempt.beside.clone_from(&beside));
    Ok(log)
}

/// What a line says that is worth keeping.
enum Said<'a> {
    Step { iteration: Option<i64>, child: &'a str, parent: Option<&'a str>, metrics: Map<String, Value> },
    Metrics(Map<String, Value>),
    Failed { iteration: i64, error: &'a str },
}

impl<'a> Said<'a> {
    fn of(line: &'a str) -> Option<Self> {
        // <time> - [<module> -] <level> - <words>
        let words = ["INFO - ", "WARNING - ", "ERROR - "];
        let said = words.iter().find_map(|level| line.split_once(level).map(|(_, said)| said))?;
        if let Some(metrics) = said.strip_prefix("Metrics: ") {
            return Some(Self::Metrics(metrics_of(metrics)));
        }
        if let Some(rest) = said.strip_prefix("Evaluated program ") {
            let (child, rest) = rest.split_once(" in ")?;
            let metrics = metrics_of(rest.split_once(": ")?.1);
            return Some(Self::Step { iteration: None, child: id(child)?, parent: None, metrics });
        }
        let rest = said.strip_prefix("Iteration ")?;
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (iteration, rest) = (rest[..digits].parse().ok()?, &rest[digits..]);
        if let Some(error) = rest.strip_prefix(" error: ") {
            return Some(Self::Failed { iteration, error });
        }
        let (child, parent, after) = match rest.strip_prefix(": Program ") {
            Some(rest) => {
                let (child, rest) = rest.split_once(" (parent: ")?;
                let (parent, after) = rest.split_once(')')?;
                (child, parent, after)
            }
            None => {
                let (child, rest) = rest.strip_prefix(": Child ")?.split_once(" from parent ")?;
                let (parent, after) = rest.split_once(' ')?;
                (child, parent, after)
            }
        };
        let metrics = after.split_once("Metrics: ").map_or_else(Map::new, |(_, metrics)| metrics_of(metrics));
        Some(Self::Step { iteration: Some(iteration), child: id(child)?, parent: id(parent), metrics })
    }
}

/// An id without blanks; `None` is what a step without a parent prints.
fn id(text: &str) -> Option<&str> {
    (!text.is_empty() && text != "None" && !text.contains(char::is_whitespace)).then_some(text)
}

/// `name=1.2910, other=-inf`. What is no number stays text.
fn metrics_of(text: &str) -> Map<String, Value> {
    let pairs = text.split(", ").filter_map(|pair| pair.split_once('='));
    let value = |text: &str| match text {
        "True" => Value::from(true),
        "False" => Value::from(false),
        text => text.parse().map_or_else(|_| Value::from(text), float),
    };
    pairs.map(|(name, text)| (name.trim().to_owned(), value(text.trim()))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_both_wordings_are_read() {
        let line = "2025-12-06 11:41:34,763 - openevolve.process_parallel - INFO - Iteration 3: Program a-1 (parent: b-2) \
                    completed in 93.41s";
        let Some(Said::Step { iteration, child, parent, metrics }) = Said::of(line) else { panic!("a step") };
        assert_eq!((iteration, child, parent, metrics.len()), (Some(3), "a-1", Some("b-2"), 0));
        let line =
            "x - INFO - Iteration 31: Child a from parent b in 3.60s. Metrics: points=47.0000, score=-inf";
        let Some(Said::Step { metrics, .. }) = Said::of(line) else { panic!("a step") };
        assert_eq!(Value::Object(metrics), serde_json::json!({"points": 47.0, "score": "-Infinity"}));
    }

    #[test]
    fn failed_iterations_are_told_from_steps() {
        let line = "x - openevolve.process_parallel - WARNING - Iteration 12 error: No valid diffs found in response";
        let Some(Said::Failed { iteration, error }) = Said::of(line) else { panic!("a failure") };
        assert_eq!((iteration, error), (12, "No valid diffs found in response"));
        assert!(Said::of("x - INFO - Iteration 1 started").is_none());
        assert!(Said::of("nothing of it").is_none());
    }
}

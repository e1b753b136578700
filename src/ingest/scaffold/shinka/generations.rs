//! ShinkaEvolve without its database: `gen_<G>` folders, as most public runs are.
//!
//! The parent is the program that the patch was applied to, which `original.*` is up to blanks at the ends of lines:
//! canonical text, so it is found by its digest among the generations before. The prompt is lost. Where evaluations were
//! not published either, a summary that a model wrote of every program still holds its score, to two digits: it is used
//! and marked.

use std::collections::{BTreeMap, HashMap};

use finch_core::{Digest, Kind};
use serde_json::{Map, Value};

use super::super::read_answer;
use crate::error::Result;
use crate::ingest::mapping::{float, seconds};
use crate::ingest::open;
use crate::ingest::record::{Attempt, FileLog, ProgramRef, Record, micros};
use crate::ingest::{LogFile, Scratch, assess, json};

/// Marks a score that is known from the summary of a model alone.
const FROM_SUMMARY: &str = "score_from_summary";

/// The files of a generation, as parts of the log.
#[derive(Default)]
struct Files {
    main: Option<u32>,
    original: Option<u32>,
    metrics: Option<u32>,
    correct: Option<u32>,
    diff_answer: Option<u32>,
    rewrite: Option<u32>,
    /// Metadata and answer of each attempt, in the order of their folders.
    attempts: BTreeMap<String, [Option<u32>; 2]>,
}

/// Reads the generations that are not `known`; the attempts of all.
pub(super) fn read(
    file: &LogFile,
    known: &BTreeMap<i64, (String, Option<ProgramRef>)>,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<()> {
    let generations = generations(file);
    let summary = match file.part("meta_memory.json") {
        Some(part) if known.is_empty() => summary(file, part, log)?,
        _ => HashMap::new(),
    };
    // Programs by their canonical text: the id of the first generation that has each.
    let mut programs: HashMap<Digest, String> = HashMap::new();
    for (&generation, files) in &generations {
        let native_id = format!("gen_{generation}");
        let answers = attempts(file, generation, files, scratch, log)?;
        if let Some((id, program)) = known.get(&generation) {
            if let Some(program) = program {
                programs.entry(program.id).or_insert_with(|| id.clone());
            }
            continue;
        }
        let Some(main) = files.main else { continue };
        let Some(code) = open::text(file, main, log)? else { continue };
        let program = scratch.program(&code, label(&file.parts[main as usize].within))?;
        let original = match files.original {
            Some(part) => open::text(file, part, log)?,
            None => None,
        };
        let parent = original.as_ref().and_then(|text| {
            let id = finch_core::canon::program_id(&finch_core::canon::canonical(text));
            programs.get(&id).cloned()
        });
        let (metrics, correct, error) = evaluation(file, files, summary.get(&generation), log)?;
        let mut record = Record {
            native_id,
            parents: parent.into_iter().collect(),
            program: Some(program),
            iteration: Some(generation),
            generation: Some(generation),
            failure: assess::failure(&metrics, correct, &error),
            feedback: scratch.text(&error)?,
            metrics,
            part: main,
            source: file.source_of(main),
            digest: Some(digest(file, generation, program.raw)),
            ..Record::default()
        };
        answer(file, files, answers, original.as_deref(), &mut record, scratch, log)?;
        programs.entry(program.id).or_insert_with(|| record.native_id.clone());
        log.records.push(record);
    }
    Ok(())
}

/// Generations are counters, so what is one depends on the run: on its first program, which no later one changes.
fn digest(file: &LogFile, generation: i64, raw: Digest) -> Digest {
    let at = file.parts.partition_point(|part| part.within.as_str() < "gen_0/main.");
    let first = file.parts.get(at).filter(|part| part.within.starts_with("gen_0/main."));
    let first = first.and_then(|part| part.digest);
    let fields = Kind::Unit.fields().digest(first.unwrap_or(raw)).text(&generation.to_string());
    fields.digest(raw).finish()
}

fn generations(file: &LogFile) -> BTreeMap<i64, Files> {
    let mut out: BTreeMap<i64, Files> = BTreeMap::new();
    for (part, of_file) in (0_u32..).zip(&file.parts) {
        let Some((folder, rest)) = of_file.within.split_once('/') else { continue };
        let Some(generation) = folder.strip_prefix("gen_").and_then(|g| g.parse().ok()) else { continue };
        let files = out.entry(generation).or_default();
        let name = rest.rsplit('/').next().unwrap_or(rest);
        match rest {
            "results/metrics.json" => files.metrics = Some(part),
            "results/correct.json" => files.correct = Some(part),
            "search_replace.txt" => files.diff_answer = Some(part),
            "rewrite.txt" => files.rewrite = Some(part),
            _ if rest.starts_with("attempts/") => {
                let folder = rest.rsplit_once('/').map_or("", |(folder, _)| folder);
                let at = usize::from(name != "metadata.json");
                files.attempts.entry(folder.to_owned()).or_default()[at] = Some(part);
            }
            // A compiler leaves what it made beside the program.
            _ if name.starts_with("main.")
                && files.main.is_none_or(|main| label(&file.parts[main as usize].within).is_none()) =>
            {
                files.main = Some(part);
            }
            _ if name.starts_with("original.") => files.original = files.original.or(Some(part)),
            _ => {}
        }
    }
    out
}

/// The word that finch has for a language, by the extension of `main.*`.
fn label(path: &str) -> Option<&'static str> {
    Some(match path.rsplit_once('.')?.1 {
        "py" => "python",
        "cpp" | "cc" | "cu" => "cpp",
        "rs" => "rust",
        "lean" => "lean",
        "v" => "coq",
        "jl" => "julia",
        "swift" => "swift",
        "json" => "json",
        "txt" | "md" => "text",
        _ => return None,
    })
}

/// What the evaluation said: metrics, verdict, and the errors in words.
fn evaluation(
    file: &LogFile,
    files: &Files,
    summary: Option<&Summary>,
    log: &mut FileLog,
) -> Result<(Map<String, Value>, Option<bool>, String)> {
    let mut metrics = Map::new();
    let mut errors = Vec::new();
    if let Some(mut all) = object(file, files.metrics, log)? {
        // Public metrics are the task's own and keep their names; the scaffold's words go beside them.
        if let Some(Value::Object(public)) = all.remove("public") {
            metrics.extend(public);
        }
        if let Some(Value::Array(all)) = all.get("all_validation_errors") {
            errors.extend(
                all.iter().filter_map(Value::as_str).filter(|error| !error.is_empty()).map(str::to_owned),
            );
        }
        metrics.extend(all.into_iter().filter(|(_, value)| !value.is_null()));
    }
    let mut correct = None;
    if let Some(verdict) = object(file, files.correct, log)? {
        correct = verdict.get("correct").and_then(Value::as_bool);
        errors.extend(json::text(&verdict, "error").filter(|error| !error.is_empty()).map(str::to_owned));
    }
    if let Some(summary) = summary.filter(|_| metrics.is_empty()) {
        if let Some(score) = summary.score {
            metrics.insert(assess::FITNESS.to_owned(), float(score));
            metrics.insert(FROM_SUMMARY.to_owned(), Value::from(true));
        }
        correct = correct.or(summary.correct);
    }
    if let Some(correct) = correct {
        metrics.insert("correct".to_owned(), Value::from(correct));
    }
    Ok((metrics, correct, errors.join("\n")))
}

/// The answer of the attempt that became the program.
struct Answer {
    text: Option<String>,
    model: Option<String>,
    cost: Option<f64>,
    at: Option<i64>,
}

/// Keeps the attempts that failed; what is known of the one that did not.
fn attempts(
    file: &LogFile,
    generation: i64,
    files: &Files,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<Option<Answer>> {
    let mut chosen = None;
    for [metadata, response] in files.attempts.values() {
        let said = object(file, *metadata, log)?.unwrap_or_default();
        let text = match response {
            Some(part) => open::text(file, *part, log)?,
            None => None,
        };
        let at = json::text(&said, "timestamp").and_then(seconds).and_then(micros);
        if said.get("success").and_then(Value::as_bool) == Some(true) {
            let model = json::text(&said, "llm_model").map(str::to_owned);
            chosen = Some(Answer { text, model, cost: json::float(&said, "llm_cost"), at });
            continue;
        }
        let part = metadata.or(*response).unwrap_or(0);
        log.attempts.push(Attempt {
            iteration: Some(generation),
            error: json::text(&said, "error_msg").map(str::to_owned).or_else(|| Some("not kept".to_owned())),
            response: scratch.text(text.as_deref().unwrap_or(""))?,
            part,
            source: file.source_of(part),
            digest: Some(Digest::of_bytes(
                finch_core::manifest::canonical_json(&Value::Object(said)).as_bytes(),
            )),
            ..Attempt::default()
        });
    }
    Ok(chosen)
}

/// The whole answer, where it was kept; of a rewrite often only the program was.
fn answer(
    file: &LogFile,
    files: &Files,
    chosen: Option<Answer>,
    original: Option<&str>,
    record: &mut Record,
    scratch: &Scratch,
    log: &mut FileLog,
) -> Result<()> {
    let mut text = None;
    if let Some(chosen) = chosen {
        record.model = chosen.model;
        record.cost = chosen.cost;
        record.created_at = chosen.at;
        text = chosen.text.filter(|text| !text.trim().is_empty());
    }
    for part in [files.diff_answer, files.rewrite].into_iter().flatten() {
        if text.is_none() {
            text = open::text(file, part, log)?.filter(|text| !text.trim().is_empty());
        }
    }
    let Some(text) = text else { return Ok(()) };
    read_answer(&text, original, record, scratch)?;
    if files.rewrite.is_some() && record.operator == Some("unknown") {
        // The program alone, without the fence that it stood in.
        record.operator = Some("rewrite");
    }
    Ok(())
}

fn object(file: &LogFile, part: Option<u32>, log: &mut FileLog) -> Result<Option<Map<String, Value>>> {
    part.map_or(Ok(None), |part| open::object(file, part, log))
}

/// What a model wrote of a program.
struct Summary {
    score: Option<f64>,
    correct: Option<bool>,
}

/// The paragraphs of the summary by generation. Each ends in a line that says whose it is.
fn summary(file: &LogFile, part: u32, log: &mut FileLog) -> Result<HashMap<i64, Summary>> {
    let Some(memory) = object(file, Some(part), log)? else { return Ok(HashMap::new()) };
    let mut out = HashMap::new();
    let mut paragraph = String::new();
    for line in json::text(&memory, "meta_summary").unwrap_or("").lines() {
        let Some((_, whose)) = line.split_once("**Program Identifier:** Generation ") else {
            paragraph.push_str(line);
            paragraph.push('\n');
            continue;
        };
        let digits = whose.find(|c: char| !c.is_ascii_digit()).unwrap_or(whose.len());
        if let Ok(generation) = whose[..digits].parse() {
            let correct =
                whose.split_once("Correct Program: ").map(|(_, word)| word.trim().starts_with("True"));
            out.insert(generation, Summary { score: score(&paragraph), correct });
        }
        paragraph.clear();
    }
    Ok(out)
}

/// The number after "combined score", within the same sentence.
fn score(paragraph: &str) -> Option<f64> {
    let lower = paragraph.to_lowercase();
    let (_, after) = lower.split_once("combined score").or_else(|| lower.split_once("combined_score"))?;
    let start = after.find(|c: char| c.is_ascii_digit())?;
    let between = &after[..start];
    // A sentence or a line that ends speaks of another number behind it.
    if start > 40 || between.contains(". ") || between.contains('\n') {
        return None;
    }
    let sign = if between.ends_with('-') || between.ends_with('\u{2212}') { -1.0 } else { 1.0 };
    let number = &after[start..];
    let end = number.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number.len());
    number[..end].trim_end_matches('.').parse::<f64>().ok().map(|number| sign * number)
}

#[cfg(test)]
mod tests {
    use super::score;

    #[test]
    fn scores_are_found_in_prose_and_only_in_their_sentence() {
        assert_eq!(score("Achieved a combined score of 2.79, demonstrating"), Some(2.79));
        assert_eq!(score("the combined score of **3.1**."), Some(3.1));
        assert_eq!(score("a Combined Score of -0.5"), Some(-0.5));
        assert_eq!(score("no combined score. It ran 3 times"), None);
        assert_eq!(score("nothing"), None);
    }
}

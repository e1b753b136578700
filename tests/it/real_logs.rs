//! Published logs of other people's searches, where they are at hand: `../shared/logs`, or `FINCH_REAL_LOGS`.
//!
//! They are not part of this repository. Without them the tests say so in one line and pass. What must come out stands
//! beside the logs, made by other programs: a table of programs and links for each folder, and for pickles the id,
//! parent, score and digest of every program.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use finch::ingest::pickle::{self, Value as Pickled};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::project::{Project, repository};

const EVICTED: &str =
    "an evicted program is known by the copy that migrated, and so is whose child another one is";

/// Folders of which finch says something else than the table beside them: programs, links, and why.
const DIFFERENT: [(&str, i64, i64, &str); 7] = [
    ("skydiscover/Forrest-Stone+skydiscover/outputs/adaevolve/circle_packing_0413_1927", 40, 30, EVICTED),
    ("skydiscover/Forrest-Stone+skydiscover/outputs/costada/circle_packing_0429_2057", 66, 60, EVICTED),
    (
        "skydiscover/shubham3-ucb+skydiscover/benchmarks/formal_verification/coq_proof/pigeonhole/outputs",
        25,
        21,
        EVICTED,
    ),
    (
        "codeevolve/inter-co+science-codeevolve/benchmarks/minimizing_max_min_dist/3/experiments/gemini_mp_insp",
        112,
        96,
        "five programs of the first population, stored without a parent, descend from the initial program",
    ),
    (
        "codeevolve/inter-co+science-codeevolve/benchmarks/second_autocorr_ineq/experiments/gemini_mp_insp",
        201,
        185,
        "five such programs on each of two islands",
    ),
    (
        "eoh/FeiLiu36+EoH/examples/aco_pheromone/results",
        9,
        0,
        "populations without samples, which the table leaves out",
    ),
    (
        "eoh/FeiLiu36+EoH/examples/bp_online/results",
        3,
        0,
        "a population without samples, which the table leaves out",
    ),
];

/// Steps whose answer does not give the logged child in any reading, by scaffold, and why.
const INEXACT: [(&str, i64, &str); 3] = [
    ("codeevolve", 2, "blocks that the scaffold matched by similarity"),
    ("openevolve", 3, "a fork that replaced a window which was merely similar"),
    ("shinka", 1, "the answer holds marker text, and the scaffold stored an empty region"),
];

pub(crate) fn shared_logs(what: &str) -> Option<PathBuf> {
    let named = std::env::var_os("FINCH_REAL_LOGS").map(PathBuf::from);
    let logs = named.unwrap_or_else(|| repository().join("../shared/logs"));
    if logs.join("openevolve").is_dir() {
        return Some(logs);
    }
    // Written to the handle: what tests print with a macro is only shown when they fail.
    let line = format!("SKIPPED {what}: no published logs at `{}`; set FINCH_REAL_LOGS\n", logs.display());
    std::io::stderr().write_all(line.as_bytes()).expect("a terminal or a file");
    None
}

/// A project with these logs, ingested.
fn ingested(logs: &Path) -> Project {
    let spec = format!(
        "[pipeline]\nstore = \"store\"\n[stages.logs]\nkind = \"ingest\"\nsources = [{:?}]\n\
         [stages.unique]\nkind = \"dedup\"\ninput = \"logs\"\n[stages.labelled]\nkind = \"label\"\ninput = \"unique\"\n",
        logs.display().to_string()
    );
    let project = Project::new(&spec);
    project.run().ok();
    project
}

/// The table: folder, programs, links.
fn table(logs: &Path) -> Vec<(String, i64, i64)> {
    let text = fs::read_to_string(logs.join("README.md")).expect("the table");
    let rows = text.lines().filter_map(|line| {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, scaffold, repository, run, programs, links, ..] = cells[..] else { return None };
        let run = run.strip_prefix('`')?.strip_suffix('`')?;
        let folder = format!("{scaffold}/{}/{run}", repository.replace('/', "+"));
        Some((folder, programs.parse().ok()?, links.parse().ok()?))
    });
    rows.collect()
}

#[test]
fn counts_of_every_folder_are_those_of_its_table() {
    let Some(logs) = shared_logs("real_logs") else { return };
    let project = ingested(&logs);
    let different: BTreeMap<&str, (i64, i64)> =
        DIFFERENT.iter().map(|(folder, programs, links, _)| (*folder, (*programs, *links))).collect();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (folder, programs, links) in table(&logs) {
        // The trace lies in a folder that has a row of its own, and is compared by itself below.
        let Some(scaffold) = folder.split('/').next().filter(|word| !word.contains("trace")) else {
            continue;
        };
        let (programs, links) = different.get(folder.as_str()).copied().unwrap_or((programs, links));
        let count = |sql: &str| project.value(sql).as_i64().unwrap_or(0);
        let of_folder = format!("starts_with(source, '{folder}')");
        // Answers without a program are counted by the table where it counts responses.
        let attempts = if ["reevo", "funsearch"].contains(&scaffold) { "+ attempts" } else { "" };
        // A migrant's link is one; the copies of Shinka's first program have none.
        let copies = if scaffold == "shinka" { "0" } else { "copies" };
        let found = count(&format!("SELECT sum(candidates + copies {attempts}) FROM runs WHERE {of_folder}"));
        let found = if scaffold == "shinka" {
            // The table counts generations; a database holds copies for islands besides.
            count(&format!("SELECT sum(candidates) FROM runs WHERE {of_folder}"))
        } else {
            found
        };
        // One that is known by its copies alone is in the table as the copy.
        let known_by_copy = count(&format!(
            "SELECT count(*) FROM candidates c JOIN runs r ON r.run_id = c.run_id WHERE c.iteration IS NULL \
             AND cardinality(c.copy_native_ids) > 0 AND starts_with(r.source, '{folder}')"
        ));
        let found = found - known_by_copy;
        let linked = count(&format!(
            "SELECT count(*) FROM transitions t JOIN runs r ON r.run_id = t.run_id \
             WHERE t.parent_program IS NOT NULL AND starts_with(r.source, '{folder}')"
        )) + count(&format!("SELECT sum({copies}) FROM runs WHERE {of_folder}"))
            - known_by_copy;
        if (found, linked) != (programs, links) {
            wrong.push(format!("{folder}: {found} programs and {linked} links, not {programs} and {links}"));
        }
        checked += 1;
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(checked > 60, "the table has {checked} rows");
    project.finch(&["verify", "--store", "store"]).ok();
}

#[test]
fn every_answer_gives_its_child_but_for_a_few_that_are_explained() {
    let Some(logs) = shared_logs("real_logs") else { return };
    let project = ingested(&logs);
    let rows = project.rows(
        "SELECT scaffold, count(*) AS n FROM transitions WHERE replay = 'inexact' GROUP BY scaffold ORDER BY scaffold",
    );
    let expected: Vec<Value> =
        INEXACT.iter().map(|(scaffold, n, _)| json!({"scaffold": scaffold, "n": n})).collect();
    assert_eq!(rows, expected);
    let diffs = |scaffold: &str| {
        project
            .value(&format!("SELECT count(*) FROM transitions WHERE scaffold = '{scaffold}' AND operator = 'diff' AND replay = 'exact'"))
            .as_i64()
    };
    assert_eq!((diffs("openevolve"), diffs("skydiscover")), (Some(162), Some(198)));
}

/// Lines of the golden file for a scaffold, by pickle.
fn golden(logs: &Path, scaffold: &str) -> BTreeMap<String, Vec<Value>> {
    let text = fs::read_to_string(logs.join("golden/pickles.jsonl")).expect("golden lines");
    let mut out: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for line in text.lines() {
        // The fitness of a failed program may be a bare NaN.
        let line: Value = serde_json::from_str(&line.replace(": NaN", ": null")).expect("JSON");
        let file = line["file"].as_str().expect("a file").to_owned();
        if file.starts_with(scaffold) {
            out.entry(file).or_default().push(line);
        }
    }
    out
}

fn sha256(text: &str) -> String {
    Sha256::digest(text.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn pickles_of_codeevolve_hold_what_another_decoder_found() {
    let Some(logs) = shared_logs("real_logs") else { return };
    let project = ingested(&logs.join("codeevolve"));
    let rows = project.rows("SELECT native_id, score, parent_native_ids FROM candidates");
    let known: BTreeMap<&str, &Value> =
        rows.iter().map(|row| (row["native_id"].as_str().expect("id"), row)).collect();
    let mut programs = 0;
    for (file, lines) in golden(&logs, "codeevolve") {
        let bytes = fs::read(logs.join(&file)).expect("a pickle");
        let pickle = pickle::decode(&bytes).expect("decoded");
        for line in lines {
            let id = line["id"].as_str().expect("id");
            let database = pickle.root().get(line["db"].as_str().expect("db")).expect("a database");
            let program = database.attribute("programs").and_then(|all| all.get(id)).expect("the program");
            let text = |name: &str| program.attribute(name).and_then(|value: Pickled<'_>| value.as_text());
            assert_eq!(json!(sha256(&text("code").expect("code"))), line["code_sha256"], "{file} {id}");
            if line["db"] != "sol_db" {
                continue;
            }
            programs += 1;
            let row = known[id];
            if line["returncode"] == json!(0) {
                assert_eq!(row["score"].as_f64(), line["fitness"].as_f64(), "{file} {id}");
            }
            if let Some(parent) = line["parent_id"].as_str() {
                assert_eq!(row["parent_native_ids"], json!([parent]), "{file} {id}");
            }
        }
    }
    assert!(programs >= known.len() && known.len() == 313, "{programs} lines, {} candidates", known.len());
}

#[test]
fn pickles_of_gepa_hold_what_another_decoder_found() {
    let Some(logs) = shared_logs("real_logs") else { return };
    let project = ingested(&logs.join("gepa"));
    let rows = project.rows("SELECT source, native_id, score, parent_native_ids FROM candidates");
    let key = |row: &Value| {
        (
            row["source"].as_str().expect("source").to_owned(),
            row["native_id"].as_str().expect("id").to_owned(),
        )
    };
    let known: BTreeMap<(String, String), &Value> = rows.iter().map(|row| (key(row), row)).collect();
    let mut candidates = 0;
    for (file, lines) in golden(&logs, "gepa") {
        let bytes = fs::read(logs.join(&file)).expect("a pickle");
        let pickle = pickle::decode(&bytes).expect("decoded");
        let texts: Vec<Pickled<'_>> =
            pickle.root().get("program_candidates").expect("candidates").items().collect();
        for line in lines {
            candidates += 1;
            let index = line["idx"].as_u64().expect("a number");
            for (name, digest) in line["components"].as_object().expect("components") {
                let text = texts[index as usize].get(name).and_then(Pickled::as_text).expect("text");
                assert_eq!(json!(sha256(&text)), *digest, "{file} {index} {name}");
            }
            let source = file.strip_prefix("gepa/").expect("a path").to_owned();
            let row = known[&(source, index.to_string())];
            let (ours, theirs) =
                (row["score"].as_f64().expect("score"), line["val_mean"].as_f64().expect("mean"));
            assert!(
                (ours - theirs).abs() <= 1e-12 * theirs.abs().max(1.0),
                "{file} {index}: {ours} {theirs}"
            );
            let parents: Vec<String> = line["parents"]
                .as_array()
                .expect("parents")
                .iter()
                .filter_map(Value::as_u64)
                .map(|id| id.to_string())
                .collect();
            assert_eq!(row["parent_native_ids"], json!(parents), "{file} {index}");
        }
    }
    assert_eq!((candidates, known.len()), (92, 92));
}

#[test]
fn a_trace_without_code_is_rebuilt_as_far_as_its_answers_are_clear() {
    let Some(logs) = shared_logs("real_logs") else { return };
    let place = "openevolve/archie-brown3+noema-evolve/examples/bin_packing/runs/phase-c-p1/null-islands-s42";
    let project = |parts: &[&str]| {
        let sources: Vec<String> =
            parts.iter().map(|part| logs.join(place).join(part).display().to_string()).collect();
        let project = Project::new(&format!(
            "[pipeline]\nstore = \"store\"\n[stages.logs]\nkind = \"ingest\"\nmax_quarantined = 0.9\nsources = {sources:?}\n"
        ));
        project.run().ok();
        project
    };
    // Alone, what an answer and its prompt leave open is told and not guessed.
    let alone = project(&["evolution_trace.jsonl"]);
    let rebuilt = alone.rows("SELECT native_id, program_id FROM candidates WHERE rebuilt");
    let all = project(&["evolution_trace.jsonl", "db"]);
    let logged: BTreeMap<String, Value> = all
        .rows("SELECT native_id, program_id FROM candidates WHERE NOT rebuilt")
        .into_iter()
        .map(|row| (row["native_id"].as_str().expect("id").to_owned(), row["program_id"].clone()))
        .collect();
    let wrong: Vec<&Value> = rebuilt
        .iter()
        .filter(|row| {
            logged.get(row["native_id"].as_str().expect("id")).is_some_and(|id| *id != row["program_id"])
        })
        .collect();
    assert!(wrong.is_empty(), "{} rebuilt programs are not the logged ones", wrong.len());
    assert!(rebuilt.len() > 100, "{} of 194 steps", rebuilt.len());
}

//! Every scaffold's logs, in a dozen lines each: what a reader must see, and the traps that real logs hold.
//!
//! Names say the case. Real logs are read by `real_logs`, where they are at hand.

mod archives;
mod folders;
mod mapped;
mod openevolve;
mod pickled;

use serde_json::Value;

use crate::project::Project;

/// Ingests everything in `logs`.
pub(crate) const INGEST: &str = "[pipeline]\nstore = \"store\"\n[stages.logs]\nkind = \"ingest\"\nsources = [\"logs\"]\n\
                                 max_quarantined = 0.9\n";

/// A project with these logs, ingested.
#[track_caller]
fn ingested(files: &[(&str, &[u8])]) -> Project {
    ingested_with("max_quarantined = 0.9", files)
}

/// The same, with a line of the stage instead of its limit on what cannot be read.
#[track_caller]
fn ingested_with(line: &str, files: &[(&str, &[u8])]) -> Project {
    let project = Project::new(&INGEST.replace("max_quarantined = 0.9", line));
    for (name, content) in files {
        project.write(&format!("logs/{name}"), content);
    }
    project.run().ok();
    project.finch(&["verify", "--store", "store"]).ok();
    project
}

/// `id score failure` of each candidate, in the order of ids.
fn candidates(project: &Project) -> Vec<String> {
    let rows = project.rows("SELECT native_id, score, failure FROM candidates ORDER BY native_id");
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    rows.iter()
        .map(|row| format!("{} {} {}", word(&row["native_id"]), word(&row["score"]), word(&row["failure"])))
        .collect()
}

/// `parent -> child` of each step, in the order of children; `?` for a parent that is not in the log.
fn edges(project: &Project) -> Vec<String> {
    let rows = project.rows(
        "SELECT coalesce(p.native_id, '?') AS parent, c.native_id AS child FROM transitions t \
         LEFT JOIN candidates p ON p.candidate_id = t.parent_candidate \
         JOIN candidates c ON c.candidate_id = t.child_candidate ORDER BY c.native_id",
    );
    let word = |value: &Value| value.as_str().expect("text").to_owned();
    rows.iter().map(|row| format!("{} -> {}", word(&row["parent"]), word(&row["child"]))).collect()
}

/// One value of the only run.
fn of_run(project: &Project, column: &str) -> Value {
    project.value(&format!("SELECT {column} FROM runs"))
}

/// Codes of the quarantine.
fn quarantined(project: &Project) -> Vec<String> {
    let rows = project.rows("SELECT code FROM quarantine ORDER BY code, source, source_offset");
    rows.iter().map(|row| row["code"].as_str().expect("a code").to_owned()).collect()
}

//! `query` and `path`: every format, every mistake.

use serde_json::json;

use crate::project::{LABEL, Program, Project};

fn built() -> Project {
    let project = Project::new(LABEL);
    for (n, parent, score) in [(1, None, 1.0), (2, Some(1), 2.0), (3, Some(1), 0.5)] {
        project.program("run", &Program::new(n, parent, score));
    }
    project.run().ok();
    project
}

#[track_caller]
fn check(project: &Project, format: &str, sql: &str, expected: &str) {
    let output = project.finch(&["query", "--store", "store", "--format", format, sql]).ok();
    assert_eq!(output.out, expected);
}

#[test]
fn formats() {
    let project = built();
    let sql = "SELECT outcome, count(*) AS n, NULL AS nothing FROM transitions GROUP BY 1 ORDER BY 1;";
    check(&project, "csv", sql, "outcome,n,nothing\nimprovement,1,\nregression,1,\n");
    check(
        &project,
        "jsonl",
        sql,
        "{\"outcome\":\"improvement\",\"n\":1,\"nothing\":null}\n{\"outcome\":\"regression\",\"n\":1,\"nothing\":null}\n",
    );
    check(
        &project,
        "json",
        sql,
        "[{\"outcome\":\"improvement\",\"n\":1,\"nothing\":null},{\"outcome\":\"regression\",\"n\":1,\"nothing\":null}]\n",
    );
    check(
        &project,
        "markdown",
        sql,
        "| outcome | n | nothing |\n| --- | --- | --- |\n| improvement | 1 |  |\n| regression | 1 |  |\n",
    );
    insta::assert_snapshot!(
        project.finch(&["query", "--store", "store", sql]).ok().out,
        @r"
    +-------------+---+---------+
    | outcome     | n | nothing |
    +-------------+---+---------+
    | improvement | 1 |         |
    | regression  | 1 |         |
    +-------------+---+---------+
    "
    );
    check(&project, "csv", "SELECT outcome FROM transitions WHERE FALSE", "outcome\n");
    check(&project, "json", "SELECT outcome FROM transitions WHERE FALSE", "[]\n");
    check(
        &project,
        "csv",
        "SELECT copy_native_ids FROM candidates WHERE iteration = 1",
        "copy_native_ids\n[]\n",
    );
    project.finch(&["query", "--store", "store", "--format", "parquet", "-o", "out.parquet", sql]).ok();
    let bytes = std::fs::read(project.path("out.parquet")).expect("read");
    assert!(bytes.starts_with(b"PAR1") && bytes.ends_with(b"PAR1"));
}

#[test]
fn every_documented_name_resolves() {
    let project = built();
    for table in [
        "runs",
        "programs",
        "texts",
        "candidates",
        "attempts",
        "transitions",
        "trajectories",
        "tasks",
        "objectives",
        "quarantine",
        "logs.transitions",
        "labelled.transitions",
        "labelled.runs",
        "removed_logs",
    ] {
        project.value(&format!("SELECT count(*) AS n FROM {table}"));
        project.rows(&format!("SELECT * FROM {table} LIMIT 1"));
    }
}

#[test]
fn texts_are_joined_only_where_they_are_named() {
    let project = built();
    let row = &project.rows("SELECT t.system_prompt, t.response FROM transitions t WHERE t.iteration = 2")[0];
    assert_eq!(row["system_prompt"], json!("You improve programs."));
    let plan = |sql: &str| project.finch(&["query", "--store", "store", "--explain", sql]).ok().out;
    assert!(!plan("SELECT outcome, count(*) FROM transitions GROUP BY 1").contains("texts-00000"));
    assert!(plan("SELECT user_prompt FROM transitions").contains("texts-00000"));
}

#[test]
fn raw_logs_can_be_asked_without_a_store() {
    let project = built();
    let sql = "SELECT count(*) AS n FROM transitions";
    let output = project.finch(&["query", "--logs", "logs", "--format", "csv", sql]).ok();
    assert_eq!(output.out, "n\n2\n");
}

#[test]
fn queries_only_read() {
    let project = built();
    for sql in [
        "DROP TABLE transitions",
        "CREATE TABLE x AS SELECT 1",
        "COPY transitions TO 'stolen.parquet'",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION '/etc/passwd'",
        "INSERT INTO runs SELECT * FROM runs",
        "SET datafusion.execution.target_partitions = 1",
    ] {
        project.finch(&["query", "--store", "store", sql]).fails(2, &["F060"]);
    }
    assert!(!project.path("stolen.parquet").exists());
}

#[test]
fn mistakes_are_explained() {
    let project = built();
    let query = |arguments: &[&str]| project.finch(&[&["query"], arguments].concat());
    query(&["--store", "store", "SELEC 1"]).fails(2, &["F0601"]);
    query(&["--store", "store", "SELECT outcom FROM transitions"]).fails(2, &["F0601", "outcom"]);
    query(&["--store", "store", "SELECT 1 FROM transition"])
        .fails(2, &["F0505", "did you mean `transitions`?"]);
    query(&["--store", "store", ""]).fails(2, &["empty"]);
    query(&["--store", "store"]).fails(2, &["write a query"]);
    query(&["--store", "nowhere", "SELECT 1"]).fails(2, &["F0504", "nowhere"]);
    query(&["SELECT 1"]).fails(2, &["--store"]);
    query(&["--store", "store", "@nosuch"]).fails(2, &["sql/nosuch.sql"]);
}

#[test]
fn paths_are_printed_for_other_tools() {
    let project = built();
    let paths = project.finch(&["path", "--store", "store", "transitions"]).ok().out;
    assert_eq!(paths.lines().count(), 1);
    assert!(paths.trim_end().ends_with("transitions/transitions-00000.parquet"));
    assert!(project.path("store/latest/transitions/transitions-00000.parquet").is_file());
    let logs = project.finch(&["path", "--store", "store", "logs.transitions"]).ok().out;
    assert_ne!(paths, logs);
    project
        .finch(&["path", "--store", "store", "transition"])
        .fails(2, &["F0505", "did you mean `transitions`?"]);
}

#[test]
fn a_reader_that_has_seen_enough_is_no_error() {
    let project = built();
    let binary = env!("CARGO_BIN_EXE_finch");
    let script = format!(
        "set -o pipefail; '{binary}' query --store store --format csv \"SELECT * FROM texts a CROSS JOIN texts b CROSS JOIN texts c CROSS JOIN texts d\" | head -n 1"
    );
    let status =
        std::process::Command::new("bash").arg("-c").arg(script).current_dir(project.root()).status();
    assert!(status.expect("bash runs").success());
}

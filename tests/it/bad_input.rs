//! Hostile and broken input: quarantined with a place and a reason, the rest ingested, the store unharmed.

use std::fs;

use serde_json::{Value, json};

use crate::project::{LABEL, Program, Project, digests, uuid};

/// A project with a good run of three programs and a generous quarantine.
fn project() -> Project {
    let project =
        Project::new(&LABEL.replace("sources = [\"logs\"]", "sources = [\"logs\"]\nmax_quarantined = 0.9"));
    for (n, parent) in [(1, None), (2, Some(1)), (3, Some(2))] {
        project.program("run", &Program::new(n, parent, n as f64));
    }
    project
}

/// Codes and sources of the quarantine.
fn quarantine(project: &Project) -> Vec<(String, String)> {
    let text = |row: &Value, key: &str| row[key].as_str().expect("text").to_owned();
    let rows = project.rows("SELECT code, source FROM quarantine ORDER BY source, source_offset");
    rows.iter().map(|row| (text(row, "code"), text(row, "source"))).collect()
}

/// A broken file beside a good run: its code, and nothing else changes.
#[track_caller]
fn check(name: &str, content: &[u8], code: &str) {
    let project = project();
    project.write(&format!("logs/{name}"), content);
    project.run().ok();
    assert_eq!(quarantine(&project), [(code.to_owned(), name.to_owned())]);
    assert_eq!(project.value("SELECT count(*) FROM candidates"), json!(3));
    project.finch(&["verify", "--store", "store"]).ok();
}

const PROGRAMS: &str = "run/checkpoints/checkpoint_10/programs";

#[test]
fn broken_program_files() {
    let whole = Program::new(9, Some(1), 1.0).json().to_string();
    check(&format!("{PROGRAMS}/cut.json"), &whole.as_bytes()[..whole.len() / 2], "F0311");
    check(&format!("{PROGRAMS}/empty.json"), b"", "F0311");
    check(&format!("{PROGRAMS}/binary.json"), &[0, 159, 146, 150, 0, 255], "F0312");
    check(&format!("{PROGRAMS}/html.json"), b"<html>404</html>", "F0312");
    check(&format!("{PROGRAMS}/list.json"), b"[1, 2, 3]", "F0314");
    check(&format!("{PROGRAMS}/no-code.json"), br#"{"id": "x", "metrics": {}}"#, "F0314");
    check(&format!("{PROGRAMS}/number.json"), br#"{"id": "x", "code": 5, "metrics": {}}"#, "F0314");
    check(&format!("{PROGRAMS}/sky.json"), br#"{"id": "x", "solution": 5, "metrics": {}}"#, "F0314");
    check(&format!("{PROGRAMS}/deep.json"), "[".repeat(200_000).as_bytes(), "F0312");
}

#[test]
fn broken_databases_and_foreign_files() {
    check("shinka/programs.sqlite", b"SQLite format 3\0 and then nothing of the kind", "F0316");
    check(
        "shinka/other.db",
        b"not a database at all, but long enough to be looked at by the library",
        "F0316",
    );
    check("run/calls.jsonl", b"{\"a\": 1}\n", "F0313");
    check("results.json", b"{}", "F0313");
}

#[test]
fn what_is_no_log_is_counted_and_not_quarantined() {
    let project = project();
    project.write("logs/run/README.md", "hello");
    project.write("logs/run/best/best_program_info.json", "{}");
    project.write("logs/run/logs/openevolve.log", b"\xa1\xfa GBK");
    project.run().ok();
    assert_eq!(quarantine(&project), []);
}

#[test]
fn a_trace_with_glued_and_cut_lines_loses_only_what_is_cut() {
    let step = |n: u64| {
        json!({
            "iteration": n, "timestamp": 1.0, "parent_id": uuid(n - 1), "child_id": uuid(n),
            "parent_metrics": {"combined_score": n - 1}, "child_metrics": {"combined_score": n},
            "parent_code": format!("x = {}", n - 1), "child_code": format!("x = {n}"),
            "prompt": {"system": "s", "user": "u"}, "llm_response": "```python\nx\n```", "island_id": 0, "generation": n,
        })
        .to_string()
        // The writer puts `iteration` first; serde_json sorts keys.
        .replacen('{', &format!("{{\"iteration\": {n}, "), 1)
    };
    let (a, b, c, d) = (step(2), step(3), step(4), step(5));
    let cut = &b[..b.len() / 2];
    let project =
        Project::new(&LABEL.replace("sources = [\"logs\"]", "sources = [\"logs\"]\nmax_quarantined = 0.9"));
    let trace = format!("{a}\n\n{cut}{c}\n{d}\nnot json\n").replace("{\"iteration\": ", "{\"iteration\":");
    project.write("logs/run/evolution_trace.jsonl", &trace);
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM transitions"), json!(3));
    let rows = project.rows("SELECT code, source_offset FROM quarantine ORDER BY source_offset");
    let offset = trace.find(&cut.replace("{\"iteration\": ", "{\"iteration\":")).expect("the cut record");
    assert_eq!(
        json!(rows),
        json!([
            {"code": "F0311", "source_offset": offset},
            {"code": "F0312", "source_offset": trace.find("not json").expect("the last line")},
        ])
    );
}

#[test]
fn a_compressed_trace_that_breaks_off_keeps_its_beginning() {
    use std::io::Write;
    let line = |n: u64| {
        let noise: String = (0..400).map(|i| format!("{:x}", (n + 7) * (i + 13) * 2_654_435_761)).collect();
        format!(
            "{{\"iteration\":{n},\"parent_id\":\"{}\",\"child_id\":\"{}\",\"parent_metrics\":{{\"combined_score\":1}},\
             \"child_metrics\":{{\"combined_score\":2}},\"parent_code\":\"a\",\"child_code\":\"{noise}\"}}\n",
            uuid(1),
            uuid(n)
        )
    };
    let text: String = (2..30).map(line).collect();
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(text.as_bytes()).expect("compress");
    let bytes = encoder.finish().expect("compress");
    let project =
        Project::new(&LABEL.replace("sources = [\"logs\"]", "sources = [\"logs\"]\nmax_quarantined = 0.9"));
    project.write("logs/run/evolution_trace.jsonl.gz", &bytes[..bytes.len() / 2]);
    project.run().ok();
    let read = project.value("SELECT count(*) FROM transitions").as_i64().expect("count");
    assert!((5..25).contains(&read), "{read}");
    assert_eq!(project.value("SELECT code FROM quarantine"), json!("F0311"));
}

#[test]
fn non_finite_numbers_and_lone_surrogates_are_survived() {
    let project = project();
    let text = Program::new(4, Some(3), 0.5).json().to_string();
    let text = text
        .replace("{\"combined_score\":0.5}", "{\"combined_score\":-Infinity,\"loss\":NaN}")
        .replace("return 4", "return '\\ud83d'");
    assert!(text.contains("NaN") && text.contains("\\ud83d"));
    project.write(&format!("logs/{PROGRAMS}/odd.json"), text);
    project.run().ok();
    let row = &project.rows("SELECT valid, failure, score, metrics FROM candidates WHERE iteration = 4")[0];
    let metrics = "{\"combined_score\":\"-Infinity\",\"loss\":\"NaN\"}";
    assert_eq!(row, &json!({"valid": false, "failure": "no_score", "score": null, "metrics": metrics}));
}

#[test]
fn too_many_unreadable_records_fail_the_stage_and_name_the_files() {
    let project = project();
    project.write("spec.toml", LABEL);
    project.write(&format!("logs/{PROGRAMS}/cut.json"), "{");
    project.run().fails(1, &["F0303", "1 of 4 records", "cut.json", "max_quarantined"]);
}

#[test]
fn a_failure_harms_nothing_that_is_in_the_store() {
    let project = project();
    project.write("spec.toml", LABEL);
    project.run().ok();
    let before = digests(&project.path("store"));
    project.write(&format!("logs/{PROGRAMS}/cut.json"), "{");
    project.run().fails(1, &["F0303"]);
    fs::remove_file(project.path(&format!("logs/{PROGRAMS}/cut.json"))).expect("remove");
    project.finch(&["verify", "--store", "store"]).ok();
    let again = project.run().ok();
    assert!(again.out.contains("0 of 2 stages computed"), "{}", again.out);
    assert_eq!(before, digests(&project.path("store")));
    let left: Vec<_> = fs::read_dir(project.path("store/tmp")).expect("tmp").collect();
    assert!(left.is_empty(), "{left:?}");
    let builds = project.finch(&["builds", "--store", "store"]).ok().out;
    assert!(builds.contains("failed") && builds.contains("ok"), "{builds}");
}

#[test]
fn links_do_not_lead_out_of_a_source_and_do_not_loop() {
    let project = project();
    std::os::unix::fs::symlink("..", project.path("logs/run/loop")).expect("link");
    std::os::unix::fs::symlink("/etc", project.path("logs/run/out")).expect("link");
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM candidates"), json!(3));
}

#[test]
fn odd_paths_are_read() {
    let project = project();
    let odd = "a b/&~[x]*?/260208_13:33:16/n\u{e9}w\nline";
    for (n, parent) in [(11, None), (12, Some(11))] {
        project.program(odd, &Program::new(n, parent, n as f64));
    }
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM candidates"), json!(5));
    assert_eq!(project.value("SELECT count(*) FROM runs WHERE source LIKE '%13:33:16%'"), json!(1));
}

#[test]
fn a_store_in_an_odd_path_works() {
    let project = Project::new(&LABEL.replace("\"store\"", "\"my [store]* ?/a&b\""));
    project.program("run", &Program::new(1, None, 1.0));
    project.program("run", &Program::new(2, Some(1), 2.0));
    project.run().ok();
    let store = "my [store]* ?/a&b";
    let output = project
        .finch(&["query", "--store", store, "--format", "csv", "SELECT outcome FROM transitions"])
        .ok();
    assert_eq!(output.out, "outcome\nimprovement\n");
}

#[test]
fn ids_in_a_log_cannot_name_files() {
    let project = project();
    let mut evil = Program::new(4, Some(3), 4.0).json();
    evil["id"] = json!("../../../../evil");
    project.write(&format!("logs/{PROGRAMS}/evil.json"), evil.to_string());
    project.write("logs/run/finch.toml", "task = \"../../evil'; DROP TABLE runs; --\"\n");
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM candidates"), json!(4));
    assert!(!project.path("evil").exists() && !project.root().join("../evil").exists());
}

#[test]
fn a_source_without_logs_is_an_error_before_anything_is_written() {
    let project = Project::new(LABEL);
    project.write("logs/readme.txt", "nothing here");
    for command in ["check", "plan", "run"] {
        project
            .finch(&[command, "spec.toml"])
            .fails(2, &["spec.toml:8:12: error F0302", "nothing in `logs`"]);
    }
    assert!(!project.path("store").exists());
}

#[test]
fn a_read_only_store_is_an_environment_error() {
    let project = project();
    project.write("store", "a file where the store should be");
    project.run().fails(3, &["F0501", "store"]);
}

#[test]
fn a_corrupt_manifest_is_an_error_that_names_it() {
    let project = project();
    project.run().ok();
    for entry in fs::read_dir(project.path("store/datasets")).expect("datasets") {
        fs::write(entry.expect("entry").path().join("manifest.json"), "{\"version\": 1").expect("write");
    }
    project.run().fails(1, &["F0502", "manifest.json"]);
    project.finch(&["query", "--store", "store", "SELECT 1"]).fails(1, &["F0502"]);
    let output = project.finch(&["verify", "--store", "store"]);
    assert_eq!(output.code, 1);
    assert!(output.out.contains("corrupt"), "{}", output.out);
}

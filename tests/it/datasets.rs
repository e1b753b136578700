//! Datasets on disk: their schemas are the contracts, their manifests are complete, their reuse is exact.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::project::{Program, Project, digests, repository};

const SPEC: &str = r#"
[pipeline]
store = "store"
seed = 7
tasks = "tasks.toml"

[stages.logs]
kind = "ingest"
sources = ["logs"]

[stages.unique]
kind = "dedup"
input = "logs"

[stages.labelled]
kind = "label"
input = "unique"

[stages.kept]
kind = "filter"
input = "labelled"

[stages.split]
kind = "split"
input = "kept"

[stages.tokens]
kind = "tokenizer"
input = "split"
vocabulary = 280

[stages.sft]
kind = "render"
input = "split"
tokenizer = "tokens"
max_tokens = 10000
over_length = "drop"
"#;

fn project() -> Project {
    let project = Project::new(SPEC);
    project.write("tasks.toml", "[tasks.a]\ndomain = \"A\"\n");
    for n in 1..12 {
        project.program("run", &Program::new(n, (n > 1).then_some(n / 2), (n % 5) as f64));
    }
    project.write("logs/run/finch.toml", "task = \"a\"\n");
    project
}

/// The manifest of a stage in the last build.
fn manifest(project: &Project, stage: &str) -> Value {
    let builds = project.finch(&["builds", "--store", "store", "--json"]).ok().out;
    let builds: Vec<Value> = serde_json::from_str(&builds).expect("JSON");
    let stages = builds.last().expect("a build")["stages"].as_array().expect("stages").clone();
    let stage = stages.into_iter().find(|record| record["name"] == stage).expect("the stage");
    let fingerprint = stage["fingerprint"].as_str().expect("fingerprint").to_owned();
    let path = project.path("store/datasets").join(fingerprint).join("manifest.json");
    serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
}

#[test]
fn published_tables_have_the_columns_of_their_contracts() {
    let project = project();
    project.run().ok();
    let text = fs::read_to_string(repository().join("schemas/tables.toml")).expect("contracts");
    let contracts: BTreeMap<String, toml::Value> = toml::from_str(&text).expect("TOML");
    let mut seen = 0;
    for stage in ["logs", "unique", "labelled", "kept", "split", "sft"] {
        for (name, table) in manifest(&project, stage)["tables"].as_object().expect("tables") {
            let columns = contracts[name]["columns"].as_array().expect("columns");
            let declared: Vec<&str> = columns.iter().filter_map(|column| column[0].as_str()).collect();
            let published: Vec<&str> = table["schema"]
                .as_array()
                .expect("schema")
                .iter()
                .filter_map(|c| c["name"].as_str())
                .collect();
            // Columns that later stages add come after the others, in the contract's order.
            let expected: Vec<&str> =
                declared.iter().copied().filter(|name| published.contains(name)).collect();
            assert_eq!(published, expected, "{stage}.{name}");
            let first_added =
                columns.iter().position(|column| column.as_array().is_some_and(|c| c.len() > 3));
            assert!(published.len() >= first_added.unwrap_or(columns.len()), "{stage}.{name} lacks columns");
            assert_eq!(
                table["key"],
                json!(contracts[name]["key"].as_array().expect("key")),
                "{stage}.{name}"
            );
            seen += 1;
        }
    }
    assert!(seen > 40, "{seen}");
}

#[test]
fn manifests_hold_no_clock_host_or_path() {
    let project = project();
    project.run().ok();
    let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    for stage in ["logs", "kept", "sft"] {
        let text = manifest(&project, stage).to_string();
        let folder = project.root().display().to_string();
        assert!(!text.contains(&folder), "{stage} holds a path");
        assert!(host.trim().len() < 4 || !text.contains(host.trim()), "{stage} holds the host's name");
        for word in ["seconds", "host", "store"] {
            assert!(!text.contains(&format!("\"{word}\"")), "{stage} holds `{word}`");
        }
    }
    let parameters = manifest(&project, "labelled")["parameters"].clone();
    assert_eq!(parameters, json!({"absolute": 0.0, "relative": 1e-9}), "defaults are resolved");
}

#[test]
fn names_comments_and_defaults_change_no_fingerprint() {
    let project = project();
    project.run().ok();
    let spec = SPEC
        .replace("[stages.labelled]", "# a comment\n[stages.judged]\ntolerance = { relative = 1e-9 }")
        .replace("\"labelled\"", "\"judged\"")
        .replace(
            "kind = \"dedup\"\ninput = \"logs\"",
            "input = \"logs\"\nexact = \"canonical\"\nkind = \"dedup\"",
        );
    project.write("spec.toml", spec);
    let again = project.run().ok();
    assert!(again.out.contains("0 of 7 stages computed"), "{}", again.out);
}

#[test]
fn a_changed_parameter_reruns_its_stage_and_what_it_changes() {
    let project = project();
    project.run().ok();
    project.write("spec.toml", SPEC.replace("max_tokens = 10000", "max_tokens = 9000"));
    let plan = project.finch(&["plan", "spec.toml"]).ok().out;
    assert!(plan.contains("`parameter.max_tokens` changed: 10000 -> 9000"), "{plan}");
    assert!(project.run().ok().out.contains("1 of 7 stages computed"));
    // A tolerance that changes no row: the label stage runs, and nothing after it does.
    project.write(
        "spec.toml",
        SPEC.replace("input = \"unique\"", "input = \"unique\"\ntolerance = { relative = 1e-10 }"),
    );
    assert!(project.run().ok().out.contains("1 of 7 stages computed"), "early cutoff");
}

#[test]
fn an_alias_group_in_the_catalogue_re_reads_no_log() {
    let project = project();
    project.run().ok();
    project.write("tasks.toml", "[tasks.a]\ndomain = \"A\"\nalias_group = \"b\"\n");
    let again = project.run().ok();
    assert!(again.err.contains("reuse  logs") && again.err.contains("run    split"), "{}", again.err);
    project.write("tasks.toml", "[tasks.a]\ndomain = \"C\"\nalias_group = \"b\"\n");
    assert!(project.run().ok().err.contains("run    logs"));
}

#[test]
fn the_rows_digest_ignores_where_logs_lie() {
    let project = project();
    project.run().ok();
    let before = digests(&project.path("store"));
    fs::rename(project.path("logs/run"), project.path("logs/another name")).expect("rename");
    let again = project.run().ok();
    assert!(again.out.contains("0 of 7 stages computed"), "{}", again.out);
    assert_eq!(before, digests(&project.path("store")));
}

#[test]
fn removed_rows_and_kept_rows_are_all_rows() {
    let project = project();
    project.run().ok();
    let counts = project.rows(
        "SELECT removed_by IS NULL AS kept, count(*) AS n, count(DISTINCT transition_id) AS ids FROM transitions GROUP BY 1",
    );
    let total: i64 = counts.iter().filter_map(|row| row["n"].as_i64()).sum();
    assert_eq!(json!(total), project.value("SELECT count(*) FROM logs.transitions"));
    assert!(counts.iter().all(|row| row["n"] == row["ids"]));
    let examples = project.value("SELECT count(*) FROM examples");
    assert_eq!(json!(counts.iter().find(|row| row["kept"] == true).expect("kept")["n"]), examples);
}

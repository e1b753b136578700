//! `diff`: every kind of difference between two builds is counted, and nothing else is.

use std::collections::BTreeMap;
use std::fs;

use serde_json::{Value, json};

use crate::project::{Output, Program, Project};
use crate::training::trainable;

const SPEC: &str = r#"
[pipeline]
name = "one"
store = "store"
seed = 1

[stages.logs]
kind = "ingest"
sources = ["logs"]

[stages.labelled]
kind = "label"
input = "logs"

[stages.kept]
kind = "filter"
input = "labelled"
where = "outcome = 'improvement'"

[stages.split]
kind = "split"
input = "kept"
hold_out = { fraction = 0.5 }

[stages.share]
kind = "sql"
inputs = ["split"]
query = "SELECT task, split, count(*) AS steps FROM split.transitions GROUP BY 1, 2"
key = ["task"]
table = "shares"
"#;

const TASKS: u64 = 6;

/// Six tasks, each with a root, two improvements and a regression.
fn built() -> Project {
    let project = Project::new(SPEC);
    for task in 0..TASKS {
        let (run, root) = (format!("r{task}"), task * 10 + 1);
        project.write(&format!("logs/{run}/finch.toml"), format!("task = \"t{task}\"\n"));
        project.program(&run, &Program::new(root, None, 1.0));
        for (n, score) in [(1, 2.0), (2, 0.5), (3, 3.0)] {
            project.program(&run, &Program::new(root + n, Some(root), score));
        }
    }
    project.run().ok();
    project
}

/// Changes the spec and builds again.
fn rebuilt(from: &str, to: &str) -> Project {
    let project = built();
    let spec = SPEC.replace(from, to);
    assert_ne!(spec, SPEC);
    project.write("spec.toml", spec);
    project.run().ok();
    project
}

fn diff(project: &Project, more: &[&str]) -> Output {
    project.finch(&[&["diff", "previous", "latest", "--store", "store"], more].concat())
}

/// What `--json` says, which has the exit code that it should have.
#[track_caller]
fn found(project: &Project) -> Value {
    let output = diff(project, &["--json"]);
    let found: Value = serde_json::from_str(&output.out).expect("JSON");
    assert_eq!(output.code, i32::from(found["differs"] == json!(true)), "{found}");
    found
}

fn stage<'a>(found: &'a Value, name: &str) -> &'a Value {
    let stages = found["stages"].as_array().expect("stages");
    stages.iter().find(|stage| stage["stage"] == name).expect("the stage")
}

/// The tables of a stage that differ: (in, out, changed, moved).
fn tables(stage: &Value) -> BTreeMap<&str, [u64; 4]> {
    let tables = stage["tables"].as_array().expect("tables").iter();
    tables.map(|table| (table["table"].as_str().expect("a name"), numbers(table))).collect()
}

fn numbers(value: &Value) -> [u64; 4] {
    ["in", "out", "changed", "moved"].map(|name| value[name].as_u64().expect("a number"))
}

fn table<'a>(stage: &'a Value, name: &str) -> &'a Value {
    let tables = stage["tables"].as_array().expect("tables");
    tables.iter().find(|table| table["table"] == name).expect("the table")
}

#[test]
fn equal_builds_do_not_differ() {
    let project = built();
    project.run().ok();
    let output = diff(&project, &[]).ok();
    assert!(output.out.contains("= logs, labelled, kept, split, share\nnothing differs"), "{}", output.out);
    let found = found(&project);
    assert_eq!(
        (&found["differs"], &found["added"], &found["removed"]),
        (&json!(false), &json!([]), &json!([]))
    );
    assert_eq!(found["stages"].as_array().expect("stages").len(), 5);
    assert_ne!(found["before"]["build_id"], found["after"]["build_id"]);
    // What is equal is not read: it may even be gone.
    fs::remove_dir_all(project.path("store/datasets")).expect("remove");
    fs::create_dir(project.path("store/datasets")).expect("create");
    diff(&project, &[]).ok();
}

#[test]
fn a_changed_parameter_shows_its_values_and_the_rows_that_it_let_in() {
    let project = rebuilt("outcome = 'improvement'", "outcome IN ('improvement', 'regression')");
    let found = found(&project);
    assert_eq!(stage(&found, "labelled")["differs"], json!(false));
    let kept = stage(&found, "kept");
    assert_eq!(
        kept["parts"],
        json!([{
            "name": "parameter.where",
            "before": "\"outcome = 'improvement'\"",
            "after": "\"outcome IN ('improvement', 'regression')\"",
        }])
    );
    assert_eq!(tables(kept), BTreeMap::from([("transitions", [6, 0, 0, 0]), ("removed", [0, 6, 0, 0])]));
    let transitions = table(kept, "transitions");
    assert_eq!(transitions["rows"], json!({"before": 12, "after": 18}));
    let tasks = transitions["tasks"].as_array().expect("tasks");
    assert_eq!(tasks.len(), 6);
    assert_eq!(tasks[2], json!({"task": "t2", "in": 1, "out": 0, "changed": 0, "moved": 0}));
    let examples = transitions["examples"].as_array().expect("examples");
    assert_eq!(examples.len(), 3);
    for example in examples {
        let id = example["key"]["transition_id"].as_str().expect("an id");
        let row =
            project.value(&format!("SELECT outcome FROM kept.transitions WHERE transition_id = '{id}'"));
        assert_eq!((&example["difference"], row), (&json!("in"), json!("regression")));
    }
    assert!(
        kept["counts"]
            .as_array()
            .expect("counts")
            .contains(&json!({"name": "used", "before": 12, "after": 18})),
        "{kept}"
    );
    // The table that passes through `split` is compared where it was made; its own are compared there.
    let split = stage(&found, "split");
    assert_eq!(tables(split)["transitions"], [6, 0, 0, 0]);
    assert_eq!(split["parts"][0]["name"], json!("input.0"));
    assert_eq!(tables(stage(&found, "share")), BTreeMap::from([("shares", [0, 0, 6, 0])]));
    let words = diff(&project, &[]).out;
    for line in [
        "~ stage kept (filter)",
        "parameter.where: \"outcome = 'improvement'\" -> \"outcome IN ('improvement', 'regression')\"",
        "table transitions: rows 6 in",
        "  task t2: 1 in",
        "= logs, labelled",
    ] {
        assert!(words.contains(line), "`{line}` is not in\n{words}");
    }
}

#[test]
fn a_changed_source_shows_which_rows_came_and_changed_and_not_where_they_lie() {
    let project = built();
    project.program("r0", &Program::new(5, Some(1), 4.0));
    project.program("r1", &Program::new(12, Some(11), 2.5));
    // Nothing but the place of these records changes.
    fs::rename(
        project.path("logs/r2/checkpoints/checkpoint_10"),
        project.path("logs/r2/checkpoints/checkpoint_20"),
    )
    .expect("rename");
    project.run().ok();
    let found = found(&project);
    let logs = stage(&found, "logs");
    assert_eq!(logs["parts"][0]["name"], json!("outside.sources"));
    let all = tables(logs);
    assert_eq!((all["candidates"], all["transitions"]), ([1, 0, 1, 0], [1, 0, 1, 0]));
    assert_eq!((all["programs"], all["runs"]), ([1, 0, 0, 0], [0, 0, 1, 0]));
    assert!(!all.contains_key("tasks"), "{all:?}");
    assert_eq!(
        table(logs, "transitions")["tasks"],
        json!([
            {"task": "t0", "in": 1, "out": 0, "changed": 0, "moved": 0},
            {"task": "t1", "in": 0, "out": 0, "changed": 1, "moved": 0},
        ])
    );
    // What later stages pass on is not repeated.
    assert_eq!(tables(stage(&found, "labelled")).keys().collect::<Vec<_>>(), [&"transitions"]);
    let back = project.finch(&["diff", "latest", "previous", "--store", "store", "--json"]);
    let back: Value = serde_json::from_str(&back.out).expect("JSON");
    assert_eq!(tables(stage(&back, "logs"))["candidates"], [0, 1, 1, 0]);
}

#[test]
fn another_seed_moves_rows_between_splits() {
    let project = built();
    let sides = || -> BTreeMap<String, Value> {
        let rows = project.rows("SELECT task, split FROM splits");
        rows.into_iter()
            .map(|row| (row["task"].as_str().expect("task").to_owned(), row["split"].clone()))
            .collect()
    };
    let before = sides();
    // The first seed that moves anything.
    for seed in 2.. {
        project.write("spec.toml", SPEC.replace("seed = 1", &format!("seed = {seed}")));
        project.run().ok();
        if sides() != before {
            break;
        }
    }
    let after = sides();
    let moved: Vec<&String> = before.keys().filter(|task| before[*task] != after[*task]).collect();
    let first = project.finch(&["builds", "--store", "store", "--json"]).ok().out;
    let first: Value = serde_json::from_str(&first).expect("JSON");
    let first = first[0]["build_id"].as_str().expect("an id");
    let output = project.finch(&["diff", first, "latest", "--store", "store", "--json"]);
    let found: Value = serde_json::from_str(&output.out).expect("JSON");
    let split = stage(&found, "split");
    assert_eq!(split["parts"][0]["name"], json!("pipeline.seed"));
    let transitions = table(split, "transitions");
    assert_eq!(numbers(transitions), [0, 0, 0, 2 * moved.len() as u64], "two rows a task");
    let tasks: Vec<&str> = transitions["tasks"]
        .as_array()
        .expect("tasks")
        .iter()
        .filter_map(|task| task["task"].as_str())
        .collect();
    assert_eq!(tasks, moved);
    for example in transitions["examples"].as_array().expect("examples") {
        assert_eq!(example["difference"], json!("moved"));
        assert_ne!(example["split"]["before"], example["split"]["after"]);
    }
    // The seed is read by the split alone, and its own table of sides says `split` too.
    assert_eq!(stage(&found, "kept")["differs"], json!(false));
    assert_eq!(numbers(table(stage(&found, "share"), "shares")), [0, 0, 0, moved.len() as u64]);
}

#[test]
fn columns_and_keys_that_changed_are_named() {
    let columns = "SELECT task, CAST(count(*) AS DOUBLE) AS steps, max(model) AS \"a \"\"b\" FROM split.transitions GROUP BY 1";
    let project = rebuilt(
        "SELECT task, split, count(*) AS steps FROM split.transitions GROUP BY 1, 2",
        &columns.replace('"', "\\\""),
    );
    let found_columns = found(&project);
    let shares = table(stage(&found_columns, "share"), "shares");
    assert_eq!(
        shares["columns"],
        json!([
            {"name": "split", "before": "utf8?", "after": null},
            {"name": "steps", "before": "int64?", "after": "float64?"},
            {"name": "a \"b", "before": null, "after": "utf8?"},
        ])
    );
    assert_eq!((numbers(shares), &shares["key"]), ([0, 0, 0, 0], &json!(["task"])));
    let words = diff(&project, &[]).out;
    for line in ["  - column split: utf8?", "  ~ column steps: int64? -> float64?", "  + column a \"b: utf8?"]
    {
        assert!(words.contains(line), "`{line}` is not in\n{words}");
    }
}

#[test]
fn under_another_key_all_rows_went_and_came() {
    let project = built();
    let spec = SPEC.replace("key = [\"task\"]", "key = [\"task\", \"split\"]");
    project.write("spec.toml", spec.replace("count(*) AS steps", "1 + count(*) AS steps"));
    project.run().ok();
    let found = found(&project);
    let shares = table(stage(&found, "share"), "shares");
    assert_eq!((numbers(shares), &shares["key"]), ([6, 6, 0, 0], &json!(null)));
    assert_eq!(shares["tasks"][0], json!({"task": "t0", "in": 1, "out": 1, "changed": 0, "moved": 0}));
}

#[test]
fn keys_may_be_null_or_of_several_columns() {
    let query = "SELECT task, split, count(*) AS steps FROM split.transitions GROUP BY 1, 2";
    let odd = |number: u64| {
        format!(
            "SELECT NULLIF(task, 't1') AS \\\"o'dd k\\\", count(*) AS n, {number} + min(iteration) AS m FROM split.transitions GROUP BY 1"
        )
    };
    let project = built();
    let spec =
        |number| SPEC.replace(query, &odd(number)).replace("key = [\"task\"]", "key = [\"o'dd k\", \"n\"]");
    project.write("spec.toml", spec(0));
    project.run().ok();
    project.write("spec.toml", spec(1));
    project.run().ok();
    let found_values = found(&project);
    let shares = table(stage(&found_values, "share"), "shares");
    assert_eq!(numbers(shares), [0, 0, 6, 0], "a null key is a key");
    assert_eq!(shares["tasks"], json!([]));
    assert_eq!(shares["examples"][0]["key"].as_object().expect("a key").len(), 2);
    project.write("spec.toml", spec(1).replace("'t1'", "'t2'"));
    project.run().ok();
    let found = found(&project);
    // t1 has its name back; the null is t2 now, whose `m` is another.
    assert_eq!(numbers(table(stage(&found, "share"), "shares")), [1, 1, 1, 0]);
}

#[test]
fn builds_of_two_pipelines_are_compared_by_the_names_of_stages() {
    let project = built();
    let other = SPEC.replace("name = \"one\"", "name = \"two\"").replace("stages.kept", "stages.good");
    let other = other
        .replace("input = \"kept\"", "input = \"good\"")
        .replace("table = \"shares\"", "table = \"rest\"");
    project.write("other.toml", &other);
    project.finch(&["run", "other.toml"]).ok();
    let found = found(&project);
    assert_eq!((&found["before"]["pipeline"], &found["after"]["pipeline"]), (&json!("one"), &json!("two")));
    let names = |stages: &Value| {
        let stages = stages.as_array().expect("stages").iter();
        stages.map(|stage| (stage["stage"].clone(), stage["rows"].clone())).collect::<Vec<_>>()
    };
    assert_eq!(names(&found["removed"]), [(json!("kept"), json!(12))]);
    assert_eq!(names(&found["added"]), [(json!("good"), json!(12))]);
    let split = stage(&found, "split");
    assert_eq!(split["parts"], json!([{"name": "reads", "before": "kept", "after": "good"}]));
    assert_eq!(tables(split), BTreeMap::new());
    let share = stage(&found, "share");
    assert_eq!(tables(share), BTreeMap::from([("rest", [6, 0, 0, 0]), ("shares", [0, 6, 0, 0])]));
    assert_eq!(table(share, "rest")["rows"], json!({"before": null, "after": 6}));
    // A spec stands for its own pipeline's builds.
    project
        .finch(&["diff", "previous", "latest", "--spec", "other.toml"])
        .fails(2, &["F0504", "none before it"]);
}

#[test]
fn a_stage_that_failed_is_missing_from_its_build() {
    let project = built();
    project.write("spec.toml", SPEC.replace("outcome = 'improvement'", "outcome = 'nothing'"));
    project.run().fails(1, &["F0403"]);
    let builds = project.finch(&["builds", "--store", "store", "--json"]).ok().out;
    let builds: Value = serde_json::from_str(&builds).expect("JSON");
    let failed = builds[1]["build_id"].as_str().expect("an id");
    let output = project.finch(&["diff", "latest", failed, "--store", "store"]);
    assert_eq!(output.code, 1, "{}", output.err);
    assert!(
        output.out.contains("of one, failed\n") && output.out.contains("- stage kept (filter, 12 rows)"),
        "{}",
        output.out
    );
}

#[test]
fn unknown_builds_and_missing_datasets_are_named() {
    let project = rebuilt("outcome = 'improvement'", "outcome = 'regression'");
    let builds = project.finch(&["builds", "--store", "store", "--json"]).ok().out;
    let builds: Value = serde_json::from_str(&builds).expect("JSON");
    let ids = [0, 1].map(|n: usize| builds[n]["build_id"].as_str().expect("an id"));
    let compare = |a: &str, b: &str| project.finch(&["diff", a, b, "--store", "store"]);
    for (a, b) in [(ids[0], ids[1]), (ids[0], "latest"), (&ids[0][..22], &ids[1][..22])] {
        assert_eq!(compare(a, b).code, 1, "{a} {b}");
    }
    compare(ids[1], "latest").ok();
    compare("19990101", "latest").fails(2, &["F0603", "no build `19990101`", ids[1]]);
    compare("", "latest").fails(2, &["F0603", "no build ``"]);
    compare("../../spec", "latest").fails(2, &["F0603", "no build `../../spec`"]);
    compare("latest", "2").fails(2, &["F0603", "2 builds begin with `2`", ids[0], ids[1]]);
    project.finch(&["diff", "latest", "previous"]).fails(2, &["--store"]);
    project.finch(&["diff", "latest", "--store", "store"]).fails(2, &["BUILD"]);
    project.finch(&["diff", "latest", "previous", "--store", "nowhere"]).fails(2, &["F0504"]);

    let old = builds[0]["stages"].as_array().expect("stages").iter().find(|stage| stage["name"] == "kept");
    let fingerprint = old.expect("kept")["fingerprint"].as_str().expect("a digest");
    let folder = project.path("store/datasets").join(fingerprint);
    let manifest = fs::read(folder.join("manifest.json")).expect("manifest");
    fs::write(folder.join("manifest.json"), &manifest[..100]).expect("write");
    compare(ids[0], ids[1]).fails(1, &["F0502", fingerprint]);
    fs::write(folder.join("manifest.json"), manifest).expect("write");
    fs::write(folder.join("transitions/transitions-00000.parquet"), "no Parquet").expect("write");
    compare(ids[0], ids[1]).fails(1, &["F0408", fingerprint]);
    fs::remove_dir_all(folder).expect("remove");
    let words = ["F0503", ids[0], "`kept`", &fingerprint[..12]];
    let output = compare(ids[0], ids[1]).fails(1, &words);
    assert_eq!(output.out, "");
    fs::write(project.path("store/builds").join(format!("{}.json", ids[0])), "{").expect("write");
    compare(ids[0], ids[1]).fails(1, &["F0502", ids[0]]);
}

#[test]
fn trainings_differ_by_weights_and_held_out_losses() {
    let Some(project) = trainable("") else { return };
    project.run().ok();
    let spec = fs::read_to_string(project.path("spec.toml")).expect("spec");
    project.write("spec.toml", spec.replace("lr = 3e-3", "lr = 2e-3"));
    project.run().ok();
    let found = found(&project);
    let model = stage(&found, "model");
    assert_eq!(model["parts"], json!([{"name": "parameter.lr", "before": "0.003", "after": "0.002"}]));
    assert_ne!(model["weights"]["before"], model["weights"]["after"]);
    // Before the first step the two are one model.
    let later = "SELECT count(*) FROM losses WHERE step > 0";
    assert_eq!(
        tables(model),
        BTreeMap::from([("losses", [0, 0, project.value(later).as_u64().expect("rows"), 0])])
    );
    let losses = model["held_out"].as_array().expect("losses");
    let all = losses.last().expect("all tasks");
    assert!(all["task"].is_null() && all["before"] != all["after"], "{all}");
    assert!(diff(&project, &[]).out.contains("held-out loss, all: "));
    project.finch(&["run", "spec.toml", "--force", "model"]).ok();
    let forced = found_of_attempt(&project);
    assert_eq!(forced["parts"], json!([{"name": "attempt", "before": null, "after": "1"}]));
}

/// What a forced training changed.
fn found_of_attempt(project: &Project) -> Value {
    stage(&found(project), "model").clone()
}

//! Mistakes that were made once, each with the test that would have found it.

use std::fs;

use serde_json::json;

use crate::project::{LABEL, Program, Project, digests, finch_in, uuid};

fn small() -> Project {
    let project = Project::new(LABEL);
    for (n, parent) in [(1, None), (2, Some(1)), (3, Some(2))] {
        project.program("run", &Program::new(n, parent, n as f64));
    }
    project
}

#[test]
fn paths_with_dots_are_paths() {
    let project = Project::new(&LABEL.replace("\"store\"", "\"sub/../st\""));
    project.program("run", &Program::new(1, None, 1.0));
    project.program("run", &Program::new(2, Some(1), 2.0));
    fs::create_dir_all(project.path("sub/beside")).expect("folder");
    let beside = project.path("sub/beside");
    finch_in(&beside, &["run", "../../spec.toml"]).ok();
    let store = ["--store", "../../sub/../st"];
    finch_in(&beside, &[&["query"], &store[..], &["SELECT count(*) FROM transitions"]].concat()).ok();
    finch_in(&beside, &[&["verify"], &store[..]].concat()).ok();
    finch_in(&beside, &[&["path"], &store[..], &["transitions"]].concat()).ok();
}

#[test]
fn a_run_without_uuids_in_two_folders_is_one_run_whatever_their_names() {
    let rows = |first: &str, second: &str| {
        let project = Project::new(LABEL);
        for run in [first, second] {
            for (id, parent, n) in [("initial", None, 1), ("it1", Some("initial"), 2)] {
                let mut json = Program::new(n, None, n as f64).json();
                json["id"] = json!(id);
                json["parent_id"] = json!(parent);
                project.write(
                    &format!("logs/{run}/checkpoints/checkpoint_1/programs/{id}.json"),
                    json.to_string(),
                );
            }
        }
        project.write(&format!("logs/{second}/finch.toml"), "task = \"mine\"\n");
        project.run().ok();
        let runs = project.rows("SELECT task, candidates FROM runs");
        assert_eq!(json!(runs), json!([{"task": "mine", "candidates": 2}]));
        let all = digests(&project.path("store"));
        all.into_iter().map(|(name, (rows, _))| (name, rows)).collect::<Vec<_>>()
    };
    assert_eq!(rows("a", "b"), rows("b", "a"));
}

#[test]
fn runs_that_name_their_metric_in_different_ways_share_an_objective() {
    let project = Project::new(&LABEL.replace("seed = 1", "seed = 1\ntasks = \"tasks.toml\""));
    project.write("tasks.toml", "[tasks.t]\nscore_key = \"rmse\"\ndirection = \"minimize\"\n");
    for (run, base, sidecar) in
        [("a", 10, "task = \"t\"\n"), ("b", 20, "task = \"t\"\nscore_key = \"rmse\"\n")]
    {
        project.write(&format!("logs/{run}/finch.toml"), sidecar);
        for n in 0..2 {
            let metrics = json!({"combined_score": 0.0, "rmse": 9.0 - n as f64});
            project
                .program(run, &Program { metrics, ..Program::new(base + n, (n > 0).then_some(base), 0.0) });
        }
    }
    project.run().ok();
    let objectives = project.rows("SELECT score_key, direction, origin FROM objectives");
    assert_eq!(
        json!(objectives),
        json!([{"score_key": "rmse", "direction": "minimize", "origin": "sidecar"}])
    );
    assert_eq!(project.value("SELECT count(*) FROM transitions WHERE outcome = 'improvement'"), json!(2));
}

#[test]
fn a_metric_that_no_candidate_reports_is_told() {
    let project = small();
    project.write("logs/run/finch.toml", "task = \"t\"\nscore_key = \"lenght\"\ndirection = \"minimize\"\n");
    let output = project.run().ok();
    assert!(output.err.contains("reports the metric `lenght`"), "{}", output.err);
}

#[test]
fn filters_are_as_pure_as_queries() {
    for condition in [
        "where = \"random() < 0.5\"",
        "where = \"now() > to_timestamp(0)\"",
        "per_task = { max = 1, order_by = \"random()\" }",
    ] {
        let project = small();
        project.write(
            "spec.toml",
            format!("{LABEL}\n[stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\n{condition}\n"),
        );
        project.finch(&["check", "spec.toml"]).fails(2, &["F0204", "another result each time"]);
    }
}

#[test]
fn a_stage_cannot_add_what_is_there() {
    let project = small();
    project.write("spec.toml", format!("{LABEL}\n[stages.again]\nkind = \"label\"\ninput = \"labelled\"\n"));
    project.run().fails(2, &["spec.toml:16:9: error F0106", "`delta`"]);
}

#[test]
fn a_query_cannot_take_a_table_of_finchs_own() {
    let sql = "\n[stages.mine]\nkind = \"sql\"\ninputs = [\"labelled\"]\nquery = \"SELECT transition_id FROM labelled.transitions\"\ntable = ";
    let project = small();
    project.write("spec.toml", format!("{LABEL}{sql}\"transitions\"\n"));
    project.run().fails(2, &["F0106", "`transitions` is a table of finch's own"]);
}

#[test]
fn a_partial_build_and_a_side_branch_do_not_change_what_names_mean() {
    let project = small();
    let branch =
        "\n[stages.side]\nkind = \"sql\"\ninputs = [\"logs\"]\nquery = \"SELECT task FROM logs.tasks\"\n";
    project.write("spec.toml", format!("{LABEL}{branch}"));
    project.run().ok();
    project.finch(&["run", "spec.toml", "--only", "logs"]).ok();
    assert_eq!(project.value("SELECT count(outcome) FROM transitions"), json!(2));
    assert_eq!(project.value("SELECT count(*) FROM rows"), json!(1));
    assert_eq!(project.value("SELECT count(*) FROM side.rows"), json!(1));
}

#[test]
fn two_pipelines_in_one_store_answer_for_themselves() {
    let project = small();
    let other = LABEL
        .replace("[pipeline]", "[pipeline]\nname = \"other\"")
        .replace("[stages.labelled]", "[stages.judged]");
    project.write("other.toml", other);
    project.run().ok();
    project.finch(&["run", "other.toml"]).ok();
    let ask = |spec: &str, table: &str| {
        project.finch(&["query", "--spec", spec, &format!("SELECT count(*) AS n FROM {table}.transitions")])
    };
    ask("spec.toml", "labelled").ok();
    ask("other.toml", "judged").ok();
    ask("spec.toml", "judged").fails(2, &["F0505"]);
}

#[test]
fn swapped_inputs_of_a_query_are_another_query() {
    let stages = |first: &str, second: &str, inputs: &str| {
        format!(
            "{LABEL}\n[stages.ka]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"{first}\"\n\
             [stages.kb]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"{second}\"\n\
             [stages.q]\nkind = \"sql\"\ninputs = [{inputs}]\n\
             query = \"SELECT (SELECT count(*) FROM ka.transitions) AS a, (SELECT count(*) FROM kb.transitions) AS b\"\n"
        )
    };
    let project = small();
    project.write("spec.toml", stages("iteration = 2", "iteration >= 2", "\"ka\", \"kb\""));
    project.run().ok();
    assert_eq!(json!(project.rows("SELECT * FROM q.rows")), json!([{"a": 1, "b": 2}]));
    project.write("spec.toml", stages("iteration >= 2", "iteration = 2", "\"kb\", \"ka\""));
    project.run().ok();
    assert_eq!(json!(project.rows("SELECT * FROM q.rows")), json!([{"a": 2, "b": 1}]));
}

#[test]
fn folders_above_a_log_have_no_meaning() {
    let project = Project::new(&LABEL.replace("[\"logs\"]", "[\"artifacts/best/logs\"]"));
    let line = json!({
        "iteration": 1, "parent_id": uuid(1), "child_id": uuid(2), "parent_metrics": {"combined_score": 1},
        "child_metrics": {"combined_score": 2}, "parent_code": "a", "child_code": "b",
    });
    project.write("artifacts/best/logs/gen_1/evolution_trace.jsonl", format!("{line}\n"));
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM transitions"), json!(1));
}

#[test]
fn a_damaged_dataset_is_computed_again_or_replaced() {
    let project = small();
    project.run().ok();
    let shard = |name: &str| {
        let path = project.finch(&["path", "--store", "store", name]).ok().out;
        project.path(path.trim_end())
    };
    // Gone: the next run sees it and computes the stage again.
    fs::remove_file(shard("labelled.transitions")).expect("remove");
    let again = project.run().ok();
    assert!(
        again.err.contains("was damaged") && again.out.contains("1 of 2 stages"),
        "{}\n{}",
        again.err,
        again.out
    );
    project.finch(&["verify", "--store", "store"]).ok();
    // Of the same size, and not the same: verify names it, a forced run replaces it.
    let path = shard("labelled.transitions");
    let mut bytes = fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&path, bytes).expect("write");
    let verify = project.finch(&["verify", "--store", "store"]);
    assert!(verify.code == 1 && verify.out.contains("--force"), "{}", verify.out);
    project.finch(&["run", "spec.toml", "--force", "labelled"]).ok();
    project.finch(&["verify", "--store", "store"]).ok();
}

#[test]
fn a_manifest_cannot_name_files_outside_its_dataset() {
    let project = small();
    project.run().ok();
    for entry in fs::read_dir(project.path("store/datasets")).expect("datasets") {
        let path = entry.expect("entry").path().join("manifest.json");
        let text = fs::read_to_string(&path).expect("read");
        fs::write(&path, text.replace("transitions/transitions-00000.parquet", "../../../outside.parquet"))
            .expect("write");
    }
    project.finch(&["path", "--store", "store", "transitions"]).fails(1, &["F0502", "outside.parquet"]);
    project.finch(&["query", "--store", "store", "SELECT 1"]).fails(1, &["F0502"]);
}

#[test]
fn an_edited_manifest_is_found() {
    let project = small();
    project.run().ok();
    for entry in fs::read_dir(project.path("store/datasets")).expect("datasets") {
        let path = entry.expect("entry").path().join("manifest.json");
        let text = fs::read_to_string(&path).expect("read");
        fs::write(&path, text.replace("\"relative\": 1e-9", "\"relative\": 1e-3")).expect("write");
    }
    let verify = project.finch(&["verify", "--store", "store"]);
    assert!(verify.code == 1 && verify.out.contains("was changed since"), "{}", verify.out);
}

#[test]
fn a_stricter_quarantine_counts_for_a_reused_dataset_too() {
    let project = small();
    let with = |limit: &str| LABEL.replace("[\"logs\"]", &format!("[\"logs\"]\nmax_quarantined = {limit}"));
    project.write("logs/run/checkpoints/checkpoint_10/programs/cut.json", "{");
    project.write("spec.toml", with("0.5"));
    project.run().ok();
    project.write("spec.toml", with("0.0"));
    project.run().fails(1, &["F0303", "1 of 4 records"]);
}

#[test]
fn a_missing_module_behind_openevolves_bare_failure_is_the_machines_fault() {
    let project = small();
    let mut failed = Program { metrics: json!({"error": 0.0}), ..Program::new(4, Some(1), 0.0) }.json();
    failed["artifacts_json"] = json!("{\"stderr\": \"ModuleNotFoundError: No module named 'scipy'\"}");
    project.write("logs/run/checkpoints/checkpoint_10/programs/failed.json", failed.to_string());
    project.run().ok();
    assert_eq!(
        project.value("SELECT outcome FROM transitions WHERE iteration = 4"),
        json!("systematic_error")
    );
}

#[test]
fn a_tokenizer_does_not_remember_names() {
    let spec =
        format!("{LABEL}\n[stages.tokens]\nkind = \"tokenizer\"\ninput = \"labelled\"\nvocabulary = 600\n");
    let project = Project::new(&spec);
    project.program("run", &Program::new(1, None, 1.0));
    for n in 2..40 {
        let answer = Some("see /home/zebulon/x and /home/zebulon/y".repeat(3));
        project.program("run", &Program { answer, ..Program::new(n, Some(1), 2.0) });
    }
    project.run().ok();
    let found = fs::read_dir(project.path("store/datasets"))
        .expect("datasets")
        .find_map(|entry| fs::read_to_string(entry.expect("entry").path().join("tokenizer.json")).ok());
    let text = found.expect("a tokenizer");
    assert!(text.contains("home") && !text.contains("zebulon") && !text.contains("zebul"));
}

#[test]
fn long_flat_conditions_do_not_overflow_the_stack() {
    let project = small();
    project.run().ok();
    let condition = vec!["iteration = 1"; 8000].join(" OR ");
    let sql = format!("SELECT count(*) AS n FROM transitions WHERE {condition}");
    project.write("long.sql", sql);
    let output = project.finch(&["query", "--store", "store", "-f", "long.sql"]);
    assert!(output.code == 0, "{} {}", output.code, output.err);
}

#[test]
fn values_that_do_not_fit_are_errors_and_not_nulls() {
    let sql = "\n[stages.big]\nkind = \"sql\"\ninputs = [\"labelled\"]\nquery = \"SELECT 18446744073709551615 AS n\"\n";
    let project = small();
    project.write("spec.toml", format!("{LABEL}{sql}"));
    let output = project.run();
    assert!(output.code != 0 && !output.err.contains("panicked"), "{}", output.err);
}

#[test]
fn an_error_in_the_data_names_its_stage() {
    let project = small();
    let filter = "\n[stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"1 / (iteration - iteration) > 0\"\n";
    project.write("spec.toml", format!("{LABEL}{filter}"));
    project.run().fails(2, &["stage `kept`", "Divide by zero"]);
}

#[test]
fn a_result_file_survives_a_mistake() {
    let project = small();
    project.run().ok();
    project.write("kept.csv", "mine");
    project
        .finch(&["query", "--store", "store", "-o", "kept.csv", "SELECT nosuch FROM runs"])
        .fails(2, &["F0601"]);
    assert_eq!(fs::read_to_string(project.path("kept.csv")).expect("read"), "mine");
}

#[test]
fn what_killed_builds_left_is_swept() {
    let project = small();
    project.run().ok();
    let host: String = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    // No process has this id: Linux ends below it.
    let left = project.path(&format!("store/tmp/{host}-4194305-abc"));
    fs::create_dir_all(&left).expect("folder");
    fs::create_dir_all(project.path("store/tmp/another-machine-1-abc")).expect("folder");
    project.run().ok();
    assert!(!left.exists());
    assert!(project.path("store/tmp/another-machine-1-abc").exists());
}

#[test]
fn sidecars_are_not_written_through_links() {
    let project = small();
    std::os::unix::fs::symlink(project.path("elsewhere.toml"), project.path("logs/run/finch.toml"))
        .expect("link");
    let output = project.finch(&["inspect", "logs", "--write-sidecars"]);
    assert!(!project.path("elsewhere.toml").exists());
    assert_ne!(output.code, 101);
}

#[test]
fn a_quotation_mark_in_a_column_of_a_query_is_no_mistake() {
    let project = small();
    let spec = format!(
        "{LABEL}\n[stages.mine]\nkind = \"sql\"\ninputs = [\"labelled\"]\nquery = 'SELECT count(*) AS \"a\"\"b\" FROM labelled.transitions'\n"
    );
    project.write("spec.toml", spec);
    project.run().ok();
    let rows = project.rows("SELECT * FROM mine.rows");
    assert!(rows[0].get("a\"b").is_some(), "{rows:?}");
}

#[test]
fn a_shard_that_was_replaced_feeds_no_other_dataset() {
    let project = small();
    project.run().ok();
    let shard = project.files("transitions").remove(0);
    let good = fs::read(&shard).expect("read");
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&shard, bad).expect("write");
    // Labels are made anew from it; what only reuses it looks at sizes.
    let stage = "\n[stages.mine]\nkind = \"sql\"\ninputs = [\"labelled\"]\nquery = 'SELECT count(*) AS n FROM labelled.transitions'\n";
    project.write("spec.toml", format!("{LABEL}{stage}"));
    project.run().fails(1, &["F0503", "transitions-00000.parquet", "not what the manifest says", "--force"]);
    project.finch(&["run", "spec.toml", "--force", "labelled"]).ok();
    assert_eq!(fs::read(&shard).expect("read"), good);
    project.finch(&["verify", "--store", "store"]).ok();
}

#[test]
fn a_corrupt_manifest_gives_way_to_force() {
    let project = small();
    project.run().ok();
    let before = digests(&project.path("store"));
    let shard = project.files("transitions").remove(0);
    let manifest = shard.parent().and_then(std::path::Path::parent).expect("a dataset").join("manifest.json");
    let good = fs::read(&manifest).expect("read");
    fs::write(&manifest, &good[..good.len() / 2]).expect("write");
    project.run().fails(1, &["F0502", "manifest.json", "--force"]);
    project.finch(&["run", "spec.toml", "--force", "labelled"]).ok();
    assert_eq!(digests(&project.path("store")), before);
    project.finch(&["verify", "--store", "store"]).ok();
}

#[test]
fn a_failure_is_an_event_for_readers_of_json() {
    let project = Project::new(LABEL);
    project.write("logs/run/checkpoints/checkpoint_10/programs/a.json", "{");
    let output = project.finch(&["run", "spec.toml", "--log-json"]);
    assert_ne!(output.code, 0);
    let last: serde_json::Value =
        output.err.lines().map(|line| serde_json::from_str(line).expect(line)).next_back().expect("an event");
    assert_eq!((&last["event"], &last["exit"]), (&json!("failed"), &json!(output.code)));
    assert!(last["code"].as_str().is_some_and(|code| code.starts_with("F0")), "{last}");
}

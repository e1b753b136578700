//! The demo pipeline on the sample logs: what README promises.

use std::fs;
use std::path::Path;

use serde_json::json;

use crate::project::{Project, digests, finch_in, repository};

/// The demo's spec up to its packs, with the repository's folders written out, in a project of its own. Training is
/// tested on less.
fn demo(sources: &str) -> Project {
    let spec = fs::read_to_string(repository().join("pipelines/demo.toml")).expect("spec");
    let spec = spec.split("[stages.model]").next().expect("a first part");
    let here = |path: &str| repository().join(path).display().to_string();
    let spec = spec
        .replace("\"build/demo\"", "\"store\"")
        .replace("[\"data/logs\"]", sources)
        .replace("\"data/tasks.toml\"", &format!("{:?}", here("data/tasks.toml")))
        .replace("\"sql/demo_balance.sql\"", &format!("{:?}", here("sql/demo_balance.sql")));
    Project::new(&spec)
}

fn logs(path: &str) -> String {
    repository().join("data/logs").join(path).display().to_string()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("folder");
    for entry in fs::read_dir(from).expect("list") {
        let entry = entry.expect("entry");
        let target = to.join(entry.file_name());
        if entry.file_type().expect("type").is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copy");
        }
    }
}

#[test]
fn the_demo_keeps_the_samples_promises() {
    let project = demo(&format!("[{:?}]", logs("")));
    project.run().ok();
    assert!(project.value("SELECT count(*) FROM transitions").as_i64() >= Some(1500));
    assert!(project.value("SELECT count(*) FROM tasks").as_i64() >= Some(12));
    assert!(project.value("SELECT count(DISTINCT domain) FROM tasks").as_i64() >= Some(4));
    assert_eq!(project.value("SELECT count(*) FROM quarantine"), json!(0));
    let outcomes = project.value("SELECT count(DISTINCT outcome) FROM transitions");
    assert_eq!(outcomes, json!(7), "every outcome of the design occurs in the samples");
    let minimised =
        project.value("SELECT count(DISTINCT task) FROM transitions WHERE direction = 'minimize'");
    assert!(minimised.as_i64() >= Some(3));
    assert_eq!(project.value("SELECT count(*) FROM transitions WHERE direction IS NULL"), json!(0));
    assert!(
        project.value("SELECT median(system_tokens + user_tokens) FROM examples").as_f64() < Some(1500.0)
    );
}

#[test]
fn both_names_of_a_held_out_problem_are_held_out() {
    let project = demo(&format!("[{:?}]", logs("")));
    project.run().ok();
    let held = project.rows("SELECT task FROM tasks WHERE held_out ORDER BY task");
    let names: Vec<_> = held.iter().map(|row| row["task"].as_str().expect("task")).collect();
    assert_eq!(names, ["circle_packing_26", "tour_60", "unit_square_26_circles"]);
    let leaked = "SELECT count(*) FROM examples e JOIN tasks t ON t.task = e.task \
                  WHERE t.held_out <> (e.split = 'test')";
    assert_eq!(project.value(leaked), json!(0));
}

#[test]
fn a_second_run_computes_nothing() {
    let project = demo(&format!("[{:?}]", logs("")));
    project.run().ok();
    let before = digests(&project.path("store"));
    let again = project.run().ok();
    assert!(again.out.contains("0 of 9 stages computed"), "{}", again.out);
    assert_eq!(before, digests(&project.path("store")));
    assert!(project.finch(&["plan", "spec.toml"]).ok().out.contains("nothing to do"));
}

#[test]
fn threads_and_the_order_of_sources_change_no_byte() {
    let listed = demo(&format!("[{:?}, {:?}]", logs("openevolve"), logs("shinka")));
    listed.finch(&["run", "spec.toml", "--threads", "1", "--memory-limit", "512MiB"]).ok();
    let reversed = demo(&format!("[{:?}, {:?}]", logs("shinka"), logs("openevolve")));
    reversed.finch(&["run", "spec.toml", "--threads", "2"]).ok();
    assert_eq!(digests(&listed.path("store")), digests(&reversed.path("store")));
}

#[test]
fn renamed_and_moved_logs_give_the_same_rows() {
    let here = demo(&format!("[{:?}]", logs("")));
    here.run().ok();
    let moved = demo("[\"logs/elsewhere\"]");
    for (n, scaffold) in ["openevolve", "shinka"].iter().enumerate() {
        for (i, run) in fs::read_dir(logs(scaffold)).expect("list").enumerate() {
            // The new names sort otherwise than the old ones.
            let run = run.expect("entry").path();
            copy(&run, &moved.path(&format!("logs/elsewhere/{}/a b &~{}", 9 - n, 99 - i)));
        }
    }
    moved.run().ok();
    let rows = |project: &Project| {
        let all = digests(&project.path("store"));
        all.into_iter().map(|(name, (rows, _))| (name, rows)).collect::<Vec<_>>()
    };
    assert_eq!(rows(&here), rows(&moved));
}

#[test]
fn init_makes_a_project_that_runs() {
    let folder = tempfile::tempdir().expect("temp dir");
    let made = finch_in(folder.path(), &["init", "first"]).ok();
    assert!(made.out.contains("finch run pipeline.toml"), "{}", made.out);
    let first = folder.path().join("first");
    finch_in(&first, &["run", "pipeline.toml"]).ok();
    let answer = finch_in(&first, &["query", "--spec", "pipeline.toml", "@outcomes"]).ok();
    assert!(answer.out.contains("improvement"), "{}", answer.out);
    finch_in(&first, &["verify", "--spec", "pipeline.toml"]).ok();
    finch_in(folder.path(), &["init", "first"]).fails(2, &["already holds"]);
}

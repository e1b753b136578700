//! `[tests]`: what must be true of a stage's tables, asked before anything is made of them.

use serde_json::{Value, json};

use crate::project::{LABEL, Program, Project};

/// Three steps that are labelled and filtered, with tests of the caller's.
fn tested(tests: &str) -> Project {
    let spec = format!(
        "{LABEL}\n[stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"outcome = 'improvement'\"\n{tests}\n"
    );
    let project = Project::new(&spec);
    for (n, parent, score) in [(1, None, 1.0), (2, Some(1), 2.0), (3, Some(1), 3.0), (4, Some(1), 0.5)] {
        project.program("run", &Program::new(n, parent, score));
    }
    project
}

/// What a failing test left.
fn saved(project: &Project, test: &str) -> Value {
    let query =
        format!("SELECT * FROM '{}'", project.path(&format!("store/failed/{test}.parquet")).display());
    let read = project.path(&format!("store/failed/{test}.parquet"));
    let file = std::fs::File::open(read).unwrap_or_else(|error| panic!("{query}: {error}"));
    let reader =
        parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).expect("Parquet");
    let rows: usize = reader.build().expect("reader").map(|batch| batch.expect("batch").num_rows()).sum();
    json!(rows)
}

#[test]
fn rows_that_should_not_be_there_end_the_build_and_are_saved() {
    let test = "[tests.no_worse_child]\nstage = \"labelled\"\n\
                query = \"SELECT iteration, delta FROM labelled.transitions WHERE delta < 0\"\n";
    let project = tested(test);
    let failed = project
        .run()
        .fails(1, &["F0410", "1 of 1 data tests failed", "`no_worse_child` found 1 rows", "-0.5"]);
    assert!(!failed.err.contains("run    kept"), "nothing is made of it\n{}", failed.err);
    assert_eq!(saved(&project, "no_worse_child"), json!(1));
    assert!(project.finch(&["builds", "--store", "store"]).ok().out.contains("failed"));
    // The dataset is there all the same, and is asked again.
    let again = project.run().fails(1, &["F0410"]);
    assert!(again.err.contains("reuse  labelled"), "{}", again.err);
    project.write(
        "spec.toml",
        std::fs::read_to_string(project.path("spec.toml")).expect("spec").replace("delta < 0", "delta < -1"),
    );
    let passed = project.run().ok();
    assert!(
        passed.err.contains("1 of 1 data tests passed") && passed.err.contains("run    kept"),
        "{}",
        passed.err
    );
    assert!(!project.path("store/failed/no_worse_child.parquet").exists(), "what it found before is gone");
}

#[test]
fn a_dataset_that_passed_is_not_asked_again_until_the_tests_change() {
    let test = "[tests.some]\nstage = \"kept\"\nrows = { min = 1 }\n[tests.one_each]\nstage = \"kept\"\nunique = [\"transition_id\"]\n";
    let project = tested(test);
    assert!(project.run().ok().err.contains("test   kept         2 of 2 data tests passed"));
    assert!(!project.run().ok().err.contains("data tests"));
    let spec = std::fs::read_to_string(project.path("spec.toml")).expect("spec");
    project.write("spec.toml", spec.replace("min = 1", "min = 2"));
    assert!(project.run().ok().err.contains("2 of 2 data tests passed"));
    project.write("spec.toml", spec.replace("min = 1", "max = 1"));
    project
        .run()
        .fails(1, &["1 of 2 data tests failed", "`some` found 2 rows where there should be at most 1"]);
}

#[test]
fn rows_that_are_not_unique_are_named() {
    let project = tested("[tests.one_a_task]\nstage = \"kept\"\nunique = [\"task\", \"outcome\"]\n");
    project.run().fails(
        1,
        &[
            "`one_a_task` found 1 values of `task`, `outcome` more than once",
            "\"outcome\":\"improvement\",\"rows\":2",
        ],
    );
    let other =
        tested("[tests.programs]\nstage = \"kept\"\ntable = \"programs\"\nunique = [\"program_id\"]\n");
    other.run().ok();
}

#[test]
fn check_runs_data_tests_over_what_is_built_and_builds_nothing() {
    let tests = "[tests.better]\nstage = \"kept\"\nquery = \"SELECT * FROM kept.transitions k JOIN logs.runs r ON r.run_id = k.run_id WHERE k.delta <= 0\"\n\
                 [tests.many]\nstage = \"kept\"\nrows = { min = 10 }\n";
    let project = tested(tests);
    project.finch(&["check", "spec.toml"]).ok();
    project.finch(&["run", "spec.toml", "--only", "labelled"]).ok();
    let found = project.finch(&["check", "--data", "spec.toml"]);
    assert!(found.code == 1 && found.out.contains("not built"), "{}{}", found.out, found.err);
    project.run().fails(1, &["`many` found 2 rows where there should be at least 10"]);
    let found = project.finch(&["check", "--data", "spec.toml"]);
    assert!(
        found.code == 1 && found.out.contains("passed") && found.out.contains("FAILED"),
        "{}{}",
        found.out,
        found.err
    );
    let verified = project.finch(&["verify", "--store", "store"]).ok();
    assert!(!verified.out.contains("stray"), "{}", verified.out);
    project.finch(&["gc", "--store", "store", "--keep", "1"]).ok();
}

#[test]
fn tests_are_no_part_of_a_fingerprint() {
    let project = tested("");
    project.run().ok();
    let spec = std::fs::read_to_string(project.path("spec.toml")).expect("spec");
    project.write("spec.toml", format!("{spec}\n[tests.some]\nstage = \"kept\"\nrows = {{ min = 1 }}\n"));
    let again = project.run().ok();
    assert!(
        !again.err.contains("run    ") && again.err.contains("1 of 1 data tests passed"),
        "{}",
        again.err
    );
}

//! `meta.*`: build records and manifests as tables.

use std::fs;

use serde_json::{Value, json};

use crate::project::{LABEL, Program, Project};

/// A project with two builds, of which the second one reuses what the first one made.
fn built() -> Project {
    let spec = format!(
        "{LABEL}\n[stages.tokens]\nkind = \"tokenizer\"\ninput = \"labelled\"\nvocabulary = 280\n\
         [stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"outcome = 'improvement'\"\n"
    );
    let project = Project::new(&spec);
    for (n, parent, score) in [(1, None, 1.0), (2, Some(1), 2.0), (3, Some(1), 0.5)] {
        project.program("run", &Program::new(n, parent, score));
    }
    project.run().ok();
    project.run().ok();
    project
}

fn records(project: &Project) -> Vec<Value> {
    let builds = project.finch(&["builds", "--store", "store", "--json"]).ok().out;
    serde_json::from_str(&builds).expect("JSON")
}

#[test]
fn builds_and_stages_say_what_the_records_say() {
    let project = built();
    let rows = project.rows(
        "SELECT build_id, pipeline, status, error, only_stage, stages, computed, seconds, threads FROM meta.builds ORDER BY build_id",
    );
    for (n, (row, record)) in rows.iter().zip(records(&project)).enumerate() {
        for column in ["build_id", "pipeline", "status", "seconds", "threads"] {
            assert_eq!(row[column], record[column], "{column}");
        }
        let expected = (json!(4), json!(if n == 0 { 4 } else { 0 }), Value::Null, Value::Null);
        assert_eq!(
            (&row["stages"], &row["computed"], &row["error"], &row["only_stage"]),
            (&expected.0, &expected.1, &expected.2, &expected.3)
        );
    }
    assert_eq!(rows.len(), 2);
    // A time is a time.
    assert_eq!(
        project.value("SELECT count(*) FROM meta.builds WHERE started_at > TIMESTAMP '2020-01-01'"),
        json!(2)
    );
    let stages = project.rows("SELECT * FROM meta.stages ORDER BY build_id, ordinal");
    let recorded: Vec<Value> = records(&project)
        .iter()
        .flat_map(|build| build["stages"].as_array().expect("stages").clone())
        .collect();
    assert_eq!(stages.len(), recorded.len());
    for (row, stage) in stages.iter().zip(&recorded) {
        assert_eq!(row["stage"], stage["name"]);
        for column in ["kind", "inputs", "decision", "why", "rows", "seconds", "fingerprint", "manifest"] {
            assert_eq!(row[column], stage[column], "{column}");
        }
        let parts: Value = serde_json::from_str(row["parts"].as_str().expect("JSON")).expect("JSON");
        assert_eq!(parts, stage["parts"]);
    }
    let reused =
        "SELECT DISTINCT decision FROM meta.stages WHERE build_id = (SELECT max(build_id) FROM meta.builds)";
    assert_eq!(project.value(reused), json!("reuse"));
}

#[test]
fn files_and_counts_say_what_the_manifests_say() {
    let project = built();
    let files = project.rows("SELECT * FROM meta.files");
    let mut seen = 0;
    for stage in records(&project)[0]["stages"].as_array().expect("stages") {
        let folder = project.path("store/datasets").join(stage["fingerprint"].as_str().expect("a digest"));
        let manifest: Value =
            serde_json::from_slice(&fs::read(folder.join("manifest.json")).expect("read")).expect("JSON");
        let own = manifest["tables"]
            .as_object()
            .expect("tables")
            .iter()
            .filter(|(_, table)| table.get("from").is_none());
        let tables = own.flat_map(|(name, table)| {
            table["files"].as_array().expect("files").iter().map(move |file| (json!(name), file))
        });
        let artifacts =
            manifest["artifacts"].as_array().expect("artifacts").iter().map(|file| (Value::Null, file));
        for (table, file) in tables.chain(artifacts) {
            let mut row = file.clone();
            let object = row.as_object_mut().expect("an object");
            let name = object.remove("name").expect("a name");
            object.insert("file".to_owned(), name);
            object.insert("table_name".to_owned(), table);
            object.insert("stage".to_owned(), stage["name"].clone());
            object.insert("fingerprint".to_owned(), stage["fingerprint"].clone());
            assert!(files.contains(&row), "{row}");
            seen += 1;
        }
    }
    assert_eq!(files.len(), seen, "each file once, however many builds name it");
    assert!(files.iter().any(|file| file["file"] == "tokenizer.json"));

    let counts = project.rows(
        "SELECT is_total, reason, records FROM meta.counts WHERE stage = 'kept' AND build_id = (SELECT max(build_id) FROM meta.builds) ORDER BY is_total, reason",
    );
    assert_eq!(
        json!(counts),
        json!([
            {"is_total": false, "reason": "where", "records": 1},
            {"is_total": true, "reason": "input", "records": 2},
            {"is_total": true, "reason": "merged", "records": 0},
            {"is_total": true, "reason": "quarantined", "records": 0},
            {"is_total": true, "reason": "removed", "records": 1},
            {"is_total": true, "reason": "used", "records": 1},
        ])
    );
    let sum = "SELECT sum(CASE reason WHEN 'input' THEN records ELSE -records END) AS lost FROM meta.counts c JOIN meta.stages s ON s.build_id = c.build_id AND s.stage = c.stage WHERE is_total AND kind <> 'tokenizer'";
    assert_eq!(project.value(sum), json!(0));
    // They join with the rest of the store.
    let joined = "SELECT f.rows = (SELECT count(*) FROM kept.transitions) AS same FROM meta.files f WHERE f.stage = 'kept' AND f.table_name = 'transitions'";
    assert_eq!(project.value(joined), json!(true));
}

#[test]
fn columns_are_those_of_the_contracts() {
    let project = built();
    let text =
        fs::read_to_string(crate::project::repository().join("schemas/tables.toml")).expect("contracts");
    let contracts: toml::Table = toml::from_str(&text).expect("TOML");
    for table in ["meta.builds", "meta.stages", "meta.files", "meta.counts"] {
        let declared = contracts[table]["columns"].as_array().expect("columns").iter();
        let declared: Vec<&str> = declared.filter_map(|column| column[0].as_str()).collect();
        let header = project.finch(&[
            "query",
            "--store",
            "store",
            "--format",
            "csv",
            &format!("SELECT * FROM {table}"),
        ]);
        assert_eq!(header.ok().out.lines().next(), Some(declared.join(",").as_str()), "{table}");
        let key: Vec<&str> =
            contracts[table]["key"].as_array().expect("key").iter().filter_map(toml::Value::as_str).collect();
        let twice = format!(
            "SELECT count(*) FROM (SELECT 1 FROM {table} GROUP BY {} HAVING count(*) > 1)",
            key.join(", ")
        );
        assert_eq!(project.value(&twice), json!(0), "{table}");
    }
    project
        .finch(&["query", "--store", "store", "SELECT * FROM meta.file"])
        .fails(2, &["F0505", "did you mean `meta.files`?"]);
}

#[test]
fn old_builds_are_read_only_when_they_are_asked_for() {
    let project = built();
    let id = records(&project)[0]["build_id"].as_str().expect("an id").to_owned();
    fs::write(project.path("store/builds").join(format!("{id}.json")), "{").expect("write");
    project.value("SELECT count(*) FROM transitions");
    let query = |sql: &str| project.finch(&["query", "--store", "store", sql]);
    query("SELECT * FROM meta.builds").fails(1, &["F0502", &id]);
}

#[test]
fn what_was_removed_has_no_files_and_what_is_damaged_is_an_error() {
    let project = built();
    let spec = fs::read_to_string(project.path("spec.toml")).expect("spec");
    project.write("spec.toml", spec.replace("'improvement'", "'regression'"));
    project.run().ok();
    let old = project.value(
        "SELECT DISTINCT fingerprint FROM meta.stages WHERE stage = 'kept' AND build_id < (SELECT max(build_id) FROM meta.builds)",
    );
    let folder = project.path("store/datasets").join(old.as_str().expect("a digest"));
    let kept = "SELECT count(DISTINCT fingerprint) FROM meta.files WHERE stage = 'kept'";
    assert_eq!(project.value(kept), json!(2));
    fs::write(folder.join("manifest.json"), "{").expect("write");
    project.finch(&["query", "--store", "store", kept]).fails(1, &["F0502", old.as_str().expect("a digest")]);
    fs::remove_dir_all(folder).expect("remove");
    assert_eq!(project.value(kept), json!(1));
    assert_eq!(project.value("SELECT count(*) FROM meta.stages WHERE stage = 'kept'"), json!(3));
}

#[test]
fn a_store_whose_builds_all_failed_says_so() {
    let project = Project::new(&format!(
        "{LABEL}\n[stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"outcome = 'nothing'\"\n"
    ));
    project.program("run", &Program::new(1, None, 1.0));
    project.program("run", &Program::new(2, Some(1), 2.0));
    project.run().fails(1, &["F0403"]);
    let failed = project.rows("SELECT status, error, stages FROM meta.builds");
    assert_eq!((failed.len(), &failed[0]["status"], &failed[0]["stages"]), (1, &json!("failed"), &json!(2)));
    assert!(failed[0]["error"].as_str().expect("an error").contains("kept"));
    project.finch(&["query", "--store", "store", "SELECT * FROM transitions"]).fails(2, &["F0504"]);
}

#[test]
fn a_stage_named_meta_keeps_its_name() {
    let project = Project::new(&LABEL.replace("stages.labelled", "stages.meta"));
    project.program("run", &Program::new(1, None, 1.0));
    project.program("run", &Program::new(2, Some(1), 2.0));
    project.run().ok();
    assert_eq!(project.value("SELECT outcome FROM meta.transitions"), json!("improvement"));
}

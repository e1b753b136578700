//! `verify`: nothing that differs from the manifests goes unseen.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, StringArray};
use finch_core::manifest::{Manifest, digests};
use finch_core::shard::{self, Cuts, TableWriter};

use crate::project::{Program, Project};

const SPEC: &str = r#"
[pipeline]
store = "store"

[stages.logs]
kind = "ingest"
sources = ["logs"]

[stages.labelled]
kind = "label"
input = "logs"

[stages.tokens]
kind = "tokenizer"
input = "labelled"
vocabulary = 280

[stages.sft]
kind = "render"
input = "labelled"
tokenizer = "tokens"
max_tokens = 10000
over_length = "drop"
"#;

fn built() -> Project {
    let project = Project::new(SPEC);
    for n in 1..20 {
        project.program("run", &Program::new(n, (n > 1).then_some(n / 2), n as f64));
    }
    project.run().ok();
    project.finch(&["verify", "--store", "store"]).ok();
    project
}

/// Every file below the datasets, but the manifests.
fn files(project: &Project) -> Vec<PathBuf> {
    let mut pending = vec![project.path("store/datasets")];
    let mut files = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("list") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if !path.ends_with("manifest.json") {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_flipped_byte_in_any_file_is_found_and_named() {
    let project = built();
    let files = files(&project);
    assert!(files.len() > 10);
    for file in files {
        let good = fs::read(&file).expect("read");
        let mut bad = good.clone();
        let middle = bad.len() / 2;
        bad[middle] ^= 1;
        fs::write(&file, bad).expect("write");
        let output = project.finch(&["verify", "--store", "store"]);
        assert_eq!(output.code, 1, "{}", file.display());
        let name = file.file_name().expect("name").to_string_lossy().into_owned();
        assert!(output.out.contains(&name) && output.out.contains("BLAKE3"), "{}", output.out);
        fs::write(&file, good).expect("write");
    }
    project.finch(&["verify", "--store", "store"]).ok();
}

#[test]
fn missing_cut_and_stray_files_are_found() {
    let project = built();
    let file = files(&project).remove(0);
    let good = fs::read(&file).expect("read");
    fs::write(&file, &good[1..]).expect("write");
    let quick = project.finch(&["verify", "--store", "store", "--quick"]);
    assert_eq!(quick.code, 1);
    assert!(quick.out.contains("bytes, the manifest says"), "{}", quick.out);
    fs::remove_file(&file).expect("remove");
    assert_eq!(project.finch(&["verify", "--store", "store"]).code, 1);
    fs::write(&file, &good).expect("write");
    fs::write(file.with_extension("stray"), "x").expect("write");
    let stray = project.finch(&["verify", "--store", "store"]);
    assert!(stray.code == 1 && stray.out.contains("no manifest names this file"), "{}", stray.out);
}

#[test]
fn a_changed_count_in_a_manifest_is_found() {
    let project = built();
    for entry in fs::read_dir(project.path("store/datasets")).expect("datasets") {
        let path = entry.expect("entry").path().join("manifest.json");
        let text = fs::read_to_string(&path).expect("read");
        if text.contains("\"kind\": \"label\"") {
            fs::write(&path, text.replace("\"removed\": 0", "\"removed\": 3")).expect("write");
        }
    }
    let output = project.finch(&["verify", "--store", "store"]);
    assert!(output.code == 1 && output.out.contains("not conserved"), "{}", output.out);
}

#[test]
fn a_forced_stage_comes_out_the_same() {
    let project = built();
    for stage in ["logs", "labelled", "tokens", "sft"] {
        project.finch(&["run", "spec.toml", "--force", stage]).ok();
    }
    project.finch(&["run", "spec.toml", "--force", "nosuch"]).fails(2, &["no stage `nosuch`"]);
}

/// Writes a table of the only dataset of a kind again, with a column changed, under a manifest that says so: every
/// hash is right, and only what the rows name is not.
fn falsify(
    project: &Project,
    kind: &str,
    table: &str,
    column: &str,
    change: impl Fn(ArrayRef) -> ArrayRef,
) -> String {
    let datasets = fs::read_dir(project.path("store/datasets")).expect("datasets");
    let (folder, mut manifest) = datasets
        .map(|entry| entry.expect("entry").path())
        .find_map(|folder| {
            let text = fs::read(folder.join("manifest.json")).expect("manifest");
            let manifest: Manifest = serde_json::from_slice(&text).expect("JSON");
            (manifest.kind == kind).then_some((folder, manifest))
        })
        .expect("the dataset");
    let entry = manifest.tables[table].clone();
    assert!(entry.from.is_none(), "`{kind}` passes `{table}` on");
    let batches: Vec<RecordBatch> = entry
        .files
        .iter()
        .flat_map(|file| shard::read(&folder.join(&file.name)).expect("open"))
        .map(|batch| batch.expect("read"))
        .collect();
    let all = arrow::compute::concat_batches(&batches[0].schema(), &batches).expect("concat");
    let mut columns = all.columns().to_vec();
    let index = all.schema().index_of(column).expect("the column");
    columns[index] = change(columns[index].clone());
    let changed = RecordBatch::try_new(all.schema(), columns).expect("a batch");
    fs::remove_dir_all(folder.join(table)).expect("remove");
    let mut writer =
        TableWriter::new(&folder, table, all.schema(), &entry.key, Cuts::default()).expect("a writer");
    writer.write(&changed).expect("write");
    manifest.tables.insert(table.to_owned(), writer.finish().expect("finish"));
    let (rows, bytes) = digests(&manifest.tables, &manifest.artifacts);
    (manifest.rows, manifest.bytes) = (Some(rows), bytes);
    fs::write(folder.join("manifest.json"), serde_json::to_vec(&manifest).expect("JSON")).expect("write");
    format!("datasets/{}/{table}: ", manifest.fingerprint)
}

/// The texts of a column with the last one replaced by an id of nothing, which keeps the order of a key.
fn last_is_unknown(column: ArrayRef) -> ArrayRef {
    let texts = column.as_string::<i32>();
    let last = texts.len() - 1;
    let changed = texts.iter().enumerate();
    let changed =
        changed.map(|(n, text)| if n == last { Some("f".repeat(64)) } else { text.map(str::to_owned) });
    Arc::new(changed.collect::<StringArray>())
}

#[test]
fn a_reference_that_leads_nowhere_is_found_though_every_hash_is_right() {
    let cases = [
        ("ingest", "candidates", "program_id", "programs"),
        ("ingest", "transitions", "child_candidate", "candidates"),
        ("ingest", "transitions", "parent_candidate", "candidates"),
        ("ingest", "transitions", "parent_program", "programs"),
        ("ingest", "transitions", "user_prompt_id", "texts"),
        ("label", "transitions", "run_id", "runs"),
        ("label", "transitions", "task", "tasks"),
        ("render", "examples", "transition_id", "transitions"),
    ];
    for (kind, table, column, parent) in cases {
        let project = built();
        let place = falsify(&project, kind, table, column, last_is_unknown);
        let output = project.finch(&["verify", "--store", "store"]);
        let expected = format!(
            "{place}1 times `{column}` names what is not in `{parent}`, such as `{}`",
            "f".repeat(64)
        );
        assert!(
            output.code == 1 && output.out.contains(&expected),
            "{column}\n{}\n{}",
            output.out,
            output.err
        );
        assert!(!output.out.contains("BLAKE3") && !output.out.contains("its digests"), "{}", output.out);
        // Sizes are as the manifest says.
        let quick = project.finch(&["verify", "--store", "store", "--quick"]);
        assert!(!quick.out.contains("names what is not"), "{}", quick.out);
    }
}

#[test]
fn a_pack_of_unknown_examples_is_found() {
    let project = crate::pack::project(&crate::pack::packing());
    project.run().ok();
    let clean = project.finch(&["verify", "--store", "store", "--json"]).ok().out;
    let clean: serde_json::Value = serde_json::from_str(&clean).expect("JSON");
    assert!(clean["references"].as_u64().expect("a number") > 15, "{clean}");
    let place = falsify(&project, "pack", "packs", "example_ids", |column| {
        let lists = column.as_list::<i32>();
        let mut values = last_is_unknown(lists.values().clone());
        let field = match lists.data_type() {
            arrow::datatypes::DataType::List(field) => field.clone(),
            other => panic!("a list, not {other}"),
        };
        values = arrow::compute::cast(&values, field.data_type()).expect("text");
        Arc::new(ListArray::new(field, lists.offsets().clone(), values, lists.nulls().cloned()))
    });
    let output = project.finch(&["verify", "--store", "store"]);
    let expected = format!("{place}1 times `example_ids` names what is not in `examples`");
    assert!(output.code == 1 && output.out.contains(&expected), "{}\n{}", output.out, output.err);
}

#[test]
fn counts_that_balance_and_are_not_of_the_rows_are_found() {
    let project = built();
    for entry in fs::read_dir(project.path("store/datasets")).expect("datasets") {
        let path = entry.expect("entry").path().join("manifest.json");
        let text = fs::read_to_string(&path).expect("read");
        if text.contains("\"kind\": \"label\"") {
            let changed =
                text.replace("\"used\": 18", "\"used\": 15").replace("\"removed\": 0", "\"removed\": 3");
            assert_ne!(changed, text);
            fs::write(&path, changed).expect("write");
        }
    }
    let output = project.finch(&["verify", "--store", "store"]);
    assert!(
        output.code == 1 && output.out.contains("15 rows of `transitions`, which has 18"),
        "{}",
        output.out
    );
}

#[test]
fn a_build_of_datasets_that_do_not_belong_together_is_found() {
    let project = built();
    project.program("run", &Program::new(20, Some(10), 20.0));
    project.run().ok();
    let mut paths: Vec<PathBuf> = fs::read_dir(project.path("store/builds"))
        .expect("builds")
        .map(|e| e.expect("entry").path())
        .collect();
    paths.sort();
    let read = |path: &PathBuf| -> serde_json::Value {
        serde_json::from_slice(&fs::read(path).expect("read")).expect("JSON")
    };
    let (first, mut second) = (read(&paths[0]), read(&paths[1]));
    second["stages"][0] = first["stages"][0].clone();
    fs::write(&paths[1], second.to_string()).expect("write");
    let output = project.finch(&["verify", "--store", "store", "--quick"]);
    let expected = "stage `labelled`: its dataset was made from other rows of `logs`";
    assert!(output.code == 1 && output.out.contains(expected), "{}", output.out);
}

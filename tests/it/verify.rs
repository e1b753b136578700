//! `verify`: nothing that differs from the manifests goes unseen.

use std::fs;
use std::path::PathBuf;

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

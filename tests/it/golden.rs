//! What each stage makes of committed logs, against `golden/stages.txt`: the rule behind every reuse.
//!
//! A fingerprint promises rows. When a stage gives other rows under the same fingerprint, stores that exist would
//! reuse what the program no longer makes, so `stage::code_version` must be raised; not even rewriting the file
//! lets that pass. `FINCH_REWRITE=1` writes the file after a version, a parameter or the logs changed.

use std::collections::BTreeMap;
use std::fs;

use serde_json::Value;

use crate::bad_specs::{REWRITE, differs, kinds};
use crate::project::{finch_in, repository};

const SPEC: &str = "tests/it/golden/pipeline.toml";
const STAGES: &str = "tests/it/golden/stages.txt";
const HEADER: &str = "# stage, kind, code version, fingerprint, rows\n";

/// A line of the golden file.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    kind: String,
    code_version: String,
    fingerprint: String,
    rows: String,
}

fn lines(text: &str) -> BTreeMap<String, Line> {
    let line = |line: &str| {
        let cells: Vec<String> = line.split(' ').map(str::to_owned).collect();
        let [stage, kind, code_version, fingerprint, rows] = cells.try_into().expect("five cells");
        (stage, Line { kind, code_version, fingerprint, rows })
    };
    text.lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

/// What stands against the golden lines: a stage whose rows changed under one fingerprint.
fn broken_promises(golden: &BTreeMap<String, Line>, now: &BTreeMap<String, Line>) -> Vec<String> {
    let broken = now.iter().filter_map(|(stage, new)| {
        let old = golden.get(stage)?;
        (old.fingerprint == new.fingerprint && old.rows != new.rows).then(|| {
            format!(
                "stage `{stage}` makes other rows under the same fingerprint: stores would reuse what is no longer made. \
                 Raise the version of `{}` in `stage::code_version` (now {}), then run this test with {REWRITE}=1",
                new.kind, new.code_version
            )
        })
    });
    broken.collect()
}

#[test]
fn rows_change_only_with_a_fingerprint() {
    let store = tempfile::tempdir().expect("temp dir");
    let place = store.path().join("store");
    let arguments = ["run", SPEC, "--quiet", "--store", place.to_str().expect("UTF-8")];
    finch_in(repository(), &arguments).ok();
    let build = fs::read_dir(place.join("builds")).expect("builds").next().expect("a build").expect("entry");
    let build: Value = serde_json::from_slice(&fs::read(build.path()).expect("read")).expect("JSON");
    let mut text = HEADER.to_owned();
    for stage in build["stages"].as_array().expect("stages") {
        let fingerprint = stage["fingerprint"].as_str().expect("text");
        let manifest = place.join("datasets").join(fingerprint).join("manifest.json");
        let manifest: Value = serde_json::from_slice(&fs::read(manifest).expect("manifest")).expect("JSON");
        let word = |value: &Value| value.as_str().expect("text").to_owned();
        text += &format!(
            "{} {} {} {fingerprint} {}\n",
            word(&stage["name"]),
            word(&stage["kind"]),
            manifest["code_version"],
            word(&manifest["rows"])
        );
    }
    let file = repository().join(STAGES);
    let golden = lines(&fs::read_to_string(&file).unwrap_or_default());
    let broken = broken_promises(&golden, &lines(&text));
    assert!(broken.is_empty(), "{}", broken.join("\n"));
    let difference = differs(&file, &text);
    assert!(
        difference.is_none(),
        "fingerprints changed, so stores compute these stages again. If that is meant, {REWRITE}=1 writes {STAGES}.\n{}",
        difference.unwrap_or_default()
    );
}

#[test]
fn every_kind_that_makes_rows_is_in_the_golden_file() {
    let golden = lines(&fs::read_to_string(repository().join(STAGES)).expect("golden file"));
    let there: Vec<&str> = golden.values().map(|line| line.kind.as_str()).collect();
    for kind in kinds().iter().filter(|kind| *kind != "train") {
        assert!(there.contains(&kind.as_str()), "no stage of the kind {kind}");
    }
}

#[test]
fn other_rows_under_one_fingerprint_are_found() {
    let golden = lines("a label 1 f1 r1\nb filter 1 f2 r2\nc sql 1 f3 r3\n");
    assert!(
        broken_promises(&golden, &lines("a label 1 f1 r1\nb filter 1 f2 r2\nc sql 1 f3 r3\n")).is_empty()
    );
    let raised = lines("a label 2 f9 r9\nb filter 1 f8 r8\nd sql 1 f3 r9\n");
    assert!(broken_promises(&golden, &raised).is_empty(), "a new version changes fingerprints behind it");
    let broken = broken_promises(&golden, &lines("a label 1 f1 r9\nb filter 1 f8 r8\n"));
    assert!(broken.len() == 1 && broken[0].contains("Raise the version of `label`"), "{broken:?}");
}

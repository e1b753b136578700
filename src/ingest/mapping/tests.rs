//! Mappings on rows of a few lines each.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::ingest::{FileLog, Format, Scratch};

/// Reads a file of this name and text by a mapping.
fn read(mapping: Mapping, name: &str, text: &str) -> FileLog {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("written");
    let scratch = Scratch::create(folder.path()).expect("scratch");
    let file = LogFile {
        path,
        source: name.into(),
        in_unit: name.to_owned(),
        format: Format::Mapped,
        mapping: Some(Arc::new(mapping)),
        bytes: text.len() as u64,
        digest: Some(Digest::of_bytes(text.as_bytes())),
        settled: None,
        parts: Vec::new(),
    };
    super::read(&file, &scratch).expect("read")
}

fn mapping(text: &str) -> Mapping {
    Mapping::parse(&PathBuf::from("m.toml"), text).expect("a mapping")
}

#[test]
fn the_mappings_that_are_built_in_can_be_read() {
    let words: Vec<&str> = built_in().iter().map(|mapping| mapping.scaffold).collect();
    assert_eq!(words, ["finch", "llm4ad", "llmsr", "aide", "tttdiscover", "nanodiscover"]);
}

#[test]
fn records_of_jsonl_are_candidates_with_their_scores_and_failures() {
    let text = r#"
        scaffold = "mine"
        [score]
        key = "loss"
        direction = "minimize"
        [candidate]
        id = "/n"
        parents = "from"
        code = ["/source/text", "/text"]
        score = "loss"
        created_at = { at = "when", as = "iso8601" }
        metrics = { at = "more", as = "json" }
        [[failure]]
        at = "loss"
        above = 1000
        failure = "rejected"
    "#;
    let lines = concat!(
        r#"{"n": 1, "source": {"text": "a"}, "loss": 2.5, "when": "2026-01-01T00:00:01Z", "more": "{\"x\": 1}"}"#,
        "\n",
        r#"{"n": 2, "from": 1, "text": "b", "loss": NaN}"#,
        "\n{half\n",
        r#"{"n": 3, "from": [1, 2], "text": "c", "loss": 100000}"#,
    );
    let log = read(mapping(text), "a.jsonl", lines);
    let ids: Vec<&str> = log.records.iter().map(|record| record.native_id.as_str()).collect();
    assert_eq!(ids, ["1", "2", "3"]);
    assert_eq!(log.records[0].created_at, Some(1_767_225_601_000_000));
    assert_eq!(serde_json::Value::Object(log.records[0].metrics.clone()), json!({"x": 1, "loss": 2.5}));
    assert_eq!(log.records[2].parents, ["1", "2"]);
    assert_eq!(log.records[2].failure, Some(Failure::Rejected));
    assert_eq!((log.quarantined.len(), log.quarantined[0].code), (1, Code::NotJson));
}

#[test]
fn cells_of_csv_are_texts_that_may_be_numbers() {
    let text = "[candidate]\nid = \"id\"\ncode = \"code\"\nscore = \"s\"\niteration = \"i\"\n[run]\nof = \"folder\"\n";
    let log = read(mapping(text), "a.csv", "\u{feff}id,code,s,i\na,\"x\ny\",1.5,3\nb,,2,4\n");
    assert_eq!(log.records.len(), 2);
    assert_eq!(log.records[0].metrics["score"], json!(1.5));
    assert_eq!(log.records[0].iteration, Some(3));
    assert!(log.records[1].program.is_none(), "an empty cell is no program");
}

#[test]
fn parents_may_stand_in_a_table_of_their_own() {
    let document = r#"{"nodes": [{"id": "b", "code": "x", "metric": {"value": 1.0, "maximize": false}, "is_buggy": false},
        {"id": "c", "code": "y", "metric": {"value": null, "maximize": null}, "is_buggy": true, "exc_type": "TimeoutError"}],
        "node2parent": {"c": "b"}}"#;
    let aide = include_str!("../../../mappings/aide.toml");
    let log = read(mapping(aide), "journal.json", document);
    assert_eq!(log.records[1].parents, ["b"]);
    assert_eq!(log.records[0].direction, Some(Direction::Minimize));
    assert_eq!(log.records[0].failure, None);
    assert_eq!(log.records[1].failure, Some(Failure::Timeout));
}

#[test]
fn candidates_without_ids_are_known_by_their_programs() {
    let llm4ad = include_str!("../../../mappings/llm4ad.toml");
    let samples = r#"[{"sample_order": 1, "function": "def f(): pass", "score": 2.0, "program": "def f(): pass"},
        {"sample_order": 2, "function": "def f(): pass\n", "score": -Infinity, "program": "def f(): pass\n"},
        {"sample_order": 3, "function": null, "score": null, "program": null}]"#;
    let log = read(mapping(llm4ad), "samples_1~200.json", samples);
    assert_eq!(log.records[0].native_id, log.records[1].native_id);
    assert_eq!(log.records[1].failure, Some(Failure::Rejected));
    assert_eq!((log.records.len(), log.attempts.len()), (2, 1));
}

#[test]
fn mistakes_are_named_with_their_place() {
    let message = |text: &str| match Mapping::parse(Path::new("m.toml"), text) {
        Ok(_) => panic!("`{text}` was read"),
        Err(error) => format!("{error:?}"),
    };
    assert!(message("[candidate]\nid = \"id\"\n").contains("lacks the key `code`"));
    assert!(message("[candidate]\nid = \"$x\"\ncode = \"c\"\n").contains("there is no `$x`"));
    assert!(
        message("[candidate]\nid = \"a\"\ncode = { at = \"c\", as = \"upper\" }\n")
            .contains("no transform `upper`")
    );
    assert!(
        message("scafold = \"x\"\n[candidate]\nid = \"a\"\ncode = \"b\"\n").contains("unknown key `scafold`")
    );
    assert!(
        message("[candidate]\nid = \"a\"\ncode = \"b\"\n[[failure]]\nat = \"x\"\n")
            .contains("needs one test")
    );
}

//! Logs that mappings describe: the published collection, scaffolds whose reader is one, and a user's own.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
use serde_json::{Value, json};

use super::{INGEST, candidates, edges, ingested, of_run, quarantined};
use crate::project::{Project, uuid};

/// Two steps of one task in the collection's columns.
fn collection() -> Vec<u8> {
    let text = |values: [&str; 2]| Arc::new(StringArray::from(values.to_vec())) as ArrayRef;
    let number = |value: i64| Arc::new(Int64Array::from(vec![value, value + 1])) as ArrayRef;
    let ids = [uuid(1), uuid(2), uuid(3)];
    let code = |n: u64| format!("a = {n}\n");
    let metrics = |n: f64| json!({"combined_score": n, "eval_time": 0.5, "validity": 1.0}).to_string();
    let answer = |n: u64| format!("\n\n```python\na = {n}\n```\n");
    let batch = RecordBatch::try_from_iter([
        ("domain", text(["Mathematical Discovery"; 2])),
        ("task", text(["circle_packing"; 2])),
        ("improvement_label", text(["improved", "regressed"])),
        ("improvement_delta", text(["{}"; 2])),
        ("global_uid", text(["u"; 2])),
        ("instance_uid", text(["v", "w"])),
        ("iteration", number(1)),
        ("island_id", number(0)),
        ("generation", number(1)),
        ("parent_id", text([&ids[0], &ids[1]])),
        ("child_id", text([&ids[1], &ids[2]])),
        ("parent_metrics", text([&metrics(0.5), &metrics(0.75)])),
        ("child_metrics", text([&metrics(0.75), &metrics(0.25)])),
        ("parent_code", text([&code(1), &code(2)])),
        ("child_code", text([&code(2), &code(3)])),
        ("metadata", text(["{}"; 2])),
        ("system_prompt", text(["be good"; 2])),
        ("user_prompt", text(["improve", "improve more"])),
        ("reasoning", text(["hm\n"; 2])),
        ("response", text([&answer(2), &answer(3)])),
    ]);
    let batch = batch.expect("a batch");
    let mut bytes = Vec::new();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(&mut bytes, batch.schema(), None).expect("a writer");
    writer.write(&batch).expect("written");
    writer.close().expect("closed");
    bytes
}

#[test]
fn the_published_collection_is_read_by_its_columns() {
    let project = ingested(&[("data/train-00000-of-00039.parquet", &collection())]);
    assert_eq!(
        edges(&project),
        [format!("{} -> {}", uuid(1), uuid(2)), format!("{} -> {}", uuid(2), uuid(3))]
    );
    let rows = project.rows(
        "SELECT scaffold, task, domain, parent_score, child_score, replay, reasoning, operator FROM transitions ORDER BY iteration",
    );
    let row = |before: f64, after: f64| {
        json!({"scaffold": "finch", "task": "circle_packing", "domain": "Mathematical Discovery", "parent_score": before,
            "child_score": after, "replay": "exact", "reasoning": "hm\n", "operator": "rewrite"})
    };
    assert_eq!(rows, [row(0.5, 0.75), row(0.75, 0.25)]);
    assert_eq!(of_run(&project, "task_origin"), "scaffold");
}

#[test]
fn a_damaged_table_is_quarantined() {
    let mut bytes = collection();
    let middle = bytes.len() / 3;
    bytes[middle..middle + 600].fill(0xff);
    let project = ingested(&[("a/good.parquet", &collection()), ("b/bad.parquet", &bytes)]);
    assert!(!quarantined(&project).is_empty());
}

#[test]
fn scaffolds_that_are_mappings_are_recognised() {
    let project = ingested(&[
        ("llmsr/samples/samples_0.json", br#"{"sample_order": 0, "function": "def e(): 1", "score": -0.5}"#),
        ("llmsr/samples/samples_1.json", br#"{"sample_order": 1, "function": "def e(): 2", "score": null}"#),
        ("llm4ad/20250101_000000/samples/samples_1~200.json", br#"[{"sample_order": 1, "function": "def g(): 1", "score": 2.0, "operator": "i1", "program": "import x\ndef g(): 1"}, {"sample_order": 2, "function": "def g(): 2", "score": 1.0, "operator": "i1", "program": ""}]"#),
        ("llm4ad/20250101_000000/population/pop_1.json", br#"[{"algorithm": "a", "function": "def g(): 1", "score": -Infinity}]"#),
        ("ttt/puct_sampler_step_000010.json", br#"{"step": 10, "states": [{"type": "x", "id": "s2", "timestep": 3, "value": 0.5, "parent_values": [0.25], "parents": [{"id": "s1", "timestep": 1}], "observation": "ok", "code": "v = 2"}], "initial_states": [{"id": "s1", "timestep": 0, "value": 0.25, "parents": [], "code": "v = 1"}], "puct_n": {}}"#),
        ("aide/journal.json", br#"{"nodes": [{"id": "n1", "code": "z = 1", "step": 0, "metric": {"value": 3.0, "maximize": false}, "is_buggy": false}, {"id": "n2", "code": "z = 2", "step": 1, "metric": {"value": 2.0, "maximize": false}, "is_buggy": false}], "node2parent": {"n2": "n1"}}"#),
    ]);
    let rows = project.rows("SELECT scaffold, direction, candidates FROM runs ORDER BY scaffold");
    let run = |scaffold: &str, direction: &str, n: u64| json!({"scaffold": scaffold, "direction": direction, "candidates": n});
    assert_eq!(
        rows,
        [
            run("aide", "minimize", 2),
            run("llm4ad", "maximize", 2),
            run("llmsr", "maximize", 2),
            run("tttdiscover", "maximize", 2)
        ]
    );
    assert_eq!(edges(&project), ["n1 -> n2", "s1 -> s2"]);
    let failures = project.rows("SELECT native_id FROM candidates WHERE NOT valid");
    assert_eq!(
        failures,
        [json!({"native_id": "1"})],
        "of two records of one program the one with a score counts"
    );
}

/// A rollout of nanodiscover: the state it started from, and the one it made, if any.
fn rollout(from: &str, to: Option<(&str, u64)>, before: &str, code: &str, score: Option<f64>) -> Value {
    let state = |id: &str, epoch: i64, code: &str| json!({"id": id, "epoch": epoch, "value": 1.0, "task_payload": {"construction": [], "code": code}});
    json!({"seed_state": state(from, 0, &format!("```python\n{before}\n```")), "prompt_text": "improve", "parsed_code": code,
        "response_text": format!("Better:\n```python\n{code}\n```"), "correctness": f64::from(u8::from(to.is_some())),
        "reward": 1.0, "raw_score": score, "msg": if to.is_some() { "ok" } else { "timeout after 530s" }, "stdout": "out",
        "eval_wall_time_s": 2.5, "next_state": to.map(|(id, epoch)| state(id, epoch as i64, code))})
}

#[test]
fn epochs_of_nanodiscover_are_one_run_and_failed_rollouts_are_in_it() {
    let first = json!({"epoch": 0, "evaluated": [rollout("s0", Some(("s1", 0)), "a = 0", "a = 1", Some(0.5)),
        rollout("s0", None, "a = 0", "a = 9", None)]});
    let second =
        json!({"epoch": 1, "evaluated": [rollout("s1", Some(("s2", 1)), "a = 1", "a = 2", Some(0.25))]});
    let project = ingested(&[
        ("mine/epoch000/evaluation.json", first.to_string().as_bytes()),
        ("mine/epoch001/evaluation.json", second.to_string().as_bytes()),
    ]);
    let runs = project.rows("SELECT scaffold, score_key, direction, source FROM runs");
    assert_eq!(
        runs,
        [json!({"scaffold": "nanodiscover", "score_key": "raw_score", "direction": null, "source": "mine"})]
    );
    let steps =
        project.rows("SELECT replay, child_score, child_failure FROM transitions ORDER BY child_score");
    let said: Vec<String> = steps
        .iter()
        .map(|row| format!("{} {} {}", row["replay"], row["child_score"], row["child_failure"]))
        .collect();
    assert_eq!(said, [r#""exact" 0.25 null"#, r#""exact" 0.5 null"#, r#""exact" null "timeout""#]);
    assert!(edges(&project).contains(&"s1 -> s2".to_owned()));
}

const MAPPING: &str = r#"
scaffold = "homegrown"
[records]
table = "steps"
[run]
id = "search"
task = "problem"
[score]
key = "error"
direction = "minimize"
[candidate]
id = "key"
parents = "made_from"
code = "source"
score = "error"
user_prompt = "asked"
response = "answered"
[[failure]]
at = "error"
above = 100
failure = "rejected"
"#;

#[test]
fn a_mapping_reads_a_database_that_finch_does_not_know() {
    let spec = INGEST.replace(
        "[\"logs\"]",
        "[{ path = \"logs\", mapping = \"map.toml\", origin = \"here\", license = \"MIT\" }]",
    );
    let project = Project::new(&spec);
    project.write("map.toml", MAPPING);
    let database = rusqlite::Connection::open(project.path("logs/runs.db")).expect("a database");
    database
        .execute_batch(
            "CREATE TABLE steps (search TEXT, problem TEXT, key INTEGER, made_from INTEGER, source TEXT, error REAL, asked TEXT, answered TEXT);
             INSERT INTO steps VALUES ('s', 'p', 1, NULL, 'a = 1', 3.5, NULL, NULL), ('s', 'p', 2, 1, 'a = 2', 2.5, 'better', '```\na = 2\n```'),
                 ('t', 'p', 1, NULL, 'b = 1', 1e6, NULL, NULL);",
        )
        .expect("rows");
    drop(database);
    project.write("logs/notes.txt", "not a log");
    project.run().ok();
    let mut all = candidates(&project);
    all.sort();
    assert_eq!(all, ["1 3.5 null", "1 null rejected", "2 2.5 null"]);
    assert_eq!(edges(&project), ["1 -> 2"], "the same number in another search is another candidate");
    let rows = project.rows("SELECT scaffold, task, task_origin, direction, license, origin FROM runs");
    let run = json!({"scaffold": "homegrown", "task": "p", "task_origin": "scaffold", "direction": "minimize", "license": "MIT", "origin": "here"});
    assert_eq!(rows, [run.clone(), run]);
    // Another mapping is another dataset.
    project.write("map.toml", MAPPING.replace("above = 100", "above = 3"));
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM candidates WHERE NOT valid"), json!(2));
}

#[test]
fn parents_are_judged_as_their_children_are() {
    let spec = INGEST.replace("[\"logs\"]", "[{ path = \"logs\", mapping = \"map.toml\" }]");
    let project = Project::new(&spec);
    project.write(
        "map.toml",
        "[score]\nkey = \"error\"\ndirection = \"minimize\"\n[candidate]\nid = \"id\"\nparents = \"from\"\ncode = \"code\"\n\
         score = \"error\"\n[parent]\nscore = \"before\"\n",
    );
    project.write(
        "logs/a.jsonl",
        "{\"id\": 2, \"from\": 1, \"code\": \"x\", \"error\": 2.5, \"before\": 3.5}\n",
    );
    // Files of other kinds beside it are no records of this mapping.
    project.write("logs/config.json", "{\"lr\": 1}");
    project.run().ok();
    let row = &project.rows("SELECT parent_score, parent_valid, child_score FROM transitions")[0];
    assert_eq!(
        (&row["parent_score"], &row["parent_valid"], &row["child_score"]),
        (&json!(3.5), &json!(true), &json!(2.5))
    );
    assert_eq!(project.value("SELECT count(*) FROM attempts"), json!(0));
    assert_eq!(quarantined(&project), ["F0314"]);
}

#[test]
fn a_field_that_no_record_has_is_warned_of() {
    let spec = INGEST.replace("[\"logs\"]", "[{ path = \"logs\", mapping = \"map.toml\" }]");
    let project = Project::new(&spec);
    project.write(
        "map.toml",
        "[candidate]\nid = \"id\"\ncode = \"code\"\nscore = \"/fitnes\"\nparents = \"form\"\n",
    );
    project.write(
        "logs/a.jsonl",
        "{\"id\": 1, \"code\": \"x\", \"fitness\": 1}\n{\"id\": 2, \"code\": \"y\", \"from\": 1}\n",
    );
    let said = project.run().ok();
    for field in ["score", "parents"] {
        let words = format!("`{field}` is in no record of 1 files, such as `a.jsonl`");
        assert!(format!("{}{}", said.out, said.err).contains(&words), "{}", said.err);
    }
}

#[test]
fn a_place_that_is_nowhere_is_said() {
    let spec = INGEST.replace("[\"logs\"]", "[{ path = \"logs\", mapping = \"map.toml\" }]");
    let project = Project::new(&spec);
    project.write("map.toml", "[records]\nat = \"/node\"\n[candidate]\nid = \"id\"\ncode = \"code\"\n");
    project.write("logs/a.json", "{\"nodes\": [{\"id\": 1, \"code\": \"x\"}]}");
    project.run().fails(1, &["nothing is at `/node`"]);
}

#[test]
fn mistakes_in_a_mapping_are_placed() {
    let spec = INGEST.replace("[\"logs\"]", "[{ path = \"logs\", mapping = \"map.toml\" }]");
    let project = Project::new(&spec);
    project.write("logs/a.jsonl", "{}\n");
    project.run().fails(2, &["there is no mapping", "spec.toml:5"]);
    project.write("map.toml", "[candidate]\nid = \"id\"\ncod = \"code\"\n");
    project.run().fails(2, &["map.toml:3:1", "F0102", "did you mean `code`"]);
}

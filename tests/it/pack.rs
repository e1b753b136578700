//! `pack`: examples become sequences, and nothing is lost, mixed or learned that should not be.

use std::collections::BTreeSet;
use std::fs;

use arrow::array::{Array, AsArray};
use arrow::datatypes::{Float64Type, Int32Type, Int64Type};
use finch_core::tokens::Tokenizer;
use serde_json::json;

use crate::project::{Program, Project, digests};

/// Two runs of one task, one of another that is held out, rendered.
pub(crate) const RENDERED: &str = r#"
[pipeline]
store = "store"
seed = 1

[stages.logs]
kind = "ingest"
sources = ["logs/a", "logs/b", "logs/c"]

[stages.labelled]
kind = "label"
input = "logs"

[stages.split]
kind = "split"
input = "labelled"
hold_out = { tasks = ["held"] }
leak = { on_leak = "report" }

[stages.tokens]
kind = "tokenizer"
input = "split"
vocabulary = 320

[stages.sft]
kind = "render"
input = "split"
tokenizer = "tokens"
max_tokens = 10000
over_length = "drop"
"#;

/// A spec that packs into sequences of 1000 tokens.
pub(crate) fn packing() -> String {
    format!("{RENDERED}\n[stages.packed]\nkind = \"pack\"\ninput = \"sft\"\nsequence_tokens = 1000\n")
}

/// A project with logs whose prompts differ in length.
pub(crate) fn project(spec: &str) -> Project {
    let project = Project::new(spec);
    for (r, (run, task)) in [("a", "first"), ("b", "first"), ("c", "held")].into_iter().enumerate() {
        project.write(&format!("logs/{run}/finch.toml"), format!("task = \"{task}\"\n"));
        for i in 1..12 {
            let n = 100 * (r as u64 + 1) + i;
            let parent = (i > 1).then_some(n - i + (i / 2).max(1));
            let mut program = Program::new(n, parent, i as f64);
            program.code += &format!("# {}\n", "step ".repeat((i as usize * 7) % 5));
            program.answer =
                program.answer.map(|answer| format!("{answer}\n{}", "word ".repeat(i as usize * 9)));
            project.program(run, &program);
        }
    }
    project
}

/// A row of `packs`.
struct Pack {
    split: Option<String>,
    tokens: usize,
    ids: Vec<u32>,
    mask: Vec<bool>,
    positions: Vec<i32>,
    ends: Vec<usize>,
    examples: Vec<String>,
    tasks: Vec<String>,
    outcomes: Vec<String>,
    weights: Vec<f64>,
    trained: Vec<i32>,
}

fn packs(project: &Project) -> Vec<Pack> {
    let mut packs = Vec::new();
    for file in project.files("packs") {
        for batch in finch_core::shard::read(&file).expect("open") {
            let batch = batch.expect("read");
            let list = |name: &str, row: usize| {
                batch.column_by_name(name).expect("a column").as_list::<i32>().value(row)
            };
            let ints = |name, row| list(name, row).as_primitive::<Int32Type>().values().to_vec();
            let texts = |name, row| -> Vec<String> {
                let list = list(name, row);
                list.as_string::<i32>().iter().map(|text| text.expect("no null").to_owned()).collect()
            };
            let splits = batch.column_by_name("split").expect("split").as_string::<i32>();
            let tokens = batch.column_by_name("tokens").expect("tokens").as_primitive::<Int64Type>();
            packs.extend((0..batch.num_rows()).map(|row| Pack {
                split: splits.is_valid(row).then(|| splits.value(row).to_owned()),
                tokens: tokens.value(row) as usize,
                ids: ints("input_ids", row).into_iter().map(|id| id as u32).collect(),
                mask: list("loss_mask", row).as_boolean().iter().map(|bit| bit.expect("no null")).collect(),
                positions: ints("position_ids", row),
                ends: ints("cu_seqlens", row).into_iter().map(|end| end as usize).collect(),
                examples: texts("example_ids", row),
                tasks: texts("tasks", row),
                outcomes: texts("outcomes", row),
                weights: list("weights", row).as_primitive::<Float64Type>().values().to_vec(),
                trained: ints("trained_tokens", row),
            }));
        }
    }
    packs
}

#[test]
fn every_example_is_in_one_pack_of_its_split() {
    let project = project(&packing());
    let output = project.run().ok();
    assert!(output.out.contains("capacity"), "{}", output.out);
    let packs = packs(&project);
    assert!(packs.len() > 3, "{}", packs.len());
    let rows = project.rows("SELECT example_id, split, task, total_tokens, outcome FROM examples");
    let mut seen = BTreeSet::new();
    for pack in &packs {
        assert!(pack.tokens <= 1000);
        assert_eq!(pack.ids.len(), pack.tokens);
        assert_eq!((pack.mask.len(), pack.positions.len()), (pack.tokens, pack.tokens));
        assert_eq!((pack.ends[0], pack.ends.last()), (0, Some(&pack.tokens)));
        assert_eq!(pack.ends.len(), pack.examples.len() + 1);
        for (d, example) in pack.examples.iter().enumerate() {
            assert!(seen.insert(example.clone()), "{example} is packed twice");
            let row = rows.iter().find(|row| row["example_id"] == json!(example)).expect("an example");
            assert_eq!(row["split"], json!(pack.split));
            assert_eq!(row["task"], json!(pack.tasks[d]));
            assert_eq!(row["outcome"], json!(pack.outcomes[d]));
            let range = pack.ends[d]..pack.ends[d + 1];
            assert_eq!(row["total_tokens"], json!(range.len()), "render and pack count alike");
            assert_eq!(pack.positions[range.clone()], (0..range.len() as i32).collect::<Vec<_>>());
            let mask = &pack.mask[range];
            assert!(!mask[0], "nothing predicts a first token");
            assert_eq!(mask.iter().filter(|bit| **bit).count() as i32, pack.trained[d]);
            assert!(pack.trained[d] > 0 && pack.weights[d] == 1.0);
        }
    }
    assert_eq!(seen.len(), rows.len());
    let splits: BTreeSet<_> = packs.iter().map(|pack| pack.split.as_deref()).collect();
    assert_eq!(splits, [Some("test"), Some("train")].into());
}

#[test]
fn ids_are_the_chat_and_the_mask_is_what_inference_samples() {
    let project = project(&packing());
    project.run().ok();
    let files = project.files("packs");
    let folder = files[0].parent().and_then(|table| table.parent()).expect("a dataset");
    let tokenizer = Tokenizer::load(&folder.join("tokenizer.json")).expect("the pack carries its tokenizer");
    let rows = project.rows("SELECT example_id, messages FROM examples");
    for pack in packs(&project) {
        for (d, example) in pack.examples.iter().enumerate() {
            let row = rows.iter().find(|row| row["example_id"] == json!(example)).expect("an example");
            let (mut chat, mut answer) = (String::new(), String::new());
            for message in row["messages"].as_array().expect("messages") {
                let text = |name: &str| message[name].as_str().expect("text");
                chat += &format!("<|im_start|>{}\n{}<|im_end|>\n", text("role"), text("content"));
                if text("role") == "assistant" {
                    answer = format!("{}<|im_end|>", text("content"));
                }
            }
            let range = pack.ends[d]..pack.ends[d + 1];
            assert_eq!(tokenizer.decode(&pack.ids[range.clone()]).expect("decode"), chat);
            let trained: Vec<u32> = range.filter(|&at| pack.mask[at]).map(|at| pack.ids[at]).collect();
            assert_eq!(tokenizer.decode(&trained).expect("decode"), answer);
        }
    }
}

#[test]
fn threads_memory_and_the_order_of_sources_change_no_byte() {
    let here = project(&packing());
    here.finch(&["run", "spec.toml", "--threads", "1", "--memory-limit", "512MiB"]).ok();
    let reversed =
        packing().replace("[\"logs/a\", \"logs/b\", \"logs/c\"]", "[\"logs/c\", \"logs/b\", \"logs/a\"]");
    let there = project(&reversed);
    there.finch(&["run", "spec.toml", "--threads", "2", "--memory-limit", "2GiB"]).ok();
    assert_eq!(digests(&here.path("store")), digests(&there.path("store")));
    here.finch(&["run", "spec.toml", "--force", "packed"]).ok();
    here.finch(&["verify", "--store", "store"]).ok();
}

#[test]
fn an_example_longer_than_a_pack_is_named() {
    let project = project(&packing().replace("sequence_tokens = 1000", "sequence_tokens = 50"));
    project.run().fails(1, &["F0409", "transition ", "a pack holds 50", "raise `sequence_tokens`"]);
}

#[test]
fn shards_are_cut_where_the_spec_says_and_rows_stay_the_same() {
    let one = project(&packing());
    one.run().ok();
    let many = project(
        &packing().replace("sequence_tokens = 1000", "sequence_tokens = 1000\nshard_bytes = \"20KiB\""),
    );
    many.run().ok();
    assert_eq!(one.files("packs").len(), 1);
    assert!(many.files("packs").len() > 1);
    let rows = |project: &Project| digests(&project.path("store"))["packed.packs"].0.clone();
    assert_eq!(rows(&one), rows(&many));
    assert_eq!(packs(&one).len(), packs(&many).len());
}

#[test]
fn without_a_split_all_examples_may_share_packs() {
    let start = RENDERED.find("[stages.split]").expect("a split");
    let end = RENDERED.find("[stages.tokens]").expect("a tokenizer");
    let spec = packing().replace(&RENDERED[start..end], "").replace("\"split\"", "\"labelled\"");
    let project = project(&spec);
    project.run().ok();
    let packs = packs(&project);
    assert!(packs.iter().all(|pack| pack.split.is_none()));
    assert!(packs.iter().any(|pack| pack.tasks.iter().collect::<BTreeSet<_>>().len() > 1));
}

#[test]
fn without_a_label_outcomes_are_empty() {
    let label = "[stages.labelled]\nkind = \"label\"\ninput = \"logs\"\n";
    assert!(RENDERED.contains(label));
    let project = project(&packing().replace(label, "").replace("\"labelled\"", "\"logs\""));
    project.run().ok();
    assert_eq!(project.value("SELECT count(outcome) FROM examples"), json!(0));
    let packs = packs(&project);
    assert!(packs.iter().all(|pack| pack.outcomes.len() == pack.examples.len()));
    assert!(packs.iter().flat_map(|pack| &pack.outcomes).all(String::is_empty));
}

#[test]
fn nothing_to_pack_fails_unless_that_is_fine() {
    let none = "max_tokens = 1\nallow_empty = true";
    let project = project(&packing().replace("max_tokens = 10000", none));
    project.run().fails(1, &["F0403", "no example to pack", "allow_empty"]);
    let spec = fs::read_to_string(project.path("spec.toml")).expect("spec");
    project.write(
        "spec.toml",
        spec.replace("sequence_tokens = 1000", "sequence_tokens = 9\nallow_empty = true"),
    );
    project.run().ok();
    assert!(packs(&project).is_empty());
}

#[test]
fn mistakes_in_a_pack_stage_are_pointed_at() {
    let check = |from: &str, to: &str, words: &[&str]| {
        let spec = packing();
        assert!(spec.contains(from), "{from}");
        project(&spec.replace(from, to)).finch(&["check", "spec.toml"]).fails(2, words);
    };
    check("sequence_tokens = 1000\n", "", &["F0104", "lacks the key `sequence_tokens`"]);
    check("sequence_tokens = 1000", "sequence_tokens = 0", &["F0106", "`sequence_tokens`"]);
    check(
        "sequence_tokens = 1000",
        "sequence_tokens = 1000\nshard_bytes = \"2 bananas\"",
        &["F0106", "`bananas` is not a unit"],
    );
    check("sequence_tokens = 1000", "sequence_tokens = 1000\nshard_bytes = true", &["F0103", "a size"]);
    check(
        "sequence_tokens = 1000",
        "sequence_tokens = 1000\nshard_byte = 5",
        &["F0102", "did you mean `shard_bytes`?"],
    );
    check("\"sft\"", "\"split\"", &["F0106", "`split` is not a render stage", "render stages here: `sft`"]);
}

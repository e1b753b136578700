//! What finch takes from a trainer: by one that only leaves what a test prepared. The real one is tested in `training`.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use finch_core::Digest;
use finch_core::training::{
    Best, Environment, Event, Finish, Flops, Kept, Skipped, Start, Totals, digest_of_weights,
};
use serde_json::{Value, json};

use crate::pack::{packing, project};
use crate::project::Project;
use crate::train_spec::TRAIN;

const ANY: &str = "/bin/true";

/// Leaves the folder `left` as its output and says the lines of the file `said`.
const LEAVES: &str = "launcher = '''sh -c 'mkdir -p \"$6\"; cp -r left/. \"$6\"; cat said' {command}'''\n";

const INDEX: &str = "model.safetensors.index.json";
const SHARDS: [&str; 2] = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"];

/// The files of a model in two shards.
fn sharded() -> BTreeMap<&'static str, String> {
    let index = json!({ "metadata": {}, "weight_map": { "a": SHARDS[0], "b": SHARDS[1] } });
    BTreeMap::from([
        ("config.json", "{}".to_owned()),
        ("tokenizer.json", "{}".to_owned()),
        (SHARDS[0], "the first weights".to_owned()),
        (SHARDS[1], "the other weights".to_owned()),
        (INDEX, index.to_string()),
    ])
}

fn weights(model: &BTreeMap<&'static str, String>) -> Option<Digest> {
    digest_of_weights(model.iter().map(|(name, text)| (*name, Digest::of_bytes(text.as_bytes()))))
}

fn start() -> Start {
    let some = Totals { packs: 3, examples: 5, tokens: 500, trained_tokens: 50 };
    Start {
        environment: Environment {
            versions: BTreeMap::from([("libtorch".to_owned(), "2.11.0".to_owned())]),
            device: "cuda:0".to_owned(),
            device_name: "NVIDIA H200".to_owned(),
            threads: 2,
            driver: Some("575.57.08".to_owned()),
            deterministic: true,
        },
        parameters: 8_000_000,
        trainable: 12_000,
        carried: 0,
        kept: Kept::default(),
        flops: Flops::default(),
        steps: 6,
        resumed_from: None,
        data: Digest::of_bytes(b"data"),
        train: some,
        reached: some,
        held_out: Totals::default(),
    }
}

fn finish(weights: Digest) -> Finish {
    Finish {
        step: 6,
        weights,
        best: Some(Best { step: 4, loss: 1.25 }),
        seconds: 12.0,
        tokens_seen: 1000,
        memory: 1 << 30,
        already: false,
    }
}

/// A project whose trainer leaves a model and announces its weights.
fn leaving(model: &BTreeMap<&'static str, String>, events: &[Event]) -> Project {
    let project = project(&format!("{}{TRAIN}{LEAVES}", packing()));
    project.write("base.json", "{}");
    for (name, text) in model {
        project.write(&format!("left/model/{name}"), text);
    }
    let lines: Vec<String> = events.iter().map(|event| serde_json::to_string(event).expect("JSON")).collect();
    project.write("said", lines.join("\n") + "\n");
    project
}

/// A training that comes to its end.
fn whole(model: &BTreeMap<&'static str, String>, announced: Digest) -> Project {
    leaving(model, &[Event::Start(start()), Event::Finish(finish(announced))])
}

/// The dataset's folder, as the build's closing words name it.
fn dataset(project: &Project, out: &str) -> PathBuf {
    let model = out.lines().find_map(|line| line.strip_prefix("model: ")).expect("a line about the model");
    project.root().join(model).join("..")
}

fn manifest(project: &Project, out: &str) -> Value {
    let text = fs::read(dataset(project, out).join("manifest.json")).expect("manifest");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn a_model_in_several_files_is_one_model() {
    let model = sharded();
    let announced = weights(&model).expect("weights");
    let project = whole(&model, announced);
    let first = project.run_with_trainer(ANY).ok();
    let kept = manifest(&project, &first.out);
    assert_eq!(kept["weights"], json!(announced));
    let artifacts = kept["artifacts"].as_array().expect("artifacts").iter();
    let names: Vec<&str> =
        artifacts.map(|file| file["name"].as_str().expect("a name").trim_start_matches("model/")).collect();
    assert!(model.keys().all(|name| names.contains(name)), "{names:?}");
    let again = project.run_with_trainer(ANY).ok();
    assert!(again.err.contains("not trained again"), "{}", again.err);
    project.finch(&["verify", "--store", "store"]).ok();
    let shard = dataset(&project, &first.out).join("model").join(SHARDS[1]);
    fs::write(&shard, "the other wEights").expect("write");
    let found = project.finch(&["verify", "--store", "store"]);
    assert!(found.code == 1 && found.out.contains(SHARDS[1]), "{}{}", found.out, found.err);
}

#[test]
fn what_is_no_whole_model_is_refused() {
    let check = |spoil: fn(&mut BTreeMap<&'static str, String>), words: &[&str]| {
        let mut model = sharded();
        let announced = weights(&model).expect("weights");
        spoil(&mut model);
        whole(&model, announced).run_with_trainer(ANY).fails(3, words);
    };
    check(|model| drop(model.remove(SHARDS[1])), &["F0816", "has no `model-00002-of-00002.safetensors`"]);
    check(|model| drop(model.remove(INDEX)), &["F0816", "has no `model.safetensors`"]);
    check(|model| drop(model.insert(INDEX, "{}".to_owned())), &["F0816", INDEX, "weight_map"]);
    check(
        |model| drop(model.insert(INDEX, json!({ "weight_map": {} }).to_string())),
        &["F0816", INDEX, "it names no tensor"],
    );
    check(
        |model| drop(model.insert(SHARDS[0], "other weights".to_owned())),
        &["F0816", "the trainer announced"],
    );
    check(|model| drop(model.insert("notes.txt.bak", String::new())), &["F0816", "`notes.txt.bak`"]);
}

#[test]
fn what_the_weights_depend_on_is_recorded() {
    let model = sharded();
    let project = whole(&model, weights(&model).expect("weights"));
    project.write("left/log.jsonl", "{}\n");
    project.write("left/tensorboard/events.out.tfevents.1", "curves");
    let output = project.run_with_trainer(ANY).ok();
    assert!(output.err.contains("12.0k of 8.00M weights"), "{}", output.err);
    assert!(output.err.contains("lowest after step 4, 1.2500"), "{}", output.err);
    let toolchain = &manifest(&project, &output.out)["toolchain"];
    for (key, value) in [
        ("libtorch", "2.11.0"),
        ("driver", "575.57.08"),
        ("device", "cuda:0"),
        ("device_name", "NVIDIA H200"),
        ("threads", "2"),
        ("deterministic", "true"),
    ] {
        assert_eq!(toolchain[key], json!(value), "{key}");
    }
    let builds = project.finch(&["builds", "--store", "store", "--json"]).ok().out;
    let builds: Value = serde_json::from_str(&builds).expect("JSON");
    let stages = builds[0]["stages"].as_array().expect("stages");
    let training = &stages.iter().find(|stage| stage["kind"] == "train").expect("a training")["training"];
    assert_eq!(training["best"], json!({ "step": 4, "loss": 1.25 }));
    assert_eq!(training["memory"], json!(1u64 << 30));
    // The folder that it worked in is cleared, but for what people read.
    let work = fs::read_dir(project.path("store/training")).expect("trainings").next().expect("one");
    let work = work.expect("entry").path();
    assert!(work.join("log.jsonl").is_file() && work.join("config.json").is_file());
    assert!(work.join("tensorboard/events.out.tfevents.1").is_file());
    assert!(!work.join("out").exists());
}

#[test]
fn a_step_that_was_left_out_is_said() {
    let model = sharded();
    let skipped = Skipped {
        step: 3,
        epoch: 0,
        reason: "the loss is NaN".to_owned(),
        batch: Digest::of_bytes(b"batch"),
    };
    let finish = finish(weights(&model).expect("weights"));
    let events = [Event::Start(start()), Event::Skipped(skipped), Event::Finish(finish)];
    let output = leaving(&model, &events).run_with_trainer(ANY).ok();
    let line = "warn   model        step 3 is left out: the loss is NaN";
    assert!(output.err.lines().any(|said| said == line), "{}", output.err);
}

#[test]
fn held_out_losses_are_shown_by_task_and_by_outcome() {
    let model = sharded();
    let project = whole(&model, weights(&model).expect("weights"));
    project.finch(&["run", "spec.toml", "--only", "packed"]).ok();
    let losses = "SELECT l.step, e.example_id, CAST(10 AS BIGINT) AS tokens, \
                  CASE WHEN e.outcome = 'improvement' THEN l.loss ELSE 2 * l.loss END AS loss \
                  FROM examples e CROSS JOIN (VALUES (0, 2.0), (6, 1.5)) AS l(step, loss) \
                  WHERE e.split = 'test' ORDER BY l.step, e.example_id";
    let to = ["--format", "parquet", "--output", "left/losses.parquet"];
    project.finch(&[&["query", "--store", "store"][..], &to, &[losses]].concat()).ok();
    let outcomes =
        project.rows("SELECT outcome, count(*) AS n FROM examples WHERE split = 'test' GROUP BY 1");
    let output = project.run_with_trainer(ANY).ok();
    let closing = output.out.split("held-out loss of model").nth(1).expect("closing words");
    let words: Vec<Vec<&str>> = closing.lines().map(|line| line.split_whitespace().collect()).collect();
    assert!(words.contains(&vec!["split", "task", "examples", "before", "after", "change"]), "{closing}");
    assert!(words.contains(&vec!["split", "outcome", "examples", "before", "after", "change"]), "{closing}");
    assert!(!outcomes.is_empty());
    for row in outcomes {
        let (name, n) = (row["outcome"].as_str().expect("a name"), row["n"].to_string());
        let expected = match name {
            "improvement" => vec!["test", name, n.as_str(), "2.0000", "1.5000", "-0.5000"],
            _ => vec!["test", name, n.as_str(), "4.0000", "3.0000", "-1.0000"],
        };
        assert!(words.contains(&expected), "{expected:?} is not in {closing}");
    }
}

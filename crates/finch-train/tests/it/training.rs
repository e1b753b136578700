//! Whole trainings by the real program: what they write, and that stopping changes nothing.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::Stdio;

use finch_core::training::Event;
use finch_train::losses;

use crate::dataset::{Bench, Doc, documents, packed};

const CONFIG: &str = "base = \"{fixtures}qwen3\"\nsteps = 12\nbatch_packs = 2\nlr = 5e-3\n\
                      schedule = { warmup = 0.2 }\nweight_decay = 0.1\neval_every = 5\ncheckpoint_every = 4\nseed = 3";

fn bench() -> Bench {
    Bench::new(&packed(documents(40, 160, 1), 3), CONFIG)
}

pub(crate) fn events(text: &str) -> Vec<Event> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

pub(crate) fn weights(bench: &Bench, out: &str) -> Vec<u8> {
    std::fs::read(bench.path(out).join("model/model.safetensors")).expect("model")
}

/// The same with enough steps that a signal meets a training in progress.
fn long() -> String {
    CONFIG.replace("steps = 12", "steps = 60")
}

/// Starts a training and ends it by a signal at its first event of a kind.
pub(crate) fn stopped(
    bench: &Bench,
    out: &str,
    signal: &str,
    at: fn(&Event) -> bool,
) -> std::process::ExitStatus {
    let arguments = ["run", "config.toml", "--data", "data", "--out", out, "--json"];
    let mut child = bench
        .command(&arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the program runs");
    let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
    for line in lines {
        if serde_json::from_str(&line.expect("line")).is_ok_and(|event| at(&event)) {
            break;
        }
    }
    let kill =
        std::process::Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill");
    assert!(kill.success());
    child.wait().expect("it ends")
}

/// A checkpoint is there.
const SAVED: fn(&Event) -> bool = |event| matches!(event, Event::Checkpoint { .. });

/// The step that a training went on from.
fn resumed_from(events: &[Event]) -> Option<u64> {
    match &events[0] {
        Event::Start(start) => start.resumed_from,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_training_learns_and_leaves_a_model_a_log_and_losses() {
    let bench = bench();
    let events = events(&bench.train("out").ok().out);
    let Some(Event::Start(start)) = events.first() else { panic!("{:?}", events.first()) };
    let Some(Event::Finish(finish)) = events.last() else { panic!("{:?}", events.last()) };
    let evals: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::Eval(eval) = event { Some(eval) } else { None })
        .collect();
    assert_eq!(evals.iter().map(|eval| eval.step).collect::<Vec<_>>(), [0, 5, 10, 12]);
    assert!(evals[3].loss < evals[0].loss - 0.2, "{} -> {}", evals[0].loss, evals[3].loss);
    assert_eq!(evals[0].tasks.iter().map(|task| task.task.as_str()).collect::<Vec<_>>(), ["alpha", "beta"]);
    let steps: Vec<_> = events
        .iter()
        .filter_map(|event| if let Event::Step(step) = event { Some(step) } else { None })
        .collect();
    assert_eq!((steps.len(), start.steps), (12, 12));
    let seen: u64 = steps.iter().map(|step| step.tokens).sum::<u64>() + 4 * start.held_out.tokens;
    assert_eq!(finish.tokens_seen, seen);
    let log = std::fs::read_to_string(bench.path("out/log.jsonl")).expect("log");
    assert_eq!(self::events(&log), events);
    let model = bench.path("out/model/model.safetensors");
    assert_eq!(finch_core::digest::of_file(&model).expect("digest"), finish.weights);
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
        assert!(bench.path("out/model").join(file).is_file(), "{file}");
    }
    let rows = losses::read(&bench.path("out/losses.parquet")).expect("losses");
    assert_eq!(rows.len() as u64, 4 * start.held_out.examples);
    // The same training again is not one: what was done is said again.
    let again = self::events(&bench.train("out").ok().out);
    let finish = Event::Finish(finch_core::training::Finish { already: true, ..finish.clone() });
    assert_eq!(again, [events[0].clone(), finish]);
    // Another one does not take its place.
    bench.config(&CONFIG.replace("seed = 3", "seed = 4"));
    bench.train("out").fails(2, &["another config", "--out"]);
}

#[test]
fn a_killed_training_goes_on_bit_for_bit_and_a_cold_start_does_not() {
    let bench = bench();
    bench.config(&long());
    bench.train("whole").ok();
    let status = stopped(&bench, "killed", "-KILL", SAVED);
    assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9));
    let copy =
        std::process::Command::new("cp").arg("-r").args([bench.path("killed"), bench.path("cold")]).status();
    assert!(copy.expect("cp").success());
    let resumed = events(&bench.train("killed").ok().out);
    assert!(resumed_from(&resumed).is_some_and(|step| (4..60).contains(&step)), "{:?}", resumed[0]);
    assert!(weights(&bench, "whole") == weights(&bench, "killed"), "resumed weights differ");
    let table = |out: &str| losses::read(&bench.path(out).join("losses.parquet")).expect("losses");
    assert_eq!(table("whole"), table("killed"));
    forget_the_optimizer(&bench.path("cold"));
    bench.train("cold").ok();
    assert!(weights(&bench, "whole") != weights(&bench, "cold"), "the optimizer's state was not used");
}

/// Sets an optimizer's moments to zero in the newest checkpoint of a folder.
pub(crate) fn forget_the_optimizer(out: &Path) {
    let newest = std::fs::read_dir(out.join("checkpoints"))
        .expect("list")
        .map(|entry| entry.expect("entry").path())
        .max();
    let path = newest.expect("a checkpoint").join("optimizer.safetensors");
    let mut bytes = std::fs::read(&path).expect("read");
    let header = 8 + u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    bytes[header..].fill(0);
    std::fs::write(&path, bytes).expect("write");
    // As if it had been written so: what does not match its digest is not used.
    let state = path.with_file_name("state.json");
    let mut said: serde_json::Value =
        serde_json::from_slice(&std::fs::read(&state).expect("state")).expect("JSON");
    let digest = finch_core::digest::of_file(&path).expect("digest");
    said["files"]["optimizer.safetensors"] = digest.to_string().into();
    let sealed = serde_json::json!([said["identity"], said["point"], said["updates"], said["files"]]);
    let seal = finch_core::Digest::of_bytes(finch_core::manifest::canonical_json(&sealed).as_bytes());
    said["seal"] = seal.to_string().into();
    std::fs::write(state, said.to_string()).expect("write");
}

#[test]
fn a_signal_stops_after_a_checkpoint_and_the_same_command_goes_on() {
    let bench = bench();
    bench.config(&long());
    let status = stopped(&bench, "out", "-TERM", SAVED);
    assert_eq!(status.code(), Some(143));
    let last = std::fs::read_to_string(bench.path("out/log.jsonl")).expect("log");
    assert!(last.lines().last().expect("a line").contains("checkpoint"), "{last}");
    let resumed = events(&bench.train("out").ok().out);
    assert!(resumed_from(&resumed).is_some_and(|step| step < 60), "{:?}", resumed[0]);
    bench.train("whole").ok();
    assert!(weights(&bench, "out") == weights(&bench, "whole"));
}

#[test]
fn a_signal_ends_an_evaluation_and_what_was_due_comes_after_the_resume() {
    // Held-out documents take far longer than a signal needs.
    let mut packs = packed(documents(12, 160, 1), 3);
    let others = documents(240, 160, 2)
        .into_iter()
        .map(|doc| Doc { id: doc.id.replace("00000000", "11111111"), ..doc });
    let others: Vec<Doc> = others.collect();
    packs.extend(others.chunks(2).map(|docs| (Some("test"), docs.to_vec())));
    let bench = Bench::new(&packs, &CONFIG.replace("eval_every = 5", "eval_every = 4"));
    bench.train("whole").ok();
    let status = stopped(&bench, "out", "-INT", |event| matches!(event, Event::Start(_)));
    assert_eq!(status.code(), Some(130));
    let log = std::fs::read_to_string(bench.path("out/log.jsonl")).expect("log");
    assert_eq!(events(&log).len(), 1, "it stopped before the evaluation was done: {log}");
    // The checkpoint of step 4 is written before the evaluation of step 4.
    assert_eq!(stopped(&bench, "out", "-TERM", SAVED).code(), Some(143));
    let resumed = events(&bench.train("out").ok().out);
    assert_eq!(resumed_from(&resumed), Some(4));
    assert!(matches!(&resumed[1], Event::Eval(eval) if eval.step == 4), "{:?}", resumed[1]);
    let table = |out: &str| losses::read(&bench.path(out).join("losses.parquet")).expect("losses");
    assert_eq!(table("whole"), table("out"));
    assert!(weights(&bench, "out") == weights(&bench, "whole"));
}

#[test]
fn random_weights_depend_on_the_seed_alone() {
    let bench = bench();
    let text = |seed: u64| {
        format!(
            "base = {{ config = \"{{fixtures}}qwen3-tied/config.json\", init = \"random\" }}\nsteps = 1\nbatch_packs = 1\nlr = 1e-3\nseed = {seed}"
        )
    };
    bench.config(&text(1));
    bench.train("a").ok();
    bench.train("b").ok();
    assert!(weights(&bench, "a") == weights(&bench, "b"));
    bench.config(&text(2));
    bench.train("c").ok();
    assert!(weights(&bench, "a") != weights(&bench, "c"));
}

#[test]
fn bf16_weights_learn_too_and_resume() {
    let bench = bench();
    bench.config(&format!("{CONFIG}\ndtype = \"bf16\""));
    let whole = events(&bench.train("whole").ok().out);
    let losses: Vec<f64> = whole
        .iter()
        .filter_map(|event| if let Event::Eval(eval) = event { Some(eval.loss) } else { None })
        .collect();
    assert!(losses[3] < losses[0] - 0.2, "{losses:?}");
    bench.config(&format!("{}\ndtype = \"bf16\"", long()));
    bench.train("long").ok();
    stopped(&bench, "killed", "-KILL", SAVED);
    let resumed = events(&bench.train("killed").ok().out);
    assert!(resumed_from(&resumed).is_some_and(|step| step < 60), "{:?}", resumed[0]);
    assert!(weights(&bench, "long") == weights(&bench, "killed"));
}

#[test]
fn eval_of_the_finished_model_repeats_the_last_evaluation_by_token() {
    let bench = bench();
    let trained = events(&bench.train("out").ok().out);
    let last = trained
        .iter()
        .rev()
        .find_map(|event| if let Event::Eval(eval) = event { Some(eval.clone()) } else { None });
    let arguments = ["eval", "out/model", "--data", "data", "--json", "--per-token", "tokens.parquet"];
    let printed = events(&bench.finch_train(&arguments).ok().out);
    let (Event::Eval(found), Some(last)) = (&printed[0], last) else { panic!("{printed:?}") };
    assert!((found.loss - last.loss).abs() < 1e-6, "{} and {}", found.loss, last.loss);
    let file = std::fs::File::open(bench.path("tokens.parquet")).expect("tokens");
    let rows = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file).expect("parquet");
    let tokens: u64 = last.tasks.iter().map(|task| task.tokens).sum();
    assert_eq!(rows.metadata().file_metadata().num_rows() as u64, tokens);
    bench
        .finch_train(&["eval", "out/model", "--data", "data", "--split", "validation"])
        .fails(2, &["validation"]);
}

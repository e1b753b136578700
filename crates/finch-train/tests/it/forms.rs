//! Trainings in every form: families of models, bytes a weight, adapters. Each learns, is resumed bit for bit, differs
//! from one that forgot its optimizer, and leaves a model that says what was measured.

use std::path::Path;

use finch_core::training::{Eval, Event};
use finch_train::losses;

use crate::dataset::{Bench, documents, packed};
use crate::training::{events, forget_the_optimizer, weights};

const CONFIG: &str = "base = \"{fixtures}FAMILY\"\nsteps = 12\nbatch_packs = 2\nlr = 5e-3\nweight_decay = 0.1\n\
                      schedule = { warmup = 0.2 }\ncheckpoint_every = 4\nkeep_checkpoints = 9\nseed = 3\n";

fn bench(family: &str, more: &str) -> Bench {
    Bench::new(&packed(documents(24, 160, 1), 3), &format!("{}{more}", CONFIG.replace("FAMILY", family)))
}

fn evals(events: &[Event]) -> Vec<Eval> {
    let eval = |event: &Event| if let Event::Eval(eval) = event { Some(eval.clone()) } else { None };
    events.iter().filter_map(eval).collect()
}

/// A finished training as one that was killed after its first checkpoint.
fn interrupted(bench: &Bench, whole: &str, name: &str) {
    let (from, to) = (bench.path(whole), bench.path(name));
    let copied = std::process::Command::new("cp").arg("-r").args([&from, &to]).status().expect("cp");
    assert!(copied.success());
    std::fs::remove_file(to.join("finished.json")).expect("unfinish");
    for folder in ["model", "checkpoints/step-00000008", "checkpoints/step-00000012"] {
        std::fs::remove_dir_all(to.join(folder)).expect("unfinish");
    }
}

/// Trains, resumes, starts cold and evaluates; the held-out loss must fall by so much.
#[track_caller]
fn all_of(bench: &Bench, least: f64) {
    let whole = evals(&events(&bench.train("whole").ok().out));
    let (first, last) = (&whole[0], &whole[whole.len() - 1]);
    assert!(last.loss < first.loss - least, "{} -> {}", first.loss, last.loss);

    interrupted(bench, "whole", "resumed");
    let resumed = events(&bench.train("resumed").ok().out);
    let Event::Start(start) = &resumed[0] else { panic!("{resumed:?}") };
    assert_eq!(start.resumed_from, Some(4));
    assert!(weights(bench, "whole") == weights(bench, "resumed"), "resumed weights differ");

    interrupted(bench, "whole", "cold");
    forget_the_optimizer(&bench.path("cold"));
    bench.train("cold").ok();
    assert!(weights(bench, "whole") != weights(bench, "cold"), "the optimizer's state was not used");

    let printed = bench.finch_train(&["eval", "whole/model", "--data", "data", "--json"]).ok();
    let again = evals(&events(&printed.out)).remove(0);
    // Adapters are merged, and in bf16 the merged weights are rounded: by 2^-9 each, which this loss feels in its third
    // decimal (2.9e-3 seen).
    let config = std::fs::read_to_string(bench.path("config.toml")).expect("config");
    let near = match (start.trainable < start.parameters, config.contains("bf16")) {
        (true, true) => 6e-3,
        (true, false) => 1e-5,
        (false, _) => 1e-6,
    };
    assert!((again.loss - last.loss).abs() < near, "{} and {}", again.loss, last.loss);
}

#[test]
fn every_family() {
    for family in ["qwen3-tied", "qwen2", "llama", "llama-bias"] {
        all_of(&bench(family, ""), 0.1);
    }
}

#[test]
fn every_number_of_bytes_a_weight() {
    for bytes in [16, 12, 10, 8] {
        all_of(&bench("qwen3", &format!("dtype = \"bf16\"\nstate_bytes = {bytes}")), 0.1);
    }
}

#[test]
fn a_split_master_learns_what_a_whole_one_learns() {
    let last = |bytes: u8| {
        let bench = bench("qwen3", &format!("dtype = \"bf16\"\nstate_bytes = {bytes}"));
        evals(&events(&bench.train("out").ok().out)).pop().expect("an evaluation").loss
    };
    let (whole, split) = (last(16), last(12));
    assert!((whole - split).abs() < 5e-3, "{whole} and {split}");
}

#[test]
fn adapters() {
    for more in ["dtype = \"f32\"", "dtype = \"bf16\"\nstate_bytes = 12"] {
        let bench =
            bench("qwen3", &format!("method = \"lora\"\nlora = {{ rank = 4, alpha = 16.0 }}\n{more}"));
        bench.config(
            &std::fs::read_to_string(bench.path("config.toml"))
                .expect("config")
                .replace("lr = 5e-3", "lr = 3e-2"),
        );
        // Little can be learned beside random weights that stay as they are.
        all_of(&bench, 0.03);
        // A checkpoint holds what is trained, and the model is whole.
        let size = |path: &str| std::fs::metadata(bench.path(path)).expect("file").len();
        let kept = size("whole/checkpoints/step-00000012/weights.safetensors");
        let model = size("whole/model/model.safetensors");
        assert!(kept < model, "{kept} and {model}");
    }
}

#[test]
fn adapters_of_one_projection_change_that_projection_alone() {
    let more = "method = \"lora\"\nlora = { rank = 2, alpha = 8.0, targets = [\"v_proj\"] }";
    let bench = bench("qwen3", more);
    bench.train("out").ok();
    let read = |path: &Path| {
        let bytes = std::fs::read(path).expect("weights");
        let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
        let tensors = file.tensors().into_iter().map(|(name, view)| (name, view.data().to_vec()));
        tensors.collect::<std::collections::BTreeMap<_, _>>()
    };
    let (base, tuned) = (
        read(&crate::dataset::fixture("qwen3/model.safetensors")),
        read(&bench.path("out/model/model.safetensors")),
    );
    assert_eq!(base.keys().collect::<Vec<_>>(), tuned.keys().collect::<Vec<_>>());
    for (name, bytes) in &base {
        assert_eq!(*bytes != tuned[name], name.contains("v_proj"), "{name}");
    }
}

#[test]
fn what_is_kept_of_layers_changes_no_weight_and_may_change_between_stop_and_resume() {
    let bench = bench("qwen3", "activations = \"everything\"");
    bench.train("whole").ok();
    interrupted(&bench, "whole", "resumed");
    let text = std::fs::read_to_string(bench.path("config.toml")).expect("config");
    bench.config(&text.replace("\"everything\"", "\"inputs\""));
    bench.train("resumed").ok();
    bench.train("inputs").ok();
    let expected = weights(&bench, "whole");
    assert!(weights(&bench, "resumed") == expected && weights(&bench, "inputs") == expected);
}

#[test]
fn the_best_checkpoint_is_kept_and_exported() {
    // A rate so high that the held-out loss falls and rises again.
    let more = "eval_every = 2\nkeep_best = true";
    let bench = bench("qwen3", more);
    let text = std::fs::read_to_string(bench.path("config.toml")).expect("config");
    let text = text.replace("keep_checkpoints = 9", "keep_checkpoints = 1").replace("lr = 5e-3", "lr = 3e-1");
    bench.config(&text.replace("schedule = { warmup = 0.2 }", "schedule = { kind = \"constant\" }"));
    let all = events(&bench.train("out").ok().out);
    let later: Vec<Eval> = evals(&all).into_iter().filter(|eval| eval.step > 0).collect();
    let best = later.iter().min_by(|a, b| a.loss.total_cmp(&b.loss)).expect("evaluations");
    assert!(best.step < 12, "the test needs a best one before the end: {later:?}");
    let mut kept: Vec<String> = std::fs::read_dir(bench.path("out/checkpoints"))
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    kept.sort();
    assert_eq!(kept, [format!("step-{:08}", best.step), "step-00000012".to_owned()]);
    let export = |to: &str, more: &[&str]| {
        let arguments = ["export", "config.toml", "--data", "data", "--out", "out", "--to", to];
        bench.finch_train(&[&arguments[..], more].concat())
    };
    export("best", &["--best"]).ok();
    let printed = bench.finch_train(&["eval", "best", "--data", "data", "--json"]).ok();
    let found = evals(&events(&printed.out)).remove(0);
    assert!((found.loss - best.loss).abs() < 1e-6, "{} and {}", found.loss, best.loss);
    export("last", &[]).ok();
    let read = |path: &str| std::fs::read(bench.path(path)).expect("model");
    assert!(read("last/model.safetensors") == read("out/model/model.safetensors"));
    export("last", &[]).fails(2, &["is there already"]);
    export("none", &["--step", "5"]).fails(2, &["a checkpoint of step 5", "step", "12"]);
    let rows = losses::read(&bench.path("out/losses.parquet")).expect("losses");
    assert!(rows.iter().any(|row| row.step == best.step));
}

#[test]
fn a_damaged_newest_checkpoint_never_costs_the_good_ones() {
    let bench = bench("qwen3", "");
    let text = std::fs::read_to_string(bench.path("config.toml")).expect("config");
    bench.config(&text.replace("keep_checkpoints = 9", "keep_checkpoints = 2"));
    bench.train("out").ok();
    let expected = weights(&bench, "out");
    // As if it had been killed after the last checkpoint, which then was damaged.
    std::fs::remove_file(bench.path("out/finished.json")).expect("unfinish");
    std::fs::remove_dir_all(bench.path("out/model")).expect("unfinish");
    let damaged = bench.path("out/checkpoints/step-00000012/weights.safetensors");
    let mut bytes = std::fs::read(&damaged).expect("checkpoint");
    *bytes.last_mut().expect("bytes") ^= 1;
    std::fs::write(&damaged, bytes).expect("write");
    std::fs::create_dir(bench.path("out/checkpoints/.step-00000099.tmp")).expect("a killed save's");
    // Saves at every step now, and keeps one: none may give way to the damaged one.
    bench.config(
        &text
            .replace("keep_checkpoints = 9", "keep_checkpoints = 1")
            .replace("checkpoint_every = 4", "checkpoint_every = 1"),
    );
    let status = crate::training::stopped(&bench, "out", "-TERM", |event| {
        matches!(event, Event::Checkpoint { step: 9, .. })
    });
    let left: Vec<String> = std::fs::read_dir(bench.path("out/checkpoints"))
        .expect("list")
        .map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert_eq!(left.len(), 1, "{left:?}");
    if status.code() == Some(143) {
        let again = events(&bench.train("out").ok().out);
        let Event::Start(start) = &again[0] else { panic!("{again:?}") };
        assert!(start.resumed_from >= Some(9), "{:?}", start.resumed_from);
    }
    assert!(weights(&bench, "out") == expected);
}

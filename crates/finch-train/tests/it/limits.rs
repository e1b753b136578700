//! What a training may take, and what becomes of it when there is less; and steps that cannot be applied.

use finch_core::training::Event;

use crate::dataset::{Bench, documents, fixture, packed, write};
use crate::training::events;

const CONFIG: &str = "base = \"{fixtures}qwen3\"\nsteps = 6\nbatch_packs = 1\nlr = 1e-3\ndevice = \"cpu\"\n";

fn bench(more: &str) -> Bench {
    Bench::new(&packed(documents(24, 160, 1), 3), &format!("{CONFIG}{more}"))
}

fn plan(bench: &Bench) -> serde_json::Value {
    let printed = bench.finch_train(&["plan", "config.toml", "--data", "data", "--json"]).ok();
    serde_json::from_str(&printed.out).expect("json")
}

#[test]
fn less_memory_keeps_less_of_layers_and_too_little_is_refused_with_numbers() {
    let bench = bench("memory = 1073741824");
    let roomy = plan(&bench);
    assert_eq!(roomy["kept"]["everything"], 2);
    let text = |bytes: u64| format!("{CONFIG}memory = {bytes}");
    let total = roomy["total_bytes"].as_u64().expect("bytes");
    bench.config(&text(total - 1));
    let tight = plan(&bench);
    assert_eq!(tight["fits"], true);
    assert!(tight["kept"]["everything"].as_u64() < Some(2), "{tight}");
    let Event::Start(start) = &events(&bench.train("tight").ok().out)[0] else { panic!("no start") };
    assert_eq!(serde_json::to_value(start.kept).expect("json"), tight["kept"]);
    bench.config(&text(1 << 20));
    assert_eq!(plan(&bench)["fits"], false);
    let words = bench.finch_train(&["plan", "config.toml", "--data", "data"]).ok().out;
    assert!(words.contains("does not fit in 1.0 MiB") && words.contains("lower `micro_packs`"), "{words}");
    bench.train("out").fails(3, &["F0818", "the training needs", "for weights", "micro_packs"]);
    assert!(!bench.path("out/checkpoints").exists());
}

#[test]
fn memory_that_runs_out_is_an_error_that_says_what_was_needed() {
    let bench = bench("");
    // Made-up weights of 2 GB where a process may have 1.5: what a machine without memory does.
    let config = std::fs::read_to_string(fixture("qwen3/config.json")).expect("config");
    let mut config: serde_json::Value = serde_json::from_str(&config).expect("json");
    (config["hidden_size"], config["intermediate_size"]) = (4096.into(), 16_384.into());
    std::fs::write(bench.path("wide.json"), config.to_string()).expect("write");
    bench.config(
        "base = { config = \"wide.json\", init = \"random\" }\nsteps = 1\nbatch_packs = 1\nlr = 1e-3",
    );
    let program = env!("CARGO_BIN_EXE_finch-train");
    let mut limited = std::process::Command::new("bash");
    let command = "ulimit -v 1500000; exec \"$0\" run config.toml --data data --out out --json";
    limited.args(["-c", command, program]).current_dir(bench.path("")).env("OPENBLAS_NUM_THREADS", "1");
    crate::dataset::ended(&mut limited)
        .fails(3, &["F0818", "the training needs", "GiB in all", "state_bytes"]);
}

const EMBEDDING: &str = "model.embed_tokens.weight";

/// A base some of whose weights, of one tensor, are this value.
fn poisoned(bench: &Bench, name: &str, elements: std::ops::Range<usize>, value: f32) {
    let base = bench.path("base");
    std::fs::create_dir(&base).expect("folder");
    std::fs::copy(fixture("qwen3/config.json"), base.join("config.json")).expect("copy");
    let mut bytes = std::fs::read(fixture("qwen3/model.safetensors")).expect("read");
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).expect("header");
    let offset = header[name]["data_offsets"][0].as_u64().expect("offset") as usize;
    for element in elements {
        let start = 8 + length + offset + element * 4;
        bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
    }
    std::fs::write(base.join("model.safetensors"), bytes).expect("write");
}

#[test]
fn a_step_that_is_no_number_is_left_out_where_that_is_the_policy() {
    // Documents of the tokens 0 to 39, but one that holds the token 150.
    let mut docs = documents(6, 40, 1);
    docs[2].ids[3] = 150;
    let packs: Vec<_> = docs.iter().map(|doc| (None, vec![doc.clone()])).collect();
    let text = "base = \"base\"\nepochs = 1\nbatch_packs = 1\nlr = 1e-3\n";
    let bench = Bench::new(&packs, text);
    poisoned(&bench, EMBEDDING, 150 * 32..150 * 32 + 1, f32::NAN);
    bench.train("stop").fails(1, &["F0807", "the loss is NaN, first in the embedding", &docs[2].id]);

    bench.config(&format!("{text}not_finite = \"skip\""));
    // The weights hold a number that is none from the start, so no checkpoint of them may be kept.
    let ended = bench.train("skip").fails(1, &["F0807", "a weight is NaN", "embed_tokens"]);
    let all: Vec<Event> = ended.out.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let skipped: Vec<_> = all
        .iter()
        .filter_map(|event| if let Event::Skipped(step) = event { Some(step) } else { None })
        .collect();
    assert_eq!(skipped.len(), 1);
    assert!(skipped[0].reason.contains(&docs[2].id), "{}", skipped[0].reason);
    let steps = all.iter().filter(|event| matches!(event, Event::Step(_))).count();
    assert_eq!(steps, 5, "the others were applied");
}

#[test]
fn ten_steps_in_a_row_that_are_no_numbers_end_a_training_all_the_same() {
    let mut docs = documents(12, 40, 1);
    for doc in &mut docs {
        doc.ids[0] = 150;
    }
    let packs: Vec<_> = docs.iter().map(|doc| (None, vec![doc.clone()])).collect();
    let bench =
        Bench::new(&packs, "base = \"base\"\nepochs = 1\nbatch_packs = 1\nlr = 1e-3\nnot_finite = \"skip\"");
    poisoned(&bench, EMBEDDING, 150 * 32..150 * 32 + 1, f32::NAN);
    let ended = bench.train("out").fails(1, &["F0807", "step 10: the loss is NaN"]);
    assert_eq!(ended.out.matches("\"event\":\"skipped\"").count(), 9);
}

#[test]
fn steps_that_were_left_out_before_a_checkpoint_count_after_it() {
    let packs: Vec<_> = documents(14, 40, 1).iter().map(|doc| (None, vec![doc.clone()])).collect();
    let text = "base = \"base\"\nepochs = 1\nbatch_packs = 1\nlr = 1e-3\nnot_finite = \"skip\"\n";
    let bench = Bench::new(&packs, &format!("{text}checkpoint_every = 8"));
    // Finite, so that a checkpoint of it is kept; and too large for any loss to be.
    poisoned(&bench, "model.norm.weight", 0..32, f32::MAX);
    for skipped in [9, 1] {
        let ended = bench.train("out").fails(1, &["F0807", "step 10: the loss is NaN"]);
        assert_eq!(ended.out.matches("\"event\":\"skipped\"").count(), skipped);
    }
}

#[test]
fn tensors_that_no_formula_reads_are_carried_through_and_those_of_layers_are_refused() {
    let bench = bench("");
    let base = bench.path("base");
    std::fs::create_dir(&base).expect("folder");
    std::fs::copy(fixture("qwen3/config.json"), base.join("config.json")).expect("copy");
    let bytes = std::fs::read(fixture("qwen3/model.safetensors")).expect("read");
    let file = safetensors::SafeTensors::deserialize(&bytes).expect("safetensors");
    let other: Vec<u8> = (0..24).collect();
    let write = |name: &str| {
        let more =
            safetensors::tensor::TensorView::new(safetensors::Dtype::I64, vec![3], &other).expect("view");
        // In two files, as large models come.
        let (mut first, mut second): (Vec<_>, Vec<_>) =
            file.tensors().into_iter().partition(|(name, _)| name.contains("layers.0"));
        second.push((name.to_owned(), more));
        let mut map = serde_json::Map::new();
        for (place, part) in [&mut first, &mut second].into_iter().enumerate() {
            let shard = format!("model-0000{}-of-00002.safetensors", place + 1);
            map.extend(part.iter().map(|(name, _)| (name.clone(), shard.clone().into())));
            safetensors::serialize_to_file(part.drain(..), None, &base.join(shard)).expect("write");
        }
        let index = serde_json::json!({ "metadata": {}, "weight_map": map });
        std::fs::write(base.join("model.safetensors.index.json"), index.to_string()).expect("write");
    };
    bench.config(&CONFIG.replace("{fixtures}qwen3", "base"));
    write("mtp.layers.0.weight");
    let Event::Start(start) = &events(&bench.train("out").ok().out)[0] else { panic!("no start") };
    assert_eq!(start.carried, 1);
    let model = std::fs::read(bench.path("out/model/model.safetensors")).expect("model");
    let model = safetensors::SafeTensors::deserialize(&model).expect("safetensors");
    let carried = model.tensor("mtp.layers.0.weight").expect("carried through");
    assert_eq!((carried.dtype(), carried.data()), (safetensors::Dtype::I64, other.as_slice()));
    write("model.layers.0.self_attn.sinks");
    bench.train("other").fails(1, &["F0804", "model.layers.0.self_attn.sinks", "does not speak of"]);
}

#[test]
fn held_out_losses_are_told_by_outcome_where_packs_know_it() {
    let mut packs = packed(documents(24, 160, 1), 3);
    for (n, doc) in packs.iter_mut().flat_map(|pack| &mut pack.1).enumerate() {
        doc.outcome = ["improvement", "self_repair", ""][n % 3].to_owned();
    }
    let bench = bench("");
    write(&bench.path("data"), &packs);
    let all = events(&bench.train("out").ok().out);
    let Some(Event::Eval(eval)) = all.iter().find(|event| matches!(event, Event::Eval(_))) else {
        panic!("{all:?}")
    };
    let names: Vec<&str> = eval.outcomes.iter().map(|outcome| outcome.outcome.as_str()).collect();
    assert_eq!(names, ["improvement", "self_repair"]);
    let examples: u64 = eval.outcomes.iter().map(|outcome| outcome.examples).sum();
    let total: u64 = eval.tasks.iter().map(|task| task.examples).sum();
    assert!(examples < total && examples > 0);
}

#[test]
fn this_machine_computes_what_it_should() {
    let bench = bench("");
    let checked = bench.finch_train(&["check", "--device", "cpu"]).ok().out;
    assert!(checked.contains("all of 53 comparisons are within their limits"), "{checked}");
}

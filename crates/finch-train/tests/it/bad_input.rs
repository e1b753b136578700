//! What is wrong with data, models and machines, and what the program says about it.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Int32Array, ListArray};
use arrow::datatypes::Int32Type;

use crate::dataset::{Bench, documents, fixture, packed, write_with};

const CONFIG: &str = "base = \"{fixtures}qwen3\"\nsteps = 4\nbatch_packs = 2\nlr = 1e-3";

fn bench() -> Bench {
    Bench::new(&packed(documents(20, 160, 1), 3), CONFIG)
}

fn plan(bench: &Bench) -> crate::dataset::Ended {
    bench.finch_train(&["plan", "config.toml", "--data", "data"])
}

/// The same list column with other items.
fn with_items(column: &ArrayRef, items: ArrayRef) -> ArrayRef {
    let list: &ListArray = column.as_list();
    let arrow::datatypes::DataType::List(field) = list.data_type() else { panic!("a list") };
    Arc::new(ListArray::new(field.clone(), list.offsets().clone(), items, None))
}

fn with_first_int(column: &ArrayRef, value: i32) -> ArrayRef {
    let list: &ListArray = column.as_list();
    let mut items: Vec<i32> = list.values().as_primitive::<Int32Type>().values().to_vec();
    items[0] = value;
    with_items(column, Arc::new(Int32Array::from(items)))
}

#[test]
fn token_ids_beyond_the_vocabulary_are_refused() {
    let bench = Bench::new(&packed(documents(20, 161, 1), 3), CONFIG);
    plan(&bench).fails(1, &["F0805", "token id 160", "ends at 159", "tokenizer of the base model"]);
}

#[test]
fn an_example_without_a_trained_token_is_refused_by_name() {
    let mut docs = documents(20, 160, 1);
    docs[4].trained.fill(false);
    let id = docs[4].id.clone();
    let bench = Bench::new(&packed(docs, 3), CONFIG);
    plan(&bench).fails(1, &["F0806", &id, "no trained token"]);
}

#[test]
fn a_dataset_without_training_packs_is_refused() {
    let bench = Bench::new(&[(Some("test"), documents(3, 160, 1))], CONFIG);
    plan(&bench).fails(1, &["F0808", "no pack is of the split `train`"]);
}

#[test]
fn rows_that_are_no_packs_are_named() {
    type Spoil = fn(&ArrayRef) -> ArrayRef;
    let cases: [(&str, Spoil, &str); 6] = [
        ("input_ids", |c| with_first_int(c, -3), "-3 is no token id"),
        ("position_ids", |c| with_first_int(c, 5), "do not count from 0"),
        ("cu_seqlens", |c| with_first_int(c, 2), "`cu_seqlens` does not ascend"),
        ("trained_tokens", |c| with_first_int(c, 1), "does not fit its count"),
        ("cu_seqlens", |c| with_first_int(c, i32::MAX), "`cu_seqlens` does not ascend"),
        (
            "loss_mask",
            |c| {
                let list: &ListArray = c.as_list();
                with_items(c, Arc::new(BooleanArray::from(vec![true; list.values().len()])))
            },
            "does not fit its count",
        ),
    ];
    for (name, spoil, words) in cases {
        let bench = bench();
        write_with(&bench.path("data"), &packed(documents(20, 160, 1), 3), |column, values| {
            if column == name {
                *values = spoil(values);
            }
        });
        plan(&bench).fails(1, &["F0802", "pack ", words]);
    }
}

#[test]
fn a_column_of_another_type_is_named() {
    let bench = bench();
    write_with(&bench.path("data"), &packed(documents(20, 160, 1), 3), |column, values| {
        if column == "input_ids" {
            let list: &ListArray = values.as_list();
            let items =
                arrow::compute::cast(list.values(), &arrow::datatypes::DataType::Int64).expect("cast");
            let field = arrow::datatypes::Field::new("item", items.data_type().clone(), false);
            *values = Arc::new(ListArray::new(Arc::new(field), list.offsets().clone(), items, None));
        }
    });
    plan(&bench).fails(1, &["F0802", "the column `input_ids` is not a list of Int32"]);
}

#[test]
fn a_flipped_byte_in_a_shard_is_found() {
    let bench = bench();
    let path = bench.path("data/packs/packs-00000.parquet");
    let mut bytes = std::fs::read(&path).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&path, bytes).expect("write");
    plan(&bench).fails(1, &["F0802", "packs-00000.parquet", "BLAKE3"]);
}

#[test]
fn what_is_no_dataset_is_said_to_be_none() {
    let bench = bench();
    bench
        .finch_train(&["plan", "config.toml", "--data", "."])
        .fails(1, &["is not a dataset", "finch path packs"]);
    let manifest = bench.path("data/manifest.json");
    let text = std::fs::read_to_string(&manifest).expect("read");
    std::fs::write(&manifest, text.replace("packs/packs-00000", "../packs-00000")).expect("write");
    plan(&bench).fails(1, &["../packs-00000"]);
    std::fs::write(&manifest, &text[..text.len() / 2]).expect("write");
    plan(&bench).fails(1, &["F0502", "corrupt"]);
}

#[test]
fn configs_and_models_that_cannot_be_are_usage_errors() {
    let bench = bench();
    bench.config(&CONFIG.replace("lr = 1e-3", "learning_rate = 1e-3"));
    plan(&bench).fails(2, &["F0801", "learning_rate"]);
    bench.config(&CONFIG.replace("steps = 4", "steps = 4\nepochs = 1"));
    plan(&bench).fails(2, &["F0801", "`steps`"]);
    bench.config(&CONFIG.replace("{fixtures}qwen3", "nowhere"));
    plan(&bench).fails(3, &["F0814", "nowhere/config.json"]);
    std::fs::create_dir(bench.path("base")).expect("folder");
    let text = std::fs::read_to_string(fixture("qwen3/config.json")).expect("config");
    std::fs::write(bench.path("base/config.json"), text.replace("\"qwen3\"", "\"gpt2\"")).expect("write");
    bench.config(&CONFIG.replace("{fixtures}qwen3", "base"));
    plan(&bench).fails(2, &["F0803", "`model_type` is `gpt2`"]);
}

#[test]
fn a_machine_without_libtorch_says_what_to_run() {
    let bench = bench();
    let run = ["run", "config.toml", "--data", "data", "--out", "out", "--json"];
    let linked = std::path::Path::new(env!("CARGO_BIN_EXE_finch-train")).with_file_name("finch-train-torch");
    let mut command = bench.command(&run);
    command.env("FINCH_LIBTORCH", bench.path(""));
    if !linked.exists() {
        crate::dataset::ended(&mut command).fails(3, &["F0813", "--features torch"]);
        return;
    }
    let ended =
        crate::dataset::ended(&mut command).fails(3, &["F0811", "FINCH_LIBTORCH", "scripts/libtorch.py"]);
    assert!(ended.out.contains(r#""event":"error","code":"F0811""#), "{}", ended.out);
    // Another release is found before the loader can stumble over it.
    std::fs::create_dir(bench.path("lib")).expect("lib");
    std::fs::write(bench.path("lib/libtorch_cpu.so"), "").expect("write");
    std::fs::write(bench.path("build-version"), "2.13.1+cpu\n").expect("write");
    crate::dataset::ended(&mut command)
        .fails(3, &["F0811", "holds libtorch 2.13.1+cpu", "libtorch 2.11 is needed"]);
}

#[cfg(feature = "torch")]
mod with_torch {
    use std::path::Path;

    use super::{CONFIG, bench};
    use crate::dataset::{Bench, ended, fixture};

    /// A copy of the fixture model in the bench, with its tensors' bytes or header changed.
    fn spoiled(bench: &Bench, spoil: impl FnOnce(&mut Vec<u8>)) {
        let base = bench.path("base");
        std::fs::create_dir(&base).expect("folder");
        std::fs::copy(fixture("qwen3/config.json"), base.join("config.json")).expect("copy");
        let mut bytes = std::fs::read(fixture("qwen3/model.safetensors")).expect("read");
        spoil(&mut bytes);
        std::fs::write(base.join("model.safetensors"), bytes).expect("write");
        bench.config(&CONFIG.replace("{fixtures}qwen3", "base"));
    }

    /// Replaces text in a safetensors header by text of the same length.
    fn in_header(bytes: &mut [u8], old: &str, new: &str) {
        assert_eq!(old.len(), new.len());
        let at = bytes.windows(old.len()).position(|window| window == old.as_bytes()).expect("in the header");
        bytes[at..at + new.len()].copy_from_slice(new.as_bytes());
    }

    #[test]
    fn a_missing_tensor_is_named() {
        let bench = bench();
        spoiled(&bench, |bytes| in_header(bytes, "layers.1.mlp.up_proj", "layers.9.mlp.up_proj"));
        bench.train("out").fails(1, &["F0804", "lacks the tensor `model.layers.1.mlp.up_proj.weight`"]);
    }

    #[test]
    fn a_misshapen_tensor_is_named_with_both_shapes() {
        let bench = bench();
        spoiled(&bench, |bytes| {
            let find =
                |bytes: &[u8], text: &str| bytes.windows(text.len()).position(|part| part == text.as_bytes());
            let at = find(bytes, "model.layers.0.mlp.down_proj").expect("tensor");
            let shape = at + find(&bytes[at..], "[32,80]").expect("shape");
            bytes[shape..shape + 7].copy_from_slice(b"[80,32]");
        });
        bench.train("out").fails(1, &["F0804", "down_proj", "[80, 32]", "[32, 80]"]);
    }

    #[test]
    fn a_cut_off_checkpoint_is_no_crash() {
        for keep in [0, 5, 300, 100_000] {
            let bench = bench();
            spoiled(&bench, |bytes| bytes.truncate(keep));
            let ended = bench.train("out");
            let code = ended.code;
            assert!(code == 1 || code == 3, "{code}");
            ended.fails(code, &["model.safetensors"]);
        }
    }

    /// Puts a number that is none into one weight of a tensor.
    fn poison(bytes: &mut [u8], tensor: &str) {
        let length = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
        let header: serde_json::Value = serde_json::from_slice(&bytes[8..8 + length]).expect("header");
        let start = 8 + length + header[tensor]["data_offsets"][0].as_u64().expect("offset") as usize;
        bytes[start..start + 4].copy_from_slice(&f32::NAN.to_le_bytes());
    }

    #[test]
    fn a_loss_that_is_no_number_names_step_examples_and_layer() {
        let bench = bench();
        spoiled(&bench, |bytes| poison(bytes, "model.layers.1.mlp.gate_proj.weight"));
        // Held-out losses come before the first step, and would find it first.
        crate::dataset::write(&bench.path("data"), &[(None, crate::dataset::documents(3, 160, 1))]);
        let id = format!("{:064x}", 1);
        bench
            .train("out")
            .fails(1, &["F0807", "step 1: the loss is NaN, first in layer 1 of 2", &id, "lower `lr`"]);
        assert!(!bench.path("out/model").exists());
    }

    #[test]
    fn a_held_out_loss_that_is_no_number_names_an_example() {
        let bench = bench();
        spoiled(&bench, |bytes| poison(bytes, "model.norm.weight"));
        bench.train("out").fails(
            1,
            &["F0807", "step 0: the held-out loss", "first in the last norm", "0000", "the base gives it"],
        );
    }

    #[test]
    fn cuda_that_is_asked_for_and_absent_is_an_error_that_says_what_was_looked_for() {
        if Path::new("/dev/nvidiactl").exists() {
            println!("SKIPPED: this machine has a card");
            return;
        }
        let bench = bench();
        bench.config(&format!("{CONFIG}\ndevice = \"cuda\""));
        bench.train("out").fails(3, &["F0812", "libtorch_cuda.so", "/dev/nvidiactl", "device = \"cpu\""]);
    }

    #[test]
    fn a_full_disk_during_a_checkpoint_leaves_the_earlier_one() {
        let bench = bench();
        bench.config(&CONFIG.replace("steps = 4", "steps = 4\ncheckpoint_every = 2"));
        bench.train("whole").ok();
        // The first training leaves a checkpoint of step 2; a second attempt must not harm it.
        let kept = bench.path("whole/checkpoints/step-00000002/weights.safetensors");
        let before = std::fs::read(&kept).expect("checkpoint");
        std::fs::remove_file(bench.path("whole/finished.json")).expect("unfinish");
        for folder in ["whole/model", "whole/checkpoints/step-00000004"] {
            std::fs::remove_dir_all(bench.path(folder)).expect("unfinish");
        }
        bench.config(&CONFIG.replace("steps = 4", "steps = 4\ncheckpoint_every = 1"));
        // Files may not grow beyond 100 blocks of 1 kB: what a full disk does, without filling one.
        let program = env!("CARGO_BIN_EXE_finch-train");
        let mut limited = std::process::Command::new("bash");
        limited.args(["-c", "ulimit -f 100; exec \"$0\" run config.toml --data data --out whole", program]);
        limited.current_dir(bench.path(""));
        ended(&mut limited).fails(3, &["F0814", "weights.safetensors", "step-00000002` was not touched"]);
        assert_eq!(std::fs::read(&kept).expect("checkpoint"), before);
        let left: Vec<_> = std::fs::read_dir(bench.path("whole/checkpoints"))
            .expect("list")
            .map(|entry| entry.expect("entry").file_name())
            .collect();
        assert_eq!(left, ["step-00000002"], "nothing half-written is left");
        bench.train("whole").ok();
    }

    #[test]
    fn a_model_that_cannot_be_written_costs_no_step() {
        let bench = bench();
        std::fs::create_dir_all(bench.path("out")).expect("folder");
        // Where the model is prepared stands something that is no folder.
        std::fs::write(bench.path("out/.model.tmp"), "").expect("write");
        bench
            .train("out")
            .fails(3, &["F0814", ".model.tmp", "step-00000004` was not touched", "goes on from it"]);
        std::fs::remove_file(bench.path("out/.model.tmp")).expect("remove");
        let again = bench.train("out").ok().out;
        assert!(again.contains("\"resumed_from\":4") && !again.contains("\"event\":\"step\""), "{again}");
    }

    #[test]
    fn a_finished_training_that_is_not_whole_any_more_is_finished_again() {
        let bench = bench();
        bench.train("out").ok();
        let model = bench.path("out/model/model.safetensors");
        let good = std::fs::read(&model).expect("model");
        let out = |name: &str| bench.path("out").join(name);
        let spoil: [(&str, &dyn Fn()); 5] = [
            ("model/model.safetensors", &|| {
                std::fs::write(&model, [&good[1..], b"x"].concat()).expect("write");
            }),
            ("model/tokenizer.json", &|| std::fs::write(out("model/tokenizer.json"), "{}").expect("write")),
            ("model/config.json", &|| std::fs::remove_file(out("model/config.json")).expect("remove")),
            ("model/stray.txt", &|| std::fs::write(out("model/stray.txt"), "").expect("write")),
            ("losses.parquet", &|| std::fs::remove_file(out("losses.parquet")).expect("remove")),
        ];
        for (name, spoil) in spoil {
            spoil();
            let again = bench.train("out").ok();
            assert!(
                again.err.contains(name) && again.out.contains("\"resumed_from\":4"),
                "{name}: {}",
                again.err
            );
            assert!(std::fs::read(&model).expect("model") == good);
            let quiet = bench.train("out").ok();
            assert!(quiet.err.is_empty() && quiet.out.contains("\"already\":true"), "{name}: {}", quiet.err);
        }
        std::fs::write(out("finished.json"), "{\"ident").expect("write");
        let again = bench.train("out").ok();
        assert!(again.err.contains("finished.json"), "{}", again.err);
    }

    #[test]
    fn weights_that_are_no_numbers_are_never_kept() {
        let bench = bench();
        // Nothing is held out, so no loss sees the weights after the last step.
        crate::dataset::write(&bench.path("data"), &[(None, crate::dataset::documents(3, 160, 1))]);
        bench.config(&CONFIG.replace("steps = 4", "steps = 1").replace("lr = 1e-3", "lr = 1e300"));
        bench.train("out").fails(1, &["F0807", "a weight is NaN or infinite after the update", "first in `"]);
        assert!(!bench.path("out/model").exists());
        let left = std::fs::read_dir(bench.path("out/checkpoints")).map_or(0, Iterator::count);
        assert_eq!(left, 0, "a checkpoint of them would be gone on from");
    }

    #[test]
    fn a_damaged_tokenizer_is_no_part_of_a_model() {
        let bench = bench();
        let path = bench.path("data/tokenizer.json");
        let text = std::fs::read_to_string(&path).expect("tokenizer");
        std::fs::write(&path, "x".repeat(text.len())).expect("write");
        bench.train("out").fails(1, &["F0802", "tokenizer.json", "BLAKE3"]);
    }

    #[test]
    fn eval_refuses_a_model_with_other_tokens_or_without_numbers() {
        let bench = bench();
        bench.train("out").ok();
        let eval = || bench.finch_train(&["eval", "out/model", "--data", "data"]);
        eval().ok();
        let path = bench.path("out/model/tokenizer.json");
        let text = std::fs::read_to_string(&path).expect("tokenizer");
        std::fs::write(&path, text.replace("\"a\":0", "\"a\":1")).expect("write");
        eval().fails(1, &["F0805", "another tokenizer", "`a` has another id"]);
        std::fs::write(&path, text).expect("write");
        let weights = bench.path("out/model/model.safetensors");
        let mut bytes = std::fs::read(&weights).expect("weights");
        poison(&mut bytes, "model.layers.1.mlp.gate_proj.weight");
        std::fs::write(&weights, bytes).expect("write");
        eval().fails(1, &["F0807", "the held-out loss", "first in layer 1 of 2"]);
    }

    #[test]
    fn a_damaged_checkpoint_gives_way_to_the_one_before_it() {
        let bench = bench();
        bench.config(&CONFIG.replace("steps = 4", "steps = 4\ncheckpoint_every = 2"));
        bench.train("whole").ok();
        let good = std::fs::read(bench.path("whole/model/model.safetensors")).expect("model");
        let damage = |step: &str, file: &str| {
            let path = bench.path("whole/checkpoints").join(step).join(file);
            let mut bytes = std::fs::read(&path).expect("checkpoint");
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            std::fs::write(&path, bytes).expect("write");
        };
        let unfinish = || std::fs::remove_file(bench.path("whole/finished.json")).expect("unfinish");
        unfinish();
        damage("step-00000004", "optimizer.safetensors");
        let again = bench.train("whole").ok();
        assert!(again.err.contains("step-00000004` is not used"), "{}", again.err);
        assert!(again.out.contains("\"resumed_from\":2"), "{}", again.out);
        assert!(std::fs::read(bench.path("whole/model/model.safetensors")).expect("model") == good);
        unfinish();
        // A number in it that was changed, whatever it says now.
        let state = bench.path("whole/checkpoints/step-00000004/state.json");
        let text = std::fs::read_to_string(&state).expect("state");
        std::fs::write(&state, text.replace("\"updates\": 4", "\"updates\": 3")).expect("write");
        let again = bench.train("whole").ok();
        assert!(again.err.contains("step-00000004` is not used"), "{}", again.err);
        unfinish();
        damage("step-00000002", "weights.safetensors");
        damage("step-00000004", "losses.parquet");
        bench.train("whole").fails(1, &["F0804", "no checkpoint is whole", "start from the beginning"]);
    }

    #[test]
    fn a_training_does_not_go_on_with_another_base() {
        let bench = bench();
        spoiled(&bench, |_| {});
        bench.train("out").ok();
        let moved = bench.path("elsewhere");
        std::fs::rename(bench.path("base"), &moved).expect("rename");
        let config = std::fs::read_to_string(bench.path("config.toml")).expect("config");
        bench.config(&config.replace("\"base\"", "\"elsewhere\""));
        bench.train("out").ok();
        let path = moved.join("model.safetensors");
        let mut bytes = std::fs::read(&path).expect("weights");
        *bytes.last_mut().expect("bytes") ^= 1;
        std::fs::write(&path, bytes).expect("write");
        bench.train("out").fails(2, &["holds a training of another base"]);
        // Who wrote the config knew what the base said.
        bench.config(&format!("{}\nbase_digest = \"{}\"", CONFIG, "0".repeat(64)));
        bench.train("other").fails(1, &["F0804", "the base is not what it was"]);
    }

    #[test]
    fn a_folder_holds_one_training_at_a_time() {
        let bench = bench();
        std::fs::create_dir_all(bench.path("out")).expect("folder");
        let log = std::fs::File::create(bench.path("out/log.jsonl")).expect("log");
        log.lock().expect("lock");
        bench.train("out").fails(2, &["another finch-train is at work in"]);
        drop(log);
        // Half a line of one that was killed does not spoil the next line.
        std::fs::write(bench.path("out/log.jsonl"), "{\"event\":\"st").expect("write");
        bench.train("out").ok();
        let log = std::fs::read_to_string(bench.path("out/log.jsonl")).expect("log");
        assert!(log.starts_with("{\"event\":\"st\n{\"event\":\"start\""), "{log}");
    }
}

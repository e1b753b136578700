//! Training by the real trainer, from the spec: what is kept of it, when it is repeated, and when it goes on.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::pack::{packing, project};
use crate::project::{Project, command, finch_in, repository};

const MODEL: &str = r#"
[stages.model]
kind = "train"
input = "packed"
base = { config = "tiny.json", init = "random" }
steps = 6
batch_packs = 1
lr = 3e-3
device = "cpu"
checkpoint_every = 2
"#;

/// A project with a spec that trains; none when there is no trainer with libtorch beside finch.
pub(crate) fn trainable(more: &str) -> Option<Project> {
    let finch = Path::new(env!("CARGO_BIN_EXE_finch"));
    if !finch.with_file_name("finch-train-torch").exists() {
        println!(
            "SKIPPED: no trainer is built; `cargo test --workspace --features finch-train/torch` builds it"
        );
        return None;
    }
    let project = project(&format!("{}{MODEL}{more}", packing()));
    let tiny = json!({
        "model_type": "qwen3", "vocab_size": 1024, "hidden_size": 16, "intermediate_size": 32,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8,
        "rms_norm_eps": 1e-6, "rope_theta": 1e4, "max_position_embeddings": 4096, "tie_word_embeddings": true,
    });
    project.write("tiny.json", tiny.to_string());
    Some(project)
}

/// The model's folder, as the build's closing words name it.
fn model(out: &str) -> PathBuf {
    out.lines().find_map(|line| line.strip_prefix("model: ")).expect("a line about the model").into()
}

fn manifest(folder: &Path) -> Value {
    let text = fs::read(folder.join("../manifest.json")).expect("manifest");
    serde_json::from_slice(&text).expect("JSON")
}

#[test]
fn a_training_is_kept_reused_and_repeated_only_when_forced() {
    let Some(project) = trainable("") else { return };
    let first = project.run().ok();
    assert!(first.out.contains("held-out loss of model"), "{}", first.out);
    let folder = project.root().join(model(&first.out));
    for file in ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"] {
        assert!(folder.join(file).is_file(), "{file}");
    }
    let kept = manifest(&folder);
    assert_eq!((kept["rows"].as_str(), kept["weights"].as_str().map(str::len)), (None, Some(64)));
    assert!(kept["toolchain"]["libtorch"].as_str().expect("version").starts_with("2.11."), "{kept}");
    assert!(!kept.to_string().contains(&project.root().display().to_string()), "{kept}");
    // Losses join with everything that is known of an example.
    let before = project.value(
        "SELECT count(*) FROM losses l JOIN examples e USING (example_id) JOIN transitions t USING (transition_id) \
         WHERE l.step = 0 AND e.split <> 'train' AND t.task = e.task",
    );
    assert_eq!(before, project.value("SELECT count(*) FROM examples WHERE split <> 'train'"));

    let again = project.run().ok();
    assert!(again.err.contains("not trained again"), "{}", again.err);
    assert!(
        again.out.contains("held-out loss of model") && model(&again.out) == model(&first.out),
        "{}",
        again.out
    );
    let forced = project.finch(&["run", "spec.toml", "--force", "model"]).ok();
    assert_ne!(model(&forced.out), model(&first.out));
    assert_eq!(model(&project.run().ok().out), model(&forced.out), "the newest attempt is meant");
    let weights =
        |out: &str| fs::read(project.root().join(model(out)).join("model.safetensors")).expect("weights");
    assert!(weights(&first.out) == weights(&forced.out), "the same training on the same machine");
    project.finch(&["verify", "--store", "store"]).ok();
    let damaged = folder.join("model.safetensors");
    let whole = fs::read(&damaged).expect("read");
    let mut bytes = fs::read(&damaged).expect("read");
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&damaged, bytes).expect("write");
    let found = project.finch(&["verify", "--store", "store"]);
    assert!(found.code == 1 && found.out.contains("model/model.safetensors"), "{}{}", found.out, found.err);
    fs::write(&damaged, whole).expect("write");
}

#[test]
fn a_damaged_training_is_never_replaced_unasked() {
    let Some(project) = trainable("") else { return };
    let folder = project.root().join(model(&project.run().ok().out));
    let weights = folder.join("model.safetensors");
    fs::OpenOptions::new().write(true).open(&weights).and_then(|file| file.set_len(1000)).expect("truncate");
    for command in ["run", "plan"] {
        project.finch(&[command, "spec.toml"]).fails(1, &["F0503", "model.safetensors", "--force model"]);
    }
    assert!(weights.exists());
    let forced = project.finch(&["run", "spec.toml", "--force", "model"]).ok();
    assert_ne!(project.root().join(model(&forced.out)), folder);
    assert_eq!(model(&project.run().ok().out), model(&forced.out));
}

#[test]
fn a_signal_to_finch_stops_its_trainer_after_a_checkpoint() {
    // A shell that does not become its command would take the signal for itself.
    let shell = "launcher = 'sh -c \"{command}; exit $?\"'\n";
    for (signal, code, launcher) in [("-INT", 130, ""), ("-TERM", 143, shell), ("-HUP", 129, "")] {
        if signal == "-HUP" && hangups_are_ignored() {
            println!("SKIPPED SIGHUP: who started the tests ignores it (nohup), and so does what they start");
            continue;
        }
        let Some(project) = trainable(launcher) else { return };
        let spec = fs::read_to_string(project.path("spec.toml")).expect("spec");
        project.write("spec.toml", spec.replace("steps = 6", "steps = 60"));
        let mut build = command(project.root(), &[], &["run", "spec.toml", "--log-json"]);
        build.env_remove("FINCH_TRAIN").stdout(Stdio::null()).stderr(Stdio::piped());
        let mut build = build.spawn().expect("finch runs");
        let mut lines = BufReader::new(build.stderr.take().expect("piped")).lines().map_while(Result::ok);
        lines.find(|line| line.contains("\"checkpoint\"")).expect("a checkpoint");
        let id = build.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().expect("kill").success());
        let rest: Vec<String> = lines.collect();
        assert_eq!(build.wait().expect("it ends").code(), Some(code), "{rest:?}");
        let said = rest.join("\n");
        assert!(said.contains("F0817") && said.contains("the same command goes on"), "{said}");
        let builds = project.finch(&["builds", "--store", "store"]).ok().out;
        assert!(builds.contains("interrupted"), "{builds}");
        let plan = project.finch(&["plan", "spec.toml"]).ok().out;
        assert!(plan.contains("goes on after step"), "{plan}");
        project.write("spec.toml", spec.replace("steps = 6", "steps = 60"));
        let resumed = project.run().ok();
        assert!(resumed.err.contains("resumed after step"), "{}", resumed.err);
    }
}

/// Whether this process ignores SIGHUP, the lowest bit of the mask.
fn hangups_are_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & 1 == 1)
}

#[test]
fn a_changed_parameter_trains_anew_and_a_changed_launcher_does_not() {
    let Some(project) = trainable("launcher = \"env NICE=1 {command}\"\n") else { return };
    let first = project.run().ok();
    let spec = fs::read_to_string(project.path("spec.toml")).expect("spec");
    let unchanged = spec.replace("NICE=1", "NICE=2").replace("checkpoint_every = 2", "checkpoint_every = 3");
    project.write("spec.toml", format!("{unchanged}\nclip = 1.0 # the default\n"));
    assert_eq!(model(&project.run().ok().out), model(&first.out));
    project.write("spec.toml", spec.replace("lr = 3e-3", "lr = 2e-3"));
    let plan = project.finch(&["plan", "spec.toml"]).ok().out;
    assert!(plan.contains("`parameter.lr` changed: 0.003 -> 0.002"), "{plan}");
    project.write("spec.toml", &spec);
    let tiny = fs::read_to_string(project.path("tiny.json")).expect("config");
    project.write("tiny.json", tiny.replace("\"hidden_size\":16", "\"hidden_size\":24"));
    let plan = project.finch(&["plan", "spec.toml"]).ok().out;
    assert!(plan.contains("`outside.base` changed"), "{plan}");
}

#[test]
fn a_build_that_is_killed_while_it_trains_comes_to_the_same_weights() {
    let Some(project) = trainable("") else { return };
    let Some(whole) = trainable("") else { return };
    let expected = whole.run().ok().out;
    let mut build = command(project.root(), &[], &["run", "spec.toml", "--log-json"]);
    build.env_remove("FINCH_TRAIN").stdout(Stdio::null()).stderr(Stdio::piped());
    let mut build = build.spawn().expect("finch runs");
    let lines = BufReader::new(build.stderr.take().expect("piped")).lines();
    for line in lines.map_while(Result::ok) {
        if line.contains("\"checkpoint\"") {
            break;
        }
    }
    build.kill().expect("kill");
    build.wait().expect("it ends");
    // Its trainer notices that nobody listens, or comes to its end; the folder is held until then.
    let mut output = project.run();
    for _ in 0..100 {
        if !output.err.contains("another trainer is at work") {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(100));
        output = project.run();
    }
    let output = output.ok();
    let weights = |project: &Project, out: &str| {
        fs::read(project.root().join(model(out)).join("model.safetensors")).expect("weights")
    };
    assert!(
        weights(&project, &output.out) == weights(&whole, &expected),
        "the interruption changed the result"
    );
}

#[test]
fn the_trainers_own_errors_come_through() {
    let Some(project) = trainable("") else { return };
    let tiny = fs::read_to_string(project.path("tiny.json")).expect("config");
    project.write("tiny.json", tiny.replace("\"vocab_size\":1024", "\"vocab_size\":100"));
    project.run().fails(1, &["F0805", "stage `model`", "token id", "vocab_size"]);
    project.write("tiny.json", tiny.replace("qwen3", "mamba"));
    project.run().fails(2, &["F0803", "`model_type` is `mamba`"]);
    // What was built before the training is kept.
    let only = project.finch(&["run", "spec.toml", "--only", "packed"]).ok();
    assert!(only.out.contains("0 of "), "{}", only.out);
}

#[test]
fn the_trainer_is_lean_and_needs_no_libtorch_to_start() {
    let tree = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "finch-train",
            "--features",
            "torch",
            "--edges",
            "normal",
            "--prefix",
            "none",
        ])
        .args(["--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo tree runs");
    let tree = String::from_utf8_lossy(&tree.stdout).into_owned();
    assert!(tree.contains("torch-sys"), "{tree}");
    for heavy in ["datafusion", "polars", "object_store", "tokio", "finch"] {
        assert!(
            !tree.lines().any(|line| line.split(' ').next() == Some(heavy)),
            "finch-train depends on {heavy}"
        );
    }
    let finch = Path::new(env!("CARGO_BIN_EXE_finch"));
    let trainer = finch.with_file_name("finch-train");
    if !trainer.exists() {
        println!("SKIPPED: finch-train is not built");
        return;
    }
    let folder = tempfile::tempdir().expect("temp dir");
    let copy = folder.path().join("finch-train");
    fs::copy(trainer, &copy).expect("copy");
    let alone =
        Command::new(&copy).arg("--version").current_dir(&folder).env_clear().output().expect("it starts");
    assert!(alone.status.success(), "{}", String::from_utf8_lossy(&alone.stderr));
    match Command::new("strip").arg(&copy).status() {
        Ok(stripped) if stripped.success() => {
            let bytes = fs::metadata(&copy).expect("stripped").len();
            assert!(bytes < 20_000_000, "finch-train has {bytes} bytes without its symbols");
        }
        _ => println!("SKIPPED: the size of finch-train needs `strip`"),
    }
    finch_in(folder.path(), &["explain", "F0811"]).ok();
}

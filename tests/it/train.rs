//! `train`: how the trainer is found and started, and what its failures come to. What it computes is tested with
//! the real one.

use std::fs;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::pack::{packing, project};
use crate::project::{Project, command};
use crate::train_spec::TRAIN;

/// A program that is there, where the launcher never starts the trainer.
const ANY: &str = "/bin/true";

/// A project that trains through a launcher; without one, by itself.
fn training(launcher: Option<&str>) -> Project {
    let launcher = launcher.map_or(String::new(), |words| format!("launcher = '''{words}'''\n"));
    let project = project(&format!("{}{TRAIN}{launcher}", packing()));
    project.write("base.json", "{}");
    project
}

/// The work folder of the project's only training.
fn work(project: &Project) -> PathBuf {
    let mut entries = fs::read_dir(project.path("store/training")).expect("trainings");
    let work = entries.next().expect("a training").expect("entry").path();
    assert!(entries.next().is_none(), "there is more than one training");
    work
}

#[test]
fn a_missing_trainer_is_found_out_before_anything_is_computed() {
    let project = training(None);
    let words = ["F0813", "stage `model`", "`FINCH_TRAIN` names `/nonexistent`", "cargo install"];
    project.run_with_trainer("/nonexistent").fails(3, &words);
    assert_eq!(fs::read_dir(project.path("store/datasets")).expect("datasets").count(), 0);
    // What does not need it is built all the same.
    let only = ["run", "spec.toml", "--only", "packed"];
    command(project.root(), &[("FINCH_TRAIN", "/nonexistent")], &only).output().expect("the binary runs");
    project.value("SELECT count(*) FROM packs");
    let plan = project.finch(&["plan", "spec.toml"]).ok().out;
    assert!(plan.lines().any(|line| line.starts_with("model") && line.contains("run")), "{plan}");
}

#[test]
fn a_trainer_that_fails_is_told_with_its_last_words() {
    let project = training(Some("sh -c 'echo first; echo last words >&2; exit 7' {command}"));
    let words =
        ["F0816", "exit code 7", "last words", "first", "starts from the beginning", "run the same command"];
    project.run_with_trainer(ANY).fails(3, &words);
    let told = fs::read_to_string(work(&project).join("config.json")).expect("config");
    assert!(told.contains("\"seed\": 1") && told.contains("base.json"), "{told}");
    training(Some("false {command}")).run_with_trainer(ANY).fails(3, &["F0816", "exit code 1"]);
}

#[test]
fn a_trainer_that_is_killed_is_told_with_its_signal_and_how_to_resume() {
    let project = training(Some(
        "sh -c 'mkdir -p \"$6/checkpoints/step-40\"; echo last words >&2; kill -9 $$' {command}",
    ));
    let words = ["F0816", "signal 9 (SIGKILL", "last words", "resumes after step 40"];
    let output = project.run_with_trainer(ANY).fails(3, &words);
    let folder = work(&project);
    let name = folder.file_name().expect("a name").to_string_lossy().into_owned();
    assert!(output.err.contains(&name), "{}", output.err);
    // The same training goes on in the same folder.
    project.run_with_trainer(ANY).fails(3, &["resumes after step 40"]);
    assert_eq!(work(&project), folder);
}

#[test]
fn a_trainer_that_was_stopped_is_no_defect() {
    let project = training(Some("sh -c 'exit 143' {command}"));
    project.run_with_trainer(ANY).fails(3, &["F0817", "stopped by a signal", "run the same command again"]);
}

#[test]
fn a_launcher_that_says_other_things_and_no_word_of_success() {
    let project = training(Some("echo garbage {command}"));
    let output = project.run_with_trainer(ANY);
    let output = output.fails(3, &["F0816", "without a word of its success", "garbage /bin/true run"]);
    assert!(output.err.contains("--json"), "{}", output.err);
    let json = ["run", "spec.toml", "--log-json"];
    let again = command(project.root(), &[("FINCH_TRAIN", ANY)], &json).output().expect("the binary runs");
    let text = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(text.contains(r#"{"event":"output","stage":"model","text":"garbage"#), "{text}");
    let nowhere = training(Some("/nonexistent/srun {command}"));
    nowhere.run_with_trainer(ANY).fails(3, &["F0813", "`/nonexistent/srun` cannot be started"]);
}

#[test]
fn a_trainer_that_outlives_its_build_keeps_its_folder() {
    let project = training(Some("sh -c 'touch started; sleep 20' {command}"));
    let arguments = ["run", "spec.toml"];
    let mut first = command(project.root(), &[("FINCH_TRAIN", ANY)], &arguments);
    let mut first = first.stderr(std::process::Stdio::null()).spawn().expect("the binary runs");
    let begun = Instant::now();
    while !project.path("started").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the launcher was never started");
        std::thread::sleep(Duration::from_millis(50));
    }
    project.run_with_trainer(ANY).fails(3, &["F0814", "another trainer is at work"]);
    first.kill().expect("kill");
    first.wait().expect("wait");
    project.run_with_trainer(ANY).fails(3, &["F0814", "another trainer is at work"]);
}

#[test]
fn only_what_decides_the_weights_is_in_the_fingerprint() {
    let project = training(None);
    project.finch(&["run", "spec.toml", "--only", "packed"]).ok();
    let spec = fs::read_to_string(project.path("spec.toml")).expect("spec");
    let fingerprint = |spec: &str| {
        project.write("spec.toml", spec);
        let plan = project.finch(&["plan", "spec.toml", "--json"]).ok().out;
        let plan: serde_json::Value = serde_json::from_str(&plan).expect("JSON");
        let stages = plan.as_array().expect("stages");
        let model = stages.iter().find(|stage| stage["kind"] == "train").expect("a training");
        model["fingerprint"].as_str().expect("it is known").to_owned()
    };
    let first = fingerprint(&spec);
    project.write("elsewhere/base.json", "{}");
    for (from, to) in [
        ("lr = 1e-3", "lr = 0.001\nlauncher = \"srun {command}\""),
        ("lr = 1e-3", "lr = 1e-3\ncheckpoint_every = 3"),
        ("lr = 1e-3", "lr = 1e-3\nkeep_checkpoints = 3\nkeep_best = true"),
        ("lr = 1e-3", "lr = 1e-3\nactivations = \"inputs\"\nmemory = \"1GiB\""),
        ("lr = 1e-3", "lr = 1e-3\nbeta1 = 0.9"),
        ("\"base.json\"", "\"elsewhere/base.json\""),
        ("stages.model", "stages.other"),
    ] {
        assert_eq!(fingerprint(&spec.replace(from, to)), first, "{to}");
    }
    for (from, to) in [
        ("lr = 1e-3", "lr = 2e-3"),
        ("lr = 1e-3", "lr = 1e-3\nthreads = 1"),
        ("lr = 1e-3", "lr = 1e-3\ndtype = \"bf16\"\nstate_bytes = 12"),
        ("lr = 1e-3", "lr = 1e-3\ndeterministic = true"),
        ("lr = 1e-3", "lr = 1e-3\nnot_finite = \"skip\""),
        ("epochs = 1", "epochs = 2"),
    ] {
        assert_ne!(fingerprint(&spec.replace(from, to)), first, "{to}");
    }
    // A default is what it stands for.
    for (short, long) in [
        ("method = \"lora\"", "method = \"lora\"\nlora = { rank = 16, alpha = 32 }"),
        ("schedule = { kind = \"wsd\" }", "schedule = { kind = \"wsd\", decay = 0.2 }"),
    ] {
        let with = |keys| fingerprint(&spec.replace("lr = 1e-3", &format!("lr = 1e-3\n{keys}")));
        assert_eq!(with(short), with(long));
        assert_ne!(with(short), first);
    }
    project.write("base.json", "{ }");
    assert_ne!(fingerprint(&spec), first, "the base counts by its content");
}

//! Logs that were read before are not read again, and nobody could tell from the rows.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::project::{LABEL, Program, Project, digests, repository};

/// What the newest build read: (files read, files known).
fn reading(store: &Path) -> (u64, u64) {
    let newest = fs::read_dir(store.join("builds")).expect("builds").map(|e| e.expect("entry").path()).max();
    let record: Value =
        serde_json::from_slice(&fs::read(newest.expect("a build")).expect("read")).expect("JSON");
    let stages = record["stages"].as_array().expect("stages");
    let of = stages.iter().map(|stage| &stage["reading"]).find(|reading| reading.is_object());
    let of = of.unwrap_or_else(|| panic!("nothing was read: {record}"));
    (of["files_read"].as_u64().expect("count"), of["files_known"].as_u64().expect("count"))
}

fn packs(store: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(store.join("cache/parsed")).expect("packs").map(|e| e.expect("entry").path());
    let mut packs: Vec<PathBuf> = entries.filter(|path| path.is_dir()).collect();
    packs.sort();
    packs
}

/// A project over the sample logs, all formats of them.
fn samples() -> Project {
    let logs = repository().join("data/logs").display().to_string();
    let tasks = repository().join("data/tasks.toml").display().to_string();
    let spec = LABEL
        .replace("\"logs\"]", &format!("\"{logs}\"]"))
        .replace("seed = 1", &format!("tasks = \"{tasks}\""));
    Project::new(&spec)
}

#[test]
fn one_new_file_is_the_only_one_that_is_read() {
    let project = Project::new(LABEL);
    for n in 1..=40 {
        project.program("run", &Program::new(n, (n > 1).then_some(n / 2), n as f64));
    }
    project.run().ok();
    let store = project.path("store");
    assert_eq!(reading(&store), (40, 0));
    let run = project.value("SELECT run_id FROM runs");
    let later = Program::new(41, Some(40), 50.0);
    project.write("logs/run/checkpoints/checkpoint_20/programs/41.json", later.json().to_string());
    project.run().ok();
    assert_eq!(reading(&store), (1, 40));
    assert_eq!(project.value("SELECT run_id FROM runs"), run, "a run that grew keeps its id");
    assert_eq!(project.value("SELECT count(*) FROM candidates"), 41);
    // A store that remembers nothing comes to the same.
    let grown = digests(&store);
    project.finch(&["run", "spec.toml", "--store", "fresh"]).ok();
    assert_eq!(reading(&project.path("fresh")), (41, 0));
    assert_eq!(digests(&project.path("fresh")), grown);
    // A copy of a file is another mention of its candidate, and is known.
    let copy = project.path("logs/run/checkpoints/checkpoint_20/programs/40.json");
    fs::copy(project.path("logs/run/checkpoints/checkpoint_20/programs/41.json"), copy).expect("copy");
    project.run().ok();
    assert_eq!(reading(&store), (0, 42));
    assert_eq!(project.value("SELECT max(records) FROM candidates"), 2);
}

#[test]
fn what_is_remembered_of_every_format_gives_the_same_rows() {
    let project = samples();
    project.run().ok();
    let store = project.path("store");
    let (read, known) = reading(&store);
    // Of files that are equal, one is read.
    assert!(read > 1000 && known > 50, "{read} and {known}");
    let all = read + known;
    let before = digests(&store);
    // A forced stage fails when its rows differ.
    project.finch(&["run", "spec.toml", "--force", "logs"]).ok();
    let (again, known) = reading(&store);
    assert_eq!((again, known), (0, all));
    assert_eq!(digests(&store), before);
}

#[test]
fn a_damaged_memory_is_not_believed() {
    let project = samples();
    project.run().ok();
    let store = project.path("store");
    let first = reading(&store);
    for file in ["texts.pile", "programs.pile", "logs.parquet", "pack.json"] {
        let [pack] = packs(&store).try_into().expect("one pack");
        let path = pack.join(file);
        let mut bytes = fs::read(&path).expect("read");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&path, bytes).expect("write");
        let again = project.finch(&["run", "spec.toml", "--force", "logs"]).ok();
        assert!(again.err.contains("is not used"), "{file}: {}", again.err);
        assert_eq!(reading(&store), first, "{file}");
        assert_ne!(packs(&store), [pack], "a new one takes its place");
    }
}

#[test]
fn many_small_memories_become_one() {
    let project = Project::new(LABEL);
    for n in 1..=22 {
        project.program("run", &Program::new(n, (n > 1).then_some(n - 1), n as f64));
        project.run().ok();
        assert_eq!(reading(&project.path("store")), (1, n - 1));
    }
    let left = packs(&project.path("store")).len();
    assert!(left < 10, "{left} packs");
    project.finch(&["run", "spec.toml", "--store", "fresh"]).ok();
    assert_eq!(digests(&project.path("fresh")), digests(&project.path("store")));
}

#[test]
fn a_file_that_changed_behind_its_times_is_seen() {
    let project = Project::new(LABEL);
    project.program("run", &Program::new(1, None, 1.0));
    project.program("run", &Program::new(2, Some(1), 2.0));
    let path = project
        .path("logs/run/checkpoints/checkpoint_10/programs")
        .join(format!("{}.json", Program::new(2, Some(1), 2.0).id));
    // At rest for long, as logs are.
    let past = std::time::SystemTime::now() - std::time::Duration::from_secs(3600);
    let set =
        |time| fs::File::options().write(true).open(&path).expect("open").set_modified(time).expect("set");
    set(past);
    project.run().ok();
    let text = fs::read_to_string(&path).expect("read");
    fs::write(&path, text.replace("2.0}", "7.0}")).expect("write");
    set(past);
    let plan = project.finch(&["plan", "spec.toml"]).ok().out;
    assert!(plan.contains("`outside.sources` changed"), "{plan}");
    project.run().ok();
    assert_eq!(project.value("SELECT max(score) FROM candidates"), 7.0);
}

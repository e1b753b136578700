//! Each parameter of each stage kind is changed in turn: exactly the stages that must run again are planned to.
//!
//! The list of parameters is the manifests' own, and the schema's for `train`, which is only planned: a parameter
//! without a change in `mutations/spec.rs` fails the test.

mod spec;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::LazyLock;

use serde_json::Value;

use crate::bad_specs::{copy, kinds};
use crate::pack;
use crate::project::{Program, Project, repository};
use spec::{CHANGES, Change, DEFAULTS, MODEL, NO_PARAMETERS_OF_MODEL, QUERY, SPEC, changed, sections};

/// A stage in a plan.
#[derive(Clone, Debug)]
struct Planned {
    action: String,
    fingerprint: Option<String>,
}

type Plan = BTreeMap<String, Planned>;

fn whole() -> String {
    format!("{SPEC}{MODEL}")
}

/// A project whose stages are all built, but for the model.
fn built() -> Project {
    let project = pack::project(SPEC);
    project.write("sql/counted.sql", QUERY);
    project.write("tasks.toml", "[tasks.held]\ndomain = \"words\"\n");
    project.write("base.json", "{}");
    project.write("checkpoint/config.json", "{}");
    // The tokenizer that a first build trains is the one that the second one loads.
    let first = sections(SPEC).into_iter().filter(|(name, _)| !["loaded", "other"].contains(&name.as_str()));
    project.write("spec.toml", first.map(|(_, text)| text).collect::<String>());
    project.run().ok();
    let tokenizer = datasets(&project)["tokens"].0.join("tokenizer.json");
    fs::copy(tokenizer, project.path("tokenizer.json")).expect("a tokenizer");
    project.write("spec.toml", SPEC);
    project.run().ok();
    project.write("spec.toml", whole());
    project
}

/// The folder and the manifest of each stage of the newest build.
fn datasets(project: &Project) -> BTreeMap<String, (std::path::PathBuf, Value)> {
    let builds = fs::read_dir(project.path("store/builds")).expect("builds");
    let newest = builds.map(|entry| entry.expect("entry").path()).max().expect("a build");
    let build: Value = serde_json::from_slice(&fs::read(newest).expect("read")).expect("JSON");
    let stages = build["stages"].as_array().expect("stages").iter().map(|stage| {
        let folder = project.path("store/datasets").join(stage["fingerprint"].as_str().expect("text"));
        let manifest = fs::read(folder.join("manifest.json")).expect("manifest");
        let manifest = serde_json::from_slice(&manifest).expect("JSON");
        (stage["name"].as_str().expect("text").to_owned(), (folder, manifest))
    });
    stages.collect()
}

#[track_caller]
fn plan(project: &Project) -> Plan {
    plan_with(project, &["plan", "spec.toml", "--json"])
}

#[track_caller]
fn plan_with(project: &Project, arguments: &[&str]) -> Plan {
    let output = project.finch(arguments).ok();
    let planned: Vec<Value> = serde_json::from_str(&output.out).expect("JSON");
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let stage = |stage: &Value| {
        let planned = Planned {
            action: text(&stage["action"]).expect("text"),
            fingerprint: text(&stage["fingerprint"]),
        };
        (text(&stage["stage"]).expect("text"), planned)
    };
    planned.iter().map(stage).collect()
}

/// Who reads whom, as the spec says.
static READS: LazyLock<BTreeMap<String, Vec<String>>> = LazyLock::new(|| {
    let pipeline =
        finch::spec::parse("spec.toml".as_ref(), &whole().replace("sql/counted.sql", QUERY), ".".as_ref());
    let pipeline = pipeline.expect("the spec is good");
    let reads = |stage: &finch::spec::Stage| {
        stage.config.inputs().into_iter().map(|input| input.stage.clone()).collect::<Vec<_>>()
    };
    pipeline.stages.iter().map(|stage| (stage.name.clone(), reads(stage))).collect()
});

/// A stage and all that read it, directly or not.
fn with_descendants(stage: &str) -> BTreeSet<String> {
    let mut reached = BTreeSet::from([stage.to_owned()]);
    loop {
        let more: Vec<String> = READS
            .iter()
            .filter(|(name, reads)| {
                !reached.contains(*name) && reads.iter().any(|read| reached.contains(read))
            })
            .map(|(name, _)| name.clone())
            .collect();
        if more.is_empty() {
            return reached;
        }
        reached.extend(more);
    }
}

/// What of a plan is not as it should be when exactly these stages changed.
fn wrong(before: &Plan, after: &Plan, stages: &[&str]) -> Vec<String> {
    let reached: BTreeSet<String> = stages.iter().flat_map(|stage| with_descendants(stage)).collect();
    let below = |name: &str| {
        let of_others = stages.iter().filter(|stage| **stage != name);
        of_others.flat_map(|stage| with_descendants(stage)).any(|reached| reached == name)
    };
    let mut wrong = Vec::new();
    for (name, now) in after {
        let expected = match (reached.contains(name), below(name)) {
            (true, true) => "depends",
            (true, false) => "run",
            // It was never built.
            (false, _) if name == "model" => "run",
            (false, _) => "reuse",
        };
        let same = before.get(name).is_some_and(|old| old.fingerprint == now.fingerprint);
        if now.action != expected || same == reached.contains(name) {
            wrong.push(format!("{name}: {} instead of {expected}, fingerprint the same: {same}", now.action));
        }
    }
    if before.len() != after.len() {
        wrong.push(format!("{} stages instead of {}", after.len(), before.len()));
    }
    wrong
}

/// The names of a manifest's parameters, of parameters in tables as `table.name`.
fn leaves(prefix: &str, parameters: &Value, into: &mut BTreeSet<String>) {
    match parameters.as_object() {
        Some(fields) => {
            for (name, value) in fields {
                let dot = if prefix.is_empty() { "" } else { "." };
                leaves(&format!("{prefix}{dot}{name}"), value, into);
            }
        }
        None => {
            assert!(!parameters.is_null(), "`{prefix}` is null, so nothing in it can be changed");
            into.insert(prefix.to_owned());
        }
    }
}

#[test]
fn a_changed_parameter_runs_its_stage_and_what_reads_it_and_nothing_else() {
    let project = built();
    let before = plan(&project);
    assert!(wrong(&before, &before, &[]).is_empty(), "{before:?}");
    let mut known: BTreeSet<(String, String)> = BTreeSet::new();
    for (stage, (_, manifest)) in datasets(&project) {
        let mut names = BTreeSet::new();
        if manifest["parameters"].as_object().is_some_and(|parameters| !parameters.is_empty()) {
            leaves("", &manifest["parameters"], &mut names);
        }
        known.extend(names.into_iter().map(|name| (stage.clone(), name)));
    }
    let schema = fs::read(repository().join("schemas/training-config.schema.json")).expect("schema");
    let schema: Value = serde_json::from_slice(&schema).expect("JSON");
    let keys = schema["properties"].as_object().expect("properties").keys();
    let keys = keys.filter(|key| !NO_PARAMETERS_OF_MODEL.contains(&key.as_str()));
    known.extend(keys.map(|key| ("model".to_owned(), key.clone())));
    let changes: BTreeSet<(String, String)> =
        CHANGES.iter().map(|(stage, name, _)| ((*stage).to_owned(), (*name).to_owned())).collect();
    assert_eq!(known, changes, "parameters left, changes right: the two lists must be the same");

    // The measure itself: a change that reaches nothing is found, and one that reaches too much.
    assert!(!wrong(&before, &before, &["kept"]).is_empty());
    project.write("spec.toml", changed(&whole(), "unique", "\"canonical\"", "\"raw\""));
    assert!(!wrong(&before, &plan(&project), &["kept"]).is_empty());

    let mut mistakes = Vec::new();
    for (stage, name, change) in CHANGES {
        match change {
            Change::To(from, to) => {
                project.write("spec.toml", changed(&whole(), stage, from, to));
                let wrong = wrong(&before, &plan(&project), &[stage]);
                mistakes.extend(wrong.into_iter().map(|wrong| format!("{stage}.{name}: {wrong}")));
            }
            Change::Refused(from, to) => {
                project.write("spec.toml", changed(&whole(), stage, from, to));
                project.finch(&["plan", "spec.toml"]).fails(2, &["error F010"]);
            }
        }
    }
    assert!(mistakes.is_empty(), "{}", mistakes.join("\n"));
    let reached: BTreeSet<&str> = CHANGES.iter().map(|(stage, ..)| *stage).collect();
    let kinds_reached =
        finch::spec::parse("spec.toml".as_ref(), &whole().replace("sql/counted.sql", QUERY), ".".as_ref());
    let kinds_reached = kinds_reached.expect("the spec is good");
    for kind in kinds().iter().filter(|kind| *kind != "ingest") {
        let mut stages = kinds_reached.stages.iter().filter(|stage| stage.config.kind() == kind);
        assert!(
            stages.any(|stage| reached.contains(stage.name.as_str())),
            "no parameter of {kind} is changed"
        );
    }
}

/// The plan after something was done to a project, undone afterwards by writing the spec anew.
#[track_caller]
fn check(project: &Project, before: &Plan, what: &str, text: &str, stages: &[&str]) {
    project.write("spec.toml", text);
    let wrong = wrong(before, &plan(project), stages);
    assert!(wrong.is_empty(), "{what}:\n{}", wrong.join("\n"));
    project.write("spec.toml", whole());
}

#[test]
fn what_comes_from_outside_a_stage_runs_exactly_what_reads_it() {
    let project = built();
    let before = plan(&project);
    let check_file = |file: &str, text: &[u8], stages: &[&str]| {
        let kept = fs::read(project.path(file)).expect("read");
        project.write(file, text);
        check(&project, &before, file, &whole(), stages);
        project.write(file, kept);
        check(&project, &before, &format!("{file} as it was"), &whole(), &[]);
    };
    let mut tokenizer = fs::read(project.path("tokenizer.json")).expect("read");
    tokenizer.push(b'\n');
    check_file("tokenizer.json", &tokenizer, &["loaded"]);
    check_file("base.json", b"{ }", &["model"]);
    check_file("sql/counted.sql", b"SELECT DISTINCT task FROM sft.examples", &["counted"]);
    check_file("tasks.toml", b"[tasks.held]\ndomain = \"numbers\"\n", &["logs"]);
    check_file("tasks.toml", b"[tasks.held]\ndomain = \"words\"\nalias_group = \"g\"\n", &["split"]);
    check_file("tasks.toml", b"# a comment\n[tasks]\nheld.domain = 'words'\n", &[]);
    check_file("logs/c/finch.toml", b"task = \"renamed\"\n", &["logs"]);
    check_file("logs/c/finch.toml", b"# a comment\ntask = 'held'\n", &[]);
    let whole = whole();
    for (what, from, to, stages) in [
        ("the seed", "seed = 1", "seed = 2", &["split", "balanced", "model"][..]),
        ("the sample", "sample = 1.0", "sample = 0.9", &["logs"]),
    ] {
        check(&project, &before, what, &changed(&whole, "pipeline", from, to), stages);
    }
    let source = "{ path = \"logs/c\", license = \"MIT\" }";
    let licensed = changed(&whole, "logs", "\"logs/c\"", source);
    check(&project, &before, "a source's licence", &licensed, &["logs"]);
    project.write("spec.toml", whole);
    project.program("a", &Program::new(999, Some(101), 3.0));
    let wrong = wrong(&before, &plan(&project), &["logs"]);
    assert!(wrong.is_empty(), "a new log:\n{}", wrong.join("\n"));
}

#[test]
fn what_is_no_parameter_changes_nothing() {
    let project = built();
    let before = plan(&project);
    let whole = whole();
    let same = |what: &str, text: &str| check(&project, &before, what, text, &[]);
    let mut short = whole.clone();
    for (stage, line) in DEFAULTS {
        short = changed(&short, stage, line, "");
    }
    same("defaults left out", &short);
    same(
        "defaults of the trainer written out",
        &changed(&whole, "model", "lr", &format!("{}lr", trainer_defaults())),
    );

    let mut parts = sections(&whole);
    parts.reverse();
    let upside_down = parts.into_iter().map(|(_, text)| {
        let (header, rest) = text.trim_end().split_once('\n').expect("a header");
        let lines: Vec<&str> = rest.lines().rev().collect();
        format!("{header}\n{}\n\n", lines.join("\n"))
    });
    same("stages and keys in another order", &upside_down.collect::<String>());
    same("comments and blank lines", &whole.replace('\n', " # why\n\n"));
    same("CRLF", &whole.replace('\n', "\r\n"));
    same("a byte order mark", &format!("\u{feff}{whole}"));
    same("other spellings of numbers", &whole.replace("1e-9", "0.000_000_001").replace("10000", "0x2710"));
    same("another name", &changed(&whole, "pipeline", "\"mutations\"", "\"another\""));
    same("max_quarantined", &changed(&whole, "logs", "0.5", "0.25"));
    for stage in ["kept", "fits", "sft", "packed"] {
        same("allow_empty", &changed(&whole, stage, "allow_empty = false", "allow_empty = true"));
    }
    same("checkpoint_every", &changed(&whole, "model", "checkpoint_every = 2", "checkpoint_every = 5"));
    for line in ["keep_checkpoints = 5", "keep_best = true", "activations = \"lean\"", "memory = \"80GiB\""] {
        same(line, &changed(&whole, "model", "lr", &format!("{line}\nlr")));
    }
    same("a launcher", &changed(&whole, "model", "\"local\"", "\"nice -n 5 {command}\""));
    same(
        "sources in another order",
        &changed(&whole, "logs", "\"logs/a\", \"logs/b\"", "\"logs/b\", \"logs/a\""),
    );
    same("a source as a table", &changed(&whole, "logs", "\"logs/a\"", "{ path = \"logs/a\" }"));
    same("the query in the spec", &changed(&whole, "counted", "sql/counted.sql", QUERY));

    for (file, elsewhere) in [
        ("tokenizer.json", "far/tok.json"),
        ("base.json", "far/model.json"),
        ("sql/counted.sql", "far/q.sql"),
        ("tasks.toml", "far/t.toml"),
    ] {
        project.write(elsewhere, fs::read(project.path(file)).expect("read"));
        same(file, &whole.replace(file, elsewhere));
    }
    copy(&project.path("logs/a"), &project.path("far/and wide/x"));
    same("logs in another place", &changed(&whole, "logs", "logs/a", "far/and wide/x"));

    let renamed = plan_of(&project, &whole.replace("labelled", "marked"));
    assert!(
        renamed.iter().all(|(name, stage)| stage.action == if name == "model" { "run" } else { "reuse" }),
        "{renamed:?}"
    );
    assert_eq!(renamed["model"].fingerprint, before["model"].fingerprint);
}

#[test]
fn neither_places_nor_budgets_change_anything() {
    let project = built();
    let before = plan(&project);
    fs::rename(project.path("spec.toml"), project.path("other name.toml")).expect("rename");
    assert!(wrong(&before, &plan_with(&project, &["plan", "other name.toml", "--json"]), &[]).is_empty());
    fs::rename(project.path("store"), project.path("kept")).expect("rename");
    let arguments = ["plan", "other name.toml", "--store", "kept", "--json"];
    assert!(wrong(&before, &plan_with(&project, &arguments), &[]).is_empty(), "the store moved");

    let moved = Project::new("");
    copy(project.root(), moved.root());
    moved.write("spec.toml", changed(&whole(), "pipeline", "\"store\"", "\"kept\""));
    let wrong = wrong(&before, &plan(&moved), &[]);
    assert!(wrong.is_empty(), "the project moved:\n{}", wrong.join("\n"));

    moved.write("spec.toml", changed(SPEC, "pipeline", "\"store\"", "\"kept\""));
    let budget = ["run", "spec.toml", "--threads", "1", "--memory-limit", "512MiB", "--log-json"];
    moved.finch(&budget).ok();
    let builds = moved.finch(&["builds", "--store", "kept", "--json"]).ok().out;
    let builds: Vec<Value> = serde_json::from_str(&builds).expect("JSON");
    let stages = builds.last().expect("a build")["stages"].as_array().expect("stages").clone();
    assert_eq!(stages.len(), SPEC.matches("[stages.").count());
    assert!(stages.iter().all(|stage| stage["decision"] == "reuse"), "{stages:?}");
}

/// The trainer's defaults as lines of a train stage, from the schema.
fn trainer_defaults() -> String {
    let schema = fs::read(repository().join("schemas/training-config.schema.json")).expect("schema");
    let schema: Value = serde_json::from_slice(&schema).expect("JSON");
    let mut lines = String::new();
    for (key, property) in schema["properties"].as_object().expect("properties") {
        let scalar = property.get("default").filter(|value| !value.is_null() && !value.is_object());
        if let Some(value) = scalar.filter(|_| !["seed", "checkpoint_every"].contains(&key.as_str())) {
            lines += &format!("{key} = {value}\n");
        }
    }
    assert!(lines.lines().count() >= 9, "{lines}");
    lines
}

#[track_caller]
fn plan_of(project: &Project, text: &str) -> Plan {
    project.write("spec.toml", text);
    plan(project)
}

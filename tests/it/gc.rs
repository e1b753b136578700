//! `gc`: what the newest builds need stays, and nothing else does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use crate::project::{LABEL, Program, Project, command};

/// A project that was built once for each of these tolerances of its label stage.
fn built(tolerances: &[f64]) -> Project {
    let project = Project::new(LABEL);
    for n in 1..6 {
        project.program("run", &Program::new(n, (n > 1).then_some(n / 2), n as f64));
    }
    for tolerance in tolerances {
        build(&project, *tolerance);
    }
    project
}

fn build(project: &Project, tolerance: f64) {
    project.write("spec.toml", format!("{LABEL}tolerance = {{ absolute = {tolerance} }}\n"));
    project.run().ok();
}

fn gc(project: &Project, arguments: &[&str]) -> Value {
    let all = [&["gc", "--store", "store", "--json"], arguments].concat();
    serde_json::from_str(&project.finch(&all).ok().out).expect("JSON")
}

/// The names in a folder of the store, but hidden ones.
fn names(project: &Project, folder: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir(project.path("store").join(folder)) else { return vec![] };
    let mut names: Vec<String> =
        entries.map(|entry| entry.expect("entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

fn places(removal: &Value, list: &str, thing: &str) -> Vec<String> {
    let items = removal[list].as_array().expect("a list").iter();
    let mut places: Vec<String> = items
        .filter(|item| item["thing"] == thing)
        .map(|item| item["place"].as_str().expect("text").to_owned())
        .collect();
    places.sort();
    places
}

fn set_time(path: &Path, hours_ago: u64) {
    let time = std::time::SystemTime::now() - std::time::Duration::from_secs(3600 * hours_ago);
    fs::File::open(path).expect("open").set_modified(time).expect("time");
}

/// The fingerprints that a build's record names, oldest build first.
fn fingerprints(project: &Project) -> Vec<Vec<String>> {
    let builds = project.finch(&["builds", "--store", "store", "--json"]).ok().out;
    let builds: Vec<Value> = serde_json::from_str(&builds).expect("JSON");
    let of = |build: &Value| {
        let stages = build["stages"].as_array().expect("stages").iter();
        stages.map(|stage| stage["fingerprint"].as_str().expect("text").to_owned()).collect()
    };
    builds.iter().map(of).collect()
}

#[test]
fn what_no_kept_build_needs_is_removed_and_the_rest_is_whole() {
    let project = built(&[0.1, 0.2, 0.3]);
    let before = fingerprints(&project);
    let dry = gc(&project, &["--keep", "2", "--grace", "0", "--dry-run"]);
    assert_eq!((names(&project, "datasets").len(), names(&project, "builds").len()), (4, 3));
    let real = gc(&project, &["--keep", "2", "--grace", "0"]);
    assert_eq!(dry["removed"], real["removed"]);
    assert_eq!(
        (&dry["bytes"], &dry["dry_run"], &real["dry_run"]),
        (&real["bytes"], &true.into(), &false.into())
    );
    assert!(real["bytes"].as_u64().expect("bytes") > 1000);
    // The first build's labels go. What it read stays: the others read it too.
    assert_eq!(places(&real, "removed", "dataset"), [format!("datasets/{}", before[0][1])]);
    let mut kept = [&before[1][..], &before[2][1..]].concat();
    kept.sort();
    assert_eq!(names(&project, "datasets"), kept);
    assert_eq!(fingerprints(&project), before[1..]);
    assert_eq!(names(&project, "tmp"), Vec::<String>::new());
    // A lease that was being written when its owner was killed has no name yet, and counts for nothing.
    let leases = names(&project, "leases").into_iter().filter(|name| name.ends_with(".lease"));
    assert_eq!(leases.collect::<Vec<_>>(), Vec::<String>::new());
    project.finch(&["verify", "--store", "store"]).ok();
    // Nothing that is kept runs again, and what was removed can be made again.
    let again = project.run().ok().out;
    assert!(again.contains("0 of 2 stages computed"), "{again}");
    build(&project, 0.1);
    assert!(names(&project, "datasets").contains(&before[0][1]));
}

#[test]
fn a_dataset_whose_tables_are_passed_on_is_needed() {
    let project = built(&[0.1]);
    let before = fingerprints(&project);
    // A record that names the last stage alone: what it passes on is still the first one's.
    let path = project.path("store/builds").join(&names(&project, "builds")[0]);
    let mut record: Value = serde_json::from_slice(&fs::read(&path).expect("read")).expect("JSON");
    record["stages"].as_array_mut().expect("stages").remove(0);
    fs::write(&path, record.to_string()).expect("write");
    let removal = gc(&project, &["--keep", "1", "--grace", "0"]);
    assert!(places(&removal, "removed", "dataset").is_empty(), "{removal}");
    assert_eq!((names(&project, "datasets").len(), before[0].len()), (2, 2));
}

#[test]
fn what_is_young_is_spared_with_what_it_needs() {
    let project = built(&[0.1, 0.2]);
    let old = fingerprints(&project)[0][1].clone();
    let removal = gc(&project, &["--keep", "1"]);
    assert_eq!(places(&removal, "spared", "dataset"), [format!("datasets/{old}")]);
    assert!(names(&project, "datasets").contains(&old));
    set_time(&project.path("store/datasets").join(&old).join("manifest.json"), 2);
    assert!(gc(&project, &["--keep", "1", "--grace", "3h"])["removed"].as_array().expect("list").is_empty());
    let removal = gc(&project, &["--keep", "1", "--grace", "1h"]);
    assert_eq!(places(&removal, "removed", "dataset"), [format!("datasets/{old}")]);
    project.finch(&["verify", "--store", "store"]).ok();
}

#[test]
fn builds_are_counted_by_pipeline_and_the_last_unfinished_one_is_kept() {
    let project = built(&[0.1]);
    // The same store, another pipeline, and then one of a single stage.
    project.write("other.toml", LABEL.replace("seed = 1", "seed = 1\nname = \"other\""));
    project.finch(&["run", "other.toml"]).ok();
    project.finch(&["run", "other.toml", "--only", "logs"]).ok();
    // It fails after its first stage, which no other build has.
    project.program("run", &Program::new(9, Some(2), 9.0));
    let failing = "[stages.kept]\nkind = \"filter\"\ninput = \"labelled\"\nwhere = \"task = 'no such'\"\n";
    project.write("spec.toml", format!("{LABEL}{failing}"));
    project.run().fails(1, &["F0403"]);
    let removal = gc(&project, &["--keep", "1", "--grace", "0"]);
    assert_eq!(removal["kept_builds"].as_array().expect("builds").len(), 4, "{removal}");
    assert!(removal["removed"].as_array().expect("list").is_empty(), "{removal}");
    // A build that finishes makes the failed one history.
    project.write("spec.toml", LABEL);
    project.run().ok();
    let removal = gc(&project, &["--keep", "1", "--grace", "0"]);
    assert_eq!(removal["kept_builds"].as_array().expect("builds").len(), 3, "{removal}");
    assert_eq!(places(&removal, "removed", "build").len(), 2, "{removal}");
    project.finch(&["verify", "--store", "store"]).ok();
}

#[test]
fn set_aside_datasets_dead_leases_and_dangling_links_go() {
    let project = built(&[0.1, 0.2]);
    let damaged: PathBuf = project.path("store/tmp/elsewhere-1-abc");
    fs::create_dir_all(damaged.join("damaged")).expect("folder");
    project.write("store/tmp/elsewhere-1-abc/damaged/manifest.json", "{}");
    let host: String = fs::read_to_string("/proc/sys/kernel/hostname").expect("a name");
    let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '.').collect();
    let lease = format!(r#"{{"work":"build","host":"{host}","process":1,"started_at":"then"}}"#);
    project.write("store/leases/dead.lease", format!("{lease}\n"));
    let old = fingerprints(&project)[0][1].clone();
    let link = project.path("store/latest/old");
    std::os::unix::fs::symlink(format!("../datasets/{old}/transitions"), &link).expect("link");
    let foreign = project.path("store/latest/mine");
    std::os::unix::fs::symlink("/nonexistent/elsewhere", &foreign).expect("link");

    let spared = gc(&project, &["--keep", "2"]);
    assert_eq!(places(&spared, "spared", "scratch"), ["tmp/elsewhere-1-abc"]);
    assert_eq!(places(&spared, "removed", "lease"), ["leases/dead.lease"]);
    assert!(damaged.exists() && link.exists());
    let removal = gc(&project, &["--keep", "1", "--grace", "0"]);
    assert_eq!(places(&removal, "removed", "scratch"), ["tmp/elsewhere-1-abc"]);
    assert_eq!(places(&removal, "removed", "link"), ["latest/old"]);
    assert!(!damaged.exists() && fs::symlink_metadata(&link).is_err());
    assert!(fs::symlink_metadata(&foreign).is_ok(), "a link of somebody else's stays");
}

#[test]
fn a_training_that_did_not_end_is_spared_for_a_while_and_while_it_is_at_work() {
    let project = built(&[0.1]);
    let name = format!("store/training/{}", "a".repeat(64));
    project.write(&format!("{name}/out/checkpoint/weights"), "x");
    project.write(&format!("{name}/lock"), "");
    let removal = gc(&project, &["--keep", "1"]);
    assert_eq!(places(&removal, "spared", "training").len(), 1, "{removal}");
    let lock = fs::File::open(project.path(&format!("{name}/lock"))).expect("open");
    lock.lock().expect("lock");
    let removal = gc(&project, &["--keep", "1", "--grace", "0"]);
    assert!(removal["spared"].to_string().contains("at work"), "{removal}");
    drop(lock);
    let removal = gc(&project, &["--keep", "1", "--grace", "0"]);
    assert_eq!(places(&removal, "removed", "training").len(), 1, "{removal}");
    assert!(names(&project, "training").is_empty());
}

/// The last stage takes long enough for the build to be found at work.
#[test]
fn a_build_at_work_keeps_what_it_uses() {
    let project = built(&[0.1, 0.2]);
    // The first tolerance again: its labels are in no kept build, and this build reuses them. The query then takes
    // long enough to be found at work.
    let slow = "[stages.slow]\nkind = \"sql\"\ninputs = [\"labelled\"]\ntable = \"slow\"\nquery = \"\"\"\n\
                SELECT count(*) AS n FROM labelled.transitions a, labelled.transitions b, labelled.transitions c, \
                labelled.transitions d, labelled.transitions e, labelled.transitions f, labelled.transitions g, \
                labelled.transitions h, labelled.transitions i, labelled.transitions j, labelled.transitions k, \
                labelled.transitions l, labelled.transitions m, labelled.transitions n, labelled.transitions o \
                WHERE a.child_score + b.child_score + c.child_score + d.child_score + e.child_score + \
                f.child_score + g.child_score + h.child_score + i.child_score + j.child_score + k.child_score + \
                l.child_score + m.child_score + n.child_score + o.child_score > 40\n\"\"\"\n";
    project.write("spec.toml", format!("{LABEL}tolerance = {{ absolute = 0.1 }}\n\n{slow}"));
    let old = fingerprints(&project)[0][1].clone();
    let mut build = command(project.root(), &[], &["run", "spec.toml"])
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("finch runs");
    let claimed = || {
        let leases = names(&project, "leases");
        leases.iter().any(|name| {
            let text = fs::read_to_string(project.path("store/leases").join(name)).unwrap_or_default();
            text.contains(&old)
        })
    };
    while !claimed() {
        assert!(build.try_wait().expect("wait").is_none(), "the build ended before it was looked at");
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let removal = gc(&project, &["--keep", "1", "--grace", "0"]);
    let alive = build.try_wait().expect("wait").is_none();
    build.kill().expect("kill");
    build.wait().expect("wait");
    assert!(alive, "the query is too fast to be interrupted");
    assert_eq!(places(&removal, "spared", "lease").len(), 1, "{removal}");
    assert!(places(&removal, "removed", "dataset").is_empty(), "{removal}");
    // Killed, it holds nothing any longer.
    let removal = gc(&project, &["--keep", "1", "--grace", "0"]);
    assert_eq!(places(&removal, "removed", "dataset"), [format!("datasets/{old}")], "{removal}");
    assert_eq!(places(&removal, "removed", "lease").len(), 1, "{removal}");
    project.finch(&["verify", "--store", "store"]).ok();
}

#[test]
fn bad_use_and_bad_stores_are_refused_and_nothing_is_removed() {
    let project = built(&[0.1, 0.2]);
    let before = names(&project, "datasets");
    project.finch(&["gc", "--store", "store"]).fails(2, &["--keep"]);
    project.finch(&["gc", "--store", "store", "--keep", "0"]).fails(2, &["0 is not in 1.."]);
    project.finch(&["gc", "--store", "store", "--keep", "1", "--grace", "5"]).fails(2, &["needs a unit"]);
    project.finch(&["gc", "--store", "logs", "--keep", "1"]).fails(2, &["F0504"]);
    // A record that cannot be read may name anything.
    project.write("store/builds/20990101T000000000Z-abcdef.json", "{");
    project
        .finch(&["gc", "--store", "store", "--keep", "1", "--grace", "0"])
        .fails(1, &["F0502", "20990101"]);
    fs::remove_file(project.path("store/builds/20990101T000000000Z-abcdef.json")).expect("remove");
    // A manifest that is needed and corrupt may pass on anything.
    let needed = project.path("store/datasets").join(&fingerprints(&project)[1][1]).join("manifest.json");
    let good = fs::read(&needed).expect("read");
    fs::write(&needed, "{").expect("write");
    project.finch(&["gc", "--store", "store", "--keep", "1", "--grace", "0"]).fails(1, &["F0502"]);
    fs::write(&needed, good).expect("write");
    assert_eq!(names(&project, "datasets"), before);
    // Without any record nothing says what is needed.
    fs::remove_dir_all(project.path("store/builds")).expect("remove");
    project
        .finch(&["gc", "--store", "store", "--keep", "1", "--grace", "0"])
        .fails(2, &["F0504", "no build"]);
    assert_eq!(names(&project, "datasets"), before);
    let text = project.finch(&["gc", "--help"]).ok().out;
    assert!(text.contains("--dry-run"), "{text}");
}

#[test]
fn a_removal_that_is_killed_leaves_a_whole_store() {
    let tolerances: Vec<f64> = (1..9).map(|n| f64::from(n) / 10.0).collect();
    let project = built(&tolerances);
    let whole = fingerprints(&project).pop().expect("a build");
    for moment in 0..12 {
        // One build is added, and the one before it becomes superfluous.
        build(&project, 1.0 + f64::from(moment));
        let arguments = ["gc", "--store", "store", "--keep", "1", "--grace", "0s"];
        let mut removal = command(project.root(), &[], &arguments)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the binary runs");
        std::thread::sleep(std::time::Duration::from_millis(4 * moment as u64));
        removal.kill().expect("killed or ended");
        removal.wait().expect("ended");
        project.finch(&["verify", "--store", "store"]).ok();
        assert!(project.finch(&["plan", "spec.toml"]).ok().out.contains("nothing to do"), "{moment}");
    }
    // What was killed last left nothing that the next removal does not take.
    gc(&project, &["--keep", "1", "--grace", "0s"]);
    assert_eq!(names(&project, "datasets").len(), 2, "logs and labels of the last build");
    assert_eq!(names(&project, "builds").len(), 1);
    assert_eq!(names(&project, "tmp"), Vec::<String>::new());
    // A lease that was being written when its owner was killed has no name yet, and counts for nothing.
    let leases = names(&project, "leases").into_iter().filter(|name| name.ends_with(".lease"));
    assert_eq!(leases.collect::<Vec<_>>(), Vec::<String>::new());
    assert!(names(&project, "datasets").contains(&whole[0]), "the logs were never removed");
}

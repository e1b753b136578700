//! Stores and sources that are not on this machine: a real S3 server, well and ill.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::pack::{self, packing};
use crate::project::{LABEL, Output, Program, Project, command, finch_with};
use crate::s3::{BUCKET, Fault, KEY, SECRET, Server};

pub(crate) const STORE: &str = "s3://bucket/team/store";
/// What was made: a manifest's digest covers every row and file.
const STAGES: &str = "SELECT stage, fingerprint, manifest FROM meta.stages ORDER BY build_id, ordinal";

/// A server with its bucket, and a project.
pub(crate) struct Far {
    pub(crate) project: Project,
    pub(crate) server: Server,
}

impl Far {
    /// A project with one run, whose store is to be in a bucket.
    pub(crate) fn new() -> Self {
        let project = Project::new(LABEL);
        for n in 1..6 {
            project.program("run", &Program::new(n, (n > 1).then_some(n / 2), n as f64));
        }
        Self::of(project)
    }

    /// A project with a stage of each kind but training.
    fn long() -> Self {
        Self::of(pack::project(&packing()))
    }

    fn of(project: Project) -> Self {
        let server = Server::start(&project.path("server"), 0);
        Self { project, server }
    }

    /// Runs finch on a machine: one with a cache of its own.
    pub(crate) fn finch(&self, machine: &str, arguments: &[&str]) -> Output {
        self.finch_with(machine, &[], arguments)
    }

    pub(crate) fn finch_with(&self, machine: &str, more: &[(&str, &str)], arguments: &[&str]) -> Output {
        let environment = self.environment(machine, more);
        let variables: Vec<(&str, &str)> =
            environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let output = finch_with(self.project.root(), &variables, arguments);
        for said in [&output.out, &output.err] {
            assert!(!said.contains(SECRET) && !said.contains(KEY), "a credential was printed:\n{said}");
        }
        output
    }

    fn environment(&self, machine: &str, more: &[(&str, &str)]) -> Vec<(String, String)> {
        let mut all: Vec<(String, String)> =
            self.server.environment().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        all.push(("FINCH_CACHE".to_owned(), self.cache(machine).display().to_string()));
        all.push(("FINCH_RETRY_SECONDS".to_owned(), "20".to_owned()));
        all.extend(more.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        all
    }

    pub(crate) fn cache(&self, machine: &str) -> PathBuf {
        self.project.path(&format!("cache-{machine}"))
    }

    /// Builds on a machine; returns how many stages were computed.
    pub(crate) fn build(&self, machine: &str) -> usize {
        let output = self.finch(machine, &["run", "spec.toml", "--store", STORE]).ok();
        computed(&output)
    }

    /// The fingerprints and manifests of all builds' datasets, by stage.
    fn digests(&self, machine: &str) -> BTreeMap<String, (String, String)> {
        let output = self.finch(machine, &["query", "--store", STORE, "--format", "jsonl", STAGES]).ok();
        rows(&output)
    }

    /// The file that holds an object.
    fn object(&self, key: &str) -> PathBuf {
        self.project.path("server").join(BUCKET).join("team/store").join(key)
    }

    /// All objects of the store.
    pub(crate) fn objects(&self) -> Vec<PathBuf> {
        files(&self.object(""))
    }
}

fn computed(output: &Output) -> usize {
    let line = output.out.lines().find(|line| line.contains("stages computed")).expect("a summary");
    line.split(' ').next().and_then(|count| count.parse().ok()).expect("a count")
}

fn rows(output: &Output) -> BTreeMap<String, (String, String)> {
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let lines = output.out.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
    lines.map(|row| (text(&row, "stage"), (text(&row, "fingerprint"), text(&row, "manifest")))).collect()
}

pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten() {
        let path = entry.expect("entry").path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found.sort();
    found
}

#[test]
fn a_build_in_a_bucket_is_the_one_in_a_folder_and_is_there_for_every_machine() {
    let far = Far::long();
    let stages = far.build("one");
    assert!(stages > 4, "{stages}");
    far.project.run().ok();
    let near = far.project.finch(&["query", "--store", "store", "--format", "jsonl", STAGES]).ok();
    assert_eq!(far.digests("one"), rows(&near));
    // Another machine finds everything, and fetches what it reads.
    assert_eq!(far.build("two"), 0);
    let plan = far.finch("three", &["plan", "spec.toml", "--store", STORE]).ok();
    assert!(plan.out.contains("nothing to do"), "{}", plan.out);
    let count = "SELECT count(*) > 20 AS many FROM transitions";
    let output = far.finch("three", &["query", "--store", STORE, "--format", "csv", count]).ok();
    assert_eq!(output.out, "many\ntrue\n");
    let path = far.finch("three", &["path", "--store", STORE, "transitions"]).ok().out;
    assert!(path.lines().count() == 1 && Path::new(path.trim()).is_file(), "{path}");
    far.finch("four", &["verify", "--store", STORE]).ok();
    far.finch("four", &["verify", "--store", STORE, "--quick"]).ok();
    let builds = far.finch("four", &["builds", "--store", STORE]).ok();
    assert_eq!(builds.out.lines().filter(|line| line.contains(" ok ")).count(), 2, "{}", builds.out);
    // No lease is left, and no credential went anywhere.
    assert!(far.objects().iter().all(|path| !path.to_string_lossy().contains("lease")));
    for path in files(far.project.root()) {
        let bytes = fs::read(&path).expect("read");
        let has = |word: &str| bytes.windows(word.len()).any(|window| window == word.as_bytes());
        assert!(!has(SECRET) && !has(KEY), "a credential is in {}", path.display());
    }
}

#[test]
fn a_server_that_fails_now_and_then_changes_nothing() {
    let well = Far::new();
    well.build("one");
    let expected = well.digests("one");
    let pause = Duration::from_millis(150);
    for fault in [
        Fault::Status(500),
        Fault::Status(503),
        Fault::Refused,
        Fault::AnswerLost,
        Fault::AnswerCut,
        Fault::Slow(pause),
    ] {
        let far = Far::new();
        // Not the same request each time that it is tried again.
        far.server.script(move |_, _, number| if number % 5 == 2 { fault } else { Fault::None });
        assert_eq!(far.build("one"), 2, "{fault:?}");
        assert_eq!(far.build("two"), 0, "{fault:?}");
        assert_eq!(far.digests("three"), expected, "{fault:?}");
        far.finch("four", &["verify", "--store", STORE]).ok();
    }
}

#[test]
fn a_manifest_whose_answer_was_lost_is_ones_own() {
    let far = Far::new();
    let mut lost = 0;
    far.server.script(move |method, path, _| {
        let manifest = method == "PUT" && path.ends_with("/manifest.json");
        lost += u64::from(manifest);
        if manifest && lost % 2 == 1 { Fault::AnswerLost } else { Fault::None }
    });
    assert_eq!(far.build("one"), 2);
    let puts = far
        .server
        .log()
        .iter()
        .filter(|line| line.starts_with("PUT") && line.ends_with("/manifest.json"))
        .count();
    assert_eq!(puts, 4, "each manifest was put twice");
    assert_eq!(far.build("one"), 0);
    far.finch("two", &["verify", "--store", STORE]).ok();
}

#[test]
fn two_machines_at_once_are_correct() {
    let far = Far::long();
    let pause = Duration::from_millis(20);
    far.server.script(move |_, _, number| if number % 3 == 0 { Fault::Slow(pause) } else { Fault::None });
    let machines = ["one", "two", "three"];
    let started: Vec<_> = machines
        .iter()
        .map(|machine| {
            let environment = far.environment(machine, &[]);
            let variables: Vec<(&str, &str)> =
                environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            let run = ["run", "spec.toml", "--store", STORE];
            let mut command = command(far.project.root(), &variables, &run);
            command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
            command.spawn().expect("the binary runs")
        })
        .collect();
    for child in started {
        let output = child.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    // Somebody lost, or nothing was tried here.
    let is_put = |line: &&String| line.starts_with("PUT") && line.ends_with("/manifest.json");
    let puts = far.server.log().iter().filter(is_put).count();
    assert!(puts > far.digests("four").len(), "{puts}");
    assert_eq!(far.build("four"), 0);
    far.finch("five", &["verify", "--store", STORE]).ok();
    let alone = Far::long();
    alone.build("one");
    assert_eq!(far.digests("four"), alone.digests("one"));
}

#[test]
fn damage_in_a_bucket_is_found_and_mended() {
    let far = Far::new();
    far.build("one");
    let shard = far.objects().into_iter().find(|path| path.ends_with("candidates/candidates-00000.parquet"));
    let shard = shard.expect("a shard");
    let good = fs::read(&shard).expect("read");
    let mut bad = good.clone();
    bad[good.len() / 2] ^= 1;
    fs::write(&shard, &bad).expect("write");
    let verify = ["verify", "--store", STORE];
    // The machine that made it has a good copy, and must not be taken in by that.
    for machine in ["one", "two"] {
        let output = far.finch(machine, &verify);
        assert_eq!(output.code, 1, "{}{}", output.out, output.err);
        assert!(output.out.contains("candidates-00000.parquet: its BLAKE3 is"), "{}", output.out);
    }
    let query = ["query", "--store", STORE, "SELECT count(*) FROM candidates"];
    far.finch("three", &query).fails(1, &["F0503", "candidates-00000.parquet", "damaged"]);
    let forced = ["run", "spec.toml", "--store", STORE, "--force", "logs"];
    far.finch("two", &forced).ok();
    far.finch("two", &verify).ok();
    // One that is gone is seen at a glance, moved aside, and made again.
    fs::remove_file(&shard).expect("remove");
    let output = far.finch("four", &["run", "spec.toml", "--store", STORE]).ok();
    assert!(
        output.err.contains("damaged") && output.err.contains("s3://bucket/team/store/damaged/"),
        "{}",
        output.err
    );
    far.finch("two", &verify).ok();
    fs::write(far.object("datasets/stray.txt"), "x").expect("write");
    let manifest = files(&far.object("datasets")).into_iter().find(|path| path.ends_with("manifest.json"));
    let manifest = manifest.expect("a manifest");
    fs::write(manifest, "{").expect("write");
    far.finch("one", &["run", "spec.toml", "--store", STORE])
        .fails(1, &["F0502", "s3://bucket/team/store/datasets/"]);
}

#[test]
fn gc_empties_a_bucket_of_what_no_build_needs() {
    let far = Far::new();
    far.build("one");
    let first = far.objects().len();
    far.project.write("spec.toml", format!("{LABEL}tolerance = {{ absolute = 1.0 }}\n"));
    far.build("one");
    let gc = |more: &[&str]| -> Value {
        let all = [&["gc", "--store", STORE, "--keep", "1", "--json"], more].concat();
        serde_json::from_str(&far.finch("two", &all).ok().out).expect("JSON")
    };
    let spared = gc(&[]);
    assert_eq!(
        spared["removed"].as_array().map(Vec::len),
        Some(1),
        "a record alone: the rest is young: {spared}"
    );
    let said = gc(&["--grace", "0s", "--dry-run"]);
    let before = far.objects();
    let removed = gc(&["--grace", "0s"]);
    assert_eq!(said["removed"], removed["removed"]);
    assert_eq!(removed["removed"].as_array().map(Vec::len), Some(1), "{removed}");
    assert_eq!(removed["removed"][0]["thing"], "dataset");
    let gone: Vec<&PathBuf> = before.iter().filter(|path| !path.exists()).collect();
    let folder = far.object(removed["removed"][0]["place"].as_str().expect("a place"));
    assert!(gone.len() > 1 && gone.iter().all(|path| path.starts_with(&folder)), "{gone:?}");
    assert!(files(&folder).is_empty() && far.objects().len() <= first);
    far.finch("three", &["verify", "--store", STORE]).ok();
    assert_eq!(far.build("four"), 0);
}

#[test]
fn large_files_go_and_come_in_parts() {
    let far = Far::new();
    // Text that no compression makes smaller than several parts.
    let mut noise = 1_u64;
    let text: String = (0..24 << 20)
        .map(|_| {
            noise = noise.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b'!' + (noise >> 58) as u8)
        })
        .collect();
    let mut program = Program::new(6, Some(5), 6.0);
    program.code = format!("x = r\"\"\"{}\"\"\"\n", text.replace(['"', '\\'], "x"));
    far.project.program("run", &program);
    for (n, fault) in
        [Fault::None, Fault::AnswerLost, Fault::AnswerCut, Fault::Status(503)].into_iter().enumerate()
    {
        // Short: the server makes file names of the keys of large objects.
        let store = format!("s3://bucket/{n}");
        far.server.script(move |_, path, number| match path.contains("programs") && number % 4 == 1 {
            true => fault,
            false => Fault::None,
        });
        let output = far.finch("one", &["run", "spec.toml", "--store", &store]);
        assert_eq!(output.code, 0, "{fault:?}: {}\n{:#?}", output.err, far.server.log());
        let parts = far.server.log().iter().filter(|line| line.contains("partNumber=")).count();
        assert!(parts > 1, "{fault:?}: {:?}", far.server.log());
        far.finch("two", &["verify", "--store", &store]).ok();
        let query = "SELECT max(length(code)) > 24000000 AS whole FROM programs";
        let output = far.finch("three", &["query", "--store", &store, "--format", "csv", query]).ok();
        assert_eq!(output.out, "whole\ntrue\n");
    }
}

/// Writes a lease of another machine into the bucket.
fn lease(far: &Far, work: &str, dataset: &str, seconds_ago: u64) -> PathBuf {
    let path = far.object("leases/elsewhere-1-abc.lease");
    fs::create_dir_all(path.parent().expect("a parent")).expect("folder");
    let owner = format!(r#"{{"work":"{work}","host":"elsewhere","process":1,"started_at":""}}"#);
    fs::write(&path, format!("{owner}\n{dataset}\n")).expect("write");
    let time = std::time::SystemTime::now() - Duration::from_secs(seconds_ago);
    fs::File::options().write(true).open(&path).expect("open").set_modified(time).expect("time");
    path
}

#[test]
fn a_lease_in_a_bucket_spares_what_it_names_until_it_lapses() {
    let far = Far::new();
    far.build("one");
    let (old, _) = far.digests("one")["labelled"].clone();
    far.project.write("spec.toml", format!("{LABEL}tolerance = {{ absolute = 1.0 }}\n"));
    far.build("one");
    let gc = ["gc", "--store", STORE, "--keep", "1", "--grace", "0s"];
    let manifest = far.object(&format!("datasets/{old}/manifest.json"));
    lease(&far, "build", &old, 0);
    far.finch("two", &gc).ok();
    assert!(manifest.exists(), "a build elsewhere uses it");
    let path = lease(&far, "build", &old, 3600);
    far.finch("two", &gc).ok();
    assert!(!manifest.exists() && !path.exists(), "its owner is gone");
}

#[test]
fn a_build_waits_for_a_removal_elsewhere() {
    let far = Far::new();
    far.build("one");
    let path = lease(&far, "removal", "", 0);
    let environment = far.environment("two", &[]);
    let variables: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut command = command(far.project.root(), &variables, &["run", "spec.toml", "--store", STORE]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut waiting = command.spawn().expect("the binary runs");
    std::thread::sleep(Duration::from_secs(3));
    assert!(waiting.try_wait().expect("asked").is_none(), "it does not wait");
    fs::remove_file(path).expect("remove");
    assert!(waiting.wait().expect("it ends").success());
    lease(&far, "removal", "", 3600);
    assert_eq!(far.build("three"), 0, "one that was killed long ago keeps nobody waiting");
}

#[test]
fn an_interrupted_build_in_a_bucket_is_recorded_and_goes_on() {
    let far = Far::new();
    let pause = Duration::from_millis(400);
    far.server.script(move |method, path, _| match method == "PUT" && path.contains("datasets") {
        true => Fault::Slow(pause),
        false => Fault::None,
    });
    let environment = far.environment("one", &[]);
    let variables: Vec<(&str, &str)> =
        environment.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut command = command(far.project.root(), &variables, &["run", "spec.toml", "--store", STORE]);
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut build = command.spawn().expect("the binary runs");
    while !far.server.log().iter().any(|line| line.starts_with("PUT /bucket/team/store/datasets")) {
        assert!(build.try_wait().expect("asked").is_none(), "it ended before it published anything");
        std::thread::sleep(Duration::from_millis(5));
    }
    signal(build.id(), "-INT");
    assert_eq!(build.wait().expect("it ends").code(), Some(130));
    let builds = far.finch("two", &["builds", "--store", STORE]).ok();
    assert!(builds.out.contains("interrupted"), "{}", builds.out);
    assert!(files(&far.object("leases")).is_empty());
    far.server.script(|_, _, _| Fault::None);
    far.build("one");
    far.finch("two", &["verify", "--store", STORE]).ok();
}

/// Sends a signal.
fn signal(process: u32, signal: &str) {
    let status = std::process::Command::new("kill").args([signal, &process.to_string()]).status();
    assert!(status.expect("kill runs").success());
}

#[test]
fn what_was_fetched_is_hashed_before_it_is_used() {
    let far = Far::new();
    far.build("one");
    let mirrored =
        files(&far.cache("one")).into_iter().find(|path| path.ends_with("transitions-00000.parquet"));
    let mirrored = mirrored.expect("a shard");
    let mut bytes = fs::read(&mirrored).expect("read");
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    fs::write(&mirrored, bytes).expect("write");
    far.project.write("spec.toml", format!("{LABEL}tolerance = {{ absolute = 1.0 }}\n"));
    far.build("one");
    let made = far.digests("one");
    assert_eq!(far.finch("two", &["run", "spec.toml", "--store", STORE, "--force", "labelled"]).ok().code, 0);
    assert_eq!(far.digests("two"), made);
}

#[test]
fn a_corrupt_manifest_in_a_bucket_gives_way_to_force() {
    let far = Far::new();
    far.build("one");
    let (fingerprint, _) = far.digests("one")["labelled"].clone();
    let manifest = far.object(&format!("datasets/{fingerprint}/manifest.json"));
    fs::write(&manifest, "{").expect("write");
    let run = ["run", "spec.toml", "--store", STORE];
    far.finch("two", &run).fails(1, &["F0502", "s3://bucket/team/store/datasets/", "--force"]);
    far.finch("two", &[&run[..], &["--force", "labelled"]].concat()).ok();
    far.finch("three", &["verify", "--store", STORE]).ok();
}

//! Sources that are not on this machine: logs in a bucket, a file of a web server.

use std::fs;
use std::time::Duration;

use crate::project::{LABEL, Project};
use crate::remote::{Far, files};
use crate::s3::{BUCKET, Fault};

#[test]
fn remote_logs_are_read_as_if_they_lay_here() {
    let far = Far::new();
    far.project.run().ok();
    let digest = |project: &Project, store: &str| {
        let query =
            "SELECT manifest FROM meta.stages WHERE stage = 'labelled' ORDER BY build_id DESC LIMIT 1";
        project.finch(&["query", "--store", store, "--format", "csv", query]).ok().out
    };
    let expected = digest(&far.project, "store");
    // The same logs in a bucket.
    for path in files(&far.project.path("logs")) {
        let name = path.strip_prefix(far.project.path("logs")).expect("below").to_owned();
        let to = far.project.path("server").join(BUCKET).join("logs").join(name);
        fs::create_dir_all(to.parent().expect("a parent")).expect("folder");
        fs::copy(&path, to).expect("copy");
    }
    far.project.write("spec.toml", LABEL.replace("\"logs\"]", "\"s3://bucket/logs/\"]"));
    let pause = Duration::from_millis(50);
    for fault in [Fault::None, Fault::AnswerCut, Fault::Status(503), Fault::Slow(pause)] {
        far.server.script(move |_, _, number| if number % 3 == 1 { fault } else { Fault::None });
        let machine = format!("{fault:?}").chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        let output = far.finch(&machine, &["run", "spec.toml", "--store", "other"]).ok();
        assert!(output.err.contains("s3://bucket/logs/: "), "{}", output.err);
        assert_eq!(digest(&far.project, "other"), expected);
    }
    far.server.script(|_, _, _| Fault::None);
    // What did not change is not fetched again, and what did is.
    far.finch("one", &["check", "spec.toml"]).ok();
    let gets =
        |far: &Far| far.server.log().iter().filter(|line| line.starts_with("GET /bucket/logs")).count();
    let first = gets(&far);
    far.server.script(|_, _, _| Fault::None);
    far.finch("one", &["plan", "spec.toml", "--store", "other"]).ok();
    assert!(first > 4 && gets(&far) == 0, "{first}, then {:?}", far.server.log());
    let one = files(&far.project.path("server").join(BUCKET).join("logs")).remove(0);
    let text = fs::read_to_string(&one).expect("read");
    fs::write(&one, text + " \n").expect("write");
    far.finch("one", &["plan", "spec.toml", "--store", "other"]).ok();
    assert_eq!(gets(&far), 1, "{:?}", far.server.log());
    fs::remove_file(&one).expect("remove");
    let output = far.finch(
        "one",
        &["query", "--logs", "s3://bucket/logs", "--format", "csv", "SELECT count(*) AS n FROM candidates"],
    );
    assert_eq!(output.ok().out, "n\n4\n");
}

#[test]
fn remote_sources_that_cannot_be_read_are_named() {
    let far = Far::new();
    let source = |address: &str| {
        far.project.write("spec.toml", LABEL.replace("\"logs\"]", &format!("\"{address}\"]")));
    };
    source("s3://bucket/nothing/here");
    far.finch("one", &["run", "spec.toml"]).fails(2, &["F0301", "s3://bucket/nothing/here"]);
    source("s3://nobodys/logs");
    far.finch("one", &["run", "spec.toml"]).fails(3, &["F0506", "s3://nobodys/logs", "no such bucket"]);
    source("ftp://host/logs");
    far.finch("one", &["check", "spec.toml"]).fails(2, &["F0106", "ftp://"]);
    let folder = far.project.path("server").join(BUCKET).join("long");
    fs::create_dir_all(folder.join("a")).expect("folder");
    fs::write(folder.join("a/b.json"), "{}").expect("write");
    fs::write(folder.join("c.txt"), "nothing").expect("write");
    source("s3://bucket/long");
    far.finch("one", &["run", "spec.toml"]).fails(2, &["F0302", "s3://bucket/long"]);
}

#[test]
fn a_web_servers_file_is_a_source() {
    let far = Far::new();
    let line = |n: u32, score: f64| {
        format!(
            "{{\"iteration\": {n}, \"timestamp\": {n}.0, \"parent_id\": \"p{}\", \"child_id\": \"p{n}\", \"parent_metrics\": \
             {{\"combined_score\": {}}}, \"child_metrics\": {{\"combined_score\": {score}}}, \"parent_code\": \"x = {}\", \
             \"child_code\": \"x = {n}\", \"code_language\": \"python\"}}\n",
            n - 1,
            score - 1.0,
            n - 1
        )
    };
    let trace: String = (1..4).map(|n| line(n, f64::from(n))).collect();
    far.project.write("web/run 1/evolution_trace.jsonl", &trace);
    let web = crate::s3::Files::start(&far.project.path("web"));
    let address = format!("http://{}/run%201/evolution_trace.jsonl", web.address());
    far.project.write("spec.toml", LABEL.replace("\"logs\"]", &format!("\"{address}\"]")));
    let output = far.finch("one", &["run", "spec.toml"]).ok();
    assert!(output.err.contains(&format!("{address}: 1 files")), "{}", output.err);
    let query = ["query", "--store", "store", "--format", "csv", "SELECT count(*) AS n FROM transitions"];
    assert_eq!(far.finch("one", &query).ok().out, "n\n3\n");
    let missing = address.replace("trace", "nothing");
    far.project.write("spec.toml", LABEL.replace("\"logs\"]", &format!("\"{missing}\"]")));
    far.finch("one", &["run", "spec.toml"]).fails(2, &["F0301", "nothing"]);
}

#[test]
fn keys_that_cannot_be_files_are_named() {
    let far = Far::new();
    let run = ["run", "spec.toml", "--store", "near"];
    let source = |address: &str| {
        far.project.write("spec.toml", LABEL.replace("\"logs\"]", &format!("\"{address}\"]")));
    };
    // A folder of the server cannot be a file too, so its listing is the test's.
    far.server.listing(&["odd/a", "odd/a/b.json"]);
    source("s3://bucket/odd");
    far.finch("one", &run).fails(2, &["F0301", "`a`", "also a folder"]);
    far.server.listing(&["odd/../../x.json"]);
    let output = far.finch("one", &run);
    assert!(output.code >= 2 && output.err.contains("cannot be a path"), "{}", output.err);
    far.server.listing(&["odd/a//b.json"]);
    let output = far.finch("one", &run);
    assert!(output.code >= 2 && output.err.contains("cannot be a path"), "{}", output.err);
    let long = format!("odd/{}", "x".repeat(300));
    far.server.listing(&[&long]);
    far.finch("one", &run).fails(2, &["F0301", "too long"]);
    assert!(!far.project.path("x.json").exists() && !far.cache("one").join("x.json").exists());
}

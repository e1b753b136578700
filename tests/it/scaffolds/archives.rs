//! Logs in archives: read from inside, and nothing written where an archive wants.

use std::io::Write;

use serde_json::json;

use super::{INGEST, ingested, quarantined};
use crate::project::{Project, uuid};

fn program(n: u64) -> String {
    json!({"id": uuid(n), "code": "a", "parent_id": null, "generation": 0, "metrics": {"combined_score": 1.0}}).to_string()
}

fn tar(files: &[(&str, &str)]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, content) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        // The crate refuses names that lead elsewhere; whoever attacks does not.
        header.as_old_mut().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        archive.append(&header, content.as_bytes()).expect("appended");
    }
    archive.into_inner().expect("finished")
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(bytes).expect("compressed");
    gzip.finish().expect("compressed")
}

#[test]
fn an_archive_is_read_like_the_folder_that_it_holds() {
    let (one, two) = (program(1), program(2));
    let inside =
        tar(&[("run/checkpoints/checkpoint_1/programs/a.json", &one), ("run/finch.toml", "task = \"t\"\n")]);
    let mut zip = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default();
    zip.start_file("other/db/programs/b.json", options).expect("started");
    zip.write_all(two.as_bytes()).expect("written");
    let zip = zip.finish().expect("finished").into_inner();
    let project = ingested(&[("old/runs.tar.gz", &gzip(&inside)), ("new.zip", &zip)]);
    let rows = project.rows("SELECT source, task_origin FROM runs ORDER BY source");
    assert_eq!(
        rows,
        [
            json!({"source": "new.zip!/other", "task_origin": "unknown"}),
            json!({"source": "old/runs.tar.gz!/run", "task_origin": "sidecar"}),
        ]
    );
    let source = project.value("SELECT source FROM candidates ORDER BY source DESC LIMIT 1");
    assert_eq!(source, json!("old/runs.tar.gz!/run/checkpoints/checkpoint_1/programs/a.json"));
}

#[test]
fn the_same_run_in_an_archive_and_beside_it_is_one() {
    let one = program(1);
    let inside = tar(&[("run/checkpoints/checkpoint_1/programs/a.json", &one)]);
    let project =
        ingested(&[("runs.tar", &inside), ("run/checkpoints/checkpoint_1/programs/a.json", one.as_bytes())]);
    assert_eq!(project.value("SELECT count(*) FROM runs"), json!(1));
    assert_eq!(project.value("SELECT count(*) FROM candidates"), json!(1));
}

#[test]
fn names_that_lead_elsewhere_are_refused_and_said() {
    let one = program(1);
    let inside = tar(&[
        ("../../../../../../../../tmp/finch-escaped.json", "{}"),
        ("/tmp/finch-escaped.json", "{}"),
        ("run/db/programs/a.json", &one),
    ]);
    let project = ingested(&[("runs.tar", &inside)]);
    assert_eq!(quarantined(&project), ["F0320", "F0320"]);
    assert_eq!(project.value("SELECT count(*) FROM candidates"), json!(1));
    assert!(!std::path::Path::new("/tmp/finch-escaped.json").exists());
}

#[test]
fn an_unpacked_archive_that_lost_a_file_is_unpacked_again() {
    let (one, two) = (program(1), program(2));
    let project = Project::new(INGEST);
    project
        .write("logs/runs.tar", tar(&[("run/db/programs/a.json", &one), ("run/db/programs/b.json", &two)]));
    let cache = project.path("cache").display().to_string();
    let run =
        || crate::project::finch_with(project.root(), &[("FINCH_CACHE", &cache)], &["run", "spec.toml"]).ok();
    run();
    let archives = std::fs::read_dir(project.path("cache/archives")).expect("archives");
    for archive in archives {
        let path = archive.expect("entry").path().join("files/run/db/programs/b.json");
        std::fs::remove_file(path).expect("removed");
    }
    std::fs::remove_dir_all(project.path("store")).expect("removed");
    run();
    assert_eq!(project.value("SELECT count(*) FROM candidates"), json!(2));
}

#[test]
fn a_cut_archive_gives_what_was_whole() {
    let (one, two) = (program(1), program(2));
    let inside = tar(&[("run/db/programs/a.json", &one), ("run/db/programs/b.json", &two)]);
    let project = Project::new(INGEST);
    project.write("logs/runs.tar", &inside[..1024 + 512 + 20]);
    project.run().ok();
    assert_eq!(project.value("SELECT count(*) FROM candidates"), json!(1));
    assert_eq!(
        quarantined(&project),
        ["F0311", "F0320"],
        "where it breaks off, and the file that is not whole"
    );
}

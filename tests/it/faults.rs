//! Faults: a build that is killed or runs out of room, and the one after it. The scripts below `tests/faults` do the
//! work; here they run on a small project, and on a finch that deserves their complaint. `make faults` does more.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::pack::{packing, project};
use crate::project::{Output, Project, repository};

/// Runs a script on a project; none where there is no Python.
fn harness(script: &str, finch: &Path, project: &Project, more: &[&str]) -> Option<Output> {
    let mut command = Command::new("python3");
    command.arg(repository().join("tests/faults").join(script)).arg("--finch").arg(finch);
    command.arg("--spec").arg(project.path("spec.toml")).arg("--work").arg(project.path("work")).args(more);
    // What Python compiles is not left in the repository.
    let Ok(output) = command.env("PYTHONDONTWRITEBYTECODE", "1").output() else {
        println!("SKIPPED: tests/faults/{script} needs python3");
        return None;
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    println!("{out}");
    Some(Output { code: output.status.code().unwrap_or(-1), out, err })
}

fn finch() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_finch"))
}

#[test]
fn a_killed_build_loses_and_repeats_nothing() {
    let project = project(&packing());
    let more = ["--kills", "8", "--seed", "1"];
    let Some(output) = harness("kill.py", finch(), &project, &more) else { return };
    let output = output.ok();
    assert!(output.out.contains("8 kills in "), "{}", output.out);
    assert!(output.out.contains("0 failures"), "{}", output.out);
}

#[test]
fn the_harness_notices_a_finch_that_forgets() {
    let project = project(&packing());
    // Each build first throws away what was published: the digests come out equal, and the work is repeated.
    let forgetful = project.path("forgetful");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = run ] && rm -rf \"$4\"/datasets/*\nexec '{}' \"$@\"\n",
        finch().display()
    );
    fs::write(&forgetful, script).expect("write");
    fs::set_permissions(&forgetful, fs::Permissions::from_mode(0o755)).expect("permissions");
    let Some(output) = harness("kill.py", &forgetful, &project, &["--kills", "8", "--seed", "1"]) else {
        return;
    };
    assert_eq!(output.code, 1, "{}{}", output.out, output.err);
    assert!(output.out.contains("ran again although its dataset was published"), "{}", output.out);
    assert!(!output.out.contains("came out as"), "{}", output.out);
}

#[test]
fn a_build_without_room_says_so_and_the_next_one_completes() {
    let project = project(&packing());
    let Some(output) = harness("full.py", finch(), &project, &["--limits", "7"]) else { return };
    let output = output.ok();
    assert!(!output.out.contains("\n0 builds without room"), "{}", output.out);
}

#[test]
fn a_build_outlives_the_server_of_its_bucket() {
    let project = project(&packing());
    // Beside the tests, where all targets are built together.
    let built = std::env::current_exe()
        .ok()
        .and_then(|test| Some(test.parent()?.parent()?.join("examples/s3-server")));
    let Some(server) = built.filter(|server| server.is_file()) else {
        println!("SKIPPED: tests/faults/far.py needs the example s3-server (cargo build --examples)");
        return;
    };
    let more = ["--server", server.to_str().expect("UTF-8"), "--rounds", "2", "--pairs", "2", "--seed", "1"];
    let Some(output) = harness("far.py", finch(), &project, &more) else { return };
    let output = output.ok();
    assert!(output.out.contains("4 rounds; 0 failures") || output.out.contains("SKIPPED"), "{}", output.out);
}

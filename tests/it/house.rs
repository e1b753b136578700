//! House rules that a compiler cannot check.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::project::repository;

/// Rust files of the workspace.
fn sources() -> Vec<PathBuf> {
    let mut pending: Vec<PathBuf> =
        ["src", "crates", "tests", "benches"].map(|name| repository().join(name)).to_vec();
    let mut files = Vec::new();
    while let Some(folder) = pending.pop() {
        for entry in fs::read_dir(folder).expect("list") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                pending.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.push(path);
            }
        }
    }
    files
}

#[test]
fn modules_have_names_of_the_domain_and_say_what_they_are() {
    for path in sources() {
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        assert!(
            !["utils", "helpers", "common", "manager", "misc"].contains(&name.as_str()),
            "{}",
            path.display()
        );
        let text = fs::read_to_string(&path).expect("read");
        assert!(text.starts_with("//!"), "{} does not start with its purpose", path.display());
        assert!(text.lines().count() <= 500, "{} is longer than one idea", path.display());
    }
}

#[test]
fn boundaries_between_modules_hold() {
    let inside = |path: &Path, folder: &str| path.starts_with(repository().join(folder));
    for path in sources().iter().filter(|path| inside(path, "src")) {
        let text = fs::read_to_string(path).expect("read");
        if !inside(path, "src/sql") {
            assert!(!text.contains("datafusion::"), "{} names DataFusion; only sql/ may", path.display());
        }
        if !inside(path, "src/remote") {
            assert!(
                !text.contains("object_store::"),
                "{} names object_store; only remote/ may",
                path.display()
            );
        }
        if !inside(path, "src/cli") {
            assert!(!text.contains("miette"), "{} renders errors; only cli/ may", path.display());
        }
        if !inside(path, "src/cli") && !path.ends_with("lib.rs") && !path.ends_with("main.rs") {
            assert!(!text.contains("crate::cli"), "{} calls the command line", path.display());
        }
    }
}

#[test]
fn only_the_folder_torch_names_libtorch() {
    for path in sources() {
        let text = fs::read_to_string(&path).expect("read");
        let inside = path.starts_with(repository().join("crates/finch-train/src/torch"));
        let this = path.ends_with("tests/it/house.rs");
        let word = |at: usize| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_');
        let named = text.match_indices("tch::").any(|(at, _)| word(at));
        assert!(inside || this || !named, "{} names libtorch", path.display());
        // One call of a function that the compiler makes vectors of.
        let vectors = path.ends_with("src/near/sketch.rs") && text.matches("unsafe {").count() == 1;
        let safe = inside || this || vectors || !text.contains("allow(unsafe_code)");
        assert!(safe, "{} is unsafe", path.display());
    }
}

#[test]
fn the_core_is_lean() {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "finch-core", "--edges", "normal", "--prefix", "none", "--offline"])
        .current_dir(repository())
        .output()
        .expect("cargo tree runs");
    let tree = String::from_utf8_lossy(&output.stdout);
    assert!(tree.contains("finch-core"), "{}", String::from_utf8_lossy(&output.stderr));
    for heavy in ["datafusion", "polars", "object_store", "tokio", "tch"] {
        let named = tree.lines().any(|line| line.split(' ').next() == Some(heavy));
        assert!(!named, "finch-core depends on {heavy}");
    }
}

#[test]
fn there_is_one_arrow_and_one_object_store() {
    let lock = fs::read_to_string(repository().join("Cargo.lock")).expect("Cargo.lock");
    let names = lock.lines().filter_map(|line| line.strip_prefix("name = \""));
    let mut counts = std::collections::BTreeMap::<&str, usize>::new();
    for name in names.map(|name| name.trim_end_matches('"')) {
        *counts.entry(name).or_default() += 1;
    }
    for (name, count) in counts {
        let single = name.starts_with("arrow") || ["parquet", "object_store", "datafusion"].contains(&name);
        assert!(!single || count == 1, "{name} is in the tree {count} times");
    }
}

//! Tells the program which compiler and crates it was built with: manifests and `finch --version` say so.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=Cargo.lock");
    println!("cargo::rerun-if-changed=build.rs");
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc).arg("--version").output();
    let version = output.ok().and_then(|output| String::from_utf8(output.stdout).ok()).unwrap_or_default();
    let version = version.split_whitespace().nth(1).unwrap_or("unknown").to_owned();
    println!("cargo::rustc-env=FINCH_RUSTC={version}");

    let lock = std::fs::read_to_string("Cargo.lock").unwrap_or_default();
    for name in ["arrow", "parquet", "datafusion", "tokenizers"] {
        let entry = format!("name = \"{name}\"\nversion = \"");
        let version =
            lock.split_once(&entry).and_then(|(_, rest)| rest.split('"').next()).unwrap_or("unknown");
        println!("cargo::rustc-env=FINCH_{}={version}", name.to_uppercase());
    }
}

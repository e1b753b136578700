//! Puts the folder of the libtorch that this was built with into the run path of everything that links it, so that
//! tests and `cargo run` find it. `finch-train` itself links no libtorch; it starts the program that does.
//!
//! A program for other machines must not name a folder of this one: with `FINCH_DIST` set, nothing of it is left in
//! (`scripts/trainer-dist.py`).

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed=FINCH_DIST");
    if std::env::var_os("FINCH_DIST").is_some_and(|value| !value.is_empty()) {
        return;
    }
    // Set by torch-sys (`links = "tch"`) for crates that depend on it directly, so only with the feature `torch`.
    if let Ok(folder) = std::env::var("DEP_TCH_LIBTORCH_LIB") {
        println!("cargo::rustc-link-arg-bin=finch-train-torch=-Wl,-rpath,{folder}");
        println!("cargo::rustc-link-arg-tests=-Wl,-rpath,{folder}");
        println!("cargo::rustc-env=FINCH_LIBTORCH_BUILT={folder}");
    }
}

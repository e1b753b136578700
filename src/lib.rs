//! finch rebuilds an LLM training set from the raw logs of evolutionary program searches.
//!
//! A spec names stages; each makes an immutable dataset, named by the digest of everything that it was made
//! from. `ARCHITECTURE.md` draws the map. The library serves the `finch` program; `finch-core` is what other
//! programs link to read what it wrote.

pub mod bare;
pub mod catalog;
pub mod check;
pub mod cli;
pub mod contain;
pub mod contract;
pub mod data_tests;
pub mod diff;
pub mod engine;
pub mod error;
pub mod evaluation;
pub mod graph;
pub mod history;
pub mod identity;
pub mod ingest;
pub mod interrupt;
pub mod near;
pub mod plan;
pub mod progress;
pub mod references;
pub mod remote;
pub mod rules;
pub mod shelf;
pub mod spec;
pub mod sql;
pub mod stage;
pub mod store;

pub use error::{Error, Result};
pub use finch_core::code;

/// Versions that shape what is written, for manifests and `finch --version`.
pub fn toolchain() -> std::collections::BTreeMap<String, String> {
    [
        ("finch", env!("CARGO_PKG_VERSION")),
        ("rustc", env!("FINCH_RUSTC")),
        ("arrow", env!("FINCH_ARROW")),
        ("parquet", env!("FINCH_PARQUET")),
        ("datafusion", env!("FINCH_DATAFUSION")),
        ("tokenizers", env!("FINCH_TOKENIZERS")),
    ]
    .map(|(name, version)| (name.to_owned(), version.to_owned()))
    .into()
}

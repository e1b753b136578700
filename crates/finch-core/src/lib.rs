//! What finch and its trainer agree on: identities, canonical text, tables on disk, manifests, tokens.
//!
//! Two programs read and write the same datasets, and a GPU node should need neither a query engine nor an
//! object store to do it. This crate therefore holds the formats and nothing that executes a pipeline: no
//! DataFusion, no polars, no object_store, no tokio, no tch.

pub mod answer;
pub mod canon;
pub mod code;
pub mod digest;
pub mod error;
pub mod example;
pub mod manifest;
pub mod packing;
pub mod replay;
pub mod rows;
pub mod sample;
#[cfg(test)]
mod schemas;
pub mod scrub;
pub mod shard;
pub mod signals;
pub mod template;
pub mod tokens;
pub mod training;

pub use code::Code;
pub use digest::{Digest, Kind};
pub use error::Error;

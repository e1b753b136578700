//! Fuzz targets of finch's readers, for cargo-fuzz and for `run`, which needs none of it.
//!
//! Logs come from anywhere, so what reads them must survive anything. The crate is no member of the workspace: its
//! dependencies are compiled with other settings, and nothing of it is shipped.

pub mod mutate;
pub mod targets;

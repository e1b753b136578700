//! Near-duplicates: which texts are almost the same, for certain and at scale.
//!
//! A text is a set of shingles (`tokens`), or what a step changed is (`change`). Two are alike when the Jaccard
//! similarity of their sets is the threshold or more. Sketches (`sketch`) find the pairs that are worth comparing,
//! `search` compares them, and what is linked by pairs that are alike is a component (`components`).
//!
//! Nothing here knows of tables or tasks, and nothing is decided by order, threads or memory.

pub mod change;
mod components;
mod search;
mod sketch;
mod sketches;
pub mod tokens;

pub use components::Components;
pub use search::{Effort, Items, search};
pub use sketch::Likeness;

//! A bounded part of fuzzing, in every test run: each reader on its seeds, and on some mutations of them.
//!
//! The fuzz targets are shared with `fuzz/`, where they run for hours. The mutations here are always the same.

#[allow(unreachable_pub, dead_code, reason = "shared with the fuzzers, which use more of it")]
#[path = "../../fuzz/src/mutate.rs"]
mod mutate;
#[allow(unreachable_pub, dead_code, reason = "shared with the fuzzers, which use more of it")]
#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::fs;

use mutate::{Mutator, Random};

use crate::project::repository;

/// Mutations of the seeds of each target.
const MUTATIONS: usize = 300;

#[test]
fn every_reader_survives_its_seeds_and_what_becomes_of_them() {
    for (name, target) in targets::TARGETS {
        let folder = repository().join("fuzz/seeds").join(name);
        let mut paths: Vec<_> =
            fs::read_dir(&folder).expect("seeds").map(|entry| entry.expect("entry").path()).collect();
        paths.sort();
        let seeds: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).expect("a seed")).collect();
        assert!(!seeds.is_empty(), "{name} has no seeds");
        seeds.iter().for_each(|seed| target(seed));
        let mut mutator = Mutator::new(Random::new(33));
        for _ in 0..MUTATIONS {
            target(&mutator.mutate(&seeds));
        }
    }
}

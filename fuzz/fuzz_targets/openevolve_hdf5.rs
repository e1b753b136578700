//! The target `openevolve_hdf5` for libFuzzer; what it does is in `targets.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| finch_fuzz::targets::openevolve_hdf5(data));

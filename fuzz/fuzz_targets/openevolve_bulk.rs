//! The target `openevolve_bulk` for libFuzzer; what it does is in `targets.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| finch_fuzz::targets::openevolve_bulk(data));

//! The target `shinka_database` for libFuzzer; what it does is in `targets.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| finch_fuzz::targets::shinka_database(data));

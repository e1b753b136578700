//! The target `mapping_spec` for libFuzzer; what it does is in `targets.rs`.

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| finch_fuzz::targets::mapping_spec(data));

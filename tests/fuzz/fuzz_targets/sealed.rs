//! Any bytes as anything sealed or signed: see [`overlay_tests::fuzz::fuzz_sealed`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| overlay_tests::fuzz::fuzz_sealed(input));

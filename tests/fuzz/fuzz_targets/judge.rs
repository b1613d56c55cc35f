//! Any datagrams through the pump: see [`overlay_tests::fuzz::fuzz_judge`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| overlay_tests::fuzz::fuzz_judge(input));

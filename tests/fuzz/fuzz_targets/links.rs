//! Any inputs into sealed links: see [`overlay_tests::fuzz::fuzz_links`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| overlay_tests::fuzz::fuzz_links(input));

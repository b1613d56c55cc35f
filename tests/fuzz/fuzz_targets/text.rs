//! Any text as a token or a secret: see [`overlay_tests::fuzz::fuzz_text`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| overlay_tests::fuzz::fuzz_text(input));

//! Any inputs into the control plane: see [`overlay_tests::fuzz::fuzz_control`].

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| overlay_tests::fuzz::fuzz_control(input));

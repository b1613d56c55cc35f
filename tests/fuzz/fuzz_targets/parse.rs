//! Reading any bytes: see [`overlay_tests::fuzz::fuzz_parse`].

#![no_main]

libfuzzer_sys::fuzz_target!(|datagram: &[u8]| overlay_tests::fuzz::fuzz_parse(datagram));

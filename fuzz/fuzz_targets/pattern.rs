#![no_main]
#![allow(dead_code, reason = "each target calls one of the entries")]

#[path = "../../crates/kiln-core/tests/fuzz/entries.rs"]
mod entries;

libfuzzer_sys::fuzz_target!(|data: &[u8]| entries::pattern(data));

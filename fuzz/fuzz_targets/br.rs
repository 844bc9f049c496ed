//! In: a brotli stream. Out: nothing, or a panic when a promise is broken.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| vestibule::fuzzing::br(data));

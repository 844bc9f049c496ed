//! In: what a proxy sends first. Out: nothing, or a panic when a promise is broken.
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| vestibule::fuzzing::proxy(data));

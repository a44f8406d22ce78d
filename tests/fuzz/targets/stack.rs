#![allow(missing_docs)]
#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dataplane_fuzz::stack::check(bytes);
});

#![allow(missing_docs)]
#![no_main]

use dataplane_common::abi::Hook;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    dataplane_fuzz::check(Hook::FromCarrier, bytes);
});

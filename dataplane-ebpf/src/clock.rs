//! The time, by what the timer interrupt counts: to read that takes no call.

use aya_ebpf::Global;

use crate::helpers;

/// Nanoseconds of a jiffy: [`abi::globals`], set by the loader. A constant for the verifier.
///
/// [`abi::globals`]: dataplane_common::abi::globals
#[unsafe(no_mangle)]
static JIFFY: Global<u32> = Global::new(1);

/// The jiffies when `CLOCK_MONOTONIC` was zero, set as the one above.
#[unsafe(no_mangle)]
static FIRST_JIFFY: Global<u64> = Global::new(0);

/// Nanoseconds of `CLOCK_MONOTONIC`, as of the last timer interrupt.
#[inline(always)]
pub fn monotonic_time() -> u64 {
    let jiffies = helpers::jiffies().wrapping_sub(FIRST_JIFFY.load());
    jiffies.wrapping_mul(u64::from(JIFFY.load()))
}

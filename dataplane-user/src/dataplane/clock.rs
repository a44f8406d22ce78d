//! The clock that the programs go by.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// What `CLOCK_MONOTONIC` shows.
///
/// # Panics
///
/// Where the system has no such clock.
#[must_use]
pub fn monotonic_time() -> Duration {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    now.into()
}

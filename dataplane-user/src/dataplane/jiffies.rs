//! What the kernel's timer interrupt counts, and how it follows `CLOCK_MONOTONIC`.

use std::time::Duration;

/// How jiffies become a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Jiffies {
    /// Nanoseconds of one.
    pub(super) length: u32,
    /// Which it was when the clock was zero, so to speak: the kernel begins to count later than the clock.
    pub(super) first: u64,
}

impl Jiffies {
    /// With jiffies of this `length`, of which the lower 32 bits are `low` at the time `now`.
    ///
    /// 2^32 of them take 49 days at the least. They begin to be counted five minutes before they overflow for
    /// the first time (`INITIAL_JIFFIES`), about when the clock is zero.
    #[allow(clippy::cast_possible_truncation)] // the lower 32 bits
    pub(super) fn new(length: u32, low: u32, now: Duration) -> Self {
        const FIVE_MINUTES: u64 = 300 * 1_000_000_000;
        let nanoseconds = u64::from(length);
        let since_zero = now.as_nanos() as u64 / nanoseconds;
        let initial = (1 << 32) - FIVE_MINUTES / nanoseconds;
        let late = low
            .wrapping_sub((initial + since_zero) as u32)
            .cast_signed();
        Self {
            length,
            first: initial.wrapping_add_signed(late.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a program does.
    fn time(jiffies: Jiffies, count: u64) -> Duration {
        Duration::from_nanos((count - jiffies.first) * u64::from(jiffies.length))
    }

    #[test]
    fn jiffies_give_the_time_however_late_they_began_and_however_often_they_overflowed() {
        for length in [1_000_000, 3_333_333, 4_000_000, 10_000_000_u32] {
            let initial = (1 << 32) - 300 * 1_000_000_000 / u64::from(length);
            for late in [0, 63, 100_000] {
                for since in [100_000, (1 << 32) + 5, 7 << 32] {
                    let now = Duration::from_nanos(since * u64::from(length));
                    let count = initial + since - late;
                    #[allow(clippy::cast_possible_truncation)] // the lower 32 bits
                    let jiffies = Jiffies::new(length, count as u32, now);
                    assert_eq!(time(jiffies, count), now, "{length} {late} {since}");
                }
            }
        }
    }
}

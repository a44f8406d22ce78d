//! Bytes that tell where they belong.

use std::sync::LazyLock;

/// Length of the pattern before it repeats, in bytes: a prime, so that no exchange of segments,
/// whatever their size, maps it onto itself.
const PERIOD: usize = 65_521;

/// Two periods, so that from any place in the first a whole one follows.
static PATTERN: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let period: Vec<u8> = (1..=PERIOD as u64).map(scramble).collect();
    period.repeat(2)
});

/// Most bytes that [`at`] gives at once.
pub(super) const LONGEST: usize = PERIOD;

/// The `length` bytes of the pattern at `position`, where `length` is at most [`LONGEST`].
pub(super) fn at(position: u64, length: usize) -> &'static [u8] {
    #[allow(clippy::cast_possible_truncation, reason = "less than the period")]
    let start = (position % PERIOD as u64) as usize;
    &PATTERN[start..start + length]
}

/// One byte of a multiplicative hash (Knuth, TAOCP 6.4).
fn scramble(number: u64) -> u8 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1]
}

//! The table of the pods' addresses: which number the pod has that has an address.
//!
//! It is looked into without a call to the kernel, whose hash maps take longer than most of what else
//! there is to ask of a packet. It is an array of lines of sixteen slots, and each address names the one
//! line that it may be in. A quarter of the slots are in use when there are as many pods as there may be,
//! so that hardly ever one finds its line full; then it is in no line, and its packets are the stack's.
//!
//! A slot is one word, written at once: a lookup sees an address with its number, or not at all.

use crate::abi::{Addr, MAX_ENDPOINTS, Number};

/// Slots of a line.
pub const SLOTS: u32 = 16;
/// Lines of a table.
pub const LINES: u32 = MAX_ENDPOINTS * 4 / SLOTS;

/// A line: slots, each of them [`slot`] or zero.
pub type Line = [Number; SLOTS as usize];

/// What says that `address` has `number`.
#[inline(always)]
#[must_use]
pub const fn slot(address: Addr, number: u32) -> u64 {
    (number as u64 + 1) << 32 | u32::from_be_bytes(address) as u64
}

/// What a slot says, unless it is empty.
#[inline(always)]
#[must_use]
#[allow(clippy::cast_possible_truncation)] // each is a half
pub const fn parts(slot: u64) -> Option<(Addr, u32)> {
    match (slot >> 32) as u32 {
        0 => None,
        number => Some(((slot as u32).to_be_bytes(), number - 1)),
    }
}

/// The line that `address` is in, if it is in any.
#[inline(always)]
#[must_use]
#[allow(clippy::cast_possible_truncation)] // below `LINES`
pub const fn line(address: Addr) -> u32 {
    /// 2^64 by the golden ratio: addresses in a row are spread evenly (Knuth, section 6.4).
    const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
    let spread = (u32::from_be_bytes(address) as u64).wrapping_mul(SPREAD);
    (spread >> (64 - LINES.trailing_zeros())) as u32
}

/// The number of `address`, which is in this line, if anywhere.
#[inline(always)]
#[must_use]
pub fn find(line: &Line, address: Addr) -> Option<u32> {
    for slot in line {
        if let Some((found, number)) = parts(slot.get())
            && found == address
        {
            return Some(number);
        }
    }
    None
}

const _: () = assert!(LINES.is_power_of_two());
const _: () = assert!(size_of::<Line>() == 128);

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Addr = [10, 244, 1, 10];

    fn line_with(place: usize, slot: u64) -> Line {
        let mut line = Line::default();
        line[place] = slot.into();
        line
    }

    #[test]
    fn an_address_is_found_in_each_slot() {
        for place in 0..SLOTS as usize {
            let line = line_with(place, slot(POD, 4095));
            assert_eq!(find(&line, POD), Some(4095), "slot {place}");
            assert_eq!(find(&line, [10, 244, 1, 11]), None);
        }
    }

    #[test]
    fn the_first_number_of_the_first_address_is_not_an_empty_slot() {
        let none = [0; 4];
        assert_eq!(parts(slot(none, 0)), Some((none, 0)));
        assert_eq!(find(&line_with(0, slot(none, 0)), none), Some(0));
        assert_eq!(find(&line_with(0, 0), none), None);
    }

    #[test]
    fn lines_are_filled_evenly_by_addresses_in_a_row() {
        let mut count = [0; LINES as usize];
        for low in 0..MAX_ENDPOINTS {
            count[line((0x0af4_0000 + low).to_be_bytes()) as usize] += 1;
        }
        assert!(count.iter().all(|count| *count <= 6), "{count:?}");
    }
}

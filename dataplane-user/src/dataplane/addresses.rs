//! The pods' addresses, in a table whose layout is [`dataplane_common::addresses`]'s.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicU64, Ordering},
};

use anyhow::{Context as _, Result};
use aya::maps::MapData;
use dataplane_common::{
    abi::{Addr, maps},
    addresses::{self, LINES, SLOTS},
};

use super::{
    Full, Pins, Table,
    mapping::{Access, Mapping},
    maps::cannot_open,
};

const WORDS: NonZeroUsize = NonZeroUsize::new((LINES * SLOTS) as usize).unwrap();

/// The map of the pods' addresses: which number each has.
#[derive(Debug)]
pub struct AddressMap(Mapping<AtomicU64>);

impl AddressMap {
    /// Opens the addresses to write them.
    pub fn open_addresses(pins: &Pins) -> Result<Self> {
        Self::open(pins, Access::Write)
    }

    /// Opens the addresses to read them, whoever writes them meanwhile.
    pub fn read_addresses(pins: &Pins) -> Result<Self> {
        Self::open(pins, Access::Read)
    }

    fn open(pins: &Pins, access: Access) -> Result<Self> {
        let path = pins.map(maps::ENDPOINTS);
        let map = MapData::from_pin(&path).with_context(|| cannot_open(&path))?;
        let mapping = Mapping::new(&map, WORDS, access);
        Ok(Self(mapping.with_context(|| {
            format!("cannot read the BPF map {}", maps::ENDPOINTS)
        })?))
    }

    /// The number that `address` has.
    pub(super) fn get(&self, address: Addr) -> Option<u32> {
        find(self.0.words(), address).map(|(_, number)| number)
    }
}

impl Table<Addr, u32> for AddressMap {
    fn entries(&self) -> Result<Vec<(Addr, u32)>> {
        let slots = self.0.words().iter();
        Ok(slots
            .filter_map(|slot| addresses::parts(get(slot)))
            .collect())
    }

    fn insert(&mut self, address: &Addr, number: &u32) -> Result<()> {
        let slot = place(self.0.words(), *address).ok_or_else(|| {
            let why = "the line that this address belongs in is full";
            Full::new(maps::ENDPOINTS, why)
        })?;
        slot.store(addresses::slot(*address, *number), Ordering::Release);
        Ok(())
    }

    fn remove(&mut self, address: &Addr) -> Result<()> {
        if let Some((slot, _)) = find(self.0.words(), *address) {
            slot.store(0, Ordering::Release);
        }
        Ok(())
    }
}

/// Where `address` is, or else may be.
fn place(slots: &[AtomicU64], address: Addr) -> Option<&AtomicU64> {
    let is_free = |slot: &&AtomicU64| get(slot) == 0;
    let found = find(slots, address).map(|(slot, _)| slot);
    found.or_else(|| of(slots, address).find(is_free))
}

/// Where `address` is, and the number it has there.
fn find(slots: &[AtomicU64], address: Addr) -> Option<(&AtomicU64, u32)> {
    of(slots, address).find_map(|slot| match addresses::parts(get(slot)) {
        Some((of, number)) if of == address => Some((slot, number)),
        _ => None,
    })
}

/// The slots that `address` may be in.
fn of(slots: &[AtomicU64], address: Addr) -> impl Iterator<Item = &AtomicU64> {
    let length = SLOTS as usize;
    let first = addresses::line(address) as usize * length;
    slots[first..first + length].iter()
}

fn get(slot: &AtomicU64) -> u64 {
    slot.load(Ordering::Acquire)
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: Addr = [10, 244, 1, 10];

    fn empty() -> Vec<AtomicU64> {
        (0..WORDS.get()).map(|_| AtomicU64::new(0)).collect()
    }

    /// Where it has been put.
    fn put(slots: &[AtomicU64], address: Addr, number: u32) -> Option<usize> {
        let slot = place(slots, address)?;
        slot.store(addresses::slot(address, number), Ordering::Relaxed);
        slots.iter().position(|other| std::ptr::eq(other, slot))
    }

    #[test]
    fn an_address_stays_where_it_is() {
        let slots = empty();
        let first = put(&slots, POD, 1);
        // Even if there is room before it by now.
        let others = &slots[first.unwrap()..];
        others[1].store(addresses::slot(POD, 1), Ordering::Relaxed);
        others[0].store(0, Ordering::Relaxed);
        assert_eq!(put(&slots, POD, 2), first.map(|first| first + 1));
    }

    #[test]
    fn every_address_that_there_is_room_for_finds_a_place_however_they_are_given() {
        use dataplane_common::abi::MAX_ENDPOINTS;
        let mut random = fastrand::Rng::with_seed(7);
        let in_rows = (0..MAX_ENDPOINTS).map(|low| 0x0af4_0000 + low);
        // 64 pods in each of 64 blocks.
        let in_blocks = (0..MAX_ENDPOINTS).map(|n| 0x0a00_0000 + n / 64 * 0x1_0040 + n % 64);
        let at_random: Vec<_> = (0..MAX_ENDPOINTS).map(|_| random.u32(..)).collect();
        for addresses in [in_rows.collect(), in_blocks.collect(), at_random] {
            let slots = empty();
            for (number, address) in (0..).zip(addresses) {
                let place = put(&slots, address.to_be_bytes(), number);
                assert!(place.is_some(), "number {number}");
            }
        }
    }

    #[test]
    fn what_finds_its_line_full_has_no_place() {
        let slots = empty();
        for slot in of(&slots, POD) {
            slot.store(addresses::slot([192, 0, 2, 1], 1), Ordering::Relaxed);
        }
        assert!(place(&slots, POD).is_none());
    }
}

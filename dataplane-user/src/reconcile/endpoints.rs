//! The pods of this node by number, and their numbers by address.
//!
//! A program reads an entry without a lock, and a flow remembers its number. So an entry is never
//! written while anything names it: what changes gets another number, then the address turns to that,
//! and then the old entry is made zero, half of which is as little of a pod as all of it: its packets
//! are the stack's. Numbers are given again in the order in which they came free, so that no program
//! still has one in hand.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use anyhow::Result;
use dataplane_common::abi::{Addr, Endpoint, MAX_ENDPOINT_ENTRIES, MAX_ENDPOINTS, maps};

use super::next_hops::Slots;
use crate::dataplane::{Full, Table};

/// The pods as one table, which is two maps.
#[derive(Debug)]
pub struct Endpoints<N, E> {
    numbers: N,
    entries: E,
    known: BTreeMap<Addr, u32>,
    free: VecDeque<u32>,
}

impl<N: Table<Addr, u32>, E: Slots<Endpoint>> Endpoints<N, E> {
    /// Reads what an earlier agent wrote, and makes zero what it has not come to.
    pub fn open(numbers: N, mut entries: E) -> Result<Self> {
        let known: BTreeMap<Addr, u32> = numbers.entries()?.into_iter().collect();
        let used: BTreeSet<u32> = known.values().copied().collect();
        let free = (0..MAX_ENDPOINT_ENTRIES).filter(|number| !used.contains(number));
        let free: VecDeque<u32> = free.collect();
        for &number in &free {
            if entries.get(number)? != Endpoint::default() {
                entries.set(number, Endpoint::default())?;
            }
        }
        Ok(Self {
            numbers,
            entries,
            known,
            free,
        })
    }

    fn release(&mut self, number: Option<u32>) -> Result<()> {
        if let Some(number) = number {
            self.entries.set(number, Endpoint::default())?;
            self.free.push_back(number);
        }
        Ok(())
    }
}

impl<N: Table<Addr, u32>, E: Slots<Endpoint>> Table<Addr, Endpoint> for Endpoints<N, E> {
    fn entries(&self) -> Result<Vec<(Addr, Endpoint)>> {
        let known = self.known.iter();
        known
            .map(|(address, number)| Ok((*address, self.entries.get(*number)?.anywhere())))
            .collect()
    }

    fn insert(&mut self, address: &Addr, endpoint: &Endpoint) -> Result<()> {
        // More would crowd the lines of addresses, and leave no numbers for what changes.
        if self.known.len() >= MAX_ENDPOINTS as usize && !self.known.contains_key(address) {
            let why = format!("it has all of its {MAX_ENDPOINTS} entries");
            return Err(Full::new(maps::ENDPOINTS, why).into());
        }
        let Some(&number) = self.free.front() else {
            return Err(Full::new(maps::ENDPOINT_ENTRIES, "every number is in use").into());
        };
        let numbered = Endpoint {
            number: number.try_into()?,
            ..*endpoint
        };
        self.entries.set(number, numbered)?;
        // Where there is no room for the address, the number stays free.
        self.numbers.insert(address, &number)?;
        self.free.pop_front();
        let old = self.known.insert(*address, number);
        self.release(old)
    }

    fn remove(&mut self, address: &Addr) -> Result<()> {
        self.numbers.remove(address)?;
        let old = self.known.remove(address);
        self.release(old)
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    const POD: Addr = [10, 244, 1, 10];
    const OTHER: Addr = [10, 244, 1, 11];

    /// Has room for one address, unless it has for any number.
    #[derive(Debug, Default)]
    struct Numbers {
        numbers: BTreeMap<Addr, u32>,
        has_room: bool,
    }

    impl Table<Addr, u32> for Numbers {
        fn entries(&self) -> Result<Vec<(Addr, u32)>> {
            Ok(self.numbers.iter().map(|(k, v)| (*k, *v)).collect())
        }

        fn insert(&mut self, key: &Addr, value: &u32) -> Result<()> {
            let numbers = &self.numbers;
            if !self.has_room && !numbers.is_empty() && !numbers.contains_key(key) {
                bail!(Full::new("ENDPOINTS", "there is one"));
            }
            self.numbers.insert(*key, *value);
            Ok(())
        }

        fn remove(&mut self, key: &Addr) -> Result<()> {
            self.numbers.remove(key);
            Ok(())
        }
    }

    type InMemory = Endpoints<Numbers, Vec<Endpoint>>;

    fn empty() -> InMemory {
        let entries = vec![Endpoint::default(); usize::try_from(MAX_ENDPOINT_ENTRIES).unwrap()];
        Endpoints::open(Numbers::default(), entries).unwrap()
    }

    fn behind(ifindex: u32) -> Endpoint {
        Endpoint {
            ifindex,
            mtu: 1450,
            ..Endpoint::default()
        }
    }

    fn number(endpoints: &InMemory) -> usize {
        endpoints.numbers.numbers[&POD] as usize
    }

    #[test]
    fn what_changes_gets_another_number_and_leaves_nothing() {
        let mut endpoints = empty();
        endpoints.insert(&POD, &behind(7)).unwrap();
        let first = number(&endpoints);
        assert_eq!(
            endpoints.entries[first].number,
            u16::try_from(first).unwrap()
        );
        endpoints.insert(&POD, &behind(8)).unwrap();
        let second = number(&endpoints);
        assert_ne!(first, second);
        assert_eq!(endpoints.entries[first], Endpoint::default());
        assert_eq!(endpoints.entries[second].anywhere(), behind(8));
        assert_eq!(endpoints.entries().unwrap(), [(POD, behind(8))]);
        endpoints.remove(&POD).unwrap();
        assert_eq!(endpoints.entries[second], Endpoint::default());
        assert!(endpoints.numbers.numbers.is_empty());
    }

    #[test]
    fn a_number_is_not_soon_given_again() {
        let mut endpoints = empty();
        let mut given = BTreeSet::new();
        for ifindex in 1..=MAX_ENDPOINT_ENTRIES {
            endpoints.insert(&POD, &behind(ifindex)).unwrap();
            assert!(given.insert(number(&endpoints)), "interface {ifindex}");
        }
    }

    #[test]
    fn an_address_without_room_takes_no_number() {
        let mut endpoints = empty();
        endpoints.insert(&POD, &behind(7)).unwrap();
        let free = endpoints.free.len();
        let error = endpoints.insert(&OTHER, &behind(8)).unwrap_err();
        assert!(error.is::<Full>());
        assert_eq!(endpoints.free.len(), free);
        assert_eq!(endpoints.entries().unwrap(), [(POD, behind(7))]);
    }

    #[test]
    fn there_are_as_many_pods_as_there_may_be_and_those_may_change() {
        let mut endpoints = empty();
        endpoints.numbers.has_room = true;
        let address = |number: u32| (0x0af4_0000 + number).to_be_bytes();
        for number in 0..MAX_ENDPOINTS {
            endpoints.insert(&address(number), &behind(7)).unwrap();
        }
        let error = endpoints.insert(&address(MAX_ENDPOINTS), &behind(7));
        assert!(error.unwrap_err().is::<Full>());
        endpoints.insert(&address(0), &behind(8)).unwrap();
    }

    #[test]
    fn what_an_agent_that_was_killed_left_is_made_zero() {
        let mut endpoints = empty();
        endpoints.insert(&POD, &behind(7)).unwrap();
        let kept = number(&endpoints);
        let Endpoints {
            numbers,
            mut entries,
            ..
        } = endpoints;
        entries[99] = behind(8);
        let endpoints = Endpoints::open(numbers, entries).unwrap();
        assert_eq!(endpoints.entries[99], Endpoint::default());
        assert_eq!(endpoints.entries().unwrap(), [(POD, behind(7))]);
        assert!(!endpoints.free.contains(&u32::try_from(kept).unwrap()));
    }
}

//! The routes, of which not all may fit into the map.
//!
//! Shorter prefixes are written first. Where a longer one finds no room, its addresses must not
//! follow what covers it to another next hop: the longest prefix around it that has room is made to
//! lead nowhere, to [`UNSET`], which leaves packets to the stack. That may be a route itself, which
//! then waits, and is back when everything inside it has found room.

use std::collections::BTreeSet;

use anyhow::Result;
use dataplane_common::abi::UNSET;
use ipnet::Ipv4Net;

use super::Written;
use crate::dataplane::{Full, RouteTable};

/// The table, and the prefixes in it that lead nowhere for want of room.
#[derive(Debug)]
pub struct Routes<T> {
    table: T,
    /// How many prefixes it holds.
    len: usize,
    in_place_of: BTreeSet<Ipv4Net>,
}

impl<T: RouteTable> Routes<T> {
    /// Reads what an earlier agent left.
    pub fn open(table: T) -> Result<Self> {
        let entries = table.entries()?;
        let nowhere = entries.iter().filter(|(_, id)| *id == UNSET);
        Ok(Self {
            len: entries.len(),
            in_place_of: nowhere.map(|(prefix, _)| *prefix).collect(),
            table,
        })
    }

    /// What `prefix` leads to, by its own doing.
    pub fn get(&self, prefix: &Ipv4Net) -> Option<u32> {
        self.table
            .get(prefix)
            .filter(|_| !self.in_place_of.contains(prefix))
    }

    /// How many prefixes the table holds.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// The table itself.
    pub(super) fn table(&self) -> &T {
        &self.table
    }

    /// The numbers that something leads to.
    pub fn numbers(&self) -> Result<BTreeSet<u32>> {
        let entries = self.table.entries()?;
        Ok(entries.into_iter().map(|(_, id)| id).collect())
    }

    /// Has one prefix lead to `id`, or nowhere. What waits for room goes on waiting until
    /// [`Routes::write`] looks at all of them.
    pub fn set(&mut self, prefix: Ipv4Net, id: Option<u32>) -> Result<Written> {
        let mut result = Written::default();
        if self.in_place_of.contains(&prefix) {
            return Ok(result);
        }
        match id {
            None => self.remove(prefix)?,
            Some(id) => match self.insert(prefix, id) {
                Ok(()) => {}
                Err(error) if error.is::<Full>() => {
                    result.refuse(&error);
                    let nowhere = self.lead_nowhere(&[prefix])?;
                    self.in_place_of.extend(nowhere);
                }
                Err(error) => return Err(error),
            },
        }
        Ok(result)
    }

    /// Adds and replaces what differs from `desired`, which is in the order of prefixes.
    pub fn write(&mut self, desired: &[(Ipv4Net, u32)]) -> Result<Written> {
        let mut different: Vec<_> = desired
            .iter()
            .filter(|(prefix, id)| {
                self.table.get(prefix) != Some(*id) && !self.in_place_of.contains(prefix)
            })
            .collect();
        different.sort_by_key(|(prefix, _)| prefix.prefix_len());
        let mut result = Written::default();
        let mut refused = Vec::new();
        for (prefix, id) in different {
            match self.insert(*prefix, *id) {
                Ok(()) => result.written += 1,
                Err(error) if error.is::<Full>() => {
                    result.refuse(&error);
                    refused.push(*prefix);
                }
                Err(error) => return Err(error),
            }
        }
        let nowhere = self.lead_nowhere(&refused)?;
        let no_longer: Vec<_> = self.in_place_of.difference(&nowhere).copied().collect();
        for prefix in &no_longer {
            match desired.binary_search_by_key(prefix, |(prefix, _)| *prefix) {
                Ok(found) => self.insert(*prefix, desired[found].1)?,
                Err(_) => self.remove(*prefix)?,
            }
            result.written += 1;
        }
        let waiting = nowhere.iter().filter(|prefix| is_in(desired, **prefix));
        result.refused += waiting.count();
        self.in_place_of = nowhere;
        Ok(result)
    }

    /// Removes what is not in `desired`; returns how many entries.
    pub fn sweep(&mut self, desired: &[(Ipv4Net, u32)]) -> Result<usize> {
        let mut unwanted = self.table.entries()?;
        unwanted
            .retain(|(prefix, _)| !is_in(desired, *prefix) && !self.in_place_of.contains(prefix));
        for (prefix, _) in &unwanted {
            self.remove(*prefix)?;
        }
        Ok(unwanted.len())
    }

    fn insert(&mut self, prefix: Ipv4Net, id: u32) -> Result<()> {
        let is_new = self.table.get(&prefix).is_none();
        self.table.insert(&prefix, &id)?;
        self.len += usize::from(is_new);
        Ok(())
    }

    fn remove(&mut self, prefix: Ipv4Net) -> Result<()> {
        let is_there = self.table.get(&prefix).is_some();
        self.table.remove(&prefix)?;
        self.len -= usize::from(is_there);
        Ok(())
    }

    /// Has the longest prefix around each of these that has room lead nowhere; returns them. What
    /// covers one of these has room, since it is in the table.
    fn lead_nowhere(&mut self, refused: &[Ipv4Net]) -> Result<BTreeSet<Ipv4Net>> {
        let mut nowhere = BTreeSet::new();
        for prefix in refused {
            let mut around = prefix.supernet();
            while let Some(prefix) = around {
                if nowhere.contains(&prefix) {
                    break;
                }
                match self.insert(prefix, UNSET) {
                    Ok(()) => {
                        nowhere.insert(prefix);
                        break;
                    }
                    Err(error) if error.is::<Full>() => around = prefix.supernet(),
                    Err(error) => return Err(error),
                }
            }
        }
        Ok(nowhere)
    }
}

fn is_in(desired: &[(Ipv4Net, u32)], prefix: Ipv4Net) -> bool {
    desired
        .binary_search_by_key(&prefix, |(prefix, _)| *prefix)
        .is_ok()
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, net::Ipv4Addr};

    use fastrand::Rng;

    use super::*;
    use crate::dataplane::Table;

    /// A table in memory, in which as many prefixes of more than 24 bits have room, and all others.
    #[derive(Debug, Default)]
    struct Memory {
        entries: BTreeMap<Ipv4Net, u32>,
        room: usize,
    }

    impl Table<Ipv4Net, u32> for Memory {
        fn entries(&self) -> Result<Vec<(Ipv4Net, u32)>> {
            Ok(self
                .entries
                .iter()
                .map(|(prefix, id)| (*prefix, *id))
                .collect())
        }

        fn insert(&mut self, prefix: &Ipv4Net, id: &u32) -> Result<()> {
            let long = self
                .entries
                .keys()
                .filter(|prefix| prefix.prefix_len() > 24);
            let is_full = prefix.prefix_len() > 24 && long.count() >= self.room;
            if is_full && !self.entries.contains_key(prefix) {
                return Err(Full::new("ROUTES", "it is a test").into());
            }
            self.entries.insert(*prefix, *id);
            Ok(())
        }

        fn remove(&mut self, prefix: &Ipv4Net) -> Result<()> {
            self.entries.remove(prefix);
            Ok(())
        }
    }

    impl RouteTable for Memory {
        fn get(&self, prefix: &Ipv4Net) -> Option<u32> {
            self.entries.get(prefix).copied()
        }
    }

    fn routes(routes: &[(&str, u32)]) -> Vec<(Ipv4Net, u32)> {
        let mut routes: Vec<_> = routes
            .iter()
            .map(|(prefix, id)| (prefix.parse().unwrap(), *id))
            .collect();
        routes.sort_unstable();
        routes
    }

    fn longest(entries: &BTreeMap<Ipv4Net, u32>, address: Ipv4Addr) -> Option<u32> {
        let covering = entries
            .iter()
            .filter(|(prefix, _)| prefix.contains(&address));
        let longest = covering.max_by_key(|(prefix, _)| prefix.prefix_len());
        longest.map(|(_, id)| *id)
    }

    #[test]
    fn what_covers_a_route_without_room_is_left_to_the_stack_until_there_is_room() {
        let desired = routes(&[("10.0.0.0/16", 1), ("10.0.7.0/24", 2), ("10.0.7.9/32", 3)]);
        let mut routes = Routes::open(Memory::default()).unwrap();
        let written = routes.write(&desired).unwrap();
        assert_eq!(written.refused, 2, "the /32, and the /24 for its sake");
        assert!(written.why.contains("takes no more"), "{}", written.why);
        assert_eq!(routes.sweep(&desired).unwrap(), 0);
        let leads = |routes: &Routes<Memory>, address: [u8; 4]| {
            longest(&routes.table.entries, address.into())
        };
        assert_eq!(leads(&routes, [10, 0, 7, 9]), Some(UNSET));
        assert_eq!(leads(&routes, [10, 0, 7, 1]), Some(UNSET));
        assert_eq!(leads(&routes, [10, 0, 8, 1]), Some(1));

        let mut routes = Routes::open(routes.table).unwrap();
        routes.table.room = 1;
        assert_eq!(routes.write(&desired).unwrap().refused, 0);
        assert_eq!(routes.table.entries().unwrap(), desired);
    }

    #[test]
    fn no_address_ever_follows_another_route_than_its_own() {
        let mut random = Rng::with_seed(1);
        let mut routes = Routes::open(Memory::default()).unwrap();
        for _ in 0..300 {
            routes.table.room = random.usize(0..30);
            let mut desired = BTreeMap::new();
            for _ in 0..random.usize(0..40) {
                let length = random.u8(20..=32);
                let prefix =
                    Ipv4Net::new_assert([10, 0, random.u8(0..16), random.u8(..)].into(), length);
                desired.insert(prefix.trunc(), random.u32(0..4));
            }
            let list: Vec<_> = desired.iter().map(|(prefix, id)| (*prefix, *id)).collect();
            let refused = routes.write(&list).unwrap().refused;
            routes.sweep(&list).unwrap();
            for _ in 0..300 {
                let address = Ipv4Addr::new(10, 0, random.u8(0..16), random.u8(..));
                let found = longest(&routes.table.entries, address);
                let wanted = longest(&desired, address);
                let is_left = refused > 0 && found.is_none_or(|found| found == UNSET);
                assert!(
                    found == wanted || is_left,
                    "{address}: {found:?}, not {wanted:?}"
                );
            }
        }
    }

    #[test]
    fn only_the_difference_is_written() {
        let first = routes(&[("10.0.0.0/24", 1), ("10.0.1.0/24", 2)]);
        let second = routes(&[("10.0.0.0/24", 1), ("10.0.1.0/24", 3)]);
        let mut routes = Routes::open(Memory::default()).unwrap();
        assert_eq!(routes.write(&first).unwrap().written, 2);
        assert_eq!(routes.write(&second).unwrap().written, 1);
        assert_eq!(routes.sweep(&second[..1]).unwrap(), 1);
        assert_eq!(routes.table.entries().unwrap(), second[..1]);
    }
}

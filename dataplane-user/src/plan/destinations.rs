//! The mirrored FIB's destinations, each with a number for as long as a route leads there.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use dataplane_common::abi::{MAX_NEXT_HOPS, WAYS};
use tracing::warn;

use super::NextHopKey;
use crate::fib::Destination;

/// The most destinations: as many as there are next hops, but for a multipath's ways, one that is
/// never written, and the stack's.
const MOST: usize = MAX_NEXT_HOPS as usize - WAYS - 2;

/// Destinations in use.
#[derive(Debug, Default)]
pub struct Destinations {
    by_key: BTreeMap<NextHopKey, Slot>,
    keys: HashMap<Destination, NextHopKey>,
    next: u32,
    /// Whether some may be used by no route any more.
    any_unused: bool,
    /// Whether it has been said that there is no room.
    is_short: bool,
}

#[derive(Debug)]
struct Slot {
    destination: Destination,
    /// How many routes lead there.
    routes: usize,
}

impl Destinations {
    /// The key of `destination`, which gets one if it has none, as do the ways it has. Where the
    /// programs have room for no more next hops, it is the stack's.
    pub fn key(&mut self, destination: Destination) -> NextHopKey {
        if let Some(key) = self.keys.get(&destination) {
            return *key;
        }
        if self.by_key.len() >= MOST && destination != Destination::Stack {
            if !self.is_short {
                warn!(
                    "the routes have more than {MOST} next hops: what has another is left to the stack"
                );
            }
            self.is_short = true;
            return self.key(Destination::Stack);
        }
        if let Destination::Multipath(vias) = &destination {
            for (via, _) in vias {
                self.key(Destination::Via(*via));
            }
        }
        let key = NextHopKey::Mirrored(self.next);
        self.next = self.next.wrapping_add(1);
        self.keys.insert(destination.clone(), key);
        let slot = Slot {
            destination,
            routes: 0,
        };
        self.by_key.insert(key, slot);
        key
    }

    /// The key of `destination`, if it has one.
    #[must_use]
    pub fn find(&self, destination: &Destination) -> Option<NextHopKey> {
        self.keys.get(destination).copied()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Another route leads there.
    pub fn take(&mut self, key: NextHopKey) {
        if let Some(slot) = self.by_key.get_mut(&key) {
            slot.routes += 1;
        }
    }

    /// A route does so no longer.
    pub fn release(&mut self, key: NextHopKey) {
        if let Some(slot) = self.by_key.get_mut(&key) {
            slot.routes = slot.routes.saturating_sub(1);
            self.any_unused |= slot.routes == 0;
        }
    }

    /// All routes are about to be counted anew.
    pub fn recount(&mut self) {
        for slot in self.by_key.values_mut() {
            slot.routes = 0;
        }
        self.any_unused = true;
    }

    /// Forgets those that no route leads to, by itself or as one of several ways; returns whether
    /// there were any.
    pub fn sweep(&mut self) -> bool {
        if !std::mem::take(&mut self.any_unused) {
            return false;
        }
        let before = self.by_key.len();
        let used = self.by_key.values().filter(|slot| slot.routes != 0);
        let ways: BTreeSet<NextHopKey> = used
            .filter_map(|slot| match &slot.destination {
                Destination::Multipath(vias) => Some(vias),
                _ => None,
            })
            .flatten()
            .filter_map(|(via, _)| self.find(&Destination::Via(*via)))
            .collect();
        let keys = &mut self.keys;
        self.by_key.retain(|key, slot| {
            let is_used = slot.routes != 0 || ways.contains(key);
            if !is_used {
                keys.remove(&slot.destination);
            }
            is_used
        });
        self.by_key.len() != before
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = (NextHopKey, &Destination)> {
        let slots = self.by_key.iter();
        slots.map(|(key, slot)| (*key, &slot.destination))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fib::Via;

    fn via(oif: u32) -> Via {
        Via {
            oif,
            gateway: None,
            mtu: None,
        }
    }

    #[test]
    fn a_key_lasts_as_long_as_a_route_leads_there() {
        let mut destinations = Destinations::default();
        let key = destinations.key(Destination::Via(via(1)));
        assert_eq!(destinations.key(Destination::Via(via(1))), key);
        destinations.take(key);
        destinations.take(key);
        destinations.release(key);
        destinations.sweep();
        assert_eq!(destinations.find(&Destination::Via(via(1))), Some(key));
        destinations.release(key);
        destinations.sweep();
        assert_eq!(destinations.find(&Destination::Via(via(1))), None);
        assert_ne!(
            destinations.key(Destination::Via(via(2))),
            key,
            "not given again"
        );
    }

    #[test]
    fn what_finds_no_room_is_the_stacks() {
        let mut destinations = Destinations::default();
        for oif in 0..MAX_NEXT_HOPS {
            destinations.key(Destination::Via(via(oif)));
        }
        let many = (0..WAYS).map(|oif| (via(1 << 20 | u32::try_from(oif).unwrap()), 1));
        let stack = destinations.find(&Destination::Stack).unwrap();
        assert_eq!(
            destinations.key(Destination::Multipath(many.collect())),
            stack
        );
        assert!(destinations.len() < usize::try_from(MAX_NEXT_HOPS).unwrap());
    }

    #[test]
    fn the_ways_of_a_multipath_last_with_it() {
        let mut destinations = Destinations::default();
        let both = Destination::Multipath(vec![(via(1), 1), (via(2), 1)]);
        let key = destinations.key(both);
        destinations.take(key);
        destinations.sweep();
        assert_eq!(destinations.len(), 3);
        destinations.release(key);
        destinations.sweep();
        assert!(destinations.is_empty());
    }
}

//! Next hops by number, changed in one step.
//!
//! A program reads an entry without a lock, so an entry is never written while it is live: number
//! `n` owns the entries `2n` and `2n + 1`, the spare one is written, and then the number turns to
//! it, which is one aligned store. A program that still reads the old entry is long done when the
//! next change of the same next hop writes there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use dataplane_common::abi::{MAX_NEXT_HOPS, NextHop};

use crate::{dataplane::BpfArray, plan::NextHopKey};

/// What is needed of an array map; a vector is the tests'.
pub trait Slots<V> {
    /// The value at `index`.
    fn get(&self, index: u32) -> Result<V>;
    /// Writes the value at `index`.
    fn set(&mut self, index: u32, value: V) -> Result<()>;
}

impl<V: aya::Pod> Slots<V> for BpfArray<V> {
    fn get(&self, index: u32) -> Result<V> {
        Self::get(self, index)
    }

    fn set(&mut self, index: u32, value: V) -> Result<()> {
        Self::set(self, index, value)
    }
}

/// The next hops' two arrays, and which number is whose.
#[derive(Debug)]
pub struct NextHops<L, E> {
    live: L,
    entries: E,
    /// What each number in use holds.
    known: BTreeMap<u32, NextHop>,
    numbers: BTreeMap<NextHopKey, u32>,
}

impl<L: Slots<u32>, E: Slots<NextHop>> NextHops<L, E> {
    /// Reads what an earlier agent wrote.
    pub fn open(live: L, entries: E) -> Result<Self> {
        let mut known = BTreeMap::new();
        for id in 0..MAX_NEXT_HOPS {
            let entry = entries.get(id * 2 + (live.get(id)? & 1))?;
            if entry.kind().is_some() {
                known.insert(id, entry);
            }
        }
        Ok(Self {
            live,
            entries,
            known,
            numbers: BTreeMap::new(),
        })
    }

    /// The number of the next hop that `key` stands for.
    pub fn id(&self, key: &NextHopKey) -> Result<u32> {
        self.numbers
            .get(key)
            .copied()
            .with_context(|| format!("the next hop {key:?} has no number yet"))
    }

    /// Adds and changes what differs from `desired`; returns how many.
    pub fn write(&mut self, desired: &BTreeMap<NextHopKey, NextHop>) -> Result<usize> {
        self.number(desired)?;
        let mut written = 0;
        for (key, next_hop) in desired {
            let id = self.id(key)?;
            if self.known.get(&id) != Some(next_hop) {
                self.turn(id, *next_hop)?;
                self.known.insert(id, *next_hop);
                written += 1;
            }
        }
        Ok(written)
    }

    /// Empties the numbers that nothing in `desired` has; returns how many.
    pub fn sweep(&mut self, desired: &BTreeMap<NextHopKey, NextHop>) -> Result<usize> {
        self.numbers.retain(|key, _| desired.contains_key(key));
        let wanted: BTreeSet<u32> = self.numbers.values().copied().collect();
        let unwanted: Vec<u32> = self
            .known
            .keys()
            .filter(|id| !wanted.contains(id))
            .copied()
            .collect();
        for id in &unwanted {
            self.turn(*id, NextHop::default())?;
            self.known.remove(id);
        }
        Ok(unwanted.len())
    }

    /// Gives every next hop a number: the one it has; else one that an earlier agent gave to an
    /// equal next hop, so that no route has to be rewritten after a restart; else a free one.
    fn number(&mut self, desired: &BTreeMap<NextHopKey, NextHop>) -> Result<()> {
        let mut taken: BTreeSet<u32> = self.numbers.values().copied().collect();
        for (key, next_hop) in desired {
            if self.numbers.contains_key(key) {
                continue;
            }
            let equal = self
                .known
                .iter()
                .find(|(id, entry)| *entry == next_hop && !taken.contains(id))
                .map(|(id, _)| *id);
            let id = equal
                .or_else(|| {
                    (0..MAX_NEXT_HOPS)
                        .find(|id| !taken.contains(id) && !self.known.contains_key(id))
                })
                .with_context(|| {
                    format!(
                        "more than {MAX_NEXT_HOPS} next hops, the most there can be: a cluster of fewer nodes or pools is needed"
                    )
                })?;
            taken.insert(id);
            self.numbers.insert(*key, id);
        }
        Ok(())
    }

    fn turn(&mut self, id: u32, next_hop: NextHop) -> Result<()> {
        let spare = (self.live.get(id)? & 1) ^ 1;
        self.entries.set(id * 2 + spare, next_hop)?;
        self.live.set(id, spare)
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use dataplane_common::abi::NextHopKind;

    use super::*;

    impl<V: Copy> Slots<V> for Vec<V> {
        fn get(&self, index: u32) -> Result<V> {
            Ok(self[usize::try_from(index)?])
        }

        fn set(&mut self, index: u32, value: V) -> Result<()> {
            self[usize::try_from(index)?] = value;
            Ok(())
        }
    }

    type InMemory = NextHops<Vec<u32>, Vec<NextHop>>;

    fn empty() -> InMemory {
        let count = usize::try_from(MAX_NEXT_HOPS).unwrap();
        NextHops::open(vec![0; count], vec![NextHop::default(); count * 2]).unwrap()
    }

    fn live(next_hops: &InMemory, id: u32) -> NextHop {
        let index = id * 2 + next_hops.live[id as usize];
        next_hops.entries[index as usize]
    }

    fn peer(n: u8) -> NextHopKey {
        NextHopKey::Peer {
            address: Ipv4Addr::new(192, 168, 1, n),
            pool: "10.244.0.0/16".parse().unwrap(),
        }
    }

    fn hop(kind: NextHopKind, n: u8) -> NextHop {
        NextHop {
            kind: kind as u8,
            peer: [192, 168, 1, n],
            ..NextHop::default()
        }
    }

    #[test]
    fn a_live_entry_is_never_written() {
        let mut next_hops = empty();
        let first = BTreeMap::from([(peer(2), hop(NextHopKind::Ipip, 2))]);
        next_hops.write(&first).unwrap();
        let id = next_hops.id(&peer(2)).unwrap();
        let before = next_hops.live[id as usize];

        let second = BTreeMap::from([(peer(2), hop(NextHopKind::Vxlan, 2))]);
        assert_eq!(next_hops.write(&second).unwrap(), 1);
        assert_eq!(next_hops.id(&peer(2)).unwrap(), id, "the number stays");
        assert_ne!(next_hops.live[id as usize], before, "it turned");
        assert_eq!(live(&next_hops, id), hop(NextHopKind::Vxlan, 2));
        let old = next_hops.entries[(id * 2 + before) as usize];
        assert_eq!(old, hop(NextHopKind::Ipip, 2), "the old entry is as it was");
    }

    #[test]
    fn a_restarted_agent_keeps_numbers_and_sweeps_what_is_gone() {
        let mut next_hops = empty();
        let desired = BTreeMap::from([
            (peer(2), hop(NextHopKind::Ipip, 2)),
            (peer(3), hop(NextHopKind::Ipip, 3)),
            (peer(4), hop(NextHopKind::Ipip, 4)),
        ]);
        next_hops.write(&desired).unwrap();
        let number = next_hops.id(&peer(4)).unwrap();

        let mut next_hops = NextHops::open(next_hops.live, next_hops.entries).unwrap();
        let desired = BTreeMap::from([
            (peer(2), hop(NextHopKind::Ipip, 2)),
            (peer(4), hop(NextHopKind::Ipip, 4)),
        ]);
        assert_eq!(next_hops.write(&desired).unwrap(), 0, "nothing differs");
        assert_eq!(next_hops.id(&peer(4)).unwrap(), number);
        assert_eq!(next_hops.sweep(&desired).unwrap(), 1);
        assert_eq!(next_hops.known.len(), 2);
    }
}

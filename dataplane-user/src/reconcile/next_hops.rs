//! Next hops by number, changed in one step.
//!
//! A program reads an entry without a lock, so an entry is never written while it is live: number
//! `n` owns the entries `2n` and `2n + 1`, the spare one is written, and then the number turns to
//! it, which is one aligned store. A program that still reads the old entry is long done when the
//! next change of the same next hop writes there.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use dataplane_common::abi::{MAX_NEXT_HOPS, Multipath, NextHop, NextHopKind, UNSET, WAYS};

use crate::{
    dataplane::BpfArray,
    plan::{NextHopKey, Tables},
};

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

/// The next hops' three arrays, and which number is whose.
#[derive(Debug)]
pub struct NextHops<L, E, M> {
    live: L,
    entries: E,
    multipaths: M,
    /// What each number in use holds.
    known: BTreeMap<u32, Held>,
    numbers: BTreeMap<NextHopKey, u32>,
    /// The same, the other way round.
    keys: BTreeMap<u32, NextHopKey>,
}

/// What a number holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Held {
    /// One way.
    One(NextHop),
    /// Many, which are other numbers.
    Many(Multipath),
}

impl<L: Slots<u32>, E: Slots<NextHop>, M: Slots<Multipath>> NextHops<L, E, M> {
    /// Reads what an earlier agent wrote. The numbers in `referenced` are in use, whatever they hold:
    /// a route that leads to nothing yet must not lead to another's next hop.
    pub fn open(
        live: L,
        entries: E,
        multipaths: M,
        referenced: impl Iterator<Item = u32>,
    ) -> Result<Self> {
        let nothing = Held::One(NextHop::default());
        let mut known: BTreeMap<u32, Held> = referenced.map(|id| (id, nothing)).collect();
        for id in 0..MAX_NEXT_HOPS {
            let entry = id * 2 + (live.get(id)? & 1);
            let next_hop = entries.get(entry)?;
            match next_hop.kind() {
                None => {}
                Some(NextHopKind::Multipath) => {
                    known.insert(id, Held::Many(multipaths.get(entry)?));
                }
                Some(_) => {
                    known.insert(id, Held::One(next_hop.anywhere()));
                }
            }
        }
        Ok(Self {
            live,
            entries,
            multipaths,
            known,
            numbers: BTreeMap::new(),
            keys: BTreeMap::new(),
        })
    }

    /// What number `id` stands for, unless only an earlier agent knew.
    pub fn key(&self, id: u32) -> Option<NextHopKey> {
        self.keys.get(&id).copied()
    }

    /// How many numbers are in use.
    pub(super) fn len(&self) -> usize {
        self.known.len()
    }

    /// The number of the next hop that `key` stands for.
    pub fn id(&self, key: &NextHopKey) -> Result<u32> {
        self.numbers
            .get(key)
            .copied()
            .with_context(|| format!("the next hop {key:?} has no number yet"))
    }

    /// Adds and changes what differs from `desired`, what others name before those; returns how many.
    pub fn write(&mut self, desired: &Tables) -> Result<usize> {
        let one = |(key, next_hop): (&NextHopKey, &NextHop)| (*key, Held::One(*next_hop));
        let mut written = self.write_all(desired.next_hops.iter().map(one).collect())?;
        let many = desired.multipaths.iter();
        let many = many.map(|(key, ways)| Ok((*key, Held::Many(self.resolve(ways)?))));
        written += self.write_all(many.collect::<Result<_>>()?)?;
        Ok(written)
    }

    /// Empties the numbers that nothing in `desired` has, those that name others before these; returns
    /// how many.
    pub fn sweep(&mut self, desired: &Tables) -> Result<usize> {
        self.numbers.retain(|key, _| {
            desired.next_hops.contains_key(key) || desired.multipaths.contains_key(key)
        });
        let wanted: BTreeSet<u32> = self.numbers.values().copied().collect();
        self.keys.retain(|id, _| wanted.contains(id));
        let unwanted = self.known.iter().filter(|(id, _)| !wanted.contains(id));
        let (many, one): (Vec<_>, Vec<_>) = unwanted
            .map(|(id, held)| (*id, *held))
            .partition(|(_, held)| matches!(held, Held::Many(_)));
        for (id, _) in many.iter().chain(&one) {
            self.turn(*id, Held::One(NextHop::default()))?;
            self.known.remove(id);
        }
        Ok(many.len() + one.len())
    }

    fn write_all(&mut self, desired: Vec<(NextHopKey, Held)>) -> Result<usize> {
        self.number(&desired)?;
        let mut written = 0;
        for (key, held) in desired {
            let id = self.id(&key)?;
            if self.known.get(&id) != Some(&held) {
                self.turn(id, held)?;
                self.known.insert(id, held);
                written += 1;
            }
        }
        Ok(written)
    }

    /// Gives every next hop a number: the one it has; else one that an earlier agent gave to an
    /// equal next hop, so that no route has to be rewritten after a restart; else a free one.
    fn number(&mut self, desired: &[(NextHopKey, Held)]) -> Result<()> {
        let new = desired
            .iter()
            .filter(|(key, _)| !self.numbers.contains_key(key));
        let new: Vec<_> = new.collect();
        if new.is_empty() {
            return Ok(());
        }
        let taken: BTreeSet<u32> = self.numbers.values().copied().collect();
        let mut equal = BTreeMap::<Held, Vec<u32>>::new();
        for (id, held) in self.known.iter().rev() {
            if !taken.contains(id) {
                equal.entry(*held).or_default().push(*id);
            }
        }
        let in_use = |id: &u32| taken.contains(id) || self.known.contains_key(id);
        let mut free = (0..UNSET).filter(|id| !in_use(id));
        for (key, held) in new {
            let id = equal.get_mut(held).and_then(Vec::pop);
            let id = id.or_else(|| free.next()).with_context(|| {
                format!(
                    "more than {UNSET} next hops, the most there can be: a cluster of \
                     fewer nodes or pools is needed"
                )
            })?;
            self.numbers.insert(*key, id);
            self.keys.insert(id, *key);
        }
        Ok(())
    }

    fn resolve(&self, ways: &[NextHopKey; WAYS]) -> Result<Multipath> {
        let mut multipath = Multipath::default();
        for (place, key) in multipath.ways.iter_mut().zip(ways) {
            *place = self.id(key)?.try_into()?;
        }
        Ok(multipath)
    }

    fn turn(&mut self, id: u32, held: Held) -> Result<()> {
        let spare = (self.live.get(id)? & 1) ^ 1;
        let entry = id * 2 + spare;
        let next_hop = match held {
            Held::One(next_hop) => next_hop,
            Held::Many(multipath) => {
                self.multipaths.set(entry, multipath)?;
                NextHop {
                    kind: NextHopKind::Multipath as u8,
                    ..NextHop::default()
                }
            }
        };
        let next_hop = match next_hop.kind() {
            Some(_) => NextHop {
                entry: entry.try_into()?,
                ..next_hop
            },
            None => next_hop,
        };
        self.entries.set(entry, next_hop)?;
        self.live.set(id, spare)
    }
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, iter, net::Ipv4Addr, rc::Rc};

    use super::*;
    use crate::plan::spread;

    impl<V: Copy> Slots<V> for Vec<V> {
        fn get(&self, index: u32) -> Result<V> {
            Ok(self[usize::try_from(index)?])
        }

        fn set(&mut self, index: u32, value: V) -> Result<()> {
            self[usize::try_from(index)?] = value;
            Ok(())
        }
    }

    type InMemory = NextHops<Vec<u32>, Vec<NextHop>, Vec<Multipath>>;

    fn empty() -> InMemory {
        let count = usize::try_from(MAX_NEXT_HOPS).unwrap();
        NextHops::open(
            vec![0; count],
            vec![NextHop::default(); count * 2],
            vec![Multipath::default(); count * 2],
            iter::empty(),
        )
        .unwrap()
    }

    /// What another agent finds.
    fn restarted(next_hops: InMemory) -> InMemory {
        restarted_with_routes(next_hops, [])
    }

    fn restarted_with_routes<const N: usize>(next_hops: InMemory, routes: [u32; N]) -> InMemory {
        let NextHops {
            live,
            entries,
            multipaths,
            ..
        } = next_hops;
        NextHops::open(live, entries, multipaths, routes.into_iter()).unwrap()
    }

    fn live(next_hops: &InMemory, id: u32) -> NextHop {
        let index = id * 2 + next_hops.live[id as usize];
        let next_hop = next_hops.entries[index as usize];
        if next_hop != NextHop::default() {
            assert_eq!(u32::from(next_hop.entry), index, "it says which one it is");
        }
        match next_hop.kind() {
            Some(NextHopKind::Multipath) => next_hop,
            _ => next_hop.anywhere(),
        }
    }

    /// What a program finds at each place.
    fn ways(next_hops: &InMemory, key: &NextHopKey) -> [NextHop; WAYS] {
        let multipath = live(next_hops, next_hops.id(key).unwrap());
        assert_eq!(multipath.kind(), Some(NextHopKind::Multipath));
        let Multipath { ways } = next_hops.multipaths[usize::from(multipath.entry)];
        ways.map(|id| live(next_hops, id.into()))
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

    /// Next hops to these peers, by IPIP.
    fn to_peers(peers: &[u8]) -> Tables {
        let hops = peers.iter().map(|n| (peer(*n), hop(NextHopKind::Ipip, *n)));
        Tables {
            next_hops: hops.collect(),
            ..Tables::default()
        }
    }

    const BOTH: NextHopKey = NextHopKey::Mirrored(0);

    /// Besides, one by the first or the second of two peers.
    fn by_both(first: u8, second: u8) -> Tables {
        let spread = spread(&[(peer(first), 1), (peer(second), 1)]).unwrap();
        Tables {
            multipaths: BTreeMap::from([(BOTH, spread)]),
            ..to_peers(&[first, second])
        }
    }

    fn halves(first: u8, second: u8) -> [NextHop; WAYS] {
        std::array::from_fn(|place| {
            hop(
                NextHopKind::Ipip,
                if place < WAYS / 2 { first } else { second },
            )
        })
    }

    #[test]
    fn a_live_entry_is_never_written() {
        let mut next_hops = empty();
        next_hops.write(&to_peers(&[2])).unwrap();
        let id = next_hops.id(&peer(2)).unwrap();
        let before = next_hops.live[id as usize];

        let second = Tables {
            next_hops: BTreeMap::from([(peer(2), hop(NextHopKind::Vxlan, 2))]),
            ..Tables::default()
        };
        assert_eq!(next_hops.write(&second).unwrap(), 1);
        assert_eq!(next_hops.id(&peer(2)).unwrap(), id, "the number stays");
        assert_ne!(next_hops.live[id as usize], before, "it turned");
        assert_eq!(live(&next_hops, id), hop(NextHopKind::Vxlan, 2));
        let old = next_hops.entries[(id * 2 + before) as usize];
        let was = hop(NextHopKind::Ipip, 2);
        assert_eq!(old.anywhere(), was, "the old entry is as it was");
    }

    #[test]
    fn the_ways_of_a_next_hop_turn_with_it() {
        let mut next_hops = empty();
        assert_eq!(next_hops.write(&by_both(2, 3)).unwrap(), 3);
        assert_eq!(ways(&next_hops, &BOTH), halves(2, 3));
        let id = next_hops.id(&BOTH).unwrap();
        let before = live(&next_hops, id);
        let old_ways = next_hops.multipaths[usize::from(before.entry)];

        assert_eq!(next_hops.write(&by_both(4, 3)).unwrap(), 2);
        assert_eq!(next_hops.id(&BOTH).unwrap(), id, "the number stays");
        assert_ne!(live(&next_hops, id).entry, before.entry, "it turned");
        assert_eq!(ways(&next_hops, &BOTH), halves(4, 3));
        let old = next_hops.multipaths[usize::from(before.entry)];
        assert_eq!(old, old_ways, "the old ways are as they were");
    }

    /// Slots that write down what is written where, in common with others.
    #[derive(Debug)]
    struct Logged<V> {
        values: Vec<V>,
        name: &'static str,
        log: Rc<RefCell<Vec<(&'static str, u32)>>>,
    }

    impl<V: Copy> Slots<V> for Logged<V> {
        fn get(&self, index: u32) -> Result<V> {
            self.values.get(index)
        }

        fn set(&mut self, index: u32, value: V) -> Result<()> {
            self.log.borrow_mut().push((self.name, index));
            self.values.set(index, value)
        }
    }

    #[test]
    fn what_is_named_is_there_before_and_after_what_names_it() {
        let log = Rc::<RefCell<Vec<_>>>::default();
        let count = usize::try_from(MAX_NEXT_HOPS).unwrap();
        let mut next_hops = NextHops::open(
            Logged {
                values: vec![0; count],
                name: "live",
                log: log.clone(),
            },
            vec![NextHop::default(); count * 2],
            Logged {
                values: vec![Multipath::default(); count * 2],
                name: "ways",
                log: log.clone(),
            },
            iter::empty(),
        )
        .unwrap();
        next_hops.write(&by_both(2, 3)).unwrap();
        let [one, other, both] = [peer(2), peer(3), BOTH].map(|key| next_hops.id(&key).unwrap());
        assert_eq!(
            log.take(),
            [
                ("live", one),
                ("live", other),
                ("ways", both * 2 + 1),
                ("live", both)
            ]
        );
        assert_eq!(next_hops.sweep(&to_peers(&[3])).unwrap(), 2);
        assert_eq!(log.take(), [("live", both), ("live", one)]);
    }

    #[test]
    fn a_number_that_a_route_still_has_is_given_to_no_other() {
        let mut next_hops = empty();
        next_hops.write(&to_peers(&[2])).unwrap();
        let nowhere = next_hops.id(&peer(2)).unwrap();
        next_hops
            .turn(nowhere, Held::One(NextHop::default()))
            .unwrap();

        let mut next_hops = restarted_with_routes(next_hops, [nowhere]);
        next_hops.write(&to_peers(&[3])).unwrap();
        assert_ne!(next_hops.id(&peer(3)).unwrap(), nowhere);
        assert_eq!(
            next_hops.key(next_hops.id(&peer(3)).unwrap()),
            Some(peer(3))
        );
        assert_eq!(next_hops.key(nowhere), None);
    }

    #[test]
    fn a_restarted_agent_keeps_numbers_and_sweeps_what_is_gone() {
        let mut next_hops = empty();
        next_hops.write(&to_peers(&[2, 3, 4])).unwrap();
        let number = next_hops.id(&peer(4)).unwrap();

        let mut next_hops = restarted(next_hops);
        let desired = to_peers(&[2, 4]);
        assert_eq!(next_hops.write(&desired).unwrap(), 0, "nothing differs");
        assert_eq!(next_hops.id(&peer(4)).unwrap(), number);
        assert_eq!(next_hops.sweep(&desired).unwrap(), 1);
        assert_eq!(next_hops.known.len(), 2);
    }

    #[test]
    fn a_restarted_agent_knows_next_hops_with_many_ways_again() {
        let mut next_hops = empty();
        next_hops.write(&by_both(2, 3)).unwrap();
        let number = next_hops.id(&BOTH).unwrap();

        let mut next_hops = restarted(next_hops);
        assert_eq!(next_hops.write(&by_both(2, 3)).unwrap(), 0);
        assert_eq!(next_hops.id(&BOTH).unwrap(), number);

        let mut next_hops = restarted(next_hops);
        next_hops.write(&to_peers(&[2])).unwrap();
        assert_eq!(next_hops.sweep(&to_peers(&[2])).unwrap(), 2);
        assert_eq!(live(&next_hops, number), NextHop::default());
    }

    #[test]
    fn there_are_as_many_numbers_as_the_maps_have_room_for() {
        let peers = |count: u32| {
            let key = |n: u32| NextHopKey::Peer {
                address: Ipv4Addr::from_bits(n),
                pool: "10.244.0.0/16".parse().unwrap(),
            };
            Tables {
                next_hops: (0..count)
                    .map(|n| {
                        let next_hop = NextHop {
                            peer: n.to_be_bytes(),
                            ..hop(NextHopKind::Ipip, 0)
                        };
                        (key(n), next_hop)
                    })
                    .collect(),
                ..Tables::default()
            }
        };
        let mut next_hops = empty();
        let all = peers(UNSET);
        assert_eq!(
            next_hops.write(&all).unwrap(),
            usize::try_from(UNSET).unwrap()
        );
        assert_eq!(restarted(next_hops).write(&all).unwrap(), 0);
        let refused = empty().write(&peers(UNSET + 1)).unwrap_err();
        assert!(refused.to_string().starts_with("more than 16383 next hops"));
    }
}

//! The next hops, as they are in the maps.

use std::collections::BTreeMap;

use anyhow::Result;
use dataplane_common::abi::{MAX_NEXT_HOPS, Multipath, NextHop, NextHopKind, WAYS, maps};

use super::{BpfArray, Pins, settled};

/// The next hops that are live.
pub struct LiveNextHops {
    live: BpfArray<u32>,
    entries: BpfArray<NextHop>,
    multipaths: BpfArray<Multipath>,
}

impl LiveNextHops {
    /// Opens the maps pinned below `pins` to read them.
    pub fn open(pins: &Pins) -> Result<Self> {
        Ok(Self {
            live: BpfArray::open_array(pins, maps::NEXT_HOP_LIVE)?,
            entries: BpfArray::open_array(pins, maps::NEXT_HOPS)?,
            multipaths: BpfArray::open_array(pins, maps::MULTIPATHS)?,
        })
    }

    /// The one with number `id`.
    pub fn get(&self, id: u32) -> Result<NextHop> {
        self.entries.get(id * 2 + (self.live.get(id)? & 1))
    }

    /// The one with number `id`, and, where it has many ways, the next hop at each place.
    pub fn with_ways(&self, id: u32) -> Result<(NextHop, Option<[NextHop; WAYS]>)> {
        settled(
            || self.get(id),
            |next_hop| match next_hop.kind() {
                Some(NextHopKind::Multipath) => self.ways(next_hop.entry).map(Some),
                _ => Ok(None),
            },
        )
    }

    fn ways(&self, entry: u16) -> Result<[NextHop; WAYS]> {
        let mut places = [NextHop::default(); WAYS];
        let Multipath { ways } = self.multipaths.get(entry.into())?;
        for (place, id) in places.iter_mut().zip(ways) {
            *place = self.get(id.into())?;
        }
        Ok(places)
    }
}

/// The next hops that are live, by their numbers.
pub fn live_next_hops(pins: &Pins) -> Result<BTreeMap<u64, NextHop>> {
    let next_hops = LiveNextHops::open(pins)?;
    let mut found = BTreeMap::new();
    for id in 0..MAX_NEXT_HOPS {
        let next_hop = next_hops.get(id)?;
        if next_hop.kind().is_some() {
            found.insert(u64::from(id), next_hop);
        }
    }
    Ok(found)
}

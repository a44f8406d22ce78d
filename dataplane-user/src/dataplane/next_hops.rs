//! The next hops, as they are in the maps.

use std::collections::BTreeMap;

use anyhow::Result;
use dataplane_common::abi::{MAX_NEXT_HOPS, NextHop, maps};

use super::{BpfArray, Pins};

/// The next hops that are live, by their numbers.
pub fn live_next_hops(pins: &Pins) -> Result<BTreeMap<u64, NextHop>> {
    let live = BpfArray::<u32>::open_array(pins, maps::NEXT_HOP_LIVE)?;
    let next_hops = BpfArray::<NextHop>::open_array(pins, maps::NEXT_HOPS)?;
    let mut found = BTreeMap::new();
    for id in 0..MAX_NEXT_HOPS {
        let next_hop = next_hops.get(id * 2 + (live.get(id)? & 1))?;
        if next_hop.kind().is_some() {
            found.insert(u64::from(id), next_hop);
        }
    }
    Ok(found)
}

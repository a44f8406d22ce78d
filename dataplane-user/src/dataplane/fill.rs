//! How full the maps are.

use anyhow::Result;
use dataplane_common::abi::{
    Addr, MAX_ENDPOINTS, MAX_FLOWS, MAX_NEXT_HOPS, MAX_PEERS, MAX_WORKLOADS, NextHop, Peer,
    Workload, maps,
};

use super::{AddressMap, BpfArray, BpfHash, Flows, Pins, RouteMap, Table};

/// How full a map is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fill {
    /// Its name.
    pub map: &'static str,
    /// How many entries it holds; of the routes, how many lines.
    pub entries: u32,
    /// How many it can hold.
    pub max_entries: u32,
}

/// How full the maps are that are pinned below `pins`; none where no agent has run.
pub fn fills(pins: &Pins) -> Result<Vec<Fill>> {
    if !pins.map(maps::ROUTES).exists() {
        return Ok(Vec::new());
    }
    let (entries, max_entries) = RouteMap::read_routes(pins)?.fill();
    let routes = Fill {
        map: maps::ROUTES,
        entries,
        max_entries,
    };
    let flows = Fill {
        map: maps::FLOWS,
        entries: Flows::open(pins)?.count()?,
        max_entries: MAX_FLOWS,
    };
    let addresses = AddressMap::read_addresses(pins)?;
    let endpoints = Fill {
        map: maps::ENDPOINTS,
        entries: u32::try_from(addresses.entries()?.len())?,
        max_entries: MAX_ENDPOINTS,
    };
    Ok(vec![
        routes,
        next_hops(pins)?,
        endpoints,
        hash::<u32, Workload>(pins, maps::WORKLOADS, MAX_WORKLOADS)?,
        hash::<Addr, Peer>(pins, maps::PEERS, MAX_PEERS)?,
        flows,
    ])
}

fn next_hops(pins: &Pins) -> Result<Fill> {
    let live = BpfArray::<u32>::open_array(pins, maps::NEXT_HOP_LIVE)?;
    let next_hops = BpfArray::<NextHop>::open_array(pins, maps::NEXT_HOPS)?;
    let mut entries = 0;
    for id in 0..MAX_NEXT_HOPS {
        let next_hop = next_hops.get(id * 2 + (live.get(id)? & 1))?;
        entries += u32::from(next_hop.kind().is_some());
    }
    Ok(Fill {
        map: maps::NEXT_HOPS,
        entries,
        max_entries: MAX_NEXT_HOPS,
    })
}

fn hash<K: aya::Pod, V: aya::Pod>(
    pins: &Pins,
    map: &'static str,
    max_entries: u32,
) -> Result<Fill> {
    let entries = BpfHash::<K, V>::open_hash(pins, map)?.entries()?.len();
    Ok(Fill {
        map,
        entries: u32::try_from(entries)?,
        max_entries,
    })
}

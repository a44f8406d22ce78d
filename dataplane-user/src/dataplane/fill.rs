//! How full the maps are.

use anyhow::Result;
use dataplane_common::abi::{
    Addr, MAX_ENDPOINTS, MAX_FLOWS, MAX_NEXT_HOPS, MAX_PEERS, MAX_WORKLOADS, Peer, Workload, maps,
};

use super::{AddressMap, BpfHash, Flows, Pins, RouteMap, Table, live_next_hops};

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
    let next_hops = Fill {
        map: maps::NEXT_HOPS,
        entries: u32::try_from(live_next_hops(pins)?.len())?,
        max_entries: MAX_NEXT_HOPS,
    };
    let addresses = AddressMap::read_addresses(pins)?;
    let endpoints = Fill {
        map: maps::ENDPOINTS,
        entries: u32::try_from(addresses.entries()?.len())?,
        max_entries: MAX_ENDPOINTS,
    };
    Ok(vec![
        routes,
        next_hops,
        endpoints,
        hash::<u32, Workload>(pins, maps::WORKLOADS, MAX_WORKLOADS)?,
        hash::<Addr, Peer>(pins, maps::PEERS, MAX_PEERS)?,
        flows,
    ])
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

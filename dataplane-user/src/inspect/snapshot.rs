//! The maps, copied into memory.

use std::collections::BTreeMap;

use anyhow::Result;
use aya::maps::{Map, MapData, PerCpuArray};
use dataplane_common::{
    abi::{self, Addr, Counter, Hook, NextHop, NextHopKind, maps},
    memory::MemoryTables,
    reason::Reason,
};
use ipnet::Ipv4Net;

use super::rows;
use crate::dataplane::{
    self, BpfArray, BpfHash, BpfMap, DeviceMap, LiveNextHops, Pins, RouteMap, RouteTable as _,
    Table as _, settled,
};

/// A copy of the maps that decisions look into.
#[derive(Debug)]
pub struct Snapshot {
    /// The tables as `decide` takes them.
    pub tables: MemoryTables,
    /// Every route by prefix.
    pub routes: BTreeMap<Ipv4Net, NextHop>,
}

impl Snapshot {
    /// Copies the maps pinned below `pins`.
    pub fn read(pins: &Pins) -> Result<Self> {
        let next_hops = LiveNextHops::open(pins)?;
        let route_map = RouteMap::read_routes(pins)?;
        let mut routes = BTreeMap::new();
        let mut multipaths = BTreeMap::new();
        for (prefix, _) in route_map.entries()? {
            let number = || Ok(route_map.get(&prefix));
            let lead = |id| match next_hops.get(id)? {
                // Many routes lead to the same ways, which take long to read.
                hop if hop.kind() == Some(NextHopKind::Multipath)
                    && !multipaths.contains_key(&hop.entry) =>
                {
                    next_hops.with_ways(id)
                }
                hop => Ok((hop, None)),
            };
            let (_, lead) = settled(number, |number| number.map(lead).transpose())?;
            if let Some((next_hop, ways)) = lead {
                routes.insert(prefix, next_hop);
                multipaths.extend(ways.map(|ways| (next_hop.entry, ways)));
            }
        }
        let config = BpfArray::<abi::Config>::open_array(pins, maps::CONFIG)?.get(0)?;
        let endpoints = dataplane::endpoints(pins)?;
        let present = DeviceMap::open_devices(pins)?.indexes()?;
        let interfaces = endpoints.values().map(|endpoint| endpoint.ifindex);
        let tables = MemoryTables {
            gone: interfaces
                .filter(|index| !present.contains(index))
                .collect(),
            config: (config.node != Addr::default()).then_some(config),
            routes: routes
                .iter()
                .map(|(prefix, hop)| ((prefix.prefix_len(), prefix.network().octets()), *hop))
                .collect(),
            multipaths,
            endpoints,
            workloads: hash(pins, maps::WORKLOADS)?,
            peers: hash(pins, maps::PEERS)?,
            ..MemoryTables::default()
        };
        Ok(Self { tables, routes })
    }

    /// The next hop of every route, or each of its ways where it has many.
    #[must_use]
    pub fn next_hops(&self) -> Vec<NextHop> {
        let mut all = Vec::new();
        for next_hop in self.routes.values() {
            if next_hop.kind() == Some(NextHopKind::Multipath) {
                let ways = rows::ways(next_hop, &self.tables);
                all.extend(ways.iter().map(|(way, _)| *way));
            } else {
                all.push(*next_hop);
            }
        }
        all
    }
}

fn hash<K: aya::Pod + Ord, V: aya::Pod>(pins: &Pins, name: &'static str) -> Result<BTreeMap<K, V>> {
    let map = BpfHash::<K, V>::open_hash(pins, name)?;
    Ok(map.entries()?.into_iter().collect())
}

/// What every hook has counted, over all CPUs.
pub fn counters(pins: &Pins) -> Result<BTreeMap<(Hook, Reason), Counter>> {
    let map =
        BpfMap::<PerCpuArray<MapData, Counter>>::open(pins, maps::COUNTERS, Map::PerCpuArray)?;
    let mut counters = BTreeMap::new();
    for hook in Hook::ALL {
        for reason in Reason::ALL {
            let per_cpu = map.inner().get(&abi::counter_index(hook, *reason), 0)?;
            let mut sum = Counter::default();
            for counter in per_cpu.iter() {
                sum.packets += counter.packets;
                sum.bytes += counter.bytes;
            }
            counters.insert((hook, *reason), sum);
        }
    }
    Ok(counters)
}

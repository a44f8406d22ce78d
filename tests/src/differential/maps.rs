//! The maps of a node, written and read by us.

use std::collections::BTreeMap;

use anyhow::Result;
use aya::maps::{Map, MapData, PerCpuArray};
use dataplane_common::{
    abi::{Addr, Config, Counter, Endpoint, Hook, NextHop, Peer, Workload, counter_index, maps},
    memory::MemoryTables,
    reason::Reason,
};
use dataplane_user::dataplane::{BpfArray, BpfHash, BpfMap, Pins, RouteMap, Table};
use ipnet::Ipv4Net;

use crate::Node;

/// What a counter rose by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counted {
    pub(super) hook: Hook,
    pub(super) reason: Reason,
    pub(super) counter: Counter,
}

pub(super) struct Maps {
    routes: RouteMap,
    live: BpfArray<u32>,
    next_hops: BpfArray<NextHop>,
    endpoints: BpfHash<Addr, Endpoint>,
    workloads: BpfHash<u32, Workload>,
    peers: BpfHash<Addr, Peer>,
    config: BpfArray<Config>,
    counters: BpfMap<PerCpuArray<MapData, Counter>>,
    /// What the counters were when they were last looked at.
    seen: BTreeMap<(Hook, Reason), Counter>,
}

impl Maps {
    /// The maps of `node`, for which the programs have been loaded.
    pub(super) fn open(node: &Node) -> Result<Self> {
        let pins = Pins::new(node.pins());
        Ok(Self {
            routes: RouteMap::open_routes(&pins)?,
            live: BpfArray::open_array(&pins, maps::NEXT_HOP_LIVE)?,
            next_hops: BpfArray::open_array(&pins, maps::NEXT_HOPS)?,
            endpoints: BpfHash::open_hash(&pins, maps::ENDPOINTS)?,
            workloads: BpfHash::open_hash(&pins, maps::WORKLOADS)?,
            peers: BpfHash::open_hash(&pins, maps::PEERS)?,
            config: BpfArray::open_array(&pins, maps::CONFIG)?,
            counters: BpfMap::open(&pins, maps::COUNTERS, Map::PerCpuArray)?,
            seen: BTreeMap::new(),
        })
    }

    /// Makes of maps that hold `old` ones that hold `new`.
    pub(super) fn replace(&mut self, old: &MemoryTables, new: &MemoryTables) -> Result<()> {
        self.config.set(0, new.config.unwrap_or_default())?;
        replace(&mut self.endpoints, &old.endpoints, &new.endpoints)?;
        replace(&mut self.workloads, &old.workloads, &new.workloads)?;
        replace(&mut self.peers, &old.peers, &new.peers)?;
        for prefix in old.routes.keys() {
            self.routes.remove(&net(*prefix)?)?;
        }
        for (id, (prefix, next_hop)) in (0..).zip(&new.routes) {
            let live = id % 2;
            self.next_hops.set(id * 2 + live, *next_hop)?;
            self.next_hops.set(id * 2 + 1 - live, SPARE)?;
            self.live.set(id, live)?;
            self.routes.insert(&net(*prefix)?, &id)?;
        }
        Ok(())
    }

    /// What was counted, which is likely `hook`'s for `reason`: then nothing else is looked at.
    pub(super) fn counted_as(&mut self, hook: Hook, reason: Reason) -> Result<Vec<Counted>> {
        let likely = self.rise(hook, reason)?;
        if likely.counter.packets == 0 {
            return self.counted();
        }
        Ok(vec![likely])
    }

    /// Everything that was counted.
    pub(super) fn counted(&mut self) -> Result<Vec<Counted>> {
        let mut counted = Vec::new();
        for hook in Hook::ALL {
            for reason in Reason::ALL {
                let rise = self.rise(hook, *reason)?;
                if rise.counter != Counter::default() {
                    counted.push(rise);
                }
            }
        }
        Ok(counted)
    }

    fn rise(&mut self, hook: Hook, reason: Reason) -> Result<Counted> {
        let mut counter = Counter::default();
        let per_cpu = self.counters.inner().get(&counter_index(hook, reason), 0)?;
        for of_cpu in per_cpu.iter() {
            counter.packets += of_cpu.packets;
            counter.bytes += of_cpu.bytes;
        }
        let seen = self
            .seen
            .insert((hook, reason), counter)
            .unwrap_or_default();
        Ok(Counted {
            hook,
            reason,
            counter: Counter {
                packets: counter.packets - seen.packets,
                bytes: counter.bytes - seen.bytes,
            },
        })
    }
}

/// What stands in the entry of a next hop that is not live: nothing that goes unnoticed.
const SPARE: NextHop = NextHop {
    kind: 5,
    reserved: 0,
    mtu: u16::MAX,
    ifindex: 1,
    peer: [0xff; 4],
    gateway: [0xff; 4],
    source: [0xff; 4],
    vtep_mac: [0xff; 6],
    entry: 0,
};

fn replace<K: Ord, V: PartialEq>(
    map: &mut impl Table<K, V>,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
) -> Result<()> {
    for key in old.keys() {
        map.remove(key)?;
    }
    for (key, value) in new {
        map.insert(key, value)?;
    }
    Ok(())
}

fn net((length, network): (u8, Addr)) -> Result<Ipv4Net> {
    Ok(Ipv4Net::new(network.into(), length)?)
}

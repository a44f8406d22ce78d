//! The maps of a node, written and read by us.

use std::{collections::BTreeMap, ops::Range};

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapData, PerCpuArray};
use dataplane_common::{
    abi::{
        Addr, Config, Counter, Direction, Endpoint, FLOW_WORDS, Flow, FlowKey, Generation, Hook,
        MAX_NEXT_HOPS, Multipath, NextHop, NextHopKind, Peer, WAYS, Word, Workload, counter_index,
        maps,
    },
    memory::MemoryTables,
    reason::Reason,
};
use dataplane_user::dataplane::{
    AddressMap, BpfArray, BpfHash, BpfMap, DeviceMap, Pins, RouteMap, Table,
};
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
    multipaths: BpfArray<Multipath>,
    endpoint_numbers: AddressMap,
    endpoints: BpfArray<Endpoint>,
    workloads: BpfHash<u32, Workload>,
    devices: DeviceMap,
    peers: BpfHash<Addr, Peer>,
    config: BpfArray<Config>,
    flows: BpfHash<FlowKey, [u64; FLOW_WORDS]>,
    generations: BpfArray<u32>,
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
            multipaths: BpfArray::open_array(&pins, maps::MULTIPATHS)?,
            endpoint_numbers: AddressMap::open_addresses(&pins)?,
            endpoints: BpfArray::open_array(&pins, maps::ENDPOINT_ENTRIES)?,
            workloads: BpfHash::open_hash(&pins, maps::WORKLOADS)?,
            devices: DeviceMap::open_devices(&pins)?,
            peers: BpfHash::open_hash(&pins, maps::PEERS)?,
            config: BpfArray::open_array(&pins, maps::CONFIG)?,
            flows: BpfHash::open(&pins, maps::FLOWS, Map::LruHashMap)?,
            generations: BpfArray::open_array(&pins, maps::GENERATIONS)?,
            counters: BpfMap::open(&pins, maps::COUNTERS, Map::PerCpuArray)?,
            seen: BTreeMap::new(),
        })
    }

    /// Makes of maps that hold `old` ones that hold `new`.
    pub(super) fn replace(&mut self, old: &MemoryTables, new: &MemoryTables) -> Result<()> {
        self.config.set(0, new.config.unwrap_or_default())?;
        self.replace_endpoints(&old.endpoints, &new.endpoints)?;
        replace(&mut self.workloads, &old.workloads, &new.workloads)?;
        for endpoint in old.endpoints.values() {
            self.devices.remove(endpoint.ifindex)?;
        }
        for endpoint in new.endpoints.values() {
            if !new.gone.contains(&endpoint.ifindex) {
                self.devices.add(endpoint.ifindex, LOOPBACK)?;
            }
        }
        replace(&mut self.peers, &old.peers, &new.peers)?;
        for prefix in old.routes.keys() {
            self.routes.remove(&net(*prefix)?)?;
        }
        // The numbers that they have in the tables.
        let mut ids = 1..MAX_NEXT_HOPS - 1;
        for (prefix, next_hop) in &new.routes {
            let id = self.add(&mut ids, *next_hop)?;
            self.routes.insert(&net(*prefix)?, &id)?;
        }
        let mut multipaths = Vec::new();
        for (entry, ways) in &new.multipaths {
            let mut multipath = Multipath::default();
            for (place, way) in multipath.ways.iter_mut().zip(ways) {
                *place = self.add(&mut ids, *way)?.try_into()?;
            }
            multipaths.push((*entry, multipath));
        }
        // Last: with each that has none it was said that it has none.
        for (entry, multipath) in multipaths {
            self.multipaths.set(entry.into(), multipath)?;
        }
        self.replace_flows(new)
    }

    /// The numbers are those that they have in the tables.
    fn replace_endpoints(
        &mut self,
        old: &BTreeMap<Addr, Endpoint>,
        new: &BTreeMap<Addr, Endpoint>,
    ) -> Result<()> {
        for (address, endpoint) in old {
            self.endpoint_numbers.remove(address)?;
            self.endpoints
                .set(endpoint.number.into(), Endpoint::default())?;
        }
        for (address, endpoint) in new {
            self.endpoints.set(endpoint.number.into(), *endpoint)?;
            self.endpoint_numbers
                .insert(address, &endpoint.number.into())?;
        }
        Ok(())
    }

    /// Has the programs remember what the tables do, and nothing of what they have learned.
    fn replace_flows(&mut self, new: &MemoryTables) -> Result<()> {
        for (key, _) in self.flows.entries()? {
            self.flows.remove(&key)?;
        }
        for (key, flow) in new.flows().iter() {
            self.flows.insert(key, &words(flow))?;
        }
        // Their sum is the generation.
        let one = new.generation / 2;
        let generations = [
            (Generation::Agent, u32::from(one)),
            (Generation::Flush, u32::from(new.generation - one)),
        ];
        for (of, count) in generations {
            self.generations.set(of as u32, count)?;
        }
        Ok(())
    }

    /// Gives a next hop the next number.
    fn add(&mut self, ids: &mut Range<u32>, next_hop: NextHop) -> Result<u32> {
        let id = ids.next().context("too many next hops")?;
        let live = id % 2;
        self.next_hops.set(id * 2 + live, next_hop)?;
        self.next_hops.set(id * 2 + 1 - live, SPARE)?;
        self.live.set(id, live)?;
        if next_hop.kind() == Some(NextHopKind::Multipath) {
            self.multipaths.set(next_hop.entry.into(), NO_WAYS)?;
        }
        Ok(id)
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

/// A flow as it is in the map.
fn words(flow: &Flow) -> [u64; FLOW_WORDS] {
    let word = |word: &Word| {
        let (generation, value) = word.parts();
        u64::from(generation) << 48 | value
    };
    let mut words = [0; FLOW_WORDS];
    for (place, direction) in words.chunks_mut(FLOW_WORDS / 2).zip(&flow.directions) {
        let Direction {
            entered,
            verified,
            from,
            to,
            packets,
            since,
        } = direction;
        let number = packets.get();
        place.copy_from_slice(&[
            word(entered),
            word(verified),
            word(from),
            word(to),
            number,
            word(since),
        ]);
    }
    words
}

/// An interface that is there for sure: programs ask only whether one is.
const LOOPBACK: u32 = 1;

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

/// What a multipath has for which the tables have nothing: a number that no next hop has.
#[allow(clippy::cast_possible_truncation)] // 16,383
const NO_WAYS: Multipath = Multipath {
    ways: [(MAX_NEXT_HOPS - 1) as u16; WAYS],
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

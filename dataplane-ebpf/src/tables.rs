//! The BPF maps as [`Tables`].

use core::ops::Deref;

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_NOEXIST},
    btf_maps::{self, ArrayOfMaps},
    macros::{btf_map, map},
    maps::{Array, DevMapHash, HashMap, LruHashMap},
};
use dataplane_common::{
    abi::{
        Addr, Config, Endpoint, Flow, FlowKey, GENERATIONS as COUNT_OF_GENERATIONS, Generation,
        MAX_ENDPOINT_ENTRIES, MAX_FLOWS, MAX_NEXT_HOP_ENTRIES, MAX_NEXT_HOPS, MAX_PEERS,
        MAX_WORKLOADS, Multipath, NextHop, Peer, TICK_SHIFT, Workload,
    },
    addresses,
    flows::{self, FlowTable, Standing},
    tables::Tables,
    trie::{self, CHUNK, CHUNKS, Line, Lines},
    tuple::Tuple,
};

use crate::{clock, helpers};

/// Lines that the agent writes by mapping them into its memory.
type Chunk = btf_maps::Array<Line, { CHUNK as usize }, { BPF_F_MMAPABLE as usize }>;

#[btf_map]
static ROUTES: ArrayOfMaps<Chunk, { CHUNKS as usize }> = ArrayOfMaps::new();
#[map]
static NEXT_HOP_LIVE: Array<u32> = Array::with_max_entries(MAX_NEXT_HOPS, 0);
#[map]
static NEXT_HOPS: Array<NextHop> = Array::with_max_entries(MAX_NEXT_HOP_ENTRIES, 0);
#[map]
static MULTIPATHS: Array<Multipath> = Array::with_max_entries(MAX_NEXT_HOP_ENTRIES, 0);
#[map]
static ENDPOINTS: Array<addresses::Line> =
    Array::with_max_entries(addresses::LINES, BPF_F_MMAPABLE);
#[map]
static ENDPOINT_ENTRIES: Array<Endpoint> = Array::with_max_entries(MAX_ENDPOINT_ENTRIES, 0);
#[map]
static WORKLOADS: HashMap<u32, Workload> = HashMap::with_max_entries(MAX_WORKLOADS, 0);
#[map]
static DEVICES: DevMapHash = DevMapHash::with_max_entries(MAX_WORKLOADS, 0);
#[map]
static PEERS: HashMap<Addr, Peer> = HashMap::with_max_entries(MAX_PEERS, 0);
#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);
#[map]
static FLOWS: LruHashMap<FlowKey, Flow> = LruHashMap::with_max_entries(MAX_FLOWS, 0);
#[map]
static GENERATIONS: Array<u32> = Array::with_max_entries(COUNT_OF_GENERATIONS, 0);
#[map]
static NEW_FLOW: Array<Flow> = Array::with_max_entries(1, 0);

/// The maps of this object.
pub struct Maps;

/// The maps of this object.
pub static MAPS: Maps = Maps;

impl Tables for Maps {
    #[inline(always)]
    fn config(&self) -> Option<&Config> {
        let config = CONFIG.get(0)?;
        (config.node != [0; 4]).then_some(config)
    }

    #[inline(always)]
    fn route(&self, destination: Addr) -> Option<&NextHop> {
        match longest(u32::from_be_bytes(destination)) {
            0 => None,
            route => next_hop(route - 1),
        }
    }

    #[inline(always)]
    fn next_hop(&self, number: u16) -> Option<&NextHop> {
        next_hop(number.into())
    }

    #[inline(always)]
    fn way(&self, multipath: &NextHop, place: usize) -> Option<&NextHop> {
        let multipath = MULTIPATHS.get(multipath.entry.into())?;
        next_hop((*multipath.ways.get(place)?).into())
    }

    #[inline(always)]
    fn endpoint(&self, address: Addr) -> Option<&Endpoint> {
        let line = ENDPOINTS.get(addresses::line(address))?;
        ENDPOINT_ENTRIES.get(addresses::find(line, address)?)
    }

    #[inline(always)]
    fn workload(&self, ifindex: u32) -> Option<&Workload> {
        // SAFETY: the entry may be replaced while it is read; the agent replaces whole entries,
        // and the kernel frees the old one after the programs that saw it.
        unsafe { WORKLOADS.get(ifindex) }
    }

    #[inline(always)]
    fn numbered_endpoint(&self, number: u16) -> Option<&Endpoint> {
        let endpoint = ENDPOINT_ENTRIES.get(number.into())?;
        (endpoint.ifindex != 0).then_some(endpoint)
    }

    #[inline(always)]
    fn is_present(&self, ifindex: u32) -> bool {
        DEVICES.get_ifindex(ifindex).is_some()
    }

    #[inline(always)]
    fn peer(&self, address: Addr) -> Option<&Peer> {
        // SAFETY: as in `workload`.
        unsafe { PEERS.get(address) }
    }

    #[inline(always)]
    fn standing(&self, tuple: Tuple, from: u64, reverify: u32) -> Standing {
        Standing::from_bits(standing(tuple.addresses, tuple.rest, from, reverify))
    }

    #[inline(always)]
    fn remember(&self, tuple: Tuple, generation: u16, from_and_way: u64, to: u16) {
        let Tuple { addresses, rest } = tuple;
        let number_and_generation = u32::from(to) << 16 | u32::from(generation);
        remember(addresses, rest, from_and_way, number_and_generation);
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // it was one of 16 bits
    fn enter(&self, tuple: Tuple, begins: bool) -> u16 {
        enter(tuple.addresses, tuple.rest, begins.into()) as u16
    }

    #[inline(always)]
    fn leave(&self, tuple: Tuple, mark: u16) -> bool {
        leave(tuple.addresses, tuple.rest, mark.into()) != 0
    }

    #[inline(always)]
    fn forget(&self, tuple: Tuple) {
        forget(tuple.addresses, tuple.rest);
    }
}

impl FlowTable for Maps {
    #[inline(always)]
    fn flow(&self, key: FlowKey) -> Option<impl Deref<Target = Flow> + use<'_>> {
        // SAFETY: a flow is made of words that are read and written at once. Its entry may become
        // another's while a program looks at it: what is then written is, at the worst, that the other
        // was verified just now.
        unsafe { FLOWS.get(key) }
    }

    #[inline(always)]
    fn flow_or_new(&self, key: FlowKey) -> Option<impl Deref<Target = Flow> + use<'_>> {
        // SAFETY: as in `flow`.
        if let Some(flow) = unsafe { FLOWS.get(key) } {
            return Some(flow);
        }
        let new = NEW_FLOW.get(0)?;
        // Another CPU may have been first.
        let _ = FLOWS.insert(key, new, u64::from(BPF_NOEXIST));
        // SAFETY: as in `flow`.
        unsafe { FLOWS.get(key) }
    }

    #[inline(always)]
    #[allow(clippy::cast_possible_truncation)] // modulo 2^16
    fn generation(&self) -> u16 {
        let count = |of: Generation| GENERATIONS.get(of as u32).copied().unwrap_or(0);
        count(Generation::Agent).wrapping_add(count(Generation::Flush)) as u16
    }

    #[inline(always)]
    fn chance(&self) -> u32 {
        helpers::random()
    }

    #[inline(always)]
    fn now(&self) -> u64 {
        clock::monotonic_time() >> TICK_SHIFT
    }
}

/// See [`flows::standing`]. Called, not inlined, as [`longest`]; and so are those below.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn standing(addresses: u64, rest: u64, from: u64, reverify: u32) -> u64 {
    flows::standing(&MAPS, Tuple { addresses, rest }, from, reverify).to_bits()
}

/// See [`flows::remember`].
#[inline(never)]
#[unsafe(no_mangle)]
#[allow(clippy::cast_possible_truncation)] // two numbers of 16 bits
extern "C" fn remember(
    addresses: u64,
    rest: u64,
    from_and_way: u64,
    number_and_generation: u32,
) -> u32 {
    let generation = number_and_generation as u16;
    let to = (number_and_generation >> 16) as u16;
    let tuple = Tuple { addresses, rest };
    flows::remember(&MAPS, tuple, generation, from_and_way, to);
    0
}

/// See [`Tables::forget`]. Mostly there is nothing to forget, and to look takes no lock.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn forget(addresses: u64, rest: u64) -> u32 {
    let key = Tuple { addresses, rest }.key();
    let is_known = MAPS.flow(key).is_some();
    if is_known {
        // Another CPU may have been first.
        let _ = FLOWS.remove(key);
    }
    is_known.into()
}

/// See [`flows::enter`].
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn enter(addresses: u64, rest: u64, begins: u32) -> u32 {
    flows::enter(&MAPS, Tuple { addresses, rest }, begins != 0).into()
}

/// See [`flows::leave`].
#[inline(never)]
#[unsafe(no_mangle)]
#[allow(clippy::cast_possible_truncation)] // it has 16 bits
extern "C" fn leave(addresses: u64, rest: u64, mark: u32) -> u32 {
    flows::leave(&MAPS, Tuple { addresses, rest }, mark as u16).into()
}

/// What the longest prefix that covers `destination` leads to, or 0. Called, not inlined: the verifier
/// looks at it by itself, once, instead of with every path that leads to it.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn longest(destination: u32) -> u32 {
    trie::longest(&Routes, destination.to_be_bytes())
}

/// The routes, which lead to the number of a next hop and one more.
struct Routes;

impl Lines for Routes {
    #[inline(always)]
    fn line(&self, number: u32) -> Option<&Line> {
        ROUTES.get_value(number / CHUNK, &(number % CHUNK))
    }
}

/// The live entry of next hop `id`.
#[inline(always)]
fn next_hop(id: u32) -> Option<&'static NextHop> {
    let live = *NEXT_HOP_LIVE.get(id)?;
    next_hop_entry(id * 2 + (live & 1))
}

/// The next hop in this [entry](NextHop::entry).
#[inline(always)]
pub fn next_hop_entry(entry: u32) -> Option<&'static NextHop> {
    NEXT_HOPS.get(entry)
}

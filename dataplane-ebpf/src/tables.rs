//! The BPF maps as [`Tables`].

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{self, ArrayOfMaps},
    macros::{btf_map, map},
    maps::{Array, DevMapHash, HashMap},
};
use dataplane_common::{
    abi::{
        Addr, Config, Endpoint, MAX_ENDPOINTS, MAX_NEXT_HOP_ENTRIES, MAX_NEXT_HOPS, MAX_PEERS,
        MAX_WORKLOADS, Multipath, NextHop, Peer, Workload,
    },
    tables::Tables,
    trie::{self, CHUNK, CHUNKS, Line, Lines},
};

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
static ENDPOINTS: HashMap<Addr, Endpoint> = HashMap::with_max_entries(MAX_ENDPOINTS, 0);
#[map]
static WORKLOADS: HashMap<u32, Workload> = HashMap::with_max_entries(MAX_WORKLOADS, 0);
#[map]
static DEVICES: DevMapHash = DevMapHash::with_max_entries(MAX_WORKLOADS, 0);
#[map]
static PEERS: HashMap<Addr, Peer> = HashMap::with_max_entries(MAX_PEERS, 0);
#[map]
static CONFIG: Array<Config> = Array::with_max_entries(1, 0);

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
    fn way(&self, multipath: &NextHop, place: usize) -> Option<&NextHop> {
        let multipath = MULTIPATHS.get(multipath.entry.into())?;
        next_hop((*multipath.ways.get(place)?).into())
    }

    #[inline(always)]
    fn endpoint(&self, address: Addr) -> Option<&Endpoint> {
        // SAFETY: the entry may be replaced while it is read; the agent replaces whole entries,
        // and the kernel frees the old one after the programs that saw it.
        unsafe { ENDPOINTS.get(address) }
    }

    #[inline(always)]
    fn workload(&self, ifindex: u32) -> Option<&Workload> {
        // SAFETY: as in `endpoint`.
        unsafe { WORKLOADS.get(ifindex) }
    }

    #[inline(always)]
    fn is_present(&self, ifindex: u32) -> bool {
        DEVICES.get_ifindex(ifindex).is_some()
    }

    #[inline(always)]
    fn peer(&self, address: Addr) -> Option<&Peer> {
        // SAFETY: as in `endpoint`.
        unsafe { PEERS.get(address) }
    }
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
    NEXT_HOPS.get(id * 2 + (live & 1))
}

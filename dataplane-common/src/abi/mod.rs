//! The map ABI: names, keys, values and their version, defined once.
//!
//! Every value derives zerocopy's `IntoBytes`, which does not compile for a type with padding: no
//! uninitialised byte is ever handed to the kernel, and equal values are equal bytes.
//!
//! Integers are in the host's byte order; [`Addr`], [`Mac`] and what else is a byte array is as on
//! the wire.

use crate::{
    packet::Tunnel,
    reason::{Action, Reason},
};

mod flows;
mod monitor;
#[cfg(feature = "aya")]
mod pod;
mod values;
mod word;

pub use flows::{
    ARRIVAL_DIRECT, ARRIVAL_IPIP, ARRIVAL_TAKEN_OUT, ARRIVAL_VXLAN, ARRIVAL_WORKLOAD, Asker,
    Direction, FLOW_WORDS, Flow, FlowKey, GENERATIONS, Generation, TICK_SHIFT, WAY_IN, WAY_OUT,
};
pub use monitor::{
    ANY_PROTOCOL, EVENT_HEAD, EVENTS_SIZE, Event, Filter, MAX_SNAP, Monitor, Network, Observed,
    TO_POD,
};
pub use values::{
    Config, Counter, Endpoint, Multipath, NextHop, NextHopKind, Peer, WAYS, Workload, flags,
};
pub use word::{Number, Word};

/// Version of everything in this module; part of the pin path, since pinned maps are reused
/// without any check of their layout.
pub const VERSION: u32 = if OTHER_LAYOUT { 1000 + LAYOUT } else { LAYOUT };

/// To be raised with every change of this module.
const LAYOUT: u32 = 9;

/// Whether this is the build that tests upgrade to and downgrade from: an [`Endpoint`] has its fields
/// in another order, and the map of counters another size.
const OTHER_LAYOUT: bool = cfg!(feature = "other-layout");

/// An IPv4 address in network byte order.
pub type Addr = [u8; 4];

/// An Ethernet address.
pub type Mac = [u8; 6];

/// Names of the maps: in the object file, as pins, and in error messages.
pub mod maps {
    /// Longest-prefix table, in arrays of [`crate::trie::Line`]: destination -> id of a next hop,
    /// plus one.
    pub const ROUTES: &str = "ROUTES";
    /// Array by next-hop id: which of the two entries of [`NEXT_HOPS`] is live (`u32`, 0 or 1).
    pub const NEXT_HOP_LIVE: &str = "NEXT_HOP_LIVE";
    /// Array of [`super::NextHop`]: id `n` owns entries `2n` and `2n + 1`.
    pub const NEXT_HOPS: &str = "NEXT_HOPS";
    /// Array of [`super::Multipath`], its entries beside those of [`NEXT_HOPS`]: the ways of a next
    /// hop that has many turn with it.
    pub const MULTIPATHS: &str = "MULTIPATHS";
    /// Array of [`crate::addresses::Line`]: address of a local pod -> its number.
    pub const ENDPOINTS: &str = "ENDPOINTS";
    /// Array by number: [`super::Endpoint`].
    pub const ENDPOINT_ENTRIES: &str = "ENDPOINT_ENTRIES";
    /// Hash: interface index of a workload -> [`super::Workload`].
    pub const WORKLOADS: &str = "WORKLOADS";
    /// Hash of devices: interface index of a workload -> the same. The kernel itself takes out what
    /// is deleted, so that an index stands for the interface that the agent meant, or for none.
    pub const DEVICES: &str = "DEVICES";
    /// Hash: outer address of another node -> [`super::Peer`].
    pub const PEERS: &str = "PEERS";
    /// Array of one [`super::Config`].
    pub const CONFIG: &str = "CONFIG";
    /// LRU hash: [`super::FlowKey`] -> [`super::Flow`].
    pub const FLOWS: &str = "FLOWS";
    /// Array of `u32`, indexed by [`super::Generation`].
    pub const GENERATIONS: &str = "GENERATIONS";
    /// Array of one [`super::Flow`], all zero: what a new one begins as.
    pub const NEW_FLOW: &str = "NEW_FLOW";
    /// Per-CPU array of [`super::Counter`], indexed by [`super::counter_index`].
    pub const COUNTERS: &str = "COUNTERS";
    /// One [`super::Monitor`], a variable of the programs: to look whether anybody listens takes one
    /// load.
    pub const MONITOR: &str = "MONITOR";
    /// Per-CPU array of one [`super::Observed`].
    pub const OBSERVED: &str = "OBSERVED";
    /// Ring buffer of [`super::Event`]s, each up to the end of what is told of its frame.
    pub const EVENTS: &str = "EVENTS";

    /// What map `name` is called in the object: that of the programs' variables as their section.
    #[must_use]
    pub fn in_object(name: &str) -> &str {
        if name == MONITOR { ".bss" } else { name }
    }

    /// Every map.
    pub const ALL: [&str; 17] = [
        ROUTES,
        NEXT_HOP_LIVE,
        NEXT_HOPS,
        MULTIPATHS,
        ENDPOINTS,
        ENDPOINT_ENTRIES,
        WORKLOADS,
        DEVICES,
        PEERS,
        CONFIG,
        FLOWS,
        GENERATIONS,
        NEW_FLOW,
        COUNTERS,
        MONITOR,
        OBSERVED,
        EVENTS,
    ];
}

/// Constants of the programs that the loader sets, by their symbols in the object.
pub mod globals {
    /// Whether the kernel knows `BPF_F_ADJ_ROOM_ENCAP_L2_ETH`, as 5.13 and later do (`u8`, 0 or 1).
    pub const KNOWS_INNER_ETHERNET: &str = "KNOWS_INNER_ETHERNET";
    /// Whether the kernel can be told that a packet has left its tunnel, by
    /// `BPF_F_ADJ_ROOM_DECAP_L4_UDP` and `_IPXIP4`, as 7.x can (`u8`, 0 or 1).
    pub const FORGETS_TUNNELS: &str = "FORGETS_TUNNELS";
    /// Nanoseconds of a jiffy (`u32`).
    pub const JIFFY: &str = "JIFFY";
    /// The jiffies when `CLOCK_MONOTONIC` was zero (`u64`).
    pub const FIRST_JIFFY: &str = "FIRST_JIFFY";
}

/// Programs that are attached nowhere: the loader runs them to find out what the kernel can do.
pub mod probes {
    /// Makes room for VXLAN, and returns 0 where the kernel could.
    pub const VXLAN_ROOM: &str = "probe_vxlan_room";
    /// Puts a packet into each kind of tunnel after it came out of one, and returns 0 where the
    /// kernel could.
    pub const NEXT_TUNNEL: &str = "probe_next_tunnel";
    /// Returns the lower 32 bits of the jiffies.
    pub const JIFFIES: &str = "probe_jiffies";
}

/// Most next hops; one a peer and pool.
pub const MAX_NEXT_HOPS: u32 = 1 << 14;
/// The next hop that never is one, since nobody writes it: what leads to it is the stack's.
pub const UNSET: u32 = MAX_NEXT_HOPS - 1;
/// Entries of the maps that have two for each next hop; their indices fit into 16 bits.
pub const MAX_NEXT_HOP_ENTRIES: u32 = MAX_NEXT_HOPS * 2;
/// Most local pod addresses.
pub const MAX_ENDPOINTS: u32 = 1 << 12;
/// Numbers of local pods: one that changes gets another, and none is soon given again.
pub const MAX_ENDPOINT_ENTRIES: u32 = MAX_ENDPOINTS * 2;
/// Most workload interfaces.
pub const MAX_WORKLOADS: u32 = 1 << 12;
/// Most peers.
pub const MAX_PEERS: u32 = 1 << 14;
/// Most flows; of more, those not seen for longest are forgotten.
pub const MAX_FLOWS: u32 = 1 << 17;
/// Most gateway addresses that proxy ARP answers for.
pub const MAX_GATEWAYS: usize = 4;

/// A place where a program sits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u32)]
pub enum Hook {
    /// TC ingress of the host side of a pod's veth: what a pod sends.
    FromWorkload = 0,
    /// TC ingress of an uplink: what the wire brings.
    FromUplink = 1,
    /// TC egress of the carrier: what the host's stack sends to remote pods.
    FromStack = 2,
    /// TC ingress of the carrier: what the kernel's own VXLAN receiver decapsulated, and what the
    /// programs let arrive there.
    FromCarrier = 3,
    /// XDP on an uplink: what the wire brings, before it is a socket buffer.
    XdpUplink = 4,
    /// TC egress of the host side of a pod's veth: what the stack lets through to a pod.
    ToWorkload = 5,
    /// TC egress of an uplink: what the stack lets through to the wire.
    ToUplink = 6,
}

impl Hook {
    /// Every hook, in the order of its number.
    pub const ALL: [Self; 7] = [
        Self::FromWorkload,
        Self::FromUplink,
        Self::FromStack,
        Self::FromCarrier,
        Self::XdpUplink,
        Self::ToWorkload,
        Self::ToUplink,
    ];

    /// Those that decide what becomes of a packet. The others look at what leaves, and learn.
    pub const DECIDING: [Self; 5] = [
        Self::FromWorkload,
        Self::FromUplink,
        Self::FromStack,
        Self::FromCarrier,
        Self::XdpUplink,
    ];

    /// The hooks of traffic control.
    pub const TC: [Self; 6] = [
        Self::FromWorkload,
        Self::FromUplink,
        Self::FromStack,
        Self::FromCarrier,
        Self::ToWorkload,
        Self::ToUplink,
    ];

    /// What happens to a packet for `reason` here: to what leaves by the carrier, the stack has
    /// already done its part, and what is not sent on is dropped by the device.
    #[must_use]
    pub const fn action(self, reason: Reason) -> Action {
        match (self, reason) {
            (Self::FromStack, Reason::KernelEncap) => Action::Stack,
            (Self::FromStack, _) if matches!(reason.action(), Action::Stack) => Action::Drop,
            _ => reason.action(),
        }
    }

    /// Name of the hook, and of its program.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromWorkload => "from_workload",
            Self::FromUplink => "from_uplink",
            Self::FromStack => "from_stack",
            Self::FromCarrier => "from_carrier",
            Self::XdpUplink => "xdp_uplink",
            Self::ToWorkload => "to_workload",
            Self::ToUplink => "to_uplink",
        }
    }
}

/// What `xdp_uplink` leaves in front of a packet that it took out of `tunnel` (XDP metadata, which
/// stays with the packet and is on no wire), and `from_uplink` finds there. It is the same in every
/// version, since for a moment of an upgrade the two are of different ones.
#[inline(always)]
#[must_use]
pub const fn taken_out_mark(tunnel: Tunnel) -> TakenOutMark {
    let kind = match tunnel {
        Tunnel::Ipip => NextHopKind::Ipip,
        Tunnel::Vxlan => NextHopKind::Vxlan,
    };
    [b'u', b'n', b'd', b'e', b'r', b'p', b'a', kind as u8]
}

/// See [`taken_out_mark`].
pub type TakenOutMark = [u8; 8];

/// Counters a hook has room for.
pub const COUNTERS_PER_HOOK: u32 = if OTHER_LAYOUT { 256 } else { 128 };
/// Entries of the counter map.
pub const MAX_COUNTERS: u32 = COUNTERS_PER_HOOK * 7;

/// Where `reason` is counted at `hook`.
#[inline(always)]
#[must_use]
pub const fn counter_index(hook: Hook, reason: Reason) -> u32 {
    hook as u32 * COUNTERS_PER_HOOK + reason as u32
}

const _: () = assert!(MAX_NEXT_HOP_ENTRIES - 1 <= u16::MAX as u32);
const _: () = assert!(MAX_ENDPOINT_ENTRIES - 1 <= u16::MAX as u32);
const _: () = assert!(Reason::ALL.len() <= COUNTERS_PER_HOOK as usize);
const _: () = assert!(Hook::ALL.len() * COUNTERS_PER_HOOK as usize == MAX_COUNTERS as usize);

//! A packet and tables in memory: what host tests and `underpass explain` decide upon.

mod carry_out;

pub use carry_out::{Outcome, carry_out, take_out};

use core::ops::Deref;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    vec::Vec,
};

use crate::{
    abi::{Addr, Config, Endpoint, Flow, FlowKey, NextHop, Peer, WAYS, Workload},
    flows::{self, FlowTable, Standing},
    headers::{self, ETHERNET_LEN, Header},
    packet::{Packet, Tunnel},
    reason::Reason,
    tables::Tables,
    tuple::Tuple,
};

/// A frame in memory.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // facts, each by itself
pub struct MemoryPacket {
    /// The bytes from the Ethernet header on.
    pub bytes: Vec<u8>,
    /// What [`Packet::is_to_interface`] answers.
    pub to_interface: bool,
    /// What [`Packet::has_vlan_tag`] answers.
    pub vlan_tag: bool,
    /// What [`Packet::gso_size`] answers.
    pub gso_size: u32,
    /// What [`Packet::is_checksum_verified`] answers.
    pub checksum_verified: bool,
    /// What [`Packet::taken_out_of`] answers.
    pub taken_out_of: Option<Tunnel>,
    /// What [`Packet::forgets_tunnels`] answers.
    pub forgets_tunnels: bool,
    /// Whether [`Packet::encap_room`] and [`Packet::decap_room`] succeed: the kernel refuses them for
    /// some offloads.
    pub makes_room: bool,
}

impl MemoryPacket {
    /// An ordinary frame for the interface it arrived on.
    #[must_use]
    pub fn new(bytes: Vec<u8>) -> Self {
        Self {
            bytes,
            to_interface: true,
            vlan_tag: false,
            gso_size: 0,
            checksum_verified: false,
            taken_out_of: None,
            forgets_tunnels: true,
            makes_room: true,
        }
    }
}

impl Packet for MemoryPacket {
    fn header<T: Header>(&self, offset: usize) -> Option<&T> {
        headers::at(&self.bytes, offset)
    }

    fn header_mut<T: Header>(&mut self, offset: usize) -> Option<&mut T> {
        headers::at_mut(&mut self.bytes, offset)
    }

    fn frame_length(&self) -> u32 {
        u32::try_from(self.bytes.len()).unwrap_or(u32::MAX)
    }

    fn is_to_interface(&self) -> bool {
        self.to_interface
    }

    fn has_vlan_tag(&self) -> bool {
        self.vlan_tag
    }

    fn gso_size(&self) -> u32 {
        self.gso_size
    }

    fn is_checksum_verified(&self) -> bool {
        self.checksum_verified
    }

    fn taken_out_of(&self) -> Option<Tunnel> {
        self.taken_out_of
    }

    fn forgets_tunnels(&self) -> bool {
        self.forgets_tunnels
    }

    fn encap_room(&mut self, tunnel: Tunnel) -> Result<(), Reason> {
        if !self.makes_room || self.bytes.len() < ETHERNET_LEN {
            return Err(Reason::NoRoom);
        }
        let room = std::iter::repeat_n(0, usize::from(tunnel.overhead()));
        self.bytes.splice(ETHERNET_LEN..ETHERNET_LEN, room);
        Ok(())
    }

    fn decap_room(&mut self, tunnel: Tunnel) -> Result<(), Reason> {
        let end = ETHERNET_LEN + usize::from(tunnel.overhead());
        if !self.makes_room || self.bytes.len() < end {
            return Err(Reason::NoRoom);
        }
        self.bytes.drain(ETHERNET_LEN..end);
        Ok(())
    }
}

/// Tables in memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryTables {
    /// The configuration, once written.
    pub config: Option<Config>,
    /// Routes by prefix length and network address.
    pub routes: BTreeMap<(u8, Addr), NextHop>,
    /// The ways of next hops that have many, by [`NextHop::entry`].
    pub multipaths: BTreeMap<u16, [NextHop; WAYS]>,
    /// Local pods by address.
    pub endpoints: BTreeMap<Addr, Endpoint>,
    /// Workload interfaces by index.
    pub workloads: BTreeMap<u32, Workload>,
    /// Interfaces of endpoints that were deleted, by index.
    pub gone: BTreeSet<u32>,
    /// Other nodes by address.
    pub peers: BTreeMap<Addr, Peer>,
    /// Flows; a copy of the tables shares them.
    pub flows: Arc<Mutex<Flows>>,
    /// What [`FlowTable::chance`] answers next; shared, too.
    pub chances: Arc<AtomicU32>,
    /// What [`FlowTable::generation`] answers.
    pub generation: u16,
    /// What [`FlowTable::now`] answers.
    pub now: u64,
}

/// What is remembered of flows.
pub type Flows = BTreeMap<FlowKey, Arc<Flow>>;

impl MemoryTables {
    /// What is remembered of flows.
    pub fn flows(&self) -> MutexGuard<'_, Flows> {
        // Nothing is left half done there.
        self.flows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The longest prefix that covers `destination`, with its next hop.
    #[must_use]
    pub fn route_entry(&self, destination: Addr) -> Option<((u8, Addr), &NextHop)> {
        (0..=32u8).rev().find_map(|length| {
            let key = (length, network(destination, length));
            self.routes.get(&key).map(|next_hop| (key, next_hop))
        })
    }
}

impl Tables for MemoryTables {
    fn config(&self) -> Option<&Config> {
        self.config.as_ref()
    }

    fn route(&self, destination: Addr) -> Option<&NextHop> {
        self.route_entry(destination).map(|(_, next_hop)| next_hop)
    }

    fn next_hop(&self, number: u16) -> Option<&NextHop> {
        let ways = self.multipaths.values().flatten();
        let mut next_hops = self.routes.values().chain(ways);
        next_hops.find(|next_hop| next_hop.number() == number)
    }

    fn way(&self, multipath: &NextHop, place: usize) -> Option<&NextHop> {
        self.multipaths.get(&multipath.entry)?.get(place)
    }

    fn endpoint(&self, address: Addr) -> Option<&Endpoint> {
        self.endpoints.get(&address)
    }

    fn workload(&self, ifindex: u32) -> Option<&Workload> {
        self.workloads.get(&ifindex)
    }

    fn numbered_endpoint(&self, number: u16) -> Option<&Endpoint> {
        let mut endpoints = self.endpoints.values();
        endpoints.find(|endpoint| endpoint.number == number)
    }

    fn is_present(&self, ifindex: u32) -> bool {
        !self.gone.contains(&ifindex)
    }

    fn peer(&self, address: Addr) -> Option<&Peer> {
        self.peers.get(&address)
    }

    fn standing(&self, tuple: Tuple, from: u64, reverify: u32) -> Standing {
        flows::standing(self, tuple, from, reverify)
    }

    fn remember(&self, tuple: Tuple, generation: u16, from_and_way: u64, to: u16) {
        flows::remember(self, tuple, generation, from_and_way, to);
    }

    fn enter(&self, tuple: Tuple, begins: bool) -> u16 {
        flows::enter(self, tuple, begins)
    }

    fn leave(&self, tuple: Tuple, mark: u16) -> bool {
        flows::leave(self, tuple, mark)
    }

    fn forget(&self, tuple: Tuple) {
        self.flows().remove(&tuple.key());
    }
}

impl FlowTable for MemoryTables {
    fn flow(&self, key: FlowKey) -> Option<impl Deref<Target = Flow> + use<'_>> {
        self.flows().get(&key).cloned()
    }

    fn flow_or_new(&self, key: FlowKey) -> Option<impl Deref<Target = Flow> + use<'_>> {
        Some(self.flows().entry(key).or_default().clone())
    }

    fn generation(&self) -> u16 {
        self.generation
    }

    fn chance(&self) -> u32 {
        // Another than before, and the same again with the same packets.
        self.chances.fetch_add(1, Ordering::Relaxed)
    }

    fn now(&self) -> u64 {
        self.now
    }
}

/// The first `length` bits of `address`.
fn network(address: Addr, length: u8) -> Addr {
    let mask = u32::MAX
        .checked_shl(32 - u32::from(length))
        .unwrap_or_default();
    (u32::from_be_bytes(address) & mask).to_be_bytes()
}

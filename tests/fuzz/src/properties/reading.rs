//! Reading packets and tables, in another way than the code under test does.

use dataplane_common::{
    abi::{Addr, Endpoint, Mac, NextHop, NextHopKind},
    memory::MemoryTables,
};
use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, checksum::Sum16BitWords};

/// Length of an Ethernet header.
pub(super) const ETHERNET: usize = 14;

/// Destination, source and type of a frame.
pub(super) fn ethernet(frame: &[u8]) -> (Mac, Mac, EtherType) {
    let (header, _) = Ethernet2Header::from_slice(frame).expect("an Ethernet header");
    (header.destination, header.source, header.ether_type)
}

/// An IPv4 packet: its header, and all of it up to the length that the header gives.
pub(super) fn ipv4(bytes: &[u8]) -> (Ipv4Header, &[u8]) {
    let (header, _) = Ipv4Header::from_slice(bytes).expect("an IPv4 header");
    let length = usize::from(header.total_len);
    let packet = bytes
        .get(..length)
        .expect("as many bytes as the header says");
    (header, packet)
}

/// Whether a router may pass the packet on: its header is right, without options, and it is no
/// fragment and not at the end of its life.
pub(super) fn is_forwardable(packet: &[u8]) -> bool {
    is_whole(packet) && ipv4(packet).0.time_to_live > 1
}

/// Whether the header is right and without options, and the packet is no fragment.
pub(super) fn is_whole(packet: &[u8]) -> bool {
    let (header, _) = ipv4(packet);
    header.options.is_empty() && !header.is_fragmenting_payload() && has_right_checksum(packet)
}

/// Whether the checksum of the header is right: over the bytes, since etherparse's header does not
/// keep the flag that is reserved.
pub(super) fn has_right_checksum(packet: &[u8]) -> bool {
    let (header, _) = ipv4(packet);
    sum(&packet[..header.header_len()]) == 0
}

/// Length of the longest packet that a device will make of this one, for which it has to know where
/// the payload begins. Behind options nobody looks: there it is the least that the length can be.
pub(super) fn length_on_wire(packet: &[u8], gso_size: u32) -> u32 {
    let (header, _) = ipv4(packet);
    if gso_size == 0 {
        return header.total_len.into();
    }
    let transport = match header.protocol {
        _ if !header.options.is_empty() => 0,
        IpNumber::TCP => u32::from(packet[32] >> 4) * 4,
        IpNumber::UDP => 8,
        other => panic!("an offload of {other:?}"),
    };
    20 + transport + gso_size
}

/// The packet after a router with this TOS byte for it, its checksum computed anew.
pub(super) fn forwarded(packet: &[u8], tos: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[8] -= 1;
    marked(&packet, tos)
}

/// The packet with this TOS byte, its checksum computed anew.
pub(super) fn marked(packet: &[u8], tos: u8) -> Vec<u8> {
    let (header, _) = ipv4(packet);
    let mut packet = packet.to_vec();
    packet[1] = tos;
    packet[10..12].fill(0);
    let checksum = sum(&packet[..header.header_len()]);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    packet
}

fn sum(header: &[u8]) -> u16 {
    u16::from_be(Sum16BitWords::new().add_slice(header).ones_complement())
}

/// The TOS byte.
pub(super) fn tos(header: &Ipv4Header) -> u8 {
    header.dscp.value() << 2 | header.ecn.value()
}

/// The destination port of a packet whose IP header has no options, if it is UDP.
pub(super) fn udp_port(header: &Ipv4Header, packet: &[u8]) -> Option<[u8; 2]> {
    if header.protocol != IpNumber::UDP {
        return None;
    }
    packet.get(22..24)?.try_into().ok()
}

/// The next hop of the longest prefix.
pub(super) fn route(tables: &MemoryTables, address: Addr) -> Option<&NextHop> {
    let covers = |(length, network): &(u8, Addr)| {
        let differing = u32::from_be_bytes(*network) ^ u32::from_be_bytes(address);
        differing.leading_zeros() >= u32::from(*length)
    };
    let routes = tables.routes.iter().filter(|(prefix, _)| covers(prefix));
    let (_, next_hop) = routes.max_by_key(|((length, _), _)| *length)?;
    Some(next_hop)
}

/// The next hops that one may stand for: itself, or what is at its places, in their order.
pub(super) fn ways<'t>(tables: &'t MemoryTables, next_hop: &'t NextHop) -> &'t [NextHop] {
    if next_hop.kind != 6 {
        return std::slice::from_ref(next_hop);
    }
    let ways = tables.multipaths.get(&next_hop.entry);
    ways.map_or(&[], |ways| ways)
}

/// The kind of [`route`].
pub(super) fn kind(tables: &MemoryTables, address: Addr) -> Option<NextHopKind> {
    route(tables, address)?.kind()
}

/// Whether `address` is the peer's, or would be sent to it.
pub(super) fn belongs_to(tables: &MemoryTables, peer: Addr, address: Addr) -> bool {
    let is_routed_there = |next_hop: &NextHop| {
        let is_remote = matches!(
            next_hop.kind(),
            Some(NextHopKind::Direct | NextHopKind::Ipip | NextHopKind::Vxlan)
        );
        is_remote && next_hop.peer == peer
    };
    address == peer || route(tables, address).is_some_and(is_routed_there)
}

/// Whether `peer` is another node: it is listed, or is where a tunnel leads to `address`.
pub(super) fn is_node(tables: &MemoryTables, peer: Addr, address: Addr) -> bool {
    let is_tunnelled_there = |next_hop: &NextHop| {
        let kind = next_hop.kind();
        matches!(kind, Some(NextHopKind::Ipip | NextHopKind::Vxlan)) && next_hop.peer == peer
    };
    tables.peers.contains_key(&peer) || route(tables, address).is_some_and(is_tunnelled_there)
}

/// Whether `address` is on this node: a pod's, or its own.
pub(super) fn is_here(tables: &MemoryTables, address: Addr) -> bool {
    tables.endpoints.contains_key(&address)
        || tables.config.is_some_and(|config| config.node == address)
        || kind(tables, address) == Some(NextHopKind::Local)
}

/// The pod that has `address`, on interface `ifindex`.
pub(super) fn is_on(tables: &MemoryTables, ifindex: u32, address: Addr) -> bool {
    let endpoint: Option<&Endpoint> = tables.endpoints.get(&address);
    endpoint.is_some_and(|endpoint| endpoint.ifindex == ifindex)
}

/// Whether a host can have `address`.
pub(super) fn is_unicast(address: Addr) -> bool {
    !matches!(address[0], 0 | 127 | 224..)
}

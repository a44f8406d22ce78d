//! IPIP and VXLAN.

use dataplane_common::{
    abi::{Addr, NextHopKind},
    memory::MemoryTables,
    tables::Tables as _,
};
use etherparse::{EtherType, Ethernet2Header, IpNumber, UdpHeader};

use super::{ip, is_remote};
use crate::{addresses, choices::Choices, flows};

/// What a peer sends to this node.
pub(super) fn from_peer(choices: &mut Choices, tables: &MemoryTables) -> Vec<u8> {
    let node = tables.config.unwrap_or_default().node;
    let peer = choices.of_any(tables.peers.keys()).copied();
    let peer = match peer {
        Some(peer) if choices.mostly() => peer,
        _ => addresses::any(choices),
    };
    let to = if choices.mostly() {
        node
    } else {
        addresses::any(choices)
    };
    packet(choices, tables, peer, to)
}

/// A tunnel's packet between two nodes.
pub(super) fn packet(
    choices: &mut Choices,
    tables: &MemoryTables,
    from: Addr,
    to: Addr,
) -> Vec<u8> {
    let inner = inner(choices, tables, Some(from));
    if choices.maybe() {
        ip::with_payload(choices, from, to, IpNumber::IPV4, &inner)
    } else {
        let datagram = vxlan(choices, tables, &inner);
        ip::with_payload(choices, from, to, IpNumber::UDP, &datagram)
    }
}

/// What `peer`, or any, has in a tunnel to this node.
pub(super) fn inner(choices: &mut Choices, tables: &MemoryTables, peer: Option<Addr>) -> Vec<u8> {
    let flow = if choices.maybe() {
        flows::ends(choices, tables, |sender| {
            tables
                .route(sender)
                .is_some_and(|route| peer.is_none_or(|peer| route.peer == peer))
        })
    } else {
        None
    };
    if let Some((source, destination)) = flow {
        return ip::packet(choices, tables, source, destination);
    }
    let source = match peer {
        Some(peer) if choices.rarely() => peer,
        _ => addresses::routed(choices, tables, |hop| {
            // Whose the source is, of these two no route tells.
            let may_be = |peer| hop.peer == peer || hop.peer == [0; 4];
            peer.is_none_or(may_be) && is_remote(hop)
        }),
    };
    let destination = match choices.below(8) {
        0 => tables.config.unwrap_or_default().node,
        1 => addresses::routed(choices, tables, |hop| {
            hop.kind() == Some(NextHopKind::Local)
        }),
        _ => addresses::endpoint(choices, tables),
    };
    ip::packet(choices, tables, source, destination)
}

fn vxlan(choices: &mut Choices, tables: &MemoryTables, inner: &[u8]) -> Vec<u8> {
    let config = tables.config.unwrap_or_default();
    let [_, a, b, c] = config.vni.to_be_bytes();
    let header = if choices.mostly() {
        [0x08, 0, 0, 0, a, b, c, 0]
    } else {
        choices.bytes()
    };
    let ethernet = Ethernet2Header {
        destination: if choices.mostly() {
            config.vtep_mac
        } else {
            choices.bytes()
        },
        source: [0x66, 0, 0, 0, 0, 9],
        ether_type: if choices.mostly() {
            EtherType::IPV4
        } else {
            EtherType::ARP
        },
    };
    let payload = [&header[..], &ethernet.to_bytes(), inner].concat();
    let port = if choices.mostly() {
        u16::from_be_bytes(config.vxlan_port)
    } else {
        choices.word()
    };
    let Ok(mut udp) = UdpHeader::without_ipv4_checksum(50_000, port, payload.len()) else {
        return payload;
    };
    if choices.rarely() {
        udp.checksum = choices.word();
    }
    [&udp.to_bytes()[..], &payload].concat()
}

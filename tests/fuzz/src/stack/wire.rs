//! Frames of packets, and what pods are where.

use std::collections::BTreeMap;

use dataplane_common::{
    abi::{Addr, Config, Endpoint, Mac, NextHop, NextHopKind, Peer, flags},
    memory::{MemoryPacket, MemoryTables},
    packet::Tunnel,
};
use etherparse::PacketBuilder;

use super::segment::{ACK, FIN, Protocol, RST, SYN, Segment};

pub(super) const NODE: Addr = [192, 168, 1, 10];
pub(super) const SERVICE: Addr = [10, 96, 0, 10];
/// Where the pods are at first: two here, and one on each other node.
pub(super) const PODS: [Addr; 5] = [
    [10, 244, 0, 2],
    [10, 244, 0, 3],
    [10, 244, 1, 2],
    [10, 244, 2, 2],
    [10, 244, 3, 2],
];
/// Other nodes: `NODES[n]` is reached by VXLAN, IPIP, as it is.
pub(super) const NODES: [Addr; 3] = [[192, 168, 1, 11], [192, 168, 1, 12], [192, 168, 1, 13]];
const KINDS: [NextHopKind; 3] = [NextHopKind::Vxlan, NextHopKind::Ipip, NextHopKind::Direct];

pub(super) const CARRIER: u32 = 7;
pub(super) const VNI: u32 = 4096;
const VXLAN_PORT: u16 = 4789;
const VTEP: Mac = [0x66, 0, 0, 0, 0, 1];
const OTHER: Mac = [0x66, 0, 0, 0, 0, 2];

/// Where a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// On this node, behind this interface.
    Here(u32),
    /// On one of the [`NODES`].
    There(usize),
}

pub(super) type Places = BTreeMap<Addr, Place>;

impl Place {
    /// What its packets come and go in.
    pub(super) const fn tunnel(self) -> Option<Tunnel> {
        match self {
            Self::There(0) => Some(Tunnel::Vxlan),
            Self::There(1) => Some(Tunnel::Ipip),
            Self::There(_) | Self::Here(_) => None,
        }
    }
}

/// What the agent writes.
pub(super) fn write(tables: &mut MemoryTables, places: &Places) {
    let hop = |kind: NextHopKind, n: u16| NextHop {
        kind: kind as u8,
        mtu: 1450,
        ifindex: 2,
        entry: n << 1,
        ..NextHop::default()
    };
    let there = |node: usize, n: u16| NextHop {
        peer: NODES[node],
        gateway: NODES[node],
        source: NODE,
        vtep_mac: OTHER,
        ..hop(KINDS[node], n)
    };
    tables.routes.clear();
    tables.endpoints.clear();
    for (node, n) in (0..NODES.len()).zip(1..) {
        let network = [10, 244, PODS[2 + node][2], 0];
        tables.routes.insert((24, network), there(node, n));
    }
    for (address, place) in places {
        let next_hop = match *place {
            Place::Here(ifindex) => {
                let endpoint = Endpoint {
                    ifindex,
                    mtu: 1450,
                    mac: [0x02, 0, 0, 0, 0, 1],
                    host_mac: [0xee; 6],
                    number: u16::try_from(ifindex).unwrap_or(u16::MAX),
                    ..Endpoint::default()
                };
                tables.endpoints.insert(*address, endpoint);
                hop(NextHopKind::Local, 0)
            }
            Place::There(node) => there(node, (1..).nth(node).unwrap_or_default()),
        };
        tables.routes.insert((32, *address), next_hop);
    }
    tables.peers = NODES.map(|node| (node, Peer::default())).into();
}

pub(super) fn config(carrier: u32, reverify: u32) -> Config {
    Config {
        node: NODE,
        vni: VNI,
        flags: flags::ESTABLISHED,
        carrier,
        vxlan_port: VXLAN_PORT.to_be_bytes(),
        vtep_mac: VTEP,
        reverify,
        ..Config::default()
    }
}

/// The packet as it is.
pub(super) fn bare(segment: Segment) -> MemoryPacket {
    const DATA: &[u8] = b"data";
    let (source, destination) = (segment.tuple.source, segment.tuple.destination);
    let ip = PacketBuilder::ethernet2(OTHER, VTEP).ipv4(source.address, destination.address, 64);
    let mut bytes = Vec::new();
    let written = match segment.tuple.protocol {
        Protocol::Tcp => {
            let mut tcp = ip.tcp(source.port, destination.port, 1, 1000);
            if segment.has(SYN) {
                tcp = tcp.syn();
            }
            if segment.has(FIN) {
                tcp = tcp.fin();
            }
            if segment.has(RST) {
                tcp = tcp.rst();
            }
            if segment.has(ACK) {
                tcp = tcp.ack(1);
            }
            tcp.write(&mut bytes, DATA)
        }
        Protocol::Udp => ip
            .udp(source.port, destination.port)
            .write(&mut bytes, DATA),
        Protocol::Request => ip
            .icmpv4_echo_request(source.port, 1)
            .write(&mut bytes, DATA),
        Protocol::Reply => ip.icmpv4_echo_reply(source.port, 1).write(&mut bytes, DATA),
    };
    written.expect("a packet of a few bytes");
    MemoryPacket::new(bytes)
}

/// The packet in a tunnel between two nodes.
pub(super) fn tunnelled(
    tunnel: Tunnel,
    [from, to]: [Addr; 2],
    segment: Segment,
    has_checksum: bool,
) -> MemoryPacket {
    const IP: usize = 14;
    const UDP_CHECKSUM: std::ops::Range<usize> = 40..42;
    let inner = bare(segment).bytes;
    let outer = PacketBuilder::ethernet2(OTHER, VTEP).ipv4(from, to, 64);
    let mut bytes = Vec::new();
    let written = match tunnel {
        Tunnel::Ipip => outer.write(&mut bytes, 4.into(), &inner[IP..]),
        Tunnel::Vxlan => {
            let [_, a, b, c] = VNI.to_be_bytes();
            let vxlan = [&[8, 0, 0, 0, a, b, c, 0], &VTEP[..], &OTHER, &inner[12..]].concat();
            outer.udp(50_000, VXLAN_PORT).write(&mut bytes, &vxlan)
        }
    };
    written.expect("a packet of a few bytes");
    if tunnel == Tunnel::Vxlan && !has_checksum {
        bytes[UDP_CHECKSUM].fill(0);
    }
    MemoryPacket::new(bytes)
}

//! The packets that cases are made of, and the frames that they are in.

use std::net::Ipv4Addr;

use etherparse::{Ipv4Header, Ipv4HeaderSlice};

use super::world::{NAMES, NODE_MAC, P0_MAC, P1_MAC, PEER_MAC, vtep};
use crate::{Ip, Mac, frames};

/// What most packets carry.
pub(super) const PAYLOAD: &[u8] = b"what the pod has to say";

/// The identification of every packet that a case sends: not zero, so that it shows if it is lost.
pub(super) const IDENTIFICATION: u16 = 0x4321;

/// A packet's header to begin with.
pub(super) fn ip(source: Ipv4Addr, destination: Ipv4Addr) -> Ip {
    Ip::new(source, destination).identification(IDENTIFICATION)
}

/// A UDP packet, from pod to pod.
pub(super) fn udp(ip: &Ip) -> Vec<u8> {
    ip.udp(4000, 5000, PAYLOAD)
}

/// A UDP packet of this length in bytes, IP header included.
pub(super) fn udp_of(ip: &Ip, length: u16) -> Vec<u8> {
    const HEADERS: usize = 20 + 8;
    let payload: Vec<u8> = (0..=u8::MAX)
        .cycle()
        .take(usize::from(length) - HEADERS)
        .collect();
    ip.udp(4000, 5000, &payload)
}

/// The first pod's frame to its gateway.
pub(super) fn from_p0(packet: &[u8]) -> Vec<u8> {
    frames::ethernet(P0_MAC, Mac::CALICO, packet)
}

/// The node's frame to the first pod.
pub(super) fn to_p0(packet: &[u8]) -> Vec<u8> {
    frames::ethernet(Mac::CALICO, P0_MAC, packet)
}

/// The node's frame to the second pod.
pub(super) fn to_p1(packet: &[u8]) -> Vec<u8> {
    frames::ethernet(Mac::CALICO, P1_MAC, packet)
}

/// The peer's frame to the node.
pub(super) fn from_wire(packet: &[u8]) -> Vec<u8> {
    frames::ethernet(PEER_MAC, NODE_MAC, packet)
}

/// The node's frame to a neighbour.
pub(super) fn on_wire(neighbour: Ipv4Addr, packet: &[u8]) -> Vec<u8> {
    frames::ethernet(NODE_MAC, Mac::of(neighbour, 0), packet)
}

/// What VXLAN carries from the peer to the node.
pub(super) fn from_peers_vtep(packet: &[u8]) -> Vec<u8> {
    frames::ethernet(vtep(NAMES[1]), vtep(NAMES[0]), packet)
}

/// What a router makes of a packet that it forwards.
pub(super) fn forwarded(packet: &[u8]) -> Vec<u8> {
    let mut header = header(packet);
    header.time_to_live -= 1;
    with_header(header, &packet[header_length(packet)..])
}

/// The pieces into which a router cuts a packet for a link of this MTU in bytes.
pub(super) fn fragmented(packet: &[u8], mtu: u16) -> Vec<Vec<u8>> {
    let original = header(packet);
    let room = (usize::from(mtu) - header_length(packet)) / 8 * 8;
    let payload = &packet[header_length(packet)..];
    let last = payload.chunks(room).count() - 1;
    payload
        .chunks(room)
        .enumerate()
        .map(|(index, piece)| {
            let mut header = original.clone();
            let offset = u16::try_from(index * room / 8).expect("13 bits");
            header.fragment_offset = offset.try_into().expect("13 bits");
            header.more_fragments = index < last;
            with_header(header, piece)
        })
        .collect()
}

fn with_header(mut header: Ipv4Header, payload: &[u8]) -> Vec<u8> {
    header
        .set_payload_len(payload.len())
        .expect("a payload that fits");
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes(), payload].concat()
}

pub(super) fn header(packet: &[u8]) -> Ipv4Header {
    let header = Ipv4HeaderSlice::from_slice(packet).expect("an IPv4 packet");
    header.to_header()
}

fn header_length(packet: &[u8]) -> usize {
    usize::from(packet[0] & 0x0f) * 4
}

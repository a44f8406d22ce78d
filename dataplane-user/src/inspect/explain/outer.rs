//! The headers that are put in front of a packet.

use std::net::Ipv4Addr;

use dataplane_common::{
    headers::{ETHERNET_LEN, IPV4_LEN, UDP_LEN, VXLAN_LEN},
    memory::MemoryPacket,
    packet::Tunnel,
    parse,
};
use schemars::JsonSchema;
use serde::Serialize;

use crate::address::Mac;

/// A header in front of a packet. The Ethernet header before the first one is the kernel's, by the
/// neighbour.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OuterHeader {
    /// `IPv4`, `UDP`, `VXLAN`, or `Ethernet`, the inner one of VXLAN.
    pub header: &'static str,
    /// Its bytes, two hexadecimal digits each.
    pub bytes: String,
    /// What they say.
    pub meaning: String,
}

/// The headers in front of what `packet` carries in a tunnel; none without one.
pub(super) fn headers(packet: &MemoryPacket, tunnel: Option<Tunnel>) -> Vec<OuterHeader> {
    let Some(tunnel) = tunnel else {
        return Vec::new();
    };
    let mut rest = &packet.bytes[parse::IP..];
    let mut next = |length| {
        let (header, behind) = rest.split_at(length);
        rest = behind;
        header.to_vec()
    };
    let mut headers = vec![ipv4(&next(IPV4_LEN))];
    if tunnel == Tunnel::Vxlan {
        headers.push(udp(&next(UDP_LEN)));
        headers.push(vxlan(&next(VXLAN_LEN)));
        headers.push(ethernet(&next(ETHERNET_LEN)));
    }
    headers
}

fn ipv4(bytes: &[u8]) -> OuterHeader {
    let address = |at: usize| Ipv4Addr::new(bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]);
    let (ttl, protocol) = (bytes[8], bytes[9]);
    let meaning = format!(
        "{} -> {}, TTL {ttl}, protocol {protocol}",
        address(12),
        address(16)
    );
    header("IPv4", bytes, meaning)
}

fn udp(bytes: &[u8]) -> OuterHeader {
    let port = |at: usize| u16::from_be_bytes([bytes[at], bytes[at + 1]]);
    header("UDP", bytes, format!("{} -> {}", port(0), port(2)))
}

fn vxlan(bytes: &[u8]) -> OuterHeader {
    let network = u32::from_be_bytes([0, bytes[4], bytes[5], bytes[6]]);
    header("VXLAN", bytes, format!("network {network}"))
}

fn ethernet(bytes: &[u8]) -> OuterHeader {
    let address = |at: usize| {
        let mut address = [0; 6];
        address.copy_from_slice(&bytes[at..at + 6]);
        Mac(address)
    };
    let meaning = format!("{} -> {}", address(6), address(0));
    header("Ethernet", bytes, meaning)
}

fn header(header: &'static str, bytes: &[u8], meaning: String) -> OuterHeader {
    let digits: Vec<_> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    OuterHeader {
        header,
        bytes: digits.join(" "),
        meaning,
    }
}

//! IPv4 packets and what they carry.

use dataplane_common::{abi::Addr, memory::MemoryTables};
use etherparse::{
    Icmpv4Header, Icmpv4Type, IpFragOffset, IpNumber, Ipv4Header, TcpHeader, UdpHeader,
};

use super::tunnel;
use crate::{choices::Choices, flows};

/// A packet with any payload, now and then a tunnel's.
pub(super) fn packet(
    choices: &mut Choices,
    tables: &MemoryTables,
    source: Addr,
    destination: Addr,
) -> Vec<u8> {
    if choices.rarely() {
        return tunnel::packet(choices, tables, source, destination);
    }
    let of_flow = if choices.mostly() {
        flows::transport(choices, tables, source, destination)
    } else {
        None
    };
    let (protocol, payload) = match of_flow {
        Some((protocol, payload)) => (IpNumber(protocol), payload),
        None => transport(choices),
    };
    with_payload(choices, source, destination, protocol, &payload)
}

/// A packet with this payload. Lengths and checksum are right.
pub(super) fn with_payload(
    choices: &mut Choices,
    source: Addr,
    destination: Addr,
    protocol: IpNumber,
    payload: &[u8],
) -> Vec<u8> {
    let mut header = Ipv4Header {
        source,
        destination,
        protocol,
        dscp: choices.of(&[0, 0, 46, 63]).try_into().unwrap_or_default(),
        ecn: choices.of(&[0, 0, 1, 2, 3]).try_into().unwrap_or_default(),
        identification: choices.word(),
        dont_fragment: choices.maybe(),
        time_to_live: choices.of(&[64, 64, 64, 255, 3, 2, 1, 0]),
        ..Ipv4Header::default()
    };
    if choices.rarely() {
        header.more_fragments = choices.maybe();
        let offset = choices.of(&[0, 1, 185, 0x1fff]);
        header.fragment_offset = IpFragOffset::try_new(offset).unwrap_or_default();
    }
    if choices.rarely() {
        let options = choices.of(&[&[1; 4][..], &[7; 8], &[0; 40]]);
        header.options = options.try_into().unwrap_or_default();
    }
    let length = header.header_len() + payload.len();
    header.total_len = u16::try_from(length).unwrap_or(u16::MAX);
    header.header_checksum = header.calc_header_checksum();
    [&header.to_bytes()[..], payload].concat()
}

/// A protocol and its packet.
fn transport(choices: &mut Choices) -> (IpNumber, Vec<u8>) {
    match choices.below(8) {
        0..=2 => (IpNumber::UDP, udp(choices)),
        3..=5 => (IpNumber::TCP, tcp(choices)),
        6 => (IpNumber::ICMP, echo(choices)),
        _ => {
            let protocol =
                choices.of(&[IpNumber::SCTP, IpNumber::GRE, IpNumber::IPV6, IpNumber(255)]);
            (protocol, data(choices))
        }
    }
}

fn udp(choices: &mut Choices) -> Vec<u8> {
    let data = data(choices);
    let (source, destination) = (choices.word(), choices.of(&[53, 80, 4789, 8472]));
    let header = UdpHeader::without_ipv4_checksum(source, destination, data.len());
    header.map_or_else(
        |_| Vec::new(),
        |header| [&header.to_bytes()[..], &data].concat(),
    )
}

fn tcp(choices: &mut Choices) -> Vec<u8> {
    let mut header = TcpHeader::new(choices.word(), choices.of(&[80, 4789]), 1, 1000);
    let options = choices.of(&[0, 12, 40]);
    // It takes up to 40 bytes of them.
    let _ = header.set_options_raw(&[1; 40][..options]);
    [&header.to_bytes()[..], &data(choices)].concat()
}

fn echo(choices: &mut Choices) -> Vec<u8> {
    let header = Icmpv4Header::new(Icmpv4Type::EchoRequest(etherparse::IcmpEchoHeader {
        id: choices.word(),
        seq: 1,
    }));
    [&header.to_bytes()[..], &data(choices)].concat()
}

/// Data, of lengths around those that matter to some MTU.
fn data(choices: &mut Choices) -> Vec<u8> {
    let length = match choices.below(8) {
        0 => 0,
        1..=4 => choices.below(64),
        5 => 1380 + choices.below(128),
        6 => choices.of(&[1410, 1422, 1430, 1452, 1460, 1472]),
        _ => 3000,
    };
    vec![0x5a; length]
}

//! Ethernet frames.

use dataplane_common::{
    abi::{Addr, Mac},
    memory::MemoryTables,
};
use etherparse::{ArpEthIpv4Packet, ArpOperation, EtherType, Ethernet2Header};

use crate::{Interface, addresses, choices::Choices};

/// A pod's question for its gateway.
pub(super) fn gateway_question(
    choices: &mut Choices,
    tables: &MemoryTables,
    interface: Interface,
    source: Addr,
    mac: Mac,
) -> Vec<u8> {
    let gateways = tables.config.unwrap_or_default().gateways;
    let question = ArpEthIpv4Packet {
        operation: ArpOperation(if choices.mostly() { 1 } else { choices.word() }),
        sender_mac: if choices.mostly() {
            mac
        } else {
            choices.bytes()
        },
        sender_ipv4: source,
        target_mac: [0; 6],
        target_ipv4: if choices.mostly() {
            choices.of(&gateways)
        } else {
            addresses::any(choices)
        },
    };
    let destination = choices.of(&[[0xff; 6], interface.mac]);
    let padding = choices.of(&[0, 0, 18]);
    frame(
        destination,
        EtherType::ARP,
        &[&question.to_bytes()[..], &[0; 18][..padding]].concat(),
    )
}

/// A frame that holds neither IPv4 nor a question for a gateway.
pub(super) fn other(choices: &mut Choices, interface: Interface) -> Vec<u8> {
    let ether_type = match choices.below(6) {
        0 => EtherType::IPV6,
        1 => EtherType::VLAN_TAGGED_FRAME,
        2 => EtherType::PROVIDER_BRIDGING,
        3 => EtherType::ARP,
        4 => EtherType::IPV4,
        _ => EtherType(choices.word()),
    };
    let payload: [u8; 48] = choices.bytes();
    frame(interface.mac, ether_type, &payload[..choices.below(49)])
}

/// A frame with an IPv4 packet, for the interface that it arrives on, or not.
pub(super) fn ethernet(choices: &mut Choices, interface: Interface, packet: &[u8]) -> Vec<u8> {
    let destination = match choices.below(32) {
        0 => [0xff; 6],
        1 => choices.bytes(),
        _ => interface.mac,
    };
    let mut frame = frame(destination, EtherType::IPV4, packet);
    if choices.rarely() {
        // Short frames are filled up.
        frame.resize(frame.len() + choices.below(46), 0xa5);
    }
    frame
}

fn frame(destination: Mac, ether_type: EtherType, payload: &[u8]) -> Vec<u8> {
    let header = Ethernet2Header {
        destination,
        source: [0x02, 0, 0, 0, 0, 0xbb],
        ether_type,
    };
    [&header.to_bytes(), payload].concat()
}

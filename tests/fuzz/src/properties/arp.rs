//! What is answered by proxy ARP.

use dataplane_common::{
    abi::{Hook, Mac},
    reason::Action,
};
use etherparse::{ArpOperation, EtherType, NetSlice, SlicedPacket};

use super::{Run, same};

/// A pod gets the answer to the question that it asked, and nothing else of the frame changes. If
/// the stack is to see the question too, it is as it was.
pub(super) fn holds(run: &Run, mac: Mac, is_known: bool) {
    assert_eq!(run.case.hook, Hook::FromWorkload);
    let question = arp(run.before);
    assert_eq!(question.operation, ArpOperation::REQUEST);
    let asker = run.tables.endpoints.get(&question.sender_ipv4);
    assert_eq!(
        is_known,
        asker.is_some_and(|asker| asker.mac == question.sender_mac)
    );
    let gateways = run.config().gateways;
    assert!(
        gateways.contains(&question.target_ipv4),
        "not for the gateway"
    );
    assert_ne!(question.target_ipv4, [0; 4]);
    assert_ne!(question.sender_ipv4, [0; 4], "a probe was answered");
    assert_ne!(
        question.sender_ipv4, question.target_ipv4,
        "an announcement was answered"
    );
    assert_eq!(question.sender_mac[0] & 1, 0, "an answer to many");
    let workload = run.tables.workloads.get(&run.case.ifindex);
    assert_eq!(workload.map(|workload| workload.mac), Some(mac));

    if !is_known {
        assert_eq!(run.outcome.action, Action::Stack);
        same(run.after, run.before);
        return;
    }
    assert_eq!(run.outcome.action, Action::Forward);
    let answer = etherparse::ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: mac,
        sender_ipv4: question.target_ipv4,
        target_mac: question.sender_mac,
        target_ipv4: question.sender_ipv4,
    };
    let header = etherparse::Ethernet2Header {
        destination: question.sender_mac,
        source: mac,
        ether_type: EtherType::ARP,
    };
    let expected = [
        &header.to_bytes()[..],
        &answer.to_bytes(),
        &run.before[42..],
    ]
    .concat();
    same(run.after, &expected);
}

fn arp(frame: &[u8]) -> etherparse::ArpEthIpv4Packet {
    let packet = SlicedPacket::from_ethernet(frame).expect("a frame");
    let Some(NetSlice::Arp(arp)) = packet.net else {
        panic!("an answer to what is not ARP");
    };
    arp.to_packet()
        .try_eth_ipv4()
        .expect("ARP for IPv4 on Ethernet")
}

//! Cases 33 to 35: ARP. Case 36 takes a pod that speaks by itself: `tests/tests/arp.rs`.

use std::net::Ipv4Addr;

use dataplane_common::{abi::Hook::FromWorkload, reason::Reason};
use etherparse::{ArpEthIpv4Packet, ArpOperation, EtherType};

use super::{
    Case, Frames, Played, Port, World,
    world::{NODE, OUTSIDE, P0, P0_MAC, P1, PEER, REMOTE},
};
use crate::{
    Mac,
    frames::{self, GATEWAY},
};

/// Where the fields of an ARP packet are in a frame.
const HARDWARE_TYPE: usize = 14;
const PROTOCOL_TYPE: usize = 16;
const HARDWARE_LENGTH: usize = 18;
const PROTOCOL_LENGTH: usize = 19;
const OPERATION: usize = 20;

pub(super) fn cases(_world: World) -> Vec<Case> {
    [gateway(), unasked(), others(), malformed()].concat()
}

fn gateway() -> Vec<Case> {
    let unicast = frames::arp_request(P0_MAC, P0, Mac::CALICO, GATEWAY);
    let another = Mac::of(P0, 9);
    let answered = |name, title| {
        Case::new(name, title)
            .counts(FromWorkload, Reason::ArpAnswered)
            .emits(Port::P0, reply(GATEWAY, P0_MAC))
    };
    vec![
        answered("33a", "the gateway is answered, by broadcast")
            .sends(Port::P0, frames::arp_gateway_request(P0_MAC, P0)),
        answered("33b", "the gateway is answered, by unicast").sends(Port::P0, unicast),
        Case::new(
            "33c",
            "the gateway is answered to an address that is not known yet",
        )
        .sends(Port::P0, frames::arp_gateway_request(another, P0))
        .counts(FromWorkload, Reason::ArpAnswered)
        // The stack learns from the question, and where it has proxy ARP answers, too.
        .emits_all(Port::P0, [reply(GATEWAY, another), reply(GATEWAY, another)])
        .kernel_instead("answers once", vec![(Port::P0, reply(GATEWAY, another))])
        .played(Played::NotRun),
        Case::new("33d", "the gateway is answered to a padded question")
            .sends(Port::P0, padded(frames::arp_gateway_request(P0_MAC, P0)))
            .counts(FromWorkload, Reason::ArpAnswered)
            .emits(Port::P0, padded(reply(GATEWAY, P0_MAC)))
            .kernel_instead(
                "answers without padding",
                vec![(Port::P0, reply(GATEWAY, P0_MAC))],
            ),
    ]
}

/// As long as an Ethernet frame is at the least.
fn padded(mut frame: Vec<u8>) -> Vec<u8> {
    frame.resize(60, 0);
    frame
}

fn unasked() -> Vec<Case> {
    let probes = [GATEWAY, P0, P1, REMOTE];
    let announced = [GATEWAY, P0, P1];
    vec![
        Case::new("34a", "probes for duplicates are not answered")
            .sends_all(
                Port::P0,
                probes.map(|address| frames::arp_duplicate_probe(P0_MAC, address)),
            )
            .counts_all([(FromWorkload, Reason::ArpOther); 4]),
        Case::new("34b", "announcements are not answered")
            .sends_all(
                Port::P0,
                announced.map(|address| frames::arp_gratuitous(P0_MAC, address)),
            )
            .counts_all([(FromWorkload, Reason::ArpOther); 3]),
        Case::new(
            "34c",
            "a probe for the node's own address is answered by the stack",
        )
        .sends(Port::P0, frames::arp_duplicate_probe(P0_MAC, NODE))
        .counts(FromWorkload, Reason::ArpOther)
        .emits(Port::P0, reply_to(NODE, P0_MAC, Ipv4Addr::UNSPECIFIED)),
    ]
}

/// What the kernel's proxy ARP answers, it answers still.
fn others() -> Vec<Case> {
    let answered = [NODE, P1, REMOTE, PEER, OUTSIDE];
    let refused = [
        P0,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::BROADCAST,
        [224, 0, 0, 1].into(),
    ];
    let request = |address| frames::arp_request(P0_MAC, P0, Mac::BROADCAST, address);
    let asks_as = |name| frames::arp_request(P0_MAC, name, Mac::BROADCAST, GATEWAY);
    let elsewhere = [REMOTE, PEER, OUTSIDE];
    let mut unasked_reply = reply(GATEWAY, P0_MAC);
    unasked_reply[..6].copy_from_slice(&Mac::CALICO.0);
    unasked_reply[6..12].copy_from_slice(&P0_MAC.0);
    vec![
        Case::new(
            "35a",
            "other addresses are answered by the stack's proxy ARP",
        )
        .sends_all(Port::P0, answered.map(request))
        .counts_all([(FromWorkload, Reason::ArpOther); 5])
        .emits_all(Port::P0, answered.map(|address| reply(address, P0_MAC))),
        Case::new(
            "35b",
            "addresses that are not behind the node are not answered",
        )
        .sends_all(Port::P0, refused.map(request))
        .counts_all([(FromWorkload, Reason::ArpOther); 4]),
        Case::new("35c", "a reply is for the stack")
            .sends(Port::P0, unasked_reply)
            .counts(FromWorkload, Reason::ArpOther),
        Case::new("35f", "a question in another pod's name is not answered")
            .sends(Port::P0, asks_as(P1))
            .counts(FromWorkload, Reason::ArpOther),
        // It could be a pod that the agent has yet to hear of.
        Case::new(
            "35g",
            "a question in the name of nobody on the node is answered",
        )
        .sends_all(Port::P0, elsewhere.map(asks_as))
        .counts_all([(FromWorkload, Reason::ArpAnswered); 3])
        .emits_all(
            Port::P0,
            elsewhere.map(|name| reply_to(GATEWAY, P0_MAC, name)),
        )
        .kernel_instead("is kept silent by its reverse-path filter", Frames::new())
        .played(Played::NotRun),
    ]
}

fn malformed() -> Vec<Case> {
    let question = frames::arp_gateway_request(P0_MAC, P0);
    let changed = |at: usize, bytes: &[u8]| {
        let mut frame = question.clone();
        frame[at..at + bytes.len()].copy_from_slice(bytes);
        frame
    };
    let wrong = [
        changed(HARDWARE_TYPE, &[0, 15]),
        changed(PROTOCOL_TYPE, &[0x86, 0xdd]),
        changed(HARDWARE_LENGTH, &[8]),
        changed(PROTOCOL_LENGTH, &[16]),
        changed(OPERATION, &[0, 0]),
        changed(OPERATION, &[0, 3]),
    ];
    let cut = (HARDWARE_TYPE + 1..question.len()).map(|end| question[..end].to_vec());
    vec![
        Case::new("35d", "malformed ARP is for the stack")
            .sends_all(Port::P0, wrong)
            .counts_all([(FromWorkload, Reason::ArpOther); 6]),
        Case::new("35e", "ARP that ends too early, at every byte")
            .sends_all(Port::P0, cut.clone())
            .counts_all(cut.map(|_| (FromWorkload, Reason::ArpOther))),
    ]
}

/// What tells the first pod that `address` is behind the host side of its veth.
fn reply(address: Ipv4Addr, to: Mac) -> Vec<u8> {
    reply_to(address, to, P0)
}

fn reply_to(address: Ipv4Addr, to: Mac, asker: Ipv4Addr) -> Vec<u8> {
    let reply = ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: Mac::CALICO.0,
        sender_ipv4: address.octets(),
        target_mac: to.0,
        target_ipv4: asker.octets(),
    };
    frames::ethernet_with_type(Mac::CALICO, to, EtherType::ARP.0, &reply.to_bytes())
}

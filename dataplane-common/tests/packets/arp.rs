//! Pods ask for their gateway.

use dataplane_common::{
    abi::{Addr, Mac},
    decide::Verdict,
    memory::{MemoryPacket, MemoryTables},
    reason::Reason,
};
use etherparse::{
    ArpEthIpv4Packet, ArpHardwareId, ArpOperation, EtherType, Ethernet2Header, NetSlice,
    SlicedPacket,
};

use crate::{
    frames::{Tamper, arp_frame, arp_question},
    programs::{Program, carry_out},
    world::{
        FIRST, GATEWAY, HERE, Mode, OTHER_GATEWAY, SECOND, TABLES, THERE, node, pod, pod_mac,
        tables, veth, veth_mac,
    },
};

const BROADCAST: Mac = [0xff; 6];

fn asker() -> Addr {
    pod(Mode::Vxlan, HERE, FIRST)
}

/// What the first pod asks.
fn question(target: Addr) -> ArpEthIpv4Packet {
    arp_question(pod_mac(asker()), asker(), target)
}

/// What is decided on a frame from the first pod.
fn verdict(frame: &MemoryPacket) -> Verdict<'static> {
    Program::Workload(veth(asker())).decide(frame, &*TABLES)
}

#[test]
fn every_pod_that_asks_for_a_gateway_gets_the_address_of_its_own_veth() {
    for asker in [pod(Mode::Vxlan, HERE, FIRST), pod(Mode::Ipip, HERE, SECOND)] {
        for destination in [BROADCAST, veth_mac(asker)] {
            for target in [GATEWAY, OTHER_GATEWAY] {
                let frame = arp_frame(destination, &arp_question(pod_mac(asker), asker, target));
                let verdict = Program::Workload(veth(asker)).decide(&frame, &*TABLES);
                assert_eq!(verdict, Verdict::AnswerArp(&veth_mac(asker), true));
            }
        }
    }
}

#[test]
fn a_question_that_tells_of_a_new_address_is_for_the_stack_too() {
    let moved = arp_question([2, 9, 9, 9, 9, 9], asker(), GATEWAY);
    let verdict = verdict(&arp_frame(BROADCAST, &moved));
    assert_eq!(verdict, Verdict::AnswerArp(&veth_mac(asker()), false));
}

#[test]
fn a_question_in_the_name_of_a_pod_elsewhere_on_the_node_is_the_stacks() {
    let other = pod(Mode::Vxlan, HERE, SECOND);
    for mac in [pod_mac(asker()), pod_mac(other)] {
        let verdict = verdict(&arp_frame(BROADCAST, &arp_question(mac, other, GATEWAY)));
        assert_eq!(verdict, Verdict::Leave(Reason::ArpOther, 0));
    }
    let nobody_yet = arp_question(pod_mac(asker()), pod(Mode::Vxlan, THERE, FIRST), GATEWAY);
    let verdict = verdict(&arp_frame(BROADCAST, &nobody_yet));
    assert_eq!(verdict, Verdict::AnswerArp(&veth_mac(asker()), false));
}

#[test]
fn the_answer_goes_to_the_asker_and_names_the_gateway() {
    for padding in [0, 18] {
        let mut frame = arp_frame(BROADCAST, &question(GATEWAY)).padded(padding);
        let length = frame.bytes.len();
        let verdict = verdict(&frame);
        carry_out(&mut frame, &*TABLES, &verdict);

        assert_eq!(frame.bytes.len(), length);
        let (ethernet, _) = Ethernet2Header::from_slice(&frame.bytes).unwrap();
        assert_eq!(
            ethernet,
            Ethernet2Header {
                destination: pod_mac(asker()),
                source: veth_mac(asker()),
                ether_type: EtherType::ARP,
            }
        );
        let Some(NetSlice::Arp(arp)) = SlicedPacket::from_ethernet(&frame.bytes).unwrap().net
        else {
            panic!("not ARP")
        };
        assert_eq!(
            arp.to_packet().try_eth_ipv4().unwrap(),
            ArpEthIpv4Packet {
                operation: ArpOperation::REPLY,
                sender_mac: veth_mac(asker()),
                sender_ipv4: GATEWAY,
                target_mac: pod_mac(asker()),
                target_ipv4: asker(),
            }
        );
    }
}

#[test]
fn nothing_but_a_question_for_a_gateway_is_answered() {
    let good = || question(GATEWAY);
    for (what, arp) in [
        (
            "a probe whether the gateway's address is taken",
            ArpEthIpv4Packet {
                sender_ipv4: [0; 4],
                ..good()
            },
        ),
        (
            "a probe whether its own address is taken",
            ArpEthIpv4Packet {
                sender_ipv4: [0; 4],
                ..question(asker())
            },
        ),
        ("an announcement of its own address", question(asker())),
        (
            "an announcement of the gateway's address",
            ArpEthIpv4Packet {
                sender_ipv4: GATEWAY,
                ..good()
            },
        ),
        ("another pod", question(pod(Mode::Vxlan, HERE, SECOND))),
        ("a remote pod", question(pod(Mode::Vxlan, THERE, FIRST))),
        ("the node", question(node(HERE))),
        ("the gateway's neighbour", question([169, 254, 1, 3])),
        ("no address, which empty places hold", question([0; 4])),
        (
            "a reply",
            ArpEthIpv4Packet {
                operation: ArpOperation::REPLY,
                ..good()
            },
        ),
        (
            "a reverse request",
            ArpEthIpv4Packet {
                operation: ArpOperation(3),
                ..good()
            },
        ),
        (
            "a question from many",
            ArpEthIpv4Packet {
                sender_mac: BROADCAST,
                ..good()
            },
        ),
    ] {
        let frame = arp_frame(BROADCAST, &arp);
        assert_eq!(
            verdict(&frame),
            Verdict::Leave(Reason::ArpOther, 0),
            "{what}"
        );
    }
}

#[test]
fn arp_for_other_networks_is_not_answered() {
    let good = || arp_frame(BROADCAST, &question(GATEWAY));
    let infiniband = ArpHardwareId(32).0.to_be_bytes();
    for (what, frame) in [
        ("other hardware", good().with(14, &infiniband)),
        ("another protocol", good().with(16, &[0x86, 0xdd])),
        ("hardware addresses of 8 bytes", good().with(18, &[8])),
        ("protocol addresses of 16 bytes", good().with(19, &[16])),
    ] {
        assert_eq!(
            verdict(&frame),
            Verdict::Leave(Reason::ArpOther, 0),
            "{what}"
        );
    }
}

#[test]
fn a_question_that_is_cut_off_is_not_answered() {
    let good = arp_frame(BROADCAST, &question(GATEWAY));
    for length in 0..42 {
        let reason = if length < 14 {
            Reason::Malformed
        } else {
            Reason::ArpOther
        };
        let frame = good.clone().truncated(length);
        assert_eq!(verdict(&frame), Verdict::Leave(reason, 0), "{length} bytes");
    }
}

#[test]
fn a_question_that_cannot_be_answered_is_the_stacks() {
    let frame = arp_frame(BROADCAST, &question(GATEWAY));

    let elsewhere = Program::Workload(99).decide(&frame, &*TABLES);
    assert_eq!(elsewhere, Verdict::Leave(Reason::ArpOther, 0));

    let empty = MemoryTables::default();
    let unconfigured = Program::Workload(veth(asker())).decide(&frame, &empty);
    assert_eq!(unconfigured, Verdict::Leave(Reason::NoConfig, 0));

    let tagged = MemoryPacket {
        vlan_tag: true,
        ..frame
    };
    assert_eq!(verdict(&tagged), Verdict::Leave(Reason::VlanTag, 0));
}

#[test]
fn the_wire_and_the_stack_are_not_answered() {
    let frame = arp_frame(BROADCAST, &question(GATEWAY));
    let tables = tables(HERE);
    for program in [Program::Uplink, Program::Stack] {
        assert_eq!(
            program.decide(&frame, &tables),
            Verdict::Leave(Reason::NotIpv4, 0)
        );
    }
}

//! A packet from a pod on one node to a pod on another, each step fed with the bytes of the last.

use dataplane_common::{
    abi::Addr,
    decide::{Origin, Verdict},
    memory::{MemoryPacket, MemoryTables, carry_out},
    reason::Reason,
};
use etherparse::{EtherType, Ethernet2Header};

use crate::{
    frames::{Ip, Tamper},
    programs::Program,
    world::{
        FIRST, HERE, Mode, SECOND, THERE, next_hop, pod, pod_mac, tables, tunnel_address, veth,
        veth_mac, vtep_mac,
    },
};

/// What a program makes of a frame, and as what it counts it.
fn step(program: Program, tables: &MemoryTables, frame: &MemoryPacket) -> (Reason, MemoryPacket) {
    let verdict = program.decide(frame, tables);
    let mut frame = frame.clone();
    let outcome = carry_out(&mut frame, tables, &verdict);
    (outcome.reason, frame)
}

/// What the wire makes of a frame: its link layer is the neighbour subsystem's affair.
fn wire(frame: &MemoryPacket) -> MemoryPacket {
    MemoryPacket {
        bytes: [&[0x02; 12][..], &[0x08, 0x00], &frame.bytes[14..]].concat(),
        ..frame.clone()
    }
}

/// The frame that the kernel's own routing would give to the pod `to`.
fn frame_for(to: Addr, ip: &Ip, ttl: u8) -> Vec<u8> {
    let ethernet = Ethernet2Header {
        destination: pod_mac(to),
        source: veth_mac(to),
        ether_type: EtherType::IPV4,
    };
    let packet = ip.clone().ttl(ttl).packet();
    [&ethernet.to_bytes()[..], &packet].concat()
}

#[test]
fn a_pods_packet_reaches_a_pod_on_another_node_as_if_both_had_routed_it() {
    let (here, there) = (tables(HERE), tables(THERE));
    for mode in Mode::ALL {
        let (client, server) = (pod(mode, HERE, FIRST), pod(mode, THERE, SECOND));
        for (from, to, from_tables, to_tables) in [
            (client, server, &here, &there),
            (server, client, &there, &here),
        ] {
            let base = || Ip::new(from, to);
            for (ttl, ip) in [
                (64, base()),
                (3, base().ttl(3)),
                (255, base().ttl(255).tos(0xb9).id(0xffff)),
                (64, base().dont_fragment(true).tos(0x03)),
                (64, base().payload(1, &[])),
                (64, base().payload(1, &[8])),
                (64, base().payload(17, &[1, 2, 3])),
                (64, base().tcp(40, 0)),
                (64, base().of_length(1449)),
                (64, base().of_length(1450)),
            ] {
                let sender = Program::Workload(veth(from));
                let (reason, sent) = step(sender, from_tables, &ip.frame());
                assert_eq!(reason, mode.sent());
                let (reason, arrived) = step(Program::Uplink, to_tables, &wire(&sent));
                assert_eq!(reason, mode.received());
                assert_eq!(arrived.bytes, frame_for(to, &ip, ttl - 2), "{mode:?}");
            }
        }
    }
}

#[test]
fn an_aggregate_arrives_whole() {
    let (here, there) = (tables(HERE), tables(THERE));
    for mode in Mode::ALL {
        let (from, to) = (pod(mode, HERE, FIRST), pod(mode, THERE, FIRST));
        let ip = Ip::new(from, to).tcp(32, 60_000);
        let frame = ip.frame().of_segments(1398);
        let (_, sent) = step(Program::Workload(veth(from)), &here, &frame);
        let (reason, arrived) = step(Program::Uplink, &there, &wire(&sent));
        assert_eq!(reason, mode.received());
        assert_eq!(arrived.bytes, frame_for(to, &ip, 62));
    }
}

#[test]
fn the_hosts_packet_reaches_a_remote_pod_and_the_answer_comes_back_to_the_host() {
    let (here, there) = (tables(HERE), tables(THERE));
    for mode in [Mode::Ipip, Mode::Vxlan] {
        let (host, server) = (tunnel_address(HERE), pod(mode, THERE, FIRST));
        let question = Ip::new(host, server);
        let (reason, sent) = step(Program::Stack, &here, &question.frame());
        assert_eq!(reason, mode.sent());
        let (reason, arrived) = step(Program::Uplink, &there, &wire(&sent));
        assert_eq!(reason, mode.received());
        // Counted down once: the host is the origin.
        assert_eq!(arrived.bytes, frame_for(server, &question, 63), "{mode:?}");

        let answer = Ip::new(server, host);
        let program = Program::Workload(veth(server));
        let (reason, sent) = step(program, &there, &answer.frame());
        // The host's tunnel address is in the VXLAN pool, whatever pool the pod is in.
        assert_eq!(reason, Reason::SentVxlan);
        let (reason, injected) = step(Program::Uplink, &here, &wire(&sent));
        assert_eq!(reason, Reason::ForHost);
        let ethernet = Ethernet2Header {
            destination: vtep_mac(HERE),
            source: vtep_mac(HERE),
            ether_type: EtherType::IPV4,
        };
        let packet = answer.ttl(63).packet();
        assert_eq!(injected.bytes, [&ethernet.to_bytes()[..], &packet].concat());
        let (reason, accepted) = step(Program::Carrier(Origin::Program), &here, &injected);
        assert_eq!(reason, Reason::Accepted);
        assert_eq!(accepted, injected);
    }
}

#[test]
fn a_fragment_from_the_stack_reaches_the_other_stack_untouched() {
    let (here, there) = (tables(HERE), tables(THERE));
    for mode in [Mode::Ipip, Mode::Vxlan] {
        let ip = Ip::new(tunnel_address(HERE), pod(mode, THERE, FIRST)).id(9);
        for fragment in [ip.clone().fragment(0, true), ip.fragment(1, false)] {
            let (_, sent) = step(Program::Stack, &here, &fragment.frame());
            let (reason, injected) = step(Program::Uplink, &there, &wire(&sent));
            assert_eq!(reason, Reason::Fragment);
            assert_eq!(injected.bytes[14..], fragment.packet());
        }
    }
}

#[test]
fn a_traceroutes_second_hop_is_the_other_node() {
    let (here, there) = (tables(HERE), tables(THERE));
    for mode in Mode::ALL {
        let (from, to) = (pod(mode, HERE, FIRST), pod(mode, THERE, FIRST));
        let ip = Ip::new(from, to).ttl(2);
        let (_, sent) = step(Program::Workload(veth(from)), &here, &ip.frame());
        let arrived = wire(&sent);
        let verdict = Program::Uplink.decide(&arrived, &there);
        assert_eq!(verdict.reason(), Reason::TtlExpired);
        // Its stack gets the packet with the TTL that it answers about.
        let (_, left) = step(Program::Uplink, &there, &arrived);
        assert_eq!(left.bytes[14..], ip.ttl(1).packet());
        assert_eq!(
            matches!(verdict, Verdict::Inject(..)),
            mode.tunnel().is_some()
        );
    }
}

/// As while a pod's address moves: each node has heard that it is on the other.
#[test]
fn two_nodes_that_each_take_the_other_for_the_owner_do_not_bounce_a_packet() {
    let (mut here, mut there) = (tables(HERE), tables(THERE));
    for mode in [Mode::Ipip, Mode::Vxlan] {
        let moved = pod(mode, 200, FIRST);
        here.routes.insert((32, moved), next_hop(HERE, mode, THERE));
        there
            .routes
            .insert((32, moved), next_hop(THERE, mode, HERE));
        let from = pod(mode, HERE, FIRST);
        let frame = Ip::new(from, moved).frame();
        let (reason, sent) = step(Program::Workload(veth(from)), &here, &frame);
        assert_eq!(reason, mode.sent());
        let (reason, _) = step(Program::Uplink, &there, &wire(&sent));
        assert_eq!(reason, Reason::ForeignDestination);
    }
}

//! What arrives on the carrier: out of the kernel's VXLAN device, or from the other programs.

use dataplane_common::{
    abi::Addr,
    decide::{Origin, TunnelKey, Verdict},
    memory::{MemoryPacket, MemoryTables},
    reason::Reason,
};

use crate::{
    frames::{IP, Ip, Tamper, frame_of},
    programs::Program,
    world::{
        ELSEWHERE, FIRST, HERE, Mode, NOWHERE, OUTSIDE, SECOND, TABLES, THERE, UNRESOLVED, VNI,
        node, pod, tunnel_address,
    },
};

/// The tunnel of the other node.
const KEY: TunnelKey = TunnelKey {
    remote: [192, 168, 0, THERE],
    vni: VNI,
    local: None,
    cut_up: false,
};

fn judged_by(key: TunnelKey, frame: &MemoryPacket) -> Reason {
    match Program::Carrier(Origin::Tunnel(key)).decide(frame, &*TABLES) {
        Verdict::Leave(reason, 0) => reason,
        other => panic!("not left: {other:?}"),
    }
}

fn judged(ip: &Ip) -> Reason {
    judged_by(KEY, &ip.frame())
}

fn good() -> Ip {
    Ip::new(
        pod(Mode::Vxlan, THERE, FIRST),
        pod(Mode::Vxlan, HERE, FIRST),
    )
}

#[test]
fn what_from_uplink_injected_is_accepted_unseen() {
    for frame in [
        good().frame(),
        Ip::new(OUTSIDE, OUTSIDE).frame(),
        MemoryPacket::new(Vec::new()),
    ] {
        for tables in [&*TABLES, &MemoryTables::default()] {
            assert_eq!(
                Program::Carrier(Origin::Program).decide(&frame, tables),
                Verdict::Leave(Reason::Accepted, 0)
            );
        }
    }
}

#[test]
fn a_peers_packets_for_this_node_are_accepted_as_the_stack_will_have_to_treat_them() {
    let from = pod(Mode::Vxlan, THERE, FIRST);
    for ip in [
        good(),
        Ip::new(node(THERE), pod(Mode::Ipip, HERE, SECOND)),
        Ip::new(tunnel_address(THERE), tunnel_address(HERE)),
        Ip::new(from, node(HERE)),
        Ip::new(from, pod(Mode::Vxlan, HERE, UNRESOLVED)),
        Ip::new(from, pod(Mode::Vxlan, HERE, 99)),
        good().ttl(1),
        good().options(&[1, 1, 1, 0]),
        good().fragment(0, true),
        good().fragment(185, false),
        good().of_length(9000),
    ] {
        assert_eq!(judged(&ip), Reason::Accepted);
    }
    assert_eq!(judged_by(KEY, &good().frame().padded(10)), Reason::Accepted);
}

/// By way of this node's own address, with the mark that no socket can set.
#[test]
fn what_the_carrier_has_cut_up_goes_where_it_was_to_go() {
    let back = TunnelKey {
        remote: node(HERE),
        cut_up: true,
        ..KEY
    };
    let from = pod(Mode::Vxlan, HERE, FIRST);
    let reason = |key, mode: Mode| {
        let frame = Ip::new(from, pod(mode, THERE, FIRST)).frame();
        let verdict = Program::Carrier(Origin::Tunnel(key)).decide(&frame, &*TABLES);
        verdict.reason()
    };
    assert_eq!(reason(back, Mode::Ipip), Reason::SentIpip);
    assert_eq!(reason(back, Mode::Vxlan), Reason::SentVxlan);

    let unmarked = TunnelKey {
        cut_up: false,
        ..back
    };
    assert_eq!(reason(unmarked, Mode::Ipip), Reason::UnknownPeer);
    let from_a_peer = TunnelKey {
        remote: node(THERE),
        ..back
    };
    assert_eq!(reason(from_a_peer, Mode::Ipip), Reason::ForeignSource);
    let nowhere = Ip::new(from, NOWHERE).frame();
    let verdict = Program::Carrier(Origin::Tunnel(back)).decide(&nowhere, &*TABLES);
    assert_eq!(verdict, Verdict::Leave(Reason::UnknownPeer, 0));
}

#[test]
fn nothing_comes_out_of_a_tunnel_before_there_is_something_to_judge_it_by() {
    let empty = MemoryTables::default();
    let verdict = Program::Carrier(Origin::Tunnel(KEY)).decide(&good().frame(), &empty);
    assert_eq!(verdict, Verdict::Leave(Reason::WrongNetwork, 0));
}

#[test]
fn other_networks_and_strangers_are_dropped() {
    let frame = good().frame();
    let vni = |vni| judged_by(TunnelKey { vni, ..KEY }, &frame);
    assert_eq!(vni(VNI + 1), Reason::WrongNetwork);
    assert_eq!(vni(0), Reason::WrongNetwork);

    let remote = |remote: Addr| judged_by(TunnelKey { remote, ..KEY }, &frame);
    assert_eq!(remote(OUTSIDE), Reason::UnknownPeer);
    assert_eq!(remote(node(HERE)), Reason::UnknownPeer);
    assert_eq!(remote([0; 4]), Reason::UnknownPeer);
    // A node, but not the one whose pod it is.
    assert_eq!(remote(node(ELSEWHERE)), Reason::ForeignSource);
}

#[test]
fn a_peer_is_held_to_its_own_addresses_and_ours() {
    let to = pod(Mode::Vxlan, HERE, FIRST);
    for source in [
        to,
        pod(Mode::Vxlan, HERE, SECOND),
        pod(Mode::Vxlan, ELSEWHERE, FIRST),
        node(ELSEWHERE),
        node(HERE),
        OUTSIDE,
        NOWHERE,
    ] {
        let reason = judged(&Ip::new(source, to));
        assert_eq!(reason, Reason::ForeignSource, "{source:?}");
    }
    let from = pod(Mode::Vxlan, THERE, FIRST);
    for destination in [
        pod(Mode::Vxlan, ELSEWHERE, FIRST),
        pod(Mode::Vxlan, THERE, SECOND),
        node(THERE),
        OUTSIDE,
        NOWHERE,
    ] {
        let reason = judged(&Ip::new(from, destination));
        assert_eq!(reason, Reason::ForeignDestination, "{destination:?}");
    }
    for martian in [[127, 0, 0, 1], [224, 0, 0, 1], [255; 4], [0; 4]] {
        for inner in [Ip::new(martian, to), Ip::new(from, martian)] {
            assert_eq!(judged(&inner), Reason::Martian, "{martian:?}");
        }
    }
}

#[test]
fn frames_that_cannot_be_judged_are_dropped() {
    let frame = || good().frame();
    for (what, frame) in [
        ("version 6", frame().with_ip(IP, 0, &[0x65])),
        ("ihl 4", frame().with_ip(IP, 0, &[0x44])),
        ("too long", frame().with_ip(IP, 2, &[0, 37])),
        ("too short", frame().with_ip(IP, 2, &[0, 19])),
        ("no IP header", frame().truncated(IP)),
    ] {
        assert_eq!(judged_by(KEY, &frame), Reason::InnerMalformed, "{what}");
    }
    for (what, frame) in [
        ("IPv6", frame_of(0x86dd, &good().packet())),
        ("ARP", frame_of(0x0806, &[0; 28])),
        ("VLAN", frame_of(0x8100, &good().packet())),
        (
            "offloaded VLAN tag",
            MemoryPacket {
                vlan_tag: true,
                ..frame()
            },
        ),
        ("nothing", frame().truncated(0)),
    ] {
        assert_eq!(judged_by(KEY, &frame), Reason::NotInner, "{what}");
    }
}

#[test]
fn what_came_out_of_another_kind_of_tunnel_is_dropped() {
    let verdict = Program::Carrier(Origin::Foreign).decide(&good().frame(), &*TABLES);
    assert_eq!(verdict, Verdict::Leave(Reason::WrongNetwork, 0));
}

//! What the wire brings.

use dataplane_common::{
    abi::{Addr, Endpoint},
    decide::{Arrival, Decap, Verdict},
    memory::{MemoryPacket, MemoryTables},
    packet::Tunnel,
    reason::Reason,
};

use crate::{
    frames::{IP, IPIP_INNER, Ip, PAYLOAD, Tamper, VXLAN_INNER, Vxlan, frame_of},
    programs::Program,
    world::{
        ELSEWHERE, FIRST, HERE, Mode, NOWHERE, OUTSIDE, POD_MTU, SECOND, TABLES, THERE, UNRESOLVED,
        VNI, endpoint, next_hop, node, pod, tables, tunnel_address, vtep_mac,
    },
};

fn verdict(frame: &MemoryPacket) -> Verdict<'static> {
    Program::Uplink.decide(frame, &*TABLES)
}

#[track_caller]
fn assert_left(what: &str, frame: &MemoryPacket, reason: Reason) {
    assert_eq!(verdict(frame), Verdict::Leave(reason, 0), "{what}");
}

/// From the first pod there to the first pod here: the packet that each test varies.
fn to_pod(mode: Mode) -> Ip {
    Ip::new(pod(mode, THERE, FIRST), pod(mode, HERE, FIRST))
}

/// The header that the other node puts before a packet for this one.
fn outer() -> Ip {
    Ip::new(node(THERE), node(HERE))
}

/// `inner` as the other node sends it in a tunnel.
fn tunnelled(tunnel: Tunnel, inner: &Ip) -> MemoryPacket {
    tunnelled_by(tunnel, outer(), inner)
}

fn tunnelled_by(tunnel: Tunnel, outer: Ip, inner: &Ip) -> MemoryPacket {
    match tunnel {
        Tunnel::Ipip => outer.ipip(&inner.packet()).frame(),
        Tunnel::Vxlan => Vxlan {
            outer,
            ..Vxlan::new(THERE, HERE, inner)
        }
        .frame(),
    }
}

const TUNNELS: [Tunnel; 2] = [Tunnel::Ipip, Tunnel::Vxlan];

fn inner_offset(tunnel: Tunnel) -> usize {
    match tunnel {
        Tunnel::Ipip => IPIP_INNER,
        Tunnel::Vxlan => VXLAN_INNER,
    }
}

/// A tunnel's packet to a pod, with this TOS byte.
fn delivered(endpoint: &Endpoint, tunnel: Tunnel, tos: u8) -> Verdict<'_> {
    Verdict::Deliver(endpoint, Arrival::Tunnelled(Decap { tunnel, tos }))
}

fn injected(tunnel: Tunnel, tos: u8, reason: Reason) -> Verdict<'static> {
    Verdict::Inject(Some(Decap { tunnel, tos }), reason, 0)
}

mod direct {
    use super::*;

    fn direct() -> Ip {
        to_pod(Mode::Direct)
    }

    #[test]
    fn packets_of_a_peers_pods_are_delivered_where_the_answer_goes_the_same_way() {
        let verdict_on_direct = verdict(&direct().frame());
        assert_eq!(
            verdict_on_direct,
            Verdict::Deliver(&endpoint(pod(Mode::Direct, HERE, FIRST)), Arrival::Direct)
        );
        assert_eq!(verdict_on_direct.reason(), Reason::ReceivedDirect);
        for mode in [Mode::Ipip, Mode::Vxlan] {
            let frame = to_pod(mode).frame();
            assert_left(&format!("{mode:?}"), &frame, Reason::SourceOutside);
        }
    }

    #[test]
    fn packets_from_outside_the_cluster_are_for_the_stack_to_judge() {
        let to = pod(Mode::Direct, HERE, FIRST);
        for source in [
            OUTSIDE,
            NOWHERE,
            pod(Mode::Direct, HERE, SECOND),
            to,
            node(HERE),
            node(THERE),
            [127, 0, 0, 1],
            [0; 4],
            [224, 0, 0, 1],
        ] {
            let frame = Ip::new(source, to).frame();
            assert_left(&format!("{source:?}"), &frame, Reason::SourceOutside);
        }
    }

    #[test]
    fn what_is_not_for_a_local_pod_is_the_stacks() {
        for destination in [
            OUTSIDE,
            NOWHERE,
            tunnel_address(HERE),
            pod(Mode::Direct, HERE, 99),
            pod(Mode::Direct, THERE, SECOND),
            pod(Mode::Direct, ELSEWHERE, FIRST),
            node(THERE),
            [224, 0, 0, 1],
            [255; 4],
        ] {
            let frame = Ip::new(pod(Mode::Direct, THERE, FIRST), destination).frame();
            assert_left(&format!("{destination:?}"), &frame, Reason::NotForPod);
        }
    }

    #[test]
    fn what_takes_a_routers_judgement_goes_to_the_stack() {
        let frame = || direct().frame();
        let unresolved = Ip::new(
            pod(Mode::Direct, THERE, FIRST),
            pod(Mode::Direct, HERE, UNRESOLVED),
        );
        for (what, frame, reason) in [
            ("TTL 1", direct().ttl(1).frame(), Reason::TtlExpired),
            ("TTL 0", direct().ttl(0).frame(), Reason::TtlExpired),
            (
                "options",
                direct().options(&[1, 1, 1, 0]).frame(),
                Reason::Options,
            ),
            (
                "first fragment",
                direct().fragment(0, true).frame(),
                Reason::Fragment,
            ),
            (
                "last fragment",
                direct().fragment(185, false).frame(),
                Reason::Fragment,
            ),
            (
                "wrong checksum",
                frame().with(IP + 10, &[0, 0]),
                Reason::HeaderChecksum,
            ),
            ("unresolved", unresolved.frame(), Reason::Unresolved),
            (
                "too big",
                direct().of_length(POD_MTU + 1).frame(),
                Reason::TooBig,
            ),
            (
                "beyond the frame",
                frame().with_ip(IP, 2, &[0, 37]),
                Reason::Malformed,
            ),
            (
                "version 6",
                frame().with_ip(IP, 0, &[0x65]),
                Reason::Malformed,
            ),
            ("ihl 4", frame().with_ip(IP, 0, &[0x44]), Reason::Malformed),
        ] {
            assert_left(what, &frame, reason);
        }
        let tables = MemoryTables {
            gone: [crate::world::veth(pod(Mode::Direct, HERE, FIRST))].into(),
            ..TABLES.clone()
        };
        let verdict_of_gone = Program::Uplink.decide(&frame(), &tables);
        assert_eq!(verdict_of_gone, Verdict::Leave(Reason::InterfaceGone, 0));
        let fits = direct().of_length(POD_MTU).frame();
        assert_eq!(verdict(&fits).reason(), Reason::ReceivedDirect);
        let padded = direct().frame().padded(10);
        assert_eq!(verdict(&padded).reason(), Reason::ReceivedDirect);
    }

    #[test]
    fn an_aggregate_is_delivered_if_its_segments_fit() {
        let frame = direct().tcp(32, 30_000).frame();
        let room = u32::from(POD_MTU) - 20 - 32;
        let fits = frame.clone().of_segments(room);
        assert_eq!(verdict(&fits).reason(), Reason::ReceivedDirect);
        assert_left("", &frame.of_segments(room + 1), Reason::TooBig);
    }
}

#[test]
fn frames_that_are_not_plain_ipv4_for_this_host_are_left_alone() {
    let kinds = Mode::ALL.map(|mode| match mode.tunnel() {
        None => to_pod(mode).frame(),
        Some(tunnel) => tunnelled(tunnel, &to_pod(mode)),
    });
    for frame in kinds {
        assert_left(
            "IPv6",
            &frame_of(0x86dd, &frame.bytes[IP..]),
            Reason::NotIpv4,
        );
        assert_left(
            "VLAN",
            &frame_of(0x8100, &frame.bytes[IP..]),
            Reason::NotIpv4,
        );
        let tagged = MemoryPacket {
            vlan_tag: true,
            ..frame.clone()
        };
        assert_left("offloaded VLAN tag", &tagged, Reason::VlanTag);
        let to_another = MemoryPacket {
            to_interface: false,
            ..frame.clone()
        };
        assert_left("to another", &to_another, Reason::OtherHost);
        let empty = MemoryTables::default();
        let verdict = Program::Uplink.decide(&frame, &empty);
        assert_eq!(verdict, Verdict::Leave(Reason::NoConfig, 0));
    }
}

#[test]
fn what_else_comes_for_the_node_is_the_stacks() {
    for (what, ip) in [
        ("ICMP", outer().payload(1, &[8, 0, 0xf7, 0xff, 0, 0, 0, 0])),
        ("TCP", outer().tcp(20, 0)),
        ("UDP", outer()),
        ("a UDP header cut short", outer().payload(17, &[0; 7])),
        ("IPv6 in IP", outer().payload(41, &[0x60; 40])),
        ("GRE", outer().payload(47, &[0; 40])),
    ] {
        assert_left(what, &ip.frame(), Reason::NotForPod);
    }
    let to_pod = to_pod(Mode::Vxlan);
    let other_port = Vxlan {
        port: 8472,
        ..Vxlan::new(THERE, HERE, &to_pod)
    };
    assert_left("VXLAN elsewhere", &other_port.frame(), Reason::NotForPod);
    // A tunnel that ends elsewhere is not opened, even if a pod is its end.
    for tunnel in TUNNELS {
        let to_third = Ip::new(node(THERE), node(ELSEWHERE));
        let frame = tunnelled_by(tunnel, to_third, &to_pod);
        assert_left("to a third node", &frame, Reason::NotForPod);
    }
}

#[test]
fn a_tunnel_delivers_to_pods_whatever_the_mode_of_their_pool() {
    for tunnel in TUNNELS {
        for mode in Mode::ALL {
            for number in [FIRST, SECOND] {
                let to = pod(mode, HERE, number);
                let inner = Ip::new(pod(mode, THERE, FIRST), to).tos(0xb8);
                assert_eq!(
                    verdict(&tunnelled(tunnel, &inner)),
                    delivered(&endpoint(to), tunnel, 0xb8),
                    "{tunnel:?} {mode:?}"
                );
            }
        }
    }
    let reason = |tunnel| verdict(&tunnelled(tunnel, &to_pod(Mode::Vxlan))).reason();
    assert_eq!(reason(Tunnel::Ipip), Reason::ReceivedIpip);
    assert_eq!(reason(Tunnel::Vxlan), Reason::ReceivedVxlan);
}

#[test]
fn a_tunnels_packet_for_the_node_itself_goes_to_its_stack() {
    for tunnel in TUNNELS {
        for destination in [
            tunnel_address(HERE),
            node(HERE),
            // A pod whose route has not been seen yet.
            pod(Mode::Vxlan, HERE, 99),
        ] {
            let inner = Ip::new(pod(Mode::Vxlan, THERE, FIRST), destination).tos(0x08);
            assert_eq!(
                verdict(&tunnelled(tunnel, &inner)),
                injected(tunnel, 0x08, Reason::ForHost),
                "{tunnel:?} to {destination:?}"
            );
        }
    }
}

#[test]
fn only_a_peers_tunnel_is_opened() {
    for tunnel in TUNNELS {
        for source in [OUTSIDE, node(HERE), node(99), tunnel_address(THERE), [0; 4]] {
            let outer = Ip::new(source, node(HERE));
            let frame = tunnelled_by(tunnel, outer, &to_pod(Mode::Vxlan));
            assert_left(&format!("{source:?}"), &frame, Reason::UnknownPeer);
        }
    }
}

#[test]
fn a_peer_may_send_from_its_pods_its_tunnel_address_and_itself() {
    let to = pod(Mode::Vxlan, HERE, FIRST);
    for tunnel in TUNNELS {
        for source in [
            pod(Mode::Direct, THERE, FIRST),
            pod(Mode::Ipip, THERE, SECOND),
            pod(Mode::Vxlan, THERE, 255),
            tunnel_address(THERE),
            node(THERE),
        ] {
            assert_eq!(
                verdict(&tunnelled(tunnel, &Ip::new(source, to))),
                delivered(&endpoint(to), tunnel, 0),
                "{source:?}"
            );
        }
    }
}

#[test]
fn a_peer_may_not_send_from_anybody_else() {
    for tunnel in TUNNELS {
        for destination in [pod(Mode::Vxlan, HERE, FIRST), node(HERE), OUTSIDE] {
            for source in [
                pod(Mode::Vxlan, ELSEWHERE, FIRST),
                node(ELSEWHERE),
                tunnel_address(ELSEWHERE),
                pod(Mode::Vxlan, HERE, SECOND),
                pod(Mode::Vxlan, HERE, FIRST),
                tunnel_address(HERE),
                node(HERE),
                OUTSIDE,
                NOWHERE,
            ] {
                for inner in [
                    Ip::new(source, destination),
                    Ip::new(source, destination).options(&[1, 1, 1, 0]),
                    Ip::new(source, destination).fragment(185, false),
                    Ip::new(source, destination).ttl(1),
                ] {
                    let frame = tunnelled(tunnel, &inner);
                    assert_left(&format!("{source:?}"), &frame, Reason::ForeignSource);
                }
            }
        }
    }
}

#[test]
fn a_borrowed_address_belongs_to_the_node_that_has_it() {
    let borrowed = pod(Mode::Vxlan, THERE, 77);
    let mut tables = tables(HERE);
    let hop = next_hop(HERE, Mode::Vxlan, ELSEWHERE);
    tables.routes.insert((32, borrowed), hop);
    let inner = Ip::new(borrowed, pod(Mode::Vxlan, HERE, FIRST));
    for tunnel in TUNNELS {
        let reason = |from| {
            let outer = Ip::new(node(from), node(HERE));
            let frame = tunnelled_by(tunnel, outer, &inner);
            Program::Uplink.decide(&frame, &tables).reason()
        };
        assert_eq!(reason(THERE), Reason::ForeignSource);
        assert_ne!(reason(ELSEWHERE), Reason::ForeignSource);
    }
}

#[test]
fn a_tunnel_leads_to_this_node_only() {
    for tunnel in TUNNELS {
        for destination in [
            pod(Mode::Vxlan, ELSEWHERE, FIRST),
            pod(Mode::Vxlan, THERE, SECOND),
            node(ELSEWHERE),
            NOWHERE,
            OUTSIDE,
        ] {
            let inner = Ip::new(pod(Mode::Vxlan, THERE, FIRST), destination);
            let frame = tunnelled(tunnel, &inner);
            assert_left(
                &format!("{destination:?}"),
                &frame,
                Reason::ForeignDestination,
            );
        }
    }
}

#[test]
fn what_no_host_has_is_neither_source_nor_destination() {
    let (from, to) = (
        pod(Mode::Vxlan, THERE, FIRST),
        pod(Mode::Vxlan, HERE, FIRST),
    );
    for martian in [
        [0; 4],
        [0, 255, 255, 255],
        [127, 0, 0, 1],
        [127, 255, 255, 255],
        [224, 0, 0, 1],
        [240, 0, 0, 1],
        [255; 4],
    ] {
        for inner in [Ip::new(martian, to), Ip::new(from, martian)] {
            for tunnel in TUNNELS {
                let frame = tunnelled(tunnel, &inner);
                assert_left(&format!("{martian:?}"), &frame, Reason::Martian);
            }
        }
    }
}

#[test]
fn an_outer_header_that_is_not_plain_leaves_the_tunnel_to_the_kernel() {
    for tunnel in TUNNELS {
        let of = |outer: Ip| tunnelled_by(tunnel, outer, &to_pod(Mode::Vxlan));
        let good = || of(outer());
        for (what, frame, reason) in [
            (
                "options",
                of(outer().options(&[1, 1, 1, 0])),
                Reason::Options,
            ),
            (
                "first fragment",
                of(outer().fragment(0, true)),
                Reason::Fragment,
            ),
            (
                "last fragment",
                of(outer().fragment(185, false)),
                Reason::Fragment,
            ),
            (
                "wrong checksum",
                good().with(IP + 10, &[0, 0]),
                Reason::HeaderChecksum,
            ),
            (
                "version 6",
                good().with_ip(IP, 0, &[0x65]),
                Reason::Malformed,
            ),
            ("ihl 4", good().with_ip(IP, 0, &[0x44]), Reason::Malformed),
            (
                "length below the header's",
                good().with_ip(IP, 2, &[0, 19]),
                Reason::Malformed,
            ),
            (
                "length beyond the frame",
                good().with_ip(IP, 2, &[0x05, 0xdc]),
                Reason::Malformed,
            ),
        ] {
            assert_left(&format!("{tunnel:?}, {what}"), &frame, reason);
        }
        // What the last node left of its TTL does not matter, and padding is no part of it.
        for frame in [of(outer().ttl(1)), of(outer().ttl(0)), good().padded(10)] {
            let to = endpoint(pod(Mode::Vxlan, HERE, FIRST));
            assert_eq!(verdict(&frame), delivered(&to, tunnel, 0));
        }
    }
}

/// RFC 6040, figure 4: inner ECN by outer ECN; `None` drops.
#[test]
fn congestion_on_the_way_is_told_to_the_pod() {
    const DSCP: u8 = 0xb8;
    let table: [[Option<u8>; 4]; 4] = [
        // Outer Not-ECT, ECT(1), ECT(0), CE.
        [Some(0), Some(0), Some(0), None],
        [Some(1), Some(1), Some(1), Some(3)],
        [Some(2), Some(1), Some(2), Some(3)],
        [Some(3), Some(3), Some(3), Some(3)],
    ];
    for tunnel in TUNNELS {
        for (inner_ecn, row) in (0..).zip(table) {
            for (outer_ecn, expected) in (0..).zip(row) {
                let outer = outer().tos(outer_ecn);
                let inner = to_pod(Mode::Vxlan).tos(DSCP | inner_ecn);
                let to = endpoint(pod(Mode::Vxlan, HERE, FIRST));
                let expected = match expected {
                    Some(ecn) => delivered(&to, tunnel, DSCP | ecn),
                    None => Verdict::Leave(Reason::Congestion, 0),
                };
                let frame = tunnelled_by(tunnel, outer, &inner);
                assert_eq!(verdict(&frame), expected, "{inner_ecn} in {outer_ecn}");
            }
        }
        // The same where the stack gets it.
        let to_host = Ip::new(pod(Mode::Vxlan, THERE, FIRST), node(HERE));
        let marked = |tos| tunnelled_by(tunnel, outer().tos(3), &to_host.clone().tos(tos));
        assert_eq!(verdict(&marked(2)), injected(tunnel, 3, Reason::ForHost));
        assert_left("", &marked(0), Reason::Congestion);
    }
}

/// On kernels that do not forget tunnels, which is what `unforgettable` are.
#[test]
fn many_datagrams_in_one_vxlan_packet_are_the_kernels_receivers() {
    let unforgettable = |tunnel, inner: &Ip, size| MemoryPacket {
        forgets_tunnels: false,
        ..tunnelled(tunnel, inner).of_segments(size)
    };
    let udp = to_pod(Mode::Vxlan).of_length(4000);
    let tcp = to_pod(Mode::Vxlan).tcp(20, 4000);
    let to_host = Ip::new(pod(Mode::Vxlan, THERE, FIRST), node(HERE)).of_length(4000);
    for inner in [&udp, &to_host] {
        let frame = unforgettable(Tunnel::Vxlan, inner, 1000);
        assert_left("UDP", &frame, Reason::UdpAggregate);
    }

    let to = endpoint(pod(Mode::Vxlan, HERE, FIRST));
    for (tunnel, inner) in [
        (Tunnel::Ipip, &udp),
        (Tunnel::Ipip, &tcp),
        (Tunnel::Vxlan, &tcp),
    ] {
        let frame = unforgettable(tunnel, inner, 1000);
        assert_eq!(verdict(&frame), delivered(&to, tunnel, 0));
    }
    let one = to_pod(Mode::Vxlan).of_length(1000);
    let frame = unforgettable(Tunnel::Vxlan, &one, 0);
    assert_eq!(verdict(&frame), delivered(&to, Tunnel::Vxlan, 0));
    let forgettable = tunnelled(Tunnel::Vxlan, &udp).of_segments(1000);
    assert_eq!(verdict(&forgettable), delivered(&to, Tunnel::Vxlan, 0));
}

/// The pod's side of the stack answers, reassembles, or asks for the pod's address.
#[test]
fn an_inner_packet_that_takes_a_routers_judgement_goes_out_of_the_tunnel_to_the_stack() {
    let inner = || to_pod(Mode::Vxlan).tos(0x2a);
    let unresolved = Ip::new(
        pod(Mode::Vxlan, THERE, FIRST),
        pod(Mode::Vxlan, HERE, UNRESOLVED),
    );
    for tunnel in TUNNELS {
        for (inner, reason) in [
            (inner().ttl(1), Reason::TtlExpired),
            (inner().ttl(0), Reason::TtlExpired),
            (inner().fragment(0, true), Reason::Fragment),
            (inner().fragment(4, true), Reason::Fragment),
            (inner().fragment(185, false), Reason::Fragment),
            (inner().options(&[7; 8]), Reason::Options),
            (inner().of_length(POD_MTU + 1), Reason::TooBig),
            (unresolved.clone().tos(0x2a), Reason::Unresolved),
        ] {
            assert_eq!(
                verdict(&tunnelled(tunnel, &inner)),
                injected(tunnel, 0x2a, reason),
                "{tunnel:?}"
            );
        }
        let at = inner_offset(tunnel);
        let frame = tunnelled(tunnel, &inner()).with(at + 10, &[0, 0]);
        assert_eq!(
            verdict(&frame),
            injected(tunnel, 0x2a, Reason::HeaderChecksum)
        );
        let sctp = inner().payload(132, &[0; 3000]);
        let frame = tunnelled(tunnel, &sctp).of_segments(1000);
        assert_eq!(
            verdict(&frame),
            injected(tunnel, 0x2a, Reason::UnsupportedGso)
        );
    }
}

#[test]
fn an_inner_header_that_contradicts_itself_or_the_outer_one_is_dropped() {
    for tunnel in TUNNELS {
        let inner = inner_offset(tunnel);
        let good = || tunnelled(tunnel, &to_pod(Mode::Vxlan));
        for (what, frame) in [
            ("version 6", good().with_ip(inner, 0, &[0x65])),
            ("ihl 4", good().with_ip(inner, 0, &[0x44])),
            ("a length of 0", good().with_ip(inner, 2, &[0, 0])),
            (
                "a length below the header",
                good().with_ip(inner, 2, &[0, 19]),
            ),
            ("longer than the frame", good().with_ip(inner, 2, &[0, 37])),
            (
                "longer than the outer packet, though not than the frame",
                good().with_ip(inner, 2, &[0, 37]).padded(10),
            ),
        ] {
            let what = format!("{tunnel:?}, {what}");
            assert_left(&what, &frame, Reason::InnerMalformed);
        }
        // Shorter is allowed: what follows is nobody's.
        let mut shorter = good().with_ip(inner, 2, &[0, 35]);
        let to = endpoint(pod(Mode::Vxlan, HERE, FIRST));
        assert_eq!(verdict(&shorter), delivered(&to, tunnel, 0));
        shorter.bytes[inner + 3] ^= 1;
        assert_eq!(
            verdict(&shorter),
            injected(tunnel, 0, Reason::HeaderChecksum)
        );
    }
    // Nothing in it, or not enough for a header.
    for length in 0..20 {
        let packet = to_pod(Mode::Ipip).packet();
        let frame = outer().ipip(&packet[..length]).frame();
        for padding in [0, 60] {
            let frame = frame.clone().padded(padding);
            assert_left("cut short", &frame, Reason::InnerMalformed);
        }
    }
}

#[test]
fn an_aggregate_out_of_a_tunnel_is_delivered_if_its_segments_fit() {
    for tunnel in TUNNELS {
        let inner = to_pod(Mode::Vxlan).tcp(32, 30_000);
        let room = u32::from(POD_MTU) - 20 - 32;
        let frame = tunnelled(tunnel, &inner);
        let to = endpoint(pod(Mode::Vxlan, HERE, FIRST));
        assert_eq!(
            verdict(&frame.clone().of_segments(room)),
            delivered(&to, tunnel, 0)
        );
        assert_eq!(
            verdict(&frame.of_segments(room + 1)),
            injected(tunnel, 0, Reason::TooBig)
        );
    }
}

/// The depth is one: what is in the inner packet is the pod's business; for the host, it is not
/// opened by the kernel either.
#[test]
fn a_tunnel_in_a_tunnel_is_opened_once() {
    let innermost = to_pod(Mode::Vxlan).packet();
    for tunnel in TUNNELS {
        let to_pod = to_pod(Mode::Vxlan).ipip(&innermost);
        let to = endpoint(pod(Mode::Vxlan, HERE, FIRST));
        assert_eq!(
            verdict(&tunnelled(tunnel, &to_pod)),
            delivered(&to, tunnel, 0)
        );
        let mut vxlan = vec![0; 16];
        vxlan.extend(&innermost);
        let to_tunnel_address = Ip::new(tunnel_address(THERE), tunnel_address(HERE));
        for to_host in [
            outer().ipip(&innermost),
            outer().ipip(&innermost).fragment(0, true),
            outer().ipip(&innermost).fragment(64, false),
            outer().udp(50_000, 4789, &vxlan),
            outer().udp(50_000, 4789, &vxlan).fragment(0, true),
            outer().udp(50_000, 53, &vxlan).options(&[1, 1, 1, 0]),
            to_tunnel_address.udp(50_000, 4789, &vxlan),
        ] {
            let frame = tunnelled(tunnel, &to_host);
            assert_left("to open here", &frame, Reason::NestedTunnel);
        }
        for to_host in [
            outer().udp(50_000, 53, &vxlan),
            // Without the first one it is nothing.
            outer().udp(50_000, 4789, &vxlan).fragment(64, false),
        ] {
            let verdict = verdict(&tunnelled(tunnel, &to_host));
            assert!(matches!(verdict, Verdict::Inject(..)), "{verdict:?}");
        }
    }
}

mod vxlan {
    use super::*;

    fn good() -> Vxlan {
        Vxlan::new(THERE, HERE, &to_pod(Mode::Vxlan))
    }

    fn header(first: u8, reserved: [u8; 3], vni: u32, last: u8) -> [u8; 8] {
        let mut header = [0; 8];
        header[0] = first;
        header[1..4].copy_from_slice(&reserved);
        header[4..7].copy_from_slice(&vni.to_be_bytes()[1..]);
        header[7] = last;
        header
    }

    #[test]
    fn another_network_or_protocol_on_the_port_is_left_to_its_owner() {
        for (what, header) in [
            ("another network", header(0x08, [0; 3], VNI + 1, 0)),
            ("network 0", header(0x08, [0; 3], 0, 0)),
            ("our network, shifted", header(0x08, [0; 3], VNI << 8, 0)),
            ("I flag clear", header(0x00, [0; 3], VNI, 0)),
            ("VXLAN-GPE", header(0x0c, [0, 0, 1], VNI, 0)),
            ("a group policy", header(0x88, [0, 0, 7], VNI, 0)),
            ("a reserved flag", header(0x09, [0; 3], VNI, 0)),
            ("reserved bytes", header(0x08, [1, 0, 0], VNI, 0)),
            ("the last reserved byte", header(0x08, [0; 3], VNI, 1)),
            ("something else", *b"question"),
        ] {
            let frame = Vxlan { header, ..good() }.frame();
            assert_left(what, &frame, Reason::NotOurTunnel);
        }
        let short = outer().udp(50_000, 4789, &[8, 0, 0, 0]).frame();
        assert_left("cut short", &short, Reason::NotOurTunnel);
    }

    #[test]
    fn another_network_is_left_to_its_owner_whoever_sends_it() {
        let frame = Vxlan {
            outer: Ip::new(OUTSIDE, node(HERE)),
            header: header(0x08, [0; 3], VNI + 1, 0),
            ..good()
        };
        assert_left("", &frame.frame(), Reason::NotOurTunnel);
    }

    #[test]
    fn an_outer_checksum_is_believed_only_once_verified() {
        let unverified = Vxlan {
            has_checksum: true,
            ..good()
        }
        .frame();
        assert_ne!(unverified.bytes[PAYLOAD + 6..PAYLOAD + 8], [0, 0]);
        assert_left("unverified", &unverified, Reason::OuterChecksum);

        let verified = MemoryPacket {
            checksum_verified: true,
            ..unverified
        };
        let to = endpoint(pod(Mode::Vxlan, HERE, FIRST));
        assert_eq!(verdict(&verified), delivered(&to, Tunnel::Vxlan, 0));
    }

    /// The kernel's receiver would have to verify it before anything in it can be judged.
    #[test]
    fn an_unverified_checksum_is_the_stacks_whoever_sent_it() {
        let frame = Vxlan {
            outer: Ip::new(OUTSIDE, node(HERE)),
            has_checksum: true,
            ..good()
        };
        assert_left("", &frame.frame(), Reason::OuterChecksum);
    }

    #[test]
    fn the_datagram_is_as_long_as_the_packet_says() {
        let length = |delta: i16| {
            let frame = good().frame();
            let said = [frame.bytes[PAYLOAD + 4], frame.bytes[PAYLOAD + 5]];
            let said = u16::from_be_bytes(said).wrapping_add_signed(delta);
            frame.with(PAYLOAD + 4, &said.to_be_bytes())
        };
        for delta in [-58, -1, 1, 1000] {
            assert_left("", &length(delta), Reason::Malformed);
        }
        assert_eq!(verdict(&length(0)).reason(), Reason::ReceivedVxlan);
    }

    #[test]
    fn frames_that_are_not_ipv4_for_our_vtep_are_left_to_the_kernels_device() {
        for (what, inner_type) in [
            ("IPv6", 0x86dd),
            ("ARP", 0x0806),
            ("VLAN", 0x8100),
            ("service VLAN", 0x88a8),
        ] {
            let frame = Vxlan {
                inner_type,
                ..good()
            };
            assert_left(what, &frame.frame(), Reason::InnerNotIpv4);
        }
        for inner_destination in [vtep_mac(THERE), [0xff; 6], [0x01, 0, 0x5e, 0, 0, 1], [0; 6]] {
            let frame = Vxlan {
                inner_destination,
                ..good()
            };
            assert_left("", &frame.frame(), Reason::InnerOtherHost);
        }
    }

    #[test]
    fn what_ends_before_the_inner_packet_is_never_delivered() {
        let whole = good().frame();
        let payload = &whole.bytes[PAYLOAD + 8..VXLAN_INNER + 20];
        for length in 0..payload.len() {
            let frame = outer().udp(50_000, 4789, &payload[..length]).frame();
            let frame = MemoryPacket {
                checksum_verified: true,
                ..frame
            };
            let reason = match length {
                0..8 => Reason::NotOurTunnel,
                8..22 => Reason::Malformed,
                _ => Reason::InnerMalformed,
            };
            assert_left(&format!("{length} bytes"), &frame, reason);
        }
    }

    #[test]
    fn any_source_port_will_do() {
        for port in [0u16, 1, 4789, 65535] {
            let frame = good().frame().with(PAYLOAD, &port.to_be_bytes());
            assert_eq!(verdict(&frame).reason(), Reason::ReceivedVxlan);
        }
    }
}

/// Addresses as the test names them, for a promise of the fixture: nothing above passes because two
/// of them happen to be one.
#[test]
fn the_addresses_of_the_world_are_distinct() {
    let mut all: Vec<Addr> = vec![OUTSIDE, NOWHERE];
    for n in [HERE, THERE, ELSEWHERE] {
        all.extend([node(n), tunnel_address(n)]);
        for mode in Mode::ALL {
            all.extend([FIRST, SECOND, UNRESOLVED].map(|number| pod(mode, n, number)));
        }
    }
    let count = all.len();
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), count);
}

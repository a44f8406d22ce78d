//! What a pod sends.

use dataplane_common::{
    abi::{Addr, NextHop, flags},
    decide::{Arrival, Send, Verdict},
    memory::{MemoryPacket, MemoryTables},
    parse,
    reason::Reason,
};

use crate::{
    frames::{IP, Ip, Tamper, Vxlan, frame_of},
    programs::Program,
    world::{
        FIRST, HERE, Mode, NOWHERE, OUTSIDE, POD_MTU, SECOND, TABLES, THERE, UNRESOLVED,
        VXLAN_PORT, endpoint, next_hop, node, pod, tables, tunnel_address, veth,
    },
};

/// From the first pod of a pool to the first on the other node: the packet that each test varies.
fn out(mode: Mode) -> Ip {
    Ip::new(pod(mode, HERE, FIRST), pod(mode, THERE, FIRST))
}

/// From the first pod to the second on this node.
fn across() -> Ip {
    Ip::new(
        pod(Mode::Direct, HERE, FIRST),
        pod(Mode::Direct, HERE, SECOND),
    )
}

fn to(destination: Addr) -> Ip {
    Ip::new(pod(Mode::Direct, HERE, FIRST), destination)
}

/// Decides on a frame that comes from the interface of the pod that is its source.
fn verdict_by<'t>(frame: &MemoryPacket, tables: &'t MemoryTables) -> Verdict<'t> {
    let source = frame.bytes[IP + 12..IP + 16].try_into().unwrap();
    Program::Workload(veth(source)).decide(frame, tables)
}

fn verdict(frame: &MemoryPacket) -> Verdict<'static> {
    verdict_by(frame, &TABLES)
}

#[track_caller]
fn assert_left(what: &str, frame: &MemoryPacket, reason: Reason) {
    assert_eq!(verdict(frame), Verdict::Leave(reason, 0), "{what}");
}

/// A way that packets of pods take, beneath the stack.
struct Way {
    name: String,
    /// A packet that takes it.
    ip: Ip,
    /// What it then counts as.
    passes_as: Reason,
    mtu: u16,
}

impl Way {
    fn ip(&self) -> Ip {
        self.ip.clone()
    }

    #[track_caller]
    fn passes(&self, what: &str, frame: &MemoryPacket) {
        let name = &self.name;
        assert_eq!(verdict(frame).reason(), self.passes_as, "{name}, {what}");
    }

    #[track_caller]
    fn leaves(&self, what: &str, frame: &MemoryPacket, reason: Reason) {
        assert_left(&format!("{}, {what}", self.name), frame, reason);
    }
}

/// To another node in each mode, and to a pod on this one.
fn ways() -> impl Iterator<Item = Way> {
    let remote = Mode::ALL.map(|mode| Way {
        name: format!("{mode:?}"),
        ip: out(mode),
        passes_as: mode.sent(),
        mtu: mode.mtu(),
    });
    let local = Way {
        name: "Local".to_owned(),
        ip: across(),
        passes_as: Reason::DeliveredLocal,
        mtu: POD_MTU,
    };
    remote.into_iter().chain([local])
}

#[test]
fn a_pod_reaches_the_pods_of_another_node_in_the_mode_of_their_pool() {
    for mode in Mode::ALL {
        let frame = out(mode).tos(0xb9).id(0x1234).dont_fragment(true).frame();
        let Verdict::Send(send) = verdict(&frame) else {
            panic!("{mode:?} is not sent")
        };
        assert_eq!(
            send,
            Send {
                next_hop: &next_hop(HERE, mode, THERE),
                encap: mode.tunnel(),
                ip: parse::Ipv4 {
                    source: pod(mode, HERE, FIRST),
                    destination: pod(mode, THERE, FIRST),
                    protocol: 17,
                    ttl: 64,
                    tos: 0xb9,
                    id: [0x12, 0x34],
                    total_length: 36,
                    dont_fragment: true,
                    fragment: false,
                    is_later_fragment: false,
                    options: false,
                    checksum_valid: true,
                },
                ports: [0x9c, 0x40, 0, 53],
                forwarded: true,
            }
        );
        assert_eq!(verdict(&frame).reason(), mode.sent());
    }
}

#[test]
fn a_pod_reaches_a_pod_of_another_pool_in_the_mode_of_that_pool() {
    for from in Mode::ALL {
        for to in Mode::ALL {
            let frame = Ip::new(pod(from, HERE, FIRST), pod(to, THERE, SECOND)).frame();
            assert_eq!(verdict(&frame).reason(), to.sent(), "{from:?} to {to:?}");
        }
    }
}

#[test]
fn a_pod_reaches_another_pod_on_its_node() {
    let expected = endpoint(pod(Mode::Direct, HERE, SECOND));
    assert_eq!(
        verdict(&across().frame()),
        Verdict::Deliver(&expected, Arrival::Local)
    );
    assert_eq!(verdict(&across().frame()).reason(), Reason::DeliveredLocal);
}

#[test]
fn a_source_that_is_not_the_pods_own_is_dropped_whatever_else_the_packet_is() {
    let own = pod(Mode::Vxlan, HERE, FIRST);
    for source in [
        pod(Mode::Vxlan, HERE, SECOND),
        pod(Mode::Vxlan, HERE, 99),
        pod(Mode::Vxlan, THERE, FIRST),
        tunnel_address(HERE),
        node(HERE),
        node(THERE),
        OUTSIDE,
        [0; 4],
        [127, 0, 0, 1],
        [224, 0, 0, 1],
        [255; 4],
    ] {
        let to = |destination| Ip::new(source, destination);
        let there = || to(pod(Mode::Vxlan, THERE, FIRST));
        for (what, frame) in [
            ("plain", there().frame()),
            ("to a pod here", to(pod(Mode::Vxlan, HERE, SECOND)).frame()),
            ("to the node", to(node(HERE)).frame()),
            ("to the outside", to(OUTSIDE).frame()),
            ("multicast", to([224, 0, 0, 1]).frame()),
            ("broadcast", to([255; 4]).frame()),
            ("with options", there().options(&[1, 1, 1, 0]).frame()),
            ("first fragment", there().fragment(0, true).frame()),
            ("last fragment", there().fragment(185, false).frame()),
            ("out of TTL", there().ttl(1).frame()),
            ("wrong checksum", there().frame().with(IP + 10, &[0, 0])),
            (
                "to another host",
                MemoryPacket {
                    to_interface: false,
                    ..there().frame()
                },
            ),
            (
                "with a VLAN tag that the kernel took off",
                MemoryPacket {
                    vlan_tag: true,
                    ..there().frame()
                },
            ),
            ("within two VLAN tags", frame_of(0x8100, &there().packet())),
            (
                "within service VLAN tags",
                frame_of(0x88a8, &there().packet()),
            ),
            (
                "longer than its length can say",
                there().frame().with(IP + 2, &[0, 0]).of_segments(1000),
            ),
            ("of another version", there().frame().with(IP, &[0x65])),
            (
                "cut off within its header",
                there().frame().truncated(IP + 19),
            ),
        ] {
            let verdict = Program::Workload(veth(own)).decide(&frame, &*TABLES);
            assert_eq!(
                verdict,
                Verdict::Leave(Reason::SpoofedSource, 0),
                "from {source:?}, {what}"
            );
        }
    }
}

#[test]
fn a_pods_source_is_its_own_on_its_own_interface_only() {
    let frame = out(Mode::Ipip).frame();
    for ifindex in [0, 1, veth(pod(Mode::Ipip, HERE, SECOND))] {
        assert_eq!(
            Program::Workload(ifindex).decide(&frame, &*TABLES),
            Verdict::Leave(Reason::SpoofedSource, 0)
        );
    }
}

#[test]
fn where_there_is_no_way_the_stack_or_nobody_gets_the_packet() {
    for (what, destination, reason) in [
        ("the outside", OUTSIDE, Reason::NoRoute),
        ("a node", node(THERE), Reason::NoRoute),
        ("its own node", node(HERE), Reason::NoRoute),
        ("loopback", [127, 0, 0, 1], Reason::Multicast),
        ("its gateway", [169, 254, 1, 1], Reason::NoRoute),
        ("no address", [0; 4], Reason::Multicast),
        ("a blackhole", NOWHERE, Reason::Blackhole),
        (
            "its node's tunnel address",
            tunnel_address(HERE),
            Reason::LocalAddress,
        ),
        (
            "a pod that does not exist",
            pod(Mode::Direct, HERE, 99),
            Reason::LocalAddress,
        ),
        ("itself", pod(Mode::Direct, HERE, FIRST), Reason::Hairpin),
        (
            "a pod whose Ethernet address is not known",
            pod(Mode::Direct, HERE, UNRESOLVED),
            Reason::Unresolved,
        ),
        ("all systems", [224, 0, 0, 1], Reason::Multicast),
        ("a group", [239, 255, 255, 250], Reason::Multicast),
        ("class E", [240, 0, 0, 1], Reason::Multicast),
        ("everybody", [255; 4], Reason::Multicast),
    ] {
        assert_left(what, &to(destination).frame(), reason);
    }
    // The highest unicast address is one.
    assert_left(
        "unicast",
        &to([223, 255, 255, 255]).frame(),
        Reason::NoRoute,
    );
}

#[test]
fn the_longest_prefix_decides() {
    let borrowed = pod(Mode::Vxlan, THERE, FIRST);
    let mut tables = tables(HERE);
    let frame = to(borrowed).frame();
    let reason = |tables: &MemoryTables| verdict_by(&frame, tables).reason();

    tables
        .routes
        .insert((32, borrowed), next_hop(HERE, Mode::Ipip, THERE));
    assert_eq!(reason(&tables), Reason::SentIpip);
    tables.routes.remove(&(32, borrowed));
    assert_eq!(reason(&tables), Reason::SentVxlan);
    tables.routes.remove(&(24, pod(Mode::Vxlan, THERE, 0)));
    assert_eq!(reason(&tables), Reason::NoRoute);
    tables
        .routes
        .insert((0, [0; 4]), next_hop(HERE, Mode::Direct, THERE));
    assert_eq!(reason(&tables), Reason::SentDirect);
}

#[test]
fn a_next_hop_that_nobody_wrote_is_the_stacks() {
    let mut tables = tables(HERE);
    for kind in [0, 7, 255] {
        let unset = NextHop {
            kind,
            ..next_hop(HERE, Mode::Ipip, THERE)
        };
        tables.routes.insert((24, pod(Mode::Ipip, THERE, 0)), unset);
        assert_eq!(
            verdict_by(&out(Mode::Ipip).frame(), &tables),
            Verdict::Leave(Reason::NextHopUnset, 0)
        );
    }
}

#[test]
fn without_a_configuration_every_packet_is_the_stacks() {
    let routes_only = MemoryTables {
        config: None,
        ..tables(HERE)
    };
    for way in ways() {
        for tables in [&routes_only, &MemoryTables::default()] {
            assert_eq!(
                verdict_by(&way.ip.frame(), tables),
                Verdict::Leave(Reason::NoConfig, 0),
                "{}",
                way.name
            );
        }
    }
}

#[test]
fn what_takes_a_routers_judgement_goes_to_the_stack() {
    for way in ways() {
        for (what, ip, reason) in [
            ("TTL 1", way.ip().ttl(1), Reason::TtlExpired),
            ("TTL 0", way.ip().ttl(0), Reason::TtlExpired),
            (
                "first fragment",
                way.ip().fragment(0, true),
                Reason::Fragment,
            ),
            ("middle one", way.ip().fragment(1, true), Reason::Fragment),
            ("last one", way.ip().fragment(185, false), Reason::Fragment),
            ("farthest", way.ip().fragment(8191, false), Reason::Fragment),
            (
                "no-operation",
                way.ip().options(&[1, 1, 1, 0]),
                Reason::Options,
            ),
            ("all options", way.ip().options(&[7; 40]), Reason::Options),
        ] {
            way.leaves(what, &ip.frame(), reason);
        }
        for offset in [1, 4, 8, 10, 11] {
            let mut frame = way.ip.frame();
            frame.bytes[IP + offset] ^= 1;
            way.leaves("a flipped bit", &frame, Reason::HeaderChecksum);
        }
    }
}

#[test]
fn the_last_ttl_that_passes_is_two() {
    for way in ways() {
        way.passes("TTL 2", &way.ip().ttl(2).frame());
    }
}

/// The reserved flag, and "don't fragment": neither makes a fragment.
#[test]
fn flags_alone_are_no_fragment() {
    for way in ways() {
        for flag in [0x80, 0x40, 0xc0] {
            way.passes("flags", &way.ip.frame().with_ip(IP, 6, &[flag]));
        }
    }
}

#[test]
fn a_header_that_contradicts_itself_or_the_frame_is_malformed() {
    for way in ways() {
        let frame = || way.ip.frame();
        for (what, frame) in [
            ("version 6", frame().with_ip(IP, 0, &[0x65])),
            ("version 0", frame().with_ip(IP, 0, &[0x05])),
            ("a header of 16 bytes", frame().with_ip(IP, 0, &[0x44])),
            ("a header of none", frame().with_ip(IP, 0, &[0x40])),
            ("a length of 0", frame().with_ip(IP, 2, &[0, 0])),
            (
                "a length below the header's",
                frame().with_ip(IP, 2, &[0, 19]),
            ),
            (
                "a length below that of a header with options",
                frame().with_ip(IP, 0, &[0x4f]),
            ),
            (
                "a length beyond the frame",
                frame().with_ip(IP, 2, &[0, 37]),
            ),
            ("the longest length", frame().with_ip(IP, 2, &[0xff; 2])),
        ] {
            way.leaves(what, &frame, Reason::Malformed);
        }
    }
}

#[test]
fn a_packet_longer_than_its_length_field_can_say_is_the_stacks() {
    for way in ways() {
        let frame = way.ip().tcp(20, 3000).frame().with_ip(IP, 2, &[0, 0]);
        way.leaves("big TCP", &frame.of_segments(1400), Reason::BigTcp);
    }
}

#[test]
fn ethernet_padding_does_not_belong_to_the_packet() {
    for way in ways() {
        const LENGTH: u16 = 36;
        let most = usize::from(way.mtu - LENGTH);
        // Up to the least an Ethernet frame has, and what fits.
        for padding in [1, 10, most] {
            let frame = way.ip.frame().padded(padding);
            way.passes("padded", &frame);
            if let Verdict::Send(send) = verdict(&frame) {
                assert_eq!(send.ip.total_length, LENGTH);
            }
        }
        // It would go where the packet goes: the stack cuts it off.
        let frame = way.ip.frame().padded(most + 1);
        way.leaves("padded too much", &frame, Reason::TooBig);
    }
}

#[test]
fn payloads_too_short_for_ports_are_forwarded() {
    for way in ways() {
        for protocol in [1, 6, 17, 50, 132, 255] {
            for length in 0..=8 {
                let frame = way.ip().payload(protocol, &[7; 8][..length]).frame();
                let what = format!("{length} bytes of protocol {protocol}");
                way.passes(&what, &frame);
                if let Verdict::Send(send) = verdict(&frame) {
                    let has_ports = length >= 4 && matches!(protocol, 6 | 17 | 132);
                    let ports = if has_ports { [7; 4] } else { [0; 4] };
                    assert_eq!(send.ports, ports, "{what}");
                }
            }
        }
    }
}

#[test]
fn frames_that_are_not_plain_ipv4_for_this_host_are_left_alone() {
    for way in ways() {
        for (what, ether_type) in [("IPv6", 0x86dd), ("MPLS", 0x8847), ("a length", 0x0064)] {
            let frame = frame_of(ether_type, &way.ip.packet());
            way.leaves(what, &frame, Reason::NotIpv4);
        }
        let tagged = MemoryPacket {
            vlan_tag: true,
            ..way.ip.frame()
        };
        way.leaves("an offloaded VLAN tag", &tagged, Reason::VlanTag);
        let to_another = MemoryPacket {
            to_interface: false,
            ..way.ip.frame()
        };
        way.leaves("to another", &to_another, Reason::OtherHost);
    }
}

#[test]
fn the_longest_packet_that_fits_passes_and_one_byte_more_does_not() {
    for way in ways() {
        way.passes("at MTU", &way.ip().of_length(way.mtu).frame());
        let too_big = way.ip().of_length(way.mtu + 1).frame();
        way.leaves("MTU + 1", &too_big, Reason::TooBig);
    }
    // By hand: Ethernet's 1500 bytes, less the outer headers.
    assert_eq!(Mode::ALL.map(Mode::mtu), [1500, 1480, 1450]);
}

#[test]
fn of_a_segmented_packet_each_segment_has_to_fit() {
    for way in ways() {
        let tcp = |header| way.ip().tcp(header, 20_000).frame();
        for (what, frame, headers) in [
            ("TCP", tcp(20), 20 + 20),
            ("TCP with timestamps", tcp(32), 20 + 32),
            ("TCP with all options", tcp(60), 20 + 60),
            ("UDP", way.ip().of_length(20_000).frame(), 20 + 8),
        ] {
            let room = u32::from(way.mtu) - headers;
            way.passes(what, &frame.clone().of_segments(room));
            way.leaves(what, &frame.of_segments(room + 1), Reason::TooBig);
        }
    }
}

#[test]
fn segmentation_other_than_of_tcp_and_udp_is_the_stacks() {
    for way in ways() {
        for (what, protocol, length) in [
            ("SCTP", 132, 1000),
            ("ICMP", 1, 1000),
            ("TCP without its header", 6, 12),
        ] {
            let frame = way.ip().payload(protocol, &vec![5; length]).frame();
            way.leaves(what, &frame.of_segments(100), Reason::UnsupportedGso);
        }
    }
}

#[test]
fn an_aggregate_is_sent_only_if_its_outer_length_can_be_said() {
    for mode in Mode::ALL {
        let aggregate = |length: u16| {
            let data = usize::from(length) - 40;
            out(mode).tcp(20, data).frame().of_segments(1400)
        };
        let longest = u16::MAX - mode.overhead();
        assert_eq!(verdict(&aggregate(longest)).reason(), mode.sent());
        if mode != Mode::Direct {
            let longer = aggregate(longest + 1);
            assert_left(&format!("{mode:?}"), &longer, Reason::TooBig);
        }
    }
}

#[test]
fn outer_checksums_leave_vxlan_to_the_kernels_device() {
    let mut tables = tables(HERE);
    if let Some(config) = &mut tables.config {
        config.flags = flags::VXLAN_CHECKSUM;
    }
    for mode in Mode::ALL {
        let verdict = verdict_by(&out(mode).frame(), &tables);
        if mode == Mode::Vxlan {
            assert_eq!(verdict, Verdict::Leave(Reason::KernelEncap, 0));
        } else {
            assert_eq!(verdict.reason(), mode.sent());
        }
    }
}

#[test]
fn pods_send_no_tunnels_unless_they_may() {
    let inner = Ip::new(
        pod(Mode::Vxlan, HERE, SECOND),
        pod(Mode::Vxlan, HERE, FIRST),
    );
    let mut permissive = tables(HERE);
    if let Some(config) = &mut permissive.config {
        config.flags |= flags::WORKLOAD_TUNNELS;
    }
    for destination in [
        node(HERE),
        node(THERE),
        pod(Mode::Vxlan, THERE, FIRST),
        OUTSIDE,
    ] {
        let vxlan = Vxlan {
            outer: to(destination),
            ..Vxlan::new(THERE, HERE, &inner)
        };
        let udp = || to(destination).udp(5000, VXLAN_PORT, &[0; 64]);
        for (what, frame) in [
            ("IPIP", to(destination).ipip(&inner.packet()).frame()),
            ("VXLAN", vxlan.frame()),
            ("the VXLAN port", udp().frame()),
            ("a first fragment to it", udp().fragment(0, true).frame()),
        ] {
            assert_left(what, &frame, Reason::WorkloadTunnel);
            let tagged = MemoryPacket {
                vlan_tag: true,
                ..frame.clone()
            };
            assert_left(what, &tagged, Reason::WorkloadTunnel);
            let endless = frame.clone().with_ip(IP, 2, &[0; 2]).of_segments(1400);
            assert_left(what, &endless, Reason::WorkloadTunnel);
            assert_eq!(
                verdict_by(&endless, &permissive).reason(),
                Reason::BigTcp,
                "{what}"
            );
            let verdict = verdict_by(&frame, &permissive);
            assert_ne!(verdict.reason(), Reason::WorkloadTunnel, "{what}");
            assert!(
                matches!(verdict, Verdict::Leave(..) | Verdict::Send(_)),
                "never opened here: {verdict:?}"
            );
        }
        let later = udp().fragment(185, false).frame();
        assert_ne!(verdict(&later).reason(), Reason::WorkloadTunnel);
        let other_port = to(destination).udp(VXLAN_PORT, 53, &[0; 64]).frame();
        assert_ne!(verdict(&other_port).reason(), Reason::WorkloadTunnel);
    }
    for node in [node(HERE), node(THERE)] {
        let hidden = to(node).udp(5000, 53, &[0; 64]).options(&[1; 4]).frame();
        assert_left("UDP behind options", &hidden, Reason::WorkloadTunnel);
    }
    let plain = to(OUTSIDE).udp(5000, 53, &[0; 64]).options(&[1; 4]).frame();
    assert_left("UDP behind options, to no node", &plain, Reason::NoRoute);
}

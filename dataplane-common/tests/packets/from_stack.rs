//! What the host's own stack sends to remote pods, on the carrier's egress.

use dataplane_common::{
    abi::{Hook, flags},
    decide::{self, Origin, Send, TunnelKey, Verdict},
    memory::{MemoryPacket, MemoryTables},
    reason::{Action, Reason},
};

use crate::{
    frames::{IP, Ip, Tamper, frame_of},
    programs::{Program, carry_out},
    world::{
        FIRST, HERE, Mode, NOWHERE, OUTSIDE, TABLES, THERE, VNI, next_hop, node, pod, tables,
        tunnel_address,
    },
};

const TUNNELS: [Mode; 2] = [Mode::Ipip, Mode::Vxlan];

fn verdict(frame: &MemoryPacket) -> Verdict<'static> {
    Program::Stack.decide(frame, &*TABLES)
}

/// From the host, by its tunnel address, to a pod.
fn out(mode: Mode) -> Ip {
    Ip::new(tunnel_address(HERE), pod(mode, THERE, FIRST))
}

#[track_caller]
fn send(frame: &MemoryPacket) -> Send<'static> {
    match verdict(frame) {
        Verdict::Send(send) => send,
        other => panic!("not sent: {other:?}"),
    }
}

#[test]
fn the_host_reaches_remote_pods_in_the_mode_of_their_pool() {
    for mode in Mode::ALL {
        let frame = out(mode).frame();
        let send = send(&frame);
        assert_eq!(send.next_hop, &next_hop(HERE, mode, THERE));
        assert_eq!(send.encap, mode.tunnel());
        assert_eq!(verdict(&frame).reason(), mode.sent());
    }
}

/// The host need not be the origin: it also forwards what the fast path left.
#[test]
fn sources_are_the_stacks_affair() {
    for source in [pod(Mode::Vxlan, HERE, FIRST), OUTSIDE] {
        let frame = Ip::new(source, pod(Mode::Vxlan, THERE, FIRST)).frame();
        assert_eq!(verdict(&frame).reason(), Reason::SentVxlan);
    }
}

#[test]
fn the_stack_has_counted_the_ttl_already() {
    for mode in Mode::ALL {
        for ttl in [64, 2, 1] {
            let send = send(&out(mode).ttl(ttl).frame());
            assert!(!send.forwarded);
            assert_eq!(send.ip.ttl, ttl);
        }
    }
}

#[test]
fn fragments_and_options_are_carried() {
    for mode in TUNNELS {
        for ip in [
            out(mode).fragment(0, true),
            out(mode).fragment(1, true),
            out(mode).fragment(185, false),
            out(mode).options(&[7; 40]),
            out(mode).options(&[1, 1, 1, 0]).fragment(8, true),
        ] {
            let send = send(&ip.frame());
            // What stands where ports would be is not taken for them.
            assert_eq!(send.ports, [0; 4]);
            assert_eq!(usize::from(send.ip.total_length), ip.packet().len());
        }
    }
}

#[test]
fn the_first_fragment_and_the_others_have_one_entropy() {
    let first = send(&out(Mode::Vxlan).fragment(0, true).frame());
    let last = send(&out(Mode::Vxlan).fragment(185, false).frame());
    assert_eq!(first.ports, last.ports);
}

#[test]
fn what_has_no_remote_way_is_left() {
    for (what, destination, reason) in [
        ("outside", OUTSIDE, Reason::NoRoute),
        ("multicast", [224, 0, 0, 1], Reason::NoRoute),
        ("broadcast", [255; 4], Reason::NoRoute),
        ("nowhere", NOWHERE, Reason::Blackhole),
        (
            "a pod here",
            pod(Mode::Vxlan, HERE, FIRST),
            Reason::LocalAddress,
        ),
        ("itself", tunnel_address(HERE), Reason::LocalAddress),
    ] {
        let frame = Ip::new(tunnel_address(HERE), destination).frame();
        assert_eq!(verdict(&frame), Verdict::Leave(reason, 0), "{what}");
    }
    let other = frame_of(0x86dd, &out(Mode::Vxlan).packet());
    assert_eq!(verdict(&other), Verdict::Leave(Reason::NotIpv4, 0));
    let long = out(Mode::Vxlan).frame().with_ip(IP, 2, &[0, 37]);
    assert_eq!(verdict(&long), Verdict::Leave(Reason::Malformed, 0));
}

#[test]
fn without_a_configuration_every_packet_is_left() {
    let routes_only = MemoryTables {
        config: None,
        ..tables(HERE)
    };
    for mode in Mode::ALL {
        for tables in [&routes_only, &MemoryTables::default()] {
            assert_eq!(
                Program::Stack.decide(&out(mode).frame(), tables),
                Verdict::Leave(Reason::NoConfig, 0),
                "{mode:?}"
            );
        }
    }
}

#[test]
fn the_longest_packet_that_fits_is_sent_and_one_byte_more_is_not() {
    for mode in Mode::ALL {
        let of_length = |length| out(mode).of_length(length).frame();
        assert_eq!(verdict(&of_length(mode.mtu())).reason(), mode.sent());
        assert_eq!(
            verdict(&of_length(mode.mtu() + 1)),
            Verdict::Leave(Reason::TooBig, 0)
        );
    }
}

#[test]
fn of_a_segmented_packet_each_segment_has_to_fit() {
    for mode in Mode::ALL {
        for (frame, headers) in [
            (out(mode).tcp(20, 60_000).frame(), 20 + 20),
            (out(mode).tcp(32, 60_000).frame(), 20 + 32),
            (out(mode).of_length(60_000).frame(), 20 + 8),
        ] {
            let room = u32::from(mode.mtu()) - headers;
            let fits = frame.clone().of_segments(room);
            assert_eq!(verdict(&fits).reason(), mode.sent());
            let too_big = frame.of_segments(room + 1);
            assert_eq!(verdict(&too_big), Verdict::Leave(Reason::TooBig, 0));
        }
    }
}

/// A socket may set IP options (`IP_OPTIONS`); the stack counts them in, and segments as ever.
#[test]
fn segments_with_options_that_fit_are_sent() {
    for mode in TUNNELS {
        let ip = out(mode).options(&[1; 8]);
        let room = u32::from(mode.mtu()) - 28 - 32;
        let frame = ip.tcp(32, 20_000).frame().of_segments(room);
        assert_eq!(verdict(&frame).reason(), mode.sent(), "{mode:?}");
    }
}

/// The packet's route would lead the late answer of the neighbour astray.
#[test]
fn while_the_neighbour_is_not_resolved_packets_take_a_detour_and_are_sent_from_there() {
    for mode in Mode::ALL {
        for ip in [
            out(mode),
            out(mode).fragment(185, false),
            out(mode).options(&[7; 8]),
        ] {
            let frame = ip.frame();
            assert_eq!(
                Program::StackUnresolved.decide(&frame, &*TABLES),
                Verdict::Detour
            );
            let mut detoured = frame.clone();
            carry_out(&mut detoured, &*TABLES, &Verdict::Detour);
            assert_eq!(detoured.bytes[IP..], frame.bytes[IP..]);
            assert_eq!(
                Program::Carrier(Origin::Program).decide(&detoured, &*TABLES),
                verdict(&frame)
            );
        }
    }
    assert_eq!(Verdict::Detour.reason(), Reason::Detour);
}

#[test]
fn what_is_not_sent_takes_no_detour() {
    let to = |destination| Ip::new(tunnel_address(HERE), destination).frame();
    for frame in [
        to(OUTSIDE),
        to(NOWHERE),
        to(pod(Mode::Vxlan, HERE, FIRST)),
        out(Mode::Vxlan).of_length(1451).frame(),
    ] {
        assert_eq!(
            Program::StackUnresolved.decide(&frame, &*TABLES),
            verdict(&frame)
        );
    }
}

#[test]
fn with_outer_checksums_the_carrier_itself_encapsulates_vxlan() {
    let mut tables = tables(HERE);
    if let Some(config) = &mut tables.config {
        config.flags = flags::VXLAN_CHECKSUM;
    }
    let verdict = |mode: Mode| Program::Stack.decide(&out(mode).frame(), &tables).reason();
    assert_eq!(verdict(Mode::Ipip), Reason::SentIpip);
    let hop = next_hop(HERE, Mode::Vxlan, THERE);
    assert_eq!(
        Program::Stack.decide(&out(Mode::Vxlan).frame(), &tables),
        Verdict::CarrierEncap(&hop, 0)
    );
    assert_eq!(verdict(Mode::Vxlan), Reason::KernelEncap);
}

#[test]
fn what_a_program_has_directed_is_the_carriers_own_to_encapsulate() {
    let key = TunnelKey {
        remote: node(THERE),
        vni: VNI,
        local: None,
        cut_up: true,
    };
    for origin in [Origin::Tunnel(key), Origin::Foreign] {
        for resolved in [true, false] {
            let frame = out(Mode::Vxlan).frame();
            assert_eq!(
                decide::from_stack(&frame, &*TABLES, origin, |_| resolved),
                Verdict::Leave(Reason::KernelEncap, 0)
            );
        }
    }
    assert_eq!(Hook::FromStack.action(Reason::KernelEncap), Action::Stack);
}

/// The carrier adds ECN by itself.
#[test]
fn the_carrier_is_told_the_outer_dscp() {
    let hop = next_hop(HERE, Mode::Vxlan, THERE);
    for (inherits, tos) in [(0, 0x88), (flags::INHERIT_DSCP, 0xb8)] {
        let mut tables = tables(HERE);
        if let Some(config) = &mut tables.config {
            config.flags = flags::VXLAN_CHECKSUM | inherits;
            config.dscp = 0x22;
        }
        assert_eq!(
            Program::Stack.decide(&out(Mode::Vxlan).tos(0xba).frame(), &tables),
            Verdict::CarrierEncap(&hop, tos)
        );
    }
}

//! What is learned where packets leave the stack.

use dataplane_common::{
    decide::{self, Origin, TunnelKey, Verdict},
    memory::{MemoryPacket, MemoryTables, take_out},
    packet::Tunnel,
    reason::Reason,
    tuple::CUT_UP,
};

use super::talk::{ACK, ALL, Between, Kind, Leg, PERIOD, blind, established, without_carrier};
use crate::{
    frames::{Ip, Tamper as _, Vxlan, frame_of},
    programs::Program,
    world::{HERE, Mode, OUTSIDE, THERE, VNI, node, pod, tunnel_address},
};

const VXLAN: Between = Between::Nodes(Mode::Vxlan);
const TUNNELS: [Tunnel; 2] = [Tunnel::Ipip, Tunnel::Vxlan];

/// The one packet that is there, with others in its place.
fn with(leg: &Leg, ip: Ip) -> Leg {
    Leg { ip, ..leg.clone() }
}

#[test]
fn what_bears_no_mark_verifies_nothing() {
    for between in ALL {
        let tables = established();
        for leg in between.legs(&Kind::Udp) {
            assert_ne!(leg.enters(&tables).mark(), 0);
            assert_eq!(leg.leaves(&tables, 0), Reason::Translated);
        }
        for leg in between.legs(&Kind::Udp) {
            leg.is_left(&tables, Reason::NotEstablished);
        }
    }
}

/// A Service, a masquerade, a moved port: what leaves is another packet than came.
#[test]
fn what_the_stack_translates_is_not_verified() {
    for between in ALL {
        let tables = established();
        let legs = between.legs(&Kind::Udp);
        // Flows that could be taken for it are there.
        let (client, server) = (between.client(), between.server());
        let translated = [
            Ip::new(client, server).udp(40_001, 80, b"data"),
            Ip::new(client, server).udp(40_000, 81, b"data"),
            Ip::new(client, OUTSIDE).udp(40_000, 80, b"data"),
            Ip::new(node(HERE), server).udp(40_000, 80, b"data"),
            Ip::new(server, client).udp(40_000, 80, b"data"),
            legs[0]
                .ip
                .clone()
                .payload(6, &Kind::Tcp(ACK).payload(true).1),
        ];
        for ip in translated {
            let mark = legs[0].enters(&tables).mark();
            let left = with(&legs[0], ip).leaves(&tables, mark);
            assert_eq!(left, Reason::Translated, "{between:?}");
        }
        for flow in tables.flows().values() {
            for direction in &flow.directions {
                assert_eq!(direction.verified.parts(), (0, 0));
            }
        }
    }
}

#[test]
fn what_leaves_and_is_of_no_flow_verifies_nothing() {
    let tables = established();
    for between in ALL {
        let [there, _] = between.legs(&Kind::Udp);
        let mark = there.enters(&tables).mark();
        for ip in [
            there.ip.clone().fragment(0, true),
            there.ip.clone().options(&[1, 1, 1, 0]),
            there.ip.clone().payload(47, &[0; 8]),
        ] {
            assert_eq!(with(&there, ip).leaves(&tables, mark), Reason::Unmarked);
        }
        let (ipv6, arp) = (frame_of(0x86dd, &[0x60; 60]), frame_of(0x0806, &[0; 28]));
        let bits = mark.try_into().unwrap();
        for frame in [&ipv6, &arp, &frame_of(0x0800, &[0x45])] {
            assert_eq!(decide::to_workload(frame, &tables, bits), Reason::Unmarked);
            assert_eq!(decide::to_uplink(frame, &tables, bits), Reason::Unmarked);
        }
    }
}

/// The inner packet counts: the outer one is the node's.
#[test]
fn what_the_kernel_put_into_a_tunnel_is_known_by_what_is_inside() {
    for tunnel in TUNNELS {
        let tables = established();
        let [there, _] = VXLAN.legs(&Kind::Udp);
        let mark = there.enters(&tables).mark();
        // Whichever tunnel: routes are the kernel's.
        let left = Leg {
            tunnel: Some(tunnel),
            ..there.clone()
        };
        assert_eq!(left.leaves(&tables, mark), Reason::Verified);
        let other = Ip::new(VXLAN.client(), pod(Mode::Vxlan, THERE, 9));
        assert_eq!(with(&left, other).leaves(&tables, mark), Reason::Translated);
    }
}

/// A pod that is a client of another's tunnel, on the very port.
#[test]
fn anothers_tunnel_is_a_flow_of_its_own() {
    let tables = established();
    let [there, _] = VXLAN.legs(&Kind::Udp);
    let own = Vxlan {
        outer: Ip::new(VXLAN.client(), VXLAN.server()),
        ..Vxlan::new(HERE, THERE, &there.ip)
    };
    let mark = there.enters(&tables).mark();
    assert_eq!(
        decide::to_uplink(&own.frame(), &tables, mark.try_into().unwrap()),
        Reason::Translated
    );
}

/// What was forgotten meanwhile, or never known, is not begun by what leaves.
#[test]
fn what_leaves_begins_no_flow() {
    for between in ALL {
        let tables = established();
        let [there, back] = between.legs(&Kind::Tcp(ACK));
        let mark = there.enters(&tables).mark();
        let [syn, _] = between.legs(&Kind::Tcp(2));
        syn.is_left(&tables, Reason::Handshake);
        assert_eq!(there.leaves(&tables, mark), Reason::Translated);
        assert!(tables.flows().is_empty());
        back.is_verified(&tables);
        there.is_left(&tables, Reason::NotEstablished);
    }
}

/// What netfilter said to it, it might not say any more.
#[test]
fn what_has_been_in_the_stack_since_before_a_change_verifies_nothing() {
    for between in ALL {
        let mut tables = established();
        let [there, back] = between.legs(&Kind::Udp);
        let mark = there.enters(&tables).mark();
        tables.generation += 1;
        there.is_left(&tables, Reason::NotEstablished);
        back.is_verified(&tables);
        assert_eq!(there.leaves(&tables, mark), Reason::Translated);
        back.is_left(&tables, Reason::NotEstablished);
        there.is_verified(&tables);
        back.is_carried(&tables);
    }
}

#[test]
fn what_is_gone_through_the_stack_is_stamped_when_it_leaves() {
    let mut tables = established();
    let [there, _] = VXLAN.legs(&Kind::Udp);
    let mark = there.enters(&tables).mark();
    tables.now += 5;
    assert_eq!(there.leaves(&tables, mark), Reason::Verified);
    let flows = tables.flows();
    let stamps: Vec<_> = flows
        .values()
        .flat_map(|flow| &flow.directions)
        .map(|way| (way.entered.get(7), way.verified.get(7), way.since.get(7)))
        .collect();
    let seen = (Some(tables.now - 5), Some(tables.now), Some(tables.now - 5));
    assert!(stamps.contains(&seen), "{stamps:?}");
    assert!(stamps.contains(&(None, None, None)), "{stamps:?}");
}

/// What the kernel's own receiver took out of VXLAN enters the stack there.
#[test]
fn what_comes_by_the_kernels_receiver_is_marked_on_the_carrier() {
    let tables = established();
    let [there, back] = VXLAN.legs(&Kind::Tcp(ACK));
    let origin = Origin::Tunnel(TunnelKey {
        remote: node(THERE),
        vni: VNI,
        local: Some(node(HERE)),
        cut_up: false,
    });
    let carrier = Program::Carrier(origin);
    let verdict = carrier.decide(&back.ip.frame(), &tables);
    assert_eq!(verdict.reason(), Reason::Accepted);
    assert_eq!(back.leaves(&tables, verdict.mark()), Reason::Verified);
    there.is_verified(&tables);
    back.is_carried(&tables);

    let [_, fin] = VXLAN.legs(&Kind::Tcp(ACK | 1));
    let verdict = carrier.decide(&fin.ip.frame(), &tables);
    assert_eq!(verdict, Verdict::Leave(Reason::Accepted, 0));
    assert!(tables.flows().is_empty(), "not forgotten");

    let to_host = Ip::new(VXLAN.server(), tunnel_address(HERE)).frame();
    let verdict = carrier.decide(&to_host, &tables);
    assert_eq!(verdict, Verdict::Leave(Reason::Accepted, 0));
    assert!(tables.flows().is_empty(), "of the node's own");
}

/// What was injected, its mark on it, is not to lose it, and what the stack sends has none.
#[test]
fn the_carrier_leaves_marks_alone() {
    let tables = established();
    let [_, back] = VXLAN.legs(&Kind::Udp);
    let verdict = Program::Carrier(Origin::Program).decide(&back.ip.frame(), &tables);
    assert_eq!(verdict, Verdict::Leave(Reason::Accepted, 0));
    let from_host = Ip::new(tunnel_address(HERE), VXLAN.server()).frame();
    let verdict = Program::Stack.decide(&from_host, &tables);
    assert_eq!(verdict.reason(), Reason::SentVxlan);
    assert!(tables.flows().is_empty());
}

/// Where there is a carrier, XDP takes out whatever is right, and traffic control asks for the flow.
#[test]
fn xdp_takes_out_what_is_not_yet_verified_where_there_is_a_carrier() {
    for tunnel in TUNNELS {
        let tables = established();
        let [there, back] = VXLAN.legs(&Kind::Tcp(ACK));
        let back = Leg {
            tunnel: Some(tunnel),
            ..back
        };
        let verdict = Program::Uplink.decide(&out_of_xdp(&back, &tables), &tables);
        assert!(
            matches!(verdict, Verdict::Inject(None, Reason::NotEstablished, 1..)),
            "{verdict:?}"
        );
        assert_eq!(back.leaves(&tables, verdict.mark()), Reason::Verified);
        there.is_verified(&tables);
        for _ in 0..3 {
            let verdict = Program::Uplink.decide(&out_of_xdp(&back, &tables), &tables);
            assert!(matches!(verdict, Verdict::Deliver(..)), "{verdict:?}");
        }
        let [_, fin] = VXLAN.legs(&Kind::Tcp(ACK | 1));
        let fin = Leg {
            tunnel: Some(tunnel),
            ..fin
        };
        let verdict = Program::Uplink.decide(&out_of_xdp(&fin, &tables), &tables);
        assert_eq!(verdict, Verdict::Inject(None, Reason::Handshake, 0));
        assert!(tables.flows().is_empty(), "not forgotten");
    }
}

/// XDP and traffic control both have it from the flow that the packet came in this tunnel of this
/// peer's, and one of them counts it.
#[test]
fn what_xdp_takes_out_is_known_to_both_and_counted_once() {
    for tunnel in TUNNELS {
        for tables in [established(), without_carrier(established())] {
            let legs = VXLAN.verified_legs(&Kind::Udp, &tables);
            let back = Leg {
                tunnel: Some(tunnel),
                ..legs[1].clone()
            };
            let arrive = |tables: &MemoryTables| {
                Program::Uplink
                    .decide(&out_of_xdp(&back, tables), tables)
                    .reason()
            };
            let delivered = match tunnel {
                Tunnel::Ipip => Reason::ReceivedIpip,
                Tunnel::Vxlan => Reason::ReceivedVxlan,
            };
            assert_eq!(arrive(&tables), delivered);
            let blind = blind(&tables);
            assert_eq!(arrive(&blind), delivered);
            assert_eq!(arrive(&blind), delivered);
            let flows = tables.flows();
            let packets = flows.values().flat_map(|flow| &flow.directions);
            assert_eq!(packets.map(|way| way.packets.get()).sum::<u64>(), 3);
        }
    }
}

/// What came plainly is not known by what came so of a flow.
#[test]
fn what_xdp_takes_out_is_not_known_by_what_came_in_no_tunnel() {
    let tables = established();
    let legs = Between::Nodes(Mode::Direct).verified_legs(&Kind::Udp, &tables);
    for leg in &legs {
        leg.is_carried(&tables);
    }
    let mut frame = legs[1].frame();
    frame.taken_out_of = Some(Tunnel::Vxlan);
    let blind = blind(&tables);
    let verdict = Program::Uplink.decide(&frame, &blind);
    assert_eq!(verdict, Verdict::Inject(None, Reason::ForHost, 0));
}

/// The frame, when XDP has taken it out.
fn out_of_xdp(leg: &Leg, tables: &MemoryTables) -> MemoryPacket {
    let mut frame = leg.frame();
    let found = decide::xdp_uplink(&frame, tables);
    assert_eq!(take_out(&mut frame, found).reason, Reason::TakenOut);
    frame
}

#[test]
fn without_a_carrier_xdp_opens_only_verified_flows() {
    for tunnel in TUNNELS {
        let mut tables = without_carrier(established());
        let [there, back] = VXLAN.legs(&Kind::Tcp(ACK));
        let back = Leg {
            tunnel: Some(tunnel),
            ..back
        };
        let by_xdp = |tables: &_, leg: &Leg| decide::xdp_uplink(&leg.frame(), tables);
        let unseen = by_xdp(&tables, &back);
        assert_eq!(unseen, Err(Reason::NotEstablished));
        there.is_verified(&tables);
        assert_eq!(by_xdp(&tables, &back), Err(Reason::NotEstablished));
        back.is_verified(&tables);
        for _ in 0..3 {
            let opened = out_of_xdp(&back, &tables);
            let verdict = Program::Uplink.decide(&opened, &tables);
            assert!(matches!(verdict, Verdict::Deliver(..)), "{verdict:?}");
        }
        // The last of the period is delivered, though the period ends before traffic control has it:
        // the stack could not tell from where it came.
        let opened = out_of_xdp(&back, &tables);
        tables.now += u64::from(PERIOD) + 1;
        assert_eq!(by_xdp(&tables, &back), Err(Reason::Reverify));
        let verdict = Program::Uplink.decide(&opened, &tables);
        assert!(matches!(verdict, Verdict::Deliver(..)), "{verdict:?}");

        let [_, fin] = VXLAN.legs(&Kind::Tcp(ACK | 1));
        let fin = Leg {
            tunnel: Some(tunnel),
            ..fin
        };
        assert_eq!(by_xdp(&tables, &fin), Err(Reason::Handshake));
        assert!(tables.flows().is_empty(), "not forgotten");
    }
}

#[test]
fn no_mark_is_that_of_what_the_carrier_cuts_up() {
    let tables = established();
    let [there, _] = VXLAN.legs(&Kind::Udp);
    for port in 0..=u16::MAX {
        let packet = with(&there, there.ip.clone()).frame();
        let frame = packet.with(crate::frames::PAYLOAD, &port.to_be_bytes());
        let mark = there.entry.decide(&frame, &tables).mark();
        assert!(mark != 0 && mark != CUT_UP.into(), "port {port}");
    }
}

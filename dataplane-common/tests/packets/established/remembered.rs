//! The way that a flow's packets take again, without asking the tables for it.

use dataplane_common::{
    abi::{NextHop, NextHopKind},
    decide::Verdict,
    memory::MemoryTables,
    packet::Tunnel,
    reason::Reason,
};

use super::talk::{ALL, Between, Kind, Leg, PERIOD, blind, established, in_tunnel};
use crate::{
    frames::Tamper as _,
    programs::Program,
    world::{ELSEWHERE, HERE, Mode, POD_MTU, SECOND, THERE, node, pod, veth},
};

/// A flow that has been carried both ways.
fn carried(between: Between) -> (MemoryTables, [Leg; 2]) {
    let tables = established();
    let legs = between.verified_legs(&Kind::Udp, &tables);
    for leg in &legs {
        leg.is_carried(&tables);
    }
    (tables, legs)
}

#[test]
fn it_is_taken_again() {
    for between in ALL {
        let (tables, legs) = carried(between);
        let blind = blind(&tables);
        for leg in legs {
            assert_eq!(leg.enters(&blind), leg.enters(&tables), "{between:?}");
        }
    }
}

#[test]
fn it_is_not_of_another_generation() {
    for between in ALL {
        let (mut tables, legs) = carried(between);
        tables.generation += 1;
        for leg in &legs {
            leg.is_verified(&tables);
        }
        let blind = blind(&tables);
        for leg in &legs {
            let verdict = leg.enters(&blind);
            assert!(
                !matches!(verdict, Verdict::Deliver(..) | Verdict::Send(_)),
                "{between:?}: {verdict:?}"
            );
        }
    }
}

/// Two CPUs write to it at once, of which one has not seen the change yet.
#[test]
fn it_is_not_of_two_generations_at_once() {
    let (mut tables, [there, back]) = carried(Between::Nodes(Mode::Vxlan));
    let before = tables.generation;
    tables.generation += 1;
    for leg in Between::Nodes(Mode::Vxlan).legs(&Kind::Udp) {
        leg.is_verified(&tables);
    }
    there.is_carried(&tables);
    back.is_carried(&tables);
    for flow in tables.flows().values() {
        for way in &flow.directions {
            way.to.set(before, way.to.parts().1);
        }
    }
    let blind = blind(&tables);
    assert_eq!(there.enters(&blind).reason(), Reason::SpoofedSource);
    assert_eq!(back.enters(&blind).reason(), Reason::UnknownPeer);
}

#[test]
fn another_workload_does_not_take_it() {
    for between in ALL {
        let (tables, [there, _]) = carried(between);
        for other in [SECOND, 99] {
            let entry = Program::Workload(veth(pod(Mode::Ipip, HERE, other)));
            let forged = Leg {
                entry,
                ..there.clone()
            };
            forged.is_left(&tables, Reason::SpoofedSource);
        }
    }
}

#[test]
fn what_comes_in_another_way_does_not_take_it() {
    for mode in Mode::ALL {
        let (tables, [there, back]) = carried(Between::Nodes(mode));
        let ways = [None, Some(Tunnel::Ipip), Some(Tunnel::Vxlan)];
        for (from, reason) in [
            (ELSEWHERE, Reason::ForeignSource),
            (99, Reason::UnknownPeer),
        ] {
            for tunnel in ways.into_iter().flatten() {
                let forged = in_tunnel(Some(tunnel), from, HERE, &back.ip);
                let verdict = Program::Uplink.decide(&forged, &tables);
                assert_eq!(verdict, Verdict::Leave(reason, 0), "{mode:?} {tunnel:?}");
            }
        }
        if mode != Mode::Direct {
            let bare = back.ip.frame();
            let verdict = Program::Uplink.decide(&bare, &tables);
            assert_eq!(verdict, Verdict::Leave(Reason::SourceOutside, 0));
        }
        // What the pod sends has not come by the wire.
        let echoed = Program::Uplink.decide(&there.ip.frame(), &tables);
        assert_eq!(echoed, Verdict::Leave(Reason::NotForPod, 0));
    }
}

/// In the other tunnel of the same peer it is judged, and remembered anew.
#[test]
fn a_peer_may_change_its_tunnel() {
    let (tables, [_, back]) = carried(Between::Nodes(Mode::Ipip));
    let other = in_tunnel(Some(Tunnel::Vxlan), THERE, HERE, &back.ip);
    for _ in 0..2 {
        let verdict = Program::Uplink.decide(&other, &tables);
        assert_eq!(verdict.reason(), Reason::ReceivedVxlan);
        back.is_carried(&tables);
    }
}

#[test]
fn a_next_hop_that_has_turned_to_another_kind_is_heeded() {
    for mode in Mode::ALL {
        let (tables, [there, _]) = carried(Between::Nodes(mode));
        let route = (24, pod(mode, THERE, 0));
        let turned = |kind: u8, peer: u8| {
            let mut tables = tables.clone();
            let next_hop = tables.routes.get_mut(&route).unwrap();
            *next_hop = NextHop {
                kind,
                peer: node(peer),
                ..*next_hop
            };
            tables
        };
        for (kind, reason) in [
            (0, Reason::NextHopUnset),
            (NextHopKind::Multipath as u8, Reason::NextHopUnset),
            (NextHopKind::Blackhole as u8, Reason::Blackhole),
            (NextHopKind::Local as u8, Reason::LocalAddress),
            (NextHopKind::Direct as u8, Reason::SentDirect),
            (NextHopKind::Ipip as u8, Reason::SentIpip),
            (NextHopKind::Vxlan as u8, Reason::SentVxlan),
        ] {
            let tables = turned(kind, ELSEWHERE);
            let verdict = there.enters(&tables);
            assert_eq!(verdict.reason(), reason, "{mode:?}");
            if let Verdict::Send(send) = verdict {
                assert_eq!(send.next_hop.peer, node(ELSEWHERE));
            }
        }
        let mut without = tables.clone();
        without.routes.remove(&route);
        there.is_left(&without, Reason::NoRoute);
    }
}

#[test]
fn a_pod_whose_device_is_gone_gets_nothing() {
    for between in ALL {
        let (mut tables, legs) = carried(between);
        let back = &legs[1];
        tables.gone.insert(veth(between.client()));
        let verdict = back.enters(&tables);
        assert_eq!(verdict.reason(), Reason::InterfaceGone, "{between:?}");
        assert_eq!(verdict.mark(), 0);
    }
}

#[test]
fn what_takes_a_routers_judgement_is_the_stacks_all_the_same() {
    for between in ALL {
        let (tables, legs) = carried(between);
        for leg in legs {
            let changed = |ip| Leg { ip, ..leg.clone() };
            let ip = || leg.ip.clone();
            changed(ip().ttl(1)).is_left(&tables, Reason::TtlExpired);
            changed(ip().ttl(2)).is_carried(&tables);
            // A header that lies about its length changes no port.
            let mtu = match between {
                Between::Nodes(mode) if matches!(leg.entry, Program::Workload(_)) => mode.mtu(),
                _ => POD_MTU,
            };
            let ports = leg.ip.packet()[20..24].to_vec();
            let long = |length: u16| {
                let rest = vec![0; usize::from(length) - 24];
                changed(ip().payload(17, &[&ports[..], &rest].concat()))
            };
            long(mtu).is_carried(&tables);
            long(mtu + 1).is_left(&tables, Reason::TooBig);

            let inner = match (leg.entry, leg.tunnel) {
                (Program::Uplink, Some(Tunnel::Ipip)) => 34,
                (Program::Uplink, Some(Tunnel::Vxlan)) => 64,
                _ => 14,
            };
            let wrong = leg.frame().with(inner + 10, &[0, 0]);
            let verdict = leg.entry.decide(&wrong, &tables);
            assert_eq!(verdict.reason(), Reason::HeaderChecksum);
            let mut other = leg.frame();
            other.to_interface = false;
            let verdict = leg.entry.decide(&other, &tables);
            assert_eq!(verdict, Verdict::Leave(Reason::OtherHost, 0));
            let mut tagged = leg.frame();
            tagged.vlan_tag = true;
            let verdict = leg.entry.decide(&tagged, &tables);
            assert_eq!(verdict, Verdict::Leave(Reason::VlanTag, 0));
        }
    }
}

#[test]
fn congestion_outside_is_heeded_too() {
    let (tables, [_, back]) = carried(Between::Nodes(Mode::Ipip));
    let outer = crate::frames::Ip::new(node(THERE), node(HERE)).tos(3);
    let frame = outer.ipip(&back.ip.packet()).frame();
    let verdict = Program::Uplink.decide(&frame, &tables);
    assert_eq!(verdict, Verdict::Leave(Reason::Congestion, 0));
}

/// When the period is over, a way that is known is none.
#[test]
fn it_is_not_taken_by_what_is_to_be_verified() {
    for between in ALL {
        let (mut tables, legs) = carried(between);
        tables.now += u64::from(PERIOD) + 1;
        for leg in legs {
            leg.is_left(&tables, Reason::Reverify);
        }
    }
}

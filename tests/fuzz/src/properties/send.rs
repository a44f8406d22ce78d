//! What leaves for another node.

use dataplane_common::{
    abi::{Config, Endpoint, Hook, NextHop, NextHopKind, Peer, flags},
    decide::{Origin, Send},
    memory::{MemoryPacket, MemoryTables},
    packet::Tunnel,
    reason::{Action, Reason},
};
use etherparse::{EtherType, IpNumber, Ipv4Header};

use super::{
    Run,
    reading::{self, ETHERNET, is_unicast},
    same,
};
use crate::{Case, Surroundings};

/// A packet is sent where the longest prefix leads, if it fits, as a router would have passed it
/// on; in a tunnel, its other end gets it out again.
pub(super) fn holds(run: &Run, sent: &Send) {
    assert_eq!(run.outcome.action, Action::Forward);
    let (header, packet) = routed(run, sent.next_hop);
    let (kind, overhead) = match sent.encap {
        None => (NextHopKind::Direct, 0),
        Some(Tunnel::Ipip) => (NextHopKind::Ipip, 20),
        Some(Tunnel::Vxlan) => (NextHopKind::Vxlan, 50),
    };
    assert_eq!(sent.next_hop.kind(), Some(kind));
    assert_eq!(sent.forwarded, run.case.hook == Hook::FromWorkload);
    if run.case.hook == Hook::FromStack {
        assert!(
            run.around.is_resolved(sent.next_hop),
            "to an unresolved neighbour"
        );
    }

    // The link layer is the neighbour subsystem's affair.
    assert_eq!(run.after[..ETHERNET], run.before[..ETHERNET]);
    assert_eq!(run.after.len(), run.before.len() + overhead);
    let inner = &run.after[ETHERNET + overhead..];
    let frame = &run.before[ETHERNET..];
    if sent.forwarded {
        same(inner, &reading::forwarded(frame, reading::tos(&header)));
    } else {
        same(inner, frame);
    }
    if let Some(tunnel) = sent.encap {
        let outer = outer(run, sent, tunnel, &header);
        assert_eq!(usize::from(outer.total_len), packet.len() + overhead);
        arrives(run, sent, &header);
    }
}

/// A packet that has to wait for a neighbour takes the detour as it is.
pub(super) fn detoured(run: &Run) {
    assert_eq!(run.case.hook, Hook::FromStack);
    assert_eq!(run.outcome.action, Action::Forward);
    assert_ne!(run.config().carrier, 0, "by a detour over nothing");
    let (header, _) = reading::ipv4(&run.before[ETHERNET..]);
    let route = reading::route(run.tables, header.destination).expect("a route");
    let mut ways = reading::ways(run.tables, route).iter();
    let waiting = ways.find(|way| !run.around.is_resolved(way) && fits(run, way));
    routed(run, waiting.expect("something to wait for"));
    let vtep = run.config().vtep_mac;
    assert_eq!(reading::ethernet(run.after), (vtep, vtep, EtherType::IPV4));
    same(&run.after[ETHERNET..], &run.before[ETHERNET..]);
}

/// The carrier gets a packet of the host's own that needs a checksum, for the peer's VTEP.
pub(super) fn left_to_carrier(run: &Run, next_hop: &NextHop, tos: u8) {
    assert_ne!(run.case.hook, Hook::FromWorkload);
    assert_eq!(run.outcome.action, Action::Stack);
    let (header, _) = routed(run, next_hop);
    let config = run.config();
    assert_eq!(tos, outer_dscp(&config, &header) << 2);
    assert_ne!(config.flags & flags::VXLAN_CHECKSUM, 0);
    assert_eq!(next_hop.kind(), Some(NextHopKind::Vxlan));
    assert_eq!(
        reading::ethernet(run.after),
        (next_hop.vtep_mac, config.vtep_mac, EtherType::IPV4)
    );
    same(&run.after[ETHERNET..], &run.before[ETHERNET..]);
}

/// The packet, which may go to this next hop.
fn routed<'r>(run: &Run<'r>, next_hop: &NextHop) -> (Ipv4Header, &'r [u8]) {
    let Case {
        hook,
        ifindex,
        origin,
        packet: frame,
    } = run.case;
    let (header, packet) = reading::ipv4(&run.before[ETHERNET..]);
    let route = reading::route(run.tables, header.destination).expect("a route");
    assert!(reading::ways(run.tables, route).contains(next_hop));
    assert!(!frame.vlan_tag, "sent, though tagged");
    assert!(fits(run, next_hop), "longer than the path's MTU");
    match hook {
        Hook::FromWorkload => {
            assert!(frame.to_interface, "routed, though for another station");
            assert!(reading::is_forwardable(packet), "{header:?}");
            assert!(
                reading::is_on(run.tables, *ifindex, header.source),
                "not the pod's address"
            );
            assert!(header.destination[0] < 224, "multicast");
            let is_tunnel = header.protocol == IpNumber::IPV4
                || reading::udp_port(&header, packet) == Some(run.config().vxlan_port);
            let may = run.config().flags & flags::WORKLOAD_TUNNELS != 0;
            assert!(may || !is_tunnel, "a pod's own tunnel");
        }
        Hook::FromStack => {}
        Hook::FromCarrier => {
            let node = run.config().node;
            let is_ours = match origin {
                Origin::Program => true,
                Origin::Tunnel(key) => key.cut_up && key.remote == node,
                Origin::Foreign => false,
            };
            assert!(is_ours, "out of another's tunnel into one of ours");
        }
        Hook::FromUplink | Hook::XdpUplink => panic!("from the wire to the wire"),
        Hook::ToWorkload | Hook::ToUplink => unreachable!("decides nothing"),
    }
    (header, packet)
}

fn fits(run: &Run, next_hop: &NextHop) -> bool {
    let gso_size = run.case.packet.gso_size;
    reading::length_on_wire(&run.before[ETHERNET..], gso_size) <= next_hop.mtu.into()
}

/// The DSCP that a kernel's device would write with this `tos`.
fn outer_dscp(config: &Config, inner: &Ipv4Header) -> u8 {
    if config.flags & flags::INHERIT_DSCP == 0 {
        config.dscp
    } else {
        inner.dscp.value()
    }
}

/// The outer headers are what the kernel's devices would write.
fn outer(run: &Run, sent: &Send, tunnel: Tunnel, inner: &Ipv4Header) -> Ipv4Header {
    let (outer, packet) = reading::ipv4(&run.after[ETHERNET..]);
    assert!(reading::is_whole(packet), "{outer:?}");
    assert_eq!(
        (outer.source, outer.destination),
        (sent.next_hop.source, sent.next_hop.peer)
    );
    assert_eq!(outer.identification, inner.identification);
    assert_eq!(outer.dscp.value(), outer_dscp(&run.config(), inner));
    // RFC 6040: congestion inside is not shown outside.
    let ecn = if inner.ecn.value() == 3 {
        2
    } else {
        inner.ecn.value()
    };
    assert_eq!(outer.ecn.value(), ecn);
    let ttl = inner.time_to_live - u8::from(sent.forwarded);
    match tunnel {
        Tunnel::Ipip => {
            assert_eq!(outer.protocol, IpNumber::IPV4);
            assert_eq!(
                (outer.time_to_live, outer.dont_fragment),
                (ttl, inner.dont_fragment)
            );
        }
        Tunnel::Vxlan => {
            assert_eq!(outer.protocol, IpNumber::UDP);
            assert_eq!((outer.time_to_live, outer.dont_fragment), (64, false));
            vxlan(run.config(), sent, packet);
        }
    }
    outer
}

fn vxlan(config: Config, sent: &Send, packet: &[u8]) {
    let udp = etherparse::UdpHeader::from_slice(&packet[20..])
        .expect("a UDP header")
        .0;
    assert!(udp.source_port >= 49_152, "{udp:?}");
    assert_eq!(udp.destination_port.to_be_bytes(), config.vxlan_port);
    assert_eq!(usize::from(udp.length), packet.len() - 20);
    assert_eq!(udp.checksum, 0);
    let [_, a, b, c] = config.vni.to_be_bytes();
    assert_eq!(packet[28..36], [8, 0, 0, 0, a, b, c, 0]);
    assert_eq!(
        reading::ethernet(&packet[36..]),
        (sent.next_hop.vtep_mac, config.vtep_mac, EtherType::IPV4)
    );
}

/// The node that it is sent to takes it out of the tunnel, for a pod with its destination: what
/// leaves there is what came in here, but for TTL and addresses of the link.
fn arrives(run: &Run, sent: &Send, header: &Ipv4Header) {
    let uplink = Surroundings::imaginary().uplink;
    let tables = other_end(run.config(), sent, header);
    let frame = [
        &uplink.mac[..],
        &[0x02; 6],
        &[0x08, 0x00],
        &run.after[ETHERNET..],
    ]
    .concat();
    let case = Case {
        hook: Hook::FromUplink,
        ifindex: uplink.index,
        origin: Origin::Program,
        packet: MemoryPacket {
            gso_size: run.case.packet.gso_size,
            ..MemoryPacket::new(frame)
        },
    };
    // Whether it is delivered or injected by what it is, the checks of arrival say.
    let reason = super::check(&case, &tables, run.around);
    let is_expected = match reason {
        Reason::ReceivedIpip => sent.encap == Some(Tunnel::Ipip),
        Reason::ReceivedVxlan => sent.encap == Some(Tunnel::Vxlan),
        Reason::Martian => !is_unicast(header.source) || !is_unicast(header.destination),
        Reason::TtlExpired | Reason::Fragment | Reason::Options | Reason::HeaderChecksum => true,
        _ => false,
    };
    assert!(is_expected, "the other end makes of it {reason:?}");
}

/// What the node at the other end of the tunnel knows.
fn other_end(here: Config, sent: &Send, inner: &Ipv4Header) -> MemoryTables {
    let there = Config {
        node: sent.next_hop.peer,
        vtep_mac: sent.next_hop.vtep_mac,
        flags: here.flags & !flags::ESTABLISHED,
        ..here
    };
    let back = NextHop {
        peer: sent.next_hop.source,
        ..*sent.next_hop
    };
    let pod = Endpoint {
        ifindex: 1,
        mtu: u32::MAX,
        mac: [0x02, 0, 0, 0, 0, 1],
        host_mac: [0xee; 6],
        ..Endpoint::default()
    };
    MemoryTables {
        config: Some(there),
        routes: [((32, inner.source), back)].into(),
        endpoints: [(inner.destination, pod)].into(),
        peers: [(sent.next_hop.source, Peer::default())].into(),
        ..MemoryTables::default()
    }
}

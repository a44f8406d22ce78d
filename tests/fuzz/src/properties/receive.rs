//! What reaches this node: its pods, and, out of a tunnel, its stack.

use dataplane_common::{
    abi::{Endpoint, Hook, NextHop, NextHopKind},
    decide::{Arrival, Decap},
    packet::Tunnel,
    reason::Action,
};
use etherparse::{EtherType, IpNumber, Ipv4Header};

use super::{
    Run,
    reading::{self, ETHERNET},
    same,
};

/// A pod gets a packet for it from a neighbour pod, by a direct route or out of a peer's tunnel,
/// as a router would have passed it on.
pub(super) fn delivered(run: &Run, endpoint: &Endpoint, arrival: Arrival) {
    assert_eq!(run.outcome.action, Action::Forward);
    let (packet, tos) = match arrival {
        Arrival::Local => {
            let packet = &run.before[ETHERNET..];
            let (header, _) = reading::ipv4(packet);
            from_neighbour(run, endpoint, &header);
            (packet, reading::tos(&header))
        }
        Arrival::Direct => {
            assert_eq!(run.case.hook, Hook::FromUplink);
            let packet = &run.before[ETHERNET..];
            let (header, _) = reading::ipv4(packet);
            let route = reading::route(run.tables, header.source).expect("a route");
            let kind = reading::ways(run.tables, route)
                .first()
                .and_then(NextHop::kind);
            assert_eq!(kind, Some(NextHopKind::Direct), "not by a direct route");
            assert_ne!(header.destination, run.config().node);
            (packet, reading::tos(&header))
        }
        Arrival::Tunnelled(decap) => {
            assert_eq!(run.case.hook, Hook::FromUplink);
            opened(run, decap)
        }
        Arrival::TakenOut(tunnel) => judged_before(run, tunnel),
    };
    assert!(
        run.case.packet.to_interface,
        "delivered, though not for this node"
    );
    assert!(!run.case.packet.vlan_tag, "delivered, though tagged");

    let (header, _) = reading::ipv4(packet);
    assert!(reading::is_forwardable(packet), "{header:?}");
    assert_eq!(
        run.tables.endpoints.get(&header.destination),
        Some(endpoint)
    );
    assert_ne!(endpoint.mac, [0; 6], "to nobody");
    assert!(
        reading::length_on_wire(packet, run.case.packet.gso_size) <= endpoint.mtu,
        "longer than the pod's MTU"
    );
    assert_eq!(
        reading::ethernet(run.after),
        (endpoint.mac, endpoint.host_mac, EtherType::IPV4)
    );
    same(&run.after[ETHERNET..], &reading::forwarded(packet, tos));
}

/// The stack gets a packet for this node, or for a pod, out of a peer's tunnel, as it was put in.
pub(super) fn injected(run: &Run, decap: Option<Decap>) {
    assert_eq!(run.case.hook, Hook::FromUplink);
    assert_eq!(run.outcome.action, Action::Forward);
    assert_ne!(run.config().carrier, 0, "injected into nothing");
    let vtep = run.config().vtep_mac;
    assert_eq!(reading::ethernet(run.after), (vtep, vtep, EtherType::IPV4));
    let after = &run.after[ETHERNET..];
    let Some(decap) = decap else {
        assert!(run.case.packet.taken_out_of.is_some());
        return same(after, &run.before[ETHERNET..]);
    };
    let (packet, tos) = opened(run, decap);
    is_as_before(after, packet, tos);
}

/// What came out is what was put in, but for this TOS byte; a wrong checksum is as wrong as it was,
/// for the stack to see.
pub(super) fn is_as_before(after: &[u8], packet: &[u8], tos: u8) {
    if reading::has_right_checksum(packet) {
        same(after, &reading::marked(packet, tos));
    } else {
        assert!(!reading::has_right_checksum(after), "the mistake is gone");
    }
}

/// A packet that XDP has taken out of this tunnel.
fn judged_before<'r>(run: &Run<'r>, tunnel: Tunnel) -> (&'r [u8], u8) {
    assert_eq!(run.case.packet.taken_out_of, Some(tunnel));
    let packet = &run.before[ETHERNET..];
    let (header, _) = reading::ipv4(packet);
    (packet, reading::tos(&header))
}

fn from_neighbour(run: &Run, to: &Endpoint, header: &Ipv4Header) {
    assert_eq!(run.case.hook, Hook::FromWorkload);
    assert!(
        reading::is_on(run.tables, run.case.ifindex, header.source),
        "not the pod's address"
    );
    assert_ne!(to.ifindex, run.case.ifindex, "back to where it came from");
}

/// What is in the tunnel, and the TOS byte it is to have, if the tunnel was a peer's to this node.
pub(super) fn opened<'r>(run: &Run<'r>, decap: Decap) -> (&'r [u8], u8) {
    assert_eq!(run.case.packet.taken_out_of, None, "opened twice");
    assert!(run.case.packet.to_interface && !run.case.packet.vlan_tag);
    let config = run.config();
    let (outer, outer_packet) = reading::ipv4(&run.before[ETHERNET..]);
    assert!(reading::is_whole(outer_packet), "{outer:?}");
    assert_eq!(outer.destination, config.node, "a tunnel to another node");
    let offset = match decap.tunnel {
        Tunnel::Ipip => {
            assert_eq!(outer.protocol, IpNumber::IPV4);
            20
        }
        Tunnel::Vxlan => {
            in_our_network(run, &outer, outer_packet);
            50
        }
    };
    let (inner, _) = reading::ipv4(outer_packet.get(offset..).expect("an inner packet"));
    assert!(
        reading::is_node(run.tables, outer.source, inner.source),
        "a tunnel of no node"
    );
    assert!(
        reading::belongs_to(run.tables, outer.source, inner.source),
        "a foreign source"
    );
    assert_eq!(run.after.len(), run.before.len() - offset);
    assert!(
        reading::is_here(run.tables, inner.destination),
        "neither the node's nor a pod's"
    );
    for address in [inner.source, inner.destination] {
        assert!(reading::is_unicast(address), "no host has {address:?}");
    }
    // RFC 6040: congestion is never lost, and nothing but ECN is taken from outside.
    let (outside, inside) = (outer.ecn.value(), inner.ecn.value());
    assert!(
        outside != 3 || inside != 0,
        "congestion on a flow that does not understand it"
    );
    let ecn = match (outside, inside) {
        (3, _) => 3,
        (1, 2) => 1,
        (_, inside) => inside,
    };
    let tos = reading::tos(&inner) & !3 | ecn;
    assert_eq!(decap.tos, tos);
    // With what may follow the packet in the frame.
    (&run.before[ETHERNET + offset..], tos)
}

fn in_our_network(run: &Run, outer: &Ipv4Header, packet: &[u8]) {
    let config = run.config();
    assert_eq!(reading::udp_port(outer, packet), Some(config.vxlan_port));
    let length = outer.total_len - 20;
    assert_eq!(
        packet[24..26],
        length.to_be_bytes(),
        "UDP and IP differ on the length"
    );
    let is_summed = packet[26..28] != [0, 0];
    assert!(
        !is_summed || run.case.packet.checksum_verified,
        "nobody looked at the checksum"
    );
    let [_, a, b, c] = config.vni.to_be_bytes();
    assert_eq!(packet[28..36], [8, 0, 0, 0, a, b, c, 0], "another network");
    let (destination, _, ether_type) = reading::ethernet(&packet[36..]);
    assert_eq!(destination, config.vtep_mac, "for another VTEP");
    assert_eq!(ether_type, EtherType::IPV4);
}

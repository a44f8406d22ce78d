//! Cases 25 to 27: who may speak for whom, through a tunnel and from a pod.

use std::net::Ipv4Addr;

use dataplane_common::{
    abi::Hook::{FromUplink, FromWorkload},
    reason::Reason,
};
use etherparse::icmpv4::DestUnreachableHeader;

use super::{
    Case, Port, World, icmp,
    packets::{forwarded, from_p0, from_wire, ip, on_wire, to_p0, to_p1, udp},
    tunnels::LETS_IT_THROUGH,
    world::{
        NODE, OTHER, OTHERS_POD, OUTSIDE, P0, P1, PEER, PEERS_TUNNEL, REMOTE, ROUTER, SWALLOWED,
        TUNNEL, VNI, vtep,
    },
};
use crate::{Mode, frames};

pub(super) fn cases(world: World) -> Vec<Case> {
    [
        inner_sources(world),
        inner_destinations(world),
        spoofed(world),
        from_pods(world),
    ]
    .concat()
}

fn inner_sources(world: World) -> Vec<Case> {
    if !world.is_tunnelled() {
        return untunnelled_sources();
    }
    let right = [REMOTE, PEERS_TUNNEL, PEER].map(|source| udp(&ip(source, P0)));
    let foreign = [OTHERS_POD, OTHER, P1, OUTSIDE].map(|source| udp(&ip(source, P0)));
    let impossible = [
        NODE,
        TUNNEL,
        Ipv4Addr::LOCALHOST,
        [224, 0, 0, 1].into(),
        Ipv4Addr::BROADCAST,
    ]
    .map(|source| udp(&ip(source, P0)));
    let delivered = |packet: &Vec<u8>| (Port::P0, to_p0(&forwarded(packet)));
    vec![
        Case::new("25a", "a peer's pods, tunnel and node speak for themselves")
            .sends_all(
                Port::Wire,
                right.each_ref().map(|packet| world.arrives(packet)),
            )
            .counts_all([(FromUplink, world.received()); 3])
            .emits_all(Port::P0, right.map(|packet| to_p0(&forwarded(&packet)))),
        Case::new("25b", "a peer that speaks for others")
            .sends_all(
                Port::Wire,
                foreign.each_ref().map(|packet| world.arrives(packet)),
            )
            .counts_all([(FromUplink, Reason::ForeignSource); 4])
            .kernel_instead(LETS_IT_THROUGH, foreign.iter().map(delivered).collect())
            .bare_instead(
                [
                    Reason::ForeignSource,
                    Reason::OwnerUnknown,
                    Reason::ForeignSource,
                    Reason::OwnerUnknown,
                ]
                .map(|reason| (FromUplink, reason)),
                vec![delivered(&foreign[1]), delivered(&foreign[3])],
            ),
        Case::new("25c", "a peer that speaks for the node, or for nobody")
            .sends_all(Port::Wire, impossible.map(|packet| world.arrives(&packet)))
            .counts_all([(FromUplink, Reason::ForeignSource); 2])
            .counts_all([(FromUplink, Reason::Martian); 3])
            .bare_instead(
                [
                    Reason::OwnerUnknown,
                    Reason::ForeignSource,
                    Reason::Martian,
                    Reason::Martian,
                    Reason::Martian,
                ]
                .map(|reason| (FromUplink, reason)),
                Vec::new(),
            ),
    ]
}

/// Without a tunnel, reverse-path filters are what there is.
fn untunnelled_sources() -> Vec<Case> {
    let routed_otherwise = [P1, OUTSIDE, SWALLOWED].map(|source| udp(&ip(source, P0)));
    let impossible =
        [NODE, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST].map(|source| udp(&ip(source, P0)));
    vec![
        Case::new(
            "25e",
            "from where no direct route leads: for the stack and its filters",
        )
        .sends_all(
            Port::Wire,
            routed_otherwise.each_ref().map(|packet| from_wire(packet)),
        )
        .counts_all([(FromUplink, Reason::SourceOutside); 3])
        .emits_all(
            Port::P0,
            routed_otherwise.map(|packet| to_p0(&forwarded(&packet))),
        ),
        Case::new("25f", "from the node itself, or from nobody")
            .sends_all(Port::Wire, impossible.map(|packet| from_wire(&packet)))
            .counts_all([(FromUplink, Reason::SourceOutside); 3]),
    ]
}

fn inner_destinations(world: World) -> Vec<Case> {
    if !world.is_tunnelled() {
        return Vec::new();
    }
    let through = [OTHERS_POD, REMOTE].map(|destination| udp(&ip(REMOTE, destination)));
    let outside = udp(&ip(REMOTE, OUTSIDE));
    vec![
        Case::new("25d", "a peer that sends through the node")
            .sends_all(
                Port::Wire,
                through.each_ref().map(|packet| world.arrives(packet)),
            )
            .sends(Port::Wire, world.arrives(&outside))
            .counts_all([(FromUplink, Reason::ForeignDestination); 3])
            .kernel_instead(
                "forwards it",
                vec![
                    (Port::Wire, world.leaves_to(OTHER, &forwarded(&through[0]))),
                    (Port::Wire, world.leaves(&forwarded(&through[1]))),
                    (Port::Wire, on_wire(ROUTER, &forwarded(&outside))),
                ],
            ),
    ]
}

fn spoofed(world: World) -> Vec<Case> {
    let sources = [
        P1,
        REMOTE,
        NODE,
        TUNNEL,
        PEER,
        OUTSIDE,
        frames::GATEWAY,
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
    ];
    let to = |destination: Ipv4Addr| sources.map(|source| from_p0(&udp(&ip(source, destination))));
    let forged = udp(&ip(P1, REMOTE));
    let harmless = udp(&ip(P0, REMOTE));
    vec![
        Case::new("26a", "a pod that speaks for others, to a remote pod")
            .sends_all(Port::P0, to(REMOTE))
            .counts_all([(FromWorkload, Reason::SpoofedSource); 9]),
        Case::new("26b", "a pod that speaks for others, to a pod on the node")
            .sends_all(Port::P0, to(P1))
            .counts_all([(FromWorkload, Reason::SpoofedSource); 9]),
        Case::new("26c", "a pod that speaks for others, to the node")
            .sends_all(Port::P0, to(NODE))
            .counts_all([(FromWorkload, Reason::SpoofedSource); 9]),
        Case::new("26d", "a pod that speaks for another, in odd packets")
            .sends_all(
                Port::P0,
                [
                    udp(&ip(P1, REMOTE).ttl(1)),
                    udp(&ip(P1, REMOTE).options(&[1, 1, 1, 0])),
                    ip(P1, REMOTE).fragment(0, true).packet(17, &forged[20..]),
                    ip(P1, REMOTE).fragment(64, false).packet(17, &forged[20..]),
                    udp(&ip(P1, [224, 0, 0, 1].into())),
                ]
                .map(|packet| from_p0(&packet)),
            )
            .counts_all([(FromWorkload, Reason::SpoofedSource); 5]),
        Case::new(
            "26e",
            "a pod that speaks for itself beside one that does not",
        )
        .sends_all(Port::P0, [&forged, &harmless].map(|packet| from_p0(packet)))
        .counts(FromWorkload, Reason::SpoofedSource)
        .counts(FromWorkload, world.sent())
        .emits(Port::Wire, world.leaves(&forwarded(&harmless))),
    ]
}

/// The forgeries of Calico's own tests (`encap_spoofing_test.go`): a tunnel that a pod begins, to a
/// node, or to an address of the pods', with a packet from itself in it.
fn from_pods(world: World) -> Vec<Case> {
    let tunnels = |destination: Ipv4Addr, inner: &[u8]| {
        let outer = ip(P0, destination);
        let frame = frames::ethernet(vtep("node-1"), vtep("node-0"), inner);
        [outer.ipip(inner), outer.vxlan(VNI, &frame, false)]
    };
    let [to_peer, to_remote] =
        [PEER, REMOTE].map(|destination| tunnels(destination, &udp(&ip(P0, REMOTE))));
    let inner = udp(&ip(REMOTE, P1));
    let to_node = tunnels(NODE, &inner);
    let harmless = ip(P0, REMOTE).udp(frames::VXLAN_PORT, 5000, b"only from the port");
    let dropped = |name, title, packets: &[Vec<u8>; 2]| {
        Case::new(name, title)
            .sends_all(Port::P0, packets.each_ref().map(|packet| from_p0(packet)))
            .counts_all([(FromWorkload, Reason::WorkloadTunnel); 2])
    };
    let hidden = udp(&ip(P0, NODE).options(&[1, 1, 1, 0]));
    let [ipip, vxlan] = &to_node;
    let protocol_unknown = world.nobodys_tunnel();
    let delivered = (Port::P1, to_p1(&forwarded(&inner)));
    let rejected =
        |why, packet: &[u8]| (Port::P0, to_p0(&icmp::unreachable(NODE, P0, why, packet)));
    vec![
        dropped("27a", "a tunnel from a pod to a node", &to_peer).kernel_instead(
            "forwards it: on Calico's nodes netfilter is to drop it",
            to_peer
                .iter()
                .map(|packet| (Port::Wire, on_wire(PEER, &forwarded(packet))))
                .collect(),
        ),
        dropped("27b", "a tunnel from a pod to a remote pod", &to_remote).kernel_instead(
            "forwards it: on Calico's nodes netfilter is to drop it",
            to_remote
                .iter()
                .map(|packet| (Port::Wire, world.leaves(&forwarded(packet))))
                .collect(),
        ),
        dropped("27c", "a tunnel from a pod to its own node", &to_node).kernel_instead(
            "opens it, or has no receiver for it",
            match world.mode {
                Mode::Ipip => vec![rejected(DestUnreachableHeader::Port, vxlan), delivered],
                Mode::Vxlan => vec![rejected(protocol_unknown, ipip), delivered],
                Mode::None | Mode::CrossSubnet => vec![
                    rejected(protocol_unknown, ipip),
                    rejected(DestUnreachableHeader::Port, vxlan),
                ],
            },
        ),
        Case::new(
            "27e",
            "a datagram of a pod to a node, behind options, is taken for the worst",
        )
        .sends(Port::P0, from_p0(&hidden))
        .counts(FromWorkload, Reason::WorkloadTunnel)
        .kernel_instead(
            "reads it",
            vec![rejected(DestUnreachableHeader::Port, &hidden)],
        ),
        Case::new("27d", "a pod may send from the port of VXLAN")
            .sends(Port::P0, from_p0(&harmless))
            .counts(FromWorkload, world.sent())
            .emits(Port::Wire, world.leaves(&forwarded(&harmless))),
    ]
}

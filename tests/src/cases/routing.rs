//! Cases 42 to 50, as far as they are of single packets.

use dataplane_common::{
    abi::Hook::{FromCarrier, FromStack, FromUplink, FromWorkload},
    reason::Reason,
};
use etherparse::{ArpEthIpv4Packet, ArpOperation, EtherType, icmpv4::DestUnreachableHeader};

use super::{
    Case, Played, Port, World, icmp,
    packets::{forwarded, from_p0, from_peers_vtep, from_wire, ip, on_wire, to_p0, udp},
    world::{
        BORROWED, FREE, LENT, NODE, NODE_MAC, OTHER, OUTSIDE, P0, PEER, PEER_MAC, PROHIBITED,
        REMOTE, ROUTER, SECOND_OF_P0, SWALLOWED, UNREACHABLE, VNI,
    },
};
use crate::{Mac, Mode, frames};

pub(super) fn cases(world: World) -> Vec<Case> {
    [
        longest_prefix(world),
        no_way(world),
        default_route(),
        neighbours(world),
        stale(world),
        several_addresses(world),
        asymmetric(world),
    ]
    .concat()
}

fn longest_prefix(world: World) -> Vec<Case> {
    let [borrowed, lent] = [BORROWED, LENT].map(|destination| udp(&ip(P0, destination)));
    let back = udp(&ip(REMOTE, BORROWED));
    let mut cases = vec![
        Case::new("42a", "a /32 out of a peer's block leads to another peer")
            .sends(Port::P0, from_p0(&borrowed))
            .counts(FromWorkload, world.sent())
            .emits(Port::Wire, world.leaves_to(OTHER, &forwarded(&borrowed))),
        Case::new("42b", "a /32 out of the node's own block leads to a peer")
            .sends(Port::P0, from_p0(&lent))
            .counts(FromWorkload, world.sent())
            .emits(Port::Wire, world.leaves_to(OTHER, &forwarded(&lent))),
    ];
    if world.is_tunnelled() {
        let forged = udp(&ip(BORROWED, P0));
        cases.push(
            Case::new("42c", "a peer does not speak for what it has lent")
                .sends(Port::Wire, world.arrives(&forged))
                .counts(FromUplink, Reason::ForeignSource)
                .kernel_instead(
                    "lets it through: on Calico's nodes netfilter is to drop it",
                    vec![(Port::P0, to_p0(&forwarded(&forged)))],
                ),
        );
        cases.push(
            Case::new("42d", "what is lent is not reached through the node")
                .sends(Port::Wire, world.arrives(&back))
                .counts(FromUplink, Reason::ForeignDestination)
                .kernel_instead(
                    "forwards it",
                    vec![(Port::Wire, world.leaves_to(OTHER, &forwarded(&back)))],
                ),
        );
    }
    cases
}

fn no_way(world: World) -> Vec<Case> {
    let from_remote = udp(&ip(REMOTE, FREE));
    let [swallowed, free, unreachable, prohibited] =
        [SWALLOWED, FREE, UNREACHABLE, PROHIBITED].map(|destination| udp(&ip(P0, destination)));
    let answer = |why, packet: &[u8]| to_p0(&icmp::unreachable(NODE, P0, why, packet));
    vec![
        Case::new("43a", "a blackhole is silent")
            .sends(Port::P0, from_p0(&swallowed))
            .counts(FromWorkload, Reason::Blackhole),
        Case::new(
            "43b",
            "an address of the node's block that is nobody's is silent",
        )
        .sends(Port::P0, from_p0(&free))
        .counts(FromWorkload, Reason::LocalAddress),
        Case::new(
            "43e",
            "an address of the node's block that is nobody's, from the wire",
        )
        .sends(Port::Wire, world.arrives(&from_remote))
        .counts_all(if world.is_tunnelled() {
            world.stack_receives(Reason::ForHost)
        } else {
            vec![(FromUplink, Reason::NotForPod)]
        }),
        Case::new("43c", "an unreachable route is answered")
            .sends(Port::P0, from_p0(&unreachable))
            .counts(FromWorkload, Reason::NoRoute)
            .emits(Port::P0, answer(DestUnreachableHeader::Host, &unreachable)),
        Case::new("43d", "a prohibited route is answered")
            .sends(Port::P0, from_p0(&prohibited))
            .counts(FromWorkload, Reason::NoRoute)
            .emits(
                Port::P0,
                answer(DestUnreachableHeader::FilterProhibited, &prohibited),
            ),
    ]
}

fn default_route() -> Vec<Case> {
    let packet = udp(&ip(P0, OUTSIDE));
    let back = udp(&ip(OUTSIDE, P0));
    vec![
        Case::new("45a", "the default route is the stack's")
            .sends(Port::P0, from_p0(&packet))
            .counts(FromWorkload, Reason::NoRoute)
            .emits(Port::Wire, on_wire(ROUTER, &forwarded(&packet))),
        Case::new("45b", "what comes by it is the stack's")
            .sends(Port::Wire, from_wire(&back))
            .counts(FromUplink, Reason::SourceOutside)
            .emits(Port::P0, to_p0(&forwarded(&back))),
    ]
}

/// A neighbour whose Ethernet address is not known, or another.
fn neighbours(world: World) -> Vec<Case> {
    const FORGOTTEN: &str = "ip neigh delete 192.168.1.11 dev eth0";
    const MOVED: &str =
        "ip neigh replace 192.168.1.11 lladdr 02:77:00:00:00:01 dev eth0 nud permanent";
    const KNOWN: &str =
        "ip neigh replace 192.168.1.11 lladdr 02:00:c0:a8:01:0b dev eth0 nud permanent";
    let packet = udp(&ip(P0, REMOTE));
    let from_host = udp(&ip(world.own(), REMOTE));
    let pieces = [
        ip(P0, REMOTE).fragment(0, true).packet(17, &[7; 64]),
        ip(P0, REMOTE).fragment(64, false).packet(17, &[7; 64]),
    ];
    let mut to_moved = world.leaves(&forwarded(&packet));
    to_moved[..6].copy_from_slice(&[0x02, 0x77, 0, 0, 0, 1]);
    let asked = |name, title, port, frames: Vec<Vec<u8>>| {
        Case::new(name, title)
            .sends_all(port, frames)
            .sends(Port::Wire, peers_answer())
            .counts(FromUplink, Reason::NotIpv4)
            .emits(Port::Wire, question_for_peer())
            .between(&[FORGOTTEN], &[KNOWN])
            .played(Played::NotRun)
    };
    // The stack's packets wait on the carrier's ingress, without the route they came by.
    let waits = |times| {
        let times = if world.is_tunnelled() { times } else { 0 };
        [
            vec![(FromStack, Reason::Detour); times],
            vec![(FromCarrier, world.sent()); times],
        ]
        .concat()
    };
    vec![
        asked(
            "46a",
            "a neighbour is asked for, and gets what waited for it",
            Port::P0,
            vec![from_p0(&packet)],
        )
        .counts(FromWorkload, world.sent())
        .emits(Port::Wire, world.leaves(&forwarded(&packet))),
        asked(
            "46b",
            "a neighbour is asked for, and gets what the node had for it",
            Port::Host,
            vec![from_host.clone()],
        )
        .counts_all(waits(1))
        .emits(Port::Wire, world.leaves(&from_host)),
        asked(
            "46c",
            "a neighbour is asked for, and gets what went by the stack",
            Port::P0,
            pieces.each_ref().map(|piece| from_p0(piece)).into(),
        )
        .counts_all([(FromWorkload, Reason::Fragment); 2])
        .counts_all(waits(2))
        .emits_all(
            Port::Wire,
            pieces.map(|piece| world.leaves(&forwarded(&piece))),
        ),
        Case::new("46d", "a neighbour's new Ethernet address holds at once")
            .sends(Port::P0, from_p0(&packet))
            .counts(FromWorkload, world.sent())
            .emits(Port::Wire, to_moved)
            .between(&[MOVED], &[KNOWN]),
    ]
}

/// The node's question for its peer.
fn question_for_peer() -> Vec<u8> {
    let question = ArpEthIpv4Packet {
        operation: ArpOperation::REQUEST,
        sender_mac: NODE_MAC.0,
        sender_ipv4: NODE.octets(),
        target_mac: Mac::ZERO.0,
        target_ipv4: PEER.octets(),
    };
    let kind = EtherType::ARP.0;
    frames::ethernet_with_type(NODE_MAC, Mac::BROADCAST, kind, &question.to_bytes())
}

fn peers_answer() -> Vec<u8> {
    let answer = ArpEthIpv4Packet {
        operation: ArpOperation::REPLY,
        sender_mac: PEER_MAC.0,
        sender_ipv4: PEER.octets(),
        target_mac: NODE_MAC.0,
        target_ipv4: NODE.octets(),
    };
    frames::ethernet_with_type(PEER_MAC, NODE_MAC, EtherType::ARP.0, &answer.to_bytes())
}

/// Two nodes of which each takes the other for the owner of an address.
fn stale(world: World) -> Vec<Case> {
    let packet = udp(&ip(REMOTE, OTHERS_GONE));
    let case = Case::new("47a", "what the sender has itself goes back, or no further")
        .sends(Port::Wire, world.arrives(&packet));
    let back = world.leaves(&forwarded(&packet));
    vec![if world.is_tunnelled() {
        case.counts(FromUplink, Reason::ForeignDestination)
            .kernel_instead("sends it back", vec![(Port::Wire, back)])
    } else {
        case.counts(FromUplink, Reason::NotForPod)
            .emits(Port::Wire, back)
    }]
}

/// An address that the node takes for the peer's.
const OTHERS_GONE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 244, 1, 99);

fn several_addresses(world: World) -> Vec<Case> {
    let from = udp(&ip(SECOND_OF_P0, REMOTE));
    let to = udp(&ip(REMOTE, SECOND_OF_P0));
    let local = udp(&ip(P0, SECOND_OF_P0));
    vec![
        Case::new(
            "49a",
            "a pod sends from its second address, in nobody's block",
        )
        .sends(Port::P0, from_p0(&from))
        .counts(FromWorkload, world.sent())
        .emits(Port::Wire, world.leaves(&forwarded(&from))),
        Case::new("49b", "a pod receives at its second address")
            .sends(Port::Wire, world.arrives(&to))
            .counts(FromUplink, world.received())
            .emits(Port::P0, to_p0(&forwarded(&to))),
        Case::new("49c", "a pod to itself, by its second address")
            .sends(Port::P0, from_p0(&local))
            .counts(FromWorkload, Reason::Hairpin)
            .emits(Port::P0, to_p0(&forwarded(&local))),
    ]
}

/// A peer that chooses otherwise than the node whether to encapsulate.
fn asymmetric(world: World) -> Vec<Case> {
    let packet = udp(&ip(REMOTE, P0));
    let delivered = to_p0(&forwarded(&packet));
    let plain = Case::new(
        "50a",
        "a peer that does not encapsulate where the node does",
    )
    .sends(Port::Wire, from_wire(&packet))
    .counts(FromUplink, Reason::SourceOutside)
    .emits(Port::P0, delivered.clone());
    let vxlan = Case::new("50b", "VXLAN from a peer to which the node sends otherwise")
        .sends(
            Port::Wire,
            from_wire(&ip(PEER, NODE).vxlan(VNI, &from_peers_vtep(&packet), false)),
        )
        .counts(FromUplink, Reason::ReceivedVxlan)
        .emits(Port::P0, delivered.clone());
    let ipip = Case::new("50c", "IPIP from a peer to which the node sends otherwise")
        .sends(Port::Wire, from_wire(&ip(PEER, NODE).ipip(&packet)))
        .counts(FromUplink, Reason::ReceivedIpip)
        .emits(Port::P0, delivered);
    let answered = |case: Case, why| {
        let outer = &case.sent[0].1[14..];
        let answer = on_wire(PEER, &icmp::unreachable(NODE, PEER, why, outer));
        case.kernel_instead(
            "has no receiver for it in this mode",
            vec![(Port::Wire, answer)],
        )
    };
    let no_ipip = world.nobodys_tunnel();
    let no_vxlan = DestUnreachableHeader::Port;
    match world.mode {
        Mode::Ipip => vec![plain, answered(vxlan, no_vxlan)],
        Mode::Vxlan => vec![plain, answered(ipip, no_ipip)],
        Mode::None | Mode::CrossSubnet => vec![answered(vxlan, no_vxlan), answered(ipip, no_ipip)],
    }
}

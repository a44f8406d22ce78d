//! Cases 23, 24, and 28 to 30: what is a tunnel packet, and whose.
//!
//! The kernel's tunnels take packets from anybody and hand on what is in them; on Calico's nodes it
//! is netfilter rules that drop the forged ones, which these nodes do not have. So many cases here,
//! and among the forgeries, expect something else of the kernel: that it lets the packet through.

use std::net::Ipv4Addr;

use dataplane_common::{
    abi::Hook::{FromCarrier, FromUplink},
    reason::Reason,
};
use etherparse::icmpv4::DestUnreachableHeader;

use super::{
    Case, Port, World, icmp,
    packets::{PAYLOAD, forwarded, from_peers_vtep, from_wire, ip, on_wire, to_p0, udp},
    world::{
        NODE, NODE_MAC, OTHER, OUTSIDE, P0, PEER, REMOTE, SECOND, STRANGER, TUNNEL, VNI, vtep,
    },
};
use crate::{Ip, Mac, Mode, frames};

/// What the kernel does with what it is not its to judge.
pub(super) const LETS_IT_THROUGH: &str =
    "lets it through: on Calico's nodes netfilter is to drop it";

pub(super) fn cases(world: World) -> Vec<Case> {
    [
        networks(world),
        outer_sources(world),
        outer_destinations(world),
        checksums(world),
        not_vxlan(world),
        nested(world),
    ]
    .concat()
}

fn networks(world: World) -> Vec<Case> {
    if world.mode != Mode::Vxlan {
        return Vec::new();
    }
    let frame = from_peers_vtep(&udp(&ip(REMOTE, P0)));
    let with_header = |header: [u8; 8]| {
        let datagram = [&header[..], &frame].concat();
        from_wire(&ip(PEER, NODE).udp_unsummed(50_000, frames::VXLAN_PORT, &datagram))
    };
    let vnis = [0, 1, VNI - 1, VNI + 1, VNI << 8, 0x00ff_ffff];
    let right = frames::vxlan_header(VNI);
    let reserved = (0..8).flat_map(|byte| (0..8).map(move |bit| (byte, 1 << bit)));
    let with_reserved: Vec<_> = reserved
        // The I flag, and the VNI.
        .filter(|(byte, bit)| (*byte, *bit) != (0, 8) && !(4..7).contains(byte))
        .map(|(byte, bit)| {
            let mut header = right;
            header[byte] |= bit;
            with_header(header)
        })
        .collect();
    let mut without_vni = right;
    without_vni[0] = 0;
    let to_vtep = |mac| {
        let inner = frames::ethernet(vtep("node-1"), mac, &udp(&ip(REMOTE, P0)));
        from_wire(&ip(PEER, NODE).vxlan(VNI, &inner, false))
    };
    let count = with_reserved.len();
    vec![
        Case::new("23a", "another VXLAN network")
            .sends_all(
                Port::Wire,
                vnis.map(|vni| with_header(frames::vxlan_header(vni))),
            )
            .counts_all([(FromUplink, Reason::NotOurTunnel); 6])
            .counts_all([(FromCarrier, Reason::WrongNetwork); 6]),
        Case::new("23b", "no VXLAN network")
            .sends(Port::Wire, with_header(without_vni))
            .counts(FromUplink, Reason::NotOurTunnel),
        Case::new("23c", "reserved bits of the VXLAN header, each")
            .sends_all(Port::Wire, with_reserved)
            .counts_all(vec![(FromUplink, Reason::NotOurTunnel); count]),
        Case::new("23d", "a frame in VXLAN to another VTEP, or to all")
            .sends_all(
                Port::Wire,
                [vtep("node-2"), NODE_MAC, Mac::BROADCAST].map(to_vtep),
            )
            .counts_all([(FromUplink, Reason::InnerOtherHost); 3])
            .counts_all([(FromCarrier, Reason::Accepted); 3]),
    ]
}

fn outer_sources(world: World) -> Vec<Case> {
    if !world.is_tunnelled() {
        return Vec::new();
    }
    let packet = udp(&ip(REMOTE, P0));
    let strangers = [STRANGER, OUTSIDE, REMOTE];
    let impossible = [NODE, TUNNEL, Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST];
    let from = |source: Ipv4Addr| world.arrives_in(&ip(source, NODE), &packet);
    let through = vec![(Port::P0, to_p0(&forwarded(&packet))); 3];
    vec![
        Case::new("24a", "a tunnel packet from no peer")
            .sends_all(Port::Wire, strangers.map(from))
            .counts_all([(FromUplink, Reason::UnknownPeer); 3])
            .kernel_instead(LETS_IT_THROUGH, through.clone())
            .bare_instead([(FromUplink, Reason::UnlistedPeer); 3], through),
        Case::new(
            "24b",
            "a tunnel packet from an address that nobody on a wire has",
        )
        .sends_all(Port::Wire, impossible.map(from))
        .counts_all([(FromUplink, Reason::UnknownPeer); 4])
        .bare_instead([(FromUplink, Reason::UnlistedPeer); 4], Vec::new()),
    ]
}

fn outer_destinations(world: World) -> Vec<Case> {
    if !world.is_tunnelled() {
        return Vec::new();
    }
    let inner = udp(&ip(REMOTE, P0));
    let delivered = (Port::P0, to_p0(&forwarded(&inner)));
    let to = |destination: Ipv4Addr| world.arrives_in(&ip(PEER, destination), &inner);
    let passing = to(OTHER);
    let second = Case::new("28b", "a tunnel packet to another address of the node")
        .sends(Port::Wire, to(SECOND))
        .counts(FromUplink, Reason::NotForPod);
    let second = match world.mode {
        Mode::Vxlan if world.kernel.tells_outer_destination => second
            .counts(FromCarrier, Reason::WrongEndpoint)
            .kernel_instead("takes it at every address of its own", vec![delivered]),
        Mode::Vxlan => second
            .counts(FromCarrier, Reason::Accepted)
            .emits(Port::P0, delivered.1),
        _ => {
            let why = world.nobodys_tunnel();
            let outer = &to(SECOND)[14..];
            second
                .emits(
                    Port::Wire,
                    on_wire(PEER, &icmp::unreachable(SECOND, PEER, why, outer)),
                )
                .kernel_instead("takes it at every address of its own", vec![delivered])
        }
    };
    vec![
        Case::new(
            "28a",
            "a tunnel packet to another node is forwarded, not opened",
        )
        .sends(Port::Wire, passing.clone())
        .counts(FromUplink, Reason::NotForPod)
        .emits(Port::Wire, on_wire(OTHER, &forwarded(&passing[14..]))),
        second,
    ]
}

fn checksums(world: World) -> Vec<Case> {
    if world.mode != Mode::Vxlan {
        return Vec::new();
    }
    let inner = udp(&ip(REMOTE, P0));
    let frame = |summed| from_wire(&ip(PEER, NODE).vxlan(VNI, &from_peers_vtep(&inner), summed));
    let mut wrong = frame(true);
    wrong[41] ^= 1;
    let mut wrong_header = frame(false);
    wrong_header[25] ^= 1;
    vec![
        Case::new("29a", "no outer UDP checksum")
            .sends(Port::Wire, frame(false))
            .counts(FromUplink, Reason::ReceivedVxlan)
            .emits(Port::P0, to_p0(&forwarded(&inner))),
        Case::new(
            "29b",
            "an outer UDP checksum that is right is verified by the stack",
        )
        .sends(Port::Wire, frame(true))
        .counts(FromUplink, Reason::OuterChecksum)
        .counts(FromCarrier, Reason::Accepted)
        .emits(Port::P0, to_p0(&forwarded(&inner))),
        Case::new("29c", "an outer UDP checksum that is wrong")
            .sends(Port::Wire, wrong)
            .counts(FromUplink, Reason::OuterChecksum),
        Case::new("29d", "an outer header checksum that is wrong")
            .sends(Port::Wire, wrong_header)
            .counts(FromUplink, Reason::HeaderChecksum),
    ]
}

/// The port of VXLAN, used by others.
fn not_vxlan(world: World) -> Vec<Case> {
    let questions = [&b"?"[..], b"what is the time?", &[0xff; 64]];
    let datagrams = questions.map(|text| ip(PEER, NODE).udp(4000, frames::VXLAN_PORT, text));
    let from_port = ip(PEER, NODE).udp(frames::VXLAN_PORT, 9, PAYLOAD);
    let to_pod = ip(REMOTE, P0).udp(4000, frames::VXLAN_PORT, PAYLOAD);
    let port_unreachable = |packet: &[u8]| {
        let why = DestUnreachableHeader::Port;
        on_wire(PEER, &icmp::unreachable(NODE, PEER, why, packet))
    };
    // In the node's own programs' mode the carrier listens whatever the mode is.
    let other = Case::new(
        "30a",
        "datagrams to the port of VXLAN that hold something else",
    )
    .sends_all(
        Port::Wire,
        datagrams.each_ref().map(|packet| from_wire(packet)),
    )
    .counts_all([(FromUplink, Reason::NotOurTunnel); 3]);
    let other = if world.mode == Mode::Vxlan {
        other
    } else {
        let answers = datagrams
            .iter()
            .map(|packet| (Port::Wire, port_unreachable(packet)));
        other.kernel_instead("has no receiver for VXLAN in this mode", answers.collect())
    };
    vec![
        other,
        Case::new("30b", "datagrams from the port of VXLAN to the node")
            .sends(Port::Wire, from_wire(&from_port))
            .counts(FromUplink, Reason::NotForPod)
            .emits(Port::Wire, port_unreachable(&from_port)),
        Case::new("30c", "a pod may receive at the port of VXLAN")
            .sends(Port::Wire, world.arrives(&to_pod))
            .counts(FromUplink, world.received())
            .emits(Port::P0, to_p0(&forwarded(&to_pod))),
    ]
}

/// A tunnel in a tunnel is a packet like any other to a pod, and none of the node's.
fn nested(world: World) -> Vec<Case> {
    if !world.is_tunnelled() {
        return Vec::new();
    }
    let innermost = udp(&ip(REMOTE, P0));
    let frame = from_peers_vtep(&innermost);
    let wrap = |outer: &Ip| [outer.ipip(&innermost), outer.vxlan(VNI, &frame, false)];
    let to_pod = wrap(&ip(REMOTE, P0));
    let [_, to_node] = wrap(&ip(REMOTE, NODE));
    vec![
        Case::new("30d", "a tunnel in a tunnel, to a pod, is not opened")
            .sends_all(
                Port::Wire,
                to_pod.each_ref().map(|packet| world.arrives(packet)),
            )
            .counts_all([(FromUplink, world.received()); 2])
            .emits_all(Port::P0, to_pod.map(|packet| to_p0(&forwarded(&packet)))),
        Case::new("30e", "a tunnel in a tunnel, to the node, is not opened")
            .sends(Port::Wire, world.arrives(&to_node))
            .counts(FromUplink, Reason::NestedTunnel)
            .kernel_instead(
                "opens it, or has no receiver for it",
                vec![if world.mode == Mode::Vxlan {
                    (Port::P0, to_p0(&forwarded(&innermost)))
                } else {
                    let why = DestUnreachableHeader::Port;
                    let answer = icmp::unreachable(NODE, REMOTE, why, &to_node);
                    (Port::Wire, world.leaves(&answer))
                }],
            ),
    ]
}

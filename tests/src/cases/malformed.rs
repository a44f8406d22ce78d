//! Cases 13 to 17, and 22: packets that contradict themselves, or that are not all there.

use dataplane_common::{
    abi::Hook::{FromUplink, FromWorkload},
    reason::Reason,
};
use etherparse::TcpHeader;

use super::{
    Case, Played, Port, World,
    packets::{forwarded, from_p0, from_wire, ip, to_p0, to_p1, udp},
    world::{NODE, NODE_MAC, P0, P0_MAC, P1, PEER, PEER_MAC, REMOTE, WIDE},
};
use crate::{Mac, Mode, frames};

const UDP: u8 = 17;
const ETHERNET_LEN: usize = 14;

pub(super) fn cases(world: World) -> Vec<Case> {
    [
        malformed(world),
        padded(world),
        short(world),
        truncated(world),
        not_ip(),
        without_length(),
    ]
    .concat()
}

/// What contradicts itself or the frame it is in.
fn malformed(world: World) -> Vec<Case> {
    let packet = udp(&ip(P0, REMOTE));
    let inner = udp(&ip(REMOTE, P0));
    let length = u16::try_from(packet.len()).expect("a short packet");
    let spoil = |packet: &[u8], at: usize, bytes: &[u8]| {
        let mut packet = packet.to_vec();
        packet[at..at + bytes.len()].copy_from_slice(bytes);
        packet
    };
    let mistakes: [(usize, &[u8]); 7] = [
        (0, &[0x44]),
        (0, &[0x40]),
        (0, &[0x65]),
        (2, &[0, 0]),
        (2, &[0, 19]),
        (2, &(length + 1).to_be_bytes()),
        (2, &[0xff, 0xff]),
    ];
    let wrong = mistakes.map(|(at, bytes)| spoil(&packet, at, bytes));
    let wrong_inner = mistakes.map(|(at, bytes)| spoil(&inner, at, bytes));
    let [header_beyond, header_beyond_inner] =
        [&packet, &inner].map(|packet| spoil(packet, 0, &[0x4f]));
    let sums = [&packet, &inner].map(|packet| spoil(packet, 10, &[0xde, 0xad]));
    let in_tunnel = if world.is_tunnelled() {
        Reason::InnerMalformed
    } else {
        Reason::Malformed
    };
    vec![
        Case::new("13a", "a header that contradicts itself, from a pod")
            .sends_all(Port::P0, wrong.iter().map(|packet| from_p0(packet)))
            .counts_all([(FromWorkload, Reason::Malformed); 7]),
        Case::new("13b", "a header that contradicts itself, from the wire")
            .sends_all(
                Port::Wire,
                wrong_inner.iter().map(|packet| world.arrives(packet)),
            )
            .counts_all([(FromUplink, in_tunnel); 7]),
        Case::new("13c", "a header longer than the packet, from a pod")
            .sends(Port::P0, from_p0(&header_beyond))
            .counts(FromWorkload, Reason::Malformed),
        Case::new("13d", "a header longer than the packet, from the wire")
            .sends(Port::Wire, world.arrives(&header_beyond_inner))
            .counts(FromUplink, in_tunnel),
        Case::new("13e", "a wrong header checksum, from a pod")
            .sends(Port::P0, from_p0(&sums[0]))
            .counts(FromWorkload, Reason::HeaderChecksum),
        Case::new("13f", "a wrong header checksum, from the wire")
            .sends(Port::Wire, world.arrives(&sums[1]))
            .counts_all(world.stack_receives(Reason::HeaderChecksum)),
    ]
}

/// What follows a packet in its frame is no part of it. The stack cuts it off; a program lets it
/// follow where there is room, since to cut it off would cost every short packet from a wire.
fn padded(world: World) -> Vec<Case> {
    const CUTS_IT_OFF: &str = "cuts it off";
    const PADDING: [u8; 18] = [0xaa; 18];
    let pad = |frame: &[u8]| [frame, &PADDING].concat();
    let small = |source, destination| ip(source, destination).udp(4000, 5000, b"");
    let [to_remote, to_pod] = [REMOTE, P1].map(|to| small(P0, to));
    let from_remote = small(REMOTE, P0);
    let leaves = world.leaves(&forwarded(&to_remote));
    let delivered = [to_p1(&forwarded(&to_pod)), to_p0(&forwarded(&from_remote))];
    let mut full = from_p0(&to_remote);
    full.resize(usize::from(WIDE) + ETHERNET_LEN, 0xaa);
    let grown = Case::new("14d", "a frame full of padding does not grow too long")
        .sends(Port::P0, full.clone());
    vec![
        Case::new(
            "14a",
            "padding is not encapsulated: it follows the outer packet",
        )
        .sends(Port::P0, pad(&from_p0(&to_remote)))
        .counts(FromWorkload, world.sent())
        .emits(Port::Wire, pad(&leaves))
        .kernel_instead(CUTS_IT_OFF, vec![(Port::Wire, leaves.clone())]),
        Case::new("14b", "padding follows a packet to a pod on the node")
            .sends(Port::P0, pad(&from_p0(&to_pod)))
            .counts(FromWorkload, Reason::DeliveredLocal)
            .emits(Port::P1, pad(&delivered[0]))
            .kernel_instead(CUTS_IT_OFF, vec![(Port::P1, delivered[0].clone())]),
        Case::new("14c", "padding follows a packet out of its tunnel")
            .sends(Port::Wire, pad(&world.arrives(&from_remote)))
            .counts(FromUplink, world.received())
            .emits(Port::P0, pad(&delivered[1]))
            .kernel_instead(CUTS_IT_OFF, vec![(Port::P0, delivered[1].clone())]),
        if world.is_tunnelled() {
            grown
                .counts(FromWorkload, Reason::TooBig)
                .counts_all(world.stack_sends(1))
                .emits(Port::Wire, leaves)
        } else {
            let padding = &full[from_p0(&to_remote).len()..];
            grown
                .counts(FromWorkload, world.sent())
                .emits(Port::Wire, [&leaves, padding].concat())
                .kernel_instead(CUTS_IT_OFF, vec![(Port::Wire, leaves)])
        },
    ]
}

fn short(world: World) -> Vec<Case> {
    let packets = |source, destination| {
        let ip = ip(source, destination);
        [
            ip.packet(253, b""),
            ip.packet(253, b"x"),
            ip.packet(UDP, &[0x0f, 0xa0, 0x13, 0x88]),
            ip.packet(6, &[0; 7]),
            ip.packet(1, &[8, 0]),
        ]
    };
    let (to_remote, to_pod, from_remote) =
        (packets(P0, REMOTE), packets(P0, P1), packets(REMOTE, P0));
    vec![
        Case::new("15a", "less than a transport header, to a remote pod")
            .sends_all(Port::P0, to_remote.each_ref().map(|packet| from_p0(packet)))
            .counts_all([(FromWorkload, world.sent()); 5])
            .emits_all(
                Port::Wire,
                to_remote.map(|packet| world.leaves(&forwarded(&packet))),
            ),
        Case::new("15b", "less than a transport header, to a pod on the node")
            .sends_all(Port::P0, to_pod.each_ref().map(|packet| from_p0(packet)))
            .counts_all([(FromWorkload, Reason::DeliveredLocal); 5])
            .emits_all(Port::P1, to_pod.map(|packet| to_p1(&forwarded(&packet)))),
        Case::new("15c", "less than a transport header, from a remote pod")
            .sends_all(
                Port::Wire,
                from_remote.each_ref().map(|packet| world.arrives(packet)),
            )
            .counts_all([(FromUplink, world.received()); 5])
            .emits_all(
                Port::P0,
                from_remote.map(|packet| to_p0(&forwarded(&packet))),
            ),
    ]
}

/// Cut off at every byte.
fn truncated(world: World) -> Vec<Case> {
    const IP_END: usize = 34;
    let from_pod = from_p0(&udp(&ip(P0, REMOTE)));
    let from_remote = world.arrives(&udp(&ip(REMOTE, P0)));
    let ends = |frame: &[u8]| 15..frame.len();
    let mut cases = vec![
        Case::new("16a", "a pod's frame that ends too early, at every byte")
            .sends_all(
                Port::P0,
                ends(&from_pod).map(|end| from_pod[..end].to_vec()),
            )
            .counts_all(ends(&from_pod).map(|end| {
                // Before the source there is nobody who sent it.
                let reason = if end < IP_END {
                    Reason::SpoofedSource
                } else {
                    Reason::Malformed
                };
                (FromWorkload, reason)
            })),
        Case::new("16b", "the wire's frame that ends too early, at every byte")
            .sends_all(
                Port::Wire,
                ends(&from_remote).map(|end| from_remote[..end].to_vec()),
            )
            .counts_all(ends(&from_remote).map(|_| (FromUplink, Reason::Malformed))),
    ];
    let outer = ip(PEER, NODE);
    match world.mode {
        Mode::Ipip => {
            let inner = udp(&ip(REMOTE, P0));
            cases.push(
                Case::new("16c", "an inner packet that ends too early, at every byte")
                    .sends_all(
                        Port::Wire,
                        (0..inner.len()).map(|end| from_wire(&outer.ipip(&inner[..end]))),
                    )
                    .counts_all(vec![(FromUplink, Reason::InnerMalformed); inner.len()]),
            );
        }
        Mode::Vxlan => {
            let payload = &from_remote[42..];
            cases.push(
                Case::new("16c", "a VXLAN datagram that ends too early, at every byte")
                    .sends_all(
                        Port::Wire,
                        (0..payload.len()).map(|end| {
                            let datagram =
                                outer.udp_unsummed(50_000, frames::VXLAN_PORT, &payload[..end]);
                            from_wire(&datagram)
                        }),
                    )
                    .counts_all((0..payload.len()).map(|end| {
                        let reason = match end {
                            0..8 => Reason::NotOurTunnel,
                            8..22 => Reason::Malformed,
                            _ => Reason::InnerMalformed,
                        };
                        (FromUplink, reason)
                    })),
            );
            let header = &from_remote[34..42];
            cases.push(
                Case::new("16d", "a UDP header that ends too early, at every byte")
                    .sends_all(
                        Port::Wire,
                        (0..8).map(|end| from_wire(&outer.packet(UDP, &header[..end]))),
                    )
                    .counts_all([(FromUplink, Reason::NotForPod); 8]),
            );
        }
        Mode::None | Mode::CrossSubnet => {}
    }
    cases
}

fn not_ip() -> Vec<Case> {
    // For local experiments, IPv6, MPLS, LLDP, and an IEEE 802.3 length.
    let types = [0x88b5, 0x86dd, 0x8847, 0x88cc, 0x0040];
    let body = [0x60; 64];
    let frames = |source, destination| {
        types.map(|kind| frames::ethernet_with_type(source, destination, kind, &body))
    };
    vec![
        Case::new("17a", "what is not IP is not touched, from a pod")
            .sends_all(Port::P0, frames(P0_MAC, Mac::CALICO))
            .counts_all([(FromWorkload, Reason::NotIpv4); 5]),
        Case::new("17b", "what is not IP is not touched, from the wire")
            .sends_all(Port::Wire, frames(PEER_MAC, NODE_MAC))
            .counts_all([(FromUplink, Reason::NotIpv4); 5]),
    ]
}

/// The length of a packet that is longer than its length field can say (BIG TCP).
fn without_length() -> Vec<Case> {
    let mut packet = ip(P0, REMOTE).tcp(TcpHeader::new(4000, 5000, 1, 1000), &[0; 2000]);
    packet[2..4].fill(0);
    vec![
        Case::new("22a", "an aggregate without a length is for the stack")
            .sends(Port::P0, from_p0(&packet))
            .counts(FromWorkload, Reason::BigTcp)
            .played(Played::OnlyRun { gso_size: 1000 }),
    ]
}

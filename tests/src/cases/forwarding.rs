//! Cases 1 to 9: TTL, path MTU, and what a router says about them.

use dataplane_common::{
    abi::Hook::{FromUplink, FromWorkload},
    reason::Reason,
};
use etherparse::{Icmpv4Type, icmpv4::DestUnreachableHeader};

use super::{
    Case, Port, World, icmp,
    packets::{forwarded, fragmented, from_p0, ip, to_p0, to_p1, udp, udp_of},
    world::{self, NARROW, NODE, OTHER, P0, P1, REMOTE, ROUTER, WIDE},
};
use crate::{Mac, frames};

pub(super) fn cases(world: World) -> Vec<Case> {
    [
        ttl(world),
        received_ttl(world),
        too_big(world),
        silence(world),
        exactly(world),
        dont_fragment(world),
    ]
    .concat()
}

fn ttl(world: World) -> Vec<Case> {
    let to_remote = udp(&ip(P0, REMOTE).ttl(1));
    let to_pod = udp(&ip(P0, P1).ttl(1));
    let to_node = ip(P0, NODE).ttl(1).echo_request(7, 1, b"ping");
    let expired = udp(&ip(P0, REMOTE).ttl(0));
    let from_remote = udp(&ip(REMOTE, P0).ttl(1));
    let to_tunnel = ip(REMOTE, world.own()).ttl(1).echo_request(7, 1, b"ping");
    let own = world.own();
    vec![
        Case::new("1a", "TTL 1 to a remote pod is answered")
            .sends(Port::P0, from_p0(&to_remote))
            .counts(FromWorkload, Reason::TtlExpired)
            .emits(Port::P0, to_p0(&icmp::ttl_exceeded(NODE, P0, &to_remote))),
        Case::new("1b", "TTL 1 to a pod on the node is answered")
            .sends(Port::P0, from_p0(&to_pod))
            .counts(FromWorkload, Reason::TtlExpired)
            .emits(Port::P0, to_p0(&icmp::ttl_exceeded(NODE, P0, &to_pod))),
        Case::new("1c", "TTL 1 to the node arrives")
            .sends(Port::P0, from_p0(&to_node))
            .counts(FromWorkload, Reason::NoRoute)
            .emits(Port::P0, to_p0(&ip(NODE, P0).echo_reply(7, 1, b"ping"))),
        Case::new("1d", "TTL 0 is answered")
            .sends(Port::P0, from_p0(&expired))
            .counts(FromWorkload, Reason::TtlExpired)
            .emits(Port::P0, to_p0(&icmp::ttl_exceeded(NODE, P0, &expired))),
        Case::new("2a", "TTL 1 to a pod is answered by the way it came")
            .sends(Port::Wire, world.arrives(&from_remote))
            .counts_all(world.stack_receives(Reason::TtlExpired))
            .counts_all(world.stack_sends(1))
            .emits(
                Port::Wire,
                world.leaves(&icmp::ttl_exceeded(own, REMOTE, &from_remote)),
            ),
        Case::new("2b", "TTL 1 to the node itself arrives")
            .sends(Port::Wire, world.arrives(&to_tunnel))
            .counts_all(if world.is_tunnelled() {
                world.stack_receives(Reason::ForHost)
            } else {
                vec![(FromUplink, Reason::NotForPod)]
            })
            .counts_all(world.stack_sends(1))
            .emits(
                Port::Wire,
                world.leaves(&ip(own, REMOTE).echo_reply(7, 1, b"ping")),
            ),
    ]
}

fn received_ttl(world: World) -> Vec<Case> {
    let mut cases = Vec::new();
    for (letter, ttl) in ["a", "b", "c"].into_iter().zip([64, 2, 255]) {
        let to_remote = udp(&ip(P0, REMOTE).ttl(ttl));
        let from_remote = udp(&ip(REMOTE, P0).ttl(ttl));
        let to_pod = udp(&ip(P0, P1).ttl(ttl));
        cases.push(
            Case::new(
                format!("3{letter}"),
                format!("TTL {ttl} is one less behind the node, whatever the way"),
            )
            .sends(Port::P0, from_p0(&to_remote))
            .sends(Port::Wire, world.arrives(&from_remote))
            .sends(Port::P0, from_p0(&to_pod))
            .counts(FromWorkload, world.sent())
            .counts(FromUplink, world.received())
            .counts(FromWorkload, Reason::DeliveredLocal)
            .emits(Port::Wire, world.leaves(&forwarded(&to_remote)))
            .emits(Port::P0, to_p0(&forwarded(&from_remote)))
            .emits(Port::P1, to_p1(&forwarded(&to_pod))),
        );
    }
    let from_host = udp(&ip(world.own(), REMOTE).ttl(9));
    cases.push(
        Case::new("3d", "the node's own TTL is as it was")
            .sends(Port::Host, from_host.clone())
            .counts_all(world.stack_sends(1))
            .emits(Port::Wire, world.leaves(&from_host)),
    );
    cases
}

fn too_big(world: World) -> Vec<Case> {
    let mut cases = Vec::new();
    let path = world.path_mtu();
    // No pod can send more than its own interface takes.
    if path < WIDE {
        for (letter, length) in [("a", path + 1), ("b", WIDE)] {
            let packet = udp_of(&ip(P0, REMOTE).dont_fragment(true), length);
            cases.push(
                Case::new(
                    format!("4{letter}"),
                    format!("{length} bytes to a remote pod are answered with the path MTU"),
                )
                .sends(Port::P0, from_p0(&packet))
                .counts(FromWorkload, Reason::TooBig)
                .emits(Port::P0, to_p0(&icmp::too_big(NODE, P0, path, &packet))),
            );
            let packet = udp_of(&ip(P0, REMOTE), length);
            let pieces = fragmented(&forwarded(&packet), path);
            cases.push(
                Case::new(
                    format!("5{letter}"),
                    format!("{length} bytes to a remote pod are fragmented, then encapsulated"),
                )
                .sends(Port::P0, from_p0(&packet))
                .counts(FromWorkload, Reason::TooBig)
                .counts_all(world.stack_sends(pieces.len()))
                .emits_all(Port::Wire, pieces.iter().map(|piece| world.leaves(piece))),
            );
        }
    }
    let length = NARROW + 1;
    let from_remote = ip(REMOTE, P1);
    let packet = udp_of(&from_remote.clone().dont_fragment(true), length);
    let answer = icmp::too_big(world.own(), REMOTE, NARROW, &packet);
    cases.push(
        Case::new("4c", "too big for a pod: answered by the way it came")
            .sends(Port::Wire, world.arrives(&packet))
            .counts_all(world.stack_receives(Reason::TooBig))
            .counts_all(world.stack_sends(1))
            .emits(Port::Wire, world.leaves(&answer)),
    );
    let packet = udp_of(&from_remote, length);
    let pieces = fragmented(&forwarded(&packet), NARROW);
    cases.push(
        Case::new("5c", "too big for a pod: fragmented")
            .sends(Port::Wire, world.arrives(&packet))
            .counts_all(world.stack_receives(Reason::TooBig))
            .emits_all(Port::P1, pieces.iter().map(|piece| to_p1(piece))),
    );
    let packet = udp_of(&ip(P0, P1).dont_fragment(true), length);
    cases.push(
        Case::new("4d", "too big for a pod on the node: answered")
            .sends(Port::P0, from_p0(&packet))
            .counts(FromWorkload, Reason::TooBig)
            .emits(Port::P0, to_p0(&icmp::too_big(NODE, P0, NARROW, &packet))),
    );
    let packet = udp_of(&ip(P0, P1), length);
    let pieces = fragmented(&forwarded(&packet), NARROW);
    cases.push(
        Case::new("5d", "too big for a pod on the node: fragmented")
            .sends(Port::P0, from_p0(&packet))
            .counts(FromWorkload, Reason::TooBig)
            .emits_all(Port::P1, pieces.iter().map(|piece| to_p1(piece))),
    );
    cases
}

/// RFC 1812 section 4.3.2.7: what no ICMP error is ever sent about.
fn silence(world: World) -> Vec<Case> {
    let host_unreachable = Icmpv4Type::DestinationUnreachable(DestUnreachableHeader::Host);
    let error = |ttl| {
        ip(P0, REMOTE)
            .ttl(ttl)
            .icmp(host_unreachable.clone(), &[0; 28])
    };
    let from_remote = ip(REMOTE, P0)
        .ttl(1)
        .icmp(host_unreachable.clone(), &[0; 28]);
    let request = ip(P0, REMOTE).ttl(1).echo_request(7, 1, b"ping");
    let body = &udp(&ip(P0, REMOTE))[20..];
    let first = ip(P0, REMOTE).ttl(1).fragment(0, true).packet(17, body);
    let later = ip(P0, REMOTE).ttl(1).fragment(64, false).packet(17, body);
    let to_all = frames::ethernet(world::P0_MAC, Mac::BROADCAST, &udp(&ip(P0, REMOTE).ttl(1)));
    let mut cases = vec![
        Case::new("6a", "no error about an error: TTL, from a pod")
            .sends(Port::P0, from_p0(&error(1)))
            .counts(FromWorkload, Reason::TtlExpired),
        Case::new("6b", "no error about an error: TTL, from the wire")
            .sends(Port::Wire, world.arrives(&from_remote))
            .counts_all(world.stack_receives(Reason::TtlExpired)),
        Case::new("6c", "an echo request is no error")
            .sends(Port::P0, from_p0(&request))
            .counts(FromWorkload, Reason::TtlExpired)
            .emits(Port::P0, to_p0(&icmp::ttl_exceeded(NODE, P0, &request))),
        Case::new("6d", "no error about a later fragment, but about the first")
            .sends_all(Port::P0, [from_p0(&later), from_p0(&first)])
            .counts(FromWorkload, Reason::Fragment)
            .counts(FromWorkload, Reason::Fragment)
            .emits(Port::P0, to_p0(&icmp::ttl_exceeded(NODE, P0, &first))),
        Case::new("6e", "no error about a frame to everybody")
            .sends(Port::P0, to_all)
            .counts(FromWorkload, Reason::OtherHost),
        Case::new("6f", "no error about multicast and broadcast")
            .sends_all(
                Port::P0,
                [[224, 0, 0, 1], [239, 1, 2, 3], [255, 255, 255, 255]]
                    .map(|group| from_p0(&udp(&ip(P0, group.into()).ttl(1)))),
            )
            .counts_all([(FromWorkload, Reason::Multicast); 3]),
    ];
    if world.path_mtu() < WIDE {
        let mut too_big = ip(P0, REMOTE).dont_fragment(true);
        too_big = too_big.ttl(64);
        let packet = too_big.icmp(host_unreachable, &[0; 1472]);
        cases.push(
            Case::new("6g", "no error about an error: too big")
                .sends(Port::P0, from_p0(&packet))
                .counts(FromWorkload, Reason::TooBig),
        );
    }
    cases
}

fn exactly(world: World) -> Vec<Case> {
    let path = world.path_mtu();
    let to_remote = udp_of(&ip(P0, REMOTE).dont_fragment(true), path);
    let from_remote = udp_of(&ip(REMOTE, P1).dont_fragment(true), NARROW);
    let to_pod = udp_of(&ip(P0, P1).dont_fragment(true), NARROW);
    let longest = udp_of(&ip(REMOTE, P0).dont_fragment(true), path);
    vec![
        Case::new("7a", format!("{path} bytes to a remote pod pass"))
            .sends(Port::P0, from_p0(&to_remote))
            .counts(FromWorkload, world.sent())
            .emits(Port::Wire, world.leaves(&forwarded(&to_remote))),
        Case::new("7b", format!("{path} bytes from a remote pod pass"))
            .sends(Port::Wire, world.arrives(&longest))
            .counts(FromUplink, world.received())
            .emits(Port::P0, to_p0(&forwarded(&longest))),
        Case::new("7c", format!("{NARROW} bytes into a pod pass"))
            .sends(Port::Wire, world.arrives(&from_remote))
            .sends(Port::P0, from_p0(&to_pod))
            .counts(FromUplink, world.received())
            .counts(FromWorkload, Reason::DeliveredLocal)
            .emits(Port::P1, to_p1(&forwarded(&from_remote)))
            .emits(Port::P1, to_p1(&forwarded(&to_pod))),
    ]
}

fn dont_fragment(world: World) -> Vec<Case> {
    let mut cases = Vec::new();
    for (letter, set) in [("a", true), ("b", false)] {
        let with = if set { "with" } else { "without" };
        let packet = udp(&ip(P0, REMOTE).dont_fragment(set));
        let from_host = udp(&ip(world.own(), REMOTE).dont_fragment(set));
        let received = udp(&ip(REMOTE, P0).dont_fragment(set));
        cases.push(
            Case::new(
                format!("8{letter}"),
                format!("a packet {with} \"don't fragment\" gets the outer header of the kernel"),
            )
            .sends(Port::P0, from_p0(&packet))
            .sends(Port::Host, from_host.clone())
            .sends(Port::Wire, world.arrives(&received))
            .counts(FromWorkload, world.sent())
            .counts_all(world.stack_sends(1))
            .counts(FromUplink, world.received())
            .emits(Port::Wire, world.leaves(&forwarded(&packet)))
            .emits(Port::Wire, world.leaves(&from_host))
            .emits(Port::P0, to_p0(&forwarded(&received))),
        );
    }
    let outer = world.leaves_to(OTHER, &udp(&ip(P0, REMOTE)))[14..].to_vec();
    let told = icmp::too_big(ROUTER, NODE, 1300, &outer);
    cases.push(
        Case::new("9a", "an error about an outer packet is for the stack")
            .sends(
                Port::Wire,
                frames::ethernet(world::ROUTER_MAC, world::NODE_MAC, &told),
            )
            .counts(FromUplink, Reason::NotForPod)
            .between(&[], &["ip route flush cache"]),
    );
    cases
}

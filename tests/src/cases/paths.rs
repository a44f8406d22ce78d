//! Case 41: every pair of ends. Cases 37 to 40 are of netfilter, beneath which this version does
//! not work.

use std::net::Ipv4Addr;

use dataplane_common::{
    abi::Hook::{FromUplink, FromWorkload},
    reason::Reason,
};

use super::{
    Case, Port, World,
    packets::{forwarded, from_p0, ip, on_wire, to_p0, to_p1, udp},
    world::{NODE, P0, P1, PEER, PEERS_TUNNEL, REMOTE, TUNNEL},
};

pub(super) fn cases(world: World) -> Vec<Case> {
    [from_pod(world), from_host(world), from_remote(world)].concat()
}

fn from_pod(world: World) -> Vec<Case> {
    let [to_itself, to_pod, to_remote, to_peer, to_tunnel] =
        [P0, P1, REMOTE, PEER, PEERS_TUNNEL].map(|destination| udp(&ip(P0, destination)));
    let ping = |destination: Ipv4Addr| ip(P0, destination).echo_request(7, 1, b"ping");
    let answer = |source: Ipv4Addr| ip(source, P0).echo_reply(7, 1, b"ping");
    let mut cases = vec![
        Case::new("41a", "a pod to itself, by the node")
            .sends(Port::P0, from_p0(&to_itself))
            .counts(FromWorkload, Reason::Hairpin)
            .emits(Port::P0, to_p0(&forwarded(&to_itself))),
        Case::new("41b", "a pod to a pod on the node")
            .sends(Port::P0, from_p0(&to_pod))
            .counts(FromWorkload, Reason::DeliveredLocal)
            .emits(Port::P1, to_p1(&forwarded(&to_pod))),
        Case::new("41c", "a pod to its node, and back")
            .sends(Port::P0, from_p0(&ping(NODE)))
            .counts(FromWorkload, Reason::NoRoute)
            .emits(Port::P0, to_p0(&answer(NODE))),
        Case::new("41d", "a pod to a remote pod")
            .sends(Port::P0, from_p0(&to_remote))
            .counts(FromWorkload, world.sent())
            .emits(Port::Wire, world.leaves(&forwarded(&to_remote))),
        Case::new("41e", "a pod to a remote node")
            .sends(Port::P0, from_p0(&to_peer))
            .counts(FromWorkload, Reason::NoRoute)
            .emits(Port::Wire, on_wire(PEER, &forwarded(&to_peer))),
    ];
    if world.is_tunnelled() {
        cases.extend([
            Case::new("41f", "a pod to its node's tunnel address, and back")
                .sends(Port::P0, from_p0(&ping(TUNNEL)))
                .counts(FromWorkload, Reason::LocalAddress)
                .emits(Port::P0, to_p0(&answer(TUNNEL))),
            Case::new("41g", "a pod to a remote tunnel address")
                .sends(Port::P0, from_p0(&to_tunnel))
                .counts(FromWorkload, world.sent())
                .emits(Port::Wire, world.leaves(&forwarded(&to_tunnel))),
        ]);
    }
    cases
}

fn from_host(world: World) -> Vec<Case> {
    let [to_pod, to_remote, to_tunnel] =
        [P0, REMOTE, PEERS_TUNNEL].map(|destination| udp(&ip(world.own(), destination)));
    vec![
        Case::new("41h", "the node to its pod")
            .sends(Port::Host, to_pod.clone())
            .emits(Port::P0, to_p0(&to_pod)),
        Case::new("41i", "the node to a remote pod")
            .sends(Port::Host, to_remote.clone())
            .counts_all(world.stack_sends(1))
            .emits(Port::Wire, world.leaves(&to_remote)),
        Case::new("41j", "the node to a remote tunnel address")
            .sends(Port::Host, to_tunnel.clone())
            .counts_all(world.stack_sends(1))
            .emits(Port::Wire, world.leaves(&to_tunnel)),
    ]
}

fn from_remote(world: World) -> Vec<Case> {
    let own = world.own();
    let ends = [("k", "pod", REMOTE), ("l", "tunnel address", PEERS_TUNNEL)];
    let mut cases = Vec::new();
    for (letter, what, source) in ends {
        let to_pod = udp(&ip(source, P1));
        let ping = ip(source, own).echo_request(7, 1, b"ping");
        cases.push(
            Case::new(
                format!("41{letter}"),
                format!("a remote {what} to a pod, and to the node and back"),
            )
            .sends(Port::Wire, world.arrives(&to_pod))
            .sends(Port::Wire, world.arrives(&ping))
            .counts(FromUplink, world.received())
            .counts_all(if world.is_tunnelled() {
                world.stack_receives(Reason::ForHost)
            } else {
                vec![(FromUplink, Reason::NotForPod)]
            })
            .counts_all(world.stack_sends(1))
            .emits(Port::P1, to_p1(&forwarded(&to_pod)))
            .emits(
                Port::Wire,
                world.leaves(&ip(own, source).echo_reply(7, 1, b"ping")),
            ),
        );
    }
    cases
}

//! Cases 18 to 21: VLANs, packets to many, and IPv6.

use dataplane_common::{
    abi::Hook::{FromCarrier, FromUplink, FromWorkload},
    reason::Reason,
};

use super::{
    Case, Played, Port, World, icmp,
    packets::{forwarded, from_p0, from_peers_vtep, from_wire, ip, on_wire, to_p0, udp},
    world::{NODE, P0, PEER, PEER_MAC, REMOTE, TUNNEL, VNI, vtep},
};
use crate::{Mac, Mode, frames};

/// The types of a VLAN tag and of the tag around one (IEEE 802.1Q).
const C_TAG: u16 = 0x8100;
const S_TAG: u16 = 0x88a8;

pub(super) fn cases(world: World) -> Vec<Case> {
    [
        tagged(world),
        inner_tags(world),
        to_many(world),
        version_6(world),
    ]
    .concat()
}

/// The kernel takes the first tag out of a frame before it shows it to the programs.
fn tagged(world: World) -> Vec<Case> {
    let to_remote = udp(&ip(P0, REMOTE));
    let from_remote = udp(&ip(REMOTE, P0));
    let tag = |frame: &[u8], tags: &[(u16, u16)]| {
        let bytes: Vec<u8> = tags
            .iter()
            .flat_map(|(kind, number)| [kind.to_be_bytes(), number.to_be_bytes()].concat())
            .collect();
        let mut frame = frame.to_vec();
        frame.splice(12..12, bytes);
        frame
    };
    let foreign = [&[(C_TAG, 5)][..], &[(S_TAG, 5)], &[(C_TAG, 4095)]];
    let stacked = [&[(S_TAG, 5), (C_TAG, 6)][..], &[(C_TAG, 5), (C_TAG, 0)]];
    let priority = [&[(C_TAG, 0)][..], &[(S_TAG, 7 << 13)]];
    let nested: [&[_]; 1] = [&[(C_TAG, 0), (C_TAG, 0)]];
    let from_pod = |tags: &[&[_]]| -> Vec<_> {
        let tags = tags.iter();
        tags.map(|tags| tag(&from_p0(&to_remote), tags)).collect()
    };
    let leaves = world.leaves(&forwarded(&to_remote));
    let arrives = to_p0(&forwarded(&from_remote));
    let frame = world.arrives(&from_remote);
    let by_stack = Case::new("18f", "a priority tag from the wire is for the stack")
        .sends(Port::Wire, tag(&frame, priority[0]))
        .counts(FromUplink, Reason::VlanTag);
    [
        Case::new(
            "18a",
            "a pod's frame in a VLAN is for the stack, which has none",
        )
        .sends_all(Port::P0, from_pod(&foreign))
        .counts_all([(FromWorkload, Reason::VlanTag); 3]),
        Case::new("18b", "a pod's frame in a VLAN in a VLAN")
            .sends_all(Port::P0, from_pod(&stacked))
            .counts_all([(FromWorkload, Reason::SpoofedSource); 2]),
        Case::new(
            "18c",
            "a pod's frame with a priority tag is forwarded by the stack",
        )
        .sends_all(Port::P0, from_pod(&priority))
        .counts_all([(FromWorkload, Reason::VlanTag); 2])
        .counts_all(world.stack_sends(2))
        .emits_all(Port::Wire, [leaves.clone(), leaves.clone()]),
        Case::new(
            "18d",
            "a pod's frame with two priority tags: nobody looks behind them",
        )
        .sends_all(Port::P0, from_pod(&nested))
        .counts(FromWorkload, Reason::SpoofedSource)
        .kernel_instead("looks behind them", vec![(Port::Wire, leaves)]),
        Case::new(
            "18e",
            "the wire's frame in a VLAN, or two, is for the stack",
        )
        .sends_all(
            Port::Wire,
            [foreign[0], foreign[1], stacked[0]].map(|tags| tag(&frame, tags)),
        )
        .counts_all([(FromUplink, Reason::VlanTag); 3]),
        if world.is_tunnelled() {
            by_stack.left_to_the_receiver(world, &frame[14..], &from_remote)
        } else {
            by_stack.emits(Port::P0, arrives)
        },
    ]
    .map(|case| case.played(Played::NotRun))
    .into()
}

fn inner_tags(world: World) -> Vec<Case> {
    if world.mode != Mode::Vxlan {
        return Vec::new();
    }
    let packet = udp(&ip(REMOTE, P0));
    let tagged = |number: u16| {
        let mut inner = from_peers_vtep(&packet);
        inner.splice(12..12, [C_TAG.to_be_bytes(), number.to_be_bytes()].concat());
        from_wire(&ip(PEER, NODE).vxlan(VNI, &inner, false))
    };
    let case = |name, title| {
        Case::new(name, title)
            .counts(FromUplink, Reason::InnerNotIpv4)
            .counts(FromCarrier, Reason::NotInner)
    };
    vec![
        case("19a", "a VLAN inside VXLAN is not ours").sends(Port::Wire, tagged(5)),
        case("19b", "a priority tag inside VXLAN is not ours")
            .sends(Port::Wire, tagged(0))
            .kernel_instead(
                "takes no notice of the tag",
                vec![(Port::P0, to_p0(&forwarded(&packet)))],
            ),
    ]
}

fn to_many(world: World) -> Vec<Case> {
    let groups = [
        [224, 0, 0, 1],
        [224, 0, 0, 251],
        [239, 1, 2, 3],
        [255, 255, 255, 255],
    ];
    let subnet = [192, 168, 1, 255].into();
    let block = ip(P0, [10, 244, 1, 255].into()).udp(4000, 5000, b"an address like any other");
    let to_all = frames::ethernet(PEER_MAC, Mac::BROADCAST, &udp(&ip(REMOTE, P0)));
    let in_tunnel = if world.is_tunnelled() {
        Reason::Martian
    } else {
        Reason::NotForPod
    };
    let echo = |source, destination| ip(source, destination).echo_request(7, 1, b"ping");
    vec![
        Case::new(
            "20a",
            "multicast and broadcast from a pod are for the stack",
        )
        .sends_all(
            Port::P0,
            groups.map(|group| from_p0(&udp(&ip(P0, group.into())))),
        )
        .counts_all([(FromWorkload, Reason::Multicast); 4]),
        Case::new(
            "20b",
            "an echo request to the node's subnet is for the stack",
        )
        .sends(Port::P0, from_p0(&echo(P0, subnet)))
        .counts(FromWorkload, Reason::NoRoute),
        Case::new(
            "20c",
            "the last address of a remote block is one like any other",
        )
        .sends(Port::P0, from_p0(&block))
        .counts(FromWorkload, world.sent())
        .emits(Port::Wire, world.leaves(&forwarded(&block))),
        Case::new("20d", "multicast and broadcast from the wire")
            .sends_all(
                Port::Wire,
                groups.map(|group| world.arrives(&udp(&ip(REMOTE, group.into())))),
            )
            .counts_all([(FromUplink, in_tunnel); 4]),
        Case::new("20e", "a frame to everybody is for the stack")
            .sends(Port::Wire, to_all)
            .counts(FromUplink, Reason::OtherHost),
        Case::new("20f", "a frame to another station is for the stack")
            .sends(
                Port::Wire,
                frames::ethernet(
                    PEER_MAC,
                    Mac::of(TUNNEL, 9),
                    &world.arrives(&udp(&ip(REMOTE, P0)))[14..],
                ),
            )
            .counts(FromUplink, Reason::OtherHost),
    ]
}

/// Version 6, in a tunnel over version 4.
fn version_6(world: World) -> Vec<Case> {
    let mut version_6 = vec![0; 40];
    version_6[0] = 0x60;
    version_6[6] = 59;
    let mut cases = Vec::new();
    if world.mode == Mode::Vxlan {
        let inner = frames::ethernet_with_type(vtep("node-1"), vtep("node-0"), 0x86dd, &version_6);
        cases.push(
            Case::new("21a", "IPv6 inside VXLAN is not ours")
                .sends(
                    Port::Wire,
                    from_wire(&ip(PEER, NODE).vxlan(VNI, &inner, false)),
                )
                .counts(FromUplink, Reason::InnerNotIpv4)
                .counts(FromCarrier, Reason::NotInner),
        );
    }
    let why = world.nobodys_tunnel();
    let packet = ip(PEER, NODE).packet(41, &version_6);
    let answer = icmp::unreachable(NODE, PEER, why, &packet);
    cases.push(
        Case::new(
            "21b",
            "protocol 41 to the node is for the stack, which has no use for it",
        )
        .sends(Port::Wire, from_wire(&packet))
        .counts(FromUplink, Reason::NotForPod)
        .emits(Port::Wire, on_wire(PEER, &answer)),
    );
    let from_pod = ip(P0, REMOTE).packet(41, &version_6);
    let to_pod = ip(REMOTE, P0).packet(41, &version_6);
    cases.push(
        Case::new("21c", "protocol 41 between pods is as any other")
            .sends(Port::P0, from_p0(&from_pod))
            .sends(Port::Wire, world.arrives(&to_pod))
            .counts(FromWorkload, world.sent())
            .counts(FromUplink, world.received())
            .emits(Port::Wire, world.leaves(&forwarded(&from_pod)))
            .emits(Port::P0, to_p0(&forwarded(&to_pod))),
    );
    cases
}

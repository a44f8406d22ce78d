//! Cases 10 to 12: fragments and options.

use dataplane_common::{
    abi::Hook::{FromUplink, FromWorkload},
    reason::Reason,
};

use super::{
    Case, Port, World, icmp,
    packets::{forwarded, from_p0, from_wire, ip, to_p0, to_p1, udp, udp_of},
    world::{NODE, P0, P1, PEER, REMOTE},
};
use crate::Ip;

const UDP: u8 = 17;
/// A single-byte option that does nothing, thrice, and the end of the options.
const NO_OPERATION: [u8; 4] = [1, 1, 1, 0];

pub(super) fn cases(world: World) -> Vec<Case> {
    [
        fragments(world),
        outer_fragments(world),
        options(world),
        outer_options(world),
    ]
    .concat()
}

fn fragments(world: World) -> Vec<Case> {
    let pieces = |ip: &Ip| {
        let body = &udp_of(ip, 1000)[20..];
        let (first, last) = body.split_at(496);
        [
            ip.clone().fragment(0, true).packet(UDP, first),
            ip.clone().fragment(496, false).packet(UDP, last),
        ]
    };
    let mut cases = Vec::new();
    for (letters, order, [one, two]) in [
        (["a", "b", "c"], "the first one first", [0, 1]),
        (["d", "e", "f"], "the last one first", [1, 0]),
    ] {
        let to_remote = pieces(&ip(P0, REMOTE));
        let to_pod = pieces(&ip(P0, P1));
        let from_remote = pieces(&ip(REMOTE, P0));
        let pick = |pieces: &[Vec<u8>; 2]| [pieces[one].clone(), pieces[two].clone()];
        cases.extend([
            Case::new(
                format!("10{}", letters[0]),
                format!("fragments to a remote pod leave by one way, {order}"),
            )
            .sends_all(Port::P0, pick(&to_remote).map(|piece| from_p0(&piece)))
            .counts_all([(FromWorkload, Reason::Fragment); 2])
            .counts_all(world.stack_sends(2))
            .emits_all(
                Port::Wire,
                pick(&to_remote).map(|piece| world.leaves(&forwarded(&piece))),
            ),
            Case::new(
                format!("10{}", letters[1]),
                format!("fragments to a pod on the node pass, {order}"),
            )
            .sends_all(Port::P0, pick(&to_pod).map(|piece| from_p0(&piece)))
            .counts_all([(FromWorkload, Reason::Fragment); 2])
            .emits_all(
                Port::P1,
                pick(&to_pod).map(|piece| to_p1(&forwarded(&piece))),
            ),
            Case::new(
                format!("10{}", letters[2]),
                format!("fragments from a remote pod arrive by one way, {order}"),
            )
            .sends_all(
                Port::Wire,
                pick(&from_remote).map(|piece| world.arrives(&piece)),
            )
            .counts_all(
                [
                    world.stack_receives(Reason::Fragment),
                    world.stack_receives(Reason::Fragment),
                ]
                .concat(),
            )
            .emits_all(
                Port::P0,
                pick(&from_remote).map(|piece| to_p0(&forwarded(&piece))),
            ),
        ]);
    }
    cases
}

/// The outer packet in two pieces, which the kernel puts together before its receiver sees it.
fn outer_fragments(world: World) -> Vec<Case> {
    if !world.is_tunnelled() {
        return Vec::new();
    }
    let inner = udp_of(&ip(REMOTE, P0), 600);
    let whole = world.arrives(&inner);
    let protocol = whole[14 + 9];
    let (first, last) = whole[34..].split_at(320);
    let outer = ip(PEER, NODE);
    let pieces = [
        outer.clone().fragment(0, true).packet(protocol, first),
        outer.clone().fragment(320, false).packet(protocol, last),
    ];
    let case = |name, title| Case::new(name, title).counts_all([(FromUplink, Reason::Fragment); 2]);
    let in_order = case("11a", "outer fragments are put together by the stack")
        .sends_all(Port::Wire, pieces.each_ref().map(|piece| from_wire(piece)));
    let reversed = case("11b", "outer fragments, the last one first").sends_all(
        Port::Wire,
        pieces
            .each_ref()
            .map(|piece| from_wire(piece))
            .into_iter()
            .rev(),
    );
    [in_order, reversed]
        .map(|case| case.left_to_the_receiver(world, &whole[14..], &inner))
        .into()
}

fn options(world: World) -> Vec<Case> {
    let to_remote = udp(&ip(P0, REMOTE).options(&NO_OPERATION));
    let to_pod = udp(&ip(P0, P1).options(&NO_OPERATION));
    let from_remote = udp(&ip(REMOTE, P0).options(&NO_OPERATION));
    // Record route, with room for two addresses.
    let route = |pointer, first: [u8; 4]| [&[7, 11, pointer][..], &first, &[0; 4], &[0]].concat();
    let before = ip(P0, REMOTE).options(&route(4, [0; 4]));
    let after = ip(P0, REMOTE)
        .options(&route(8, world.own().octets()))
        .ttl(63);
    // Loose source route, by way of the node itself.
    let source_route = [&[131, 7, 4][..], &NODE.octets(), &[0]].concat();
    let routed = ip(P0, NODE)
        .options(&source_route)
        .echo_request(7, 1, b"ping");
    // Record route whose length is less than an option has.
    let wrong = udp(&ip(P0, REMOTE).options(&[7, 2, 4, 0]));
    vec![
        Case::new("12a", "options are left as they are, to a remote pod")
            .sends(Port::P0, from_p0(&to_remote))
            .counts(FromWorkload, Reason::Options)
            .counts_all(world.stack_sends(1))
            .emits(Port::Wire, world.leaves(&forwarded(&to_remote))),
        Case::new("12b", "options are left as they are, to a pod on the node")
            .sends(Port::P0, from_p0(&to_pod))
            .counts(FromWorkload, Reason::Options)
            .emits(Port::P1, to_p1(&forwarded(&to_pod))),
        Case::new("12c", "options are left as they are, from a remote pod")
            .sends(Port::Wire, world.arrives(&from_remote))
            .counts_all(world.stack_receives(Reason::Options))
            .emits(Port::P0, to_p0(&forwarded(&from_remote))),
        Case::new("12d", "a route is recorded")
            .sends(Port::P0, from_p0(&udp(&before)))
            .counts(FromWorkload, Reason::Options)
            .counts_all(world.stack_sends(1))
            .emits(Port::Wire, world.leaves(&udp(&after))),
        Case::new("12e", "a source route is not followed")
            .sends(Port::P0, from_p0(&routed))
            .counts(FromWorkload, Reason::NoRoute),
        Case::new("12f", "wrong options are answered")
            .sends(Port::P0, from_p0(&wrong))
            .counts(FromWorkload, Reason::Options)
            .emits(
                Port::P0,
                to_p0(&icmp::parameter_problem(NODE, P0, 21, &wrong)),
            ),
    ]
}

fn outer_options(world: World) -> Vec<Case> {
    if !world.is_tunnelled() {
        return Vec::new();
    }
    let inner = udp(&ip(REMOTE, P0));
    let frame = world.arrives_in(&ip(PEER, NODE).options(&NO_OPERATION), &inner);
    let case = Case::new("12g", "outer options are read by the stack")
        .counts(FromUplink, Reason::Options)
        .sends(Port::Wire, frame.clone());
    vec![case.left_to_the_receiver(world, &frame[14..], &inner)]
}

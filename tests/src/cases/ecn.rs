//! Cases 31 and 32: congestion notification and DSCP through a tunnel.

use dataplane_common::{
    abi::Hook::{FromUplink, FromWorkload},
    reason::Reason,
};

use super::{
    Case, Port, World,
    packets::{forwarded, from_p0, ip, to_p0, udp},
    world::{NODE, P0, PEER, REMOTE},
};

/// The marks, by their two bits.
const MARKS: [&str; 4] = ["Not-ECT", "ECT(1)", "ECT(0)", "CE"];
const NOT_ECT: u8 = 0;
const ECT_1: u8 = 1;
const ECT_0: u8 = 2;
const CE: u8 = 3;

/// Expedited forwarding, the six bits before the mark.
const EXPEDITED: u8 = 46 << 2;

pub(super) fn cases(world: World) -> Vec<Case> {
    if !world.is_tunnelled() {
        return untunnelled(world);
    }
    [decapsulated(world), encapsulated(world), dscp(world)].concat()
}

/// Figure 4 of RFC 6040: the mark that leaves a tunnel, by the inner and the outer one.
const fn figure_4(inner: u8, outer: u8) -> Option<u8> {
    match (inner, outer) {
        (NOT_ECT, CE) => None,
        (NOT_ECT, _) => Some(NOT_ECT),
        (ECT_0, ECT_1) => Some(ECT_1),
        (_, CE) => Some(CE),
        _ => Some(inner),
    }
}

fn decapsulated(world: World) -> Vec<Case> {
    let marks = || NOT_ECT..=CE;
    marks()
        .flat_map(|inner| marks().map(move |outer| (inner, outer)))
        .zip('a'..)
        .map(|((inner, outer), letter)| {
            let packet = udp(&ip(REMOTE, P0).tos(EXPEDITED | inner));
            let frame = world.arrives_in(&ip(PEER, NODE).tos(outer), &packet);
            let (was, around) = (MARKS[usize::from(inner)], MARKS[usize::from(outer)]);
            let case = |then| {
                Case::new(format!("31{letter}"), format!("{was} in {around} {then}"))
                    .sends(Port::Wire, frame.clone())
            };
            match figure_4(inner, outer) {
                None => case("is dropped".to_owned()).counts(FromUplink, Reason::Congestion),
                Some(mark) => {
                    let marked = udp(&ip(REMOTE, P0).tos(EXPEDITED | mark));
                    case(format!("becomes {}", MARKS[usize::from(mark)]))
                        .counts(FromUplink, world.received())
                        .emits(Port::P0, to_p0(&forwarded(&marked)))
                }
            }
        })
        .collect()
}

fn encapsulated(world: World) -> Vec<Case> {
    // RFC 3168 section 9.1.1, the full-functionality option.
    [
        (NOT_ECT, NOT_ECT),
        (ECT_1, ECT_1),
        (ECT_0, ECT_0),
        (CE, ECT_0),
    ]
    .into_iter()
    .zip('q'..)
    .map(|((inner, outer), letter)| {
        let packet = udp(&ip(P0, REMOTE).tos(inner));
        let (was, around) = (MARKS[usize::from(inner)], MARKS[usize::from(outer)]);
        Case::new(format!("31{letter}"), format!("{was} goes into {around}"))
            .sends(Port::P0, from_p0(&packet))
            .counts(FromWorkload, world.sent())
            .emits(
                Port::Wire,
                world.leaves_marked(PEER, outer, &forwarded(&packet)),
            )
    })
    .collect()
}

fn dscp(world: World) -> Vec<Case> {
    let to_remote = udp(&ip(P0, REMOTE).tos(EXPEDITED));
    let from_host = udp(&ip(world.own(), REMOTE).tos(EXPEDITED | ECT_0));
    let from_remote = udp(&ip(REMOTE, P0).tos(EXPEDITED));
    let frame = world.arrives_in(&ip(PEER, NODE).tos(10 << 2), &from_remote);
    vec![
        Case::new("32a", "the inner DSCP does not show on the outer header")
            .sends(Port::P0, from_p0(&to_remote))
            .sends(Port::Host, from_host.clone())
            .counts(FromWorkload, world.sent())
            .counts_all(world.stack_sends(1))
            .emits(Port::Wire, world.leaves(&forwarded(&to_remote)))
            .emits(Port::Wire, world.leaves_marked(PEER, ECT_0, &from_host)),
        Case::new("32b", "the outer DSCP does not show on the inner header")
            .sends(Port::Wire, frame)
            .counts(FromUplink, world.received())
            .emits(Port::P0, to_p0(&forwarded(&from_remote))),
    ]
}

fn untunnelled(world: World) -> Vec<Case> {
    let all = [NOT_ECT, ECT_1, ECT_0, CE].map(|mark| EXPEDITED | mark);
    let to_remote = all.map(|tos| udp(&ip(P0, REMOTE).tos(tos)));
    let from_remote = all.map(|tos| udp(&ip(REMOTE, P0).tos(tos)));
    vec![
        Case::new("32c", "without a tunnel, DSCP and ECN are left as they are")
            .sends_all(Port::P0, to_remote.each_ref().map(|packet| from_p0(packet)))
            .sends_all(
                Port::Wire,
                from_remote.each_ref().map(|packet| world.arrives(packet)),
            )
            .counts_all([(FromWorkload, world.sent()); 4])
            .counts_all([(FromUplink, world.received()); 4])
            .emits_all(
                Port::Wire,
                to_remote.map(|packet| world.leaves(&forwarded(&packet))),
            )
            .emits_all(
                Port::P0,
                from_remote.map(|packet| to_p0(&forwarded(&packet))),
            ),
    ]
}

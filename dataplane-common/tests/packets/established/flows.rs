//! Which flows are carried, and since when, and for how long.

use dataplane_common::{decide::Verdict, memory::MemoryTables, reason::Reason};

use super::talk::{ACK, ALL, Between, Kind, Leg, PERIOD, chunk, established, kinds};
use crate::{frames::Ip, programs::Program, world::Mode};

const BETWEEN: Between = Between::Nodes(Mode::Vxlan);
/// FIN, SYN, RST.
const SYN: u8 = 0x02;
const HANDSHAKE: u8 = 0x01 | SYN | 0x04;

#[test]
fn a_flow_is_carried_once_the_stack_has_let_it_through_both_ways() {
    for between in ALL {
        for kind in kinds() {
            for first in [0, 1] {
                let tables = established();
                let legs = between.legs(&kind);
                let [one, other] = [&legs[first], &legs[1 - first]];
                one.is_left(&tables, Reason::NotEstablished);
                one.is_verified(&tables);
                // One way is not enough, however often.
                one.is_verified(&tables);
                one.is_left(&tables, Reason::NotEstablished);
                other.is_verified(&tables);
                for _ in 0..3 {
                    one.is_carried(&tables);
                    other.is_carried(&tables);
                }
                let flows = tables.flows();
                let flow = flows.values().next().unwrap();
                for direction in &flow.directions {
                    assert_eq!(direction.packets.get(), 3, "{between:?} {kind:?}");
                }
            }
        }
    }
}

#[test]
fn what_the_stack_does_not_let_through_is_never_carried() {
    for between in ALL {
        let tables = established();
        let [there, back] = between.legs(&Kind::Udp);
        for _ in 0..5 {
            there.is_left(&tables, Reason::NotEstablished);
            back.is_verified(&tables);
        }
    }
}

#[test]
fn a_verified_flow_says_nothing_of_another() {
    let tables = established();
    BETWEEN.verified_legs(&Kind::Udp, &tables);
    for kind in [Kind::Tcp(ACK), Kind::Sctp(chunk(0)), Kind::Echo] {
        for leg in BETWEEN.legs(&kind) {
            leg.is_left(&tables, Reason::NotEstablished);
        }
    }
    let [there, back] = BETWEEN.legs(&Kind::Udp);
    for (leg, source, destination) in [(there, 40_001, 80), (back, 81, 40_000)] {
        let ip = leg.ip.clone().udp(source, destination, b"data");
        let leg = Leg { ip, ..leg };
        leg.is_left(&tables, Reason::NotEstablished);
    }
}

/// Neither side of an answer is a question's, where both have the same identifier.
#[test]
fn echo_is_a_flow_of_who_asks() {
    let tables = established();
    let [_, back] = BETWEEN.verified_legs(&Kind::Echo, &tables);
    let (_, question) = Kind::Echo.payload(true);
    let asks_too = Leg {
        ip: back.ip.clone().payload(1, &question),
        ..back.clone()
    };
    asks_too.is_left(&tables, Reason::NotEstablished);
    back.is_carried(&tables);
}

/// Not so PSH, ACK, URG, ECE and CWR.
#[test]
fn what_opens_closes_or_resets_a_connection_goes_to_the_stack_and_begins_it_anew() {
    for flags in 0..=u8::MAX {
        let tables = established();
        let [there, back] = BETWEEN.verified_legs(&Kind::Tcp(ACK), &tables);
        for leg in BETWEEN.legs(&Kind::Tcp(flags)) {
            if flags & HANDSHAKE == 0 {
                leg.is_carried(&tables);
                continue;
            }
            // Only what answers a SYN is the first that is known of the flow, and says something.
            if flags & (HANDSHAKE | ACK) == SYN | ACK {
                leg.answers(&tables);
                continue;
            }
            leg.is_left(&tables, Reason::Handshake);
            assert!(tables.flows().is_empty(), "flags {flags:#x}");
            there.is_left(&tables, Reason::NotEstablished);
            back.is_left(&tables, Reason::NotEstablished);
            there.is_verified(&tables);
            back.is_verified(&tables);
        }
    }
}

#[test]
fn of_sctp_only_data_and_its_acknowledgement_are_carried() {
    for kind in 0..=u8::MAX {
        let tables = established();
        let [there, _] = BETWEEN.verified_legs(&Kind::Sctp(chunk(0)), &tables);
        let [alone, _] = BETWEEN.legs(&Kind::Sctp(chunk(kind)));
        if [0, 3].contains(&kind) {
            alone.is_carried(&tables);
        } else {
            alone.is_left(&tables, Reason::Handshake);
            there.is_left(&tables, Reason::NotEstablished);
        }
    }
    let tables = established();
    BETWEEN.verified_legs(&Kind::Sctp(chunk(0)), &tables);
    let [two_of_data, _] = BETWEEN.legs(&Kind::Sctp([chunk(0), chunk(0)].concat()));
    two_of_data.is_carried(&tables);
    // Behind an acknowledgement may be what ends the association.
    let [and_shutdown, _] = BETWEEN.legs(&Kind::Sctp([chunk(3), chunk(7)].concat()));
    and_shutdown.is_left(&tables, Reason::Handshake);
}

#[test]
fn what_is_of_no_flow_is_the_stacks() {
    let icmp = |kind: u8, code: u8| [&[kind, code], &Kind::Echo.payload(true).1[2..]].concat();
    for between in ALL {
        let tables = established();
        for kind in [Kind::Other(47), Kind::Other(50), Kind::Other(255)] {
            for leg in between.legs(&kind) {
                leg.is_left(&tables, Reason::NotAFlow);
            }
        }
        let [there, back] = between.verified_legs(&Kind::Udp, &tables);
        let variants = |leg: &Leg| -> Vec<(Ip, Reason)> {
            let ip = || leg.ip.clone();
            vec![
                (ip().fragment(0, true), Reason::Fragment),
                (ip().fragment(185, false), Reason::Fragment),
                (ip().options(&[1, 1, 1, 0]), Reason::Options),
                (ip().payload(17, &[0x9c]), Reason::NotAFlow),
                (ip().payload(6, &[0; 13]), Reason::NotAFlow),
                (ip().payload(132, &[0; 12]), Reason::NotAFlow),
                // Unreachable, time exceeded, timestamp; and echo with a code.
                (ip().payload(1, &icmp(3, 1)), Reason::NotAFlow),
                (ip().payload(1, &icmp(11, 0)), Reason::NotAFlow),
                (ip().payload(1, &icmp(13, 0)), Reason::NotAFlow),
                (ip().payload(1, &icmp(8, 1)), Reason::NotAFlow),
            ]
        };
        for leg in [&there, &back] {
            for (ip, reason) in variants(leg) {
                Leg { ip, ..leg.clone() }.is_left(&tables, reason);
            }
        }
        assert_eq!(tables.flows().len(), 1);
    }
}

#[test]
fn each_way_is_seen_anew_after_the_period() {
    for late in [0, 1] {
        let mut tables = established();
        let legs = BETWEEN.verified_legs(&Kind::Udp, &tables);
        let begin = tables.now;
        tables.now = begin + 60;
        legs_reverify(&legs, 1 - late, &tables);
        tables.now = begin + u64::from(PERIOD);
        for leg in &legs {
            leg.is_carried(&tables);
        }
        tables.now += 1;
        for leg in &legs {
            leg.is_left(&tables, Reason::Reverify);
        }
        legs[late].is_verified(&tables);
        for leg in &legs {
            leg.is_carried(&tables);
        }
        // The other's period began at 60.
        tables.now = begin + 60 + u64::from(PERIOD);
        legs[late].is_carried(&tables);
        tables.now += 1;
        legs[late].is_left(&tables, Reason::Reverify);
    }
}

/// One way passes the stack though it needs not: its packet went in before.
fn legs_reverify(legs: &[Leg; 2], which: usize, tables: &MemoryTables) {
    let late = MemoryTables {
        now: tables.now + u64::from(PERIOD),
        ..tables.clone()
    };
    let mark = legs[which].enters(&late).mark();
    assert_eq!(legs[which].leaves(tables, mark), Reason::Verified);
}

#[test]
fn a_new_generation_revokes_everything_at_once() {
    for between in ALL {
        let mut tables = established();
        let legs = between.verified_legs(&Kind::Udp, &tables);
        for leg in &legs {
            leg.is_carried(&tables);
        }
        tables.generation += 1;
        for leg in &legs {
            leg.is_left(&tables, Reason::Reverify);
        }
        legs[0].is_verified(&tables);
        for leg in &legs {
            leg.is_left(&tables, Reason::Reverify);
        }
        legs[1].is_verified(&tables);
        for leg in &legs {
            leg.is_carried(&tables);
        }
    }
}

#[test]
fn what_is_to_be_verified_enters_the_stack_where_it_is_taken_in() {
    for between in ALL {
        for (tables, has_carrier) in [
            (established(), true),
            (super::talk::without_carrier(established()), false),
        ] {
            for leg in between.legs(&Kind::Udp) {
                let verdict = leg.enters(&tables);
                let is_tunnelled = leg.tunnel.is_some() && matches!(leg.entry, Program::Uplink);
                match verdict {
                    Verdict::Inject(Some(decap), Reason::NotEstablished, _) => {
                        assert!(is_tunnelled && has_carrier);
                        assert_eq!(Some(decap.tunnel), leg.tunnel);
                    }
                    Verdict::Leave(Reason::NotEstablished, _) => {
                        assert!(!is_tunnelled || !has_carrier, "{between:?}");
                    }
                    _ => panic!("{between:?}: {verdict:?}"),
                }
                assert_eq!(leg.leaves(&tables, verdict.mark()), Reason::Verified);
            }
        }
    }
}

#[test]
fn under_all_nothing_is_asked_nor_learned() {
    let all = crate::world::tables(crate::world::HERE);
    for between in ALL {
        for kind in [Kind::Tcp(2), Kind::Other(47), Kind::Echo] {
            for leg in between.legs(&kind) {
                leg.is_carried(&all);
            }
        }
    }
    assert!(all.flows().is_empty());
}

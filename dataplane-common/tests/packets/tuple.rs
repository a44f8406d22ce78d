//! The flow that a packet is of.

use std::collections::BTreeMap;

use dataplane_common::{abi::Asker, parse, reason::Reason, tuple::Tuple};

use crate::frames::{IP, Ip};

const LOWER: [u8; 4] = [10, 1, 1, 2];
const HIGHER: [u8; 4] = [10, 1, 2, 1];

fn tuple(ip: &Ip) -> Result<Tuple, Reason> {
    let frame = ip.frame();
    let header = parse::ipv4(&frame, IP).unwrap();
    Tuple::of(&frame, &header, IP).map(|(tuple, _)| tuple)
}

fn echo(source: [u8; 4], destination: [u8; 4], kind: u8, id: u8) -> Tuple {
    let bytes = [kind, 0, 0, 0, 0, id, 0, 1];
    tuple(&Ip::new(source, destination).payload(1, &bytes)).unwrap()
}

#[test]
fn both_ways_have_one_key() {
    let there = tuple(&Ip::new(LOWER, HIGHER).udp(1, 2, b"")).unwrap();
    let back = tuple(&Ip::new(HIGHER, LOWER).udp(2, 1, b"")).unwrap();
    assert!(!there.is_back() && back.is_back());
    assert_eq!(there.key(), back.key());
    let key = there.key();
    assert_eq!((key.lower, key.higher), (LOWER, HIGHER));
    assert_eq!((key.lower_port, key.higher_port), ([0, 1], [0, 2]));
    assert_eq!((key.protocol, key.asker), (17, Asker::Either as u8));
}

/// The addresses alone say which is which: ports do not.
#[test]
fn ports_go_with_their_address() {
    let one = tuple(&Ip::new(LOWER, HIGHER).udp(1, 2, b"")).unwrap();
    let other = tuple(&Ip::new(LOWER, HIGHER).udp(2, 1, b"")).unwrap();
    assert_ne!(one.key(), other.key());
    assert_eq!(one.is_back(), other.is_back());
}

#[test]
fn addresses_are_compared_as_on_the_wire() {
    for (lower, higher) in [
        ([1, 0, 0, 2], [2, 0, 0, 1]),
        ([10, 0, 0, 1], [10, 0, 1, 0]),
        ([127, 0, 0, 1], [128, 0, 0, 0]),
    ] {
        let there = tuple(&Ip::new(lower, higher)).unwrap();
        assert!(!there.is_back(), "{lower:?} to {higher:?}");
        assert_eq!(there.key().lower, lower);
    }
}

#[test]
fn what_a_pod_sends_to_itself_has_no_direction() {
    assert_eq!(tuple(&Ip::new(LOWER, LOWER)), Err(Reason::NotAFlow));
}

#[test]
fn echo_has_the_identifier_for_ports_and_who_asks() {
    let request = echo(LOWER, HIGHER, 8, 7);
    let reply = echo(HIGHER, LOWER, 0, 7);
    assert_eq!(request.key(), reply.key());
    assert!(!request.is_back() && reply.is_back());
    assert_eq!(request.key().asker, Asker::Lower as u8);
    assert_eq!(
        (request.key().lower_port, request.key().higher_port),
        ([0, 7], [0, 7])
    );
    let others = echo(HIGHER, LOWER, 8, 7);
    assert_eq!(others.key().asker, Asker::Higher as u8);
    assert_eq!(others.key(), echo(LOWER, HIGHER, 0, 7).key());
    assert_ne!(others.key(), request.key());
    assert_ne!(echo(LOWER, HIGHER, 8, 8).key(), request.key());
}

#[test]
fn marks_tell_ways_ports_protocols_addresses_and_askers_apart() {
    let mut tuples = Vec::new();
    for (source, destination) in [(LOWER, HIGHER), (HIGHER, LOWER), (LOWER, [10, 1, 2, 2])] {
        for port in 0..32 {
            tuples.push(tuple(&Ip::new(source, destination).udp(port, 80, b"")).unwrap());
            tuples.push(tuple(&Ip::new(source, destination).udp(80, port, b"")).unwrap());
        }
        tuples.push(tuple(&Ip::new(source, destination).tcp(20, 0)).unwrap());
        for kind in [0, 8] {
            tuples.push(echo(source, destination, kind, 7));
        }
    }
    let marks: BTreeMap<_, _> = tuples
        .iter()
        .map(|tuple| (tuple.mark(1, 1), tuple))
        .collect();
    // Of 201, in 65,535 places: now and then two may meet, but these do not.
    assert_eq!(marks.len(), tuples.len());
}

#[test]
fn marks_tell_generations_apart() {
    let tuple = tuple(&Ip::new(LOWER, HIGHER)).unwrap();
    let mark = tuple.mark(256, 1);
    for generation in [0, 1, 2, 255, 257, 512, u16::MAX] {
        assert_ne!(tuple.mark(generation, 1), mark, "{generation}");
    }
}

#[test]
fn marks_tell_entries_of_one_flow_apart() {
    let tuple = tuple(&Ip::new(LOWER, HIGHER)).unwrap();
    let mark = tuple.mark(1, 1 << 32 | 7);
    for incarnation in [0, 1 << 32, 1 << 32 | 6, 1 << 32 | 8, u64::MAX] {
        assert_ne!(tuple.mark(1, incarnation), mark, "{incarnation}");
    }
}

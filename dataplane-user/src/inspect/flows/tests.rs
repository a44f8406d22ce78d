use dataplane_common::abi::Asker;
use serde_json::json;

use super::*;
use crate::{
    inspect::{Format, Row as _, render},
    kernel::{ConnTuple, ConnectionEntry},
};

/// Interfaces that no machine has, so that their names are the same everywhere.
const VETH: u32 = 1_000_001;
const GENERATION: u16 = 7;
/// A second, in ticks.
const SECOND: u64 = 15_259;
const NOW: u64 = 1000 * SECOND;

fn moment() -> Moment {
    let next_hop = NextHop {
        kind: dataplane_common::abi::NextHopKind::Vxlan as u8,
        peer: [192, 168, 1, 11],
        gateway: [192, 168, 1, 1],
        ..NextHop::default()
    };
    Moment {
        generation: GENERATION,
        now: NOW,
        period: 2 * SECOND,
        next_hops: BTreeMap::from([(3, next_hop)]),
        pods: BTreeMap::from([(Ipv4Addr::new(10, 244, 0, 2), VETH)]),
    }
}

fn tcp() -> FlowKey {
    FlowKey {
        lower: [10, 244, 0, 2],
        higher: [10, 244, 1, 2],
        lower_port: 40_000_u16.to_be_bytes(),
        higher_port: 80_u16.to_be_bytes(),
        protocol: 6,
        ..FlowKey::default()
    }
}

/// Out by the next hop, and in to the pod, verified a second ago.
fn accelerated() -> Flow {
    let flow = Flow::default();
    let [there, back] = &flow.directions;
    for way in [there, back] {
        way.entered.set(GENERATION, NOW - SECOND);
        way.verified.set(GENERATION, NOW - SECOND);
        way.packets.increase();
    }
    there.since.set(GENERATION, NOW - 64 * SECOND);
    back.since.set(GENERATION - 1, NOW - 63 * SECOND);
    there.from.set(GENERATION, WAY_OUT | 5);
    there.to.set(GENERATION, 4);
    back.from.set(GENERATION, WAY_IN | 5);
    back.packets.increase();
    flow
}

fn entry(original: ConnTuple, reply: ConnTuple, has_reply: bool) -> ConnectionEntry {
    let mut entry = ConnectionEntry::new(original, reply);
    entry.timeout = Some(77);
    entry.tcp_state = Some(3);
    entry.has_reply = has_reply;
    entry
}

#[test]
fn an_accelerated_flow_says_where_it_goes_and_how_much() {
    let row = moment().row(&tcp(), &accelerated());
    assert_eq!(
        render(std::slice::from_ref(&row), Format::Table).unwrap(),
        "A                 B              PROTOCOL  AGE    STATE        VERIFIED   PACKETS  A->B                   B->A                        WHY\n\
         10.244.0.2:40000  10.244.1.2:80  tcp       1m 4s  accelerated  1.0s/1.0s  1/2      vxlan to 192.168.1.11  pod behind #1000001 (gone)  -\n"
    );
    assert_eq!(
        serde_json::to_value(&row).unwrap(),
        json!({
            "a": { "address": "10.244.0.2", "port": 40000 },
            "b": { "address": "10.244.1.2", "port": 80 },
            "protocol": "tcp",
            "ageSeconds": 64.001,
            "state": "accelerated",
            "aToB": { "verifiedSecondsAgo": 1.0, "packets": 1, "way": "vxlan to 192.168.1.11" },
            "bToA": { "verifiedSecondsAgo": 1.0, "packets": 2, "way": "pod behind #1000001 (gone)" },
        })
    );
}

#[test]
fn one_that_is_not_says_why() {
    let moment = moment();
    let flow = Flow::default();
    let [there, back] = &flow.directions;
    let why = || moment.row(&tcp(), &flow).why.unwrap_or_default();
    there.verified.set(GENERATION, NOW);
    assert_eq!(why(), "nothing seen of 10.244.1.2:80 -> 10.244.0.2:40000");
    back.entered.set(GENERATION, NOW);
    assert_eq!(
        why(),
        "10.244.1.2:80 -> 10.244.0.2:40000 went into the stack and did not leave it as it came"
    );
    back.verified.set(GENERATION - 1, NOW);
    assert_eq!(why(), "rules or routes have changed since");
    back.verified.set(GENERATION, NOW - 3 * SECOND);
    back.entered.set(GENERATION, NOW - 3 * SECOND);
    assert_eq!(why(), "idle: the stack sees the next packet");
    back.verified.set(GENERATION, NOW - SECOND);
    assert_eq!(why(), "");
}

#[test]
fn conntrack_tells_what_is_translated_from_what_is_denied() {
    let key = tcp();
    let [there, back] = flow_tuples(&key).unwrap();
    let service = ConnTuple {
        source: "10.96.0.1".parse().unwrap(),
        ..back
    };
    let flow = Flow::default();
    flow.directions[1].entered.set(GENERATION, NOW);
    let learned = |entry: Option<ConnectionEntry>| {
        let mut row = moment().row(&key, &flow);
        row.learn(&back, entry.as_ref());
        (row.state, row.why.unwrap(), row.conntrack.unwrap())
    };
    let translated = "10.244.1.2:80 -> 10.244.0.2:40000 leaves as 10.96.0.1:80 -> 10.244.0.2:40000";
    assert_eq!(
        learned(Some(entry(service.turned_around(), back, true))),
        (
            State::Translated,
            translated.to_owned(),
            format!("ESTABLISHED, forgotten in 77 s, {translated}")
        )
    );
    assert_eq!(
        learned(None),
        (
            State::Policy,
            "the stack lets 10.244.1.2:80 -> 10.244.0.2:40000 not through".to_owned(),
            "no entry".to_owned()
        )
    );
    assert_eq!(
        learned(Some(entry(back, there, false))),
        (
            State::Policy,
            "nothing has answered 10.244.1.2:80 -> 10.244.0.2:40000".to_owned(),
            "ESTABLISHED, forgotten in 77 s, nothing has answered".to_owned()
        )
    );
    let (state, ..) = learned(Some(entry(there, back, true)));
    assert_eq!(state, State::Unverified);
}

#[test]
fn in_words_it_is_a_line_each() {
    let mut row = moment().row(&tcp(), &accelerated());
    let [there, back] = flow_tuples(&tcp()).unwrap();
    row.learn(&there, Some(&entry(there, back, true)));
    assert_eq!(
        row.story(),
        "10.244.0.2:40000 - 10.244.1.2:80, tcp: accelerated, known for 1m 4s\n  \
           10.244.0.2:40000 -> 10.244.1.2:80: verified 1.0 s ago, 1 packets carried, vxlan to 192.168.1.11\n  \
           10.244.1.2:80 -> 10.244.0.2:40000: verified 1.0 s ago, 2 packets carried, pod behind #1000001 (gone)\n  \
           conntrack: ESTABLISHED, forgotten in 77 s\n"
    );
}

#[test]
fn an_echo_has_an_identifier_and_no_ports() {
    let id = 513_u16.to_be_bytes();
    let key = FlowKey {
        lower_port: id,
        higher_port: id,
        protocol: 1,
        asker: Asker::Higher as u8,
        ..tcp()
    };
    let row = moment().row(&key, &Flow::default());
    assert_eq!(row.cells()[..3], ["10.244.0.2", "10.244.1.2", "icmp 513"]);
    let [there, back] = flow_tuples(&key).unwrap();
    // The one with the higher address asks.
    assert_eq!(back.detail, Detail::Icmp(513, 8));
    assert_eq!(there.detail, Detail::Icmp(513, 0));
}

#[test]
fn flows_are_selected_by_what_is_at_either_end() {
    let addresses = |addresses: &[&str]| Selection {
        addresses: addresses.iter().map(|text| text.parse().unwrap()).collect(),
        ..Selection::default()
    };
    let ports = |ports: &[u16]| Selection {
        ports: ports.to_vec(),
        ..Selection::default()
    };
    for (selection, expected) in [
        (Selection::default(), true),
        (addresses(&["10.244.0.2"]), true),
        (addresses(&["10.244.1.2"]), true),
        (addresses(&["10.244.1.2", "10.244.0.2"]), true),
        (addresses(&["10.244.1.2", "10.244.0.3"]), false),
        (addresses(&["10.244.1.3"]), false),
        (ports(&[80]), true),
        (ports(&[40_000, 80]), true),
        (ports(&[81]), false),
    ] {
        assert_eq!(selection.has(&tcp()), expected, "{selection:?}");
    }
    for (protocol, expected) in [("tcp", true), ("6", true), ("udp", false)] {
        let selection = Selection {
            protocol: Some(protocol_number(protocol).unwrap()),
            ..Selection::default()
        };
        assert_eq!(selection.has(&tcp()), expected, "{protocol}");
    }
    assert!(protocol_number("tpc").is_err());
}

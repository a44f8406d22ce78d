//! With `acceleration: established`.

use std::sync::Arc;

use dataplane_common::abi::Flow;

use super::*;
use crate::inspect::{DirectionRow, End, State};

const GENERATION: u16 = 7;
const NOW: u64 = 1_000_000;
const PERIOD: u32 = 30_000;

fn established() -> Snapshot {
    let mut snapshot = snapshot();
    let config = snapshot.tables.config.as_mut().unwrap();
    config.flags |= flags::ESTABLISHED;
    config.reverify = PERIOD;
    snapshot.tables.generation = GENERATION;
    snapshot.tables.now = NOW;
    snapshot
}

/// As [`established`], where the flow of `question` was verified both ways.
fn verified(question: &Question, generation: u16, then: u64) -> Snapshot {
    let snapshot = established();
    let flow = Flow::default();
    for direction in &flow.directions {
        direction.entered.set(generation, then);
        direction.verified.set(generation, then);
    }
    let key = question.flow().unwrap();
    snapshot.tables.flows().insert(key, Arc::new(flow));
    snapshot
}

fn row(state: State, why: Option<&str>) -> FlowRow {
    let end = |address: Addr, port| End {
        address: address.into(),
        port: Some(port),
    };
    let way = DirectionRow {
        verified_seconds_ago: Some(0.5),
        packets: 3,
        way: None,
    };
    FlowRow {
        a: end(POD, 40_000),
        b: end(VXLAN_POD, 80),
        protocol: "tcp".to_owned(),
        echo_id: None,
        age_seconds: None,
        state,
        why: why.map(str::to_owned),
        a_to_b: way.clone(),
        b_to_a: way,
        conntrack: None,
    }
}

fn told(snapshot: &Snapshot, question: &Question, flow: Option<FlowRow>) -> Explanation {
    let others = Others::Unknown("of a test".to_owned());
    super::super::explain(copy(snapshot), question, flow, &others)
}

fn tcp() -> Question {
    with_ports(POD, VXLAN_POD, 6, [40_000, 80])
}

const SENT: &str = "in an outer header 192.168.1.10 -> 192.168.2.10 (50 bytes more), out of \
                    #1000009 (gone) to neighbour 192.168.1.1";

#[test]
fn a_flow_that_is_accelerated_is_carried() {
    let question = tcp();
    let snapshot = verified(&question, GENERATION, NOW - 10);
    let told = told(&snapshot, &question, Some(row(State::Accelerated, None)));
    assert_eq!((told.action, told.reason), ("forward", Some("sent-vxlan")));
    assert_eq!(told.steps[2..], ["its flow is accelerated", SENT]);
    assert_eq!(told.flow, Some(row(State::Accelerated, None)));
}

#[test]
fn what_is_idle_or_revoked_the_stack_sees_again() {
    let question = tcp();
    for (generation, then) in [
        (GENERATION, NOW - u64::from(PERIOD) - 1),
        (GENERATION - 1, NOW - 10),
    ] {
        let snapshot = verified(&question, generation, then);
        let row = row(State::Revoked, Some("rules or routes have changed since"));
        let told = told(&snapshot, &question, Some(row));
        assert_eq!((told.action, told.reason), ("stack", Some("reverify")));
        assert_eq!(
            told.steps[2..],
            [
                "its flow is revoked: rules or routes have changed since",
                "stack: the stack sees its flow again: the period is over, or rules or routes \
                 changed",
                &format!("if netfilter lets it through as it is: {SENT}"),
            ]
        );
        assert_eq!((told.outer.len(), told.mtu), (4, Some(1450)));
        assert!(told.far_node.is_some());
    }
}

#[test]
fn a_flow_that_nobody_remembers_begins_with_the_stack() {
    let told = told(&established(), &tcp(), None);
    assert_eq!(told.reason, Some("not-established"));
    assert_eq!(
        told.steps[2],
        "nothing is remembered of its flow: it is carried once the stack has let it through both \
         ways"
    );
    assert_eq!(told.outer.len(), 4);
}

#[test]
fn of_an_echo_one_has_to_know_the_identifier() {
    let question = echo(POD, VXLAN_POD);
    assert_eq!(question.flow(), None);
    let told = told(&established(), &question, None);
    assert_eq!(told.reason, Some("not-established"));
    let says = "`underpass flows get 10.0.1.2 10.3.2.2 --protocol icmp` has those that there are";
    assert!(told.steps[2].contains(says), "{:?}", told.steps);
}

#[test]
fn what_is_of_no_flow_is_never_carried() {
    let question = Question {
        protocol: 47,
        ..echo(POD, VXLAN_POD)
    };
    let told = told(&established(), &question, None);
    assert_eq!((told.action, told.reason), ("stack", Some("not-a-flow")));
    assert_eq!(
        told.steps[2],
        "it is of no flow that could be followed, and is never carried"
    );
}

#[test]
fn what_comes_in_has_its_flow_too() {
    let question = with_ports(VXLAN_POD, POD, 6, [80, 40_000]);
    let snapshot = verified(&question, GENERATION, NOW - 10);
    let told = told(&snapshot, &question, Some(row(State::Accelerated, None)));
    assert_eq!(
        (told.hook, told.reason),
        (Some("from_uplink"), Some("received-vxlan"))
    );
    assert!(told.steps.contains(&"its flow is accelerated".to_owned()));
}

#[test]
fn where_no_program_would_carry_it_no_flow_is_asked_for() {
    for (from, to) in [(POD, OUTSIDE), (POD, NOWHERE), (TUNNEL_ADDRESS, VXLAN_POD)] {
        let question = with_ports(from, to, 6, [40_000, 80]);
        let told = told(&established(), &question, None);
        let asked = told.steps.iter().any(|step| step.contains("flow"));
        assert!(!asked, "{:?}", told.steps);
    }
}

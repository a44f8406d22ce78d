//! The chains, whatever writes them.

use std::collections::BTreeMap;

use super::{Access, Allow, MASQUERADED, Policy};

/// The set of all pools.
pub(super) const ALL_POOLS: &str = "all-ipam-pools";

/// The mark of what is accepted.
const ACCEPTED: u32 = 0x1_0000;

/// The mark of what a policy has left to the next tier.
const PASSED: u32 = 0x2_0000;

/// The mark of what comes from a workload.
const FROM_WORKLOAD: u32 = 0x4_0000;

/// The UDP port of VXLAN.
const VXLAN_PORT: u16 = 4789;

/// A chain and its rules.
#[derive(Debug)]
pub(super) struct Chain {
    pub(super) table: Table,
    pub(super) name: String,
    pub(super) rules: Vec<Rule>,
}

/// The table, in the sense of iptables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Table {
    Raw,
    Filter,
    Nat,
}

/// What is done with packets that meet every condition.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) conditions: Vec<Condition>,
    pub(super) action: Action,
}

#[derive(Clone, Debug)]
pub(super) enum Condition {
    /// It came by a workload's interface.
    FromWorkload,
    /// It leaves by a workload's interface.
    ToWorkload,
    /// Connection tracking says one of these.
    State(&'static [&'static str]),
    /// These bits of its mark are set.
    Marked(u32),
    /// None of these bits is set.
    Unmarked(u32),
    Protocol(&'static str),
    /// It is for this port.
    Port(u16),
    /// Its source is in a set.
    SourceIn(&'static str),
    /// Its destination is in a set.
    DestinationIn(&'static str),
    /// Its destination is not in a set.
    DestinationNotIn(&'static str),
    /// No route leads back by the interface by which it came.
    WrongInterface,
}

#[derive(Debug)]
pub(super) enum Action {
    Accept,
    Drop,
    Return,
    Jump(String),
    /// To the chain of the workload whose interface it is.
    Dispatch(Way, Vec<(String, String)>),
    Mark(u32),
    Unmark(u32),
    Masquerade,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    From,
    To,
}

/// All chains of a node with these workloads, by the names of their interfaces.
pub(super) fn all(policies: &BTreeMap<String, Policy>) -> Vec<Chain> {
    let mut chains = vec![
        prerouting(),
        chain(Table::Raw, "cali-rpf-skip", vec![]),
        postrouting(),
        masquerading(),
        forward(),
        dispatch(Way::From, policies),
        dispatch(Way::To, policies),
    ];
    for (ifname, policy) in policies {
        chains.extend(of_workload(ifname, policy));
    }
    chains
}

/// The chains of one workload.
pub(super) fn of_workload(ifname: &str, policy: &Policy) -> [Chain; 4] {
    [
        workload(Way::From, ifname, &policy.egress),
        workload(Way::To, ifname, &policy.ingress),
        rules(Way::From, ifname, &policy.egress),
        rules(Way::To, ifname, &policy.ingress),
    ]
}

fn prerouting() -> Chain {
    use Condition::{FromWorkload, Marked, WrongInterface};
    let rules = vec![
        rule([], Action::Unmark(ACCEPTED | PASSED | FROM_WORKLOAD)),
        rule([FromWorkload], Action::Mark(FROM_WORKLOAD)),
        rule([Marked(FROM_WORKLOAD)], jump("cali-rpf-skip")),
        rule([Marked(FROM_WORKLOAD), WrongInterface], Action::Drop),
    ];
    chain(Table::Raw, "cali-PREROUTING", rules)
}

fn postrouting() -> Chain {
    let rules = vec![rule([], jump("cali-nat-outgoing"))];
    chain(Table::Nat, "cali-POSTROUTING", rules)
}

fn masquerading() -> Chain {
    let leaves = [
        Condition::SourceIn(MASQUERADED),
        Condition::DestinationNotIn(ALL_POOLS),
    ];
    let rules = vec![rule(leaves, Action::Masquerade)];
    chain(Table::Nat, "cali-nat-outgoing", rules)
}

fn forward() -> Chain {
    use Condition::{FromWorkload, ToWorkload};
    let rules = vec![
        rule([], Action::Unmark(ACCEPTED | PASSED)),
        rule([FromWorkload], jump("cali-from-wl-dispatch")),
        rule([ToWorkload], jump("cali-to-wl-dispatch")),
    ];
    chain(Table::Filter, "cali-FORWARD", rules)
}

fn dispatch(way: Way, policies: &BTreeMap<String, Policy>) -> Chain {
    let name = match way {
        Way::From => "cali-from-wl-dispatch",
        Way::To => "cali-to-wl-dispatch",
    };
    let chains = policies.keys().map(|ifname| {
        let (workload, _) = names(way, ifname);
        (ifname.clone(), workload)
    });
    let rules = vec![
        rule([], Action::Dispatch(way, chains.collect())),
        // An unknown interface.
        rule([], Action::Drop),
    ];
    chain(Table::Filter, name, rules)
}

fn workload(way: Way, ifname: &str, access: &Access) -> Chain {
    use Condition::{Marked, Port, Protocol, State, Unmarked};
    let (name, policy) = names(way, ifname);
    let mut rules = vec![
        rule([State(&["RELATED", "ESTABLISHED"])], Action::Accept),
        rule([State(&["INVALID"])], Action::Drop),
        rule([], Action::Unmark(ACCEPTED)),
    ];
    if way == Way::From {
        rules.push(rule([Protocol("udp"), Port(VXLAN_PORT)], Action::Drop));
        rules.push(rule([Protocol("ipencap")], Action::Drop));
    }
    match access {
        Access::All => rules.push(rule([], Action::Mark(ACCEPTED))),
        Access::Only(_) => rules.extend([
            rule([], Action::Unmark(PASSED)),
            rule([Unmarked(PASSED)], Action::Jump(policy)),
            rule([Marked(ACCEPTED)], Action::Return),
            rule([Unmarked(PASSED)], Action::Drop),
        ]),
    }
    chain(Table::Filter, &name, rules)
}

fn rules(way: Way, ifname: &str, access: &Access) -> Chain {
    let (_, name) = names(way, ifname);
    let allowed: &[Allow] = match access {
        Access::All => &[],
        Access::Only(allowed) => allowed,
    };
    let accept_and_return = |allow: &Allow| {
        let accept = Rule {
            conditions: conditions(way, allow),
            action: Action::Mark(ACCEPTED),
        };
        [accept, rule([Condition::Marked(ACCEPTED)], Action::Return)]
    };
    let rules = allowed.iter().flat_map(accept_and_return).collect();
    chain(Table::Filter, &name, rules)
}

fn conditions(way: Way, allow: &Allow) -> Vec<Condition> {
    let peers = allow.peers.map(|set| match way {
        Way::From => Condition::DestinationIn(set),
        Way::To => Condition::SourceIn(set),
    });
    [Condition::Protocol(allow.protocol)]
        .into_iter()
        .chain(allow.port.map(Condition::Port))
        .chain(peers)
        .collect()
}

/// A workload's chain, and that of its policies, as Felix calls them.
fn names(way: Way, ifname: &str) -> (String, String) {
    let workload = ifname.trim_start_matches("cali");
    match way {
        Way::From => (format!("cali-fw-{ifname}"), format!("cali-po-{workload}")),
        Way::To => (format!("cali-tw-{ifname}"), format!("cali-pi-{workload}")),
    }
}

fn jump(chain: &str) -> Action {
    Action::Jump(chain.to_owned())
}

fn chain(table: Table, name: &str, rules: Vec<Rule>) -> Chain {
    let name = name.to_owned();
    Chain { table, name, rules }
}

fn rule<const N: usize>(conditions: [Condition; N], action: Action) -> Rule {
    Rule {
        conditions: conditions.into(),
        action,
    }
}

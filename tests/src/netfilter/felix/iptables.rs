//! The chains as iptables-restore(8) reads them, and the sets as ipset(8) does.

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::chains::{Action, Chain, Condition, Rule, Table, Way};

/// What leads into the chains: put before all others, but for the verdict on what is marked.
const HOOKS: [(Table, &str); 3] = [
    (Table::Raw, "-I PREROUTING -j cali-PREROUTING\n"),
    (Table::Nat, "-I POSTROUTING -j cali-POSTROUTING\n"),
    (
        Table::Filter,
        "-I FORWARD -j cali-FORWARD\n\
         -A FORWARD -m mark --mark 0x10000/0x10000 -j ACCEPT\n\
         -A FORWARD -j MARK --set-xmark 0x10000/0x10000\n",
    ),
];

/// What empties the chains and fills them, with what leads into them if that is not there yet.
pub(super) fn script(chains: &[Chain], with_hooks: bool) -> String {
    let tables = HOOKS.iter().map(|(table, hooks)| {
        let chains: Vec<_> = chains
            .iter()
            .filter(|chain| chain.table == *table)
            .collect();
        let declared = chains
            .iter()
            .map(|chain| format!(":{} - [0:0]\n", chain.name));
        let rules = chains.iter().flat_map(|chain| {
            let lines = chain.rules.iter().flat_map(lines);
            lines.map(|line| format!("-A {} {line}\n", chain.name))
        });
        let hooks = if with_hooks { hooks } else { "" };
        format!(
            "*{}\n{}{}{hooks}COMMIT\n",
            name(*table),
            declared.collect::<String>(),
            rules.collect::<String>(),
        )
    });
    tables.collect()
}

/// What makes a set.
pub(super) fn set(name: &str, members: &[Ipv4Net]) -> String {
    let name = set_name(name);
    let mut script = format!("create {name} hash:net family inet maxelem 1048576\n");
    for member in members {
        writeln!(script, "add {name} {member}").expect("write into a string");
    }
    script
}

/// What takes addresses out of a set.
pub(super) fn without_member(name: &str, member: Ipv4Net) -> String {
    format!("del {} {member}\n", set_name(name))
}

/// What ipset(8) calls a set.
fn set_name(name: &str) -> String {
    format!("cali40{name}")
}

/// What drops all that is from and to an address.
pub(super) fn block(address: Ipv4Addr) -> String {
    format!(
        "*filter\n\
         -I FORWARD -s {address} -j DROP\n\
         -I FORWARD -d {address} -j DROP\n\
         COMMIT\n"
    )
}

/// How many packets a rule has dropped, if it is one that drops: `[2:120] -A chain … -j DROP`.
pub(super) fn dropped(line: &str) -> Option<u64> {
    let count = line.strip_prefix('[')?.split(':').next()?;
    line.ends_with("-j DROP").then(|| count.parse().ok())?
}

fn name(table: Table) -> &'static str {
    match table {
        Table::Raw => "raw",
        Table::Filter => "filter",
        Table::Nat => "nat",
    }
}

/// The lines of a rule: of a dispatch one for each workload.
fn lines(rule: &Rule) -> Vec<String> {
    let conditions: Vec<_> = rule.conditions.iter().map(condition).collect();
    let line = |action: &str| format!("{} {action}", conditions.join(" "));
    match &rule.action {
        Action::Accept => vec![line("-j ACCEPT")],
        Action::Drop => vec![line("-j DROP")],
        Action::Return => vec![line("-j RETURN")],
        Action::Jump(chain) => vec![line(&format!("-j {chain}"))],
        Action::Mark(bits) => vec![line(&format!("-j MARK --set-xmark {bits:#x}/{bits:#x}"))],
        Action::Unmark(bits) => vec![line(&format!("-j MARK --set-xmark 0x0/{bits:#x}"))],
        Action::Masquerade => vec![line("-j MASQUERADE --random-fully")],
        Action::Dispatch(way, chains) => {
            let option = match way {
                Way::From => "-i",
                Way::To => "-o",
            };
            let to_chain =
                |(ifname, chain): &(String, String)| line(&format!("{option} {ifname} -g {chain}"));
            chains.iter().map(to_chain).collect()
        }
    }
}

fn condition(condition: &Condition) -> String {
    match condition {
        Condition::FromWorkload => "-i cali+".to_owned(),
        Condition::ToWorkload => "-o cali+".to_owned(),
        Condition::State(states) => format!("-m conntrack --ctstate {}", states.join(",")),
        Condition::Marked(bits) => format!("-m mark --mark {bits:#x}/{bits:#x}"),
        Condition::Unmarked(bits) => format!("-m mark --mark 0x0/{bits:#x}"),
        Condition::Protocol(protocol) => format!("-p {protocol}"),
        Condition::Port(port) => format!("-m multiport --dports {port}"),
        Condition::SourceIn(set) => format!("-m set --match-set {} src", set_name(set)),
        Condition::DestinationIn(set) => format!("-m set --match-set {} dst", set_name(set)),
        Condition::DestinationNotIn(set) => {
            format!("-m set ! --match-set {} dst", set_name(set))
        }
        Condition::WrongInterface => "-m rpfilter --validmark --invert".to_owned(),
    }
}

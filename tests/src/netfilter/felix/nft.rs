//! The chains as a script of nft(8).

use std::fmt::Write as _;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::chains::{Action, Chain, Condition, Rule, Table, Way};

/// The table that holds everything.
const TABLE: &str = "ip calico";

/// The chains by which packets come.
const HOOKS: &str = "\
    add chain ip calico raw-PREROUTING { type filter hook prerouting priority raw; }\n\
    add rule ip calico raw-PREROUTING jump raw-cali-PREROUTING\n\
    add chain ip calico nat-POSTROUTING { type nat hook postrouting priority srcnat; }\n\
    add rule ip calico nat-POSTROUTING jump nat-cali-POSTROUTING\n\
    add chain ip calico filter-FORWARD { type filter hook forward priority filter; }\n\
    add rule ip calico filter-FORWARD jump filter-cali-FORWARD\n\
    add rule ip calico filter-FORWARD meta mark & 0x10000 == 0x10000 counter accept\n\
    add rule ip calico filter-FORWARD meta mark set meta mark or 0x10000\n";

/// What empties the chains and fills them, with what leads into them if that is not there yet.
pub(super) fn script(chains: &[Chain], with_hooks: bool) -> String {
    let mut script = format!("add table {TABLE}\n");
    for chain in chains {
        let name = name(chain.table, &chain.name);
        writeln!(
            script,
            "add chain {TABLE} {name}\nflush chain {TABLE} {name}"
        )
        .expect("write into a string");
    }
    for chain in chains {
        let name = name(chain.table, &chain.name);
        for rule in &chain.rules {
            let line = line(chain.table, rule);
            writeln!(script, "add rule {TABLE} {name} {line}").expect("write into a string");
        }
    }
    script + if with_hooks { HOOKS } else { "" }
}

/// What makes a set.
pub(super) fn set(name: &str, members: &[Ipv4Net]) -> String {
    let name = set_name(name);
    let members: Vec<_> = members.iter().map(Ipv4Net::to_string).collect();
    format!(
        "add table {TABLE}\n\
         add set {TABLE} {name} {{ type ipv4_addr; flags interval; }}\n\
         add element {TABLE} {name} {{ {} }}\n",
        members.join(", ")
    )
}

/// What takes addresses out of a set.
pub(super) fn without_member(name: &str, member: Ipv4Net) -> String {
    format!("delete element {TABLE} {} {{ {member} }}\n", set_name(name))
}

/// What drops all that is from and to an address.
pub(super) fn block(address: Ipv4Addr) -> String {
    format!(
        "insert rule {TABLE} filter-FORWARD ip saddr {address} counter drop\n\
         insert rule {TABLE} filter-FORWARD ip daddr {address} counter drop\n"
    )
}

/// How many packets a rule has dropped, if it is one that drops: `… counter packets 2 bytes 120 drop`.
pub(super) fn dropped(line: &str) -> Option<u64> {
    let (_, counts) = line.split_once("counter packets ")?;
    let count = counts.split(' ').next()?;
    line.ends_with(" drop").then(|| count.parse().ok())?
}

fn set_name(name: &str) -> String {
    format!("cali40{}", name.replace(':', "-"))
}

fn name(table: Table, chain: &str) -> String {
    let table = match table {
        Table::Raw => "raw",
        Table::Filter => "filter",
        Table::Nat => "nat",
    };
    format!("{table}-{chain}")
}

fn line(table: Table, rule: &Rule) -> String {
    let conditions = rule.conditions.iter().map(condition);
    let mut words: Vec<String> = conditions.collect();
    words.push(action(table, &rule.action));
    words.join(" ")
}

fn action(table: Table, action: &Action) -> String {
    match action {
        Action::Accept => "counter accept".to_owned(),
        Action::Drop => "counter drop".to_owned(),
        Action::Return => "counter return".to_owned(),
        Action::Jump(chain) => format!("counter jump {}", name(table, chain)),
        Action::Mark(bits) => format!("counter meta mark set meta mark or {bits:#x}"),
        Action::Unmark(bits) => format!("counter meta mark set meta mark & {:#x}", !bits),
        Action::Masquerade => "counter masquerade fully-random".to_owned(),
        Action::Dispatch(way, chains) => {
            let key = match way {
                Way::From => "iifname",
                Way::To => "oifname",
            };
            let to_chain = |(ifname, chain): &(String, String)| {
                format!("\"{ifname}\" : goto {}", name(table, chain))
            };
            let elements: Vec<_> = chains.iter().map(to_chain).collect();
            format!("{key} vmap {{ {} }}", elements.join(", "))
        }
    }
}

fn condition(condition: &Condition) -> String {
    match condition {
        Condition::FromWorkload => "iifname \"cali*\"".to_owned(),
        Condition::ToWorkload => "oifname \"cali*\"".to_owned(),
        Condition::State(states) => format!("ct state {}", states.join(",").to_lowercase()),
        Condition::Marked(bits) => format!("meta mark & {bits:#x} == {bits:#x}"),
        Condition::Unmarked(bits) => format!("meta mark & {bits:#x} == 0"),
        Condition::Protocol(protocol) => format!("meta l4proto {protocol}"),
        Condition::Port(port) => format!("th dport {port}"),
        Condition::SourceIn(set) => format!("ip saddr @{}", set_name(set)),
        Condition::DestinationIn(set) => format!("ip daddr @{}", set_name(set)),
        Condition::DestinationNotIn(set) => format!("ip daddr != @{}", set_name(set)),
        Condition::WrongInterface => "fib saddr . mark . iif oif 0".to_owned(),
    }
}

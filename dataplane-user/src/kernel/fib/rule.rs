//! Policy rules (`ip rule`): which tables are looked into, for which packets.

use std::net::{IpAddr, Ipv4Addr};

use ipnet::Ipv4Net;
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};

/// A rule for IPv4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Rules are gone through from the smallest on.
    pub priority: u32,
    /// What is done where it applies.
    pub action: Action,
    /// It applies to what its selectors do not select.
    pub inverted: bool,
    /// Source addresses.
    pub from: Option<Ipv4Net>,
    /// Destination addresses.
    pub to: Option<Ipv4Net>,
    /// Name of the interface a packet came by; `lo` for this host's own.
    pub iif: Option<String>,
    /// Whether it asks for an interface that a packet leaves by, which only this host's own have.
    pub has_oif: bool,
    /// The packet's mark, of those bits in the mask that follows.
    pub mark: (u32, u32),
    /// What else it selects by, where that may be a pod's packets.
    pub other: Option<&'static str>,
    /// Whether it selects by what no pod's packet has: a VRF, tunnel metadata.
    pub never: bool,
    /// Routes with a prefix of this length or shorter count as none.
    pub suppress_prefix_len: Option<u8>,
}

/// What a rule does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// The packet's route is looked up in this table.
    Lookup(u32),
    /// The rules up to this priority are passed over.
    Goto(u32),
    /// Nothing.
    Nothing,
    /// It is dropped in silence.
    Blackhole,
    /// It is dropped, and its sender told (unreachable, prohibited).
    Refuse,
}

/// Reads a rule.
pub(in crate::kernel) fn rule(message: &RuleMessage) -> Rule {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut goto = None;
    let mut mark = 0;
    let mut bits = None;
    let mut rule = Rule {
        priority: 0,
        action: Action::Nothing,
        inverted: header.flags.contains(RuleFlags::Invert),
        from: None,
        to: None,
        iif: None,
        has_oif: false,
        mark: (0, 0),
        other: (header.tos != 0).then_some("TOS"),
        never: false,
        suppress_prefix_len: None,
    };
    for attribute in &message.attributes {
        match attribute {
            RuleAttribute::Priority(priority) => rule.priority = *priority,
            RuleAttribute::Table(given) => table = *given,
            RuleAttribute::Goto(priority) => goto = Some(*priority),
            RuleAttribute::Source(address) => rule.from = net(*address, header.src_len),
            RuleAttribute::Destination(address) => rule.to = net(*address, header.dst_len),
            RuleAttribute::Iifname(name) => rule.iif = Some(name.clone()),
            RuleAttribute::Oifname(_) => rule.has_oif = true,
            RuleAttribute::FwMark(given) => mark = *given,
            RuleAttribute::FwMask(given) => bits = Some(*given),
            RuleAttribute::TunId(id) => rule.never |= *id != 0,
            RuleAttribute::L3MDev(is_set) => rule.never |= *is_set,
            RuleAttribute::UidRange(_) => rule.other = Some("user"),
            RuleAttribute::IpProtocol(_) => rule.other = Some("protocol"),
            RuleAttribute::SourcePortRange(_) | RuleAttribute::DestinationPortRange(_) => {
                rule.other = Some("port");
            }
            // The kernel gives -1 where none is set.
            RuleAttribute::SuppressPrefixLen(length) => {
                rule.suppress_prefix_len = u8::try_from(*length).ok();
            }
            RuleAttribute::SuppressIfGroup(group) if *group != u32::MAX => {
                rule.other = Some("suppress_ifgroup");
            }
            _ => {}
        }
    }
    if mark != 0 || bits.is_some() {
        rule.mark = (mark, bits.unwrap_or(u32::MAX));
    }
    rule.action = match header.action {
        RuleAction::ToTable => Action::Lookup(table),
        RuleAction::Goto => goto.map_or(Action::Nothing, Action::Goto),
        RuleAction::Blackhole => Action::Blackhole,
        RuleAction::Unreachable | RuleAction::Prohibit => Action::Refuse,
        _ => Action::Nothing,
    };
    rule
}

fn net(address: IpAddr, length: u8) -> Option<Ipv4Net> {
    let IpAddr::V4(address) = address else {
        return None;
    };
    Some(Ipv4Net::new(address, length).ok()?.trunc())
}

impl Rule {
    /// A rule that looks into `table` for every packet.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn lookup(priority: u32, table: u32) -> Self {
        Self {
            priority,
            action: Action::Lookup(table),
            inverted: false,
            from: None,
            to: None,
            iif: None,
            has_oif: false,
            mark: (0, 0),
            other: None,
            never: false,
            suppress_prefix_len: None,
        }
    }

    /// Whether packets from `addresses`, forwarded and without a mark, are all of them (`Some(true)`),
    /// none (`Some(false)`) or some of them selected by everything but [`Rule::to`].
    #[must_use]
    pub fn selects(
        &self,
        addresses: &[Ipv4Addr],
        is_workload: impl Fn(&str) -> bool,
    ) -> Option<bool> {
        let by_source = match self.from {
            None => Some(true),
            Some(net) => {
                let inside = addresses
                    .iter()
                    .filter(|address| net.contains(*address))
                    .count();
                match inside {
                    0 => Some(false),
                    all if all == addresses.len() => Some(true),
                    _ => None,
                }
            }
        };
        let by_interface = match &self.iif {
            None => Some(true),
            Some(name) if is_workload(name) => None,
            Some(_) => Some(false),
        };
        let (mark, bits) = self.mark;
        let by_mark = Some(mark & bits == 0);
        let by_other = match self.other {
            None => Some(true),
            Some(_) => None,
        };
        let never = Some(!self.never && !self.has_oif);
        let selectors = [by_source, by_interface, by_mark, by_other, never];
        let selected = if selectors.contains(&Some(false)) {
            Some(false)
        } else if selectors.contains(&None) {
            None
        } else {
            Some(true)
        };
        selected.map(|selected| selected != self.inverted)
    }
}

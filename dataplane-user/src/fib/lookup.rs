//! What a pod's packet to an address meets in the tables.
//!
//! Every address is looked up by the longest prefix, of those of all tables, that contains it. In no
//! table is there a longer one for it, so in each the longest that contains that prefix is the
//! address's, too: one answer a prefix is exact, whatever the rules and tables are.

use std::collections::BTreeSet;

use ipnet::Ipv4Net;

use super::{Fib, infos::InfoId, stages::StageAction};
use crate::kernel::fib::RouteKind;

/// What was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// No route.
    Nothing,
    /// This one, and it is the only one for all packets.
    Route(Ipv4Net, InfoId),
    /// A rule drops it in silence.
    Blackhole,
    /// It depends on the packet, or on what only the stack does.
    Doubt(&'static str),
}

impl Fib {
    /// What packets to `prefix` meet that no longer prefix takes.
    pub(super) fn lookup(&self, prefix: Ipv4Net) -> Found {
        for stage in &self.stages {
            if stage.within.is_some_and(|within| !within.contains(&prefix)) {
                continue;
            }
            let found = match stage.action {
                StageAction::Lookup(table, suppressed) => self.lookup_in(table, suppressed, prefix),
                StageAction::Blackhole => Found::Blackhole,
                StageAction::Stack => Found::Doubt("a rule that refuses packets"),
            };
            match (found, stage.doubt) {
                (Found::Nothing, _) => {}
                (_, Some(doubt)) => return Found::Doubt(doubt),
                (found, None) => return found,
            }
        }
        Found::Nothing
    }

    /// The interface of the pod that has the address `host`, a /32.
    #[must_use]
    pub fn pod_interface(&self, host: Ipv4Net) -> Option<u32> {
        match self.lookup(host) {
            Found::Route(longest, id) if longest == host => self.on_link_of(id),
            _ => None,
        }
    }

    /// The interfaces that default routes leave by.
    #[must_use]
    pub fn default_interfaces(&self) -> BTreeSet<u32> {
        let default = Ipv4Net::default();
        let routes = self.tables.values().flat_map(|table| table.routes(default));
        routes
            .flat_map(|id| self.infos[id].hops())
            .map(|hop| hop.oif)
            .collect()
    }

    fn lookup_in(&self, table: u32, suppressed: Option<u8>, prefix: Ipv4Net) -> Found {
        let Some(table) = self.tables.get(&table) else {
            return Found::Nothing;
        };
        let Some(longest) = table.longest(prefix) else {
            return Found::Nothing;
        };
        if suppressed.is_some_and(|length| longest.prefix_len() <= length) {
            return Found::Nothing;
        }
        if table.routes(longest).any(|id| self.infos[id].tos != 0) {
            return Found::Doubt("it holds for some TOS only");
        }
        match table.routes(longest).next() {
            Some(id) if self.infos[id].kind == RouteKind::Throw => Found::Nothing,
            Some(id) => Found::Route(longest, id),
            None => Found::Nothing,
        }
    }
}

//! Who owns which prefix, over all sections.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::nodes::CheckedNode;
use crate::cluster::{NodeId, Route, RouteTarget};
use crate::document::{Located, Problems};

/// Refuses prefixes with two owners, and tunnel addresses that lead to another node than theirs.
pub(super) fn check(nodes: &[CheckedNode], routes: &[Located<Route>], problems: &mut Problems) {
    let mut claims = Claims::new(nodes);
    for (id, node) in ids(nodes) {
        for cidr in &node.pod_cidrs {
            let claim = cidr.with(Owner::PodCidr(id));
            claims.add(cidr.value, claim, problems);
        }
    }
    for route in routes {
        let claim = route.with(Owner::Route(route.value.target));
        claims.add(route.value.cidr, claim, problems);
    }
    for (id, node) in ids(nodes) {
        if let Some(address) = node.tunnel_address {
            claims.hold_against(id, address, problems);
        }
    }
}

fn ids(nodes: &[CheckedNode]) -> impl Iterator<Item = (NodeId, &CheckedNode)> {
    nodes
        .iter()
        .enumerate()
        .map(|(index, node)| (NodeId(index), node))
}

/// What a prefix belongs to.
#[derive(Clone, Copy)]
enum Owner {
    PodCidr(NodeId),
    Route(RouteTarget),
}

impl Owner {
    fn is_node(self, id: NodeId) -> bool {
        match self {
            Self::PodCidr(node) | Self::Route(RouteTarget::Node(node)) => node == id,
            Self::Route(RouteTarget::Blackhole) => false,
        }
    }
}

/// The first owner of every prefix, and the line that says so.
struct Claims<'a> {
    owners: HashMap<Ipv4Net, Located<Owner>>,
    nodes: &'a [CheckedNode],
}

impl<'a> Claims<'a> {
    fn new(nodes: &'a [CheckedNode]) -> Self {
        Self {
            owners: HashMap::new(),
            nodes,
        }
    }

    fn add(&mut self, prefix: Ipv4Net, claim: Located<Owner>, problems: &mut Problems) {
        match self.owners.entry(prefix) {
            Entry::Vacant(entry) => {
                entry.insert(claim);
            }
            Entry::Occupied(entry) => {
                let first = *entry.get();
                problems.at(
                    claim.line,
                    format!(
                        "{prefix} is given as {}, but already as {} (line {}): a prefix leads to \
                         one place, so keep one of them",
                        self.role(claim.value),
                        self.role(first.value),
                        first.line
                    ),
                );
            }
        }
    }

    /// Refuses the tunnel address of a node if packets for it would not arrive there. One in
    /// no prefix at all does: the node has a route for it alone.
    fn hold_against(&self, id: NodeId, address: Located<Ipv4Addr>, problems: &mut Problems) {
        let Some((prefix, claim)) = self.longest(address.value) else {
            return;
        };
        if claim.value.is_node(id) {
            return;
        }
        let node = self.label(id);
        let host = Ipv4Net::from(address.value);
        let remedy = if prefix == host {
            format!("choose one of {node}'s own, or change that line")
        } else {
            format!("choose one of {node}'s own, or add the route {{cidr: {host}, node: {node}}}")
        };
        problems.at(
            address.line,
            format!(
                "tunnelAddress {} of {node} lies in {prefix}, {} (line {}), so packets for it \
                 would not reach {node}: {remedy}",
                address.value,
                self.role(claim.value),
                claim.line
            ),
        );
    }

    /// The longest prefix that contains `address`.
    fn longest(&self, address: Ipv4Addr) -> Option<(Ipv4Net, Located<Owner>)> {
        (0..=32).rev().find_map(|length| {
            let prefix = Ipv4Net::new_assert(address, length).trunc();
            Some((prefix, *self.owners.get(&prefix)?))
        })
    }

    fn role(&self, owner: Owner) -> String {
        match owner {
            Owner::PodCidr(id) => format!("a podCIDR of {}", self.label(id)),
            Owner::Route(RouteTarget::Node(id)) => format!("a route to {}", self.label(id)),
            Owner::Route(RouteTarget::Blackhole) => "a blackhole".to_owned(),
        }
    }

    fn label(&self, id: NodeId) -> &'a str {
        self.nodes[id.0].label()
    }
}

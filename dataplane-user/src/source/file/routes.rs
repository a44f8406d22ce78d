//! The section `routes`.

use std::collections::HashMap;

use super::list::few;
use super::nodes::CheckedNode;
use super::plain::PlainRoute;
use super::pools::CheckedPools;
use super::raw::RawRoute;
use crate::cluster::{NodeId, Route, RouteTarget};
use crate::document::{Located, Problems, scalar};

/// Reads every route, and holds it against the pools and the nodes.
pub(super) fn check(
    raw: Option<Vec<Located<RawRoute>>>,
    pools: &CheckedPools,
    nodes: &[CheckedNode],
    problems: &mut Problems,
) -> Vec<Located<Route>> {
    let names = NodeNames::of(nodes);
    raw.into_iter()
        .flatten()
        .filter_map(|raw| route(raw, pools, &names, problems))
        .collect()
}

/// The same of plain routes, if there is nothing wrong with any. They have no lines.
pub(super) fn check_plain(
    plain: &[PlainRoute<'_>],
    pools: &CheckedPools,
    nodes: &[CheckedNode],
) -> Option<Vec<Located<Route>>> {
    let names = NodeNames::of(nodes);
    let route = |plain: &PlainRoute<'_>| {
        let cidr = scalar::prefix(plain.cidr).ok()?;
        pools.cover(cidr).ok()?;
        let target = match plain.node {
            Some(name) => names.find(name).ok()?,
            None => RouteTarget::Blackhole,
        };
        let value = Route { cidr, target };
        Some(Located { value, line: 0 })
    };
    plain.iter().map(route).collect()
}

fn route(
    raw: Located<RawRoute>,
    pools: &CheckedPools,
    names: &NodeNames<'_>,
    problems: &mut Problems,
) -> Option<Located<Route>> {
    let Located { value: raw, line } = raw;
    let Some(cidr) = raw.cidr else {
        problems.at(line, "a route has no cidr: add the prefix that it is for");
        return None;
    };
    let subject = format!("route {}", cidr.value);
    let target = match (raw.node, raw.blackhole) {
        (Some(node), None) => {
            let subject = format!("{subject} leads to {}, which", node.value);
            problems.keep(node.line, subject, names.find(&node.value))
        }
        (None, Some(Located { value: true, .. })) => Some(RouteTarget::Blackhole),
        (_, Some(Located { value: false, line })) => {
            let fault = "has blackhole: false, which leads nowhere: remove it and give a node";
            problems.at(line, format!("{subject} {fault}"));
            None
        }
        (Some(_), Some(_)) => {
            let fault = "has both node and blackhole: keep the one that is meant";
            problems.at(cidr.line, format!("{subject} {fault}"));
            None
        }
        (None, None) => {
            let fault = "leads nowhere: give it a node, or blackhole: true to drop its packets";
            problems.at(cidr.line, format!("{subject} {fault}"));
            None
        }
    };
    let prefix = problems.keep(cidr.line, &subject, scalar::prefix(&cidr.value))?;
    problems.keep(cidr.line, &subject, pools.cover(prefix));
    Some(cidr.with(Route {
        cidr: prefix,
        target: target?,
    }))
}

/// Nodes by name.
struct NodeNames<'a> {
    ids: HashMap<&'a str, NodeId>,
    nodes: &'a [CheckedNode],
}

impl<'a> NodeNames<'a> {
    fn of(nodes: &'a [CheckedNode]) -> Self {
        let named = nodes.iter().enumerate().filter_map(|(index, node)| {
            let name = node.name.as_ref()?;
            Some((name.value.as_str(), NodeId(index)))
        });
        Self {
            ids: named.collect(),
            nodes,
        }
    }

    fn find(&self, name: &str) -> Result<RouteTarget, String> {
        match self.ids.get(name) {
            Some(&id) => Ok(RouteTarget::Node(id)),
            None => Err(format!(
                "is not in the list of nodes ({}): correct the name or add the node",
                few(self.nodes.iter().map(CheckedNode::label))
            )),
        }
    }
}

//! The section `nodes`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::fmt::Display;
use std::hash::Hash;
use std::net::Ipv4Addr;

use ipnet::Ipv4Net;

use super::pools::CheckedPools;
use super::raw::RawNode;
use crate::address::Mac;
use crate::cluster::{Node, default_vtep_mac};
use crate::document::{Located, Problems, scalar};

/// A node as far as it could be read.
pub(super) struct CheckedNode {
    pub(super) name: Option<Located<String>>,
    address: Option<Located<Ipv4Net>>,
    pub(super) pod_cidrs: Vec<Located<Ipv4Net>>,
    pub(super) tunnel_address: Option<Located<Ipv4Addr>>,
    vtep_mac: Option<Located<Mac>>,
}

impl CheckedNode {
    /// What the node is called in messages.
    pub(super) fn label(&self) -> &str {
        label(self.name.as_ref())
    }

    /// The node, unless a part of it was refused.
    pub(super) fn into_node(self) -> Option<Node> {
        let address = self.address?.value;
        Some(Node {
            name: self.name?.value,
            address: address.addr(),
            subnet: address.trunc(),
            pod_cidrs: self.pod_cidrs.iter().map(|cidr| cidr.value).collect(),
            tunnel_address: self.tunnel_address.map(|address| address.value),
            vtep_mac: self.vtep_mac?.value,
        })
    }
}

/// Reads every node, holds it against the pools, and refuses what two nodes cannot share.
pub(super) fn check(
    raw: Option<Vec<Located<RawNode>>>,
    pools: &CheckedPools,
    problems: &mut Problems,
) -> Vec<CheckedNode> {
    let nodes: Vec<CheckedNode> = raw
        .unwrap_or_default()
        .into_iter()
        .map(|raw| node(raw, problems))
        .collect();
    if nodes.is_empty() {
        problems.in_file("has no nodes: list all of them, this one included");
    }
    for node in &nodes {
        hold_against_pools(node, pools, problems);
    }
    refuse_shared_names(&nodes, problems);
    refuse_shared(&nodes, "address", problems, |node| {
        node.address
            .map(|address| address.with(address.value.addr()))
    });
    refuse_shared(&nodes, "tunnelAddress", problems, |node| {
        node.tunnel_address
    });
    refuse_shared(&nodes, "vtepMAC", problems, |node| node.vtep_mac);
    nodes
}

fn node(raw: Located<RawNode>, problems: &mut Problems) -> CheckedNode {
    let Located { value: raw, line } = raw;
    let name = name(raw.name, line, problems);
    let label = label(name.as_ref());
    if raw.address.is_none() {
        let fault = "has no address: add it with the mask of its subnet, such as 192.168.1.10/24";
        problems.at(line, format!("{label} {fault}"));
    }

    let mut read = Reader { label, problems };
    CheckedNode {
        address: read.field("address", raw.address, scalar::address_with_mask),
        pod_cidrs: raw
            .pod_cidrs
            .into_iter()
            .flatten()
            .filter_map(|cidr| read.field("podCIDR", Some(cidr), scalar::prefix))
            .collect(),
        tunnel_address: read.field("tunnelAddress", raw.tunnel_address, scalar::address),
        vtep_mac: match (raw.vtep_mac, &name) {
            (Some(mac), _) => read.field("vtepMAC", Some(mac), scalar::mac),
            (None, Some(name)) => Some(name.with(default_vtep_mac(&name.value))),
            (None, None) => None,
        },
        name,
    }
}

fn name(
    given: Option<Located<String>>,
    line: u64,
    problems: &mut Problems,
) -> Option<Located<String>> {
    let name = given.filter(|name| !name.value.is_empty());
    if name.is_none() {
        problems.at(line, "a node has no name: add the one it has in Kubernetes");
    }
    name
}

fn label(name: Option<&Located<String>>) -> &str {
    name.map_or("a node without a name", |name| &name.value)
}

/// Reads the fields of one node.
struct Reader<'a> {
    label: &'a str,
    problems: &'a mut Problems,
}

impl Reader<'_> {
    fn field<T>(
        &mut self,
        field: &str,
        given: Option<Located<String>>,
        read: impl Fn(&str) -> Result<T, String>,
    ) -> Option<Located<T>> {
        let given = given?;
        let subject = format!("{field} {} of {}", given.value, self.label);
        let value = self
            .problems
            .keep(given.line, subject, read(&given.value))?;
        Some(given.with(value))
    }
}

fn hold_against_pools(node: &CheckedNode, pools: &CheckedPools, problems: &mut Problems) {
    let label = node.label();
    if let Some(Located { value, line }) = node.address {
        let address = value.addr();
        if let Some(pool) = pools.containing(address.into()) {
            problems.at(
                line,
                format!(
                    "address {address} of {label} lies in the pool {}: packets to the node would \
                     enter the tunnel that they carry, so give it one outside the pools",
                    pool.cidr
                ),
            );
        }
    }
    for cidr in &node.pod_cidrs {
        let subject = format!("podCIDR {} of {label}", cidr.value);
        problems.keep(cidr.line, subject, pools.cover(cidr.value));
    }
    if let Some(Located { value, line }) = node.tunnel_address {
        let subject = format!("tunnelAddress {value} of {label}");
        problems.keep(line, subject, pools.cover(value.into()));
    }
}

fn refuse_shared_names(nodes: &[CheckedNode], problems: &mut Problems) {
    let mut lines = HashMap::new();
    for Located { value, line } in nodes.iter().filter_map(|node| node.name.as_ref()) {
        match lines.entry(value) {
            Entry::Vacant(entry) => {
                entry.insert(line);
            }
            Entry::Occupied(first) => problems.at(
                *line,
                format!(
                    "another node is called {value} (line {}): give each its own name, or remove \
                     one",
                    first.get()
                ),
            ),
        }
    }
}

/// Refuses a value of `field` that two nodes have. One node listed twice has been refused as that.
fn refuse_shared<T: Copy + Eq + Hash + Display>(
    nodes: &[CheckedNode],
    field: &str,
    problems: &mut Problems,
    value: impl Fn(&CheckedNode) -> Option<Located<T>>,
) {
    let mut holders: HashMap<T, (&str, u64)> = HashMap::new();
    for node in nodes {
        let Some(Located { value, line }) = value(node) else {
            continue;
        };
        let label = node.label();
        let (holder, first) = *holders.entry(value).or_insert((label, line));
        if holder != label {
            problems.at(
                line,
                format!(
                    "{field} {value} of {label} is also that of {holder} (line {first}): give \
                     each node its own"
                ),
            );
        }
    }
}

//! What `underpass` says of the kernel's routes that it mirrors.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::{Counters, Node, eventually, items};

/// A route of the programs, as `underpass routes` prints it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Route {
    /// Destinations.
    pub prefix: Ipv4Net,
    /// Where they are sent; of a `multipath`, nowhere by itself.
    #[serde(flatten)]
    pub way: Way,
    /// The ways of a `multipath`.
    #[serde(default)]
    pub ways: Vec<Way>,
}

/// A way that packets go.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Way {
    /// `local`, `blackhole`, `direct`, `ipip`, `vxlan`, `multipath`, …
    pub kind: String,
    /// The node at its end, where that is known.
    pub peer: Option<Ipv4Addr>,
    /// The neighbour packets are sent to, where it is not the peer itself.
    pub gateway: Option<Ipv4Addr>,
    /// The interface they leave by.
    pub interface: Option<String>,
    /// Longest packet in bytes, before encapsulation.
    pub mtu: Option<u16>,
    /// Of 32 flows, how many go this way, of the ways of a `multipath`.
    #[serde(default)]
    pub share: usize,
}

impl Route {
    /// Whether packets stay with the stack, although a wider route would have them elsewhere.
    #[must_use]
    pub fn is_left_to_the_stack(&self) -> bool {
        self.way.kind == "unset"
    }

    /// The neighbours that packets are sent to.
    #[must_use]
    pub fn gateways(&self) -> BTreeSet<Ipv4Addr> {
        let ways = [&self.way].into_iter().chain(&self.ways);
        ways.filter_map(|way| way.gateway.or(way.peer)).collect()
    }
}

/// A route that is left to the stack.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Unmirrored {
    /// Destinations.
    pub prefix: Ipv4Net,
    /// Why.
    pub why: String,
}

/// All routes of the node's programs.
pub fn routes(node: &Node) -> Result<Vec<Route>> {
    read(node, &["routes", "list", "-o", "json"])
}

/// Those of the kernel's routes that the stack has for itself.
pub fn unmirrored(node: &Node) -> Result<Vec<Unmirrored>> {
    read(node, &["routes", "list", "--unmirrored", "-o", "json"])
}

fn read<T: DeserializeOwned>(node: &Node, arguments: &[&str]) -> Result<Vec<T>> {
    let output = node.underpass(arguments)?;
    ensure!(
        output.status.success(),
        "underpass {} on {}: {}",
        arguments.join(" "),
        node.name(),
        String::from_utf8_lossy(&output.stderr)
    );
    items(&output.stdout)
}

/// The route that the node's programs have for an address; none if it is left to the stack.
pub fn route_to(node: &Node, address: Ipv4Addr) -> Result<Option<Route>> {
    let output = node.underpass(&["routes", "get", &address.to_string(), "-o", "json"])?;
    if !output.status.success() {
        let error = String::from_utf8_lossy(&output.stderr);
        ensure!(error.contains("no route to"), "routes get: {error}");
        return Ok(None);
    }
    Ok(items(&output.stdout)?.into_iter().next())
}

/// Waits until the programs' route to `address` is what it should be.
pub fn wait_for_route(
    node: &Node,
    address: Ipv4Addr,
    what: &str,
    is_right: impl Fn(Option<&Route>) -> bool,
) -> Result<()> {
    let mut last = None;
    let what = format!("{what}: the route to {address} on {}", node.name());
    let outcome = eventually(&what, || {
        last = route_to(node, address)?;
        Ok(is_right(last.as_ref()))
    });
    outcome.with_context(|| format!("{last:?}"))
}

/// Waits until `underpass diff` finds nothing on the node.
pub fn wait_without_drift(node: &Node) -> Result<()> {
    let mut said = String::new();
    let outcome = eventually("underpass diff finds nothing", || {
        let output = node.underpass(&["diff"])?;
        said = String::from_utf8_lossy(&output.stdout).into_owned()
            + &String::from_utf8_lossy(&output.stderr);
        Ok(output.status.success())
    });
    outcome.with_context(|| format!("on {}:\n{said}", node.name()))
}

/// How many packets of the node's pods have been left to the stack for want of a route.
#[must_use]
pub fn left_to_the_stack(counters: &Counters) -> u64 {
    let packets = |reason| counters.get("from_workload", reason).packets;
    packets("no-route") + packets("next-hop-unset")
}

/// All of a node's state that underpass is to leave alone, by what it was asked with.
#[derive(Debug, PartialEq, Eq)]
pub struct State(BTreeMap<&'static str, String>);

impl State {
    /// Reads it.
    pub fn of(node: &Node) -> Result<Self> {
        const COMMANDS: [&str; 6] = [
            "ip -details link show",
            "ip address show",
            "ip rule show",
            "ip route show table all",
            "ip neighbour show nud permanent",
            "bridge fdb show",
        ];
        let ask = |command| Ok((command, node.ns().exec(command)?));
        COMMANDS
            .into_iter()
            .map(ask)
            .collect::<Result<_>>()
            .map(Self)
    }
}

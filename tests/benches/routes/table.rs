//! Tables of routes: pools full of blocks, as Calico fills them.

use std::{fmt::Write as _, net::Ipv4Addr};

use fastrand::Rng;
use ipnet::Ipv4Net;

/// Addresses in a block: a /26.
const BLOCK: u32 = 64;
/// One route in this many is an address of its own, in the block of another node.
const BORROWED: u32 = 50;
/// The network of the first pool; the others follow it, /8 all of them.
const FIRST_POOL: u32 = 10;

/// Which prefix is whose.
pub(crate) struct Table {
    /// Prefix and node, counted from 0: the blocks, and then what other nodes have borrowed.
    routes: Vec<(Ipv4Net, u32)>,
    nodes: u32,
}

impl Table {
    /// As many routes as this, a node to every 64 of them, but at least 4 and at most 2,000.
    pub(crate) fn of(routes: u32) -> Self {
        let mut random = Rng::with_seed(u64::from(routes));
        let nodes = (routes / 64).clamp(4, 2000);
        let borrowed = routes / BORROWED;
        let blocks = routes - borrowed;
        let mut table = Self {
            routes: Vec::new(),
            nodes,
        };
        for block in 0..blocks {
            table.push(block * BLOCK, 26, random.u32(0..nodes));
        }
        for block in random.choose_multiple(0..blocks, borrowed as usize) {
            let address = block * BLOCK + random.u32(0..BLOCK);
            table.push(address, 32, random.u32(0..nodes));
        }
        table
    }

    fn push(&mut self, offset: u32, length: u8, node: u32) {
        let address = Ipv4Addr::from((FIRST_POOL << 24) + offset);
        let prefix = Ipv4Net::new_assert(address, length);
        self.routes.push((prefix, node));
    }

    /// The same, but for one route in a hundred, which is another node's.
    pub(crate) fn changed(mut self) -> Self {
        for (_, node) in self.routes.iter_mut().step_by(100) {
            *node = (*node + 1) % self.nodes;
        }
        self
    }

    /// The cluster file, with the node `name` besides, which has none of the routes.
    pub(crate) fn yaml(&self, name: &str, address: Ipv4Net) -> String {
        let pools = self
            .routes
            .iter()
            .map(|(prefix, _)| prefix.network().octets()[0])
            .max();
        let mut yaml = "pools:\n".to_owned();
        for pool in FIRST_POOL..=pools.unwrap_or_default().into() {
            let _ = writeln!(yaml, "- {{cidr: {pool}.0.0.0/8, vxlanMode: Always}}");
        }
        let _ = writeln!(yaml, "nodes:\n- {{name: {name}, address: {address}}}");
        for node in 0..self.nodes {
            let [third, fourth] = [node / 200 + 2, node % 200 + 1];
            let _ = writeln!(
                yaml,
                "- {{name: n{node}, address: 192.168.{third}.{fourth}/16}}"
            );
        }
        yaml += "routes:\n";
        for (prefix, node) in &self.routes {
            let _ = writeln!(yaml, "- {{cidr: {prefix}, node: n{node}}}");
        }
        yaml
    }

    /// What `ip -batch` is told to add them: each by way of the neighbour that stands for its node.
    pub(crate) fn additions(&self) -> String {
        let routes = self.routes.iter();
        routes
            .map(|(prefix, node)| command("add", *prefix, *node))
            .collect()
    }

    /// What it is told to delete them, wherever they lead.
    pub(crate) fn deletions(&self) -> String {
        let mut commands = String::new();
        for (prefix, _) in &self.routes {
            let _ = writeln!(commands, "route delete {prefix}");
        }
        commands
    }

    /// As many routes as this, spread over all, each with what `ip` is told to have it lead elsewhere.
    pub(crate) fn sample(&self, count: usize) -> impl Iterator<Item = (Ipv4Net, String)> {
        let each = (self.routes.len() / count).max(1);
        let routes = self.routes.iter().step_by(each);
        routes.map(|(prefix, node)| (*prefix, command("replace", *prefix, node + 1)))
    }

    /// Whether `prefix` may be in a table.
    pub(crate) fn has(prefix: Ipv4Net) -> bool {
        let first = prefix.network().octets()[0];
        u32::from(first) >= FIRST_POOL && first < 127
    }

    /// Addresses that there are routes for: of a route that is chosen at random, any.
    pub(crate) fn destinations(&self, count: usize) -> Vec<u32> {
        let mut random = Rng::with_seed(count as u64);
        let mut destination = || {
            let (prefix, _) = self.routes[random.usize(0..self.routes.len())];
            let hosts = u32::MAX
                .checked_shr(prefix.prefix_len().into())
                .unwrap_or(0);
            u32::from(prefix.network()) | random.u32(0..=hosts)
        };
        (0..count).map(|_| destination()).collect()
    }
}

fn command(verb: &str, prefix: Ipv4Net, node: u32) -> String {
    let neighbour = node % 200 + 20;
    format!("route {verb} {prefix} via 192.168.1.{neighbour} dev eth0 onlink\n")
}

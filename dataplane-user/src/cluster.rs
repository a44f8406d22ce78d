//! The cluster's route table, valid by the time it has this shape: which prefixes are the pods',
//! which node each belongs to, and how packets travel there.
//!
//! Invariants, which whoever builds a [`Cluster`] has established (`source::file` for files):
//! pools do not overlap; every prefix of a node or a route lies inside one pool and has one owner;
//! node names, addresses, tunnel addresses and VTEP MACs are unique; every [`NodeId`] in a route
//! is an index of [`Cluster::nodes`].

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use sha1::{Digest, Sha1};

use crate::address::Mac;

/// The pods' networks, the nodes, and the routes that differ from the nodes' own prefixes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cluster {
    /// The networks that pods have their addresses from.
    pub pools: Pools,
    /// All nodes, this one included, in the order of their source.
    pub nodes: Vec<Node>,
    /// Routes beside [`Node::pod_cidrs`]; the longest prefix wins, whichever of the two it is.
    pub routes: Vec<Route>,
}

impl Cluster {
    /// How packets for `prefix` travel from the node `local` to the node `peer`.
    ///
    /// Calico's rule: the pool decides, and under `CrossSubnet` a peer is direct when its address
    /// lies in the *local* node's subnet. Masks may differ between nodes, so the way back may be
    /// another. A prefix outside every pool is not the pods', and is never encapsulated.
    #[must_use]
    pub fn encapsulation(&self, local: &Node, peer: &Node, prefix: Ipv4Net) -> Mode {
        let applies = |when| match when {
            When::Always => true,
            When::CrossSubnet => !local.subnet.contains(&peer.address),
        };
        match self.pool_of(prefix).map(|pool| pool.mode) {
            Some(PoolMode::Ipip(when)) if applies(when) => Mode::Ipip,
            Some(PoolMode::Vxlan(when)) if applies(when) => Mode::Vxlan,
            _ => Mode::Direct,
        }
    }

    /// The pool that contains all of `prefix`.
    #[must_use]
    pub fn pool_of(&self, prefix: Ipv4Net) -> Option<&Pool> {
        self.pools.containing(prefix)
    }

    /// The node called `name`; looks at every node.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&Node> {
        self.nodes.iter().find(|node| node.name == name)
    }
}

/// Pools that do not overlap, in the order of their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pools(Vec<Pool>);

impl Pools {
    /// Takes pools in any order. Of pools that overlap, lookups may find either or none.
    #[must_use]
    pub fn new(mut pools: Vec<Pool>) -> Self {
        pools.sort_unstable_by_key(|pool| pool.cidr);
        Self(pools)
    }

    /// The pool that contains all of `prefix`, in logarithmic time.
    #[must_use]
    pub fn containing(&self, prefix: Ipv4Net) -> Option<&Pool> {
        let after = self
            .0
            .partition_point(|pool| pool.cidr.network() <= prefix.network());
        let candidate = self.0[..after].last()?;
        candidate.cidr.contains(&prefix).then_some(candidate)
    }

    /// All pools, in the order of their addresses.
    pub fn iter(&self) -> std::slice::Iter<'_, Pool> {
        self.0.iter()
    }
}

impl<'a> IntoIterator for &'a Pools {
    type Item = &'a Pool;
    type IntoIter = std::slice::Iter<'a, Pool>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// A network that pods have their addresses from: Calico's `IPPool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// The network, without host bits.
    pub cidr: Ipv4Net,
    /// How packets to this network travel between nodes.
    pub mode: PoolMode,
}

/// Calico's `ipipMode` and `vxlanMode` in one, since at most one of them may be on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// Both are `Never`: the network between the nodes routes pod addresses itself.
    None,
    /// IP in IP, RFC 2003.
    Ipip(When),
    /// VXLAN, RFC 7348.
    Vxlan(When),
}

/// Between which nodes a pool encapsulates.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// Between all.
    Always,
    /// Between nodes that are not on one subnet.
    CrossSubnet,
}

/// How a packet travels from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As it is.
    Direct,
    /// Inside an outer IPv4 header, RFC 2003.
    Ipip,
    /// Inside outer Ethernet, IPv4, UDP and VXLAN headers, RFC 7348.
    Vxlan,
}

/// One node of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// The name it has in Kubernetes.
    pub name: String,
    /// Its address on the network between the nodes: outer source and destination in tunnels.
    pub address: Ipv4Addr,
    /// The subnet that `address` is on, which `CrossSubnet` compares with the peers' addresses.
    pub subnet: Ipv4Net,
    /// The prefixes of its pods.
    pub pod_cidrs: Vec<Ipv4Net>,
    /// The address that the node itself has inside the tunnel.
    pub tunnel_address: Option<Ipv4Addr>,
    /// The inner destination MAC of the VXLAN packets it receives.
    pub vtep_mac: Mac,
}

/// The VTEP MAC of a node for which none is given: `66`, then the first five bytes of the SHA-1 of
/// its name, so that all nodes derive it alike (Calico, `felix/calc/vxlan_resolver.go`,
/// `vtepMACForHost`).
#[must_use]
pub fn default_vtep_mac(node: &str) -> Mac {
    let mut mac = [0x66; 6];
    mac[1..].copy_from_slice(&Sha1::digest(node)[..5]);
    Mac(mac)
}

/// A route that is not one of a node's own prefixes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The destinations, without host bits.
    pub cidr: Ipv4Net,
    /// Where they are.
    pub target: RouteTarget,
}

/// Where a [`Route`] leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RouteTarget {
    /// To pods on a node.
    Node(NodeId),
    /// Nowhere: packets are dropped.
    Blackhole,
}

/// A node by its index in [`Cluster::nodes`], which holds for that one cluster only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

impl std::ops::Index<NodeId> for Cluster {
    type Output = Node;

    fn index(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> Ipv4Net {
        text.parse().unwrap()
    }

    fn node(name: &str, address: &str) -> Node {
        let address = net(address);
        Node {
            name: name.to_owned(),
            address: address.addr(),
            subnet: address.trunc(),
            pod_cidrs: Vec::new(),
            tunnel_address: None,
            vtep_mac: default_vtep_mac(name),
        }
    }

    fn cluster(pools: &[(&str, PoolMode)]) -> Cluster {
        let pools = pools.iter().map(|&(cidr, mode)| Pool {
            cidr: net(cidr),
            mode,
        });
        Cluster {
            pools: Pools::new(pools.collect()),
            nodes: vec![node("node1", "192.168.1.10/24")],
            routes: Vec::new(),
        }
    }

    #[test]
    fn the_pool_and_the_local_subnet_choose_the_encapsulation() {
        let cluster = cluster(&[
            ("10.4.0.0/16", PoolMode::Vxlan(When::CrossSubnet)),
            ("10.3.0.0/16", PoolMode::Vxlan(When::Always)),
            ("10.2.0.0/16", PoolMode::Ipip(When::CrossSubnet)),
            ("10.1.0.0/16", PoolMode::Ipip(When::Always)),
            ("10.0.0.0/16", PoolMode::None),
        ]);
        let local = node("node1", "192.168.1.10/24");
        let near = node("node2", "192.168.1.11/24");
        let far = node("node3", "192.168.2.10/24");

        for (prefix, to_near, to_far) in [
            ("10.0.7.0/24", Mode::Direct, Mode::Direct),
            ("10.1.7.0/24", Mode::Ipip, Mode::Ipip),
            ("10.2.7.0/24", Mode::Direct, Mode::Ipip),
            ("10.3.7.0/24", Mode::Vxlan, Mode::Vxlan),
            ("10.4.7.9/32", Mode::Direct, Mode::Vxlan),
            ("10.5.7.0/24", Mode::Direct, Mode::Direct),
        ] {
            let mode = |peer| cluster.encapsulation(&local, peer, net(prefix));
            assert_eq!((mode(&near), mode(&far)), (to_near, to_far), "{prefix}");
        }
    }

    #[test]
    fn masks_that_differ_make_one_way_direct_and_the_other_encapsulated() {
        let cluster = cluster(&[("10.0.0.0/8", PoolMode::Ipip(When::CrossSubnet))]);
        let wide = node("wide", "192.168.1.10/16");
        let narrow = node("narrow", "192.168.2.10/24");
        let prefix = net("10.0.0.0/24");
        assert_eq!(cluster.encapsulation(&wide, &narrow, prefix), Mode::Direct);
        assert_eq!(cluster.encapsulation(&narrow, &wide, prefix), Mode::Ipip);
    }

    #[test]
    fn a_prefix_belongs_to_the_pool_that_contains_all_of_it() {
        let cluster = cluster(&[
            ("10.244.0.0/16", PoolMode::None),
            ("10.1.0.0/24", PoolMode::None),
            ("192.168.128.0/17", PoolMode::None),
        ]);
        for (prefix, pool) in [
            ("10.244.0.0/16", Some("10.244.0.0/16")),
            ("10.244.255.255/32", Some("10.244.0.0/16")),
            ("10.244.0.0/15", None),
            ("10.1.0.0/32", Some("10.1.0.0/24")),
            ("10.1.1.0/32", None),
            ("10.0.0.0/8", None),
            ("1.0.0.0/32", None),
            ("192.168.255.0/24", Some("192.168.128.0/17")),
            ("255.255.255.255/32", None),
        ] {
            let found = cluster.pool_of(net(prefix)).map(|pool| pool.cidr);
            assert_eq!(found, pool.map(net), "{prefix}");
        }
    }

    #[test]
    fn nodes_are_found_by_name_and_by_id() {
        let cluster = cluster(&[]);
        assert_eq!(cluster.node("node1"), Some(&cluster[NodeId(0)]));
        assert_eq!(cluster.node("Node1"), None);
    }

    /// Expected values from `printf node1 | sha1sum`.
    #[test]
    fn the_default_vtep_mac_is_calicos() {
        for (name, mac) in [
            ("node1", "66:f9:37:c3:7e:94"),
            ("node2", "66:2d:bf:44:a6:8b"),
            ("k8s-worker-1.example.org", "66:ba:04:23:15:86"),
        ] {
            assert_eq!(default_vtep_mac(name).to_string(), mac, "{name}");
        }
    }
}

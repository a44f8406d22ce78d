//! Which prefix is whose.

use std::collections::BTreeMap;

use ipnet::Ipv4Net;

use crate::{
    cluster::{Cluster, Node, NodeId, RouteTarget},
    node::Pod,
};

/// Who has the addresses of a prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This node.
    Local,
    /// A pod on this node, whatever the cluster's table says of its address.
    Pod,
    /// Another node.
    Peer(NodeId),
    /// Nobody.
    Blackhole,
}

/// Prefixes by address; a longer one inside another beats it.
pub(super) type Prefixes = BTreeMap<Ipv4Net, Owner>;

/// The prefixes of the cluster's table, with the tunnel addresses that lie outside the prefixes of
/// their nodes.
pub(super) fn owners(cluster: &Cluster, local: &Node) -> Prefixes {
    let nodes = || {
        cluster
            .nodes
            .iter()
            .enumerate()
            .map(|(n, node)| (NodeId(n), node))
    };
    let owner = |id: NodeId| {
        if cluster[id].name == local.name {
            Owner::Local
        } else {
            Owner::Peer(id)
        }
    };
    let mut prefixes = Prefixes::new();
    for (id, node) in nodes() {
        prefixes.extend(node.pod_cidrs.iter().map(|cidr| (*cidr, owner(id))));
    }
    for route in &cluster.routes {
        let owner = match route.target {
            RouteTarget::Node(id) => owner(id),
            RouteTarget::Blackhole => Owner::Blackhole,
        };
        prefixes.insert(route.cidr, owner);
    }
    for (id, node) in nodes() {
        if let Some(address) = node.tunnel_address {
            let host = Ipv4Net::from(address);
            if longest(&prefixes, host) != Some(owner(id)) {
                prefixes.insert(host, owner(id));
            }
        }
    }
    prefixes
}

/// Adds the pods whose addresses the table gives to another, or to nobody: like the kernel's, the
/// route to a pod that is here beats every other.
pub(super) fn add_pods(prefixes: &mut Prefixes, pods: &[Pod]) {
    for pod in pods {
        let host = Ipv4Net::from(pod.address);
        if longest(prefixes, host) != Some(Owner::Local) {
            prefixes.insert(host, Owner::Pod);
        }
    }
}

/// The owner of the longest prefix that contains `host`, a /32.
fn longest(prefixes: &Prefixes, host: Ipv4Net) -> Option<Owner> {
    (0..=32)
        .rev()
        .filter_map(|length| Ipv4Net::new(host.addr(), length).ok())
        .find_map(|prefix| prefixes.get(&prefix.trunc()))
        .copied()
}

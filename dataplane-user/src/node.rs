//! What the kernel says about this node: its part of the model.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use anyhow::Result;
use dataplane_common::abi::Mac;
use netlink_packet_route::route::{RouteScope, RouteType};

use crate::{
    config::WorkloadPatterns,
    kernel::{Address, Link, Neighbour, Netlink, Route, Underlay},
};

/// A node's interfaces, addresses, pods and ways to its peers, read at one time.
#[derive(Clone, Debug, Default)]
pub struct NodeState {
    /// Interfaces by index.
    pub links: BTreeMap<u32, Link>,
    /// Addresses of interfaces.
    pub addresses: Vec<Address>,
    /// Local pods.
    pub pods: Vec<Pod>,
    /// How each peer is reached; a peer that is not is missing.
    pub underlays: BTreeMap<Ipv4Addr, Underlay>,
}

/// An address of a pod on this node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Pod {
    /// The address.
    pub address: Ipv4Addr,
    /// Index of the host side of the pod's veth.
    pub ifindex: u32,
    /// The pod's Ethernet address, once the kernel has resolved it.
    pub mac: Option<Mac>,
}

/// Ethernet addresses by interface and address. The kernel forgets a neighbour that it does not
/// send to itself, which is the better the more is forwarded beneath it: what it once knew is kept
/// for as long as the pod is there.
#[derive(Clone, Debug, Default)]
pub struct LearnedMacs(BTreeMap<(u32, Ipv4Addr), Mac>);

impl NodeState {
    /// Reads the state: dumps, not events, so that nothing that was missed stays missed.
    pub async fn read(
        netlink: &Netlink,
        workloads: &WorkloadPatterns,
        peers: impl Iterator<Item = Ipv4Addr>,
        learned: &mut LearnedMacs,
    ) -> Result<Self> {
        let links: BTreeMap<_, _> = netlink
            .links()
            .await?
            .into_iter()
            .map(|link| (link.index, link))
            .collect();
        let neighbours = netlink.neighbours().await?;
        let routes = netlink.routes().await?;
        let pods = learned.pods(&links, &routes, &neighbours, workloads);
        let mut underlays = BTreeMap::new();
        for peer in peers {
            if let Some(underlay) = netlink.route_to(peer).await? {
                underlays.insert(peer, underlay);
            }
        }
        Ok(Self {
            addresses: netlink.addresses().await?,
            links,
            pods,
            underlays,
        })
    }

    /// The interface called `name`.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.links.values().find(|link| link.name == name)
    }

    /// The interface that holds `address`.
    #[must_use]
    pub fn holder(&self, address: Ipv4Addr) -> Option<&Link> {
        self.addresses
            .iter()
            .find(|candidate| candidate.address == address)
            .and_then(|holder| self.links.get(&holder.index))
    }
}

impl LearnedMacs {
    /// The pods there are now, with what is or was known of them.
    fn pods(
        &mut self,
        links: &BTreeMap<u32, Link>,
        routes: &[Route],
        neighbours: &[Neighbour],
        workloads: &WorkloadPatterns,
    ) -> Vec<Pod> {
        self.learn(neighbours);
        let pods = pods(links, routes, workloads, self);
        self.keep_only(&pods);
        pods
    }

    fn learn(&mut self, neighbours: &[Neighbour]) {
        for neighbour in neighbours {
            if let Some(mac) = neighbour.mac {
                self.0.insert((neighbour.index, neighbour.address), mac);
            }
        }
    }

    fn keep_only(&mut self, pods: &[Pod]) {
        let pods: BTreeSet<_> = pods.iter().map(|pod| (pod.ifindex, pod.address)).collect();
        self.0.retain(|key, _| pods.contains(key));
    }
}

/// The pods among the routes, as Calico, and every CNI that routes to its pods, writes them:
/// `<address>/32 dev <workload> scope link`.
fn pods(
    links: &BTreeMap<u32, Link>,
    routes: &[Route],
    workloads: &WorkloadPatterns,
    learned: &LearnedMacs,
) -> Vec<Pod> {
    let mut pods: Vec<(u32, Pod)> = routes
        .iter()
        .filter(|route| {
            route.is_in_main()
                && route.kind == RouteType::Unicast
                && route.scope == RouteScope::Link
                && route.destination.prefix_len() == 32
                && route.gateway.is_none()
                && !route.opaque
        })
        .filter_map(|route| {
            let link = links.get(&route.oif?)?;
            let address = route.destination.addr();
            let pod = Pod {
                address,
                ifindex: link.index,
                mac: learned.0.get(&(link.index, address)).copied(),
            };
            (link.up && link.is_veth() && workloads.matches(&link.name))
                .then(|| (route.effective_metric(), pod))
        })
        .collect();
    // Of several routes to an address, the stack takes the first with the smallest metric.
    pods.sort_by_key(|(metric, pod)| (pod.address, *metric));
    pods.dedup_by_key(|(_, pod)| pod.address);
    pods.into_iter().map(|(_, pod)| pod).collect()
}

//! From the mirrored FIB to what should be, but for the routes, which are too many to be planned
//! anew with every change: see [`crate::agent`].

use std::{
    collections::{BTreeMap, BTreeSet},
    net::Ipv4Addr,
};

use dataplane_common::abi::{self, Addr, NextHop, NextHopKind, Peer, WAYS};

use super::{Destinations, NextHopKey, Tables, interfaces, next_hops::of_kind, spread};
use crate::{
    config::Config,
    dataplane::{Attachment, XdpUplink},
    fib::{Destination, Fib, Via},
    kernel::Link,
    node::Pod,
};

/// What should be, but for the routes.
#[derive(Clone, Debug)]
pub struct Mirrored {
    /// The contents of the BPF maps, without routes.
    pub tables: Tables,
    /// The programs on their interfaces.
    pub attachments: BTreeSet<Attachment>,
    /// What is wanted of XDP on the uplinks.
    pub xdp: BTreeSet<XdpUplink>,
    /// Pods whose Ethernet address the kernel has to be asked for.
    pub unresolved: Vec<Pod>,
}

/// The next hops of the mirrored FIB.
#[derive(Clone, Debug, Default)]
pub struct Ways {
    /// Each with what it is.
    pub next_hops: BTreeMap<NextHopKey, NextHop>,
    /// Those with many ways.
    pub multipaths: BTreeMap<NextHopKey, [NextHopKey; WAYS]>,
}

impl Ways {
    /// Those that are reached in tunnels.
    pub fn tunnels(&self) -> impl Iterator<Item = &NextHop> {
        let is_tunnel = |next_hop: &&NextHop| {
            let kind = next_hop.kind();
            matches!(kind, Some(NextHopKind::Ipip | NextHopKind::Vxlan))
        };
        self.next_hops.values().filter(is_tunnel)
    }
}

/// How `destinations` are reached, as far as they are.
#[must_use]
pub fn ways(fib: &Fib, destinations: &Destinations) -> Ways {
    let mut ways = Ways::default();
    for (key, destination) in destinations.iter() {
        let next_hop = match destination {
            Destination::Local => of_kind(NextHopKind::Local),
            Destination::Blackhole => of_kind(NextHopKind::Blackhole),
            Destination::Stack => NextHop::default(),
            // What cannot be reached now is the stack's.
            Destination::Via(via) => fib.way(via).unwrap_or_default(),
            Destination::Multipath(vias) => {
                let members = vias.iter().filter_map(|(via, weight)| {
                    let member = destinations.find(&Destination::Via(*via))?;
                    Some((member, u32::from(*weight)))
                });
                let spread = spread(&members.collect::<Vec<_>>());
                ways.multipaths.extend(spread.map(|spread| (key, spread)));
                continue;
            }
        };
        ways.next_hops.insert(key, next_hop);
    }
    ways
}

/// The next hops that a destination has.
#[must_use]
pub fn vias(destination: &Destination) -> Vec<&Via> {
    match destination {
        Destination::Via(via) => vec![via],
        Destination::Multipath(vias) => vias.iter().map(|(via, _)| via).collect(),
        Destination::Local | Destination::Blackhole | Destination::Stack => Vec::new(),
    }
}

/// The addresses that pods may have, before it is known which rules hold for them.
#[must_use]
pub fn pod_addresses(fib: &Fib) -> Vec<Ipv4Addr> {
    let hosts = fib.on_workloads().map(|(_, prefix)| prefix);
    let hosts = hosts.filter(|prefix| prefix.prefix_len() == 32);
    hosts.map(|host| host.addr()).collect()
}

/// The pods: what is on the link of their interfaces, and looked up there.
#[must_use]
pub fn pods(fib: &Fib) -> Vec<Pod> {
    let pods = fib.on_workloads().filter_map(|(ifindex, prefix)| {
        let is_up = fib.links().get(&ifindex).is_some_and(|link| link.up);
        let is_pod =
            prefix.prefix_len() == 32 && is_up && fib.pod_interface(prefix) == Some(ifindex);
        is_pod.then(|| Pod {
            address: prefix.addr(),
            ifindex,
            mac: fib.neighbour(ifindex, prefix.addr()),
        })
    });
    pods.collect()
}

/// The interfaces that lead to other nodes: those that are configured, else every plain one that a
/// next hop or the default route leaves by.
#[must_use]
pub fn uplinks<'a>(config: &Config, fib: &'a Fib, ways: &Ways) -> Vec<&'a Link> {
    let links = fib.links().values();
    if !config.uplinks.is_empty() {
        return links
            .filter(|link| config.uplinks.contains(&link.name))
            .collect();
    }
    let used: BTreeSet<u32> = ways
        .next_hops
        .values()
        .filter(|next_hop| next_hop.kind().is_some_and(NextHopKind::is_remote))
        .map(|next_hop| next_hop.ifindex)
        .chain(fib.default_interfaces())
        .collect();
    links
        .filter(|link| used.contains(&link.index) && link.mac.is_some() && !link.noarp)
        .collect()
}

/// What should be, with these pods, uplinks and next hops.
#[must_use]
pub fn mirrored(
    config: &Config,
    fib: &Fib,
    pods: &[Pod],
    uplinks: &[&Link],
    ways: &Ways,
) -> Mirrored {
    let workloads = interfaces::workloads(config, fib.links(), uplinks);
    Mirrored {
        attachments: interfaces::attachments(config, fib.links(), uplinks, None, &workloads),
        xdp: interfaces::xdp(config, uplinks),
        unresolved: pods
            .iter()
            .filter(|pod| pod.mac.is_none())
            .copied()
            .collect(),
        tables: Tables {
            config: settings(config, fib, ways),
            next_hops: ways.next_hops.clone(),
            multipaths: ways.multipaths.clone(),
            routes: BTreeMap::new(),
            endpoints: interfaces::endpoints(fib.links(), pods),
            peers: peers(ways),
            workloads,
        },
    }
}

/// Network, port and VTEP are the VXLAN device's; the checksum is not, since every device that nobody
/// has told otherwise computes one, which BPF cannot, and which every receiver does without. Without one, no packet is taken for VXLAN: there
/// is no port 0.
fn settings(config: &Config, fib: &Fib, ways: &Ways) -> abi::Config {
    let device = fib.vxlan();
    let vxlan = device.and_then(|device| device.vxlan);
    abi::Config {
        node: node(config, fib, ways).map_or(Addr::default(), |node| node.octets()),
        vni: vxlan.map_or(0, |vxlan| vxlan.vni),
        vxlan_port: vxlan.map_or(0, |vxlan| vxlan.port).to_be_bytes(),
        vtep_mac: device.and_then(|device| device.mac).unwrap_or_default(),
        ..interfaces::settings(config)
    }
}

/// This node's address: the outer source that most tunnels have, else the first of an uplink's, else
/// of any interface that is no pod's.
fn node(config: &Config, fib: &Fib, ways: &Ways) -> Option<Ipv4Addr> {
    let mut sources: BTreeMap<Addr, usize> = BTreeMap::new();
    for next_hop in ways.tunnels() {
        *sources.entry(next_hop.source).or_default() += 1;
    }
    let most = sources.into_iter().max_by_key(|(_, count)| *count);
    let uplinks = uplinks(config, fib, ways);
    let is_uplinks = |index| uplinks.iter().any(|uplink| uplink.index == index);
    let of_uplink = fib.addresses().find(|address| is_uplinks(address.index));
    let of_any = || {
        fib.addresses()
            .find(|address| !address.address.is_loopback() && !fib.is_workload(address.index))
    };
    most.map(|(source, _)| source.into())
        .or_else(|| Some(of_uplink.or_else(of_any)?.address))
}

/// The other ends of tunnels. Of the nodes that are reached as they are nothing is known but a
/// gateway, which may be a router.
fn peers(ways: &Ways) -> BTreeMap<Addr, Peer> {
    let peers = ways.tunnels().map(|next_hop| {
        let peer = Peer {
            tunnel: Addr::default(),
            vtep_mac: next_hop.vtep_mac,
            padding: [0; 2],
        };
        (next_hop.peer, peer)
    });
    peers.collect()
}

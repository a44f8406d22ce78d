//! From the model (configuration, cluster, node) to what should be: a pure function.

mod destinations;
mod elsewhere;
mod interfaces;
mod kernel_routes;
pub mod mirror;
mod multipath;
mod next_hops;
mod prefixes;
#[cfg(test)]
mod tests;

pub use destinations::Destinations;
pub use elsewhere::elsewhere;
pub use interfaces::xdp;
pub use multipath::spread;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    net::Ipv4Addr,
};

use anyhow::{Context, Result, bail};
use dataplane_common::{
    abi::{self, Addr, Endpoint, NextHop, Peer, WAYS, Workload},
    packet::Tunnel,
};
use ipnet::Ipv4Net;

use crate::{
    cluster::{Cluster, Node},
    config::Config,
    dataplane::{Attachment, XdpUplink},
    kernel::{CARRIER_NAME, CarrierSpec, Link, OwnRoute},
    node::{NodeState, Pod},
};

/// The three parts of the model.
#[derive(Clone, Copy, Debug)]
pub struct Model<'a> {
    /// The configuration of this node.
    pub config: &'a Config,
    /// The cluster's route table.
    pub cluster: &'a Cluster,
    /// What the kernel says about this node.
    pub node: &'a NodeState,
}

/// What should be.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The contents of the BPF maps.
    pub tables: Tables,
    /// The routes of the slow path.
    pub kernel_routes: Vec<OwnRoute>,
    /// The programs on their interfaces.
    pub attachments: BTreeSet<Attachment>,
    /// What is wanted of XDP on the uplinks.
    pub xdp: BTreeSet<XdpUplink>,
    /// Pods whose Ethernet address the kernel has to be asked for.
    pub unresolved: Vec<Pod>,
    /// Peers that cannot be reached, and why.
    pub left_out: Vec<LeftOut>,
}

/// The contents of the BPF maps.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Tables {
    /// The one configuration.
    pub config: abi::Config,
    /// Next hops; the reconciler gives them numbers.
    pub next_hops: BTreeMap<NextHopKey, NextHop>,
    /// Next hops with many ways: which of the others is at which place, as [`spread`] says.
    pub multipaths: BTreeMap<NextHopKey, [NextHopKey; WAYS]>,
    /// Where each prefix leads.
    pub routes: BTreeMap<Ipv4Net, NextHopKey>,
    /// Local pods by address.
    pub endpoints: BTreeMap<Addr, Endpoint>,
    /// Workload interfaces by index.
    pub workloads: BTreeMap<u32, Workload>,
    /// Other nodes by address.
    pub peers: BTreeMap<Addr, Peer>,
}

/// What a next hop is the same by, whatever is found out or decided about it: changing a pool's
/// mode changes one next hop a peer, and no route.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHopKey {
    /// This node.
    Local,
    /// Nowhere.
    Blackhole,
    /// Another node, for the addresses of one pool.
    Peer {
        /// The node's address.
        address: Ipv4Addr,
        /// The pool's prefix.
        pool: Ipv4Net,
    },
    /// What the kernel's FIB leads to, by the number that the mirror gives it.
    Mirrored(u32),
}

/// A peer that cannot be sent to, or what else keeps it so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeftOut {
    /// Name and address of the peer, or of what is missing.
    pub peer: String,
    /// What is in the way.
    pub why: String,
}

impl LeftOut {
    /// The uplink of this name, which is configured and not there.
    #[must_use]
    pub fn uplink(name: &str) -> Self {
        Self {
            peer: format!("uplink {name}"),
            why: "there is no interface of that name".to_owned(),
        }
    }
}

impl fmt::Display for LeftOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.peer, self.why)
    }
}

impl<'a> Model<'a> {
    /// This node's entry in the cluster's table.
    pub fn local(&self) -> Result<&'a Node> {
        let name = &self.config.node;
        self.cluster
            .node(name)
            .with_context(|| format!("the cluster table has no node {name}"))
    }

    /// The interfaces that lead to other nodes, and what is missing of them.
    pub fn uplinks(&self) -> Result<(Vec<&'a Link>, Vec<LeftOut>)> {
        let node: &'a NodeState = self.node;
        let address = self.local()?.address;
        let mut uplinks = Vec::new();
        let mut missing = Vec::new();
        match node.holder(address) {
            Some(holder) if self.config.uplinks.is_empty() => uplinks.push(holder),
            Some(_) => {}
            None => missing.push(LeftOut {
                peer: format!("{} (this node)", self.config.node),
                why: format!(
                    "no interface holds {address}, its address in the cluster table: correct the \
                     table, or add the address"
                ),
            }),
        }
        for name in &self.config.uplinks {
            match node.link(name) {
                Some(link) => uplinks.push(link),
                None => missing.push(LeftOut::uplink(name)),
            }
        }
        Ok((uplinks, missing))
    }
}

/// What the carrier should be, before it exists: the plan needs its index. It comes up when its
/// programs are on it.
pub fn carrier(model: &Model) -> Result<CarrierSpec> {
    let local = model.local()?;
    let (uplinks, _) = model.uplinks()?;
    Ok(CarrierSpec {
        name: CARRIER_NAME.to_owned(),
        mac: local.vtep_mac.0,
        mtu: carrier_mtu(&uplinks)?,
        vxlan_port: model.config.tunnel.vxlan.port,
        addresses: local.tunnel_address.into_iter().collect(),
        up: false,
    })
}

/// The MTU of the carrier in bytes. Each of its routes has one of its own; the device's is the largest
/// that they may have, IPIP's, since the stack refuses to receive what is longer.
///
/// # Errors
///
/// No tunnel has room on an uplink.
pub fn carrier_mtu(uplinks: &[&Link]) -> Result<u32> {
    /// The MTU of an Ethernet, where no uplink tells.
    const ETHERNET: u32 = 1500;
    let mtu = uplinks.iter().map(|link| link.mtu).min();
    let mtu = mtu.unwrap_or(ETHERNET);
    // The least an IPv4 link may have, RFC 791.
    if mtu < 68 + u32::from(Tunnel::Vxlan.overhead()) {
        bail!("an uplink has an MTU of {mtu}, which leaves no room for a tunnel");
    }
    Ok(mtu - u32::from(Tunnel::Ipip.overhead()))
}

/// The plan for a node whose carrier has index `carrier`.
pub fn plan(model: &Model, carrier: u32) -> Result<Plan> {
    let local = model.local()?;
    let (uplinks, mut left_out) = model.uplinks()?;
    let mut prefixes = prefixes::owners(model.cluster, local);
    prefixes::add_pods(&mut prefixes, &model.node.pods);

    let hops = next_hops::next_hops(model, local, &uplinks, &prefixes);
    let kernel_routes = kernel_routes::routes(model, local, carrier, &prefixes, &hops.next_hops);
    left_out.extend(hops.left_out);
    let vxlan = &model.config.tunnel.vxlan;
    let tables = Tables {
        config: abi::Config {
            node: local.address.octets(),
            vni: vxlan.vni,
            carrier,
            vxlan_port: vxlan.port.to_be_bytes(),
            vtep_mac: local.vtep_mac.0,
            ..interfaces::settings(model.config)
        },
        routes: prefixes
            .iter()
            .filter_map(|(prefix, owner)| {
                let key = next_hops::key(model.cluster, *prefix, *owner);
                hops.next_hops.contains_key(&key).then_some((*prefix, key))
            })
            .collect(),
        next_hops: hops.next_hops,
        multipaths: BTreeMap::new(),
        endpoints: interfaces::endpoints(&model.node.links, &model.node.pods),
        workloads: interfaces::workloads(model.config, &model.node.links, &uplinks),
        peers: peers(model.cluster, local),
    };
    Ok(Plan {
        attachments: interfaces::attachments(
            model.config,
            &model.node.links,
            &uplinks,
            Some(carrier),
            &tables.workloads,
        ),
        xdp: xdp(model.config, &uplinks),
        tables,
        kernel_routes,
        unresolved: model
            .node
            .pods
            .iter()
            .filter(|pod| pod.mac.is_none())
            .copied()
            .collect(),
        left_out,
    })
}

fn peers(cluster: &Cluster, local: &Node) -> BTreeMap<Addr, Peer> {
    cluster
        .nodes
        .iter()
        .filter(|node| node.name != local.name)
        .map(|node| {
            let peer = Peer {
                tunnel: node.tunnel_address.map(|a| a.octets()).unwrap_or_default(),
                vtep_mac: node.vtep_mac.0,
                padding: [0; 2],
            };
            (node.address.octets(), peer)
        })
        .collect()
}

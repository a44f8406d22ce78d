//! A node as Calico sets it up, without underpass: the other end in tests of interoperability.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;

use crate::{Mac, Node, Pod};

/// Another node, as far as a node has to know it.
#[derive(Clone, Debug)]
pub struct Remote {
    /// Its address.
    pub address: Ipv4Addr,
    /// The addresses of its pods.
    pub block: Ipv4Net,
    /// Its address inside the tunnel.
    pub tunnel_address: Ipv4Addr,
    /// Its VTEP.
    pub vtep_mac: Mac,
}

impl From<&Node> for Remote {
    fn from(node: &Node) -> Self {
        Self {
            address: node.address().addr(),
            block: node.pod_cidr(),
            tunnel_address: node.tunnel_address(),
            vtep_mac: node.vtep_mac(),
        }
    }
}

/// Sets up what Calico does on every node: what it does towards the pods, and no way out for what
/// is nobody's in the node's block.
pub fn be_a_calico_node(node: &Node) -> Result<()> {
    serve_pods(node)?;
    node.ns().exec(&format!(
        "ip route add blackhole {} proto 80",
        node.pod_cidr()
    ))?;
    Ok(())
}

/// Sets up what Calico does towards the pods: proxy ARP, for which the kernel needs a default
/// route, strict reverse-path filters and permanent neighbours.
pub fn serve_pods(node: &Node) -> Result<()> {
    let gateway = node.address().hosts().next();
    let gateway = gateway.context("the node's subnet has no address for a gateway")?;
    node.ns()
        .exec(&format!("ip route add default via {gateway} dev eth0"))?;
    node.pods().iter().try_for_each(|pod| serve_pod(node, pod))
}

/// Sets up what Calico does towards one more pod.
pub fn serve_pod(node: &Node, pod: &Pod) -> Result<()> {
    let ifname = pod.host_ifname();
    for (key, value) in [("proxy_arp", "1"), ("rp_filter", "1")] {
        node.ns()
            .set_sysctl(&format!("net.ipv4.conf.{ifname}.{key}"), value)?;
    }
    node.ns()
        .set_sysctl(&format!("net.ipv4.neigh.{ifname}.proxy_delay"), "0")?;
    node.ns().exec(&format!(
        "ip neigh replace {} lladdr {} dev {ifname} nud permanent",
        pod.address(),
        pod.mac()
    ))?;
    Ok(())
}

/// Sets up the kernel's VXLAN device as Calico does, and by it the way to `peer`.
pub fn route_by_vxlan(node: &Node, peer: impl Into<Remote>, checksums: &str) -> Result<()> {
    let peer = peer.into();
    add_vxlan(node, checksums)?;
    meet_by_vxlan(node, &peer)?;
    route(node, Way::Vxlan, peer.block, &peer)
}

/// Sets up the kernel's IPIP device as Felix does, and by it the way to `peer` as BIRD does.
pub fn route_by_ipip(node: &Node, peer: impl Into<Remote>) -> Result<()> {
    let peer = peer.into();
    add_ipip(node)?;
    route(node, Way::Ipip, peer.block, &peer)
}

/// Sets up the way to `peer` as BIRD does without encapsulation.
pub fn route_plainly(node: &Node, peer: &Node) -> Result<()> {
    let peer = Remote::from(peer);
    route(node, Way::Plain, peer.block, &peer)
}

/// Sets up the kernel's VXLAN device as Felix does.
pub fn add_vxlan(node: &Node, checksums: &str) -> Result<()> {
    let (local, mac) = (node.address().addr(), node.vtep_mac());
    for command in [
        format!(
            "ip link add vxlan.calico address {mac} mtu 1450 type vxlan \
             id 4096 dstport 4789 local {local} dev eth0 nolearning {checksums}"
        ),
        format!(
            "ip address add {}/32 dev vxlan.calico",
            node.tunnel_address()
        ),
        "ip link set vxlan.calico up".to_owned(),
    ] {
        node.ns().exec(&command)?;
    }
    Ok(())
}

/// Tells the kernel's VXLAN device where `peer` is.
pub fn meet_by_vxlan(node: &Node, peer: &Remote) -> Result<()> {
    let (mac, tunnel) = (peer.vtep_mac, peer.tunnel_address);
    for command in [
        format!("ip neigh replace {tunnel} lladdr {mac} dev vxlan.calico nud permanent"),
        format!(
            "bridge fdb append {mac} dev vxlan.calico dst {} self permanent",
            peer.address
        ),
    ] {
        node.ns().exec(&command)?;
    }
    Ok(())
}

/// Sets up the kernel's IPIP device as Felix does. The kernel makes it, in every network namespace,
/// when it loads its driver.
pub fn add_ipip(node: &Node) -> Result<()> {
    for command in [
        "ip link set tunl0 mtu 1480 up".to_owned(),
        format!("ip address add {}/32 dev tunl0", node.tunnel_address()),
    ] {
        node.ns().exec(&command)?;
    }
    Ok(())
}

/// How a node sends to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// As it is.
    Plain,
    /// By `tunl0`.
    Ipip,
    /// By `vxlan.calico`.
    Vxlan,
}

/// Routes `prefix` to `peer`.
pub fn route(node: &Node, way: Way, prefix: Ipv4Net, peer: &Remote) -> Result<()> {
    let Remote {
        address,
        tunnel_address,
        ..
    } = peer;
    let way = match way {
        Way::Plain => format!("via {address} dev eth0 proto bird"),
        Way::Ipip => format!("via {address} dev tunl0 proto bird onlink"),
        Way::Vxlan => format!("via {tunnel_address} dev vxlan.calico onlink"),
    };
    node.ns().exec(&format!("ip route add {prefix} {way}"))?;
    Ok(())
}

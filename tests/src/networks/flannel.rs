//! What flannel writes.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::Node;
use crate::batch::IpBatch;

/// Sets up flannel's VXLAN device: network 1, on the port that the kernel had before the RFC.
pub(super) fn add_vxlan(node: &Node) -> Result<()> {
    let (local, mac) = (node.address().addr(), node.vtep_mac());
    IpBatch::default()
        .add(format_args!(
            "link add flannel.1 address {mac} mtu 1450 type vxlan \
             id 1 dev eth0 local {local} dstport 8472 nolearning"
        ))
        .add(format_args!(
            "address add {}/32 dev flannel.1",
            address(node)
        ))
        .add("link set flannel.1 up")
        .apply(node.ns())
}

/// Routes to `peer` by that device.
pub(super) fn meet_by_vxlan(node: &Node, peer: &Node) -> Result<()> {
    let (gateway, mac) = (address(peer), peer.vtep_mac());
    IpBatch::default()
        .add(format_args!(
            "neigh replace {gateway} lladdr {mac} dev flannel.1 nud permanent"
        ))
        .add(format_args!(
            "route add {} via {gateway} dev flannel.1 onlink",
            peer.pod_cidr()
        ))
        .apply(node.ns())?;
    node.ns().exec(&format!(
        "bridge fdb append {mac} dev flannel.1 dst {} self permanent",
        peer.address().addr()
    ))?;
    Ok(())
}

/// Sets up flannel's IPIP device.
pub(super) fn add_ipip(node: &Node) -> Result<()> {
    IpBatch::default()
        .add(format_args!(
            "link add flannel.ipip mtu 1480 type ipip local {}",
            node.address().addr()
        ))
        .add(format_args!(
            "address add {}/32 dev flannel.ipip",
            address(node)
        ))
        .add("link set flannel.ipip up")
        .apply(node.ns())
}

/// The address of flannel's device: the first of the node's subnet, which is also its gateway.
fn address(node: &Node) -> Ipv4Addr {
    node.pod_cidr().network()
}

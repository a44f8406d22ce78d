//! What kube-router writes.

use anyhow::Result;

use crate::Node;
use crate::batch::IpBatch;

/// Where pods find other nodes' addresses: by the tunnels, so that replies come the way they went.
const TABLE: u32 = 77;

/// Has the node's pods look there first.
pub(super) fn add_rule(node: &Node) -> Result<()> {
    IpBatch::default()
        .add(format_args!(
            "rule add from {} lookup {TABLE}",
            node.pod_cidr()
        ))
        .apply(node.ns())
}

/// Routes to `peer` by a device of its own. It takes the headers off the device's MTU although the
/// kernel has done so.
pub(super) fn meet_by_ipip(node: &Node, peer: &Node) -> Result<()> {
    let (local, remote) = (node.address().addr(), peer.address().addr());
    let device = format!("tun-{}", remote.to_string().replace('.', ""));
    IpBatch::default()
        .add(format_args!(
            "tunnel add {device} mode ipip local {local} remote {remote} dev eth0"
        ))
        .add(format_args!("link set {device} up mtu 1460"))
        .add(format_args!(
            "route add {remote} dev {device} table {TABLE}"
        ))
        .add(format_args!(
            "route add {} dev {device} src {local} proto 17 scope global",
            peer.pod_cidr()
        ))
        .apply(node.ns())
}

//! A node as Calico sets it up, without underpass: the other end in tests of interoperability.

use anyhow::{Context as _, Result};

use crate::Node;

/// Sets up what Calico does on every node: proxy ARP towards the pods, for which the kernel needs a
/// default route, strict reverse-path filters, permanent neighbours, and no way out for what is
/// nobody's in the node's block.
pub fn be_a_calico_node(node: &Node) -> Result<()> {
    let gateway = node.address().hosts().next();
    let gateway = gateway.context("the node's subnet has no address for a gateway")?;
    node.ns()
        .exec(&format!("ip route add default via {gateway} dev eth0"))?;
    for pod in node.pods() {
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
    }
    node.ns().exec(&format!(
        "ip route add blackhole {} proto 80",
        node.pod_cidr()
    ))?;
    Ok(())
}

/// Sets up the kernel's VXLAN device as Calico does, and by it the way to `peer`.
pub fn route_by_vxlan(node: &Node, peer: &Node, checksums: &str) -> Result<()> {
    let (local, mac) = (node.address().addr(), node.vtep_mac());
    let (remote, remote_mac) = (peer.address().addr(), peer.vtep_mac());
    let (tunnel, remote_tunnel) = (node.tunnel_address(), peer.tunnel_address());
    for command in [
        format!(
            "ip link add vxlan.calico address {mac} mtu 1450 type vxlan \
             id 4096 dstport 4789 local {local} dev eth0 nolearning {checksums}"
        ),
        format!("ip address add {tunnel}/32 dev vxlan.calico"),
        "ip link set vxlan.calico up".to_owned(),
        format!(
            "ip neigh replace {remote_tunnel} lladdr {remote_mac} dev vxlan.calico nud permanent"
        ),
        format!("bridge fdb append {remote_mac} dev vxlan.calico dst {remote} self permanent"),
        format!(
            "ip route add {} via {remote_tunnel} dev vxlan.calico onlink",
            peer.pod_cidr()
        ),
    ] {
        node.ns().exec(&command)?;
    }
    Ok(())
}

/// Sets up the kernel's IPIP device as Felix does, and by it the way to `peer` as BIRD does. The
/// kernel makes the device, in every network namespace, when it loads its driver.
pub fn route_by_ipip(node: &Node, peer: &Node) -> Result<()> {
    let (block, via) = (peer.pod_cidr(), peer.address().addr());
    for command in [
        "ip link set tunl0 mtu 1480 up".to_owned(),
        format!("ip address add {}/32 dev tunl0", node.tunnel_address()),
        format!("ip route add {block} via {via} dev tunl0 proto bird onlink"),
    ] {
        node.ns().exec(&command)?;
    }
    Ok(())
}

/// Sets up the way to `peer` as BIRD does without encapsulation.
pub fn route_plainly(node: &Node, peer: &Node) -> Result<()> {
    let (block, via) = (peer.pod_cidr(), peer.address().addr());
    let route = format!("ip route add {block} via {via} dev eth0 proto bird");
    node.ns().exec(&route)?;
    Ok(())
}

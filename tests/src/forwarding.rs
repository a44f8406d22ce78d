//! Pods, and nodes, that forward what they receive.

use std::net::Ipv4Addr;

use anyhow::Result;

use crate::batch::IpBatch;
use crate::lab::host;
use crate::{NetNs, Node, Pod, eventually};

/// A host behind a pod, which routes for it: nested containers, a virtual machine, a VPN's client.
#[derive(Debug)]
pub struct Nested {
    address: Ipv4Addr,
    ns: NetNs,
}

impl Nested {
    /// Puts a host with `address` behind `pod`, on an interface `nested` there, and waits until the
    /// node's agent, which has to run, knows the way to it.
    pub fn behind(node: &Node, pod: &Pod, address: Ipv4Addr) -> Result<Self> {
        let ns = host::new()?;
        IpBatch::default()
            .add(format_args!(
                "link add nested mtu 1450 up type veth peer name eth0 mtu 1450 netns {}",
                ns.path().display()
            ))
            .add("address add 169.254.2.1/32 dev nested")
            .add(format_args!("route add {address}/32 dev nested"))
            .apply(pod.ns())?;
        IpBatch::default()
            .add("link set lo up")
            .add("link set eth0 up")
            .add(format_args!("address add {address}/32 dev eth0"))
            .add("route add 169.254.2.1 dev eth0 scope link")
            .add("route add default via 169.254.2.1 dev eth0")
            .apply(&ns)?;
        let nested = Self { address, ns };
        pod.ns().set_sysctl("net.ipv4.ip_forward", "1")?;
        // The pod answers the node's question for the address.
        pod.ns().set_sysctl("net.ipv4.conf.eth0.proxy_arp", "1")?;
        pod.ns()
            .set_sysctl("net.ipv4.neigh.eth0.proxy_delay", "0")?;
        let ifname = pod.host_ifname();
        node.ns().exec(&format!(
            "ip route add {address}/32 dev {ifname} scope link"
        ))?;
        eventually("the agent knows the host behind the pod", || {
            let output = node.underpass(&["endpoints", "list"])?;
            let table = String::from_utf8(output.stdout)?;
            let is_known = |line: &str| {
                line.starts_with(&format!("{address} ")) && !line.contains("unresolved")
            };
            Ok(table.lines().any(is_known))
        })?;
        Ok(nested)
    }

    /// Its address.
    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    /// Its namespace, with an `eth0`.
    #[must_use]
    pub fn ns(&self) -> &NetNs {
        &self.ns
    }
}

/// Has a pod or a node send on what comes to `address` of its own, over TCP or UDP, to
/// `destination`, in its own name: the only one that a pod may send in.
pub fn relay(ns: &NetNs, address: Ipv4Addr, destination: Ipv4Addr) -> Result<()> {
    ns.set_sysctl("net.ipv4.ip_forward", "1")?;
    let rules = format!(
        "table ip relay {{\n\
           chain in {{\n\
             type nat hook prerouting priority -100\n\
             ip daddr {address} ip protocol {{ tcp, udp }} dnat to {destination}\n\
           }}\n\
           chain out {{\n\
             type nat hook postrouting priority 100\n\
             ip daddr {destination} masquerade\n\
           }}\n\
         }}\n"
    );
    ns.command("nft").args(["-f", "-"]).input(&rules)?.run()?;
    Ok(())
}

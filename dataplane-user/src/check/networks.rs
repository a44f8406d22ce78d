//! The networks of Kubernetes that have devices on this node.

use super::{Finding, node::Node};
use crate::kernel::Link;

/// What a device says of the network that it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    /// Its routes can be mirrored.
    Tunnel,
    /// Pods are behind it.
    Bridge,
    /// It carries packets by BPF itself.
    Dataplane,
}

/// Devices by the names that their owners give them; `*` at the end is for anything.
const KNOWN: [(&str, &str, Role); 15] = [
    ("vxlan.calico", "Calico", Role::Tunnel),
    ("tunl0", "Calico or kube-router", Role::Tunnel),
    ("wireguard.cali", "Calico", Role::Tunnel),
    ("bpfin.cali", "Calico's eBPF dataplane", Role::Dataplane),
    ("bpfout.cali", "Calico's eBPF dataplane", Role::Dataplane),
    ("flannel.ipip", "flannel", Role::Tunnel),
    ("flannel*", "flannel", Role::Tunnel),
    ("tun-*", "kube-router", Role::Tunnel),
    ("kube-bridge", "kube-router", Role::Bridge),
    ("cni0", "flannel or the bridge plugin", Role::Bridge),
    ("cilium_host", "Cilium", Role::Dataplane),
    ("cilium_net", "Cilium", Role::Dataplane),
    ("cilium_vxlan", "Cilium", Role::Dataplane),
    ("cilium_geneve", "Cilium", Role::Dataplane),
    ("weave", "Weave Net", Role::Bridge),
];

pub(super) fn judge(node: &Node) -> Vec<Finding> {
    // The kernel makes tunl0 by itself, down.
    let up = node.links.iter().filter(|link| link.up);
    let known =
        up.filter_map(|link| known(&link.name).map(|(network, role)| (link, network, role)));
    let findings: Vec<_> = known
        .map(|(link, network, role)| device(link, network, role))
        .collect();
    if findings.is_empty() {
        return vec![Finding::ok(
            "cluster network",
            "no device of one that is known",
        )];
    }
    findings
}

fn known(name: &str) -> Option<(&'static str, Role)> {
    let is_it = |pattern: &str| match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => name == pattern,
    };
    let mut known = KNOWN.into_iter();
    known
        .find(|(pattern, _, _)| is_it(pattern))
        .map(|(_, network, role)| (network, role))
}

fn device(link: &Link, network: &str, role: Role) -> Finding {
    let subject = format!("device {}", link.name);
    let vxlan = link.vxlan.map(|vxlan| {
        let (vni, port) = (vxlan.vni, vxlan.port);
        format!(", VXLAN network {vni} on UDP port {port}")
    });
    let found = format!("{network}{}", vxlan.unwrap_or_default());
    match role {
        Role::Tunnel => Finding::ok(subject, found).means(
            "with `source: kernel` its routes are mirrored, and it stays what packets fall back to",
        ),
        Role::Bridge => Finding::warning(subject, found)
            .means("pods behind a bridge have no route of their own, and are not carried")
            .remedy("a CNI plugin that gives each pod a veth and a route, as Calico's does"),
        Role::Dataplane => Finding::fails(subject, found)
            .means("it carries pods' packets by BPF itself, in the place where underpass would")
            .remedy("do not run underpass on this node"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Outcome::{Fails, Ok as Fine, Warning},
        kernel::Vxlan,
    };

    fn judged(name: &str, up: bool) -> Finding {
        let link = Link {
            name: name.to_owned(),
            up,
            vxlan: name.starts_with("flannel").then_some(Vxlan {
                vni: 1,
                port: 8472,
                ..Vxlan::default()
            }),
            ..Link::default()
        };
        let node = Node {
            links: vec![link],
            ..Node::default()
        };
        judge(&node).remove(0)
    }

    #[test]
    fn a_network_is_told_by_its_devices() {
        for (name, result, found) in [
            ("vxlan.calico", Fine, "Calico"),
            ("tunl0", Fine, "Calico or kube-router"),
            (
                "flannel.1",
                Fine,
                "flannel, VXLAN network 1 on UDP port 8472",
            ),
            ("tun-192168111", Fine, "kube-router"),
            ("kube-bridge", Warning, "kube-router"),
            ("cilium_host", Fails, "Cilium"),
            ("bpfin.cali", Fails, "Calico's eBPF dataplane"),
        ] {
            let finding = judged(name, true);
            assert_eq!((finding.result, &*finding.found), (result, found), "{name}");
        }
    }

    #[test]
    fn what_is_down_or_unknown_says_nothing() {
        for (name, up) in [("tunl0", false), ("eth0", true), ("cali12345", true)] {
            let finding = judged(name, up);
            assert_eq!(
                (finding.result, &*finding.subject),
                (Fine, "cluster network")
            );
        }
    }
}

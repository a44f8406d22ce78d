//! Whether packets of pods have room in their tunnels.

use dataplane_common::packet::Tunnel;

use super::{
    Finding,
    node::{Node, tunnel_of},
    words::some_of,
};
use crate::{kernel::Link, plan};

pub(super) fn judge(node: &Node) -> Vec<Finding> {
    let mut findings: Vec<_> = node.uplinks.iter().map(|link| uplink(node, link)).collect();
    if let Some(room) = node.room() {
        let devices = node.links.iter();
        findings.extend(devices.filter_map(|link| device(node, link)));
        findings.extend(pods(node, room));
    }
    findings
}

fn uplink(node: &Node, link: &Link) -> Finding {
    let subject = format!("MTU of {}", link.name);
    let refusal = plan::carrier_mtu(&[link]).err();
    if let Some(error) = refusal.filter(|_| node.has_carrier) {
        return Finding::refused(subject, link.mtu.to_string(), &error)
            .remedy(format!("ip link set {} mtu 1500", link.name));
    }
    let found = Finding::ok(subject, link.mtu.to_string());
    match node.tunnel {
        None => found,
        Some(tunnel) => {
            let room = link.mtu.saturating_sub(tunnel.overhead().into());
            found.means(format!("{} leaves {room} bytes", word(tunnel)))
        }
    }
}

/// The kernel's own tunnel devices have to leave room for their outer headers.
fn device(node: &Node, link: &Link) -> Option<Finding> {
    let tunnel = tunnel_of(link)?;
    let subject = format!("MTU of {}", link.name);
    let least = node.uplinks.iter().min_by_key(|uplink| uplink.mtu)?;
    let room = least.mtu.saturating_sub(tunnel.overhead().into());
    if link.mtu <= room {
        return Some(Finding::ok(subject, link.mtu.to_string()));
    }
    let finding = Finding::warning(subject, link.mtu.to_string())
        .means(format!(
            "{} leaves {room} bytes of {}'s {}: longer packets are left to the kernel, which fragments \
             or drops them",
            word(tunnel),
            least.name,
            least.mtu
        ))
        .remedy(format!(
            "{} in the cluster's network (of Calico: `mtu`), or a larger MTU on {}",
            room, least.name
        ));
    Some(finding)
}

/// A packet that does not fit is the stack's (`too-big`).
fn pods(node: &Node, room: u32) -> Option<Finding> {
    const SUBJECT: &str = "MTU of pods";
    let largest = node.workloads.iter().map(|link| link.mtu).max()?;
    let too_large = node.workloads.iter().filter(|link| link.mtu > room);
    let too_large: Vec<&str> = too_large.map(|link| &*link.name).collect();
    let found = Finding::ok(SUBJECT, largest.to_string());
    if too_large.is_empty() {
        return Some(found);
    }
    let tunnel = node.tunnel.map_or("without a tunnel", word);
    let finding = Finding::warning(SUBJECT, largest.to_string())
        .means(format!(
            "the uplinks leave {room} bytes ({tunnel}): longer packets of {} are left to the kernel \
             (`too-big`), which fragments them or asks for shorter ones",
            some_of(too_large)
        ))
        .remedy(format!(
            "an MTU of {room} for pods, in the configuration of the CNI plugin"
        ));
    Some(finding)
}

const fn word(tunnel: Tunnel) -> &'static str {
    match tunnel {
        Tunnel::Ipip => "IPIP",
        Tunnel::Vxlan => "VXLAN",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        check::Outcome::{Fails, Ok as Fine, Warning},
        kernel::Vxlan,
    };

    fn link(name: &str, mtu: u32) -> Link {
        Link {
            name: name.to_owned(),
            mtu,
            up: true,
            ..Link::default()
        }
    }

    fn node(uplink: u32, pods: u32, tunnel: Option<Tunnel>) -> Node {
        Node {
            uplinks: vec![link("eth0", uplink)],
            workloads: vec![link("cali1", pods)],
            tunnel,
            has_carrier: true,
            ..Node::default()
        }
    }

    #[test]
    fn pods_have_to_leave_room_for_their_tunnel() {
        for (uplink, pods, tunnel, result) in [
            (1500, 1450, Some(Tunnel::Vxlan), Fine),
            (1500, 1451, Some(Tunnel::Vxlan), Warning),
            (1500, 1480, Some(Tunnel::Ipip), Fine),
            (1500, 1481, Some(Tunnel::Ipip), Warning),
            (1500, 1500, None, Fine),
            (1400, 1450, None, Warning),
        ] {
            let findings = judge(&node(uplink, pods, tunnel));
            let found = findings.last().unwrap();
            assert_eq!(found.subject, "MTU of pods");
            assert_eq!(found.result, result, "{uplink} {pods} {tunnel:?}");
        }
    }

    #[test]
    fn a_tunnel_has_to_have_room_on_the_uplink() {
        let result = |node: &Node| judge(node)[0].result;
        assert_eq!(result(&node(118, 68, None)), Fine);
        assert_eq!(result(&node(117, 68, None)), Fails);
        let without_carrier = Node {
            has_carrier: false,
            ..node(117, 68, None)
        };
        assert_eq!(result(&without_carrier), Fine);
    }

    #[test]
    fn so_do_the_kernels_own_devices() {
        for (mtu, result) in [(1450, Fine), (1451, Warning)] {
            let mut node = node(1500, 1450, Some(Tunnel::Vxlan));
            node.links.push(Link {
                vxlan: Some(Vxlan::default()),
                ..link("vxlan.calico", mtu)
            });
            let findings = judge(&node);
            let device = findings
                .iter()
                .find(|found| found.subject == "MTU of vxlan.calico");
            assert_eq!(device.unwrap().result, result, "{mtu}");
        }
    }
}

//! The TOS byte of outer headers is the one that the kernel's own tunnel devices write: what
//! `node-0` sends by underpass, `node-1` answers by such a device, set up alike.

use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Agent, Counters, Lab, Node, PacketSocket, PingOptions,
    calico::{be_a_calico_node, route_by_vxlan},
    cluster_yaml, ping, require_root,
};
use etherparse::{NetSlice, SlicedPacket};

const SECOND: Duration = Duration::from_secs(1);

/// What underpass is told, and a kernel's device; `0x88` is DSCP 34.
const ALIKE: [(&str, &str); 3] = [("0", ""), ("34", "tos 0x88"), ("inherit", "tos inherit")];

/// Of the packets inside: with and without DSCP, and with every value of ECN.
const INNER: [u8; 5] = [0x00, 0xb8, 0xb9, 0xba, 0xbb];

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn outer_vxlan_headers_have_the_tos_of_the_kernels_device() -> Result<()> {
    require_root();
    for (dscp, tos) in ALIKE {
        let lab = Lab::flat(2, 1)?;
        let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
        be_a_calico_node(theirs)?;
        route_by_vxlan(theirs, ours, &format!("noudpcsum {tos}"))?;
        let tunnel = format!("tunnel: {{ dscp: {dscp} }}\n");
        let _agent = run_underpass(&lab, &tunnel, "Never", "Always")?;
        assert_alike(&lab, &tunnel)?;
        let counted = Counters::read(ours)?;
        assert!(counted.get("from_workload", "sent-vxlan").packets > 0);
        assert!(counted.get("from_stack", "sent-vxlan").packets > 0);
    }
    Ok(())
}

/// The carrier, which encapsulates where outer checksums are wanted, is told.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn outer_vxlan_headers_with_checksums_have_the_tos_of_the_kernels_device() -> Result<()> {
    require_root();
    for (dscp, tos) in ALIKE {
        let lab = Lab::flat(2, 1)?;
        let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
        be_a_calico_node(theirs)?;
        route_by_vxlan(theirs, ours, &format!("udpcsum {tos}"))?;
        let tunnel = format!("tunnel: {{ dscp: {dscp}, vxlan: {{ checksum: true }} }}\n");
        let _agent = run_underpass(&lab, &tunnel, "Never", "Always")?;
        assert_alike(&lab, &tunnel)?;
        let counted = Counters::read(ours)?;
        assert!(counted.get("from_stack", "kernel-encap").packets > 0);
        assert_eq!(counted.get("from_workload", "sent-vxlan").packets, 0);
    }
    Ok(())
}

#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_has_the_tos_of_our_outer_headers() -> Result<()> {
    require_root();
    for (dscp, tos) in ALIKE {
        let lab = Lab::flat(2, 1)?;
        let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
        be_a_calico_node(theirs)?;
        route_by_own_ipip(theirs, ours, tos)?;
        let tunnel = format!("tunnel: {{ dscp: {dscp} }}\n");
        let _agent = run_underpass(&lab, &tunnel, "Always", "Never")?;
        assert_alike(&lab, &tunnel)?;
        let counted = Counters::read(ours)?;
        assert!(counted.get("from_workload", "sent-ipip").packets > 0);
        assert!(counted.get("from_stack", "sent-ipip").packets > 0);
    }
    Ok(())
}

/// Pings the pod of `node-1` from the pod of `node-0` and from `node-0` itself. Linux answers with
/// the TOS byte of the request, so both ways should look the same.
fn assert_alike(lab: &Lab, what: &str) -> Result<()> {
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    let remote = theirs.pod("p0").address();
    let wire = PacketSocket::open_both_ways(theirs.ns(), "eth0")?;
    for (from, ns) in [("pod", ours.pod("p0").ns()), ("host", ours.ns())] {
        for inner in INNER {
            let options = PingOptions {
                count: 1,
                tos: Some(inner),
                ..PingOptions::default()
            };
            let report = ping(ns, remote, &options)?;
            assert!(report.is_lossless(), "{what} {from} {inner:#x}: {report:?}");
            let outer_from = |node: &Node| -> Result<u8> {
                let frame = wire.recv_matching(SECOND, |frame| tos_from(node, frame).is_some())?;
                let tos = frame.and_then(|frame| tos_from(node, &frame));
                tos.with_context(|| format!("a packet in a tunnel from {}", node.name()))
            };
            let (request, answer) = (outer_from(ours)?, outer_from(theirs)?);
            assert_eq!(
                request, answer,
                "{what} {from}: of {inner:#x}, underpass makes {request:#x} and the kernel \
                 {answer:#x}"
            );
        }
    }
    Ok(())
}

/// The TOS byte of a tunnel packet that `node` sent.
fn tos_from(node: &Node, frame: &[u8]) -> Option<u8> {
    let NetSlice::Ipv4(ip) = SlicedPacket::from_ethernet(frame).ok()?.net? else {
        return None;
    };
    let header = ip.header();
    let is_from_node = header.source_addr() == node.address().addr();
    is_from_node.then(|| header.dcp().value() << 2 | header.ecn().value())
}

/// Runs underpass on `node-0`, with these further lines of configuration.
fn run_underpass(lab: &Lab, more: &str, ipip_mode: &str, vxlan_mode: &str) -> Result<Agent> {
    let node = lab.node("node-0");
    let config = node.agent_config() + more;
    let agent = Agent::start(node, &config, &cluster_yaml(lab, ipip_mode, vxlan_mode))?;
    node.wait_resolved()?;
    Ok(agent)
}

/// As [`dataplane_tests::calico::route_by_ipip`], but by a device of its own: the TOS of `tunl0`
/// cannot be set.
fn route_by_own_ipip(node: &Node, peer: &Node, tos: &str) -> Result<()> {
    let (local, remote) = (node.address().addr(), peer.address().addr());
    for command in [
        format!("ip link add ipip1 mtu 1480 type ipip local {local} remote {remote} {tos}"),
        format!("ip address add {}/32 dev ipip1", node.tunnel_address()),
        "ip link set ipip1 up".to_owned(),
        format!("ip route add {} dev ipip1", peer.pod_cidr()),
        format!("ip route add {}/32 dev ipip1", peer.tunnel_address()),
    ] {
        node.ns().exec(&command)?;
    }
    Ok(())
}

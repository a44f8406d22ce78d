//! A node with underpass and a node without it talk: `node-0` runs the agent, `node-1` has what
//! Calico programs into a kernel, and nothing of ours.

use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Agent, Counters, Lab, PacketSocket, PingOptions,
    calico::{be_a_calico_node, route_by_vxlan, route_plainly},
    cluster_yaml,
    paths::{assert_tcp, assert_whole, every_path_works, narrow, tcp_stays_whole},
    ping, require_root,
};
use etherparse::{NetSlice, SlicedPacket, TransportSlice, UdpHeader};

const SECOND: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_vxlan_without_outer_checksums_is_understood_both_ways() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    be_a_calico_node(theirs)?;
    route_by_vxlan(theirs, ours, "noudpcsum")?;
    let _agent = run_underpass(&lab, "Always", "")?;

    every_path_works(&lab)?;
    tcp_stays_whole(&lab, "vxlan")?;
    let counted = Counters::read(ours)?;
    assert_eq!(counted.get("from_uplink", "outer-checksum").packets, 0);
    assert_eq!(
        counted.get("from_carrier", "accepted").packets,
        counted.get("from_uplink", "for-host").packets,
        "the kernel's receiver has had nothing to do: {counted:?}"
    );
    Ok(())
}

/// Of packets whose outer checksum nobody has verified, the kernel's receiver takes care: in the lab
/// all that are not aggregates.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_vxlan_with_outer_checksums_is_understood_both_ways() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    be_a_calico_node(theirs)?;
    route_by_vxlan(theirs, ours, "udpcsum")?;
    let _agent = run_underpass(&lab, "Always", "")?;

    every_path_works(&lab)?;
    let unverified = Counters::read(ours)?;
    assert!(
        unverified.get("from_uplink", "outer-checksum").packets > 0,
        "{unverified:?}"
    );
    assert_eq!(
        unverified.get("from_carrier", "accepted").packets,
        unverified.get("from_uplink", "outer-checksum").packets
            + unverified.get("from_uplink", "for-host").packets,
        "what the kernel's receiver decapsulates is found right: {unverified:?}"
    );
    tcp_stays_whole(&lab, "vxlan")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_calico_node_accepts_the_outer_checksums_it_is_sent() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    be_a_calico_node(theirs)?;
    route_by_vxlan(theirs, ours, "udpcsum")?;
    let checksums = "tunnel: { vxlan: { checksum: true } }\n";
    let _agent = run_underpass(&lab, "Always", checksums)?;

    every_path_works(&lab)?;
    let before = Counters::read(ours)?;
    let (client, server) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
    assert_tcp(client.ns(), server)?;
    assert_tcp(server.ns(), client)?;
    let since = Counters::read(ours)?.since(&before);
    for (hook, reason) in [
        ("from_workload", "kernel-encap"),
        ("from_stack", "kernel-encap"),
        ("from_uplink", "received-vxlan"),
    ] {
        assert_whole(since.get(hook, reason), reason);
    }
    assert_eq!(since.get("from_workload", "sent-vxlan").packets, 0);

    // Without offloads the wire carries what a real one would: finished checksums.
    ours.ns().exec("ethtool -K eth0 tx off")?;
    let wire = PacketSocket::open(theirs.ns(), "eth0")?;
    for (what, from) in [("pod", client.ns()), ("host", ours.ns())] {
        let report = ping(from, server.address(), &PingOptions::default())?;
        assert!(report.is_lossless(), "{what}: {report:?}");
        for _ in 0..report.sent {
            let frame = wire.recv_matching(SECOND, is_vxlan)?;
            let frame = frame.with_context(|| format!("the {what}'s packets by VXLAN"))?;
            let (sent, right) = udp_checksum(&frame)?;
            assert_ne!(sent, 0, "the {what}'s packets have no checksum");
            assert_eq!(sent, right, "the {what}'s packets have a wrong checksum");
        }
    }
    assert_tcp(client.ns(), server)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_calico_node_is_told_of_packets_that_are_too_big_or_too_old() -> Result<()> {
    require_root();
    for checksums in ["noudpcsum", "udpcsum"] {
        let lab = Lab::flat(2, 1)?;
        let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
        be_a_calico_node(theirs)?;
        route_by_vxlan(theirs, ours, checksums)?;
        let _agent = run_underpass(&lab, "Always", "")?;
        let (near, far) = (ours.pod("p0"), theirs.pod("p0"));
        narrow(ours, near)?;

        let send = |length: u16, dont_fragment| {
            let options = PingOptions {
                count: 2,
                payload: length - 28,
                dont_fragment,
                ..PingOptions::default()
            };
            ping(far.ns(), near.address(), &options)
        };
        assert!(send(1450, false)?.is_lossless(), "in fragments");
        assert!(send(1400, true)?.is_lossless(), "what fits");
        let report = send(1401, true)?;
        let told = format!("From {} icmp_seq=1", ours.tunnel_address());
        assert!(
            report.is_silent() && report.errors[0].starts_with(&told),
            "{checksums}: {report:?}"
        );
        assert!(report.errors[0].contains("mtu = 1400"), "{report:?}");

        far.ns().exec("ip route flush cache")?;
        assert_tcp(far.ns(), near)?;
        assert_tcp(near.ns(), far)?;

        let one_hop_short = PingOptions {
            count: 2,
            ttl: Some(2),
            ..PingOptions::default()
        };
        let report = ping(far.ns(), near.address(), &one_hop_short)?;
        assert!(
            report.is_silent()
                && report.errors.len() == 2
                && report.errors[0].starts_with(&told)
                && report.errors[0].contains("Time to live exceeded"),
            "{checksums}: {report:?}"
        );
        let options = PingOptions {
            ttl: Some(3),
            ..one_hop_short
        };
        assert!(ping(far.ns(), near.address(), &options)?.is_lossless());
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_node_with_plain_routes_talks_both_ways() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    be_a_calico_node(theirs)?;
    route_plainly(theirs, ours)?;
    let _agent = run_underpass(&lab, "Never", "")?;

    every_path_works(&lab)?;
    tcp_stays_whole(&lab, "direct")?;

    let near = ours.pod("p0");
    narrow(ours, near)?;
    let too_big = PingOptions {
        count: 1,
        payload: 1401 - 28,
        dont_fragment: true,
        ..PingOptions::default()
    };
    let report = ping(theirs.pod("p0").ns(), near.address(), &too_big)?;
    assert!(
        report.is_silent() && report.errors[0].contains("mtu = 1400"),
        "{report:?}"
    );
    Ok(())
}

/// Calico compares a peer's address with its *own* node's subnet: nodes whose masks differ do not
/// agree whether to encapsulate.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_node_that_encapsulates_and_one_that_does_not_talk() -> Result<()> {
    require_root();
    for we_encapsulate in [true, false] {
        let lab = Lab::flat(2, 1)?;
        let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
        be_a_calico_node(theirs)?;
        route_by_vxlan(theirs, ours, "noudpcsum")?;
        if we_encapsulate {
            theirs
                .ns()
                .exec(&format!("ip route delete {}", ours.pod_cidr()))?;
            route_plainly(theirs, ours)?;
        }
        let narrow = |address: String| {
            if we_encapsulate {
                address.replace(&format!("{}/24", ours.address().addr()), "192.168.1.10/32")
            } else {
                address
            }
        };
        let cluster = narrow(cluster_yaml(&lab, "Never", "CrossSubnet"));
        let _agent = Agent::start(ours, &ours.agent_config(), &cluster)?;
        ours.wait_resolved()?;

        let (near, far) = (ours.pod("p0"), theirs.pod("p0"));
        for (what, from, to) in [("out", near, far), ("in", far, near)] {
            let report = ping(from.ns(), to.address(), &PingOptions::default())?;
            assert!(report.is_lossless(), "{what}: {report:?}");
            assert_tcp(from.ns(), to)?;
        }
        let counted = Counters::read(ours)?;
        let (sent, received) = if we_encapsulate {
            // What we would not answer so, the stack judges by its reverse-path filter.
            ("sent-vxlan", "source-outside")
        } else {
            ("sent-direct", "received-vxlan")
        };
        assert_whole(counted.get("from_workload", sent), sent);
        assert_whole(counted.get("from_uplink", received), received);
    }
    Ok(())
}

/// Runs underpass on `node-0`, with this `vxlanMode` and these further lines of configuration.
fn run_underpass(lab: &Lab, vxlan_mode: &str, more: &str) -> Result<Agent> {
    let node = lab.node("node-0");
    let config = node.agent_config() + more;
    let agent = Agent::start(node, &config, &cluster_yaml(lab, "Never", vxlan_mode))?;
    node.wait_resolved()?;
    Ok(agent)
}

fn is_vxlan(frame: &[u8]) -> bool {
    udp(frame).is_some_and(|(_, header, _)| header.destination_port == 4789)
}

/// The checksum of a UDP packet, and what it should be.
fn udp_checksum(frame: &[u8]) -> Result<(u16, u16)> {
    let (ip, header, payload) = udp(frame).context("not UDP")?;
    let right = header.calc_checksum_ipv4_raw(ip.source, ip.destination, payload)?;
    Ok((header.checksum, right))
}

fn udp(frame: &[u8]) -> Option<(etherparse::Ipv4Header, UdpHeader, &[u8])> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) = (packet.net, packet.transport)
    else {
        return None;
    };
    Some((ip.header().to_header(), udp.to_header(), udp.payload()))
}

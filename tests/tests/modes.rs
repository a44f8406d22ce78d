//! Every path works in every mode, through the programs and not around them.

use anyhow::Result;
use dataplane_tests::{
    Count, Counters, Lab, Mode, Node, PingOptions, TcpOptions, UdpOptions, ping, require_root,
    tcp_throughput, udp_throughput,
};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn without_encapsulation() -> Result<()> {
    require_root();
    every_path(&Lab::flat(2, 2)?, Mode::None, "direct")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_ipip() -> Result<()> {
    require_root();
    every_path(&Lab::flat(2, 2)?, Mode::Ipip, "ipip")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_vxlan() -> Result<()> {
    require_root();
    every_path(&Lab::flat(2, 2)?, Mode::Vxlan, "vxlan")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_vxlan_through_a_router() -> Result<()> {
    require_root();
    every_path(&Lab::routed(2, 2)?, Mode::Vxlan, "vxlan")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_ipip_through_a_router() -> Result<()> {
    require_root();
    every_path(&Lab::routed(2, 2)?, Mode::Ipip, "ipip")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn cross_subnet_encapsulates_behind_a_router() -> Result<()> {
    require_root();
    every_path(&Lab::routed(2, 2)?, Mode::CrossSubnet, "vxlan")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn cross_subnet_does_not_encapsulate_on_one_subnet() -> Result<()> {
    require_root();
    every_path(&Lab::flat(2, 2)?, Mode::CrossSubnet, "direct")
}

/// `CrossSubnet` chooses for each peer by itself: of three nodes, two on one subnet.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn cross_subnet_chooses_per_peer() -> Result<()> {
    use dataplane_tests::NodeSpec;
    require_root();
    let lab = Lab::new(&[
        NodeSpec::new("a", "192.168.1.10/24", "10.244.0.0/24").pods(1),
        NodeSpec::new("b", "192.168.1.11/24", "10.244.1.0/24").pods(1),
        NodeSpec::new("c", "192.168.2.10/24", "10.244.2.0/24").pods(1),
    ])?;
    let _agents = lab.start_agents(Mode::CrossSubnet)?;
    let a = lab.node("a");
    for (peer, sent) in [("b", "sent-direct"), ("c", "sent-vxlan")] {
        let before = Counters::read(a)?;
        let destination = lab.pod(peer, "p0").address();
        let report = ping(
            lab.pod("a", "p0").ns(),
            destination,
            &PingOptions::default(),
        )?;
        assert!(report.is_lossless(), "to {peer}: {report:?}");
        let count = Counters::read(a)?.since(&before).get("from_workload", sent);
        assert_eq!(count.packets, u64::from(report.sent), "{sent} to {peer}");
    }
    Ok(())
}

/// With strict reverse-path filters and no default route, the host and remote pods still talk.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn strict_reverse_path_filters_hold() -> Result<()> {
    require_root();
    for mode in [Mode::Ipip, Mode::Vxlan] {
        let lab = Lab::flat(2, 1)?;
        for node in lab.nodes() {
            node.strict_rp_filter()?;
        }
        let _agents = lab.start_agents(mode)?;
        for node in lab.nodes() {
            node.ns()
                .set_sysctl("net.ipv4.conf.underpass0.rp_filter", "1")?;
        }
        let remote = lab.pod("node-1", "p0").address();
        let report = ping(lab.node("node-0").ns(), remote, &PingOptions::default())?;
        assert!(report.is_lossless(), "host to pod by {mode}: {report:?}");
        let tunnel = lab.node("node-1").tunnel_address();
        let report = ping(
            lab.pod("node-0", "p0").ns(),
            tunnel,
            &PingOptions::default(),
        )?;
        assert!(report.is_lossless(), "pod to host by {mode}: {report:?}");
    }
    Ok(())
}

fn every_path(lab: &Lab, mode: Mode, word: &str) -> Result<()> {
    let _agents = lab.start_agents(mode)?;
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    near.wait_resolved()?;
    far.wait_resolved()?;
    pods_on_one_node(near)?;
    pods_on_two_nodes(lab, word)?;
    hosts_and_pods(near, far)?;
    too_big(near, far, word)
}

fn pods_on_one_node(node: &Node) -> Result<()> {
    let before = Counters::read(node)?;
    let report = ping(
        node.pod("p0").ns(),
        node.pod("p1").address(),
        &PingOptions::default(),
    )?;
    assert!(report.is_lossless(), "{report:?}");
    assert_eq!(report.reply_ttl, Some(63), "one router");
    let local = Counters::read(node)?
        .since(&before)
        .get("from_workload", "delivered-local");
    assert_eq!(local.packets, u64::from(report.sent) * 2, "both ways");
    Ok(())
}

fn pods_on_two_nodes(lab: &Lab, word: &str) -> Result<()> {
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    let (client, server) = (near.pod("p0"), far.pod("p0"));
    let sent = |node: &Node| -> Result<Count> {
        Ok(Counters::read(node)?.get("from_workload", &format!("sent-{word}")))
    };
    let received = |node: &Node| -> Result<Count> {
        Ok(Counters::read(node)?.get("from_uplink", &format!("received-{word}")))
    };

    let report = ping(client.ns(), server.address(), &PingOptions::default())?;
    assert!(report.is_lossless(), "{report:?}");
    let routers = 2;
    assert_eq!(report.reply_ttl, Some(64 - routers));
    for node in [near, far] {
        assert_eq!(sent(node)?.packets, u64::from(report.sent));
        assert_eq!(received(node)?.packets, u64::from(report.sent));
    }

    let before = sent(near)?;
    let tcp = tcp_throughput(
        server.ns(),
        client.ns(),
        server.address(),
        1,
        &TcpOptions::default(),
    )?;
    assert!(tcp.bits_per_second > 0.0, "{tcp:?}");
    let after = sent(near)?;
    let (packets, bytes) = (after.packets - before.packets, after.bytes - before.bytes);
    assert!(
        bytes / packets > 3000,
        "segmentation-offloaded packets stay whole: {bytes} bytes in {packets} packets"
    );

    let udp = udp_throughput(
        server.ns(),
        client.ns(),
        server.address(),
        1,
        &UdpOptions::default(),
    )?;
    assert!(udp.packets > 0 && udp.lost < udp.packets, "{udp:?}");
    Ok(())
}

fn hosts_and_pods(near: &Node, far: &Node) -> Result<()> {
    let (pod, remote_pod) = (near.pod("p0"), far.pod("p0"));
    for (what, from, to) in [
        ("host to its own pod", near.ns(), pod.address()),
        ("host to remote pod", near.ns(), remote_pod.address()),
        ("pod to its own host", pod.ns(), near.address().addr()),
        ("pod to remote host", pod.ns(), far.address().addr()),
        (
            "pod to remote tunnel address",
            pod.ns(),
            far.tunnel_address(),
        ),
        (
            "host to remote tunnel address",
            near.ns(),
            far.tunnel_address(),
        ),
    ] {
        let report = ping(from, to, &PingOptions::default())?;
        assert!(report.is_lossless(), "{what}: {report:?}");
    }
    let tcp = tcp_throughput(
        remote_pod.ns(),
        near.ns(),
        remote_pod.address(),
        1,
        &TcpOptions::default(),
    )?;
    assert!(tcp.bits_per_second > 0.0, "host to remote pod: {tcp:?}");
    Ok(())
}

/// What fits, passes; one byte more gets the kernel's ICMP error with the path's MTU, or is
/// fragmented where that is allowed.
fn too_big(near: &Node, far: &Node, word: &str) -> Result<()> {
    const HEADERS: u16 = 20 + 8;
    let path_mtu = match word {
        "direct" => 1500,
        "ipip" => 1480,
        _ => 1450,
    };
    // The pods' own MTU must not be what limits.
    near.set_pod_mtu("p1", 1500)?;
    far.set_pod_mtu("p1", 1500)?;
    let (client, server) = (near.pod("p1"), far.pod("p1"));
    let send = |length: u16, dont_fragment| {
        ping(
            client.ns(),
            server.address(),
            &PingOptions {
                count: 2,
                payload: length - HEADERS,
                dont_fragment,
                ..PingOptions::default()
            },
        )
    };
    let fits = send(path_mtu, true)?;
    assert!(fits.is_lossless(), "{path_mtu} bytes: {fits:?}");
    if path_mtu < 1500 {
        let refused = send(path_mtu + 1, true)?;
        assert_eq!(refused.received, 0, "{refused:?}");
        let mtu = format!("mtu = {path_mtu}");
        assert!(
            refused.errors.iter().any(|error| error.contains(&mtu)),
            "an ICMP error says {mtu}: {refused:?}"
        );
    }
    client.ns().exec("ip route flush cache")?;
    let fragmented = send(4000, false)?;
    assert!(
        fragmented.is_lossless(),
        "4000 bytes in fragments: {fragmented:?}"
    );
    Ok(())
}

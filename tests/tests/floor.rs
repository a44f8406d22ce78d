//! The floor's programs carry packets, aggregates among them, where nothing else would: the nodes
//! have no routes to each other's pods, and forward nothing.

use std::time::Duration;

use anyhow::{Context as _, Result};
use aya::programs::{TcAttachType, XdpMode, links::LinkOrder};
use dataplane_tests::{
    Lab, Mode, Node, PacketSocket, PingOptions, Pod,
    floor::{Floor, FloorObject, Headers},
    ping, require_root, tcp_arrives_intact,
};
use etherparse::{EtherType, Ipv4HeaderSlice, UdpHeaderSlice};
use serde_json::Value;

const BYTES: u64 = 10_000_000;

/// What a ping of 56 bytes is on the wire, from its IPv4 header on.
const PING: usize = 84;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn between_nodes() -> Result<()> {
    require_root();
    for mode in [Mode::None, Mode::Ipip, Mode::Vxlan] {
        let lab = Lab::flat(2, 1)?;
        let (here, there) = (lab.node("node-0"), lab.node("node-1"));
        let pods = [here.pod("p0"), there.pod("p0")];
        let floor = Floor::attach(&lab, mode)?;
        let wire = PacketSocket::open(there.ns(), "eth0")?;
        assert_carries(&[here, there], pods, there, "eth0").with_context(|| mode.to_string())?;
        assert_headers(&wire, mode)?;
        drop(floor);
        assert_carries_nothing(pods)?;
    }
    Ok(())
}

/// Tunnels are opened by XDP, in front of the program that delivers what is in none.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_xdp() -> Result<()> {
    require_root();
    for (mode, program) in [
        (Mode::Ipip, "floor_ipip_open"),
        (Mode::Vxlan, "floor_vxlan_open"),
    ] {
        let lab = Lab::flat(2, 1)?;
        let (here, there) = (lab.node("node-0"), lab.node("node-1"));
        let (client, server) = (here.pod("p0"), there.pod("p0"));
        let _floor = Floor::attach(&lab, mode)?;
        let mut object = FloorObject::load(there, &Headers::NONE, server)?;
        let uplink = ("eth0", TcAttachType::Ingress);
        let _link = object.attach(there, "floor_none_in", uplink, LinkOrder::first())?;
        let xdp = object.xdp(program)?;
        there
            .ns()
            .run(|| Ok(xdp.attach("eth0", XdpMode::Driver)?))?;
        let report = ping(client.ns(), server.address(), &PingOptions::default())?;
        assert!(report.is_lossless(), "{mode}: {report:?}");
        tcp_arrives_intact(client.ns(), server.address(), server.ns(), BYTES)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn on_a_node() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 2)?;
    let node = lab.node("node-0");
    let pods = [node.pod("p0"), node.pod("p1")];
    let floor = Floor::attach_local(node)?;
    assert_carries(&[node], pods, node, pods[0].host_ifname())?;
    drop(floor);
    assert_carries_nothing(pods)
}

/// Between the pods, as the device of the node `sees`, aggregates whole.
fn assert_carries(nodes: &[&Node], pods: [&Pod; 2], sees: &Node, device: &str) -> Result<()> {
    for node in nodes {
        node.ns().set_sysctl("net.ipv4.ip_forward", "0")?;
    }
    let [client, server] = pods;
    let report = ping(client.ns(), server.address(), &PingOptions::default())?;
    assert!(report.is_lossless(), "{report:?}");
    let before = received(sees, device)?;
    tcp_arrives_intact(client.ns(), server.address(), server.ns(), BYTES)?;
    let after = received(sees, device)?;
    let each = (after.0 - before.0) / (after.1 - before.1);
    assert!(each > 5000, "{each} bytes a packet");
    Ok(())
}

/// The lengths and checksums of what the wire has heard first are right.
fn assert_headers(wire: &PacketSocket, mode: Mode) -> Result<()> {
    let is_ipv4 = |frame: &[u8]| frame[12..14] == EtherType::IPV4.0.to_be_bytes();
    let frame = wire.recv_matching(Duration::from_secs(1), is_ipv4)?;
    let packet = &frame.context("the wire has heard nothing")?[14..];
    let overhead = match mode {
        Mode::Ipip => 20,
        Mode::Vxlan => 50,
        Mode::None | Mode::CrossSubnet => 0,
    };
    assert_eq!(packet.len(), PING + overhead, "{mode}");
    let ip = Ipv4HeaderSlice::from_slice(packet)?;
    assert_eq!(usize::from(ip.total_len()), packet.len(), "{mode}");
    assert_eq!(
        ip.header_checksum(),
        ip.to_header().calc_header_checksum(),
        "{mode}"
    );
    if mode == Mode::Vxlan {
        let udp = UdpHeaderSlice::from_slice(&packet[20..])?;
        assert_eq!(usize::from(udp.length()), packet.len() - 20);
        assert_eq!((udp.destination_port(), udp.checksum()), (4789, 0));
    }
    Ok(())
}

/// As it is without the programs, though the pods know their gateway.
fn assert_carries_nothing(pods: [&Pod; 2]) -> Result<()> {
    let [client, server] = pods;
    client
        .ns()
        .exec("ip neigh replace 169.254.1.1 lladdr ee:ee:ee:ee:ee:ee nud permanent dev eth0")?;
    let report = ping(client.ns(), server.address(), &PingOptions::default())?;
    assert_eq!((report.received, report.sent), (0, 5), "{report:?}");
    Ok(())
}

/// Bytes and packets.
fn received(node: &Node, device: &str) -> Result<(u64, u64)> {
    let shown = node
        .ns()
        .exec(&format!("ip -statistics -json link show {device}"))?;
    let shown: Value = serde_json::from_str(&shown)?;
    let count = |what: &str| {
        let count = shown[0]["stats64"]["rx"][what].as_u64();
        count.with_context(|| format!("{device} has no {what}"))
    };
    Ok((count("bytes")?, count("packets")?))
}

//! What `underpass explain` says of a packet is what becomes of it, here and on the node that it is sent
//! to.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Counters, Lab, Mode, Node, NodeSpec, Pod, cluster_yaml_by_node, eventually, require_root,
};
use serde_json::{Value, json};

const SPORT: u16 = 40_000;
/// Discard, where nobody listens.
const DPORT: u16 = 9;
const PACKETS: u64 = 5;

/// Two nodes on one subnet, and one behind a router.
fn lab() -> Result<Lab> {
    require_root();
    Lab::new(&[
        NodeSpec::new("node-0", "192.168.1.10/24", "10.244.0.0/24").pods(1),
        NodeSpec::new("node-1", "192.168.1.11/24", "10.244.1.0/24").pods(1),
        NodeSpec::new("node-2", "192.168.2.10/24", "10.244.2.0/24").pods(1),
    ])
}

/// Each node's CIDR is a pool of its own, so that there and back may differ.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_it_says_of_the_far_node_is_what_happens_there() -> Result<()> {
    let mut lab = lab()?;
    // Whose address is node-2's, by the cluster file.
    lab.node_mut("node-0")
        .add_pod_at("stranger", Ipv4Addr::new(10, 244, 2, 77))?;
    let mut modes = [Mode::Vxlan; 3];
    let _agents = lab.start_agents_with(&cluster_yaml_by_node(&lab, &modes))?;
    lab.wait_resolved()?;
    let node = lab.node("node-0");
    let (pod, stranger) = (node.pod("p0"), node.pod("stranger"));
    let [near, far] = ["node-1", "node-2"].map(|name| lab.node(name));
    let [near_pod, far_pod] = [near, far].map(|node| node.pod("p0").address());

    for (from, to, on, said) in [
        (pod, near_pod, near, ("sent-vxlan", "received-vxlan")),
        (pod, far_pod, far, ("sent-vxlan", "received-vxlan")),
        (pod, near.tunnel_address(), near, ("sent-vxlan", "for-host")),
        (stranger, near_pod, near, ("sent-vxlan", "foreign-source")),
    ] {
        assert_happens(node, from, to, on, said)?;
    }

    modes = [Mode::CrossSubnet, Mode::None, Mode::Ipip];
    lab.write_cluster(&cluster_yaml_by_node(&lab, &modes))?;
    wait_for_kind(node, near_pod, "direct")?;
    for (node, kind) in [(near, "direct"), (far, "vxlan")] {
        wait_for_kind(node, pod.address(), kind)?;
    }
    for (from, to, on, said) in [
        (pod, near_pod, near, ("sent-direct", "received-direct")),
        (pod, far_pod, far, ("sent-ipip", "received-ipip")),
        (
            pod,
            near.tunnel_address(),
            near,
            ("sent-direct", "not-for-pod"),
        ),
        // Where they come from, by its table, is behind a tunnel.
        (stranger, near_pod, near, ("sent-direct", "source-outside")),
    ] {
        assert_happens(node, from, to, on, said)?;
    }
    Ok(())
}

/// Asserts that a packet is explained so, here and there, and that such packets are counted so.
fn assert_happens(
    node: &Node,
    from: &Pod,
    to: Ipv4Addr,
    far: &Node,
    (here, there): (&str, &str),
) -> Result<()> {
    let what = format!("{} -> {to}", from.address());
    let told = explain(node, from.address(), to)?;
    assert_eq!(told["reason"], json!(here), "{what}: {told}");
    let far_node = &told["farNode"];
    assert_eq!(far_node["name"], json!(far.name()), "{what}: {told}");
    assert_eq!(far_node["reason"], json!(there), "{what}: {told}");

    let before = [Counters::read(node)?, Counters::read(far)?];
    let bind = || Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, SPORT))?);
    let socket = from.ns().run(bind)?;
    for _ in 0..PACKETS {
        socket.send_to(b"data", (to, DPORT))?;
    }
    eventually(&format!("{what} is counted as it was explained"), || {
        let here = rise(node, &before[0], "from_workload", here)?;
        Ok(here >= PACKETS && rise(far, &before[1], "from_uplink", there)? >= PACKETS)
    })
}

fn rise(node: &Node, before: &Counters, hook: &str, reason: &str) -> Result<u64> {
    let rise = Counters::read(node)?.since(before);
    Ok(rise.get(hook, reason).packets)
}

fn explain(node: &Node, from: Ipv4Addr, to: Ipv4Addr) -> Result<Value> {
    let (from, to) = (from.to_string(), to.to_string());
    let (sport, dport) = (SPORT.to_string(), DPORT.to_string());
    let udp = ["--protocol", "udp", "--sport", &sport, "--dport", &dport];
    json_of(node, &[&["explain", &from, &to][..], &udp].concat())
}

/// Waits until the node's route to `address` is of this kind.
fn wait_for_kind(node: &Node, address: Ipv4Addr, kind: &str) -> Result<()> {
    let what = format!("{} reaches {address} by {kind}", node.name());
    eventually(&what, || {
        let routes = json_of(node, &["routes", "get", &address.to_string()])?;
        Ok(routes["items"][0]["kind"] == json!(kind))
    })
}

fn json_of(node: &Node, arguments: &[&str]) -> Result<Value> {
    let output = node.underpass(&[arguments, &["-o", "json"]].concat())?;
    let words = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {words}");
    serde_json::from_slice(&output.stdout).context("JSON")
}

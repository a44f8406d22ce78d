//! `underpass flows` says how each flow stands, and why.

use std::net::{Ipv4Addr, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{
    Agent, Counters, Dialogue, Lab, Mode, Node, cluster_yaml, eventually, require_root,
};
use serde_json::{Value, json};

const PORT: u16 = 7777;
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 1);

/// A node with two pods, and an agent that takes flows for verified for long. Connections are
/// tracked.
fn lab() -> Result<(Lab, Agent)> {
    require_root();
    let lab = Lab::flat(1, 2)?;
    let node = lab.node("node-0");
    nft(node, "add table ip test")?;
    nft(
        node,
        "add chain ip test forward { type filter hook forward priority 0 ; }",
    )?;
    nft(node, "add rule ip test forward ct state invalid drop")?;
    nft(
        node,
        "add chain ip test nat { type nat hook prerouting priority -100 ; }",
    )?;
    let config = node.agent_config().replace(
        "acceleration: all\n",
        "acceleration: established\nreverify: 10s\n",
    );
    let cluster = cluster_yaml(&lab, Mode::None.ipip_mode(), Mode::None.vxlan_mode());
    let agent = Agent::start(node, &config, &cluster)?;
    node.wait_resolved()?;
    Ok((lab, agent))
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_accelerated_flow_is_listed_explained_and_flushed() -> Result<()> {
    let (lab, _agent) = lab()?;
    let node = lab.node("node-0");
    let (mut talk, (client, server)) = accelerated(node)?;
    let flows = list(node, &["--protocol", "tcp"])?;
    assert_eq!(flows.as_array().map(Vec::len), Some(1), "{flows}");
    let flow = &flows[0];
    assert_eq!(
        flow["a"],
        json!({ "address": "10.244.0.2", "port": client })
    );
    assert_eq!(
        flow["b"],
        json!({ "address": "10.244.0.3", "port": server })
    );
    assert_eq!(flow["state"], json!("accelerated"), "{flow}");
    for (way, to) in [("aToB", "p1"), ("bToA", "p0")] {
        let behind = format!("pod behind {}", node.pod(to).host_ifname());
        assert_eq!(flow[way]["way"], json!(behind), "{flow}");
        assert_ne!(flow[way]["packets"], json!(0), "{flow}");
    }
    for none in [
        ["--state", "stale"],
        ["--port", "1"],
        ["--address", "10.244.0.9"],
        ["--limit", "0"],
    ] {
        assert_eq!(list(node, &none)?, json!([]), "{none:?}");
    }

    let port = client.to_string();
    let get = ["flows", "get", "10.244.0.3", "10.244.0.2", "--sport", &port];
    let words = underpass(node, &get)?;
    assert!(words.contains("tcp: accelerated"), "{words}");
    assert!(words.contains("conntrack: ESTABLISHED"), "{words}");
    assert!(!words.contains("leaves as"), "{words}");

    let words = underpass(node, &["flows", "flush"])?;
    assert!(
        words.starts_with("1 of 1 flows were accelerated"),
        "{words}"
    );
    assert_eq!(list(node, &[])?[0]["state"], json!("revoked"));
    let before = Counters::read(node)?;
    eventually("it is accelerated again", || {
        talk.exchange(1 << 10)?;
        Ok(list(node, &[])?[0]["state"] == json!("accelerated"))
    })?;
    let rise = Counters::read(node)?.since(&before);
    assert!(rise.get("from_workload", "reverify").packets >= 2);
    Ok(())
}

/// Before its connection is known, while it is carried, and after that was revoked.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn explain_decides_by_how_the_flow_stands() -> Result<()> {
    let (lab, _agent) = lab()?;
    let node = lab.node("node-0");
    let explain = |client: u16, server: u16| -> Result<Value> {
        let ports = [client.to_string(), server.to_string()];
        let addresses = ["10.244.0.2", "10.244.0.3"];
        let question = ["--sport", &ports[0], "--dport", &ports[1], "-o", "json"];
        let words = [&["explain", "--protocol", "tcp"][..], &addresses, &question].concat();
        Ok(serde_json::from_str(&underpass(node, &words)?)?)
    };
    let told = explain(1, PORT)?;
    assert_eq!(told["reason"], json!("not-established"), "{told}");
    assert_eq!(told["flow"], Value::Null, "{told}");

    let (mut talk, (client, server)) = accelerated(node)?;
    let told = explain(client, server)?;
    assert_eq!(told["reason"], json!("delivered-local"), "{told}");
    assert_eq!(told["flow"]["state"], json!("accelerated"), "{told}");
    let conntrack = told["flow"]["conntrack"].as_str().context("conntrack")?;
    assert!(conntrack.starts_with("ESTABLISHED"), "{told}");

    underpass(node, &["flows", "flush"])?;
    let told = explain(client, server)?;
    assert_eq!(told["reason"], json!("reverify"), "{told}");
    assert_eq!(told["flow"]["state"], json!("revoked"), "{told}");

    talk.exchange(1 << 10)?;
    eventually("it is carried again", || {
        talk.exchange(1 << 10)?;
        Ok(explain(client, server)?["action"] == json!("forward"))
    })
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn one_that_is_not_says_whether_it_is_translated_or_denied() -> Result<()> {
    let (lab, _agent) = lab()?;
    let node = lab.node("node-0");
    let (client, server) = (node.pod("p0"), node.pod("p1"));
    let listening = server
        .ns()
        .run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, PORT))?))?;
    let socket = client
        .ns()
        .run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;

    // Nobody answers.
    let state = || -> Result<Value> { Ok(list(node, &["--protocol", "udp"])?[0]["state"].clone()) };
    socket.send_to(b"one", (server.address(), PORT))?;
    listening.recv(&mut [0; 8])?;
    assert_eq!(state()?, json!("one-way"));

    // Denied.
    let rule = format!("add rule ip test forward udp dport {PORT} drop");
    nft(node, &rule)?;
    eventually("it is known to be denied", || {
        socket.send_to(b"two", (server.address(), PORT))?;
        Ok(state()? == json!("policy"))
    })?;
    nft(node, "flush chain ip test forward")?;
    nft(node, "add rule ip test forward ct state invalid drop")?;

    // What is answered to another address than was asked.
    let rule = format!(
        "add rule ip test nat ip daddr {SERVICE} dnat to {}",
        server.address()
    );
    nft(node, &rule)?;
    let asking = client
        .ns()
        .run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    asking.send_to(b"three", (SERVICE, PORT))?;
    let mut said = [0; 8];
    let from = loop {
        let (length, from) = listening.recv_from(&mut said)?;
        if &said[..length] == b"three" {
            break from;
        }
    };
    listening.send_to(b"four", from)?;
    let (_, from) = asking.recv_from(&mut said)?;
    assert_eq!(from.ip(), SERVICE, "translated back");
    let port = asking.local_addr()?.port().to_string();
    let flows = list(node, &["--port", &port])?;
    assert_eq!(flows[0]["state"], json!("translated"), "{flows}");
    let why = flows[0]["why"].as_str().context("no reason")?;
    assert!(
        why.contains(&format!("leaves as {SERVICE}:{PORT}")),
        "{why}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn status_says_how_much_is_carried() -> Result<()> {
    let (lab, _agent) = lab()?;
    let node = lab.node("node-0");
    let (_talk, _) = accelerated(node)?;
    let status: Value = serde_json::from_str(&underpass(node, &["status", "-o", "json"])?)?;
    let acceleration = &status["acceleration"];
    assert_eq!(acceleration["mode"], json!("established"));
    assert_eq!(acceleration["reverifySeconds"], json!(10.0));
    assert!(acceleration["carried"].as_u64() > Some(100), "{status}");
    assert!(acceleration["left"].as_u64() > Some(1), "{status}");
    let maps = status["maps"].as_array().context("no maps")?;
    let flows = maps.iter().find(|map| map["map"] == json!("FLOWS"));
    assert_eq!(flows.context("no flows")?["entries"], json!(1));
    let words = underpass(node, &["status"])?;
    assert!(words.contains("\nacceleration: established, "), "{words}");
    Ok(())
}

/// A connection between both pods, packets of which are carried, and its ports.
fn accelerated(node: &Node) -> Result<(Dialogue, (u16, u16))> {
    let talk = Dialogue::carried_on(node)?;
    let ports = talk.ports()?;
    Ok((talk, ports))
}

fn list(node: &Node, arguments: &[&str]) -> Result<Value> {
    let all = [&["flows", "list"], arguments, &["-o", "json"]].concat();
    let list: Value = serde_json::from_str(&underpass(node, &all)?)?;
    Ok(list["items"].clone())
}

/// What it prints; it has to succeed.
fn underpass(node: &Node, arguments: &[&str]) -> Result<String> {
    let output = node.underpass(arguments)?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {words}");
    Ok(String::from_utf8(output.stdout)?)
}

fn nft(node: &Node, command: &str) -> Result<()> {
    node.ns().exec(&format!("nft {command}")).map(drop)
}

//! The command line reads the pinned maps, with the agent dead or alive.

use anyhow::{Context as _, Result};
use dataplane_common::{abi::Hook, reason::Reason};
use dataplane_tests::{Lab, Mode, Node, require_root};
use serde_json::{Value, json};

/// A node whose agent has filled the maps and is dead.
fn lab() -> Result<Lab> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let mut agents = lab.start_agents(Mode::Vxlan)?;
    for node in lab.nodes() {
        node.wait_resolved()?;
    }
    for agent in &mut agents {
        agent.process().kill()?;
    }
    Ok(lab)
}

fn table(node: &Node, arguments: &[&str]) -> Result<String> {
    let output = node.underpass(arguments)?;
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8(output.stdout)?)
}

fn json_of(node: &Node, arguments: &[&str]) -> Result<Value> {
    let text = table(node, &[arguments, &["-o", "json"]].concat())?;
    serde_json::from_str(&text).with_context(|| text)
}

/// What it says on standard error when it fails.
fn refusal(node: &Node, arguments: &[&str]) -> Result<String> {
    let output = node.underpass(arguments)?;
    assert!(!output.status.success(), "{arguments:?} succeeds");
    assert!(output.stdout.is_empty(), "words are not data");
    Ok(String::from_utf8(output.stderr)?)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn routes_are_listed_and_looked_up_by_the_longest_prefix() -> Result<()> {
    let lab = lab()?;
    let node = lab.node("node-0");
    let remote = json!({
        "prefix": "10.244.1.0/24",
        "kind": "vxlan",
        "peer": "192.168.1.11",
        "interface": "eth0",
        "mtu": 1450,
    });
    assert_eq!(
        json_of(node, &["routes", "list"])?,
        json!([{ "prefix": "10.244.0.0/24", "kind": "local" }, remote])
    );
    assert_eq!(
        json_of(node, &["routes", "get", "10.244.1.77"])?,
        json!([remote])
    );
    let text = table(node, &["routes", "get", "10.244.1.77"])?;
    assert_eq!(
        text,
        "PREFIX         KIND   PEER          GATEWAY  INTERFACE  MTU\n\
         10.244.1.0/24  vxlan  192.168.1.11  -        eth0       1450\n"
    );
    let text = table(node, &["routes", "get", "10.244.1.77", "-o", "yaml"])?;
    assert!(text.contains("kind: vxlan\n"), "{text}");
    let text = refusal(node, &["routes", "get", "10.9.9.9"])?;
    assert!(text.contains("no route to 10.9.9.9"), "{text}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn endpoints_and_peers_are_listed() -> Result<()> {
    let lab = lab()?;
    let node = lab.node("node-0");
    let pod = node.pod("p0");
    let endpoints = json_of(node, &["endpoints", "list"])?;
    assert_eq!(endpoints.as_array().map(Vec::len), Some(1));
    assert_eq!(endpoints[0]["address"], pod.address().to_string());
    assert_eq!(endpoints[0]["interface"], pod.host_ifname());
    assert_eq!(endpoints[0]["mac"], pod.mac().to_string());
    assert_eq!(endpoints[0]["hostMac"], "ee:ee:ee:ee:ee:ee");
    assert_eq!(
        json_of(node, &["peers", "list"])?,
        json!([{
            "address": "192.168.1.11",
            "tunnelAddress": "10.244.1.1",
            // 66, and the beginning of `printf node-1 | sha1sum`.
            "vtepMAC": "66:b3:68:28:39:8e",
            "modes": ["vxlan"],
            "routes": 1,
        }])
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn counters_name_hook_action_and_reason() -> Result<()> {
    let lab = lab()?;
    let node = lab.node("node-0");
    let all = json_of(node, &["counters", "--all"])?;
    let expected = Hook::ALL.len() * Reason::ALL.len();
    assert_eq!(all.as_array().map(Vec::len), Some(expected));
    let counted = json_of(node, &["counters"])?;
    for counter in counted.as_array().context("a list")? {
        assert_ne!(counter["packets"], 0, "only what was counted");
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn explain_says_what_would_happen_and_why() -> Result<()> {
    let lab = lab()?;
    let node = lab.node("node-0");
    let (pod, remote) = (node.pod("p0").address(), lab.pod("node-1", "p0").address());
    let explain =
        |source: &str, destination: &str| json_of(node, &["explain", source, destination]);

    let out = explain(&pod.to_string(), &remote.to_string())?;
    assert_eq!(out["hook"], "from_workload");
    assert_eq!(out["reason"], "sent-vxlan");
    let steps = out["steps"].to_string();
    assert!(
        steps.contains("10.244.1.0/24: vxlan to 192.168.1.11"),
        "{steps}"
    );
    assert!(steps.contains("192.168.1.10 -> 192.168.1.11"), "{steps}");

    let back = explain(&remote.to_string(), &pod.to_string())?;
    assert_eq!(back["hook"], "from_uplink");
    assert_eq!(back["reason"], "received-vxlan");

    let host = explain("10.244.0.1", &remote.to_string())?;
    assert_eq!(host["hook"], "from_stack");
    assert_eq!(host["reason"], "sent-vxlan");

    let outside = explain(&pod.to_string(), "203.0.113.7")?;
    assert_eq!(outside["action"], "stack");
    assert_eq!(outside["reason"], "no-route");

    let text = table(node, &["explain", &pod.to_string(), &remote.to_string()])?;
    assert!(
        text.ends_with("from_workload: forward (sent-vxlan)\n"),
        "{text}"
    );
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn where_no_agent_has_run_it_says_so() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 0)?;
    let node = lab.node("node-0");
    std::fs::write(node.dir().join("config.yaml"), node.agent_config())?;
    for arguments in [
        &["routes", "list"][..],
        &["counters"],
        &["explain", "10.0.0.1", "10.0.0.2"],
    ] {
        let text = refusal(node, arguments)?;
        assert!(text.contains("nothing is pinned"), "{arguments:?}: {text}");
    }
    Ok(())
}

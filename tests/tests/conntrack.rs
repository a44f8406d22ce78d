//! Connection tracking beside accelerated flows: what is set for them and set back, and what happens
//! to connections that outlive the dataplane or fall silent.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use dataplane_common::abi::Generation;
use dataplane_tests::{
    Agent, Build, Dialogue, Lab, Mode, Node, cluster_yaml, eventually, require_root,
};
use dataplane_user::{
    dataplane::{Generations, Pins},
    kernel::{ConnTuple, Conntrack, Detail},
};
use serde_json::{Value, json};

const BE_LIBERAL: &str = "net.netfilter.nf_conntrack_tcp_be_liberal";
const IGNORE_INVALID_RST: &str = "net.netfilter.nf_conntrack_tcp_ignore_invalid_rst";

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn sysctls_are_set_shown_and_set_back_by_detach() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    // Somebody wants it so, and keeps it.
    let has_rst = node.ns().sysctl(IGNORE_INVALID_RST).is_ok();
    if has_rst {
        node.ns().set_sysctl(IGNORE_INVALID_RST, "1")?;
    }
    assert_eq!(node.ns().sysctl(BE_LIBERAL)?, "0");
    let agent = start(&lab, "established")?;
    assert_eq!(node.ns().sysctl(BE_LIBERAL)?, "1");
    let changed = json!([{ "sysctl": BE_LIBERAL, "before": 0, "now": 1 }]);
    assert_eq!(status(node)?["sysctls"], changed);
    drop(agent);
    // Nor does it take the agent.
    assert_eq!(status(node)?["sysctls"], changed);
    let steps = underpass(node, &["detach", "--dry-run"])?;
    assert!(
        steps.contains(&format!("set {BE_LIBERAL} back to 0")),
        "{steps}"
    );
    assert_eq!(node.ns().sysctl(BE_LIBERAL)?, "1");

    underpass(node, &["detach"])?;
    assert_eq!(node.ns().sysctl(BE_LIBERAL)?, "0");
    if has_rst {
        assert_eq!(node.ns().sysctl(IGNORE_INVALID_RST)?, "1");
    }
    assert!(!node.pins().exists(), "nothing is left");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_somebody_has_set_since_stays() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    drop(start(&lab, "established")?);
    node.ns().set_sysctl(BE_LIBERAL, "0")?;
    let steps = underpass(node, &["detach", "--dry-run"])?;
    assert!(
        steps.contains(&format!("leave {BE_LIBERAL} at 0")),
        "{steps}"
    );
    underpass(node, &["detach"])?;
    assert_eq!(node.ns().sysctl(BE_LIBERAL)?, "0");
    assert!(!node.pins().exists(), "nothing is left");
    Ok(())
}

/// It has been recorded what would be changed, and no more.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_agent_that_dies_before_it_sets_them_leaves_nothing_behind() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    drop(start(&lab, "all")?);
    let record = Pins::new(node.pins()).sysctls();
    fs::create_dir(record.join("nf_conntrack_tcp_be_liberal-0"))?;
    underpass(node, &["detach"])?;
    assert_eq!(node.ns().sysctl(BE_LIBERAL)?, "0");
    assert!(!node.pins().exists(), "nothing is left");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_route_alone_they_are_set_back_and_for_established_flows_set_again() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    for _ in 0..2 {
        drop(start(&lab, "established")?);
        assert_eq!(node.ns().sysctl(BE_LIBERAL)?, "1");
        drop(start(&lab, "all")?);
        assert_eq!(node.ns().sysctl(BE_LIBERAL)?, "0");
        assert_eq!(status(node)?["sysctls"], json!([]));
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn another_version_knows_what_they_were_before() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 1)?;
    let node = lab.node("node-0");
    drop(start(&lab, "established")?);
    for build in [Build::OtherLayout, Build::Tested] {
        drop(Agent::restart(node, build)?);
        let status = node.underpass_of(build, &["status", "-o", "json"])?;
        let status: Value = serde_json::from_slice(&status.stdout)?;
        assert_eq!(status["sysctls"][0]["before"], json!(0), "{build:?}");
        assert_eq!(node.ns().sysctl(BE_LIBERAL)?, "1");
    }
    underpass(node, &["detach"])?;
    assert_eq!(node.ns().sysctl(BE_LIBERAL)?, "0");
    assert!(!node.pins().exists(), "nothing is left");
    Ok(())
}

/// The node drops what conntrack calls invalid, as Calico does. Of the connection that is accelerated
/// it has seen little when everything goes through it again.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_connection_that_was_accelerated_lives_across_detach() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 2)?;
    let node = lab.node("node-0");
    drop_invalid(node)?;
    let agent = start(&lab, "established")?;
    let mut talk = Dialogue::carried_on(node)?;
    // Farther than a window.
    talk.exchange(64 << 20)?;
    drop(agent);
    underpass(node, &["detach"])?;
    assert_eq!(node.ns().sysctl(BE_LIBERAL)?, "0");
    talk.exchange(16 << 20)?;
    drop(talk);
    let rules = node.ns().exec("nft list table ip test")?;
    assert!(
        rules.contains("ct state invalid counter packets 0"),
        "{rules}"
    );
    Ok(())
}

/// To conntrack, which has seen few packets, data may seem to be out that nobody has acknowledged: then
/// it forgets a connection soon.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_connection_that_falls_silent_is_not_forgotten_before_the_time() -> Result<()> {
    require_root();
    let lab = Lab::flat(1, 2)?;
    let node = lab.node("node-0");
    drop_invalid(node)?;
    let agent = start(&lab, "established")?;
    let mut talk = Dialogue::carried_on(node)?;
    // Nobody keeps anything meanwhile; and nobody says anything, not even a late acknowledgement.
    drop(agent);
    for pod in node.pods() {
        pod.ns().exec("nft add table ip silent")?;
        pod.ns().exec(
            "nft add chain ip silent output { type filter hook output priority 0 ; policy drop ; }",
        )?;
    }
    let (client, server) = talk.ports()?;
    let tuple = ConnTuple {
        source: node.pod("p0").address(),
        destination: node.pod("p1").address(),
        protocol: 6,
        detail: Detail::Ports(client, server),
    };
    node.ns().run(|| {
        let mut conntrack = Conntrack::connect()?;
        let entry = conntrack.get(&tuple)?.context("there is no entry")?;
        conntrack.set_timeout(&entry, 299)
    })?;
    assert!(time_left(node, &talk)? <= 299);
    let _agent = Agent::restart(node, Build::Tested)?;
    eventually("the connection has the time of an idle one", || {
        Ok(time_left(node, &talk)? > 400_000)
    })?;
    for pod in node.pods() {
        pod.ns().exec("nft delete table ip silent")?;
    }
    talk.exchange(1 << 10)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_change_of_rules_ends_the_generation_of_flows() -> Result<()> {
    require_root();
    for change in [
        "nft add table ip test",
        "iptables-nft -I FORWARD -s 10.244.0.2 -j DROP",
    ] {
        let lab = Lab::flat(1, 1)?;
        let node = lab.node("node-0");
        let _agent = start(&lab, "established")?;
        let generations = Generations::open(&Pins::new(node.pins()), Generation::Flush)?;
        let before = generations.current()?;
        node.ns().exec(change)?;
        eventually(change, || Ok(generations.current()? != before))?;
    }
    Ok(())
}

/// A node-0 with pods p0 and p1 has an agent that accelerates so. Flows are verified often.
fn start(lab: &Lab, acceleration: &str) -> Result<Agent> {
    let node = lab.node("node-0");
    let config = node.agent_config().replace(
        "acceleration: all\n",
        &format!("acceleration: {acceleration}\nreverify: 100ms\n"),
    );
    ensure!(config.contains("reverify"), "{config}");
    let agent = Agent::start(node, &config, &cluster(lab))?;
    node.wait_resolved()?;
    Ok(agent)
}

fn cluster(lab: &Lab) -> String {
    cluster_yaml(lab, Mode::None.ipip_mode(), Mode::None.vxlan_mode())
}

fn drop_invalid(node: &Node) -> Result<()> {
    node.ns().exec("nft add table ip test")?;
    node.ns()
        .exec("nft add chain ip test forward { type filter hook forward priority 0 ; }")?;
    let rule = "nft add rule ip test forward ct state invalid counter drop";
    node.ns().exec(rule).map(drop)
}

/// In how many seconds conntrack forgets the connection.
fn time_left(node: &Node, talk: &Dialogue) -> Result<u32> {
    let (client, _) = talk.ports()?;
    let entry = node
        .ns()
        .exec(&format!("conntrack -L -p tcp --orig-port-src {client}"))?;
    let left = entry
        .split_whitespace()
        .nth(2)
        .context("there is no entry")?;
    left.parse().with_context(|| entry)
}

fn status(node: &Node) -> Result<Value> {
    Ok(serde_json::from_str(&underpass(
        node,
        &["status", "-o", "json"],
    )?)?)
}

/// What it prints; it has to succeed.
fn underpass(node: &Node, arguments: &[&str]) -> Result<String> {
    let output = node.underpass(arguments)?;
    let text = String::from_utf8(output.stdout)?;
    let words = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{arguments:?}: {text}{words}");
    Ok(text)
}

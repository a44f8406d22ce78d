//! The agent runs in a container without privileges, with just the capabilities that `deploy` gives
//! it there, and takes each of them.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use dataplane_tests::{
    Agent, Confinement, Counters, Lab, Mode, Node, PingOptions, beside_netfilter, cluster_yaml,
    ping, require_root,
};
use serde_json::Value;

/// What the restricted manifests add to the others; that they do is tested where they are made.
const RESTRICTED: &str = include_str!("../../deploy/components/restricted/daemonset.yaml");

/// How long an agent may take to see that it cannot do its work.
const REFUSAL: Duration = Duration::from_secs(5);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_listed_suffices_without_encapsulation() -> Result<()> {
    suffices(Mode::None, "direct")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_listed_suffices_by_ipip() -> Result<()> {
    suffices(Mode::Ipip, "ipip")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_listed_suffices_by_vxlan() -> Result<()> {
    suffices(Mode::Vxlan, "vxlan")
}

/// As deployed: a privileged container readies the node, then the agent is confined. It
/// is killed once, and another one takes over what it has pinned.
fn suffices(mode: Mode, word: &str) -> Result<()> {
    require_root();
    let confinement = Confinement::only(&capabilities()?);
    let lab = Lab::flat(2, 1)?;
    for node in lab.nodes() {
        prepare(node)?;
    }
    for _ in ["first", "successor"] {
        let agents = lab.nodes().iter();
        let mut agents = agents
            .map(|node| confined(&lab, node, mode, &confinement))
            .collect::<Result<Vec<_>>>()?;
        agents.iter_mut().try_for_each(Agent::wait_in_sync)?;
        lab.wait_resolved()?;
        pods_ping(&lab, word)?;
        for agent in &mut agents {
            assert!(is_confined(agent)?, "{word}");
            agent.process().kill()?;
        }
    }
    Ok(())
}

/// Without any one of them nothing is begun, whatever else the agent may do, and it says which.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn nothing_listed_can_be_left_out() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    prepare(node)?;
    for capability in capabilities()? {
        let confinement = Confinement::without(&capability);
        let mut agent = confined(&lab, node, Mode::Vxlan, &confinement)?;
        let status = agent.process().wait(REFUSAL)?;
        let said = agent.process().log()?;
        assert!(!status.success(), "without {capability}: {said}");
        let expected = format!("the agent lacks CAP_{capability}, ");
        assert!(said.contains(&expected), "{said}");
        assert!(said.contains("run it as root"), "what to do: {said}");
    }
    Ok(())
}

/// What looks at no capabilities first is refused by the kernel itself.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernel_asks_for_each() -> Result<()> {
    require_root();
    let listed = capabilities()?;
    let lab = Lab::flat(2, 1)?;
    drop(lab.start_agents(Mode::Vxlan)?);
    let node = lab.node("node-0");
    for capability in &listed {
        let (arguments, refused): (&[&str], _) = match &**capability {
            "SYS_ADMIN" => (&["routes", "list"], "cannot read the BPF map ROUTES"),
            "NET_ADMIN" => (&["detach"], "CAP_NET_ADMIN"),
            other => bail!("nothing here shows what {other} is for"),
        };
        let without = Confinement::without(capability);
        let output = node.underpass_confined(&without, arguments)?;
        let said = String::from_utf8(output.stderr)?;
        assert!(!output.status.success(), "without {capability}: {said}");
        assert!(said.contains(refused), "without {capability}: {said}");
    }
    for arguments in [&["routes", "list"][..], &["detach"]] {
        let output = node.underpass_confined(&Confinement::only(&listed), arguments)?;
        let said = String::from_utf8(output.stderr)?;
        assert!(output.status.success(), "{arguments:?}: {said}");
    }
    Ok(())
}

/// The capabilities that are added for the agent, after all were dropped.
fn capabilities() -> Result<Vec<String>> {
    let manifest: Value = serde_saphyr::from_str(RESTRICTED)?;
    let agent = &manifest["spec"]["template"]["spec"]["containers"][0]["securityContext"];
    let capabilities = &agent["capabilities"];
    ensure!(capabilities["drop"] == serde_json::json!(["ALL"]));
    let added: Vec<String> = serde_json::from_value(capabilities["add"].clone())?;
    ensure!(!added.is_empty(), "no capability is listed");
    Ok(added)
}

fn prepare(node: &Node) -> Result<()> {
    node.write_config(&beside_netfilter(&node.agent_config()))?;
    let output = node.underpass(&["prepare"])?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "underpass prepare: {said}");
    Ok(())
}

fn confined(lab: &Lab, node: &Node, mode: Mode, confinement: &Confinement) -> Result<Agent> {
    let config = beside_netfilter(&node.agent_config());
    let cluster = cluster_yaml(lab, mode.ipip_mode(), mode.vxlan_mode());
    Agent::confined(node, &config, &cluster, confinement)
}

/// All pings arrive, and programs carry those of which the stack has seen enough.
fn pods_ping(lab: &Lab, word: &str) -> Result<()> {
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    let before = Counters::read(near)?;
    let options = PingOptions {
        count: 20,
        ..PingOptions::default()
    };
    let report = ping(near.pod("p0").ns(), far.pod("p0").address(), &options)?;
    assert!(report.is_lossless(), "{word}: {report:?}");
    let sent = format!("sent-{word}");
    let carried = Counters::read(near)?
        .since(&before)
        .get("from_workload", &sent);
    assert!(carried.packets > 0, "{word}: nothing is {sent}");
    Ok(())
}

/// Whether an agent has as many capabilities as are listed, and may never have more.
fn is_confined(agent: &mut Agent) -> Result<bool> {
    let path = format!("/proc/{}/status", agent.process().pid());
    let status = std::fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let has = |name: &str| -> Result<u32> {
        let mask = line(name).with_context(|| format!("{path} has no {name}"))?;
        Ok(u64::from_str_radix(mask.trim(), 16)?.count_ones())
    };
    let listed = u32::try_from(capabilities()?.len())?;
    Ok(has("CapEff:")? == listed
        && has("CapBnd:")? == listed
        && line("NoNewPrivs:").map(str::trim) == Some("1"))
}

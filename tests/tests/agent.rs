//! The agent comes, changes its mind, dies and returns; the dataplane carries on.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use aya::programs::TcAttachType;
use dataplane_common::abi;
use dataplane_tests::{
    Agent, Counters, Lab, Mode, Node, PingOptions, PingReport, Pinging, Pod, cluster_yaml,
    eventually, patient, ping, programs::attached, require_root,
};
use dataplane_user::dataplane::Pins;
use nix::sys::signal::Signal;

const PATIENCE: Duration = Duration::from_secs(30);

/// A ping that lasts as long as what it watches.
fn watch() -> PingOptions {
    PingOptions {
        count: 100_000,
        interval: patient(Duration::from_millis(2)),
        ..PingOptions::default()
    }
}

/// Two nodes with agents, which have `config` besides what all have.
fn vxlan_lab(config: &str) -> Result<(Lab, Vec<Agent>)> {
    let lab = Lab::flat(2, 1)?;
    let cluster = cluster(&lab, Mode::Vxlan);
    let agents = lab
        .nodes()
        .iter()
        .map(|node| Agent::start(node, &(node.agent_config() + config), &cluster))
        .collect::<Result<_>>()?;
    for node in lab.nodes() {
        node.wait_resolved()?;
    }
    Ok((lab, agents))
}

/// Pings one pod from another, without loss.
#[track_caller]
fn reaches(from: &Pod, to: &Pod) -> Result<PingReport> {
    let report = ping(from.ns(), to.address(), &PingOptions::default())?;
    assert!(report.is_lossless(), "{report:?}");
    Ok(report)
}

fn cluster(lab: &Lab, mode: Mode) -> String {
    cluster_yaml(lab, mode.ipip_mode(), mode.vxlan_mode())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn killed_and_restarted_it_loses_no_packet() -> Result<()> {
    require_root();
    let (lab, mut agents) = vxlan_lab("")?;
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    let pinging = Pinging::start(near.pod("p0").ns(), far.pod("p0").address(), &watch())?;

    let mut agent = agents.remove(0);
    agent.process().kill()?;
    let before = Counters::read(near).context("the command line reads the pins of a dead agent")?;
    let alone = reaches(near.pod("p0"), far.pod("p0"))?;
    let meanwhile = Counters::read(near)?.since(&before);
    let accelerated = meanwhile.get("from_workload", "sent-vxlan");
    assert!(accelerated.packets >= u64::from(alone.sent));
    assert_eq!(meanwhile.get("from_workload", "no-room").packets, 0);

    let _agent = Agent::start(near, &near.agent_config(), &cluster(&lab, Mode::Vxlan))?;
    let report = pinging.stop()?;
    assert!(report.is_lossless(), "{report:?}");
    assert_eq!(programs_on(near, "eth0")?, 1, "taken over, not doubled");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn stopped_by_sigterm_it_leaves_the_dataplane_forwarding() -> Result<()> {
    require_root();
    let (lab, mut agents) = vxlan_lab("")?;
    for agent in &mut agents {
        let status = agent.process().terminate()?;
        assert!(status.success(), "{status}");
    }
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    let before = Counters::read(far)?;
    let report = reaches(near.pod("p0"), far.pod("p0"))?;
    let received = Counters::read(far)?
        .since(&before)
        .get("from_uplink", "received-vxlan");
    assert_eq!(received.packets, u64::from(report.sent));
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_changed_cluster_file_is_taken_over_without_loss_by_its_difference_alone() -> Result<()> {
    require_root();
    let (lab, mut agents) = vxlan_lab("")?;
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    let pinging = Pinging::start(near.pod("p0").ns(), far.pod("p0").address(), &watch())?;
    for (mode, reason) in [
        (Mode::Ipip, "sent-ipip"),
        (Mode::None, "sent-direct"),
        (Mode::Vxlan, "sent-vxlan"),
    ] {
        for agent in &mut agents {
            agent.process().skip_log()?;
        }
        lab.write_cluster(&cluster(&lab, mode))?;
        for agent in &mut agents {
            let line = agent.process().wait_for_line("tables written", PATIENCE)?;
            // One next hop, and the kernel's route to the same block.
            assert!(
                line.contains("written=2") && line.contains("removed=1"),
                "to {mode}: {line}"
            );
        }
        eventually(reason, || {
            let counters = Counters::read(near)?;
            Ok(counters.get("from_workload", reason).packets > 0)
        })?;
    }
    let report = pinging.stop()?;
    assert!(report.is_lossless(), "{report:?}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_contradiction_in_the_cluster_file_is_logged_and_changes_nothing() -> Result<()> {
    require_root();
    let (lab, mut agents) = vxlan_lab("")?;
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    let before = near.underpass(&["routes", "list", "-o", "json"])?.stdout;

    let both = cluster_yaml(&lab, "Always", "Always");
    near.write_cluster(&both)?;
    let line = agents[0]
        .process()
        .wait_for_line("the old one kept", PATIENCE)?;
    assert!(line.contains("cluster.yaml:2:"), "{line}");
    assert!(line.contains("both ipipMode and vxlanMode"), "{line}");

    let after = near.underpass(&["routes", "list", "-o", "json"])?.stdout;
    assert_eq!(before, after);
    reaches(near.pod("p0"), far.pod("p0"))?;
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn sighup_has_the_cluster_file_read_again() -> Result<()> {
    require_root();
    let (lab, mut agents) = vxlan_lab("")?;
    let process = agents[0].process();
    // Through a link to another directory, which nothing watches.
    let directory = lab.dir().join("elsewhere");
    std::fs::create_dir(&directory)?;
    let table = directory.join("cluster.yaml");
    std::fs::write(&table, cluster(&lab, Mode::None))?;
    let watched = lab.node("node-0").dir().join("cluster.yaml");
    std::fs::remove_file(&watched)?;
    std::os::unix::fs::symlink(&table, &watched)?;
    process.wait_for_line("the cluster table has changed", PATIENCE)?;
    process.skip_log()?;

    std::fs::write(&table, cluster(&lab, Mode::Ipip))?;
    process.signal(Signal::SIGHUP)?;
    process.wait_for_line("the cluster table has changed", PATIENCE)?;
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_second_agent_and_detach_keep_off_a_running_ones_pins() -> Result<()> {
    require_root();
    let (lab, agents) = vxlan_lab("")?;
    let node = lab.node("node-0");
    let mut second = Agent::spawn(node, &node.agent_config(), &cluster(&lab, Mode::Vxlan))?;
    assert!(!second.process().wait(PATIENCE)?.success());
    let log = second.process().log()?;
    assert!(log.contains("another underpass"), "{log}");

    let detach = node.underpass(&["detach"])?;
    assert!(!detach.status.success());
    let words = String::from_utf8_lossy(&detach.stderr);
    assert!(words.contains("stop that agent first"), "{words}");
    assert_eq!(programs_on(node, "eth0")?, 1);

    drop(agents);
    assert!(node.underpass(&["detach"])?.status.success());
    Ok(())
}

/// The layout of the maps is another, so they cannot be taken over: links are, and go from one
/// program to the next in one step.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn another_version_is_replaced_without_loss() -> Result<()> {
    require_root();
    for config in ["", "attach: clsact\n", "xdp: native\n"] {
        let (lab, mut agents) = vxlan_lab(config)?;
        let (near, far) = (lab.node("node-0"), lab.node("node-1"));
        let pinging = Pinging::start(near.pod("p0").ns(), far.pod("p0").address(), &watch())?;
        let config = near.agent_config() + config;
        let pins = Pins::new(near.pins());
        // From an older version, and from a newer one.
        for number in [0, 99] {
            drop(agents.remove(0));
            let (ours, theirs) = versions(&pins, number);
            std::fs::rename(&ours, &theirs)?;
            agents.insert(0, Agent::start(near, &config, &cluster(&lab, Mode::Vxlan))?);
            assert!(ours.is_dir() && !theirs.exists(), "{config}");
            assert_eq!(programs_on(near, "eth0")?, 1, "{config}");
        }
        let report = pinging.stop()?;
        assert!(report.is_lossless(), "{config}: {report:?}");

        drop(agents);
        let (ours, theirs) = versions(&pins, 0);
        std::fs::rename(ours, &theirs)?;
        assert!(near.underpass(&["detach"])?.status.success());
        // The kernel takes it off by work that is queued (`bpf_link_put`).
        eventually("no program is on eth0", || {
            Ok(programs_on(near, "eth0")? == 0)
        })?;
        assert!(!theirs.exists(), "{config}");
    }
    Ok(())
}

/// An agent of another version that is alive keeps the pins.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_agent_of_another_version_is_not_pushed_aside() -> Result<()> {
    require_root();
    let (lab, _agents) = vxlan_lab("")?;
    let node = lab.node("node-0");
    // It keeps its lock on the directory, whatever that is called.
    let (ours, theirs) = versions(&Pins::new(node.pins()), 99);
    std::fs::rename(ours, theirs)?;
    let mut second = Agent::spawn(node, &node.agent_config(), &cluster(&lab, Mode::Vxlan))?;
    assert!(!second.process().wait(PATIENCE)?.success());
    let log = second.process().log()?;
    assert!(log.contains("another underpass"), "{log}");
    Ok(())
}

/// Where this version pins, and where version `number` would.
fn versions(pins: &Pins, number: u32) -> (PathBuf, PathBuf) {
    let base = pins.base();
    let ours = base.join(format!("v{}", abi::VERSION));
    (ours, base.join(format!("v{number}")))
}

/// Whatever is wrong elsewhere on the node, its pods are looked after.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn without_its_address_the_node_still_serves_its_pods_and_recovers() -> Result<()> {
    require_root();
    let (mut lab, mut agents) = vxlan_lab("")?;
    let node = lab.node("node-0");
    let address = node.address();
    node.ns()
        .exec(&format!("ip address del {address} dev eth0"))?;
    agents[0]
        .process()
        .wait_for_line("no interface holds", PATIENCE)?;

    lab.node_mut("node-0").add_pod("late")?;
    let node = lab.node("node-0");
    node.wait_resolved()?;
    reaches(node.pod("p0"), node.pod("late"))?;

    node.ns()
        .exec(&format!("ip address add {address} dev eth0"))?;
    agents[0]
        .process()
        .wait_for_line("a way to every peer again", PATIENCE)?;
    let remote = lab.pod("node-1", "p0").address();
    let report = ping(node.pod("p0").ns(), remote, &PingOptions::default())?;
    assert!(report.is_lossless(), "{report:?}");
    Ok(())
}

/// What somebody else breaks is mended: the carrier down or deleted.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_carrier_that_was_taken_down_or_deleted_comes_back() -> Result<()> {
    require_root();
    let (lab, _agents) = vxlan_lab("")?;
    let node = lab.node("node-0");
    let remote = lab.pod("node-1", "p0").address();
    for accident in ["ip link set underpass0 down", "ip link delete underpass0"] {
        node.ns().exec(accident)?;
        eventually(accident, || {
            Ok(ping(node.ns(), remote, &PingOptions::default())?.is_lossless())
        })?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn pods_that_come_and_go_are_discovered() -> Result<()> {
    require_root();
    pods_come_and_go("")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn pods_that_come_and_go_are_discovered_without_tcx() -> Result<()> {
    require_root();
    pods_come_and_go("attach: clsact\n")
}

fn pods_come_and_go(config: &str) -> Result<()> {
    let (mut lab, _agents) = vxlan_lab(config)?;
    lab.node_mut("node-0").add_pod("late")?;
    let near = lab.node("node-0");
    near.wait_resolved()?;
    let remote = lab.pod("node-1", "p0");
    let late = near.pod("late");
    let report = ping(remote.ns(), late.address(), &PingOptions::default())?;
    assert!(report.is_lossless(), "{report:?}");
    let (address, interface) = (late.address(), late.host_ifname().to_owned());

    lab.node_mut("node-0").remove_pod("late")?;
    let near = lab.node("node-0");
    eventually("the endpoint is gone", || {
        let list = near.underpass(&["endpoints", "list"])?;
        Ok(!String::from_utf8_lossy(&list.stdout).contains(&interface))
    })?;
    eventually("its pins are gone", || {
        let links = std::fs::read_dir(Pins::new(near.pins()).links())?;
        let workloads = links
            .filter_map(Result::ok)
            .filter(|entry| entry.file_name().to_string_lossy().contains("workload"));
        Ok(workloads.count() == 1)
    })?;
    let report = ping(
        lab.pod("node-1", "p0").ns(),
        address,
        &PingOptions {
            count: 2,
            ..PingOptions::default()
        },
    )?;
    assert_eq!(report.received, 0, "nobody has its address: {report:?}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn logs_are_json_when_asked_for() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    lab.write_cluster(&cluster(&lab, Mode::Vxlan))?;
    let node = lab.node("node-0");
    let config = node.dir().join("config.yaml");
    std::fs::write(&config, node.agent_config())?;
    let binary = std::env::var("UNDERPASS_BIN").context("run by `cargo xtask test`")?;
    let command = node
        .ns()
        .command(&binary)
        .args(["agent", "--log-format", "json", "--config"])
        .arg(&config);
    let mut agent = node.start("json", command)?;
    let line = agent.wait_for_line("in sync", PATIENCE)?;
    let line: serde_json::Value = serde_json::from_str(&line)?;
    assert_eq!(line["message"], "in sync");
    assert_eq!(line["level"], "INFO");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_bad_configuration_is_refused_with_file_line_and_remedy() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    let good = cluster(&lab, Mode::Vxlan);
    let config = node.agent_config();
    let missing = good.replace("name: node-0", "name: other");
    for (config, cluster, complaints) in [
        (
            format!("{config}colour: blue\n"),
            &good,
            ["config.yaml:7:", "colour"],
        ),
        (
            config.replace("acceleration: all", "acceleration: most"),
            &good,
            ["config.yaml:2:", "acceleration 'most'"],
        ),
        (config.clone(), &missing, ["cluster.yaml", "node-0"]),
        (
            config.replace(&node.pins().display().to_string(), "/tmp/pins"),
            &good,
            ["/tmp/pins", "mount -t bpf"],
        ),
    ] {
        let mut agent = Agent::spawn(node, &config, cluster)?;
        let status = agent.process().wait(PATIENCE)?;
        let log = agent.process().log()?;
        assert!(!status.success(), "{log}");
        for complaint in complaints {
            assert!(log.contains(complaint), "{complaint} in: {log}");
        }
        assert_eq!(programs_on(node, "eth0")?, 0, "nothing was attached");
    }
    Ok(())
}

/// How many BPF programs are on the ingress of an interface.
fn programs_on(node: &Node, interface: &str) -> Result<usize> {
    Ok(attached(node, interface, TcAttachType::Ingress)?.len())
}

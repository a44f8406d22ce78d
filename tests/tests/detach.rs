//! `underpass detach` puts the node back as it was.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use anyhow::{Result, ensure};
use aya::maps::MapInfo;
use aya::programs::{TcAttachType, loaded_programs};
use dataplane_common::abi::maps;
use dataplane_tests::{
    Agent, Lab, Mode, Node, PingOptions, Pod, cluster_yaml, eventually, ping,
    programs::{attached, kernel_has_tcx},
    require_root, tcp_arrives_intact,
};
use dataplane_user::dataplane::Pins;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn everything_is_as_before() -> Result<()> {
    require_root();
    for mode in [Mode::None, Mode::Ipip, Mode::Vxlan] {
        attach_and_detach(mode, "")?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn everything_is_as_before_without_tcx() -> Result<()> {
    require_root();
    attach_and_detach(Mode::Vxlan, "attach: clsact\n")
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn everything_is_as_before_with_xdp() -> Result<()> {
    require_root();
    attach_and_detach(Mode::Vxlan, "xdp: native\n")?;
    attach_and_detach(Mode::Ipip, "xdp: generic\n")
}

/// A clsact qdisc with a filter on it was there before, and stays.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_not_ours_stays() -> Result<()> {
    require_root();
    let ways: &[&str] = if kernel_has_tcx()? {
        &["attach: clsact\n", "attach: tcx\n"]
    } else {
        &["attach: clsact\n"]
    };
    for attach in ways {
        let mut lab = Lab::flat(2, 1)?;
        let node = lab.node("node-0");
        node.ns().exec("tc qdisc add dev eth0 clsact")?;
        node.ns().exec(
            "tc filter add dev eth0 ingress protocol ip prio 10 u32 match u32 0 0 flowid 1:1",
        )?;
        node.ns()
            .exec("ip route add 10.99.0.0/16 dev eth0 proto 117")?;
        node.ns()
            .exec("ip route add blackhole 10.98.0.0/16 metric 1117")?;
        node.ns()
            .exec("ip neigh add 192.168.1.99 lladdr 02:00:00:00:00:99 dev eth0 nud permanent")?;
        node.ns().exec("ip rule add from 10.97.0.0/16 table 97")?;
        round_trip(&mut lab, Mode::Vxlan, attach)?;
    }
    Ok(())
}

/// A filter that somebody has removed, by itself or with its qdisc, is not looked for.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_gone_already_is_no_error() -> Result<()> {
    require_root();
    for gone in [
        "tc filter delete dev eth0 ingress",
        "tc qdisc delete dev eth0 clsact",
    ] {
        let lab = Lab::flat(2, 1)?;
        let node = lab.node("node-0");
        settle(&lab)?;
        let before = State::of(node)?;
        let cluster = cluster_yaml(&lab, "Never", "Always");
        let config = node.agent_config() + "attach: clsact\n";
        drop(Agent::start(node, &config, &cluster)?);
        node.ns().exec(gone)?;
        detach(node)?;
        before.assert_is(&State::of(node)?, gone);
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn detaching_twice_or_where_nothing_ran_is_no_error() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let node = lab.node("node-0");
    std::fs::write(node.dir().join("config.yaml"), node.agent_config())?;
    settle(&lab)?;
    let before = State::of(node)?;
    for _ in 0..2 {
        detach(node)?;
        before.assert_is(&State::of(node)?, "after detach");
    }
    Ok(())
}

fn attach_and_detach(mode: Mode, config: &str) -> Result<()> {
    let mut lab = Lab::flat(2, 2)?;
    round_trip(&mut lab, mode, config)
}

/// Agents come and go, pods come and go, there is traffic of all kinds; and then it is all undone.
fn round_trip(lab: &mut Lab, mode: Mode, config: &str) -> Result<()> {
    let nodes = lab.nodes();
    settle(lab)?;
    let before = nodes.iter().map(State::of).collect::<Result<Vec<_>>>()?;
    let cluster = cluster_yaml(lab, mode.ipip_mode(), mode.vxlan_mode());
    let agents = nodes
        .iter()
        .map(|node| Agent::start(node, &(node.agent_config() + config), &cluster))
        .collect::<Result<Vec<_>>>()?;
    // A second agent takes over what the first has attached.
    drop(agents);
    let agents = nodes
        .iter()
        .map(|node| Agent::start(node, &(node.agent_config() + config), &cluster))
        .collect::<Result<Vec<_>>>()?;
    lab.node_mut("node-0").add_pod("late")?;
    lab.wait_resolved()?;
    let remote = lab.pod("node-1", "p0").clone();
    for from in [lab.pod("node-0", "p0"), lab.pod("node-0", "late")] {
        let report = ping(from.ns(), remote.address(), &PingOptions::default())?;
        assert!(report.is_lossless(), "{mode}, {config}: {report:?}");
        tcp_arrives_intact(from.ns(), remote.address(), remote.ns(), 1 << 20)?;
    }
    let report = ping(
        lab.node("node-0").ns(),
        remote.address(),
        &PingOptions::default(),
    )?;
    assert!(report.is_lossless(), "{mode}, {config}: {report:?}");
    lab.node_mut("node-0").remove_pod("late")?;
    drop(agents);

    let nodes = lab.nodes();
    let kernel_objects = nodes
        .iter()
        .map(kernel_objects)
        .collect::<Result<Vec<_>>>()?;
    let dry_runs = nodes.iter().map(dry_run).collect::<Result<Vec<_>>>()?;
    // All before any is looked at: XDP on one end of a veth limits the MTU of the other.
    let logs = nodes.iter().map(detach).collect::<Result<Vec<_>>>()?;
    for (dry_run, log) in dry_runs.iter().zip(&logs) {
        for line in dry_run.lines() {
            assert!(log.contains(line), "{mode}, {config}: {line} in: {log}");
        }
        assert_eq!(
            dry_run.lines().count(),
            log.lines().count(),
            "{dry_run}{log}"
        );
    }
    for (node, before) in nodes.iter().zip(&before) {
        before.assert_is(&State::of(node)?, &format!("{mode}, {config}"));
    }
    for (maps, programs) in kernel_objects {
        eventually("the kernel has forgotten the maps and programs", || {
            let loaded = loaded_programs().filter_map(Result::ok);
            let loaded: BTreeSet<u32> = loaded.map(|program| program.id()).collect();
            Ok(maps.iter().all(|map| MapInfo::from_id(*map).is_err())
                && programs.is_disjoint(&loaded))
        })?;
    }
    Ok(())
}

/// What `detach` would do, which changes nothing.
fn dry_run(node: &Node) -> Result<String> {
    let before = (State::of(node)?, pins(node)?);
    let output = node.underpass(&["detach", "--dry-run"])?;
    ensure!(output.status.success(), "{output:?}");
    before.0.assert_is(&State::of(node)?, "a dry run");
    assert_eq!(before.1, pins(node)?, "a dry run");
    let lines = String::from_utf8(output.stdout)?;
    for words in [
        "from_workload",
        "delete the device underpass0",
        "unpin",
        "delete the route",
    ] {
        assert!(lines.contains(words), "{words} in: {lines}");
    }
    Ok(lines)
}

/// The numbers of the maps that a node has pinned, and of the programs that work with them.
fn kernel_objects(node: &Node) -> Result<(BTreeSet<u32>, BTreeSet<u32>)> {
    let pins = Pins::new(node.pins());
    let maps: BTreeSet<u32> = maps::ALL
        .iter()
        .map(|name| Ok(MapInfo::from_pin(pins.map(name))?.id()))
        .collect::<Result<_>>()?;
    let mut programs = BTreeSet::new();
    for program in loaded_programs() {
        // One that is gone by now is none of a node whose agent is.
        let Ok(program) = program else { continue };
        let Ok(uses) = program.map_ids() else {
            continue;
        };
        let uses = uses.unwrap_or_default();
        if uses.iter().any(|map| maps.contains(map)) {
            programs.insert(program.id());
        }
    }
    ensure!(!programs.is_empty(), "no program uses the maps");
    Ok((maps, programs))
}

/// Waits until the kernel has noticed that the links of the lab are up: until then it calls their
/// state DOWN or UNKNOWN, as it always does the loopback device's.
fn settle(lab: &Lab) -> Result<()> {
    eventually("the links of the lab are up", || {
        let links = lab
            .nodes()
            .iter()
            .map(|node| node.ns().exec("ip -brief link show up"))
            .collect::<Result<String>>()?;
        let mut links = links.lines().filter(|line| !line.starts_with("lo "));
        Ok(links.all(|line| line.split_whitespace().nth(1) == Some("UP")))
    })
}

/// Undoes everything; returns what was said about it.
fn detach(node: &Node) -> Result<String> {
    let output = node.underpass(&["detach"])?;
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    ensure!(output.status.success(), "detach: {log}");
    Ok(log)
}

/// All that a node can be asked about itself, by what it was asked.
#[derive(Debug)]
struct State(BTreeMap<&'static str, String>);

impl State {
    fn of(node: &Node) -> Result<Self> {
        let mut state = BTreeMap::new();
        for command in [
            "ip -d -j link show",
            "ip -j address show",
            "ip -j route show table all",
            "ip -6 -j route show table all",
            "ip -j rule show",
            "ip -6 -j rule show",
            "ip -j neigh show nud permanent",
            "bridge -j fdb show",
            "tc -j qdisc show",
            "tc filter show dev eth0 ingress",
            "tc filter show dev eth0 egress",
        ] {
            state.insert(command, node.ns().exec(command)?);
        }
        state.insert("sysctls", sysctls(node)?);
        state.insert("programs", programs_on_all(node)?);
        state.insert("pins", pins(node)?);
        Ok(Self(state))
    }

    fn assert_is(&self, other: &Self, when: &str) {
        for (command, text) in &self.0 {
            assert_eq!(text, &other.0[command], "{when}: {command}");
        }
    }
}

/// Every setting of the network that can be read.
fn sysctls(node: &Node) -> Result<String> {
    fn read(directory: &Path, settings: &mut BTreeMap<String, String>) -> Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.is_dir() {
                read(&path, settings)?;
            } else if let Ok(value) = std::fs::read_to_string(&path) {
                settings.insert(path.display().to_string(), value);
            }
        }
        Ok(())
    }
    node.ns().run(|| {
        let mut settings = BTreeMap::new();
        // By the thread: `/proc/sys/net` is that of the reader's namespace.
        read("/proc/sys/net".as_ref(), &mut settings)?;
        Ok(format!("{settings:#?}"))
    })
}

fn programs_on_all(node: &Node) -> Result<String> {
    let pods = node.pods().iter().map(Pod::host_ifname);
    let mut found = Vec::new();
    for interface in pods.chain(["eth0"]) {
        for side in [TcAttachType::Ingress, TcAttachType::Egress] {
            for program in attached(node, interface, side)? {
                found.push(format!("{interface}: {program}"));
            }
        }
    }
    Ok(found.join("\n"))
}

/// Everything below the pin directory.
fn pins(node: &Node) -> Result<String> {
    fn read(directory: &Path, paths: &mut Vec<String>) -> Result<()> {
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            paths.push(path.display().to_string());
            if path.is_dir() {
                read(&path, paths)?;
            }
        }
        Ok(())
    }
    let mut paths = Vec::new();
    if node.pins().exists() {
        read(node.pins(), &mut paths)?;
    }
    paths.sort();
    Ok(format!("{}: {paths:?}", node.pins().exists()))
}

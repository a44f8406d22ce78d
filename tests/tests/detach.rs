//! `underpass detach` puts the node back as it was.

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use aya::programs::TcAttachType;
use dataplane_tests::{
    Agent, Lab, Mode, Node, PingOptions, Pod, cluster_yaml, eventually, ping,
    programs::{attached, kernel_has_tcx},
    require_root,
};

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
        let lab = Lab::flat(2, 1)?;
        let node = lab.node("node-0");
        node.ns().exec("tc qdisc add dev eth0 clsact")?;
        node.ns().exec(
            "tc filter add dev eth0 ingress protocol ip prio 10 u32 match u32 0 0 flowid 1:1",
        )?;
        node.ns()
            .exec("ip route add 10.99.0.0/16 dev eth0 proto 117")?;
        node.ns()
            .exec("ip route add blackhole 10.98.0.0/16 metric 1117")?;
        round_trip(&lab, Mode::Vxlan, attach)?;
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
    let lab = Lab::flat(2, 2)?;
    round_trip(&lab, mode, config)
}

fn round_trip(lab: &Lab, mode: Mode, config: &str) -> Result<()> {
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
    for node in nodes {
        node.wait_resolved()?;
    }
    let report = ping(
        lab.pod("node-0", "p0").ns(),
        lab.pod("node-1", "p0").address(),
        &PingOptions::default(),
    )?;
    assert!(report.is_lossless(), "{mode}, {config}: {report:?}");
    drop(agents);
    // All before any is looked at: XDP on one end of a veth limits the MTU of the other.
    nodes.iter().try_for_each(detach)?;
    for (node, before) in nodes.iter().zip(&before) {
        before.assert_is(&State::of(node)?, &format!("{mode}, {config}"));
    }
    Ok(())
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

fn detach(node: &Node) -> Result<()> {
    let output = node.underpass(&["detach"])?;
    ensure!(
        output.status.success(),
        "detach: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// All that a node can be asked about itself, by what it was asked.
#[derive(Debug)]
struct State(BTreeMap<&'static str, String>);

impl State {
    fn of(node: &Node) -> Result<Self> {
        let mut state = BTreeMap::new();
        for command in [
            "ip -d link show",
            "ip address show",
            "ip route show table all",
            "ip rule show",
            "tc qdisc show",
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
    fn read(directory: &std::path::Path, settings: &mut BTreeMap<String, String>) -> Result<()> {
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
        read("/proc/sys/net/ipv4".as_ref(), &mut settings)?;
        read("/proc/sys/net/core".as_ref(), &mut settings)?;
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

fn pins(node: &Node) -> Result<String> {
    let mut names = Vec::new();
    if node.pins().exists() {
        for entry in std::fs::read_dir(node.pins())? {
            names.push(entry?.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(format!("{}: {names:?}", node.pins().exists()))
}

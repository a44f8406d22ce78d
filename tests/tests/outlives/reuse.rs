//! Pods that go, and others that come, while no agent is there to notice.

use std::time::Duration;

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Agent, Build, Counters, Lab, Mode, NetNs, Node, PacketSocket, PingOptions, cluster_yaml, ping,
    require_root,
};
use nix::net::if_::if_nametoindex;

const CASES: [(Mode, &str); 4] = [
    (Mode::None, ""),
    (Mode::Ipip, ""),
    (Mode::Vxlan, ""),
    (Mode::Vxlan, "xdp: native\n"),
];

/// The map of endpoints still has the old pod's address and the index of its interface.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_interface_index_that_is_reused_delivers_nothing_to_the_wrong_pod() -> Result<()> {
    require_root();
    for (mode, config) in CASES {
        let (mut lab, mut agents) = lab(mode, config)?;
        agents[0].process().kill()?;
        let node = lab.node_mut("node-0");
        let old = node.pod("p0").clone();
        let index = index_of(node, old.host_ifname())?;
        node.remove_pod("p0")?;
        let address = "10.244.0.77".parse()?;
        let other = node.add_pod_with_index("other", address, index)?.clone();
        assert_eq!(index_of(node, other.host_ifname())?, index);

        let wire = PacketSocket::open(other.ns(), "eth0")?;
        let before = Counters::read(lab.node("node-0"))?;
        let near = lab.pod("node-0", "p1").ns();
        let remote = lab.pod("node-1", "p0").ns();
        for (from, ns) in [("near", near), ("remote", remote)] {
            let report = ping(ns, old.address(), &PingOptions::default())?;
            assert!(report.is_silent(), "{mode}, {config}: {from}: {report:?}");
        }
        let octets = old.address().octets();
        let strays = wire.collect(Duration::from_millis(100))?;
        let strays: Vec<_> = strays
            .iter()
            .filter(|frame| frame.get(30..34) == Some(&octets))
            .collect();
        assert!(strays.is_empty(), "{mode}, {config}: {strays:?}");
        let counted = Counters::read(lab.node("node-0"))?.since(&before);
        for hook in ["from_workload", "from_uplink"] {
            let packets = counted.get(hook, "interface-gone").packets;
            assert!(packets >= 5, "{mode}, {config}: {hook}: {packets}");
        }

        agents[0] = Agent::restart(lab.node("node-0"), Build::Tested)?;
        lab.wait_resolved()?;
        reaches(lab.pod("node-1", "p0").ns(), &lab, "other")?;
    }
    Ok(())
}

/// A pod that is recreated is reached by the stack until an agent is back.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_pod_that_is_recreated_is_reached_without_an_agent_and_with_one() -> Result<()> {
    require_root();
    for (mode, config) in CASES {
        let (mut lab, mut agents) = lab(mode, config)?;
        agents[0].process().kill()?;
        let node = lab.node_mut("node-0");
        let old = node.pod("p0").clone();
        node.remove_pod("p0")?;
        let name = "again";
        let host_ifname = node
            .add_pod_at(name, old.address())?
            .host_ifname()
            .to_owned();
        // As Calico does, on whose nodes programs answer only sooner.
        let settings = format!("net.ipv4.conf.{host_ifname}");
        node.ns()
            .set_sysctl(&format!("{settings}.proxy_arp"), "1")?;
        let proxy_delay = format!("net.ipv4.neigh.{host_ifname}.proxy_delay");
        node.ns().set_sysctl(&proxy_delay, "0")?;
        node.ns()
            .exec("ip route replace default via 192.168.1.11")?;

        let remote = lab.pod("node-1", "p0").ns();
        let near = lab.pod("node-0", "p1").ns();
        for (from, ns) in [("near", near), ("remote", remote)] {
            let report = ping(ns, old.address(), &PingOptions::default())?;
            assert!(report.is_lossless(), "{mode}, {config}: {from}: {report:?}");
        }
        agents[0] = Agent::restart(lab.node("node-0"), Build::Tested)?;
        lab.wait_resolved()?;
        reaches(lab.pod("node-1", "p0").ns(), &lab, name)?;
    }
    Ok(())
}

/// An index that another interface gets while the agent runs.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn an_index_that_is_reused_under_an_agent_is_the_new_pods() -> Result<()> {
    require_root();
    let (mut lab, _agents) = lab(Mode::Vxlan, "")?;
    let node = lab.node_mut("node-0");
    let index = index_of(node, node.pod("p0").host_ifname())?;
    for turn in 0..5 {
        let name = if turn == 0 {
            "p0".to_owned()
        } else {
            format!("t{}", turn - 1)
        };
        let node = lab.node_mut("node-0");
        node.remove_pod(&name)?;
        let address = format!("10.244.0.{}", 50 + turn).parse()?;
        node.add_pod_with_index(&format!("t{turn}"), address, index)?;
        lab.wait_resolved()?;
        reaches(lab.pod("node-1", "p0").ns(), &lab, &format!("t{turn}"))?;
    }
    Ok(())
}

fn lab(mode: Mode, config: &str) -> Result<(Lab, Vec<Agent>)> {
    let lab = Lab::flat(2, 2)?;
    let cluster = cluster_yaml(&lab, mode.ipip_mode(), mode.vxlan_mode());
    let agents = lab
        .nodes()
        .iter()
        .map(|node| Agent::start(node, &(node.agent_config() + config), &cluster))
        .collect::<Result<_>>()?;
    lab.wait_resolved()?;
    Ok((lab, agents))
}

fn index_of(node: &Node, interface: &str) -> Result<u32> {
    node.ns()
        .run(|| if_nametoindex(interface).with_context(|| format!("find {interface}")))
}

/// Pings a pod of the first node without loss, by its programs.
fn reaches(from: &NetNs, lab: &Lab, pod: &str) -> Result<()> {
    let node = lab.node("node-0");
    let before = Counters::read(node)?;
    let report = ping(from, node.pod(pod).address(), &PingOptions::default())?;
    assert!(report.is_lossless(), "{pod}: {report:?}");
    let counted = Counters::read(node)?.since(&before);
    let by_programs: u64 = ["direct", "ipip", "vxlan"]
        .map(|mode| {
            counted
                .get("from_uplink", &format!("received-{mode}"))
                .packets
        })
        .iter()
        .sum();
    assert!(by_programs >= 5, "{pod}: {counted:?}");
    Ok(())
}

//! What others program into the nodes of a cluster carries pods' packets.

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{
    Agent, Carriage, Counters, Lab, Network, Node, NodeSpec, PingOptions,
    mirror::{State, routes, wait_for_route, wait_without_drift},
    ping, require_root, tcp_arrives_intact,
};

/// How many times pods ping one another.
const PINGS: u32 = 5;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn felix_vxlan() -> Result<()> {
    carries(Network::FelixVxlan)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn felix_vxlan_to_other_subnets() -> Result<()> {
    carries(Network::FelixVxlanCrossSubnet)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn bird_without_encapsulation() -> Result<()> {
    carries(Network::Bird)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn flannel_vxlan() -> Result<()> {
    carries(Network::FlannelVxlan)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn flannel_host_gw() -> Result<()> {
    carries_on(Network::FlannelHostGw, &Lab::flat(3, 1)?)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn kube_router_on_one_subnet() -> Result<()> {
    carries_on(Network::KubeRouter, &Lab::flat(3, 1)?)
}

#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_as_felix_uses_it() -> Result<()> {
    carries(Network::FelixIpip)
}

#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_as_felix_uses_it_to_other_subnets() -> Result<()> {
    carries(Network::FelixIpipCrossSubnet)
}

#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_as_bird_uses_it_to_other_subnets() -> Result<()> {
    carries(Network::BirdIpipCrossSubnet)
}

#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_as_flannel_uses_it() -> Result<()> {
    carries(Network::FlannelIpip)
}

#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_as_kube_router_uses_it() -> Result<()> {
    carries(Network::KubeRouter)
}

/// Two nodes on one subnet, and a third behind a router.
fn carries(network: Network) -> Result<()> {
    let node = |index: u8, address: &str| {
        let cidr = format!("10.244.{index}.0/24");
        NodeSpec::new(&format!("node-{index}"), address, &cidr).pods(1)
    };
    let lab = Lab::new(&[
        node(0, "192.168.1.10/24"),
        node(1, "192.168.1.11/24"),
        node(2, "192.168.2.10/24"),
    ])?;
    carries_on(network, &lab)
}

/// Pods on three nodes talk, of which the first and the last have underpass, as they do by the
/// kernel alone. It leaves no trace but its programs and their maps.
fn carries_on(network: Network, lab: &Lab) -> Result<()> {
    require_root();
    network.set_up(lab)?;
    let by_kernel = pairs(lab).map(|(from, to)| ping_pod(from, to));
    let by_kernel = by_kernel.collect::<Result<Vec<_>>>()?;
    let with = [&lab.nodes()[0], &lab.nodes()[2]];
    let is_with = |node: &Node| with.iter().any(|with| with.name() == node.name());
    let before = with
        .map(State::of)
        .into_iter()
        .collect::<Result<Vec<_>>>()?;
    let agents = with.map(Agent::mirror).into_iter();
    let agents = agents.collect::<Result<Vec<_>>>()?;

    for (node, peer) in pairs(lab).filter(|(node, _)| is_with(node)) {
        assert_listed(network, node, peer)?;
    }
    for ((from, to), reply_ttl) in pairs(lab).zip(by_kernel) {
        let counted = with.map(Counters::read).into_iter();
        let counted = counted.collect::<Result<Vec<_>>>()?;
        assert_eq!(ping_pod(from, to)?, reply_ttl, "the TTL of replies");
        for (node, before) in with.iter().zip(&counted) {
            let since = Counters::read(node)?.since(before);
            for (from, to) in [(from, to), (to, from)] {
                let word = network.carriage(from, to).word();
                if from.name() == node.name() {
                    assert_counted(&since, "from_workload", &format!("sent-{word}"));
                }
                let is_checked = network == Network::FlannelVxlan && !is_with(from);
                if to.name() == node.name() && is_checked {
                    // flannel's device sums what it sends, which the lab's devices do not verify.
                    assert_counted(&since, "from_uplink", "outer-checksum");
                } else if to.name() == node.name() {
                    assert_counted(&since, "from_uplink", &format!("received-{word}"));
                }
            }
        }
    }
    let [near, far] = with.map(|node| node.pod("p0"));
    tcp_arrives_intact(near.ns(), far.address(), far.ns(), 2_000_000)?;
    for (node, before) in with.iter().zip(&before) {
        wait_without_drift(node)?;
        assert_eq!(&State::of(node)?, before, "{}", node.name());
    }
    drop(agents);
    for (node, before) in with.iter().zip(&before) {
        let output = node.underpass(&["detach"])?;
        assert!(output.status.success(), "{output:?}");
        assert_eq!(&State::of(node)?, before, "{} detached", node.name());
        assert!(!node.pins().exists(), "{}", node.pins().display());
    }
    Ok(())
}

/// The way to `peer` is what the network has: its kind, and who is at its end and at its beginning.
fn assert_listed(network: Network, node: &Node, peer: &Node) -> Result<()> {
    let carriage = network.carriage(node, peer);
    let address = peer.address().addr();
    let neighbour = if node.address().contains(&address) {
        address
    } else {
        let router = node.address().hosts().next();
        router.context("the subnet has no addresses")?
    };
    let what = format!("{} by {neighbour} to {address}", carriage.word());
    wait_for_route(node, peer.pod("p0").address(), &what, |route| {
        route.is_some_and(|route| route.way.kind == carriage.word())
    })?;
    let listed = routes(node)?;
    let route = listed
        .iter()
        .find(|route| route.prefix == peer.pod_cidr())
        .with_context(|| format!("{}, in {listed:?}", peer.pod_cidr()))?;
    // Without a tunnel, nothing tells a node from the router before it.
    let is_at_its_end = carriage == Carriage::Direct || route.way.peer == Some(address);
    ensure!(
        is_at_its_end && route.gateways() == [neighbour].into(),
        "{what}: {route:?}"
    );
    Ok(())
}

/// Each packet one way of a ping has gone by the programs.
fn assert_counted(since: &Counters, hook: &str, reason: &str) {
    let packets = since.get(hook, reason).packets;
    assert_eq!(packets, u64::from(PINGS), "{hook} {reason}: {since:?}");
}

/// Every node with every other.
fn pairs(lab: &Lab) -> impl Iterator<Item = (&Node, &Node)> {
    let nodes = lab.nodes();
    let from_each = nodes
        .iter()
        .flat_map(|from| nodes.iter().map(move |to| (from, to)));
    from_each.filter(|(from, to)| from.name() != to.name())
}

/// Pings from pod to pod, without a loss, and returns the TTL of the replies.
fn ping_pod(from: &Node, to: &Node) -> Result<Option<u8>> {
    let (client, server) = (from.pod("p0"), to.pod("p0"));
    let options = PingOptions {
        count: PINGS,
        ..PingOptions::default()
    };
    let report = ping(client.ns(), server.address(), &options)?;
    ensure!(
        report.is_lossless(),
        "{} to {}: {report:?}",
        from.name(),
        to.name()
    );
    Ok(report.reply_ttl)
}

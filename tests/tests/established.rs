//! Beside netfilter a flow is carried once the stack has let it through both ways, and only while it
//! is seen again to do so.

use anyhow::Result;
use dataplane_tests::{
    Agent, Counters, Lab, Mode, Network, Node, Pod, TcpOptions, require_root, tcp_throughput,
};

/// Of a long flow nearly all is carried, in every mode, between nodes and on one.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_long_flow_is_carried() -> Result<()> {
    require_root();
    for (mode, word) in Mode::ON_ONE_SUBNET {
        let lab = Lab::flat(2, 2)?;
        let _agents = lab.start_established(mode)?;
        lab.wait_resolved()?;
        let (near, far) = (lab.node("node-0"), lab.node("node-1"));
        let (sent, received) = (format!("sent-{word}"), format!("received-{word}"));
        let remote = [("from_workload", &*sent), ("from_uplink", &*received)];
        stream(near.pod("p0"), far.pod("p0"), &[near, far], &remote)?;
        let local = [("from_workload", "delivered-local")];
        stream(near.pod("p0"), near.pod("p1"), &[near], &local)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_vxlan_device_has_the_rest() -> Result<()> {
    has_the_rest(Network::FelixVxlan, "vxlan")
}

#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_has_the_rest() -> Result<()> {
    has_the_rest(Network::FelixIpip, "ipip")
}

/// What is not carried yet goes by the kernel's own tunnel device, and is known by what is in it, with
/// underpass on both nodes, and with the kernel alone on the other.
fn has_the_rest(network: Network, word: &str) -> Result<()> {
    require_root();
    for with in [2, 1] {
        let lab = Lab::flat(2, 1)?;
        network.set_up(&lab)?;
        let nodes: Vec<&Node> = lab.nodes().iter().take(with).collect();
        let agents = nodes
            .iter()
            .map(|node| Agent::mirror_beside_netfilter(node));
        let _agents = agents.collect::<Result<Vec<_>>>()?;
        let (sent, received) = (format!("sent-{word}"), format!("received-{word}"));
        let by = [("from_workload", &*sent), ("from_uplink", &*received)];
        let (near, far) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
        stream(near, far, &nodes, &by)?;
    }
    Ok(())
}

/// One TCP stream, of which these nodes carry nearly all, by these hooks and for these reasons.
fn stream(client: &Pod, server: &Pod, nodes: &[&Node], by: &[(&str, &str)]) -> Result<()> {
    let read = || -> Result<Vec<_>> { nodes.iter().map(|node| Counters::read(node)).collect() };
    let before = read()?;
    let options = TcpOptions::default();
    tcp_throughput(server.ns(), client.ns(), server.address(), 1, &options)?;
    let after = read()?;
    for ((node, before), after) in nodes.iter().zip(before).zip(after) {
        let counted = after.since(&before);
        for (hook, carried) in by {
            let carried = counted.get(hook, carried).packets;
            let left = ["handshake", "not-established", "reverify"];
            let left: u64 = left.map(|why| counted.get(hook, why).packets).iter().sum();
            println!("{} {hook}: {carried} carried, {left} left", node.name());
            assert!(
                carried > 20 * left,
                "{} {hook}: {carried} of {left}",
                node.name()
            );
        }
    }
    Ok(())
}

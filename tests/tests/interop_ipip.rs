//! A node with underpass and a node with the kernel's own IPIP device talk: `node-0` runs the agent,
//! `node-1` has what Felix and BIRD program into a kernel.
//!
//! Where the kernel has no such device these tests are not run, which `cargo xtask test` says; they
//! run on the kernels of `cargo xtask kernels`.

use anyhow::Result;
use dataplane_tests::{
    Agent, Counters, Lab, PingOptions,
    calico::{be_a_calico_node, route_by_ipip, route_plainly},
    cluster_yaml,
    paths::{assert_tcp, assert_whole, every_path_works, narrow, tcp_stays_whole},
    ping, require_root,
};

#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_is_understood_both_ways() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let _agent = beside_an_ipip_node(&lab)?;

    every_path_works(&lab)?;
    tcp_stays_whole(&lab, "ipip")?;
    let counted = Counters::read(lab.node("node-0"))?;
    for (hook, reason) in [
        ("from_stack", "sent-ipip"),
        ("from_uplink", "for-host"),
        ("from_carrier", "accepted"),
    ] {
        assert!(
            counted.get(hook, reason).packets > 0,
            "{reason}: {counted:?}"
        );
    }
    Ok(())
}

#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_behind_a_router_is_understood_both_ways() -> Result<()> {
    require_root();
    let lab = Lab::routed(2, 1)?;
    let _agent = beside_an_ipip_node(&lab)?;
    every_path_works(&lab)?;
    tcp_stays_whole(&lab, "ipip")
}

/// The host's own TCP, over the carrier on one side and over `tunl0` on the other.
#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_takes_the_hosts_tcp_both_ways() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let _agent = beside_an_ipip_node(&lab)?;
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    let before = Counters::read(ours)?;
    assert_tcp(ours.ns(), theirs.pod("p0"))?;
    assert_tcp(theirs.ns(), ours.pod("p0"))?;
    let since = Counters::read(ours)?.since(&before);
    assert_whole(since.get("from_stack", "sent-ipip"), "sent-ipip");
    assert_whole(since.get("from_uplink", "received-ipip"), "received-ipip");
    Ok(())
}

#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_is_told_of_packets_that_are_too_big() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let _agent = beside_an_ipip_node(&lab)?;
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    let (near, far) = (ours.pod("p0"), theirs.pod("p0"));
    narrow(ours, near)?;
    let send = |length: u16, dont_fragment| {
        let options = PingOptions {
            count: 2,
            payload: length - 28,
            dont_fragment,
            ..PingOptions::default()
        };
        ping(far.ns(), near.address(), &options)
    };
    assert!(send(1450, false)?.is_lossless(), "in fragments");
    assert!(send(1400, true)?.is_lossless(), "what fits");
    let report = send(1401, true)?;
    let told = format!("From {} icmp_seq=1", ours.tunnel_address());
    assert!(
        report.is_silent()
            && report.errors[0].starts_with(&told)
            && report.errors[0].contains("mtu = 1400"),
        "{report:?}"
    );
    far.ns().exec("ip route flush cache")?;
    assert_tcp(far.ns(), near)
}

/// With `CrossSubnet` the nodes may differ on whether to encapsulate, and still talk.
#[test]
#[ignore = "needs root, BPF and the kernel's ipip device: cargo xtask kernels"]
fn the_kernels_ipip_device_on_one_side_only_is_understood() -> Result<()> {
    require_root();
    let lab = Lab::flat(2, 1)?;
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    be_a_calico_node(theirs)?;
    route_plainly(theirs, ours)?;
    theirs.ns().exec("ip link set tunl0 mtu 1480 up")?;
    let cluster = cluster_yaml(&lab, "Always", "Never");
    let _agent = Agent::start(ours, &ours.agent_config(), &cluster)?;
    ours.wait_resolved()?;
    let (near, far) = (ours.pod("p0"), theirs.pod("p0"));
    for (from, to) in [(near, far), (far, near)] {
        let report = ping(from.ns(), to.address(), &PingOptions::default())?;
        assert!(report.is_lossless(), "from {}: {report:?}", from.address());
        assert_tcp(from.ns(), to)?;
    }
    let counted = Counters::read(ours)?;
    assert_whole(counted.get("from_workload", "sent-ipip"), "sent-ipip");
    // What we would not answer so, the stack judges by its reverse-path filter.
    let by_stack = "source-outside";
    assert_whole(counted.get("from_uplink", by_stack), by_stack);
    Ok(())
}

/// Makes `node-1` a node with the kernel's IPIP device, and `node-0` one with underpass.
fn beside_an_ipip_node(lab: &Lab) -> Result<Agent> {
    let (ours, theirs) = (lab.node("node-0"), lab.node("node-1"));
    be_a_calico_node(theirs)?;
    route_by_ipip(theirs, ours)?;
    let cluster = cluster_yaml(lab, "Always", "Never");
    let agent = Agent::start(ours, &ours.agent_config(), &cluster)?;
    ours.wait_resolved()?;
    Ok(agent)
}

//! A node without a carrier: the table of cases, with the kernel's own tunnel devices for what the
//! programs leave.

use anyhow::Result;
use dataplane_tests::{
    Agent, Counters, Lab, Mode,
    calico::{self, Remote, Way},
    cases::{self, Bench, Kernel, Played, World, play_without_carrier},
    cluster_yaml_by_node,
    paths::all_arrives,
    programs::Programs,
    relay, require_root, take_carrier,
};

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn every_case_without_encapsulation() -> Result<()> {
    play(Mode::None)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_ipip_device_treats_what_the_programs_leave() -> Result<()> {
    play(Mode::Ipip)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_vxlan_device_treats_what_the_programs_leave() -> Result<()> {
    play(Mode::Vxlan)
}

fn play(mode: Mode) -> Result<()> {
    require_root();
    let kernel = Kernel::running()?;
    let mut failed = Vec::new();
    for (way, bench) in [
        ("traffic control", Bench::without_carrier(mode)?),
        ("XDP", Bench::without_carrier_with_xdp(mode)?),
    ] {
        for case in cases::table(World { mode, kernel }) {
            if matches!(case.played, Played::OnlyRun { .. }) {
                continue;
            }
            let outcome = play_without_carrier(&bench, &case)?;
            if !outcome.is_empty() {
                println!("{} {}\n{}", case.name, case.title, outcome.join("\n"));
                failed.push(format!("{} by {way}", case.name));
            }
        }
    }
    assert!(failed.is_empty(), "failed: {failed:?}");
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_ipip_device_sends_on_what_came_in_a_tunnel() -> Result<()> {
    for way_in in [Mode::Ipip, Mode::Vxlan] {
        sends_on(way_in, Way::Ipip)?;
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn the_kernels_vxlan_device_sends_on_what_came_in_a_tunnel() -> Result<()> {
    for way_in in [Mode::Ipip, Mode::Vxlan] {
        sends_on(way_in, Way::Vxlan)?;
    }
    Ok(())
}

/// A pod on the node without a carrier sends on, in its own name, what comes from one node, to
/// another. Its aggregates the kernel takes to be in their first tunnel still.
fn sends_on(way_in: Mode, way_out: Way) -> Result<()> {
    require_root();
    let lab = Lab::flat(3, 1)?;
    let onwards = match way_out {
        Way::Plain => Mode::None,
        Way::Ipip => Mode::Ipip,
        Way::Vxlan => Mode::Vxlan,
    };
    let cluster = cluster_yaml_by_node(&lab, &[onwards, way_in, onwards]);
    let mut agents: Vec<Agent> = lab.start_agents_with(&cluster)?;
    lab.wait_resolved()?;
    let between = lab.node("node-1");
    take_carrier(between, agents.remove(1))?;
    match way_out {
        Way::Plain => {}
        Way::Ipip => calico::add_ipip(between)?,
        Way::Vxlan => calico::add_vxlan(between, "noudpcsum")?,
    }
    // Kernels that do not forget tunnels have it open what XDP did not: aggregated UDP.
    if way_in == Mode::Vxlan && way_out != Way::Vxlan {
        calico::add_vxlan(between, "noudpcsum")?;
    }
    for remote in ["node-0", "node-2"].map(|name| Remote::from(lab.node(name))) {
        if way_out == Way::Vxlan {
            calico::meet_by_vxlan(between, &remote)?;
        }
        calico::route(between, way_out, remote.block, &remote)?;
    }
    let (client, router) = (lab.pod("node-0", "p0"), lab.pod("node-1", "p0"));
    let target = lab.pod("node-2", "p0");
    relay(router.ns(), router.address(), target.address())?;
    let before = Counters::read(between)?;
    all_arrives(client.ns(), router.address(), target.ns())?;
    let since = Counters::read(between)?.since(&before);
    let forgets = Programs::load(between)?.forgets_tunnels();
    let left = since.get("from_workload", "no-carrier").packets;
    assert_eq!(left == 0, forgets, "{left} aggregates left to the stack");
    Ok(())
}

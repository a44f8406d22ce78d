//! What a packet costs the node that sends it by VXLAN when there are many routes, and it may be for
//! any of them.

use std::{
    fmt::Write as _,
    net::{Ipv4Addr, SocketAddrV4, UdpSocket},
    time::Duration,
};

use crate::{Agent, Carriage, Lab, Mode, PingOptions, Sink, cluster_yaml, ping, two_processors};
use anyhow::{Context as _, Result, ensure};

use super::{
    Plan, Way,
    results::ByRoutes,
    scenes::{self, Acceleration},
};

/// The first address of blocks of pods, which are /26 as Calico's.
const FIRST: u32 = 11 << 24;
const BLOCK: u32 = 64;

/// How many destinations are drawn from them.
const DESTINATIONS: usize = 1 << 16;

/// How long an agent may take to read its routes.
const PATIENCE: Duration = Duration::from_mins(2);

/// Measures both ways with so many routes, in rounds that take turns.
pub(crate) fn measure(plan: &Plan, routes: u32) -> Result<[ByRoutes; 2]> {
    let kernel = scenes::lab(Carriage::Vxlan)?;
    scenes::network(Carriage::Vxlan).set_up(&kernel)?;
    let far = kernel.node("node-1").tunnel_address();
    let mut commands = String::new();
    for block in blocks(routes) {
        let _ = writeln!(
            commands,
            "route add {block} via {far} dev vxlan.calico onlink"
        );
    }
    let ip = kernel.node("node-0").ns().command("ip");
    ip.args(["-batch", "-"]).input(&commands)?.run()?;

    let ours = scenes::lab(Carriage::Vxlan)?;
    let _agent = agent(&ours, routes)?;
    ours.node("node-0").wait_resolved()?;

    let to = destinations(routes);
    let [mut by_kernel, mut by_underpass] = [
        Way::Kernel(Carriage::Vxlan),
        Way::Underpass(Carriage::Vxlan, Acceleration::All),
    ]
    .map(|way| ByRoutes {
        way,
        routes,
        values: Vec::new(),
    });
    for _ in 0..plan.rounds {
        let generator = from_pod(plan, &kernel, &to, |lab| {
            let node = lab.node("node-0");
            Sink::behind(node.ns(), node.pod("p0").host_ifname())
        })?;
        for (lab, of) in [(&kernel, &mut by_kernel), (&ours, &mut by_underpass)] {
            let sent = from_pod(plan, lab, &to, |lab| {
                Sink::at_wire(lab.node("node-0").ns(), "eth0")
            })?;
            of.values.push(sent - generator);
        }
    }
    Ok([by_kernel, by_underpass])
}

/// Nanoseconds for each packet of a flood from a pod that has come to its end.
fn from_pod(
    plan: &Plan,
    lab: &Lab,
    to: &[SocketAddrV4],
    sink: impl FnOnce(&Lab) -> Result<Sink>,
) -> Result<f64> {
    let (near, far) = (lab.node("node-0"), lab.node("node-1"));
    let there = ping(near.ns(), far.address().addr(), &PingOptions::default())?;
    ensure!(
        there.is_lossless(),
        "the nodes do not reach each other: {there:?}"
    );
    let pod = near.pod("p0").ns();
    let socket = pod.run(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?))?;
    // The pod's neighbour is its gateway, whom it has to know, too.
    ping(pod, near.address().addr(), &PingOptions::default())?;
    let processor = two_processors().map(|(client, _)| client);
    Ok(1e9 / sink(lab)?.flooded(&socket, to, plan.flood, processor)?)
}

/// An agent of the first node, whose cluster file has the routes besides.
fn agent(lab: &Lab, routes: u32) -> Result<Agent> {
    let mode = Mode::Vxlan;
    let mut cluster = cluster_yaml(lab, mode.ipip_mode(), mode.vxlan_mode());
    let last = (FIRST + routes * BLOCK - 1) >> 24;
    let mut pools = "pools:\n".to_owned();
    for octet in FIRST >> 24..=last {
        let _ = writeln!(pools, "  - {{cidr: {octet}.0.0.0/8, vxlanMode: Always}}");
    }
    cluster = cluster.replacen("pools:\n", &pools, 1) + "routes:\n";
    for block in blocks(routes) {
        let _ = writeln!(cluster, "- {{cidr: {block}, node: node-1}}");
    }
    let node = lab.node("node-0");
    let mut agent = Agent::spawn(node, &node.agent_config(), &cluster)?;
    let in_sync = agent.process().wait_for_line("in sync", PATIENCE);
    in_sync.with_context(|| format!("start an agent with {routes} routes"))?;
    Ok(agent)
}

fn blocks(routes: u32) -> impl Iterator<Item = String> {
    (0..routes).map(|block| format!("{}/26", Ipv4Addr::from(FIRST + block * BLOCK)))
}

/// Addresses of blocks that are drawn at random, the same in every run.
fn destinations(routes: u32) -> Vec<SocketAddrV4> {
    let mut random = fastrand::Rng::with_seed(routes.into());
    let mut draw = || Ipv4Addr::from(FIRST + random.u32(0..routes * BLOCK));
    (0..DESTINATIONS)
        .map(|_| SocketAddrV4::new(draw(), 9))
        .collect()
}

//! Pods that leave the pools are masqueraded, also where a route leads that underpass knows.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use dataplane_tests::{
    Lab, NodeSpec, Talk,
    netfilter::{Acceleration, Backend, Routes, Scene, felix},
    require_root,
};

/// Of no pool, behind the other node.
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 5);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn who_leaves_the_pools_is_masqueraded() -> Result<()> {
    require_root();
    for backend in Backend::ALL {
        for acceleration in [Acceleration::Off, Acceleration::USUAL] {
            leaves(acceleration, backend)?;
        }
    }
    Ok(())
}

fn leaves(acceleration: Acceleration, backend: Backend) -> Result<()> {
    let specs = [0, 1].map(|node| {
        let (address, pods) = (
            format!("192.168.1.{}/24", 10 + node),
            format!("10.244.{node}.0/24"),
        );
        NodeSpec::new(&format!("node-{node}"), &address, &pods).pods(1)
    });
    let mut lab = Lab::new(&specs)?;
    lab.node_mut("node-1").add_pod_at("outside", OUTSIDE)?;
    let mut scene = Scene::without_agents(acceleration, Routes::Kernel, backend, lab)?;
    let (node, peer) = (scene.lab.node("node-0"), scene.lab.node("node-1"));
    node.ns().exec(&format!(
        "ip route add {OUTSIDE}/32 via {} dev vxlan.calico onlink",
        peer.tunnel_address()
    ))?;
    // Whoever is outside masquerades nobody.
    scene
        .felix(1)
        .withdraw(felix::MASQUERADED, felix::POOL.parse()?)?;
    scene.attach()?;
    let (client, server) = (scene.pod(0, "p0"), scene.pod(1, "outside"));
    let node = scene.lab.node("node-0");
    let mut talks = [
        Talk::tcp(client, server, (4000, 8080))?,
        Talk::udp(client, server, (4000, 8080))?,
    ];
    for talk in &mut talks {
        talk.rounds(200)?;
        let from = talk.seen_from()?;
        ensure!(
            *from.ip() == node.tunnel_address(),
            "{acceleration}, {backend}: the server sees {from}"
        );
    }
    // Where the addresses are translated, nothing is carried.
    assert_eq!(scene.carried_on(0)?, 0, "{backend}");
    let invalid = scene.invalid()?;
    assert_eq!(invalid, 0, "{acceleration}, {backend}");
    Ok(())
}

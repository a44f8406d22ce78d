//! What a policy allows is carried past the stack, and connection tracking looks as it does without.

use anyhow::{Context as _, Result};
use dataplane_tests::{
    PingOptions, Pinging, Pod, Talk,
    netfilter::{
        Acceleration, Backend, Routes, Scene,
        felix::{Allow, Policy},
    },
    require_root,
};
use ipnet::Ipv4Net;

const PORT: u16 = 8080;

/// The set of those who may ask.
const CLIENTS: &str = "s:clients";

/// Messages there and back, once a talk is carried.
const ROUNDS: u64 = 500;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_iptables_legacy_it_is_carried() -> Result<()> {
    is_carried(Routes::Kernel, Backend::IptablesLegacy)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_iptables_nft_it_is_carried() -> Result<()> {
    is_carried(Routes::Plain, Backend::IptablesNft)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_nft_it_is_carried() -> Result<()> {
    is_carried(Routes::Kernel, Backend::Nft)
}

/// The carrier's packets pass netfilter as well.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn with_a_carrier_it_is_carried() -> Result<()> {
    require_root();
    observe(Acceleration::USUAL, Routes::File, Backend::Nft)?;
    Ok(())
}

fn is_carried(routes: Routes, backend: Backend) -> Result<()> {
    require_root();
    let off = observe(Acceleration::Off, routes, backend)?;
    let on = observe(Acceleration::USUAL, routes, backend)?;
    assert_eq!(on.tracked, off.tracked, "{backend}");
    assert!(
        on.invalid <= off.invalid,
        "{backend}: {} invalid, {} without underpass",
        on.invalid,
        off.invalid
    );
    Ok(())
}

/// What a node's connection tracking says in the end.
struct Observed {
    tracked: Vec<String>,
    invalid: u64,
}

fn observe(acceleration: Acceleration, routes: Routes, backend: Backend) -> Result<Observed> {
    let mut scene = Scene::start(acceleration, routes, backend, 2)?;
    let client = scene.pod(0, "p0").clone();
    let servers = [scene.pod(0, "p1").clone(), scene.pod(1, "p0").clone()];
    for (node, server) in servers.iter().enumerate() {
        let felix = scene.felix(node);
        felix.add_set(CLIENTS, &[Ipv4Net::from(client.address())])?;
        let from_clients = |allow: Allow| allow.from_set(CLIENTS);
        let rules = [
            Allow::to_port("tcp", PORT),
            Allow::to_port("udp", PORT),
            Allow::protocol("icmp"),
        ];
        felix.apply(server, &Policy::only_in(&rules.map(from_clients)))?;
    }
    let mut tracked = Vec::new();
    for (nodes, server) in (1..).zip(&servers) {
        let what = format!("{acceleration}, {backend}, to {}", server.address());
        tracked.extend(talks(&scene, &client, server, nodes).context(what)?);
    }
    Ok(Observed {
        tracked,
        invalid: scene.invalid()?,
    })
}

/// Talks by every protocol, on a path across so many nodes; returns what is tracked meanwhile.
fn talks(scene: &Scene, client: &Pod, server: &Pod, nodes: u64) -> Result<Vec<String>> {
    let mut tcp = Talk::tcp(client, server, (0, PORT))?;
    let mut udp = Talk::udp(client, server, (0, PORT))?;
    for talk in [&mut tcp, &mut udp] {
        scene.until_carried(|| talk.rounds(10))?;
        let before = scene.carried()?;
        talk.rounds(ROUNDS)?;
        let carried = scene.carried()? - before;
        if scene.is_accelerated() {
            // One in a period goes by the stack; an acknowledgement may come by itself.
            let packets = 2 * ROUNDS * nodes;
            assert!(carried * 10 > packets * 9, "{carried} of {packets} carried");
        }
    }
    let pings = Pinging::start(client.ns(), server.address(), &PingOptions::default())?;
    scene.until_carried(|| Ok(()))?;
    assert!(pings.stop()?.is_lossless());
    scene.states(client, server)
}

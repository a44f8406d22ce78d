//! What a policy denies is never delivered, whatever was allowed before.

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Ip, Pod, Talk, eventually,
    netfilter::{
        Acceleration, Backend, Routes, Scene,
        felix::{Allow, Policy},
    },
    require_root,
};
use ipnet::Ipv4Net;

use crate::probe::{FENCE, attempts, delivered};

const PORT: u16 = 8080;

/// The port that all clients here have.
const CLIENT_PORT: u16 = 4000;

/// The set of those who may ask.
const CLIENTS: &str = "s:clients";

/// How often the stack is asked again.
const ACCELERATION: Acceleration = Acceleration::Established("1s");

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_iptables_legacy_nothing_arrives() -> Result<()> {
    nothing_arrives(Backend::IptablesLegacy)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_iptables_nft_nothing_arrives() -> Result<()> {
    nothing_arrives(Backend::IptablesNft)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_nft_nothing_arrives() -> Result<()> {
    nothing_arrives(Backend::Nft)
}

fn nothing_arrives(backend: Backend) -> Result<()> {
    require_root();
    for acceleration in [Acceleration::Off, ACCELERATION] {
        let mut scene = Scene::start(acceleration, Routes::Kernel, backend, 3)?;
        for node in 0..2 {
            let what = format!("{acceleration}, {backend}, on node {node}");
            let server = scene.pod(node, "p1").clone();
            let client = scene.pod(0, "p0").clone();
            let felix = scene.felix(node);
            felix.add_set(CLIENTS, &[Ipv4Net::from(client.address())])?;
            felix.apply(&server, &policy(true))?;
            never_allowed(&scene, &client, &server).context(what.clone())?;
            the_other_way(&mut scene, &client, &server).context(what.clone())?;
            tcp_that_was_allowed(&mut scene, node, &client, &server).context(what.clone())?;
            udp_that_was_allowed(&mut scene, node, &client, &server).context(what)?;
        }
    }
    Ok(())
}

/// What holds for servers: clients may come to their port, or not any more.
fn policy(clients_may: bool) -> Policy {
    let mut rules = vec![Allow::to_port("udp", FENCE)];
    if clients_may {
        let protocols = [Allow::to_port("tcp", PORT), Allow::to_port("udp", PORT)];
        rules.extend(protocols.map(|allow| allow.from_set(CLIENTS)));
        rules.push(Allow::protocol("icmp").from_set(CLIENTS));
    }
    Policy::only_in(&rules)
}

/// One who is in no set, and one who is, to another port.
fn never_allowed(scene: &Scene, client: &Pod, server: &Pod) -> Result<()> {
    let stranger = scene.pod(0, "p2");
    for (from, port) in [(stranger, PORT), (client, PORT + 1)] {
        let before = scene.dropped()?;
        let mut packets = attempts(from, server, (CLIENT_PORT, port));
        if from.address() == stranger.address() {
            let ip = Ip::new(from.address(), server.address());
            packets.push(ip.echo_request(7, 1, b"ping"));
        }
        assert_eq!(delivered(from, server, &packets)?, 0, "to port {port}");
        assert!(scene.dropped()? - before >= packets.len() as u64);
    }
    Ok(())
}

/// Echo that is allowed one way is not the other way, with the same identifier.
fn the_other_way(scene: &mut Scene, client: &Pod, server: &Pod) -> Result<()> {
    scene.felix(0).apply(client, &policy(false))?;
    let echo = |number| Ip::new(client.address(), server.address()).echo_request(7, number, b"x");
    scene.until_carried(|| {
        let requests: Vec<_> = (0..10).map(echo).collect();
        assert_eq!(delivered(client, server, &requests)?, requests.len());
        Ok(())
    })?;
    let back = |number| Ip::new(server.address(), client.address()).echo_request(7, number, b"x");
    let requests: Vec<_> = (0..20).map(back).collect();
    assert_eq!(
        delivered(server, client, &requests)?,
        0,
        "echo the other way"
    );
    Ok(())
}

fn tcp_that_was_allowed(scene: &mut Scene, node: usize, client: &Pod, server: &Pod) -> Result<()> {
    let mut talk = Talk::tcp(client, server, (CLIENT_PORT, PORT)).context("allowed")?;
    scene.until_carried(|| talk.rounds(10))?;
    talk.close()?;
    scene.felix(node).apply(server, &policy(false))?;
    // First of all one that begins a connection, of which the stack forgets the one before.
    let packets = attempts(client, server, (CLIENT_PORT, PORT));
    let tcp: Vec<_> = packets
        .into_iter()
        .filter(|packet| packet[9] == 6)
        .collect();
    assert_eq!(delivered(client, server, &tcp)?, 0, "TCP");
    scene.felix(node).apply(server, &policy(true))
}

/// The socket's own and others of the same ports, once the period is over.
fn udp_that_was_allowed(scene: &mut Scene, node: usize, client: &Pod, server: &Pod) -> Result<()> {
    let mut talk = Talk::udp(client, server, (CLIENT_PORT, PORT))?;
    scene.until_carried(|| talk.rounds(10))?;
    scene.felix(node).apply(server, &policy(false))?;
    scene.forget_connections(server.address())?;
    let dropped = scene.dropped()?;
    eventually("UDP that was allowed is denied", || {
        Ok(talk.try_there(1)? == 0 && scene.dropped()? > dropped)
    })?;
    let packets = attempts(client, server, (CLIENT_PORT, PORT));
    assert_eq!(delivered(client, server, &packets)?, 0, "UDP");
    Ok(())
}

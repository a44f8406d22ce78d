//! Permission that is withdrawn while something goes on.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{
    Arrival, Exchange, Pod, Talk, eventually,
    netfilter::{
        Acceleration, Backend, Routes, Scene,
        felix::{Access, Allow, Policy},
    },
    require_root,
};
use ipnet::Ipv4Net;

const PORT: u16 = 8080;

/// The set of those who may ask.
const CLIENTS: &str = "s:clients";

/// How often the stack is asked again where nobody tells that rules have changed.
const PERIOD: Duration = Duration::from_millis(500);

const BY_PERIOD: Acceleration = Acceleration::Established("500ms");

/// So long that within [`SOON`] only word of a change can bring it about.
const BY_WORD: Acceleration = Acceleration::Established("10s");

const SOON: Duration = Duration::from_secs(5);

/// Packets that the stack has to have dropped while none was carried, to say that it is over.
const DROPPED: u64 = 1000;

/// How long a packet may be on its way through the stack, where rules are replaced behind it.
const UNDER_WAY: Duration = Duration::from_millis(100);

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn default_deny_under_load_holds_within_the_period() -> Result<()> {
    require_root();
    for backend in Backend::ALL {
        let scene = &mut Scene::start(BY_PERIOD, Routes::Kernel, backend, 2)?;
        for node in 0..2 {
            let what = format!("{backend}, on node {node}");
            default_deny(scene, node).context(what)?;
        }
    }
    Ok(())
}

/// nft and iptables-nft write by netlink, which tells.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_rule_that_the_kernel_tells_of_holds_at_once() -> Result<()> {
    require_root();
    for backend in [Backend::IptablesNft, Backend::Nft] {
        let scene = &mut Scene::start(BY_WORD, Routes::Kernel, backend, 2)?;
        for node in 0..2 {
            let (client, server) = (scene.pod(0, "p0").clone(), scene.pod(node, "p1").clone());
            let exchange = under_load(scene, &client, &server)?;
            scene.felix(node).block(server.address())?;
            ends_within(scene, node, exchange, SOON)
                .with_context(|| format!("{backend}, on node {node}"))?;
        }
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn who_is_taken_out_of_a_set_is_denied() -> Result<()> {
    require_root();
    for backend in Backend::ALL {
        for acceleration in [Acceleration::Off, BY_PERIOD] {
            let scene = &mut Scene::start(acceleration, Routes::Kernel, backend, 2)?;
            for node in 0..2 {
                let what = format!("{acceleration}, {backend}, on node {node}");
                taken_out_of_a_set(scene, node).context(what)?;
            }
        }
    }
    Ok(())
}

/// Felix lets go on what is established; whoever wants it ended has the connection forgotten.
fn default_deny(scene: &mut Scene, node: usize) -> Result<()> {
    let (client, server) = (scene.pod(0, "p0").clone(), scene.pod(node, "p1").clone());
    let exchange = under_load(scene, &client, &server)?;
    // In either direction: else an answer that is under way begins another connection.
    let nothing = Policy {
        ingress: Access::Only(Vec::new()),
        egress: Access::Only(Vec::new()),
    };
    scene.felix(node).apply(&server, &nothing)?;
    scene.forget_connections(server.address())?;
    ends_within(scene, node, exchange, PERIOD + UNDER_WAY)
}

/// Waits until what was to be withdrawn on a node by now is: nothing may have arrived that was sent later than
/// so long after now.
fn ends_within(scene: &Scene, node: usize, exchange: Exchange, time: Duration) -> Result<()> {
    let last = exchange.begun().elapsed() + time;
    is_over(scene, node)?;
    let report = exchange.stop()?;
    let sent = |arrival: &&Arrival| report.sent[arrival.number as usize];
    let late = report.there.iter().filter(|arrival| sent(arrival) > last);
    let late = late.count();
    ensure!(late == 0, "{late} datagrams arrived that were sent later");
    Ok(())
}

fn taken_out_of_a_set(scene: &mut Scene, node: usize) -> Result<()> {
    let (client, server) = (scene.pod(0, "p0").clone(), scene.pod(node, "p1").clone());
    let felix = scene.felix(node);
    felix.add_set(CLIENTS, &[Ipv4Net::from(client.address())])?;
    let rule = Allow::to_port("udp", PORT).from_set(CLIENTS);
    felix.apply(&server, &Policy::only_in(&[rule]))?;
    let mut talk = Talk::udp(&client, &server, (0, PORT))?;
    scene.until_carried(|| talk.rounds(10))?;
    // What is carried does not have it tracked again in between.
    scene.forget_connections(server.address())?;
    scene
        .felix(node)
        .withdraw(CLIENTS, client.address().into())?;
    let dropped = scene.dropped()?;
    eventually("its datagrams do not arrive", || {
        Ok(talk.try_there(1)? == 0 && scene.dropped()? > dropped)
    })?;
    assert_eq!(talk.try_there(5)?, 0);
    let before = scene.dropped()?;
    talk = Talk::udp(&client, &server, (0, PORT))?;
    assert_eq!(talk.try_there(2)?, 0, "by another port");
    assert!(scene.dropped()? >= before + 2);
    Ok(())
}

/// Starts an exchange, and waits until it is carried.
fn under_load(scene: &Scene, client: &Pod, server: &Pod) -> Result<Exchange> {
    let exchange = Exchange::start(client.ns(), server.ns(), server.address())?;
    scene.until_carried(|| Ok(()))?;
    Ok(exchange)
}

/// Waits until a node carries no packet while its stack drops some.
fn is_over(scene: &Scene, node: usize) -> Result<()> {
    eventually("what is denied is not carried", || {
        let (before, dropped) = (scene.carried_on(node)?, scene.dropped()?);
        eventually("the stack drops packets", || {
            Ok(scene.dropped()? >= dropped + DROPPED)
        })?;
        Ok(scene.carried_on(node)? == before)
    })
}

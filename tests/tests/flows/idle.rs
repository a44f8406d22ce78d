//! Connections that connection tracking would forget if it saw nothing of them.

use anyhow::{Result, ensure};
use dataplane_tests::{
    Talk, eventually,
    netfilter::{Backend, Routes, Scene},
};

use crate::compare::with_and_without;

/// How long the kernel keeps what is to be kept, in seconds: less than what is waited for.
const SHORT: &str = "3";

/// How long what is waited for is kept, in seconds.
const LONG: u32 = 5;

/// The kernel gives a connection five minutes where it has seen data, but nobody acknowledge it; of
/// one that is carried it has not.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn idle_tcp_is_remembered() -> Result<()> {
    let setting = (Routes::Kernel, Backend::IptablesLegacy);
    with_and_without("500ms", setting, 2, |scene| {
        scene.set_sysctl(
            "net.netfilter.nf_conntrack_tcp_timeout_unacknowledged",
            SHORT,
        )?;
        let (client, server) = (scene.pod(0, "p0"), scene.pod(1, "p0"));
        let mut talk = Talk::tcp(client, server, (0, 8080))?;
        scene.until_carried(|| talk.rounds(100))?;
        talk.rounds(1000)?;
        let waiting = Waiting::begin(scene)?;
        let before = ids(scene)?;
        waiting.end(|| Ok(()))?;
        ensure!(ids(scene)? == before, "it was forgotten");
        talk.rounds(100)?;
        let tracked = scene.states(client, server)?;
        talk.close()?;
        Ok(tracked)
    })
}

/// Debian's time-outs, made shorter.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn udp_that_goes_on_is_remembered() -> Result<()> {
    with_and_without("500ms", (Routes::Kernel, Backend::Nft), 2, |scene| {
        for which in ["timeout", "timeout_stream"] {
            scene.set_sysctl(&format!("net.netfilter.nf_conntrack_udp_{which}"), SHORT)?;
        }
        let (client, server) = (scene.pod(0, "p0"), scene.pod(1, "p0"));
        let mut talk = Talk::udp(client, server, (0, 8080))?;
        scene.until_carried(|| talk.rounds(10))?;
        let before = ids(scene)?;
        Waiting::begin(scene)?.end(|| talk.rounds(10))?;
        ensure!(ids(scene)? == before, "it was forgotten");
        scene.states(client, server)
    })
}

/// The client sends no more, the server goes on.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn half_closed_tcp_goes_on() -> Result<()> {
    let setting = (Routes::Kernel, Backend::IptablesNft);
    with_and_without("500ms", setting, 2, |scene| {
        for state in ["close_wait", "fin_wait"] {
            scene.set_sysctl(
                &format!("net.netfilter.nf_conntrack_tcp_timeout_{state}"),
                SHORT,
            )?;
        }
        let (client, server) = (scene.pod(0, "p0"), scene.pod(1, "p0"));
        let mut talk = Talk::tcp(client, server, (0, 8080))?;
        scene.until_carried(|| talk.rounds(100))?;
        talk.half_close()?;
        scene.until_carried(|| talk.back(100))?;
        let before = ids(scene)?;
        Waiting::begin(scene)?.end(|| talk.back(100))?;
        ensure!(ids(scene)? == before, "it was forgotten");
        let carried = scene.carried()?;
        talk.back(1000)?;
        ensure!(!scene.is_accelerated() || scene.carried()? > carried + 1000);
        let tracked = scene.states(client, server)?;
        talk.close()?;
        Ok(tracked)
    })
}

/// What tells the connections apart that all nodes track between their first pods.
fn ids(scene: &Scene) -> Result<Vec<u32>> {
    let connections = scene.connections(scene.pod(0, "p0"), scene.pod(1, "p0"))?;
    let mut ids: Vec<_> = connections
        .into_iter()
        .map(|(_, connection)| connection.id)
        .collect();
    ensure!(ids.len() == 2, "not one on each node: {ids:?}");
    ids.sort_unstable();
    Ok(ids)
}

/// A connection that is nobody's, whose time-out tells the time by the kernel's own clock.
struct Waiting<'a>(&'a Scene);

impl<'a> Waiting<'a> {
    const CLIENT: &'static str = "192.0.2.1";

    fn begin(scene: &'a Scene) -> Result<Self> {
        scene.lab.nodes()[0].ns().exec(&format!(
            "conntrack -I -p udp -s {} -d 192.0.2.2 --sport 1 --dport 1 -t {LONG}",
            Self::CLIENT
        ))?;
        Ok(Self(scene))
    }

    /// Goes on until that one is forgotten.
    fn end(self, mut go_on: impl FnMut() -> Result<()>) -> Result<()> {
        let node = &self.0.lab.nodes()[0];
        eventually("a connection is forgotten in time", || {
            go_on()?;
            let connections = dataplane_tests::netfilter::connections(node.ns())?;
            Ok(!connections
                .iter()
                .any(|connection| connection.client.ip().to_string() == Self::CLIENT))
        })
    }
}

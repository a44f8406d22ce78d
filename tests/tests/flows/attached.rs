//! Flows that are there before underpass, and after it.

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{
    Lab, Node, Talk, Transfer,
    netfilter::{Acceleration, Backend, Routes, Scene},
    require_root,
};

/// Messages there and back, after which what connection tracking knows of a connection is old.
const ROUNDS: u64 = 2000;

/// With Felix's drop of all that is invalid in place.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn a_flow_lives_through_attach_and_detach() -> Result<()> {
    require_root();
    for (routes, backend) in [
        (Routes::Kernel, Backend::IptablesLegacy),
        (Routes::Plain, Backend::Nft),
    ] {
        through_attach_and_detach(routes, backend)
            .with_context(|| format!("{routes:?}, {backend}"))?;
    }
    Ok(())
}

fn through_attach_and_detach(routes: Routes, backend: Backend) -> Result<()> {
    let lab = Lab::flat(2, 2)?;
    let mut scene = Scene::without_agents(Acceleration::USUAL, routes, backend, lab)?;
    let client = scene.pod(0, "p0").clone();
    for server in [scene.pod(0, "p1").clone(), scene.pod(1, "p0").clone()] {
        let mut talks = [
            Talk::tcp(&client, &server, (0, 8080))?,
            Talk::udp(&client, &server, (0, 8080))?,
        ];
        let transfer = Transfer::start(client.ns(), server.address(), server.ns())?;
        talks.iter_mut().try_for_each(|talk| talk.rounds(100))?;
        let before = scene.connections(&client, &server)?;

        scene.attach()?;
        for talk in &mut talks {
            scene.until_carried(|| talk.rounds(10))?;
            let carried = scene.carried()?;
            talk.rounds(ROUNDS)?;
            ensure!(
                scene.carried()? - carried > ROUNDS,
                "what began before is not carried"
            );
        }

        scene.end_agents();
        let nodes = scene.lab.nodes().iter();
        nodes.clone().try_for_each(detach)?;
        for talk in &mut talks {
            talk.rounds(100).context("after detach")?;
        }
        let bytes = transfer.stop().context("a transfer")?;
        ensure!(bytes > 0);
        let after = scene.connections(&client, &server)?;
        for (node, connection) in &before {
            let is_same = |other: &(usize, _)| is_same(other, *node, connection.id);
            ensure!(
                after.iter().any(is_same),
                "node {node} has forgotten {connection:?}"
            );
        }
        let [tcp, _] = talks;
        tcp.close().context("after detach")?;
    }
    let invalid = scene.invalid()?;
    assert_eq!(invalid, 0, "packets were invalid");
    Ok(())
}

fn is_same(
    (node, connection): &(usize, dataplane_tests::netfilter::Connection),
    of_node: usize,
    id: u32,
) -> bool {
    *node == of_node && connection.id == id
}

fn detach(node: &Node) -> Result<()> {
    let output = node.underpass(&["detach"])?;
    ensure!(output.status.success(), "{output:?}");
    Ok(())
}

//! What crosses a node in one direction only is never carried.

use anyhow::{Result, ensure};
use dataplane_tests::{
    Mac, Pod, Talk, eventually,
    netfilter::{Acceleration, Backend, Routes, Scene},
    require_root,
};

/// Messages of which none may be carried.
const MESSAGES: u64 = 1000;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn datagrams_that_nobody_answers_are_not_carried() -> Result<()> {
    require_root();
    let scene = Scene::start(Acceleration::USUAL, Routes::Kernel, Backend::Nft, 2)?;
    for server in [scene.pod(0, "p1"), scene.pod(1, "p0")] {
        let mut talk = Talk::udp(scene.pod(0, "p0"), server, (0, 8080))?;
        talk.there(MESSAGES)?;
        assert_eq!(scene.carried()?, 0);
    }
    Ok(())
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_is_answered_another_way_is_not_carried() -> Result<()> {
    require_root();
    let scene = Scene::start(Acceleration::USUAL, Routes::Kernel, Backend::Nft, 2)?;
    let (client, server) = (scene.pod(0, "p0"), scene.pod(1, "p0"));
    answer_by_another_way(client, server)?;
    let mut talk = Talk::udp(client, server, (0, 8080))?;
    talk.rounds(MESSAGES)?;
    assert_eq!(scene.carried()?, 0);
    Ok(())
}

/// Carried at first; then its answers take another way.
#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn what_comes_to_be_answered_another_way_is_not_carried_any_more() -> Result<()> {
    require_root();
    let acceleration = Acceleration::Established("1s");
    let scene = Scene::start(acceleration, Routes::Kernel, Backend::IptablesLegacy, 2)?;
    let (client, server) = (scene.pod(0, "p0"), scene.pod(1, "p0"));
    let mut talks = [
        Talk::tcp(client, server, (0, 8080))?,
        Talk::udp(client, server, (0, 8080))?,
    ];
    for talk in &mut talks {
        scene.until_carried(|| talk.rounds(10))?;
    }
    answer_by_another_way(client, server)?;
    for talk in &mut talks {
        eventually("nothing is carried any more", || {
            let before = scene.carried()?;
            talk.rounds(100)?;
            Ok(scene.carried()? == before)
        })?;
        let before = scene.carried()?;
        talk.rounds(MESSAGES)?;
        ensure!(scene.carried()? == before, "it is carried again");
    }
    Ok(())
}

/// A link between two pods, by which one of them sends to the other.
fn answer_by_another_way(client: &Pod, server: &Pod) -> Result<()> {
    let (here, there) = (Mac::of(client.address(), 9), Mac::of(server.address(), 9));
    client.ns().exec(&format!(
        "ip link add beside address {here} up type veth peer name beside address {there} netns {}",
        server.ns().path().display()
    ))?;
    let to = client.address();
    for command in [
        "ip link set beside up".to_owned(),
        format!("ip route add {to}/32 dev beside src {}", server.address()),
        format!("ip neigh replace {to} lladdr {here} dev beside nud permanent"),
    ] {
        server.ns().exec(&command)?;
    }
    Ok(())
}

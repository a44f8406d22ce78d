//! Ten thousand connections, none of which fails.

use std::net::SocketAddrV4;

use anyhow::{Context as _, Result};
use dataplane_tests::{
    Mode, Network, Pod,
    netfilter::{KubeProxy, Sightings, invalid},
    require_root,
    web::{Load, WebServer},
};

use crate::scene::{Carrying, EVERYWHERE, EVERYWHERE_PORT, Scene};
use crate::tracked::settled;

/// How many go to the Service's own address, and how many to a node's.
const BY_CLUSTER_IP: u32 = 10_000;
const BY_NODE: u32 = 1_000;

/// Without underpass, and with it.
const CARRYING: [Carrying; 4] = [
    Carrying::Kernel(Network::FelixVxlan),
    Carrying::File(Mode::None),
    Carrying::File(Mode::Vxlan),
    Carrying::Mirror(Network::FelixVxlan),
];

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_iptables_of_old() -> Result<()> {
    none_fails(KubeProxy::IptablesLegacy)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_iptables_on_nftables() -> Result<()> {
    none_fails(KubeProxy::IptablesNft)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_nftables() -> Result<()> {
    none_fails(KubeProxy::Nftables)
}

/// Three servers on two nodes share the connections, and the client hears from none of them but in
/// the Service's name. As without underpass, no packet is of no connection.
fn none_fails(proxy: KubeProxy) -> Result<()> {
    require_root();
    for carrying in CARRYING {
        let scene = Scene::begin(proxy, carrying)?;
        let ((node, client), (_, other)) = (scene.client(), scene.other_client());
        let at_node = SocketAddrV4::new(node.address().addr(), EVERYWHERE_PORT);
        for (client, target, requests) in [
            (client, EVERYWHERE, BY_CLUSTER_IP),
            (other, at_node, BY_NODE),
        ] {
            load(&scene, client, target, requests)
                .with_context(|| format!("{carrying:?}: {target}"))?;
        }
    }
    Ok(())
}

fn load(scene: &Scene, client: &Pod, target: SocketAddrV4, requests: u32) -> Result<()> {
    let load = Load {
        requests,
        at_once: 20,
        keep_alive: false,
    };
    let nodes = || scene.lab.nodes().iter();
    let accepted = || scene.servers.iter().map(WebServer::accepted);
    let sightings = Sightings::of(client.ns(), &scene.endpoint_addresses())?;
    let invalid_before = nodes().map(|node| invalid(node.ns()));
    let invalid_before = invalid_before.collect::<Result<Vec<_>>>()?;
    let accepted_before = accepted().collect::<Result<Vec<_>>>()?;
    load.put(client.ns(), target)?;

    for (before, after) in accepted_before.iter().zip(accepted()) {
        let served = after? - before;
        assert!(served > u64::from(requests) / 4, "{served} of {requests}");
    }
    assert_eq!(sightings.count()?, 0, "packets in a server's own name");
    for (node, before) in nodes().zip(invalid_before) {
        let after = invalid(node.ns())?;
        assert_eq!(after, before, "packets of no connection on {}", node.name());
        settled(node.ns())?;
    }
    Ok(())
}

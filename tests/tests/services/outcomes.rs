//! Who is reached by which way, in whose name, and what is tracked of it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use anyhow::{Context as _, Result};
use dataplane_tests::{
    NetNs, Node, Pod,
    netfilter::{KubeProxy, Sightings, invalid},
    require_root,
    web::{Answered, Session, WebServer},
};

use crate::scene::{Carrying, FAR, FAR_PORT, NEAR, NEAR_PORT, STICKY, Scene};
use crate::tracked::{Tracked, settled, tracked_by};

/// How many questions go over one connection: what is carried once it is established is most.
const QUESTIONS: u32 = 20;

/// How many connections a client begins to find out whether it gets the same server each time.
const CONNECTIONS: u32 = 20;

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_iptables_of_old() -> Result<()> {
    are_the_kernels(KubeProxy::IptablesLegacy)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_iptables_on_nftables() -> Result<()> {
    are_the_kernels(KubeProxy::IptablesNft)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn by_nftables() -> Result<()> {
    are_the_kernels(KubeProxy::Nftables)
}

/// What comes of it by the kernel alone comes of it when underpass carries what is established.
fn are_the_kernels(proxy: KubeProxy) -> Result<()> {
    require_root();
    let mut kernels: Vec<(Carrying, Outcomes)> = Vec::new();
    for carrying in Carrying::BY_UNDERPASS {
        let kernel = carrying.by_the_kernel();
        if !kernels.iter().any(|(known, _)| *known == kernel) {
            kernels.push((kernel, outcomes_of(proxy, kernel)?));
        }
        let expected = kernels.iter().find(|(known, _)| *known == kernel);
        let expected = expected.map(|(_, outcomes)| outcomes);
        let outcomes = outcomes_of(proxy, carrying)?;
        assert_eq!(Some(&outcomes), expected, "{carrying:?}");
    }
    Ok(())
}

fn outcomes_of(proxy: KubeProxy, carrying: Carrying) -> Result<Outcomes> {
    let scene = Scene::begin(proxy, carrying)?;
    outcomes(&scene).with_context(|| format!("{carrying:?}"))
}

/// What came of the same questions.
#[derive(Debug, PartialEq, Eq)]
struct Outcomes {
    /// Of each way, whether the server saw the client's own address, or one that it was translated
    /// to.
    in_own_name: BTreeMap<String, bool>,
    /// What each node tracked of connections while they were open, and once they were closed.
    tracked: [Vec<BTreeMap<Tracked, usize>>; 2],
    /// How many packets were of no connection to each node.
    invalid: Vec<u64>,
}

/// Asks all of them, and fails if somebody else answers than whom the Service has.
fn outcomes(scene: &Scene) -> Result<Outcomes> {
    let nodes = scene.lab.nodes();
    let clients = [scene.client().1, scene.other_client().1, scene.near()];
    let sightings = each(&clients, |pod| {
        Sightings::of(pod.ns(), &scene.endpoint_addresses())
    })?;
    let invalid_before = each(nodes, |node| invalid(node.ns()))?;
    let mut sessions = Vec::new();
    let mut in_own_name = BTreeMap::new();
    for way in ways(scene) {
        let mut session =
            Session::begin(way.client.ns, way.target).with_context(|| format!("from {way}"))?;
        let mut names = BTreeSet::new();
        for _ in 0..QUESTIONS {
            let Answered { by, to } = session.ask().with_context(|| format!("from {way}"))?;
            assert_eq!(by, way.server, "from {way}");
            names.insert(to);
        }
        in_own_name.insert(way.to_string(), names == [way.client.address].into());
        sessions.push(session);
    }
    let open = each(nodes, |node| tracked_by(node.ns()))?;
    drop(sessions);
    let closed = each(nodes, |node| settled(node.ns()))?;
    assert_eq!(sticky(scene)?, 1, "servers of one client");
    for (pod, sightings) in clients.iter().zip(sightings) {
        let (seen, name) = (sightings.count()?, pod.name());
        assert_eq!(seen, 0, "packets to {name} in a server's own name");
    }
    let invalid_after = each(nodes, |node| invalid(node.ns()))?;
    let pairs = invalid_after.iter().zip(invalid_before);
    Ok(Outcomes {
        in_own_name,
        tracked: [open, closed],
        invalid: pairs.map(|(after, before)| after - before).collect(),
    })
}

/// How many servers a client finds by a Service with affinity.
fn sticky(scene: &Scene) -> Result<usize> {
    let (_, client) = scene.client();
    let found = (0..CONNECTIONS)
        .map(|_| Ok(Session::begin(client.ns(), STICKY)?.ask()?.by))
        .collect::<Result<BTreeSet<_>>>()?;
    Ok(found.len())
}

/// Who asks whom, by which address.
struct Way<'a> {
    from: &'static str,
    client: Client<'a>,
    to: &'static str,
    target: SocketAddrV4,
    /// Who is to answer.
    server: &'a str,
}

impl fmt::Display for Way<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} to {}", self.from, self.to)
    }
}

/// Who asks.
#[derive(Clone, Copy)]
struct Client<'a> {
    ns: &'a NetNs,
    address: Ipv4Addr,
}

impl<'a> From<&'a Pod> for Client<'a> {
    fn from(pod: &'a Pod) -> Self {
        Self {
            ns: pod.ns(),
            address: pod.address(),
        }
    }
}

impl<'a> From<&'a Node> for Client<'a> {
    fn from(node: &'a Node) -> Self {
        Self {
            ns: node.ns(),
            address: node.address().addr(),
        }
    }
}

/// Each client with each address. Where there are many servers, chance decides who answers: the
/// Services here have one each.
fn ways(scene: &Scene) -> Vec<Way<'_>> {
    let ((node, pod), (other_node, other_pod)) = (scene.client(), scene.other_client());
    let at = |node: &Node, port| SocketAddrV4::new(node.address().addr(), port);
    let [near, far, _] = scene.servers.each_ref().map(WebServer::name);
    let clients = [
        ("a pod", Client::from(pod)),
        ("a pod on the other node", other_pod.into()),
        // Of one of the Services it is the server itself.
        ("a server", scene.near().into()),
        ("a node", node.into()),
        ("the other node", other_node.into()),
    ];
    let targets = [
        ("near", NEAR, near),
        ("far", FAR, far),
        ("near by the node", at(node, NEAR_PORT), near),
        ("far by the node", at(node, FAR_PORT), far),
        ("near by the other node", at(other_node, NEAR_PORT), near),
        ("far by the other node", at(other_node, FAR_PORT), far),
    ];
    let from_each = clients.into_iter().flat_map(|(from, client)| {
        let to_each = targets.into_iter();
        to_each.map(move |(to, target, server)| Way {
            from,
            client,
            to,
            target,
            server,
        })
    });
    from_each.collect()
}

fn each<T, U>(of: &[T], read: impl FnMut(&T) -> Result<U>) -> Result<Vec<U>> {
    of.iter().map(read).collect()
}

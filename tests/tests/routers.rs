//! Real routing daemons program the nodes' kernels, and underpass follows them: BIRD 2 as Calico
//! configures it, and FRR, which routes by next hop objects.
//!
//! `node-0` and `node-1` are on one subnet, `node-2` is on another, behind two routers. All of them
//! speak BGP with one another. While something happens, two hosts send the same pod numbered
//! datagrams: a pod, by underpass, and its node itself, by its kernel's routes. What the first loses
//! the second loses as well.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result, ensure};
use dataplane_tests::{
    Agent, Background, Counters, Daemon, Flow, FlowReport, Lab, NetNs, Node, NodeSpec, Pod,
    Speaker, calico, eventually,
    mirror::{left_to_the_stack, route_to, wait_without_drift},
    require_root,
};
use ipnet::Ipv4Net;

/// What a pod may lose beyond what its node's kernel does, in datagrams of 5 ms: the time that the
/// agent takes to follow.
const BEHIND: u64 = 40;

/// Where nodes of the first subnet find the routers.
const ROUTERS: [Ipv4Addr; 2] = [Ipv4Addr::new(192, 168, 1, 1), Ipv4Addr::new(192, 168, 1, 2)];

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn bird_announces_and_withdraws_a_block() -> Result<()> {
    announces_and_withdraws_a_block(Daemon::Bird)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn frr_announces_and_withdraws_a_block() -> Result<()> {
    announces_and_withdraws_a_block(Daemon::Frr)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn bird_gives_a_block_a_new_home() -> Result<()> {
    gives_a_block_a_new_home(Daemon::Bird)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn frr_gives_a_block_a_new_home() -> Result<()> {
    gives_a_block_a_new_home(Daemon::Frr)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn bird_uses_two_routers() -> Result<()> {
    uses_two_routers(Daemon::Bird)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn frr_uses_two_routers() -> Result<()> {
    uses_two_routers(Daemon::Frr)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn bird_is_killed_and_restarts_gracefully() -> Result<()> {
    is_killed_and_restarts(Daemon::Bird, true)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn frr_is_killed_and_restarts_gracefully() -> Result<()> {
    is_killed_and_restarts(Daemon::Frr, true)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn bird_is_killed_and_restarts_without_grace() -> Result<()> {
    is_killed_and_restarts(Daemon::Bird, false)
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test"]
fn frr_is_killed_and_restarts_without_grace() -> Result<()> {
    is_killed_and_restarts(Daemon::Frr, false)
}

fn announces_and_withdraws_a_block(daemon: Daemon) -> Result<()> {
    let (block, address) = further_block();
    let mut scene = Scene::new(daemon, false)?;
    add_pod(&mut scene.lab, "node-2", "late", address)?;
    let late = scene.lab.pod("node-2", "late");
    for node in &scene.lab.nodes()[..2] {
        ensure!(
            by_underpass(node, address)?.is_empty(),
            "nobody has announced it"
        );
    }

    let race = Race::start(&scene, late)?;
    scene.speakers[2].announce(block)?;
    race.wait_for_more()?;
    scene.wait_for_gateways(address)?;
    race.finish(BEHIND)?;
    scene.assert_carries(scene.pod(0), late)?;
    scene.assert_carries(late, scene.pod(1))?;

    scene.speakers[2].withdraw(block)?;
    for node in &scene.lab.nodes()[..2] {
        let what = format!("{} has no route to {address}", node.name());
        eventually(&what, || Ok(by_underpass(node, address)?.is_empty()))?;
        wait_without_drift(node)?;
    }
    Ok(())
}

fn gives_a_block_a_new_home(daemon: Daemon) -> Result<()> {
    let (block, address) = further_block();
    let mut scene = Scene::new(daemon, false)?;
    add_pod(&mut scene.lab, "node-1", "mover", address)?;
    scene.speakers[1].announce(block)?;
    let old = scene.lab.pod("node-1", "mover").clone();
    let mut race = Race::start(&scene, &old)?;
    race.wait_for_more()?;
    scene.wait_for_gateways(address)?;
    scene.assert_carries(scene.pod(0), &old)?;
    let before = route_to(scene.node(0), address)?;

    scene.lab.node_mut("node-1").remove_pod("mover")?;
    add_pod(&mut scene.lab, "node-2", "moved", address)?;
    let new = scene.lab.pod("node-2", "moved").clone();
    race.follow_to(&new)?;
    scene.speakers[2].announce(block)?;
    scene.speakers[1].withdraw(block)?;
    race.wait_for_more()?;
    scene.wait_for_gateways(address)?;
    race.finish(BEHIND)?;
    assert_ne!(before, route_to(scene.node(0), address)?);
    scene.assert_carries(scene.pod(0), &new)?;
    scene.assert_carries(scene.pod(1), &new)?;
    scene.assert_carries(&new, scene.pod(1))
}

/// The nodes come to have two ways to the other subnet, and back to one.
fn uses_two_routers(daemon: Daemon) -> Result<()> {
    let scene = Scene::new(daemon, false)?;
    let (node, far) = (scene.node(0), scene.pod(2));
    // By addresses alone, as it does by default, the kernel would have all of these go one way.
    node.ns()
        .set_sysctl("net.ipv4.fib_multipath_hash_policy", "1")?;
    let race = Race::start(&scene, far)?;
    race.wait_for_more()?;
    node.ns()
        .exec("ip route replace 192.168.2.0/24 nexthop via 192.168.1.1 nexthop via 192.168.1.2")?;
    let routes_by = |gateways: &[Ipv4Addr]| {
        let what = format!("the daemon routes by {gateways:?}");
        let gateways = gateways.iter().copied().collect();
        eventually(&what, || Ok(by_kernel(node, far.address())? == gateways))
    };
    routes_by(&ROUTERS)?;
    scene.wait_for_gateways(far.address())?;
    scene.assert_carries(scene.pod(0), far)?;
    assert_every_flow_keeps_to_a_router(&scene, scene.pod(0), far)?;

    node.ns()
        .exec("ip route replace 192.168.2.0/24 via 192.168.1.2")?;
    routes_by(&ROUTERS[1..])?;
    scene.wait_for_gateways(far.address())?;
    scene.assert_carries(scene.pod(0), far)?;
    race.finish(0)
}

/// Sends many flows at once, and fails unless each passes one router, and each router is passed.
fn assert_every_flow_keeps_to_a_router(scene: &Scene, from: &Pod, to: &Pod) -> Result<()> {
    const FLOWS: usize = 16;
    const RULES: &str = "table ip flows {
        set ports { type inet_service; flags dynamic; }
        chain forward {
            type filter hook forward priority 0
            ip saddr 10.244.0.0/16 meta l4proto udp add @ports { udp dport }
        }
    }";
    for router in scene.lab.routers() {
        let nft = router.command("nft").args(["-f", "-"]);
        nft.input(RULES)?.run()?;
    }
    let flows = (0..FLOWS)
        .map(|_| Flow::start(from.ns(), to.ns(), to.address()))
        .collect::<Result<Vec<_>>>()?;
    for flow in &flows {
        flow.wait_for_more()?;
    }
    let by_router = scene
        .lab
        .routers()
        .iter()
        .map(|router| {
            let ports = router.exec("nft list set ip flows ports")?;
            let seen = |flow: &&Flow| ports.contains(&format!("{}", flow.port()));
            Ok(flows.iter().filter(seen).map(Flow::port).collect())
        })
        .collect::<Result<Vec<BTreeSet<u16>>>>()?;
    for flow in flows {
        assert_eq!(flow.stop().lost, 0);
    }
    let [one, other] = &by_router[..] else {
        panic!("two routers: {by_router:?}");
    };
    assert!(one.is_disjoint(other), "{by_router:?}");
    assert_eq!(one.len() + other.len(), FLOWS, "{by_router:?}");
    assert!(!one.is_empty() && !other.is_empty(), "{by_router:?}");
    Ok(())
}

/// The far node's daemon is killed, and comes back once all others have noticed.
fn is_killed_and_restarts(daemon: Daemon, graceful: bool) -> Result<()> {
    let mut scene = Scene::new(daemon, graceful)?;
    let far = scene.pod(2).clone();
    let race = Race::start(&scene, &far)?;
    let back = Race::from(scene.node(2), scene.pod(0))?;
    race.wait_for_more()?;
    back.wait_for_more()?;
    let routes = scene.node(2).ns().command("ip");
    let routes = Background::start_unnamed(routes.args(["-4", "monitor", "route"]))?;

    scene.speakers[2].kill()?;
    for (index, speaker) in scene.speakers.iter().enumerate() {
        if index != 2 {
            speaker.wait_bereft()?;
        }
    }
    if !graceful {
        let node = scene.node(0);
        eventually("the far node's pods are given up", || {
            Ok(by_kernel(node, far.address())?.is_empty())
        })?;
        wait_without_drift(node)?;
    }
    scene.speakers[2].start()?;
    for speaker in &scene.speakers {
        speaker.wait_established()?;
    }
    scene.wait_for_all_gateways()?;
    race.wait_for_more()?;
    back.wait_for_more()?;
    scene.assert_carries(scene.pod(0), &far)?;
    scene.assert_carries(&far, scene.pod(1))?;
    // BIRD may hear from all its peers before it has read how its kernel reaches them. It has what
    // they announce unreachable then, until it has read, within a millisecond.
    let was_unreachable = routes.log()?.contains("unreachable");
    for (race, may_lose) in [(race, !graceful), (back, !graceful || was_unreachable)] {
        if may_lose {
            race.finish(BEHIND)?;
        } else {
            race.finish_lossless()?;
        }
    }
    Ok(())
}

/// Three nodes, two routers, all speaking BGP, and underpass on the nodes.
struct Scene {
    lab: Lab,
    speakers: Vec<Speaker>,
    _agents: Vec<Agent>,
}

impl Scene {
    /// All nodes know the blocks of all others.
    fn new(daemon: Daemon, graceful: bool) -> Result<Self> {
        require_root();
        let node = |index: u8, address: &str| {
            let block = format!("10.244.0.{}/26", 64 * index);
            NodeSpec::new(&format!("node-{index}"), address, &block).pods(1)
        };
        let nodes = [
            node(0, "192.168.1.10/24"),
            node(1, "192.168.1.11/24"),
            node(2, "192.168.2.10/24"),
        ];
        let lab = Lab::with_routers(&nodes, 2)?;
        for node in lab.nodes() {
            calico::serve_pods(node)?;
            // Not by a router, which would know the way when the node does not.
            let nobody = node.address().hosts().last();
            let nobody = nobody.context("the subnet has no addresses")?;
            node.ns()
                .exec(&format!("ip route replace default via {nobody} dev eth0"))?;
        }
        let speakers = Speaker::mesh(&lab, daemon, graceful)?;
        let agents = lab.nodes().iter().map(Agent::mirror);
        let scene = Self {
            _agents: agents.collect::<Result<_>>()?,
            lab,
            speakers,
        };
        for speaker in &scene.speakers {
            speaker.wait_established()?;
        }
        scene.wait_for_all_gateways()?;
        Ok(scene)
    }

    fn node(&self, index: usize) -> &Node {
        &self.lab.nodes()[index]
    }

    fn pod(&self, index: usize) -> &Pod {
        self.node(index).pod("p0")
    }

    /// Waits until every node routes to the pods of all others, as in [`Scene::wait_for_gateways`].
    fn wait_for_all_gateways(&self) -> Result<()> {
        let mut nodes = self.lab.nodes().iter();
        nodes.try_for_each(|node| self.wait_for_gateways(node.pod("p0").address()))
    }

    /// Waits until every node routes to `address`, by its kernel and by underpass alike, and until
    /// `underpass diff` finds nothing.
    fn wait_for_gateways(&self, address: Ipv4Addr) -> Result<()> {
        for node in self.lab.nodes() {
            if node.pods().iter().any(|pod| pod.address() == address) {
                continue;
            }
            let what = format!("{} routes to {address} by underpass", node.name());
            let mut last = None;
            let outcome = eventually(&what, || {
                let (kernel, ours) = (by_kernel(node, address)?, by_underpass(node, address)?);
                let is_right = !kernel.is_empty() && ours == kernel;
                last = Some((kernel, ours));
                Ok(is_right)
            });
            outcome.with_context(|| format!("kernel, underpass: {last:?}"))?;
            wait_without_drift(node)?;
        }
        Ok(())
    }

    /// Sends datagrams, none of which may be lost or left to a stack.
    fn assert_carries(&self, from: &Pod, to: &Pod) -> Result<()> {
        let (near, far) = (self.node_of(from)?, self.node_of(to)?);
        let before = (Counters::read(near)?, Counters::read(far)?);
        let flow = Flow::start(from.ns(), to.ns(), to.address())?;
        flow.wait_for_more()?;
        let report = flow.stop();
        let sent = Counters::read(near)?.since(&before.0);
        let received = Counters::read(far)?.since(&before.1);
        let ways = format!("{} to {}: {report:?}", from.address(), to.address());
        ensure!(report.lost == 0, "{ways}");
        let count = sent.get("from_workload", "sent-direct").packets;
        ensure!(
            count >= report.sent && left_to_the_stack(&sent) == 0,
            "{ways}, at the sender: {sent:?}"
        );
        let count = received.get("from_uplink", "received-direct").packets;
        ensure!(
            count >= report.sent,
            "{ways}, at the receiver: {received:?}"
        );
        Ok(())
    }

    fn node_of(&self, pod: &Pod) -> Result<&Node> {
        let mut nodes = self.lab.nodes().iter();
        let has = |node: &&Node| node.pods().iter().any(|own| own.address() == pod.address());
        nodes.find(has).context("the pod is on no node")
    }
}

/// A block that is no node's own, and the address of a pod in it.
fn further_block() -> (Ipv4Net, Ipv4Addr) {
    let block = "10.244.1.0/26".parse().expect("a block");
    (block, Ipv4Addr::new(10, 244, 1, 2))
}

fn add_pod(lab: &mut Lab, node: &str, name: &str, address: Ipv4Addr) -> Result<()> {
    lab.node_mut(node).add_pod_at(name, address)?;
    calico::serve_pod(lab.node(node), lab.pod(node, name))
}

/// The neighbours that the node's programs send to for an address: none if it is left to the stack.
fn by_underpass(node: &Node, address: Ipv4Addr) -> Result<BTreeSet<Ipv4Addr>> {
    let route = route_to(node, address)?;
    Ok(route.map(|route| route.gateways()).unwrap_or_default())
}

/// The neighbours that the node's kernel sends to for an address of a pod.
fn by_kernel(node: &Node, address: Ipv4Addr) -> Result<BTreeSet<Ipv4Addr>> {
    let routes = node
        .ns()
        .exec(&format!("ip route show root 10.244.0.0/16 match {address}"))?;
    let words: Vec<_> = routes.split_whitespace().collect();
    let gateways = words.windows(2).filter(|pair| pair[0] == "via");
    gateways.map(|pair| Ok(pair[1].parse()?)).collect()
}

/// A pod of a node and the node itself send to the same pod.
struct Race {
    pod: Flow,
    kernel: Flow,
}

impl Race {
    /// From `node-0`.
    fn start(scene: &Scene, to: &Pod) -> Result<Self> {
        Self::from(scene.node(0), to)
    }

    fn from(node: &Node, to: &Pod) -> Result<Self> {
        let start = |from: &NetNs| Flow::start(from, to.ns(), to.address());
        Ok(Self {
            pod: start(node.pod("p0").ns())?,
            kernel: start(node.ns())?,
        })
    }

    fn wait_for_more(&self) -> Result<()> {
        self.pod.wait_for_more()?;
        self.kernel.wait_for_more()
    }

    /// The pod that they send to has moved.
    fn follow_to(&mut self, pod: &Pod) -> Result<()> {
        self.pod.follow_to(pod.ns())?;
        self.kernel.follow_to(pod.ns())
    }

    /// The pod has lost at most so many more than the node.
    fn finish(self, behind: u64) -> Result<()> {
        let (pod, kernel) = self.stop();
        println!(
            "lost: {} by underpass, {} by the kernel",
            pod.lost, kernel.lost
        );
        ensure!(
            pod.lost <= kernel.lost + behind,
            "by underpass {pod:?}, by the kernel {kernel:?}"
        );
        Ok(())
    }

    fn finish_lossless(self) -> Result<()> {
        let (pod, kernel) = self.stop();
        ensure!(
            (pod.lost, kernel.lost) == (0, 0),
            "by underpass {pod:?}, by the kernel {kernel:?}"
        );
        Ok(())
    }

    fn stop(self) -> (FlowReport, FlowReport) {
        (self.pod.stop(), self.kernel.stop())
    }
}

//! A flow of 10,000 packets a second each way, a long TCP transfer and a node's own pings, while
//! something happens to the agent of that node.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dataplane_common::abi;
use dataplane_tests::{
    Agent, Build, Exchange, Lab, Mode, Node, PingOptions, Pinging, Transfer, Watch, calico,
    cluster_yaml, patient,
};

/// Two nodes, on the first of which agents come and go, and traffic between them.
pub(crate) struct Scene {
    agent: Option<Agent>,
    _far: Agent,
    exchange: Exchange,
    transfer: Transfer,
    pinging: Pinging,
    watch: Watch,
    pub(crate) lab: Lab,
}

/// Where agents have their routes from, and how they attach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Setup {
    /// A cluster file; with this in the configuration besides.
    File(&'static str),
    /// The kernel's routes, as Calico writes them.
    Kernel,
}

impl Setup {
    pub(crate) const ALL: [Self; 4] = [
        Self::File(""),
        Self::File("attach: clsact\n"),
        Self::File("xdp: native\n"),
        Self::Kernel,
    ];

    /// The configuration of a node's agent.
    fn config(self, node: &Node) -> String {
        let config = node.agent_config();
        match self {
            Self::File(more) => config + more,
            Self::Kernel => {
                let lines = config
                    .lines()
                    .filter(|line| !line.trim().starts_with("file:"));
                let lines = lines.map(|line| line.replace("source:", "source: kernel") + "\n");
                lines.collect()
            }
        }
    }
}

impl Scene {
    /// Starts agents, and then the traffic.
    pub(crate) fn begin(setup: Setup) -> Result<Self> {
        let lab = Lab::flat(2, 1)?;
        let nodes = (lab.node("node-0"), lab.node("node-1"));
        if setup == Setup::Kernel {
            for (node, peer) in [nodes, (nodes.1, nodes.0)] {
                calico::serve_pods(node)?;
                calico::route_by_vxlan(node, peer, "noudpcsum")?;
            }
        }
        let cluster = cluster(&lab, "");
        let start = |node: &Node| Agent::start(node, &setup.config(node), &cluster);
        let agent = start(nodes.0)?;
        let far = start(nodes.1)?;
        lab.wait_resolved()?;
        let near = lab.pod("node-0", "p0");
        let remote = lab.pod("node-1", "p0");
        let from_the_node = PingOptions {
            interval: patient(Duration::from_millis(10)),
            ..PingOptions::default()
        };
        Ok(Self {
            agent: Some(agent),
            _far: far,
            exchange: Exchange::start(near.ns(), remote.ns(), remote.address())?,
            transfer: Transfer::start(remote.ns(), near.address(), near.ns())?,
            pinging: Pinging::start(lab.node("node-0").ns(), remote.address(), &from_the_node)?,
            watch: Watch::start(lab.node("node-0"))?,
            lab,
        })
    }

    pub(crate) fn node(&self) -> &Node {
        self.lab.node("node-0")
    }

    /// Kills the agent (SIGKILL).
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut agent = self.agent.take().context("no agent runs")?;
        agent.process().kill()?;
        Ok(())
    }

    pub(crate) fn restart(&mut self, build: Build) -> Result<()> {
        self.agent = Some(Agent::restart(self.node(), build)?);
        Ok(())
    }

    /// Stops the traffic, of which nothing may be missing; and no hook may have been without a
    /// program or have had two.
    #[track_caller]
    pub(crate) fn end(self, when: &str) -> Result<()> {
        let exchange = self.exchange.stop()?;
        let lost = exchange.lost();
        assert!(
            exchange.is_lossless(),
            "{when}: lost {lost:?} of {}",
            exchange.sent.len()
        );
        let bytes = self.transfer.stop()?;
        assert!(bytes > 0, "{when}");
        let pings = self.pinging.stop()?;
        assert!(pings.is_lossless(), "{when}: {pings:?}");
        let seen = self.watch.stop()?;
        assert!(seen.len() >= 2, "{when}: {seen:?}");
        for (side, seen) in seen {
            assert_eq!(
                (seen.fewest, seen.most),
                (1, 1),
                "{when}: {side:?}: {seen:?}"
            );
        }
        Ok(())
    }
}

/// The cluster's table, with `routes` besides the nodes.
pub(crate) fn cluster(lab: &Lab, routes: &str) -> String {
    cluster_yaml(lab, Mode::Vxlan.ipip_mode(), Mode::Vxlan.vxlan_mode()) + routes
}

/// The directory in which a build pins.
pub(crate) fn version(build: Build) -> String {
    match build {
        Build::Tested => format!("v{}", abi::VERSION),
        Build::OtherLayout => format!("v{}", 1000 + abi::VERSION),
    }
}

/// The directories in which something is pinned.
pub(crate) fn versions(node: &Node) -> Result<Vec<String>> {
    let mut names = std::fs::read_dir(node.pins())?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<Vec<_>>>()?;
    names.sort();
    ensure!(!names.is_empty(), "nothing is pinned");
    Ok(names)
}

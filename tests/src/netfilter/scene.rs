//! Nodes whose pod traffic netfilter has a part in, with and without underpass.

use std::fmt;
use std::net::Ipv4Addr;

use anyhow::Result;

use super::conntrack::{Connection, connections_between, forget_connections, invalid};
use super::{Backend, felix::Felix};
use crate::{
    Agent, Counters, Lab, Mode, Network, Node, Pod, agent, beside_netfilter, cluster_yaml,
    eventually,
};

/// What carries pods' packets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acceleration {
    /// The kernel alone.
    Off,
    /// underpass, what the stack has let through, verified again as often as this says: `2s`.
    Established(&'static str),
    /// underpass, whatever the stack would do. Tests show by it that they see the difference.
    All,
}

/// Where nodes have their routes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Routes {
    /// The kernel, into which Felix writes them, VXLAN between nodes: they are there without an agent.
    Kernel,
    /// The kernel, into which BIRD writes them, without encapsulation.
    Plain,
    /// A cluster file, VXLAN between nodes.
    File,
}

/// Two nodes or more, each with Felix and its rules, with or without an agent.
#[derive(Debug)]
pub struct Scene {
    agents: Vec<Agent>,
    felix: Vec<Felix>,
    acceleration: Acceleration,
    routes: Routes,
    /// The nodes.
    pub lab: Lab,
}

impl Acceleration {
    /// Re-verified as often as it is unless told otherwise.
    pub const USUAL: Self = Self::Established("2s");

    /// A node's configuration, with this in it.
    fn configure(self, config: &str) -> String {
        match self {
            Self::Off | Self::All => config.to_owned(),
            Self::Established(reverify) => {
                format!("{}reverify: {reverify}\n", beside_netfilter(config))
            }
        }
    }
}

impl fmt::Display for Acceleration {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => formatter.write_str("off"),
            Self::Established(reverify) => write!(formatter, "established, {reverify}"),
            Self::All => formatter.write_str("all"),
        }
    }
}

impl Scene {
    /// Two nodes with so many pods each, who may do everything.
    pub fn start(
        acceleration: Acceleration,
        routes: Routes,
        backend: Backend,
        pods: usize,
    ) -> Result<Self> {
        let mut scene = Self::without_agents(acceleration, routes, backend, Lab::flat(2, pods)?)?;
        scene.attach()?;
        Ok(scene)
    }

    /// The nodes of `lab`, none of which has an agent yet: see [`Scene::attach`].
    pub fn without_agents(
        acceleration: Acceleration,
        routes: Routes,
        backend: Backend,
        lab: Lab,
    ) -> Result<Self> {
        match routes {
            Routes::Kernel => Network::FelixVxlan.set_up(&lab)?,
            Routes::Plain => Network::Bird.set_up(&lab)?,
            Routes::File => {}
        }
        let felix = lab.nodes().iter().map(|node| Felix::start(node, backend));
        Ok(Self {
            agents: Vec::new(),
            felix: felix.collect::<Result<_>>()?,
            acceleration,
            routes,
            lab,
        })
    }

    /// Starts an agent on every node, unless there is to be none, and waits until all are in sync
    /// and know their pods.
    pub fn attach(&mut self) -> Result<()> {
        if self.acceleration == Acceleration::Off {
            return Ok(());
        }
        let cluster = match self.routes {
            Routes::File => {
                cluster_yaml(&self.lab, Mode::Vxlan.ipip_mode(), Mode::Vxlan.vxlan_mode())
            }
            Routes::Kernel | Routes::Plain => String::new(),
        };
        for node in self.lab.nodes() {
            let config = match self.routes {
                Routes::File => agent::config(node),
                Routes::Kernel | Routes::Plain => agent::mirror_config(node),
            };
            let config = self.acceleration.configure(&config);
            self.agents.push(Agent::start(node, &config, &cluster)?);
        }
        self.lab.wait_resolved()
    }

    /// Ends the agents; what they have attached stays.
    pub fn end_agents(&mut self) {
        self.agents.clear();
    }

    /// Felix on the node of this number.
    pub fn felix(&mut self, node: usize) -> &mut Felix {
        &mut self.felix[node]
    }

    /// The pod called `pod` on the node of this number.
    #[must_use]
    pub fn pod(&self, node: usize, pod: &str) -> &Pod {
        self.lab.nodes()[node].pod(pod)
    }

    /// Whether anything is there to carry packets past the stack.
    #[must_use]
    pub fn is_accelerated(&self) -> bool {
        self.acceleration != Acceleration::Off
    }

    /// How many packets underpass has carried past the stack, on all nodes together.
    pub fn carried(&self) -> Result<u64> {
        (0..self.lab.nodes().len())
            .map(|node| self.carried_on(node))
            .sum()
    }

    /// How many of them on the node of this number.
    pub fn carried_on(&self, node: usize) -> Result<u64> {
        if !self.is_accelerated() {
            return Ok(0);
        }
        Ok(Counters::read(&self.lab.nodes()[node])?.carried())
    }

    /// How many packets connection tracking has found invalid, on all nodes together.
    pub fn invalid(&self) -> Result<u64> {
        let nodes = self.lab.nodes().iter().map(Node::ns);
        nodes.map(invalid).sum()
    }

    /// How many packets policy has dropped, on all nodes together.
    pub fn dropped(&self) -> Result<u64> {
        self.felix.iter().map(Felix::dropped).sum()
    }

    /// Has every node forget the connections from and to an address.
    pub fn forget_connections(&self, address: Ipv4Addr) -> Result<()> {
        let mut nodes = self.lab.nodes().iter().map(Node::ns);
        nodes.try_for_each(|node| forget_connections(node, address))
    }

    /// Goes on until something more is carried, or once, if there is nothing to carry it.
    pub fn until_carried(&self, mut go_on: impl FnMut() -> Result<()>) -> Result<()> {
        let before = self.carried()?;
        eventually("packets are carried", || {
            go_on()?;
            Ok(!self.is_accelerated() || self.carried()? > before)
        })
    }

    /// The connections between two pods that the nodes track, each with the number of its node.
    pub fn connections(&self, one: &Pod, other: &Pod) -> Result<Vec<(usize, Connection)>> {
        let mut found = Vec::new();
        for (number, node) in self.lab.nodes().iter().enumerate() {
            let on_node = connections_between(node.ns(), one.address(), other.address())?;
            found.extend(on_node.into_iter().map(|connection| (number, connection)));
        }
        Ok(found)
    }

    /// Those in words, in an order of their own, but for ports and times: the same with underpass as
    /// without. UDP becomes assured by the time that it lasts.
    pub fn states(&self, one: &Pod, other: &Pod) -> Result<Vec<String>> {
        let in_words = |(node, connection): (usize, Connection)| {
            let is_assured = connection.protocol != "udp" && connection.assured;
            let words = [
                Some(connection.protocol),
                connection.state,
                is_assured.then(|| "assured".to_owned()),
                connection.unreplied.then(|| "unreplied".to_owned()),
            ];
            let words: Vec<_> = words.into_iter().flatten().collect();
            format!("node {node}: {}", words.join(" "))
        };
        let connections = self.connections(one, other)?;
        let mut states: Vec<_> = connections.into_iter().map(in_words).collect();
        states.sort();
        Ok(states)
    }

    /// Sets a `net.*` sysctl on every node.
    pub fn set_sysctl(&self, key: &str, value: &str) -> Result<()> {
        let mut nodes = self.lab.nodes().iter();
        nodes.try_for_each(|node| node.ns().set_sysctl(key, value))
    }
}

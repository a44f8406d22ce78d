//! A lab: nodes, what connects them, and their pods.

pub(crate) mod host;
mod node;
mod pod;
mod spec;
mod underlay;

use std::path::Path;
use std::rc::Rc;

use anyhow::Result;

use crate::sandbox::{Directories, Sandbox};
use crate::{Agent, Mode, NetNs, beside_netfilter, cluster_yaml};

pub use node::Node;
pub use pod::Pod;
pub use spec::NodeSpec;

use underlay::Underlay;

/// Nodes on their subnets, with pods.
///
/// A lab belongs to the thread that made it: it changes what that thread sees at `/sys/fs/bpf` and
/// `/run`, and the thread's end kills what was started from it. Its nodes and pods can be lent to
/// other threads.
///
/// Dropping it brings the thread back, and drops every namespace, file and pin.
#[derive(Debug)]
pub struct Lab {
    nodes: Vec<Node>,
    underlay: Underlay,
    directories: Directories,
    sandbox: Rc<Sandbox>,
}

impl Lab {
    /// Nodes `node-0`, `node-1`, … on one subnet, 192.168.1.10/24 and up, with the pod CIDRs
    /// 10.244.0.0/24 and up.
    pub fn flat(nodes: u8, pods: usize) -> Result<Self> {
        Self::new(&on_one_subnet(nodes, pods))
    }

    /// As [`Lab::flat`], but each node is on a subnet of its own, 192.168.1.10/24, 192.168.2.10/24
    /// and up, behind a router.
    pub fn routed(nodes: u8, pods: usize) -> Result<Self> {
        Self::new(&numbered(nodes, pods, |index| {
            format!("192.168.{}.10/24", 1 + index)
        }))
    }

    /// Builds the nodes, connects those of one subnet with each other and the subnets by a router,
    /// and adds the pods.
    pub fn new(specs: &[NodeSpec]) -> Result<Self> {
        Self::with_routers(specs, 1)
    }

    /// As [`Lab::new`], with so many routers side by side between the subnets. Nodes use the first.
    pub fn with_routers(specs: &[NodeSpec], routers: usize) -> Result<Self> {
        let sandbox = Sandbox::enter()?;
        let directories = sandbox.directories()?;
        let mut nodes = specs
            .iter()
            .map(|spec| Node::new(spec, &directories))
            .collect::<Result<Vec<_>>>()?;
        let underlay = Underlay::connect(&nodes, routers)?;
        for (node, spec) in nodes.iter_mut().zip(specs) {
            node.add_numbered_pods(spec.pods)?;
        }
        Ok(Self {
            nodes,
            underlay,
            directories,
            sandbox,
        })
    }

    /// The nodes, in the order they were given.
    #[must_use]
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The node called `name`.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn node(&self, name: &str) -> &Node {
        let node = self.nodes.iter().find(|node| node.name() == name);
        node.unwrap_or_else(|| panic!("the lab has no node {name}"))
    }

    /// The node called `name`, to change its pods.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn node_mut(&mut self, name: &str) -> &mut Node {
        let node = self.nodes.iter_mut().find(|node| node.name() == name);
        node.unwrap_or_else(|| panic!("the lab has no node {name}"))
    }

    /// The pod called `pod` on the node called `node`. Clone it to keep it while pods change.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn pod(&self, node: &str, pod: &str) -> &Pod {
        self.node(node).pod(pod)
    }

    /// The router between the subnets, if there are several, or the first of them. Its devices are
    /// `net0`, `net1`, … in the order in which the nodes name the subnets, with each subnet's first
    /// address.
    #[must_use]
    pub fn router(&self) -> Option<&NetNs> {
        self.routers().first()
    }

    /// All routers between the subnets. The second has each subnet's second address, and so on.
    #[must_use]
    pub fn routers(&self) -> &[NetNs] {
        self.underlay.routers()
    }

    /// Starts an agent on every node, with all nodes' pods in one pool, and waits until all of them
    /// are in sync. They are returned in the order of the nodes.
    pub fn start_agents(&self, mode: Mode) -> Result<Vec<Agent>> {
        self.start_agents_with(&cluster_yaml(self, mode.ipip_mode(), mode.vxlan_mode()))
    }

    /// As [`Lab::start_agents`], where only flows are carried that the stack has let through.
    pub fn start_established(&self, mode: Mode) -> Result<Vec<Agent>> {
        let cluster = cluster_yaml(self, mode.ipip_mode(), mode.vxlan_mode());
        self.start_agents_as(&cluster, |node| beside_netfilter(&node.agent_config()))
    }

    /// As [`Lab::start_agents`], with a cluster file of your choice.
    pub fn start_agents_with(&self, cluster_yaml: &str) -> Result<Vec<Agent>> {
        self.start_agents_as(cluster_yaml, Node::agent_config)
    }

    fn start_agents_as(
        &self,
        cluster_yaml: &str,
        config: impl Fn(&Node) -> String,
    ) -> Result<Vec<Agent>> {
        let mut agents = self
            .nodes
            .iter()
            .map(|node| Agent::spawn(node, &config(node), cluster_yaml))
            .collect::<Result<Vec<_>>>()?;
        agents.iter_mut().try_for_each(Agent::wait_in_sync)?;
        Ok(agents)
    }

    /// Waits until every node's agent knows the Ethernet addresses of its pods: see
    /// [`Node::wait_resolved`].
    pub fn wait_resolved(&self) -> Result<()> {
        self.nodes.iter().try_for_each(Node::wait_resolved)
    }

    /// Replaces the cluster file of every node, which their agents then reload.
    pub fn write_cluster(&self, cluster_yaml: &str) -> Result<()> {
        self.nodes
            .iter()
            .try_for_each(|node| node.write_cluster(cluster_yaml))
    }

    /// The lab's directory for files, below which each node has its own.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.directories.files
    }

    /// The command that lets a human look around in a namespace of the lab while it runs.
    #[must_use]
    pub fn nsenter(&self, ns: &NetNs) -> String {
        format!(
            "nsenter --mount={} --net={}",
            self.sandbox.path().display(),
            ns.path().display()
        )
    }
}

/// What [`Lab::flat`] builds.
pub(crate) fn on_one_subnet(nodes: u8, pods: usize) -> Vec<NodeSpec> {
    numbered(nodes, pods, |index| format!("192.168.1.{}/24", 10 + index))
}

/// `node-0` and on, at these addresses, with the pod CIDRs 10.244.0.0/24 and up.
fn numbered(nodes: u8, pods: usize, address: impl Fn(u8) -> String) -> Vec<NodeSpec> {
    (0..nodes)
        .map(|index| {
            NodeSpec::new(
                &format!("node-{index}"),
                &address(index),
                &format!("10.244.{index}.0/24"),
            )
            .pods(pods)
        })
        .collect()
}

//! Nodes.

use std::fs;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Output;

use anyhow::{Context as _, Result, ensure};
use ipnet::Ipv4Net;

use super::{NodeSpec, Pod, host};
use crate::batch::IpBatch;
use crate::sandbox::Directories;
use crate::{Background, Build, Confinement, Mac, NetNs, NsCommand, Terminal, agent, eventually};

/// A node: a namespace that forwards between its `eth0` and its pods.
#[derive(Debug)]
pub struct Node {
    spec: NodeSpec,
    ns: NetNs,
    dir: PathBuf,
    pins: PathBuf,
    pods: Vec<Pod>,
    /// How many pods it has had, which tells successors at one address apart.
    pods_added: u8,
}

impl Node {
    /// A node that is not connected yet.
    pub(super) fn new(spec: &NodeSpec, lab: &Directories) -> Result<Self> {
        let dir = lab.files.join(&spec.name);
        fs::create_dir(&dir).with_context(|| format!("create {} for a node", dir.display()))?;
        Ok(Self {
            spec: spec.clone(),
            ns: host::forwarding()?,
            dir,
            pins: lab.pins.join(&spec.name),
            pods: Vec::new(),
            pods_added: 0,
        })
    }

    /// Adds `p0`, `p1`, … at once, from the pod CIDR's third address on.
    pub(super) fn add_numbered_pods(&mut self, count: usize) -> Result<()> {
        let addresses: Vec<_> = self.free_addresses().take(count).collect();
        ensure!(
            addresses.len() == count,
            "{} has no {count} addresses for pods",
            self.spec.pod_cidr
        );
        let pods = addresses
            .into_iter()
            .enumerate()
            .map(|(index, address)| self.new_pod(&format!("p{index}"), address))
            .collect::<Result<_>>()?;
        self.connect(pods, None)
    }

    /// Adds a pod at the first free address from the pod CIDR's third on; the second is the node's
    /// tunnel address.
    pub fn add_pod(&mut self, name: &str) -> Result<&Pod> {
        let address = self.free_addresses().next();
        let address = address.with_context(|| format!("{} is full", self.spec.pod_cidr))?;
        self.add_pod_at(name, address)
    }

    /// Adds a pod at an address of your choice, in the node's CIDR or not.
    pub fn add_pod_at(&mut self, name: &str, address: Ipv4Addr) -> Result<&Pod> {
        let pod = self.new_pod(name, address)?;
        self.connect(vec![pod], None)?;
        Ok(self.pod(name))
    }

    /// As [`Node::add_pod_at`], with a veth that has this interface index on the node.
    pub fn add_pod_with_index(
        &mut self,
        name: &str,
        address: Ipv4Addr,
        index: u32,
    ) -> Result<&Pod> {
        let pod = self.new_pod(name, address)?;
        self.connect(vec![pod], Some(index))?;
        Ok(self.pod(name))
    }

    fn free_addresses(&self) -> impl Iterator<Item = Ipv4Addr> {
        let taken = |address| self.pods.iter().any(|pod| pod.address() == address);
        let hosts = self.spec.pod_cidr.hosts();
        hosts.filter(move |&address| address > self.tunnel_address() && !taken(address))
    }

    fn new_pod(&mut self, name: &str, address: Ipv4Addr) -> Result<Pod> {
        ensure!(
            !self.has_pod(name),
            "node {} already has a pod {name}",
            self.spec.name
        );
        let mac = Mac::of(address, self.pods_added);
        self.pods_added = self.pods_added.wrapping_add(1);
        Pod::new(name, address, mac)
    }

    fn connect(&mut self, pods: Vec<Pod>, index: Option<u32>) -> Result<()> {
        let mut batch = IpBatch::default();
        for pod in &pods {
            pod.connect(&mut batch, self.spec.pod_mtu, index);
        }
        batch.apply(&self.ns)?;
        pods.iter().try_for_each(Pod::bring_up)?;
        self.pods.extend(pods);
        Ok(())
    }

    /// Removes a pod, as its deletion does: its veth disappears, and with it the route. Its
    /// namespace is gone when the last clone of the pod is dropped.
    pub fn remove_pod(&mut self, name: &str) -> Result<()> {
        let pod = self.pods.remove(self.position(name));
        self.ns
            .exec(&format!("ip link delete {}", pod.host_ifname()))?;
        Ok(())
    }

    /// Sets the MTU of both sides of a pod's veth, in bytes.
    pub fn set_pod_mtu(&self, name: &str, bytes: u16) -> Result<()> {
        let pod = self.pod(name);
        self.ns
            .exec(&format!("ip link set {} mtu {bytes}", pod.host_ifname()))?;
        pod.ns().exec(&format!("ip link set eth0 mtu {bytes}"))?;
        Ok(())
    }

    /// Turns on the strict reverse-path filter, for every device.
    pub fn strict_rp_filter(&self) -> Result<()> {
        self.ns.set_sysctl("net.ipv4.conf.all.rp_filter", "1")
    }

    /// The pod called `name`.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    pub fn pod(&self, name: &str) -> &Pod {
        &self.pods[self.position(name)]
    }

    /// Whether there is a pod called `name`.
    #[must_use]
    pub fn has_pod(&self, name: &str) -> bool {
        self.pods.iter().any(|pod| pod.name() == name)
    }

    fn position(&self, name: &str) -> usize {
        let position = self.pods.iter().position(|pod| pod.name() == name);
        position.unwrap_or_else(|| panic!("node {} has no pod {name}", self.spec.name))
    }

    /// The pods, in the order they were added.
    #[must_use]
    pub fn pods(&self) -> &[Pod] {
        &self.pods
    }

    /// Starts a command of this node or of one of its pods beside the test; its output goes to
    /// `<name>.log` in the node's directory.
    pub fn start(&self, name: &str, command: NsCommand) -> Result<Background> {
        Background::start(command, &self.dir.join(format!("{name}.log")))
    }

    /// Runs `underpass` on the node with these arguments and the configuration of the node's agent.
    pub fn underpass(&self, arguments: &[&str]) -> Result<Output> {
        self.underpass_of(Build::Tested, arguments)
    }

    /// As [`Node::underpass`], of another build.
    pub fn underpass_of(&self, build: Build, arguments: &[&str]) -> Result<Output> {
        agent::command(self, build, arguments)?.output()
    }

    /// Starts `underpass` beside the test, as [`Node::underpass`] runs it; its output goes where that of
    /// [`Node::start`] does.
    pub fn start_underpass(&self, name: &str, arguments: &[&str]) -> Result<Background> {
        self.start(name, agent::command(self, Build::Tested, arguments)?)
    }

    /// Starts `underpass` on a terminal with so many lines and columns, with the configuration of the
    /// node's agent.
    pub fn underpass_on_terminal(
        &self,
        arguments: &[&str],
        lines: u16,
        columns: u16,
    ) -> Result<Terminal> {
        Terminal::start(agent::in_session(self, arguments)?, lines, columns)
    }

    /// As [`Node::underpass`], within what a container allows.
    pub fn underpass_confined(
        &self,
        confinement: &Confinement,
        arguments: &[&str],
    ) -> Result<Output> {
        agent::confined(self, confinement, arguments)?.output()
    }

    /// Waits until the node's agent knows the Ethernet addresses of all its pods: until then their
    /// packets go by the stack, which resolves them.
    pub fn wait_resolved(&self) -> Result<()> {
        let what = format!("the pods of {} are resolved", self.spec.name);
        eventually(&what, || {
            let output = self.underpass(&["endpoints", "list"])?;
            let text = String::from_utf8_lossy(&output.stdout);
            Ok(self.pods.iter().all(|pod| {
                // By its address as well: an interface can be its predecessor's row until the agent
                // has noticed.
                let address = pod.address().to_string();
                text.lines().any(|line| {
                    line.split_whitespace().next() == Some(&*address)
                        && line.contains(pod.host_ifname())
                        && !line.contains("unresolved")
                })
            }))
        })
    }

    /// The configuration an agent gets unless told otherwise.
    #[must_use]
    pub fn agent_config(&self) -> String {
        agent::config(self)
    }

    /// Gives `underpass` on the node a configuration, before any agent does.
    pub fn write_config(&self, config_yaml: &str) -> Result<()> {
        agent::write_config(self, config_yaml)
    }

    /// Replaces the node's cluster file as a careful editor does: a reader finds the old one or the
    /// new one.
    pub fn write_cluster(&self, cluster_yaml: &str) -> Result<()> {
        agent::write_cluster(self, cluster_yaml)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.spec.name
    }

    /// The address of its `eth0` and the size of its subnet.
    #[must_use]
    pub fn address(&self) -> Ipv4Net {
        self.spec.address
    }

    /// The Ethernet address of its `eth0`.
    #[must_use]
    pub fn mac(&self) -> Mac {
        Mac::of(self.spec.address.addr(), 0)
    }

    /// The MTU its `eth0` was made with, in bytes.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.spec.mtu
    }

    /// The addresses of its pods.
    #[must_use]
    pub fn pod_cidr(&self) -> Ipv4Net {
        self.spec.pod_cidr
    }

    /// The address its tunnels have: the pod CIDR's second, such as 10.244.0.1. The lab only keeps
    /// it free.
    #[must_use]
    pub fn tunnel_address(&self) -> Ipv4Addr {
        self.spec.tunnel_address()
    }

    /// The Ethernet address its tunnels have. The lab gives it to no device.
    #[must_use]
    pub fn vtep_mac(&self) -> Mac {
        Mac::of_vtep(&self.spec.name)
    }

    /// What it was made from.
    pub(crate) fn spec(&self) -> &NodeSpec {
        &self.spec
    }

    /// Its namespace.
    #[must_use]
    pub fn ns(&self) -> &NetNs {
        &self.ns
    }

    /// Its directory for files: configuration and logs.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Where its agent pins BPF objects.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }
}

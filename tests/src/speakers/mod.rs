//! BGP speakers: real routing daemons, run in namespaces of a lab.

mod bird;
mod frr;

use std::collections::BTreeMap;
use std::fs;
use std::net::Ipv4Addr;
use std::path::PathBuf;

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;

use crate::{Background, Lab, NetNs, Node, NsCommand, eventually};

/// The number of the autonomous system that all speakers are in: Calico's default.
const AS: u32 = 64512;

/// The routing daemons.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Daemon {
    /// BIRD 2, configured as Calico does.
    Bird,
    /// FRR: zebra, which routes by the kernel's next hop objects, and bgpd.
    Frr,
}

/// A host that speaks BGP with all others of a mesh, and routes in its kernel by what it hears. Its
/// daemons are told nothing that outlives them: what it announces is told again to their successors.
///
/// What they have put into the kernel stays when they are gone.
#[derive(Debug)]
pub struct Speaker {
    daemon: Daemon,
    ns: NetNs,
    address: Ipv4Addr,
    peers: Vec<Ipv4Addr>,
    blocks: Vec<Ipv4Net>,
    graceful: bool,
    /// For configuration, logs and control sockets.
    dir: PathBuf,
    /// What runs, by name.
    running: BTreeMap<&'static str, Background>,
}

impl Speaker {
    /// Has all nodes of a lab, and the routers between them, speak BGP with one another. Each node
    /// announces its block. `graceful`: when a daemon is gone, the others wait for its successor.
    ///
    /// They come in the order of the nodes, with the routers behind.
    pub fn mesh(lab: &Lab, daemon: Daemon, graceful: bool) -> Result<Vec<Self>> {
        let hosts = hosts(lab);
        let addresses: Vec<_> = hosts.iter().map(|(_, address, _)| *address).collect();
        hosts
            .into_iter()
            .map(|(ns, address, block)| {
                let dir = lab.dir().join(format!("speaker-{address}"));
                fs::create_dir(&dir).with_context(|| format!("create {}", dir.display()))?;
                let others = addresses.iter().copied().filter(|other| *other != address);
                let mut speaker = Self {
                    daemon,
                    ns,
                    address,
                    peers: others.collect(),
                    blocks: block.into_iter().collect(),
                    graceful,
                    dir,
                    running: BTreeMap::new(),
                };
                speaker.start()?;
                Ok(speaker)
            })
            .collect()
    }

    /// Starts its daemons.
    pub fn start(&mut self) -> Result<()> {
        match self.daemon {
            Daemon::Bird => bird::start(self),
            Daemon::Frr => frr::start(self),
        }
    }

    /// Kills them, without a word to its peers.
    pub fn kill(&mut self) -> Result<()> {
        for daemon in self.running.values_mut() {
            daemon.kill()?;
        }
        self.running.clear();
        Ok(())
    }

    /// Announces a block, beside those it announces already.
    pub fn announce(&mut self, block: Ipv4Net) -> Result<()> {
        self.blocks.push(block);
        match self.daemon {
            Daemon::Bird => bird::reconfigure(self),
            Daemon::Frr => frr::configure(self, &format!("network {block}")),
        }
    }

    /// Announces a block no more.
    pub fn withdraw(&mut self, block: Ipv4Net) -> Result<()> {
        self.blocks.retain(|announced| *announced != block);
        match self.daemon {
            Daemon::Bird => bird::reconfigure(self),
            Daemon::Frr => frr::configure(self, &format!("no network {block}")),
        }
    }

    /// Waits until it speaks with all its peers.
    pub fn wait_established(&self) -> Result<()> {
        self.wait_for_sessions("all", |sessions| sessions == self.peers.len())
    }

    /// Waits until it has noticed that a peer is gone.
    pub fn wait_bereft(&self) -> Result<()> {
        self.wait_for_sessions("not all", |sessions| sessions < self.peers.len())
    }

    /// Whether it waits for this peer to connect. Of each two one does, as with Calico: of two
    /// sessions at once one would be given up, and with it what a restart is to preserve.
    fn is_passive(&self, peer: Ipv4Addr) -> bool {
        peer > self.address
    }

    fn wait_for_sessions(&self, how_many: &str, enough: impl Fn(usize) -> bool) -> Result<()> {
        let what = format!(
            "{} speaks BGP with {how_many} of {:?}",
            self.address, self.peers
        );
        eventually(&what, || {
            let sessions = match self.daemon {
                Daemon::Bird => bird::established(self)?,
                Daemon::Frr => frr::established(self)?,
            };
            Ok(enough(sessions))
        })
    }

    fn run(&mut self, name: &'static str, command: NsCommand) -> Result<()> {
        let log = self.dir.join(format!("{name}.log"));
        self.running.insert(name, Background::start(command, &log)?);
        Ok(())
    }
}

/// The nodes and routers of a lab: their namespaces, addresses and blocks.
fn hosts(lab: &Lab) -> Vec<(NetNs, Ipv4Addr, Option<Ipv4Net>)> {
    let nodes = lab.nodes().iter().map(|node| {
        let block = Some(node.pod_cidr());
        (node.ns().clone(), node.address().addr(), block)
    });
    let subnet = lab.nodes().first().map(Node::address);
    let addresses = subnet.iter().flat_map(Ipv4Net::hosts);
    let routers = lab.routers().iter().zip(addresses);
    let routers = routers.map(|(router, address)| (router.clone(), address, None));
    nodes.chain(routers).collect()
}

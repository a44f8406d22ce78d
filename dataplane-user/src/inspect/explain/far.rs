//! What becomes of a packet on the node that it is sent to, by the cluster file, which describes all
//! nodes: `decide` on the tables that this node would have.

#[cfg(test)]
mod tests;

use std::{net::Ipv4Addr, path::PathBuf};

use anyhow::{Context as _, Result};
use dataplane_common::{
    abi::{Endpoint, Hook, NextHop, NextHopKind},
    decide::{self, Verdict},
    memory::MemoryTables,
    packet::Tunnel,
    reason::{Action, Reason},
    tables::Tables as _,
};
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Leaving, Question};
use crate::{
    cluster::{Cluster, Node},
    config::{Acceleration, Config, Source},
    inspect::rows,
    plan,
    source::file,
};

/// What becomes of a packet on the node that it is sent to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FarNode {
    /// The node's address.
    pub address: Ipv4Addr,
    /// Its name in the cluster file; none where its table is not known, and nothing can be decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// `forward`, `stack` or `drop`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub action: Option<&'static str>,
    /// The counter it would count in at `from_uplink`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// How it comes about, step by step.
    pub steps: Vec<String>,
    /// How it ends.
    pub end: String,
    /// What is not known of that node.
    pub unknown: String,
}

/// What is known of the tables of other nodes.
#[derive(Debug)]
pub enum Others {
    /// They are in this node's cluster file.
    InFile(Box<ClusterFile>),
    /// Nothing, and why.
    Unknown(String),
}

/// A cluster file, and whose it is.
#[derive(Debug)]
pub struct ClusterFile {
    /// This node's configuration.
    pub config: Config,
    /// Where it is.
    pub file: PathBuf,
    /// What is in it.
    pub cluster: Cluster,
}

impl Others {
    /// What the agent's source says of them, which `config` has.
    #[must_use]
    pub fn read(config: Result<Config>) -> Self {
        Self::try_read(config).unwrap_or_else(|error| Self::Unknown(format!("{error:#}")))
    }

    fn try_read(config: Result<Config>) -> Result<Self> {
        let config = config.context("the configuration has the source of routes")?;
        let file = match &config.source {
            Source::File(file) => file.clone(),
            Source::Kernel(_) => {
                let why = "the routes are the kernel's (`source: kernel`), and no file has those of \
                           other nodes";
                return Ok(Self::Unknown(why.to_owned()));
            }
        };
        let cluster = file::read(&file)?;
        Ok(Self::InFile(Box::new(ClusterFile {
            config,
            file,
            cluster,
        })))
    }
}

/// Tells what becomes of the packet of `question`, which leaves to another node.
pub(super) fn tell(leaving: &Leaving, question: &Question, others: &Others) -> FarNode {
    let told = match others {
        Others::InFile(known) => by_file(leaving, question, known),
        Others::Unknown(why) => Err(why.clone()),
    };
    told.unwrap_or_else(|why| FarNode {
        address: leaving.peer.into(),
        name: None,
        action: None,
        reason: None,
        steps: Vec::new(),
        end: "not known here: ask `underpass explain` on that node".to_owned(),
        unknown: format!("its table: {why}"),
    })
}

fn by_file(leaving: &Leaving, question: &Question, known: &ClusterFile) -> Result<FarNode, String> {
    let address = Ipv4Addr::from(leaving.peer);
    let mut nodes = known.cluster.nodes.iter();
    let node = nodes
        .find(|node| node.address == address)
        .ok_or_else(|| format!("no node in {} has this address", known.file.display()))?;
    let mut story = Story {
        cluster: &known.cluster,
        node,
        tables: tables(known, node).map_err(|error| format!("{error:#}"))?,
        steps: Vec::new(),
    };
    story.arrive(leaving);
    story.look_up("source", question.source);
    story.look_up("destination", question.destination);
    story.suppose_pod(question.destination);
    let verdict = decide::from_uplink(&leaving.packet, &story.tables);
    let reason = verdict.reason();
    Ok(FarNode {
        address,
        name: Some(node.name.clone()),
        action: Some(Hook::FromUplink.action(reason).name()),
        reason: Some(reason.name()),
        end: story.end(question.destination, &verdict),
        steps: story.steps,
        unknown: unknown(&known.config),
    })
}

/// What that node would have in its maps, if it carried by routes alone.
fn tables(known: &ClusterFile, node: &Node) -> Result<MemoryTables> {
    let config = Config {
        acceleration: Acceleration::All,
        ..known.config.clone()
    };
    let tables = plan::elsewhere(&config, &known.cluster, &node.name)?;
    let routes = tables.routes.iter().filter_map(|(prefix, key)| {
        let next_hop = tables.next_hops.get(key)?;
        Some(((prefix.prefix_len(), prefix.network().octets()), *next_hop))
    });
    Ok(MemoryTables {
        config: Some(tables.config),
        routes: routes.collect(),
        peers: tables.peers,
        ..MemoryTables::default()
    })
}

/// What the cluster file does not say.
fn unknown(config: &Config) -> String {
    let flows = if config.is_established() {
        "; and whether its stack has let the flow through by now"
    } else {
        ""
    };
    format!(
        "its configuration, taken to be as here; its pods, with their interfaces and Ethernet \
         addresses; its uplinks and neighbours{flows}"
    )
}

struct Story<'c> {
    cluster: &'c Cluster,
    node: &'c Node,
    tables: MemoryTables,
    steps: Vec<String>,
}

impl Story<'_> {
    fn arrive(&mut self, leaving: &Leaving) {
        let from = Ipv4Addr::from(leaving.from);
        let Some(tunnel) = leaving.tunnel else {
            self.say(format!("it comes from {from} over the wire as it is"));
            return;
        };
        let tunnel = match tunnel {
            Tunnel::Ipip => "IPIP",
            Tunnel::Vxlan => "VXLAN",
        };
        self.say(match self.named(from) {
            Some(Node { name, .. }) => format!("it comes from {from} in {tunnel}: its peer {name}"),
            None => format!("it comes from {from} in {tunnel}: no peer of its"),
        });
    }

    fn look_up(&mut self, role: &str, address: Ipv4Addr) {
        let Some(((length, network), next_hop)) = self.tables.route_entry(address.octets()) else {
            self.say(format!("{role} {address} has no route there"));
            return;
        };
        let network = Ipv4Addr::from(network);
        let to = self.described(next_hop);
        self.say(format!("{role} {address} matches {network}/{length}: {to}"));
    }

    /// That there is a pod where one may be. Which there are the file does not say.
    fn suppose_pod(&mut self, address: Ipv4Addr) {
        let route = self.tables.route(address.octets());
        let is_here = route.and_then(NextHop::kind) == Some(NextHopKind::Local);
        if is_here && !self.is_own(address) {
            let pod = Endpoint {
                mtu: u32::MAX,
                mac: [2, 0, 0, 0, 0, 1],
                ..Endpoint::default()
            };
            self.tables.endpoints.insert(address.octets(), pod);
        }
    }

    fn end(&self, destination: Ipv4Addr, verdict: &Verdict) -> String {
        let name = &self.node.name;
        let reason = verdict.reason();
        if let Verdict::Deliver(..) = verdict {
            let known = if self.has_route_of_its_own(destination) {
                "to which the cluster file has a route of its own".to_owned()
            } else {
                format!("if {name} has one: the cluster file has its prefixes alone")
            };
            return format!("would be delivered to the pod {destination}, {known}");
        }
        if Hook::FromUplink.action(reason) == Action::Drop {
            return format!("would be dropped by {name}: {}", reason.description());
        }
        if self.is_own(destination) {
            return format!("would be handed to the stack of {name}, whose own address it is for");
        }
        let route = self.tables.route(destination.octets());
        match route.filter(|_| reason == Reason::NotForPod) {
            Some(next_hop) => format!(
                "would be left to the stack of {name}, which routes it on: {}",
                self.described(next_hop)
            ),
            None => format!(
                "would be left to the stack of {name}: {}",
                reason.description()
            ),
        }
    }

    fn described(&self, next_hop: &NextHop) -> String {
        let kind = rows::kind(next_hop);
        if !next_hop.kind().is_some_and(NextHopKind::is_remote) {
            return kind.to_owned();
        }
        let peer = Ipv4Addr::from(next_hop.peer);
        match self.named(peer) {
            Some(Node { name, .. }) => format!("{kind} to {name} ({peer})"),
            None => format!("{kind} to {peer}"),
        }
    }

    fn named(&self, address: Ipv4Addr) -> Option<&Node> {
        let mut nodes = self.cluster.nodes.iter();
        nodes.find(|node| node.address == address)
    }

    fn is_own(&self, address: Ipv4Addr) -> bool {
        address == self.node.address || Some(address) == self.node.tunnel_address
    }

    fn has_route_of_its_own(&self, address: Ipv4Addr) -> bool {
        let prefix = Ipv4Net::from(address);
        self.cluster.routes.iter().any(|route| route.cidr == prefix)
    }

    fn say(&mut self, step: String) {
        self.steps.push(step);
    }
}

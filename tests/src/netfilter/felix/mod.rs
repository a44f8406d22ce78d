//! What Calico's Felix writes into a node's netfilter: `NetworkPolicy`, and masquerading of what
//! leaves the pools.
//!
//! Read from the sources of Calico 3.33.

mod chains;
mod iptables;
mod nft;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use ipnet::Ipv4Net;

use super::Backend;
use crate::{NetNs, Node, Pod};

/// The pool of a lab's pods.
pub const POOL: &str = "10.244.0.0/16";

/// The set of the pools whose pods are masqueraded when they leave all pools.
pub const MASQUERADED: &str = "masq-ipam-pools";

/// What a `NetworkPolicy`, or several, allow a pod.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// To it.
    pub ingress: Access,
    /// From it.
    pub egress: Access,
}

/// What is allowed in one direction.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Access {
    /// Everything: no policy has selected the pod.
    #[default]
    All,
    /// What one of these allows.
    Only(Vec<Allow>),
}

/// A rule of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Allow {
    /// `tcp`, `udp`, `sctp` or `icmp`.
    pub protocol: &'static str,
    /// The port at the end that is asked, if not any.
    pub port: Option<u16>,
    /// The set in which the other end has to be, if not anybody.
    pub peers: Option<&'static str>,
}

/// Felix on a node: its rules, as they are to be.
#[derive(Debug)]
pub struct Felix {
    backend: Backend,
    ns: NetNs,
    policies: BTreeMap<String, Policy>,
}

impl Policy {
    /// Nothing may come in but this.
    #[must_use]
    pub fn only_in(rules: &[Allow]) -> Self {
        Self {
            ingress: Access::Only(rules.to_vec()),
            egress: Access::All,
        }
    }
}

impl Allow {
    /// Anybody may come to this port.
    #[must_use]
    pub fn to_port(protocol: &'static str, port: u16) -> Self {
        Self {
            protocol,
            port: Some(port),
            peers: None,
        }
    }

    /// Anybody may come by this protocol.
    #[must_use]
    pub fn protocol(protocol: &'static str) -> Self {
        Self {
            protocol,
            port: None,
            peers: None,
        }
    }

    /// Only those in this set.
    #[must_use]
    pub fn from_set(self, name: &'static str) -> Self {
        Self {
            peers: Some(name),
            ..self
        }
    }
}

impl Felix {
    /// Writes the rules of a node all of whose pods may do everything.
    pub fn start(node: &Node, backend: Backend) -> Result<Self> {
        let ifname = |pod: &Pod| (pod.host_ifname().to_owned(), Policy::default());
        let felix = Self {
            backend,
            ns: node.ns().clone(),
            policies: node.pods().iter().map(ifname).collect(),
        };
        let pools: [Ipv4Net; 1] = [POOL.parse().context("the lab's pool")?];
        felix.add_set(chains::ALL_POOLS, &pools)?;
        felix.add_set(MASQUERADED, &pools)?;
        felix.write(&chains::all(&felix.policies), true)?;
        Ok(felix)
    }

    /// Makes a set of addresses that rules can name.
    pub fn add_set(&self, name: &str, members: &[Ipv4Net]) -> Result<()> {
        self.change_sets(&nft::set(name, members), &iptables::set(name, members))
    }

    /// Takes addresses out of a set, as they were put in.
    pub fn withdraw(&self, name: &str, member: Ipv4Net) -> Result<()> {
        self.change_sets(
            &nft::without_member(name, member),
            &iptables::without_member(name, member),
        )
    }

    fn change_sets(&self, nft: &str, ipset: &str) -> Result<()> {
        if self.backend == Backend::Nft {
            return self.backend.load(&self.ns, nft);
        }
        let command = self.ns.command("ipset").arg("restore");
        command.input(ipset)?.run()?;
        Ok(())
    }

    /// Has a policy hold for a pod from now on. What is established stays so, as it does with Felix.
    pub fn apply(&mut self, pod: &Pod, policy: &Policy) -> Result<()> {
        let ifname = pod.host_ifname();
        self.policies.insert(ifname.to_owned(), policy.clone());
        self.write(&chains::of_workload(ifname, policy), false)
    }

    /// Drops what is from and to an address before any other rule sees it, established or not.
    pub fn block(&self, address: Ipv4Addr) -> Result<()> {
        let rules = match self.backend {
            Backend::Nft => nft::block(address),
            _ => iptables::block(address),
        };
        self.backend.load(&self.ns, &rules)
    }

    /// How many packets its rules have dropped. A policy that is written anew begins at zero.
    pub fn dropped(&self) -> Result<u64> {
        let rules = self.backend.list(&self.ns)?;
        let counts = rules.lines().filter_map(|line| match self.backend {
            Backend::Nft => nft::dropped(line),
            _ => iptables::dropped(line),
        });
        Ok(counts.sum())
    }

    fn write(&self, chains: &[chains::Chain], with_hooks: bool) -> Result<()> {
        let rules = match self.backend {
            Backend::Nft => nft::script(chains, with_hooks),
            _ => iptables::script(chains, with_hooks),
        };
        self.backend
            .load(&self.ns, &rules)
            .with_context(|| format!("write as Felix does, by {}:\n{rules}", self.backend))
    }
}

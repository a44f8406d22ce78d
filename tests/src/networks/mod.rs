//! What those who program routes between nodes write into a kernel.
//!
//! Read from the sources of Calico 3.33, flannel and kube-router.

mod flannel;
mod kube_router;

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};

use crate::batch::IpBatch;
use crate::{Lab, Node, calico};

/// Who programs the routes between nodes, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Network {
    /// Calico's Felix, VXLAN between all nodes.
    FelixVxlan,
    /// Calico's Felix, VXLAN to other subnets.
    FelixVxlanCrossSubnet,
    /// Calico's Felix, IPIP between all nodes.
    FelixIpip,
    /// Calico's Felix, IPIP to other subnets.
    FelixIpipCrossSubnet,
    /// Calico's BIRD, without encapsulation: routers between subnets know the pods, too.
    Bird,
    /// Calico's BIRD, IPIP to other subnets.
    BirdIpipCrossSubnet,
    /// flannel, VXLAN between all nodes.
    FlannelVxlan,
    /// flannel without encapsulation, which reaches the nodes of one subnet.
    FlannelHostGw,
    /// flannel, IPIP between all nodes.
    FlannelIpip,
    /// kube-router, IPIP to other subnets, through a device for each node.
    KubeRouter,
}

/// How packets go from one node to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carriage {
    /// As they are.
    Direct,
    /// By IPIP.
    Ipip,
    /// By VXLAN.
    Vxlan,
}

impl Carriage {
    /// The word that `underpass` has for it.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Direct => "direct",
            Self::Ipip => "ipip",
            Self::Vxlan => "vxlan",
        }
    }
}

impl Network {
    /// Whether nodes of different subnets reach one another.
    #[must_use]
    pub fn crosses_subnets(self) -> bool {
        self != Self::FlannelHostGw
    }

    /// How it has `node` send to `peer`.
    #[must_use]
    pub fn carriage(self, node: &Node, peer: &Node) -> Carriage {
        let same_subnet = node.address().contains(&peer.address().addr());
        match self {
            Self::FelixVxlan | Self::FlannelVxlan => Carriage::Vxlan,
            Self::FelixIpip | Self::FlannelIpip => Carriage::Ipip,
            Self::Bird | Self::FlannelHostGw => Carriage::Direct,
            _ if same_subnet => Carriage::Direct,
            Self::FelixVxlanCrossSubnet => Carriage::Vxlan,
            Self::FelixIpipCrossSubnet | Self::BirdIpipCrossSubnet | Self::KubeRouter => {
                Carriage::Ipip
            }
        }
    }

    /// Programs all nodes of `lab`, and the routers between them as far as they have to know.
    pub fn set_up(self, lab: &Lab) -> Result<()> {
        for node in lab.nodes() {
            self.serve_pods(node)?;
            self.add_devices(node)?;
            for peer in lab.nodes() {
                if peer.name() != node.name() {
                    self.meet(lab, node, peer)?;
                }
            }
            if self == Self::Bird {
                announce_to_routers(lab, node)?;
            }
        }
        Ok(())
    }

    /// What is done towards the pods: by Calico on all of these, with flannel as Canal. Only where
    /// Calico owns the addresses has the node's block no other way out.
    fn serve_pods(self, node: &Node) -> Result<()> {
        match self {
            Self::FlannelVxlan | Self::FlannelHostGw | Self::FlannelIpip | Self::KubeRouter => {
                calico::serve_pods(node)
            }
            _ => calico::be_a_calico_node(node),
        }
    }

    fn add_devices(self, node: &Node) -> Result<()> {
        match self {
            Self::FelixVxlan | Self::FelixVxlanCrossSubnet => calico::add_vxlan(node, "noudpcsum"),
            Self::FelixIpip | Self::FelixIpipCrossSubnet | Self::BirdIpipCrossSubnet => {
                calico::add_ipip(node)
            }
            Self::FlannelVxlan => flannel::add_vxlan(node),
            Self::FlannelIpip => flannel::add_ipip(node),
            Self::KubeRouter => kube_router::add_rule(node),
            Self::Bird | Self::FlannelHostGw => Ok(()),
        }
    }

    /// Programs `node` to send to `peer`.
    fn meet(self, lab: &Lab, node: &Node, peer: &Node) -> Result<()> {
        let carriage = self.carriage(node, peer);
        let (block, address) = (peer.pod_cidr(), peer.address().addr());
        let way = match (self, carriage) {
            (Self::FlannelVxlan, _) => return flannel::meet_by_vxlan(node, peer),
            (Self::FlannelIpip, _) => format!("via {address} dev flannel.ipip onlink"),
            (Self::FlannelHostGw, _) => format!("via {address} dev eth0"),
            (Self::KubeRouter, Carriage::Ipip) => return kube_router::meet_by_ipip(node, peer),
            (Self::KubeRouter, _) => format!("via {address} proto 17"),
            (Self::Bird, _) => format!("via {} proto bird", next_hop(lab, node, peer)?),
            (Self::BirdIpipCrossSubnet, Carriage::Ipip) => {
                format!("via {address} dev tunl0 proto bird onlink")
            }
            (Self::BirdIpipCrossSubnet, _) => format!("via {address} dev eth0 proto bird"),
            (_, Carriage::Direct) => format!("via {address} dev eth0 proto 80 onlink"),
            (_, Carriage::Ipip) => format!("via {address} dev tunl0 proto 80 onlink"),
            (_, Carriage::Vxlan) => {
                calico::meet_by_vxlan(node, &peer.into())?;
                format!("via {} dev vxlan.calico onlink", peer.tunnel_address())
            }
        };
        IpBatch::default()
            .add(format_args!("route add {block} {way}"))
            .apply(node.ns())
    }
}

/// Where BIRD has `node` send what is for `peer`: to itself, or to the router before it.
fn next_hop(lab: &Lab, node: &Node, peer: &Node) -> Result<Ipv4Addr> {
    let peer = peer.address().addr();
    if lab.router().is_none() || node.address().contains(&peer) {
        return Ok(peer);
    }
    let router = node.address().hosts().next();
    router.context("the node's subnet has no address for a router")
}

/// Tells the routers where the node's pods are, as a router that is a BGP peer of the nodes knows.
fn announce_to_routers(lab: &Lab, node: &Node) -> Result<()> {
    let (block, address) = (node.pod_cidr(), node.address().addr());
    lab.routers().iter().try_for_each(|router| {
        IpBatch::default()
            .add(format_args!("route add {block} via {address}"))
            .apply(router)
    })
}

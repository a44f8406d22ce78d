//! The modes, each with a topology in which it can be seen.

use anyhow::Result;
use clap::ValueEnum;
use dataplane_common::reason::Reason;
use dataplane_tests::{Lab, Mode};

/// A mode in a topology.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Scenario {
    /// As they are, on one subnet.
    None,
    /// IPIP, on one subnet.
    Ipip,
    /// VXLAN, on one subnet.
    Vxlan,
    /// VXLAN to other subnets only, here over a router.
    CrossSubnet,
}

impl Scenario {
    /// Builds its topology: two nodes with two pods each.
    pub(crate) fn lab(self) -> Result<Lab> {
        match self {
            Self::None | Self::Ipip | Self::Vxlan => Lab::flat(2, 2),
            Self::CrossSubnet => Lab::routed(2, 2),
        }
    }

    /// The mode of the agents.
    pub(crate) fn mode(self) -> Mode {
        match self {
            Self::None => Mode::None,
            Self::Ipip => Mode::Ipip,
            Self::Vxlan => Mode::Vxlan,
            Self::CrossSubnet => Mode::CrossSubnet,
        }
    }

    /// One line on what happens to packets between nodes.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::None => "pod packets cross between the nodes as they are",
            Self::Ipip => "pod packets cross between the nodes in IP",
            Self::Vxlan => "pod packets cross between the nodes in VXLAN",
            Self::CrossSubnet => "the nodes are on different subnets, hence VXLAN between them",
        }
    }

    /// What the packets between pods of different nodes are counted as, if programs carry them as
    /// the mode says.
    pub(crate) fn carried(self) -> [Reason; 2] {
        match self {
            Self::None => [Reason::SentDirect, Reason::ReceivedDirect],
            Self::Ipip => [Reason::SentIpip, Reason::ReceivedIpip],
            Self::Vxlan | Self::CrossSubnet => [Reason::SentVxlan, Reason::ReceivedVxlan],
        }
    }
}

//! The cluster route table of a lab.

use std::fmt::{self, Write as _};

use crate::{Lab, Node, NodeSpec};

/// How pod traffic crosses between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// As it is: the underlay routes pod addresses.
    None,
    /// IP in IP, always.
    Ipip,
    /// VXLAN, always.
    Vxlan,
    /// As it is on the node's own subnet, VXLAN beyond.
    CrossSubnet,
}

impl Mode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::None, Self::Ipip, Self::Vxlan, Self::CrossSubnet];

    /// Those that nodes on one subnet have, with what the names of their reasons end with.
    pub const ON_ONE_SUBNET: [(Self, &str); 3] = [
        (Self::None, "direct"),
        (Self::Ipip, "ipip"),
        (Self::Vxlan, "vxlan"),
    ];

    /// Calico's word for it in a pool's `ipipMode`.
    #[must_use]
    pub fn ipip_mode(self) -> &'static str {
        match self {
            Self::Ipip => "Always",
            Self::None | Self::Vxlan | Self::CrossSubnet => "Never",
        }
    }

    /// Calico's word for it in a pool's `vxlanMode`.
    #[must_use]
    pub fn vxlan_mode(self) -> &'static str {
        match self {
            Self::None | Self::Ipip => "Never",
            Self::Vxlan => "Always",
            Self::CrossSubnet => "CrossSubnet",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::None => "no encapsulation",
            Self::Ipip => "IPIP",
            Self::Vxlan => "VXLAN",
            Self::CrossSubnet => "VXLAN across subnets",
        })
    }
}

/// The cluster file that describes `lab`: one pool, 10.244.0.0/16, with Calico's words for its modes
/// (`Always`, `CrossSubnet`, `Never`), and the nodes.
#[must_use]
pub fn cluster_yaml(lab: &Lab, ipip_mode: &str, vxlan_mode: &str) -> String {
    cluster_yaml_of(lab.nodes().iter().map(Node::spec), ipip_mode, vxlan_mode)
}

/// As [`cluster_yaml`], of nodes that are not all in one lab.
pub(crate) fn cluster_yaml_of<'a>(
    nodes: impl IntoIterator<Item = &'a NodeSpec>,
    ipip_mode: &str,
    vxlan_mode: &str,
) -> String {
    let pool = pool_yaml("10.244.0.0/16", ipip_mode, vxlan_mode);
    format!("pools:\n{pool}{}", nodes_yaml(nodes))
}

/// As [`cluster_yaml`], but each node's CIDR is a pool with a mode of its own, by which the others
/// send to it; `modes` are in the order of the nodes.
#[must_use]
pub fn cluster_yaml_by_node(lab: &Lab, modes: &[Mode]) -> String {
    let pools = lab.nodes().iter().zip(modes).map(|(node, mode)| {
        let cidr = node.pod_cidr().to_string();
        pool_yaml(&cidr, mode.ipip_mode(), mode.vxlan_mode())
    });
    let nodes = nodes_yaml(lab.nodes().iter().map(Node::spec));
    format!("pools:\n{}{nodes}", pools.collect::<String>())
}

fn pool_yaml(cidr: &str, ipip_mode: &str, vxlan_mode: &str) -> String {
    format!(
        "  - cidr: {cidr}\n    \
             ipipMode: {ipip_mode}\n    \
             vxlanMode: {vxlan_mode}\n"
    )
}

fn nodes_yaml<'a>(nodes: impl IntoIterator<Item = &'a NodeSpec>) -> String {
    let mut yaml = "nodes:\n".to_owned();
    for node in nodes {
        write!(
            yaml,
            "  - name: {}\n    \
                 address: {}\n    \
                 podCIDRs: [{}]\n    \
                 tunnelAddress: {}\n",
            node.name,
            node.address,
            node.pod_cidr,
            node.tunnel_address(),
        )
        .expect("write into a string");
    }
    yaml
}

//! The tables that another node would have, as far as the cluster's table tells.

use std::collections::BTreeMap;

use anyhow::{Result, bail};

use super::{Model, Tables, plan};
use crate::{
    cluster::{Cluster, Node},
    config::Config,
    kernel::{Address, Link, Underlay},
    node::NodeState,
};

/// The tables of the node `name`, configured as `config` says of this one. Of that node's kernel nothing
/// is known: there are no pods in them, each peer is a neighbour on one uplink, and the numbers of
/// interfaces and the MTUs mean nothing. By these nothing is decided that arrives there.
pub fn elsewhere(config: &Config, cluster: &Cluster, name: &str) -> Result<Tables> {
    const CARRIER: u32 = 2;
    let Some(node) = cluster.node(name) else {
        bail!("the cluster table has no node {name}");
    };
    let config = Config {
        node: name.to_owned(),
        uplinks: Vec::new(),
        ..config.clone()
    };
    let model = Model {
        config: &config,
        cluster,
        node: &kernel_of(node, cluster),
    };
    Ok(plan(&model, CARRIER)?.tables)
}

/// What that node's kernel has to say for every peer to have a next hop.
fn kernel_of(node: &Node, cluster: &Cluster) -> NodeState {
    const UPLINK: u32 = 1;
    let uplink = Link {
        index: UPLINK,
        mtu: u32::MAX,
        ..Link::default()
    };
    let underlay = Underlay {
        oif: UPLINK,
        gateway: None,
        source: node.address,
        mtu: None,
    };
    let peers = cluster.nodes.iter().map(|peer| peer.address);
    NodeState {
        links: BTreeMap::from([(UPLINK, uplink)]),
        addresses: vec![Address {
            index: UPLINK,
            address: node.address,
            prefix_len: node.subnet.prefix_len(),
        }],
        pods: Vec::new(),
        underlays: peers.map(|peer| (peer, underlay)).collect(),
    }
}

//! `cluster.yaml` as it is written. What the fields say here is in docs/configuration.md and in the
//! schema that editors take.
//!
//! Every field is optional here, so that validation can report all that are missing, in the
//! author's words; only fields that do not exist stop the reading.

use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::json;

use super::pools::WHENS;
use crate::document::{Located, scalar::words};

/// The cluster's nodes and their pods' addresses, the same on every node. All mistakes in it are
/// reported at once, by line; while there are any, the table that was read before stays.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["pools", "nodes"]))]
pub(super) struct RawCluster {
    /// The networks that pods have their addresses from, and how packets to them travel. They may not
    /// overlap.
    #[schemars(
        example = json!([{ "cidr": "10.244.0.0/16", "vxlanMode": "Always" }]),
        length(min = 1)
    )]
    pub(super) pools: Option<Vec<Located<RawPool>>>,
    /// All nodes, this one included.
    #[schemars(
        example = json!([{ "name": "node1", "address": "192.168.1.10/24", "podCIDRs": ["10.244.0.0/24"] }]),
        length(min = 1)
    )]
    pub(super) nodes: Option<Vec<Located<RawNode>>>,
    /// Routes besides those that the nodes' `podCIDRs` make. The longest prefix wins.
    #[schemars(example = json!([{ "cidr": "10.244.9.0/24", "blackhole": true }]))]
    pub(super) routes: Option<Vec<Located<RawRoute>>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["cidr"]))]
pub(super) struct RawPool {
    /// The network.
    #[schemars(example = &"10.244.0.0/16", extend("x-values" = "an IPv4 prefix without host bits"))]
    pub(super) cidr: Option<Located<String>>,
    /// Whether packets to other nodes go by IPIP: always, only to those on another subnet, or never,
    /// which is what absence means.
    #[schemars(example = &"CrossSubnet", extend("enum" = words(&WHENS)))]
    #[serde(rename = "ipipMode")]
    pub(super) ipip_mode: Option<Located<String>>,
    /// The same by VXLAN. One of the two is `Never`.
    #[schemars(example = &"Never", extend("enum" = words(&WHENS)))]
    #[serde(rename = "vxlanMode")]
    pub(super) vxlan_mode: Option<Located<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["name", "address"]))]
pub(super) struct RawNode {
    /// The name that it has in Kubernetes.
    #[schemars(example = &"node1")]
    pub(super) name: Option<Located<String>>,
    /// Its own address, outside of the pools, with the mask of its subnet, which `CrossSubnet`
    /// compares.
    #[schemars(example = &"192.168.1.10/24", extend("x-values" = "an IPv4 address with a mask"))]
    pub(super) address: Option<Located<String>>,
    /// Prefixes, in the pools, that its pods have their addresses from.
    #[schemars(example = ["10.244.0.0/24"], extend("x-values" = "IPv4 prefixes without host bits"))]
    #[serde(rename = "podCIDRs")]
    pub(super) pod_cidrs: Option<Vec<Located<String>>>,
    /// The host's own address inside the tunnel, in one of the pools. Without one, the host sends to
    /// remote pods with its own.
    #[schemars(example = &"10.244.0.1", extend("x-values" = "an IPv4 address"))]
    #[serde(rename = "tunnelAddress")]
    pub(super) tunnel_address: Option<Located<String>>,
    /// The Ethernet address of its end of the VXLAN tunnels. Unless given, that which Calico makes of
    /// the node's name: `66:`, and the beginning of its SHA-1.
    #[schemars(example = &"66:5a:01:02:03:04", extend("x-values" = "a MAC address, not multicast"))]
    #[serde(rename = "vtepMAC")]
    pub(super) vtep_mac: Option<Located<String>>,
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(extend("required" = ["cidr"]))]
pub(super) struct RawRoute {
    /// What it is for, in one of the pools.
    #[schemars(example = &"10.244.0.9/32", extend("x-values" = "an IPv4 prefix without host bits"))]
    pub(super) cidr: Option<Located<String>>,
    /// The name of the node that it leads to. Either this or `blackhole`.
    #[schemars(example = &"node1")]
    pub(super) node: Option<Located<String>>,
    /// Whether packets are dropped. Only `true` makes sense.
    #[schemars(example = true)]
    pub(super) blackhole: Option<Located<bool>>,
}

//! `cluster.yaml` as it is written. Every field is optional here, so that validation can report
//! all that are missing, in the author's words; only fields that do not exist stop the reading.

use serde::Deserialize;

use crate::document::Located;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawCluster {
    pub(super) pools: Option<Vec<Located<RawPool>>>,
    pub(super) nodes: Option<Vec<Located<RawNode>>>,
    pub(super) routes: Option<Vec<Located<RawRoute>>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawPool {
    pub(super) cidr: Option<Located<String>>,
    #[serde(rename = "ipipMode")]
    pub(super) ipip_mode: Option<Located<String>>,
    #[serde(rename = "vxlanMode")]
    pub(super) vxlan_mode: Option<Located<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawNode {
    pub(super) name: Option<Located<String>>,
    pub(super) address: Option<Located<String>>,
    #[serde(rename = "podCIDRs")]
    pub(super) pod_cidrs: Option<Vec<Located<String>>>,
    #[serde(rename = "tunnelAddress")]
    pub(super) tunnel_address: Option<Located<String>>,
    #[serde(rename = "vtepMAC")]
    pub(super) vtep_mac: Option<Located<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRoute {
    pub(super) cidr: Option<Located<String>>,
    pub(super) node: Option<Located<String>>,
    pub(super) blackhole: Option<Located<bool>>,
}

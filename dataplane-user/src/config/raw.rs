//! `config.yaml` as it is written. What the fields say here is in docs/configuration.md and in the
//! schema that editors take.

use std::{borrow::Cow, fmt};

use dataplane_common::abi::MAX_GATEWAYS;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{
    Deserialize, Deserializer,
    de::{self, MapAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::json;

use super::{ACCELERATIONS, ATTACHES, BUFFER, MAX_DSCP, MAX_VNI, REVERIFY, XDPS};
use crate::document::{Located, scalar::words};

/// What one node's agent is told about its node. Every key has a default, so an empty file is a
/// valid configuration. A key that does not exist is an error.
#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(super) struct RawConfig {
    /// The name that this node has in the cluster file. Unless given, `$NODE_NAME`, else the
    /// hostname.
    #[schemars(example = &"node1")]
    pub(super) node: Option<Located<String>>,
    /// The interfaces that lead to the other nodes. If there are none in the list: with a cluster
    /// file, the one that holds this node's address; with the kernel's routes, those that routes
    /// lead out of.
    #[schemars(example = ["eth0"])]
    pub(super) uplinks: Option<Vec<Located<String>>>,
    /// The host sides of the pods' veths. `*` stands for any characters, `?` for one. None of them
    /// may be an uplink.
    #[schemars(example = ["cali*", "veth?"], length(min = 1))]
    pub(super) workloads: Option<Vec<Located<String>>>,
    /// Addresses for which proxy ARP answers the pods.
    #[schemars(example = ["169.254.1.1"], length(max = MAX_GATEWAYS), extend("x-values" = "IPv4 addresses"))]
    pub(super) gateways: Option<Vec<Located<String>>>,
    /// Which packets are carried: those of flows that netfilter has let through unchanged both ways,
    /// or all that have a route, beneath netfilter.
    #[schemars(example = &"all", extend("enum" = words(&ACCELERATIONS)))]
    pub(super) acceleration: Option<Located<String>>,
    /// After how long netfilter sees a packet of an established flow again.
    #[schemars(
        example = &"500ms",
        extend("x-values" = format!("a time from {:?} to {:?}", REVERIFY.start(), REVERIFY.end()))
    )]
    pub(super) reverify: Option<Located<String>>,
    /// Whether pods may send IPIP and VXLAN packets themselves, as Calico's
    /// `allowIPIPPacketsFromWorkloads` and `allowVXLANPacketsFromWorkloads` say.
    #[schemars(example = true)]
    pub(super) workload_tunnels: Option<bool>,
    /// How programs are attached to traffic control: by tcx links (Linux 6.6), by filters of a clsact
    /// queueing discipline, or by the first where the kernel has it.
    #[schemars(example = &"clsact", extend("enum" = words(&ATTACHES)))]
    pub(super) attach: Option<Located<String>>,
    /// Whether XDP opens what comes in tunnels: in the driver, where that is faster (`auto`) or
    /// wherever the driver can (`native`); behind the driver, on any interface (`generic`); or not at
    /// all, but on traffic control (`off`).
    #[schemars(example = &"native", extend("enum" = words(&XDPS)))]
    pub(super) xdp: Option<Located<String>>,
    /// Where the cluster's routes come from.
    #[schemars(example = &"kernel")]
    pub(super) source: Option<RawSource>,
    /// The tunnels between nodes.
    #[schemars(example = json!({ "dscp": "inherit" }))]
    pub(super) tunnel: Option<RawTunnel>,
    /// Where health and metrics are served, by HTTP.
    #[schemars(
        example = &"192.168.1.10:9478",
        extend("x-values" = "an address, of either family, and a TCP port; or `off`")
    )]
    pub(super) listen: Option<Located<String>>,
    /// The directory, in a BPF file system, that maps, links and programs are pinned in.
    #[schemars(example = &"/sys/fs/bpf/underpass", extend("x-values" = "an absolute path"))]
    pub(super) pins: Option<Located<String>>,
}

#[derive(Default)]
pub(super) struct RawSource {
    pub(super) file: Option<String>,
    pub(super) kernel: Option<RawKernelSource>,
}

impl JsonSchema for RawSource {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Source".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "const": "kernel" }, generator.subschema_for::<RawFields>()],
            "x-values": "`kernel`, or one of the keys below",
        })
    }
}

/// `source: kernel`, or fields.
impl<'de> Deserialize<'de> for RawSource {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WordOrFields;

        impl<'de> Visitor<'de> for WordOrFields {
            type Value = RawSource;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("kernel, or fields such as {file: cluster.yaml}")
            }

            fn visit_str<E: de::Error>(self, word: &str) -> Result<RawSource, E> {
                match word {
                    "kernel" => Ok(RawSource {
                        kernel: Some(RawKernelSource::default()),
                        ..RawSource::default()
                    }),
                    other => Err(E::custom(format!(
                        "source '{other}' is none: write kernel, or {{file: cluster.yaml}}"
                    ))),
                }
            }

            fn visit_unit<E>(self) -> Result<RawSource, E> {
                Ok(RawSource::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<RawSource, A::Error> {
                let RawFields { file, kernel } =
                    RawFields::deserialize(MapAccessDeserializer::new(map))?;
                Ok(RawSource { file, kernel })
            }
        }

        deserializer.deserialize_any(WordOrFields)
    }
}

#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct RawFields {
    /// A cluster file, as below. A relative path is relative to this file.
    #[schemars(example = &"cluster.yaml")]
    file: Option<String>,
    /// The kernel's own routes, which Calico, flannel, kube-router or others write.
    #[schemars(example = json!({ "only": ["10.244.0.0/16"] }))]
    kernel: Option<RawKernelSource>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawKernelSource {
    /// The networks whose routes are mirrored. If there are none in the list, all routes that lead to
    /// a gateway are, but the default route.
    #[schemars(example = ["10.244.0.0/16"], extend("x-values" = "IPv4 prefixes"))]
    pub(super) only: Option<Vec<Located<String>>>,
    /// Bytes in which the kernel's changes wait to be read. If they are too few, everything is read
    /// again.
    #[schemars(example = 1 << 20, range(min = *BUFFER.start(), max = *BUFFER.end()))]
    pub(super) buffer: Option<Located<u64>>,
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawTunnel {
    /// The DSCP of outer headers, or `inherit` for each packet's own. Their ECN is by RFC 6040 always.
    #[serde(default)]
    #[schemars(example = &"inherit", schema_with = "dscp")]
    pub(super) dscp: Option<Located<String>>,
    /// VXLAN's parameters, the same on all nodes. With the kernel's routes, network and port are those
    /// of its VXLAN device.
    #[schemars(example = json!({ "port": 8472 }))]
    pub(super) vxlan: Option<RawVxlan>,
}

fn dscp(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "anyOf": [
            { "type": "integer", "minimum": 0, "maximum": MAX_DSCP },
            { "const": "inherit" },
        ],
        "x-values": format!("a whole number from 0 to {MAX_DSCP}, or `inherit`"),
    })
}

#[derive(Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RawVxlan {
    /// The network identifier.
    #[schemars(example = 1, range(max = MAX_VNI))]
    pub(super) vni: Option<Located<u64>>,
    /// The UDP port that tunnels are sent to.
    #[schemars(example = 8472, range(min = 1, max = u16::MAX))]
    pub(super) port: Option<Located<u64>>,
    /// Whether the outer UDP header has a checksum. No receiver needs it; with it, the kernel's VXLAN
    /// device encapsulates, at its speed.
    #[schemars(example = true)]
    pub(super) checksum: Option<bool>,
}

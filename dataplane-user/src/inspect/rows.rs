//! What the maps hold, as rows.

use std::net::Ipv4Addr;

use dataplane_common::{
    abi::{Counter, Endpoint, Hook, NextHop, NextHopKind, Peer},
    memory::MemoryTables,
    reason::Reason,
};
use ipnet::Ipv4Net;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Listed, Row};
use crate::{address::Mac, fib::Unmirrored, kernel::interface_name};

/// A route and its next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RouteRow {
    /// Destinations.
    #[schemars(with = "String")]
    pub prefix: Ipv4Net,
    /// `local`, `blackhole`, `direct`, `ipip`, `vxlan`, `multipath` or `unset`.
    pub kind: &'static str,
    /// The node that has the prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Ipv4Addr>,
    /// The neighbour packets are sent to, where it is not the peer itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// The interface they leave by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Longest packet in bytes, before encapsulation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// The ways of a `multipath`, and how many of 32 flows take each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ways: Vec<WayRow>,
}

/// One of the ways of a route that has many.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WayRow {
    /// Of 32 flows, how many take it.
    pub share: usize,
    /// As in [`RouteRow`], as are those that follow.
    pub kind: &'static str,
    /// The node that has the prefix.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Ipv4Addr>,
    /// The neighbour packets are sent to, where it is not the peer itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// The interface they leave by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Longest packet in bytes, before encapsulation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
}

impl RouteRow {
    /// The row of a route.
    #[must_use]
    pub fn new(prefix: Ipv4Net, next_hop: &NextHop, tables: &MemoryTables) -> Self {
        let WayRow {
            share: _,
            kind,
            peer,
            gateway,
            interface,
            mtu,
        } = WayRow::new(0, next_hop);
        Self {
            prefix,
            kind,
            peer,
            gateway,
            interface,
            mtu,
            ways: ways(next_hop, tables)
                .iter()
                .map(|(way, share)| WayRow::new(*share, way))
                .collect(),
        }
    }
}

impl WayRow {
    fn new(share: usize, next_hop: &NextHop) -> Self {
        let remote = next_hop.kind().is_some_and(NextHopKind::is_remote);
        let peer = Ipv4Addr::from(next_hop.peer);
        let gateway = (next_hop.gateway != next_hop.peer).then(|| next_hop.gateway.into());
        Self {
            share,
            kind: kind(next_hop),
            peer: (remote && !peer.is_unspecified()).then_some(peer),
            gateway: remote.then_some(gateway).flatten(),
            interface: remote.then(|| interface(next_hop.ifindex)),
            mtu: remote.then_some(next_hop.mtu),
        }
    }
}

/// The ways of a next hop that has many, in the order of their places, and at how many each is.
pub(super) fn ways(next_hop: &NextHop, tables: &MemoryTables) -> Vec<(NextHop, usize)> {
    if next_hop.kind() != Some(NextHopKind::Multipath) {
        return Vec::new();
    }
    let places = tables.multipaths.get(&next_hop.entry);
    let mut ways: Vec<(NextHop, usize)> = Vec::new();
    for way in places.into_iter().flatten() {
        match ways.iter_mut().find(|(seen, _)| seen == way) {
            Some((_, share)) => *share += 1,
            None => ways.push((*way, 1)),
        }
    }
    ways
}

impl Row for RouteRow {
    const COLUMNS: &'static [&'static str] =
        &["PREFIX", "KIND", "PEER", "GATEWAY", "INTERFACE", "MTU"];
    const MORE: &'static [&'static str] = &["SHARES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.prefix.to_string(),
            self.kind.to_owned(),
            self.cell(self.peer.as_ref(), |way| way.peer.as_ref()),
            self.cell(self.gateway.as_ref(), |way| way.gateway.as_ref()),
            self.cell(self.interface.as_ref(), |way| way.interface.as_ref()),
            self.cell(self.mtu.as_ref(), |way| way.mtu.as_ref()),
        ]
    }

    fn more(&self) -> Vec<String> {
        let shares = self.ways.iter().map(|way| way.share.to_string());
        let shares: Vec<_> = shares.collect();
        vec![optional(
            (!shares.is_empty()).then(|| shares.join(",")).as_ref(),
        )]
    }
}

impl Listed for RouteRow {
    const KIND: &'static str = "Route";

    fn key(&self) -> String {
        self.prefix.to_string()
    }

    fn says_as(&self, other: &Self) -> bool {
        self == other
    }
}

impl RouteRow {
    /// What is `own`, or what each way has.
    fn cell<T: ToString>(&self, own: Option<&T>, of: impl Fn(&WayRow) -> Option<&T>) -> String {
        if self.ways.is_empty() {
            return optional(own);
        }
        let ways = self.ways.iter().map(|way| optional(of(way)));
        ways.collect::<Vec<_>>().join(",")
    }
}

/// A prefix whose packets stay with the stack.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct UnmirroredRow {
    /// Destinations.
    #[schemars(with = "String")]
    pub prefix: Ipv4Net,
    /// Why.
    pub why: String,
}

impl From<Unmirrored> for UnmirroredRow {
    fn from(Unmirrored { prefix, why }: Unmirrored) -> Self {
        Self { prefix, why }
    }
}

impl Row for UnmirroredRow {
    const COLUMNS: &'static [&'static str] = &["PREFIX", "WHY"];

    fn cells(&self) -> Vec<String> {
        vec![self.prefix.to_string(), self.why.clone()]
    }
}

impl Listed for UnmirroredRow {
    const KIND: &'static str = "UnmirroredRoute";

    fn key(&self) -> String {
        self.prefix.to_string()
    }

    fn says_as(&self, other: &Self) -> bool {
        self == other
    }
}

/// A local pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndpointRow {
    /// Its address.
    pub address: Ipv4Addr,
    /// The host side of its veth.
    pub interface: String,
    /// Index of that interface.
    pub ifindex: u32,
    /// The pod's Ethernet address, once it is resolved.
    pub mac: Option<Mac>,
    /// The host side's Ethernet address.
    pub host_mac: Mac,
    /// MTU of that interface, in bytes.
    pub mtu: u32,
}

impl EndpointRow {
    /// The row of a pod.
    #[must_use]
    pub fn new(address: Ipv4Addr, endpoint: &Endpoint) -> Self {
        let mac = Mac(endpoint.mac);
        Self {
            address,
            interface: interface(endpoint.ifindex),
            ifindex: endpoint.ifindex,
            mac: (!mac.is_zero()).then_some(mac),
            host_mac: Mac(endpoint.host_mac),
            mtu: endpoint.mtu,
        }
    }
}

impl Row for EndpointRow {
    const COLUMNS: &'static [&'static str] =
        &["ADDRESS", "INTERFACE", "IFINDEX", "MAC", "HOST-MAC", "MTU"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.address.to_string(),
            self.interface.clone(),
            self.ifindex.to_string(),
            self.mac
                .map_or("unresolved".to_owned(), |mac| mac.to_string()),
            self.host_mac.to_string(),
            self.mtu.to_string(),
        ]
    }
}

impl Listed for EndpointRow {
    const KIND: &'static str = "Endpoint";

    fn key(&self) -> String {
        self.address.to_string()
    }

    fn says_as(&self, other: &Self) -> bool {
        self == other
    }
}

/// Another node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PeerRow {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its own address inside the tunnel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tunnel_address: Option<Ipv4Addr>,
    /// Its VTEP.
    #[serde(rename = "vtepMAC")]
    pub vtep_mac: Mac,
    /// How its pods are reached; more than one way where pools differ.
    pub modes: Vec<&'static str>,
    /// How many routes lead to it.
    pub routes: usize,
}

impl PeerRow {
    /// The row of a node, to which `routes` lead.
    #[must_use]
    pub fn new(address: Ipv4Addr, peer: &Peer, routes: &[NextHop]) -> Self {
        let mut modes: Vec<_> = routes.iter().map(kind).collect();
        modes.sort_unstable();
        modes.dedup();
        let tunnel = Ipv4Addr::from(peer.tunnel);
        Self {
            address,
            tunnel_address: (!tunnel.is_unspecified()).then_some(tunnel),
            vtep_mac: Mac(peer.vtep_mac),
            modes,
            routes: routes.len(),
        }
    }
}

impl Row for PeerRow {
    const COLUMNS: &'static [&'static str] =
        &["ADDRESS", "TUNNEL-ADDRESS", "VTEP-MAC", "MODES", "ROUTES"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.address.to_string(),
            optional(self.tunnel_address.as_ref()),
            self.vtep_mac.to_string(),
            self.modes.join(","),
            self.routes.to_string(),
        ]
    }
}

impl Listed for PeerRow {
    const KIND: &'static str = "Peer";

    fn key(&self) -> String {
        self.address.to_string()
    }

    fn says_as(&self, other: &Self) -> bool {
        self == other
    }
}

/// A counter.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CounterRow {
    /// Where the packets were seen.
    pub hook: &'static str,
    /// What became of them.
    pub action: &'static str,
    /// Why.
    pub reason: &'static str,
    /// How many; a segmentation-offloaded packet counts once.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
    /// The reason in a sentence.
    pub description: &'static str,
}

impl CounterRow {
    /// The row of a counter.
    #[must_use]
    pub fn new(hook: Hook, reason: Reason, counter: Counter) -> Self {
        Self {
            hook: hook.name(),
            action: hook.action(reason).name(),
            reason: reason.name(),
            packets: counter.packets,
            bytes: counter.bytes,
            description: reason.description(),
        }
    }
}

impl Row for CounterRow {
    const COLUMNS: &'static [&'static str] =
        &["HOOK", "ACTION", "REASON", "PACKETS", "BYTES", "MEANING"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.hook.to_owned(),
            self.action.to_owned(),
            self.reason.to_owned(),
            self.packets.to_string(),
            self.bytes.to_string(),
            self.description.to_owned(),
        ]
    }
}

impl Listed for CounterRow {
    const KIND: &'static str = "Counter";

    fn key(&self) -> String {
        format!("{} {}", self.hook, self.reason)
    }

    fn says_as(&self, other: &Self) -> bool {
        self == other
    }
}

/// The word for a next hop's kind.
pub(crate) fn kind(next_hop: &NextHop) -> &'static str {
    match next_hop.kind() {
        None => "unset",
        Some(NextHopKind::Local) => "local",
        Some(NextHopKind::Blackhole) => "blackhole",
        Some(NextHopKind::Direct) => "direct",
        Some(NextHopKind::Ipip) => "ipip",
        Some(NextHopKind::Vxlan) => "vxlan",
        Some(NextHopKind::Multipath) => "multipath",
    }
}

/// The name of an interface, or its number where it is gone.
pub(crate) fn interface(ifindex: u32) -> String {
    interface_name(ifindex).unwrap_or_else(|| format!("#{ifindex} (gone)"))
}

pub(crate) fn optional<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "-".to_owned(), ToString::to_string)
}

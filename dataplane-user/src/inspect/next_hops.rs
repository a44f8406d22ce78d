//! The next hops that routes lead to.

use std::{collections::BTreeMap, net::Ipv4Addr};

use anyhow::Result;
use dataplane_common::abi::{NextHop, NextHopKind};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Listed, Row, rows};
use crate::{
    address::Mac,
    dataplane::{self, Pins, RouteMap, Table as _},
};

/// A next hop.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct NextHopRow {
    /// Its number.
    pub number: u64,
    /// As of a route.
    pub kind: &'static str,
    /// The node that it leads to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer: Option<Ipv4Addr>,
    /// The neighbour packets are sent to: the peer itself, or the router before it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gateway: Option<Ipv4Addr>,
    /// The interface they leave by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// Longest packet in bytes, before encapsulation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u16>,
    /// How many routes lead to it. Those with many ways lead to a next hop of their own.
    pub routes: usize,
    /// Source of the outer header.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Ipv4Addr>,
    /// The peer's VTEP.
    #[serde(rename = "vtepMAC", skip_serializing_if = "Option::is_none")]
    pub vtep_mac: Option<Mac>,
}

impl NextHopRow {
    fn new(number: u64, next_hop: &NextHop, routes: usize) -> Self {
        let kind = next_hop.kind();
        let remote = kind.is_some_and(NextHopKind::is_remote);
        let set = |address: [u8; 4]| {
            let address = Ipv4Addr::from(address);
            (remote && !address.is_unspecified()).then_some(address)
        };
        Self {
            number,
            kind: rows::kind(next_hop),
            peer: set(next_hop.peer),
            gateway: set(next_hop.gateway),
            interface: remote.then(|| rows::interface(next_hop.ifindex)),
            mtu: remote.then_some(next_hop.mtu),
            routes,
            source: set(next_hop.source),
            vtep_mac: (kind == Some(NextHopKind::Vxlan)).then_some(Mac(next_hop.vtep_mac)),
        }
    }

    /// Whether it leads to this address.
    #[must_use]
    pub fn leads_to(&self, address: Ipv4Addr) -> bool {
        [self.peer, self.gateway].contains(&Some(address))
    }
}

impl Row for NextHopRow {
    const COLUMNS: &'static [&'static str] = &[
        "NUMBER",
        "KIND",
        "PEER",
        "GATEWAY",
        "INTERFACE",
        "MTU",
        "ROUTES",
    ];
    const MORE: &'static [&'static str] = &["SOURCE", "VTEP-MAC"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.number.to_string(),
            self.kind.to_owned(),
            rows::optional(self.peer.as_ref()),
            rows::optional(self.gateway.as_ref()),
            rows::optional(self.interface.as_ref()),
            rows::optional(self.mtu.as_ref()),
            self.routes.to_string(),
        ]
    }

    fn more(&self) -> Vec<String> {
        vec![
            rows::optional(self.source.as_ref()),
            rows::optional(self.vtep_mac.as_ref()),
        ]
    }
}

impl Listed for NextHopRow {
    const KIND: &'static str = "NextHop";

    fn key(&self) -> String {
        self.number.to_string()
    }

    fn says_as(&self, other: &Self) -> bool {
        self == other
    }
}

/// The next hops that are in use.
pub fn next_hops(pins: &Pins) -> Result<Vec<NextHopRow>> {
    let mut routes = BTreeMap::<u64, usize>::new();
    for (_, number) in RouteMap::read_routes(pins)?.entries()? {
        *routes.entry(number.into()).or_default() += 1;
    }
    let live = dataplane::live_next_hops(pins)?.into_iter();
    let row = |(number, next_hop)| {
        let routes = routes.get(&number).copied().unwrap_or_default();
        NextHopRow::new(number, &next_hop, routes)
    };
    Ok(live.map(row).collect())
}

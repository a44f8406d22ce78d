//! The IPv4 routing tables.

use std::net::Ipv4Addr;

use anyhow::{Context, Result};
use ipnet::Ipv4Net;
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{
        RouteAddress, RouteAttribute, RouteFlags, RouteMessage, RouteMetric, RouteProtocol,
        RouteScope, RouteType,
    },
};

use super::{Netlink, request::RequestError};

/// The routing table that `ip route` shows (`RT_TABLE_MAIN`).
pub const TABLE_MAIN: u32 = 254;

/// An IPv4 route.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The prefix it is for.
    pub destination: Ipv4Net,
    /// The next hop's address; without one, the destination is on the link.
    pub gateway: Option<Ipv4Addr>,
    /// Index of the interface it leaves by; none for a [`RouteType::BlackHole`] and its kin.
    pub oif: Option<u32>,
    /// Source address for packets of this host that have none yet (`RTA_PREFSRC`).
    pub source: Option<Ipv4Addr>,
    /// Path MTU in bytes, where the route sets it (`mtu` of `RTA_METRICS`).
    pub mtu: Option<u32>,
    /// How far away the destination is.
    pub scope: RouteScope,
    /// What becomes of a packet that takes it.
    pub kind: RouteType,
    /// Who made it (`RTPROT_*`).
    pub protocol: u8,
    /// The table it is in.
    pub table: u32,
    /// Of several routes for a prefix in a table, the one with the smallest metric is taken; none
    /// counts as zero (`RTA_PRIORITY`).
    pub metric: Option<u32>,
    /// The gateway is taken to be on the link, whatever the interface's addresses say.
    pub onlink: bool,
    /// It does what the other fields cannot tell: has several next hops or an IPv6 gateway,
    /// encapsulates (`ip route ... encap`), or holds for one TOS only. Leave its whole prefix to
    /// the stack.
    pub opaque: bool,
}

impl Route {
    /// Whether the route is in the table that `ip route` shows.
    #[must_use]
    pub fn is_in_main(&self) -> bool {
        self.table == TABLE_MAIN
    }

    /// The metric that decides between routes for one prefix, smallest first.
    #[must_use]
    pub fn effective_metric(&self) -> u32 {
        self.metric.unwrap_or(0)
    }
}

impl Netlink {
    /// The IPv4 routes of all tables.
    pub async fn routes(&self) -> Result<Vec<Route>> {
        self.routes_by(RouteProtocol::Unspec)
            .await
            .context("cannot list the IPv4 routes")
    }

    /// The IPv4 routes of all tables that `protocol` made; those of everybody if `Unspec`.
    pub(super) async fn routes_by(
        &self,
        protocol: RouteProtocol,
    ) -> Result<Vec<Route>, RequestError> {
        let mut request = RouteMessage::default();
        request.header.address_family = AddressFamily::Inet;
        request.header.protocol = protocol;

        let messages = self.list(RouteNetlinkMessage::GetRoute(request)).await?;
        let routes = messages.iter().filter_map(|message| match message {
            RouteNetlinkMessage::NewRoute(message) => route(message),
            _ => None,
        });
        Ok(routes.collect())
    }
}

/// Reads a route; `None` if the kernel's prefix is none.
pub(super) fn route(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let mut destination = Ipv4Addr::UNSPECIFIED;
    let mut route = Route {
        destination: Ipv4Net::default(),
        gateway: None,
        oif: None,
        source: None,
        mtu: None,
        scope: header.scope,
        kind: header.kind,
        protocol: header.protocol.into(),
        table: header.table.into(),
        metric: None,
        onlink: header.flags.contains(RouteFlags::Onlink),
        opaque: header.tos != 0,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(RouteAddress::Inet(address)) => destination = *address,
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => route.gateway = Some(*address),
            RouteAttribute::Oif(index) => route.oif = Some(*index),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => {
                route.source = Some(*address);
            }
            RouteAttribute::Metrics(metrics) => route.mtu = mtu(metrics),
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = Some(*metric),
            RouteAttribute::MultiPath(_) | RouteAttribute::Via(_) | RouteAttribute::Encap(_) => {
                route.opaque = true;
            }
            _ => {}
        }
    }
    route.destination = Ipv4Net::new(destination, header.destination_prefix_length).ok()?;
    Some(route)
}

/// The `mtu` among the metrics of a route.
pub(super) fn mtu(metrics: &[RouteMetric]) -> Option<u32> {
    metrics.iter().find_map(|metric| match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    })
}
